//! The section `[alert]`: what holds for all rules that do not say otherwise.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Optional};

/// The section `[alert]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the section [alert]")]
pub struct Alert {
    /// Names of channels that are told; without it, every configured channel.
    pub channels: Option<Vec<String>>,
    /// Whether the built-in rules hold; without it, only where there is no `[[rule]]`.
    pub builtin: Option<bool>,
    /// What opens, or is over, this soon after a message of the same kind waits and shares the next one.
    #[serde(with = "Optional::<DurationText>")]
    pub group: Option<Duration>,
    /// The time between reminders; `0s` for none.
    #[serde(with = "Optional::<DurationText>")]
    pub remind: Option<Duration>,
    /// How long a condition must have gone before the incident is closed.
    #[serde(with = "Optional::<DurationText>")]
    pub clear_for: Option<Duration>,
    /// How often an incident may come back before further changes are not told.
    pub flap_budget: Option<u32>,
    /// How long after the first message further channels are told, unless somebody acknowledged.
    #[serde(with = "Optional::<DurationText>")]
    pub escalate_after: Option<Duration>,
    /// Those channels.
    pub escalate_to: Vec<String>,
}
