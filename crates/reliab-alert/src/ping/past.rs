//! What became of the last ping, as the state has it.

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult};
use reliab_common::state::{State, StateError};
use serde::Serialize;
use serde_json::json;

const SOURCE: &str = "alert";
const TARGET: &str = "ping";
/// The key of the detail that outlasts pings that were not sent.
const LAST_SENT: &str = "last_sent";

/// What the last run that tried came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    /// When that was.
    pub at: DateTime<Utc>,
    /// Whether it sent a ping.
    pub sent: bool,
    /// The same in one line, with the reasons.
    pub summary: String,
    /// When a ping was last sent.
    pub last_sent: Option<DateTime<Utc>>,
}

impl Past {
    /// Reads it; `None` where no run ever tried.
    pub fn read(state: &State) -> Result<Option<Self>, StateError> {
        let all = fact::latest_checks(state, SOURCE)?;
        Ok(all.into_iter().map(|stored| stored.check).find(|check| check.target == TARGET).map(Self::of))
    }

    fn of(check: CheckResult) -> Self {
        let last_sent = check.detail[LAST_SENT].as_str().and_then(|time| time.parse().ok());
        Self { at: check.at, sent: check.level == Level::Ok, summary: check.summary, last_sent }
    }

    /// As a fact for the state.
    pub(super) fn fact(&self) -> CheckResult {
        CheckResult {
            source: SOURCE.into(),
            target: TARGET.into(),
            at: self.at,
            level: if self.sent { Level::Ok } else { Level::Warning },
            summary: self.summary.clone(),
            detail: json!({ LAST_SENT: self.last_sent }),
        }
    }
}
