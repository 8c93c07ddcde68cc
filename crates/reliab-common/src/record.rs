//! The record of each run of a tool: start, end, outcome, figures.

use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::clock::Clock;
use crate::exit::{Ending, Exit, Level};
use crate::fact::{self, CheckResult, Facts};
use crate::rhythm::is_good;
use crate::state::{State, StateError, nanos, time};

/// Where runs are recorded; without a state file, nowhere.
#[derive(Debug)]
pub struct Recorder(Option<State>);

impl Recorder {
    /// A recorder on the state file in `dir`, and why it records nothing if that cannot be opened.
    pub fn open(dir: &Path) -> (Self, Option<StateError>) {
        match State::open(dir) {
            Ok(state) => (Self(Some(state)), None),
            Err(error) => (Self::off(), Some(error)),
        }
    }

    /// A recorder that records nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// The state file, if it could be opened.
    pub fn state(&self) -> Option<&State> {
        self.0.as_ref()
    }
}

/// A run in progress, which stays without an outcome in the state if it is never finished.
#[must_use = "a run that is not finished looks killed"]
pub struct RunRecord<'a> {
    state: Option<&'a State>,
    clock: &'a dyn Clock,
    /// Missing if the start could not be written; the end then writes both.
    id: Option<i64>,
    tool: String,
    job: String,
    schedule: Option<String>,
    started: DateTime<Utc>,
}

impl<'a> RunRecord<'a> {
    /// Records that a run begins, started by the job `schedule` of `[schedule]` or by a person; trouble with the
    /// state waits for [`RunRecord::finish`].
    pub fn start(
        recorder: &'a Recorder,
        tool: &str,
        job: &str,
        schedule: Option<&str>,
        clock: &'a dyn Clock,
    ) -> Self {
        let (tool, job, schedule) = (tool.to_owned(), job.to_owned(), schedule.map(str::to_owned));
        let (state, started) = (recorder.state(), clock.now());
        let mut run = Self { state, clock, id: None, tool, job, schedule, started };
        run.id = run.state.and_then(|state| state.with(|db| run.insert(db)).ok());
        run
    }

    /// Records how the run ended, its figures and the facts it found, in one transaction.
    pub fn finish(self, end: impl Ending, figures: &Value, facts: &Facts) -> Result<(), StateError> {
        self.end((end.name(), end.code(), end.level()), figures, facts)
    }

    /// Records that the run could not do its work, and why; but not that a person mistyped the name of a job.
    pub fn fail<E: Ending>(self, exit: Exit, error: &str) -> Result<(), StateError> {
        let may_be_mistyped = self.schedule.is_none() && exit == Exit::Usage && is_job::<E>(exit);
        if may_be_mistyped && self.take_back()? {
            return Ok(());
        }
        let level = if is_job::<E>(exit) { exit.level() } else { Exit::Failed.level() };
        let end = (failed_name::<E>(exit), E::failed(exit).code(), level);
        self.end(end, &serde_json::json!({ "error": error }), &Facts::default())
    }

    /// Removes the start of this run if its job never did its work: then it is none that anybody waits for. False if it did.
    fn take_back(&self) -> Result<bool, StateError> {
        let Some(state) = self.state else { return Ok(false) };
        state.write(|db| {
            let sql = "SELECT DISTINCT outcome FROM run WHERE tool = ?1 AND job = ?2 AND outcome IS NOT NULL";
            let mut known = db.prepare_cached(sql)?;
            let outcomes = known.query_map([&self.tool, &self.job], |row| row.get::<_, String>(0))?;
            let outcomes = outcomes.collect::<rusqlite::Result<Vec<_>>>()?;
            if outcomes.iter().any(|outcome| is_good(outcome)) {
                return Ok(false);
            }
            db.execute("DELETE FROM run WHERE id = ?1", [self.id])?;
            Ok(true)
        })
    }

    fn end(
        self,
        (name, code, level): (&str, u8, Level),
        figures: &Value,
        facts: &Facts,
    ) -> Result<(), StateError> {
        let Some(state) = self.state else { return Ok(()) };
        let ended = self.clock.now();
        state.write(|db| {
            let id = self.id.map_or_else(|| self.insert(db), Ok)?;
            db.execute(
                "UPDATE run SET ended = ?2, outcome = ?3, exit = ?4, figures = ?5 WHERE id = ?1",
                params![id, nanos(ended), name, code, figures.to_string()],
            )?;
            fact::store(db, Some(id), &self.result(level, name, figures, ended))?;
            fact::store_all(db, Some(id), facts)
        })
    }

    /// How the run itself ended, as the check of a job.
    fn result(&self, level: Level, outcome: &str, figures: &Value, at: DateTime<Utc>) -> CheckResult {
        let error = figures.get("error").and_then(Value::as_str);
        let summary = error.map_or_else(|| outcome.to_owned(), |error| format!("{outcome}: {error}"));
        let took = (at - self.started).to_std().unwrap_or_default().as_secs_f64();
        let detail = serde_json::json!({ "seconds": took });
        CheckResult { source: self.tool.clone(), target: self.job.clone(), at, level, summary, detail }
    }

    fn insert(&self, db: &Connection) -> rusqlite::Result<i64> {
        let host = rustix::system::uname();
        db.execute(
            "INSERT INTO run (tool, job, started, pid, host, schedule) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                self.tool,
                self.job,
                nanos(self.started),
                std::process::id(),
                host.nodename().to_string_lossy(),
                self.schedule
            ],
        )?;
        Ok(db.last_insert_rowid())
    }
}

/// The outcome of a run whose work failed so.
///
/// A check that found nothing out ends as UNKNOWN, which is also a verdict: in the record the two must differ.
pub fn failed_name<E: Ending>(exit: Exit) -> &'static str {
    if is_job::<E>(exit) { exit.name() } else { Exit::Failed.name() }
}

fn is_job<E: Ending>(exit: Exit) -> bool {
    E::failed(exit).name() == exit.name()
}

/// A run as the state has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The tool that ran, such as `backup`.
    pub tool: String,
    /// Which of the tool's jobs it was.
    pub job: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// How it ended; `None` while it runs, and for ever if it was killed.
    pub end: Option<RunEnd>,
    /// The process.
    pub pid: u32,
    /// The machine.
    pub host: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEnd {
    /// When.
    pub at: DateTime<Utc>,
    /// The name of the exit, as [`Ending::name`] and [`failed_name`] have it.
    pub outcome: String,
    /// The exit code.
    pub exit: u8,
    /// What the tool measured.
    pub figures: Value,
}

/// The last `count` runs of a tool, the latest first.
pub fn recent(state: &State, tool: &str, count: u32) -> Result<Vec<Run>, StateError> {
    state.with(|db| {
        let sql = "SELECT tool, job, started, pid, host, ended, outcome, exit, figures FROM run
                   WHERE tool = ?1 ORDER BY started DESC, id DESC LIMIT ?2";
        db.prepare(sql)?.query_map(params![tool, count], run)?.collect()
    })
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        tool: row.get(0)?,
        job: row.get(1)?,
        started: time(row.get(2)?),
        pid: row.get(3)?,
        host: row.get(4)?,
        end: row.get::<_, Option<i64>>(5)?.map(|at| run_end(row, at)).transpose()?,
    })
}

fn run_end(row: &Row<'_>, at: i64) -> rusqlite::Result<RunEnd> {
    let figures: String = row.get(8)?;
    let figures = serde_json::from_str(&figures).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(8, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(RunEnd { at: time(at), outcome: row.get(6)?, exit: row.get(7)?, figures })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::exit::Exit;
    use crate::testing::Child;
    use chrono::TimeDelta;
    use serde_json::json;

    const FOLDER: &str = "RELIAB_TEST_STATE_DIR";

    fn clock() -> FixedClock {
        FixedClock::new("2026-11-22T12:00:00.123456789Z".parse().unwrap())
    }

    fn recorder(dir: &Path) -> Recorder {
        let (recorder, error) = Recorder::open(dir);
        assert!(error.is_none(), "{error:?}");
        recorder
    }

    #[test]
    fn a_finished_run_is_read_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        let run = RunRecord::start(&recorder, "backup", "nightly", None, &clock);
        clock.advance(TimeDelta::seconds(90));
        run.finish(Exit::Partial, &json!({"bytes": 7}), &Facts::default()).unwrap();
        let end =
            RunEnd { at: clock.now(), outcome: "partial".into(), exit: 3, figures: json!({"bytes": 7}) };
        let expected = Run {
            tool: "backup".into(),
            job: "nightly".into(),
            started: clock.now() - TimeDelta::seconds(90),
            end: Some(end),
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_str().unwrap().into(),
        };
        assert_eq!(recent(recorder.state().unwrap(), "backup", 10).unwrap(), [expected]);
    }

    #[test]
    fn a_check_that_failed_is_told_from_one_that_found_something_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        let start = |tool| RunRecord::start(&recorder, tool, "job", None, &clock);
        start("probe").fail::<Level>(Exit::Usage, "no probe").unwrap();
        start("disk").finish(Level::Unknown, &Value::Null, &Facts::default()).unwrap();
        start("backup").fail::<Exit>(Exit::Locked, "held").unwrap();
        let end = |tool| recent(recorder.state().unwrap(), tool, 1).unwrap().remove(0).end.unwrap();
        let said = |end: &RunEnd| (end.outcome.clone(), end.exit);
        assert_eq!(said(&end("probe")), ("failed".into(), 3));
        assert_eq!(end("probe").figures, json!({ "error": "no probe" }));
        assert_eq!(said(&end("disk")), ("unknown".into(), 3));
        assert_eq!(said(&end("backup")), ("locked".into(), 5));
        let checks = fact::latest_checks(recorder.state().unwrap(), "probe").unwrap();
        assert_eq!(checks[0].check.summary, "failed: no probe");
        assert_eq!(checks[0].check.level, Level::Critical);
    }

    #[test]
    fn a_job_that_a_person_mistyped_is_none_and_one_that_is_scheduled_or_has_worked_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        let state = recorder.state().unwrap();
        let start = |job, schedule| RunRecord::start(&recorder, "backup", job, schedule, &clock);
        let runs = || recent(state, "backup", 10).unwrap().len();
        let told = || fact::latest_checks(state, "backup").unwrap().len();
        start("/mistyped", None).fail::<Exit>(Exit::Usage, "not a repository").unwrap();
        assert_eq!((runs(), told()), (0, 0));
        start("/scheduled", Some("backup")).fail::<Exit>(Exit::Usage, "not a repository").unwrap();
        start("/tried", None).fail::<Exit>(Exit::Failed, "disk full").unwrap();
        assert_eq!((runs(), told()), (2, 2));
        start("/scheduled", None).fail::<Exit>(Exit::Usage, "no such option").unwrap();
        assert_eq!((runs(), told()), (2, 2), "what the timer found stays the last word");
        start("/worked", None).finish(Exit::Done, &Value::Null, &Facts::default()).unwrap();
        start("/worked", None).fail::<Exit>(Exit::Usage, "its disk is away").unwrap();
        assert_eq!((runs(), told()), (4, 3));
    }

    #[test]
    fn the_latest_runs_of_the_one_tool_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        for (tool, job) in [("backup", "a"), ("verify", "b"), ("backup", "c"), ("backup", "d")] {
            clock.advance(TimeDelta::seconds(1));
            RunRecord::start(&recorder, tool, job, None, &clock)
                .finish(Exit::Done, &Value::Null, &Facts::default())
                .unwrap();
        }
        let jobs: Vec<_> =
            recent(recorder.state().unwrap(), "backup", 2).unwrap().into_iter().map(|run| run.job).collect();
        assert_eq!(jobs, ["d", "c"]);
    }

    #[test]
    #[ignore = "the other process of the test below"]
    fn starts_a_run_and_is_killed() {
        let dir = std::env::var_os(FOLDER).unwrap();
        let (recorder, clock) = (recorder(Path::new(&dir)), clock());
        let _run = RunRecord::start(&recorder, "backup", "nightly", None, &clock);
        Child::ready_and_wait();
    }

    #[test]
    fn a_run_that_was_killed_is_there_without_an_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let child = Child::start("record::tests::starts_a_run_and_is_killed", &[(FOLDER, dir.path())]);
        let pid = child.id();
        child.kill();
        let recorder = recorder(dir.path());
        let runs = recent(recorder.state().unwrap(), "backup", 10).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].pid, &runs[0].end), (pid, &None));
    }

    #[test]
    fn a_run_whose_start_was_not_written_is_written_whole_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        let state = recorder.state().unwrap();
        state.with(|db| db.pragma_update(None, "query_only", true)).unwrap();
        let run = RunRecord::start(&recorder, "backup", "nightly", None, &clock);
        state.with(|db| db.pragma_update(None, "query_only", false)).unwrap();
        run.finish(Exit::Done, &Value::Null, &Facts::default()).unwrap();
        let runs = recent(state, "backup", 10).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].end.as_ref().map(|end| end.exit), Some(0));
    }

    #[test]
    fn trouble_with_the_state_is_told_once_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, clock) = (recorder(dir.path()), clock());
        recorder.state().unwrap().with(|db| db.pragma_update(None, "query_only", true)).unwrap();
        let run = RunRecord::start(&recorder, "backup", "nightly", None, &clock);
        let error = run.finish(Exit::Done, &Value::Null, &Facts::default()).unwrap_err();
        assert!(matches!(error, StateError::Database { .. }), "{error}");
    }

    #[test]
    fn without_a_state_the_job_is_done_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (recorder, error) = Recorder::open(&file);
        assert!(error.is_some() && recorder.state().is_none());
        RunRecord::start(&recorder, "backup", "nightly", None, &clock())
            .finish(Exit::Done, &Value::Null, &Facts::default())
            .unwrap();
    }
}
