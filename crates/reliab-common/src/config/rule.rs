//! The section `[[rule]]`: when somebody is told, and how.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Optional};
use crate::exit::Level;

/// A rule as it stands in the file; its text is read by `reliab alert`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rule with `when`")]
pub struct Rule {
    /// What it is called in messages; without it, the text of `when`.
    pub name: Option<String>,
    /// The condition, such as `probe api is critical for 2 runs`.
    pub when: String,
    /// Names of channels that are told; without it, those of `[alert]`.
    pub channels: Option<Vec<String>>,
    /// The level of its incidents; without it, what the check found, and critical for conditions without a level.
    pub level: Option<Level>,
    /// Subjects whose open incidents explain one of this rule, such as `probe gateway`.
    #[serde(default)]
    pub because: Vec<String>,
    /// How long the condition must have gone before the incident is closed.
    #[serde(default, with = "Optional::<DurationText>")]
    pub clear_for: Option<Duration>,
    /// The time between reminders; `0s` for none.
    #[serde(default, with = "Optional::<DurationText>")]
    pub remind: Option<Duration>,
    /// How long after the first message further channels are told, unless somebody acknowledged.
    #[serde(default, with = "Optional::<DurationText>")]
    pub escalate_after: Option<Duration>,
    /// Those channels.
    pub escalate_to: Option<Vec<String>>,
    /// The least number of events in the time of `errors()`, `p50()`, `p95()` and `p99()`; fewer say nothing.
    pub min_events: Option<u32>,
}
