//! What every recorded run does besides its own work: look after overdue jobs, keep the state file small.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Schedule;
use crate::fact;
use crate::rhythm;
use crate::state::{State, StateError, nanos, time};

const COMPACTED: &str = "compacted";

/// Looks after the jobs of `schedule`, and once a day sums up old facts.
pub fn keep(
    state: &State,
    schedule: &Schedule,
    config: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<(), StateError> {
    rhythm::look(state, schedule, config, now, up_for())?;
    let last = state.cursor(COMPACTED)?.and_then(|text| text.parse().ok()).map(time);
    let recently = |last: DateTime<Utc>| (now - last).abs() < TimeDelta::days(1);
    if !last.is_some_and(recently) {
        fact::compact(state, now)?;
        state.set_cursor(COMPACTED, &nanos(now).to_string())?;
    }
    Ok(())
}

/// How long the machine has been up.
pub fn up_for() -> Duration {
    Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Facts, Sample, samples};

    #[test]
    fn old_samples_are_summed_up_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let old = now - TimeDelta::days(30);
        let add = |at| {
            let (source, target, figure) = ("disk".into(), "/".into(), "used".into());
            let sample = Sample { source, target, figure, unit: "1", at, value: 0.5 };
            let facts = Facts { checks: vec![], samples: vec![sample] };
            state.write(|db| fact::store_all(db, None, &facts)).unwrap();
        };
        let left = || samples(&state, "disk", "/", "used", old, now).unwrap().len();
        let keep = |at| keep(&state, &Schedule::new(), None, at).unwrap();
        add(old);
        keep(now);
        assert_eq!(left(), 0);
        add(old + TimeDelta::hours(2));
        keep(now + TimeDelta::hours(23));
        assert_eq!(left(), 1);
        keep(now + TimeDelta::hours(25));
        assert_eq!(left(), 0);
    }
}
