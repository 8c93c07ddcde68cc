//! The section `[[slo]]`: what part of requests must go well.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Optional};

/// A service level objective.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an objective with `name` and `objective`")]
pub struct Slo {
    /// The name, as in `burn(NAME)`.
    pub name: String,
    /// The service, or else the probe, that is measured; without it, the one with the objective's name.
    pub service: Option<String>,
    /// The part of requests that must go well, in percent, such as 99.9.
    #[serde(deserialize_with = "objective")]
    #[schemars(range(min = 50, max = 99.9999))]
    pub objective: f64,
    /// The time over which it must be met, 30 days without it.
    #[serde(default, with = "Optional::<DurationText>")]
    pub window: Option<Duration>,
}

/// Percent between 50 and 99.9999: without any error allowed there is no budget to burn.
fn objective<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let percent = f64::deserialize(deserializer)?;
    if (50.0..=99.9999).contains(&percent) {
        Ok(percent)
    } else {
        Err(D::Error::custom(format!(
            "`{percent}` is not an objective: write percent between 50 and 99.9999"
        )))
    }
}
