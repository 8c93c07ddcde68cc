//! What every recorded run does besides its own work: look after overdue jobs, keep the state file small.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Schedule;
use crate::fact;
use crate::rhythm;
use crate::state::{State, StateError, nanos, time};

const COMPACTED: &str = "compacted";
/// When a clock was seen that had gone ahead.
const AHEAD: &str = "compact-ahead";

/// A clock that went further ahead than this since old facts were summed up last is not believed at once.
const JUMP: TimeDelta = TimeDelta::days(2);
/// It is when that is seen again so much later, and not in another year.
const AGAIN: (TimeDelta, TimeDelta) = (TimeDelta::days(1), TimeDelta::days(60));

/// Looks after the jobs of `schedule`, and once a day sums up old facts.
pub fn keep(
    state: &State,
    schedule: &Schedule,
    config: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<(), StateError> {
    rhythm::look(state, schedule, config, now, up_for())?;
    let last = at(state, COMPACTED)?;
    let recently = |last: DateTime<Utc>| (now - last).abs() < TimeDelta::days(1);
    if !last.is_some_and(recently) && is_credible(state, last, now)? {
        fact::compact(state, now)?;
        state.set_cursor(COMPACTED, &nanos(now).to_string())?;
    }
    Ok(())
}

/// Whether the clock may be believed: one that is wrong for a moment would delete everything.
fn is_credible(state: &State, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<bool, StateError> {
    if last.is_some_and(|last| now - last <= JUMP) {
        return Ok(true);
    }
    let ahead = at(state, AHEAD)?.map(|ahead| now - ahead);
    let again = ahead.is_some_and(|since| since >= AGAIN.0 && since <= AGAIN.1);
    if ahead.is_none_or(|since| since < TimeDelta::zero() || since > AGAIN.1) {
        state.set_cursor(AHEAD, &nanos(now).to_string())?;
    }
    Ok(again)
}

fn at(state: &State, cursor: &str) -> Result<Option<DateTime<Utc>>, StateError> {
    Ok(state.cursor(cursor)?.and_then(|text| text.parse().ok()).map(time))
}

/// How long the machine has been up.
pub fn up_for() -> Duration {
    Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Facts, Sample, samples};

    /// A state with values of given ages before the moment, and how many are left.
    struct Old {
        _dir: tempfile::TempDir,
        state: State,
        now: DateTime<Utc>,
    }

    impl Old {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = State::open(dir.path()).unwrap();
            let now = "2026-11-22T12:00:00Z".parse().unwrap();
            state.set_cursor(COMPACTED, &nanos(now - TimeDelta::days(1)).to_string()).unwrap();
            Self { _dir: dir, state, now }
        }

        fn add(&self, age: TimeDelta) {
            let (source, target, figure) = ("disk".into(), "/".into(), "used".into());
            let sample = Sample { source, target, figure, unit: "1", at: self.now - age, value: 0.5 };
            let facts = Facts { checks: vec![], samples: vec![sample] };
            self.state.write(|db| fact::store_all(db, None, &facts)).unwrap();
        }

        fn keep(&self, later: TimeDelta) -> usize {
            keep(&self.state, &Schedule::new(), None, self.now + later).unwrap();
            samples(&self.state, "disk", "/", "used", self.now - TimeDelta::days(90), self.now).unwrap().len()
        }
    }

    #[test]
    fn old_samples_are_summed_up_once_a_day() {
        let old = Old::new();
        old.add(TimeDelta::days(30));
        assert_eq!(old.keep(TimeDelta::zero()), 0);
        old.add(TimeDelta::days(29));
        assert_eq!(old.keep(TimeDelta::hours(23)), 1);
        assert_eq!(old.keep(TimeDelta::hours(25)), 0);
    }

    #[test]
    fn a_clock_that_is_ahead_once_deletes_nothing() {
        let old = Old::new();
        old.add(TimeDelta::days(1));
        let years = TimeDelta::days(3650);
        assert_eq!(old.keep(years), 1);
        assert_eq!(old.keep(years + TimeDelta::hours(1)), 1);
        assert_eq!(old.keep(TimeDelta::zero()), 1);
        assert_eq!(old.keep(TimeDelta::hours(25)), 1);
        assert_eq!(old.keep(years * 2), 1);
        // What is so on another day, too, is.
        assert_eq!(old.keep(years * 2 + TimeDelta::hours(25)), 0);
    }

    #[test]
    fn a_machine_that_was_off_for_weeks_sums_up_a_day_later() {
        let old = Old::new();
        old.add(TimeDelta::days(30));
        assert_eq!(old.keep(TimeDelta::days(20)), 1);
        assert_eq!(old.keep(TimeDelta::days(21)), 0);
    }
}
