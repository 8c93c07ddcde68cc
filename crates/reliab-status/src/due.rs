//! What is due by `[schedule]`: jobs that are late, and checks that nobody repeated in time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reliab_common::config::{Schedule, ScheduledJob};
use reliab_common::exit::Level;
use reliab_common::rhythm;
use reliab_common::state::{State, StateError};
use reliab_common::units::rough;

use crate::overview::CheckView;

/// Sources whose tool has another name.
const TOOL_OF: &[(&str, &str)] = &[("service", "probe")];

/// What should have happened by now.
pub(crate) struct Due<'a> {
    /// What is scheduled.
    pub schedule: &'a Schedule,
    /// The time.
    pub now: DateTime<Utc>,
    /// For how long the machine has been up: timers need time to catch up after a start.
    pub up: Duration,
    /// The scheduled job that this very run is, which therefore is not late.
    pub own: Option<&'a str>,
}

impl Due<'_> {
    /// Each scheduled job with whether it is late; what was stored of that is as old as the last run of any tool.
    pub fn jobs(&self, state: &State) -> Result<Vec<CheckView>, StateError> {
        let own = |name: &String| self.own == Some(name.as_str());
        let jobs: Vec<_> = self.schedule.iter().filter(|(name, _)| !own(name)).collect();
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        // Written, not only read: the first look notes since when a job is scheduled.
        state.write(|db| {
            jobs.into_iter()
                .map(|(name, job)| {
                    let seen = rhythm::seen(db, self.schedule, name, self.now)?;
                    let verdict = rhythm::judge(job, &seen, self.now, self.up);
                    let (source, target) = (rhythm::SOURCE.to_owned(), name.clone());
                    let (level, summary) = (verdict.level, verdict.summary);
                    Ok(CheckView { source, target, level, at: self.now, summary, stale: false })
                })
                .collect()
        })
    }

    /// After how long a result of this source is stale; `None` where nothing repeats it.
    pub fn stale_after(&self, source: &str) -> Option<Duration> {
        self.slowest(source).map(ScheduledJob::late_after)
    }

    /// Marks a result that should have been repeated by now: what it says may no longer hold.
    pub fn mark(&self, check: &mut CheckView) {
        let Some(job) = self.slowest(&check.source) else { return };
        let age = (self.now - check.at).to_std().unwrap_or_default();
        if age <= job.late_after() || self.up <= job.grace() {
            return;
        }
        check.stale = true;
        check.level = check.level.worst(Level::Warning);
        let (age, period) = (rough(age), rough(job.period()));
        check.summary = format!("stale, {age} old, expected every {period}; was: {}", check.summary);
    }

    /// Of the jobs whose tool stores results of this source the one with the most time.
    fn slowest(&self, source: &str) -> Option<&ScheduledJob> {
        let tool = TOOL_OF.iter().find(|(of, _)| *of == source).map_or(source, |(_, tool)| tool);
        let jobs = self.schedule.iter().filter(|(name, job)| job.tool(name) == tool);
        jobs.map(|(_, job)| job).max_by_key(|job| job.late_after())
    }
}
