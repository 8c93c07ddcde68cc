//! The section `[schedule]`: which jobs timers start, and when one is late.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::values::optional_duration;

/// The section `[schedule]`: jobs by name, as in `[schedule.backup]`.
pub type Schedule = BTreeMap<String, ScheduledJob>;

/// A job that a timer starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a job such as [schedule.backup]")]
pub struct ScheduledJob {
    /// The command line after `reliab`; its first word is the tool. Without it, the job's name.
    pub command: Vec<String>,
    /// The time between two starts.
    #[serde(deserialize_with = "optional_duration")]
    pub every: Option<Duration>,
    /// The time of day of a daily start, such as `"02:30"`, in the machine's time zone.
    pub at: Option<String>,
    /// How long after its last run the job is late; without it, found from the rhythm.
    #[serde(deserialize_with = "optional_duration")]
    pub late_after: Option<Duration>,
}
