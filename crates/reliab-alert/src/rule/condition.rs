//! What a rule's text says.

use std::time::Duration;

use chrono::TimeDelta;
use reliab_common::exit::Level;

use crate::pattern::Pattern;

/// Sources of check results that are not jobs: their results say how something is, not how a run went.
pub const CHECKS: &[&str] = &["probe", "disk", "service", "schedule", "heartbeat"];
/// Sources that are jobs: their results say how a run went.
pub const JOBS: &[&str] =
    &["backup", "restore", "verify", "forget", "prune", "repair", "drill", "export", "logs", "load"];
/// The source that stands for every job.
pub const JOB: &str = "job";
/// The messages that are still owed.
pub const OUTBOX: &str = "outbox";

/// A condition, as read from a rule's text.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `probe api is critical for 2 runs`
    State {
        /// A source, or [`JOB`] or `*`.
        source: String,
        /// Which of its targets; for [`JOB`], which jobs.
        target: Pattern,
        /// What a result must be.
        is: Wanted,
        /// When it counts.
        confirm: Confirm,
    },
    /// `backup older than 26h`
    Older {
        /// A source, or [`OUTBOX`].
        source: String,
        /// Which of its targets, each by itself; without it, the newest of all counts.
        target: Option<Pattern>,
        /// The greatest age.
        limit: TimeDelta,
    },
    /// `heartbeat nightly missing 30m`
    Missing {
        /// Which names.
        name: Pattern,
        /// The longest silence.
        limit: TimeDelta,
    },
    /// `errors(checkout) > 5% for 5m`
    Figure(Figure),
    /// `burn(checkout)`
    Burn {
        /// Which objectives.
        slo: Pattern,
    },
    /// Something is wrong with the configuration; no text says so.
    Configuration,
}

/// A measured figure beside a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What is measured.
    pub what: Measure,
    /// Of which services and probes.
    pub of: Pattern,
    /// The side of the limit that is bad.
    pub side: Side,
    /// The limit: a fraction of requests, or seconds.
    pub limit: f64,
    /// The time over which it is measured.
    pub over: TimeDelta,
    /// The limit that must be passed back before it is good again; without it, the same.
    pub until: Option<f64>,
}

/// A figure of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The part of requests that failed.
    Errors,
    /// A quantile of latency, in percent: 50, 95 or 99.
    Quantile(u8),
}

/// The side of a limit that is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Above it.
    Above,
    /// Below it.
    Below,
}

impl Side {
    /// Whether `value` is on this side of `limit`.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::Below => value < limit,
        }
    }
}

/// What a check result must be to fit a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This level and nothing else.
    Only(Level),
    /// Warning or critical.
    Bad,
    /// Anything but OK.
    NotOk,
}

impl Wanted {
    /// Whether a result of this level fits.
    pub fn fits(self, level: Level) -> bool {
        match self {
            Self::Only(wanted) => level == wanted,
            Self::Bad => matches!(level, Level::Warning | Level::Critical),
            Self::NotOk => level != Level::Ok,
        }
    }
}

/// When a state counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// After so many results in a row.
    Runs(u32),
    /// After this time.
    For(TimeDelta),
}

/// A duration as a difference of times; parsed durations are at most a century.
pub(crate) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(36_600))
}
