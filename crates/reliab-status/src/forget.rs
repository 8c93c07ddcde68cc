//! `status --forget`: a job that nobody waits for any more, because it was only tried or its repository is gone.

use chrono::{DateTime, Utc};
use reliab_common::config::Schedule;
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult};
use reliab_common::failure::UsageError;
use reliab_common::state::{State, StateError, nanos};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use crate::overview::{JobView, Overview};

/// The beginning of the names under which the state keeps until when the runs of a job are forgotten.
pub(crate) const FORGOTTEN: &str = "forgotten-";

/// The job of this name, as it is shown, if it may be forgotten.
pub(crate) fn find<'a>(
    overview: &'a Overview,
    state: &State,
    schedule: &Schedule,
    name: &str,
) -> anyhow::Result<&'a JobView> {
    let Some(job) = overview.jobs.iter().find(|job| job.name() == name) else {
        let text = format!(
            "cannot forget {name:?}: no such job is shown; give the tool and the job that `reliab status --json` has, as one \
             word: 'backup /path'"
        );
        return Err(UsageError(text).into());
    };
    if job.running {
        return Err(UsageError(format!("cannot forget {name}: it is running")).into());
    }
    if let Some(by) = scheduled_by(state, job)?.filter(|by| schedule.contains_key(by)) {
        let text = format!(
            "cannot forget {name}: [schedule.{by}] runs it; put right what fails, and its next good run makes it well"
        );
        return Err(UsageError(text).into());
    }
    Ok(job)
}

/// The job of `[schedule]` that started it last, if one ever has.
fn scheduled_by(state: &State, job: &JobView) -> Result<Option<String>, StateError> {
    let sql = "SELECT schedule FROM run WHERE tool = ?1 AND job = ?2 AND schedule IS NOT NULL
        ORDER BY started DESC LIMIT 1";
    state.with(|db| db.query_row(sql, params![job.tool, job.job], |row| row.get(0)).optional())
}

/// Forgets all runs of a job up to now. They stay recorded: what they say of a repository is still needed.
pub(crate) fn forget(state: &State, job: &JobView, now: DateTime<Utc>) -> Result<(), StateError> {
    let sql = "INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    state.write(|db| {
        db.execute(sql, params![format!("{FORGOTTEN}{}", job.name()), nanos(now).to_string()])?;
        // For alerts, which then close what is open about it.
        fact::store(
            db,
            last_run(db, job)?,
            &CheckResult {
                source: job.tool.clone(),
                target: job.job.clone(),
                at: now,
                level: Level::Ok,
                summary: "forgotten".to_owned(),
                detail: json!({}),
            },
        )
    })
}

fn last_run(db: &Connection, job: &JobView) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(id) FROM run WHERE tool = ?1 AND job = ?2";
    db.query_row(sql, params![job.tool, job.job], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::due::Due;
    use chrono::TimeDelta;
    use reliab_common::clock::{Clock as _, FixedClock};
    use reliab_common::exit::Exit;
    use reliab_common::fact::Facts;
    use reliab_common::record::{Recorder, RunRecord};
    use std::time::Duration;

    struct Bench {
        _dir: tempfile::TempDir,
        recorder: Recorder,
        clock: FixedClock,
        schedule: Schedule,
    }

    impl Bench {
        fn new(schedule: &serde_json::Value) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (recorder, _) = Recorder::open(dir.path());
            let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
            Self { _dir: dir, recorder, clock, schedule: serde_json::from_value(schedule.clone()).unwrap() }
        }

        fn state(&self) -> &State {
            self.recorder.state().unwrap()
        }

        fn run(&self, job: &str, schedule: Option<&str>, end: Exit) {
            self.clock.advance(TimeDelta::minutes(1));
            RunRecord::start(&self.recorder, "backup", job, schedule, &self.clock)
                .finish(end, &json!({}), &Facts::default())
                .unwrap();
        }

        fn overview(&self) -> Overview {
            let up = Duration::from_secs(90 * 86_400);
            let due = Due { schedule: &self.schedule, now: self.clock.now(), up, own: None };
            Overview::read(self.state(), &due).unwrap()
        }

        fn forget(&self, name: &str) -> anyhow::Result<()> {
            let overview = self.overview();
            let job = find(&overview, self.state(), &self.schedule, name)?;
            Ok(forget(self.state(), job, self.clock.now())?)
        }
    }

    #[test]
    fn a_job_that_was_only_tried_is_forgotten_until_it_runs_again() {
        let bench = Bench::new(&json!({}));
        bench.run("/mnt/try", None, Exit::Failed);
        bench.run("/srv/backups", None, Exit::Done);
        assert_eq!(bench.overview().level, Level::Critical);
        let refused = bench.forget("backup").unwrap_err().to_string();
        assert!(refused.ends_with("as one word: 'backup /path'"), "{refused}");
        assert!(bench.forget("backup /mnt").is_err());
        bench.forget("backup /mnt/try").unwrap();
        let seen = bench.overview();
        assert_eq!((seen.level, seen.jobs.len()), (Level::Ok, 1));
        assert_eq!(seen.checks.len(), 0);
        bench.run("/mnt/try", None, Exit::Failed);
        assert_eq!(bench.overview().level, Level::Critical);
    }

    #[test]
    fn a_job_that_a_timer_runs_is_not_forgotten_as_long_as_it_is_scheduled() {
        let mut bench = Bench::new(&json!({ "nightly": { "at": "02:30", "command": ["backup"] } }));
        bench.run("/srv/backups", Some("nightly"), Exit::Failed);
        bench.run("/srv/backups", None, Exit::Failed);
        let refused = bench.forget("backup /srv/backups").unwrap_err().to_string();
        assert!(refused.contains("[schedule.nightly] runs it"), "{refused}");
        assert_eq!(bench.overview().level, Level::Critical);
        bench.schedule = Schedule::new();
        bench.forget("backup /srv/backups").unwrap();
        assert_eq!(bench.overview().level, Level::Ok);
    }

    #[test]
    fn a_job_that_is_running_is_not_forgotten() {
        let bench = Bench::new(&json!({}));
        let _running = RunRecord::start(&bench.recorder, "backup", "/mnt/try", None, &bench.clock);
        assert!(bench.forget("backup /mnt/try").unwrap_err().to_string().ends_with("it is running"));
    }
}
