//! The section `[[maintenance]]`: times at which nobody is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A window of maintenance: once (`from`, `until`) or each week (`days`, `start`, `end`), by the clock on the wall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a window of maintenance")]
pub struct Maintenance {
    /// What it is called where a message was held back for it.
    pub name: Option<String>,
    /// A pattern on subjects and names of rules; without it, everything.
    pub matching: Option<String>,
    /// The time zone, such as `Europe/Berlin`; without it, the machine's.
    pub zone: Option<String>,
    /// The beginning of a window that comes once, such as `2026-11-22 02:00`.
    pub from: Option<String>,
    /// Its end.
    pub until: Option<String>,
    /// Days on which a window begins, such as `sun`; without it, every day.
    pub days: Vec<String>,
    /// The time of day at which it begins, such as `02:00`.
    pub start: Option<String>,
    /// The time of day at which it ends; on the next day if that is not after `start`.
    pub end: Option<String>,
}
