//! What the state file knows, read in one go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::{Ending as _, Exit, Level};
use reliab_common::rhythm::{self, is_good};
use reliab_common::state::{State, StateError, nanos, time};
use reliab_common::units::rough;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::due::Due;
use crate::forget::FORGOTTEN;

/// What was not heard of for longer is left out.
const FORGET: TimeDelta = TimeDelta::days(60);
/// A target that its tool passed over for longer than this, and than its rhythm, is no longer watched.
const PASSED_OVER: TimeDelta = TimeDelta::days(1);
/// A message that waits for longer is a warning.
const WAITS_LONG: Duration = Duration::from_secs(15 * 60);

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The worst of everything below.
    pub level: Level,
    pub jobs: Vec<JobView>,
    pub checks: Vec<CheckView>,
    pub incidents: Vec<IncidentView>,
    pub outbox: Outbox,
    pub heartbeats: Vec<Heartbeat>,
    pub measurements: Vec<Measurement>,
    pub state: StateFile,
}

/// The last run of a job.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    pub tool: String,
    pub job: String,
    pub level: Level,
    pub started: DateTime<Utc>,
    /// `None` while it runs, and for ever if it was killed.
    pub ended: Option<DateTime<Utc>>,
    pub outcome: Option<String>,
    pub exit: Option<u8>,
    /// When the last run began that did its work and found no damage.
    pub last_good: Option<DateTime<Utc>>,
    /// Whether the process that began is still there.
    pub running: bool,
}

/// The last result of a check.
#[derive(Debug, Serialize)]
pub(crate) struct CheckView {
    pub source: String,
    pub target: String,
    pub level: Level,
    pub at: DateTime<Utc>,
    pub summary: String,
    /// Whether it should have been repeated by now.
    pub stale: bool,
}

/// An incident that is open.
#[derive(Debug, Serialize)]
pub(crate) struct IncidentView {
    pub id: i64,
    pub subject: String,
    pub level: Level,
    pub summary: String,
    pub opened: DateTime<Utc>,
    pub acknowledged: Option<String>,
}

/// Messages that wait to be delivered, and those that never will be.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outbox {
    pub owed: u64,
    /// Since when the oldest waits.
    pub oldest: Option<DateTime<Utc>>,
    /// Refused for good in the last 7 days.
    pub refused: u64,
}

/// Something that reports in.
#[derive(Debug, Serialize)]
pub(crate) struct Heartbeat {
    pub name: String,
    pub at: DateTime<Utc>,
}

/// The last value of a figure.
#[derive(Debug, Serialize)]
pub(crate) struct Measurement {
    pub source: String,
    pub target: String,
    pub figure: String,
    pub unit: String,
    pub at: DateTime<Utc>,
    pub value: f64,
}

/// The state file itself.
#[derive(Debug, Serialize)]
pub(crate) struct StateFile {
    pub path: PathBuf,
    pub bytes: u64,
}

impl JobView {
    /// The name by which it is shown and can be forgotten.
    pub fn name(&self) -> String {
        format!("{} {}", self.tool, self.job)
    }
}

impl Overview {
    /// Reads what the state knows, and judges it by what is due.
    pub fn read(state: &State, due: &Due<'_>) -> Result<Self, StateError> {
        let (now, bytes) = (due.now, state.size());
        let scheduled = due.jobs(state)?;
        let mut overview = state.with(|db| {
            // One transaction: everything is of the same moment.
            let db = db.unchecked_transaction()?;
            let since = nanos(now - FORGET);
            Ok(Self {
                at: now,
                level: Level::Ok,
                jobs: jobs(&db, since)?,
                checks: checks(&db, since, due)?,
                incidents: incidents(&db)?,
                outbox: outbox(&db, nanos(now), nanos(now - TimeDelta::days(7)))?,
                heartbeats: heartbeats(&db, since)?,
                measurements: measurements(&db, nanos(now - PASSED_OVER))?,
                state: StateFile { path: state.path().to_owned(), bytes },
            })
        })?;
        overview.checks.extend(scheduled);
        overview.checks.sort_by(|a, b| (&a.source, &a.target).cmp(&(&b.source, &b.target)));
        overview.level = overview.worst();
        Ok(overview)
    }

    fn worst(&self) -> Level {
        let levels = self.jobs.iter().map(|job| job.level).chain(self.checks.iter().map(|check| check.level));
        let open = self.incidents.iter().filter(|incident| incident.acknowledged.is_none());
        let waits = if self.waits_long() { Level::Warning } else { Level::Ok };
        levels.chain(open.map(|incident| incident.level)).fold(waits, Level::worst)
    }

    /// How long the oldest message waits.
    pub fn oldest_wait(&self) -> Option<Duration> {
        self.outbox.oldest.map(|since| self.since(since))
    }

    /// Whether messages do not get through.
    pub fn waits_long(&self) -> bool {
        self.oldest_wait().is_some_and(|wait| wait > WAITS_LONG)
    }

    /// The time since `then`; none for what lies ahead.
    pub fn since(&self, then: DateTime<Utc>) -> Duration {
        (self.at - then).to_std().unwrap_or_default()
    }

    /// The time since `then`, as people say it.
    pub fn ago(&self, then: DateTime<Utc>) -> String {
        format!("{} ago", rough(self.since(then)))
    }
}

fn jobs(db: &Connection, since: i64) -> rusqlite::Result<Vec<JobView>> {
    let sql = "SELECT tool, job, started, ended, outcome, exit, pid
        FROM (SELECT *, row_number() OVER (PARTITION BY tool, job ORDER BY started DESC, id DESC) AS place
            FROM run WHERE started >= ?1) latest
        WHERE place = 1 AND started > coalesce(
            (SELECT CAST(value AS INTEGER) FROM cursor WHERE name = ?2 || tool || ' ' || job), 0)
        ORDER BY tool, job";
    let wanted = params![since, FORGOTTEN];
    let mut jobs: Vec<JobView> = db.prepare(sql)?.query_map(wanted, job)?.collect::<Result<_, _>>()?;
    let mut good = last_good(db)?;
    for job in &mut jobs {
        job.last_good = good.remove(&(job.tool.clone(), job.job.clone()));
    }
    Ok(jobs)
}

/// When the last run of each job began that did its work and found no damage, by tool and job.
fn last_good(db: &Connection) -> rusqlite::Result<HashMap<(String, String), DateTime<Utc>>> {
    let sql = "SELECT tool, job, outcome, max(started) FROM run WHERE outcome IS NOT NULL GROUP BY tool, job, outcome";
    let mut latest = HashMap::new();
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let outcome: String = row.get(2)?;
        if is_good(&outcome) && outcome != Exit::Damaged.name() {
            let started = time(row.get(3)?);
            let known = latest.entry((row.get(0)?, row.get(1)?)).or_insert(started);
            *known = started.max(*known);
        }
    }
    Ok(latest)
}

fn job(row: &Row<'_>) -> rusqlite::Result<JobView> {
    let (outcome, pid): (Option<String>, u32) = (row.get(4)?, row.get(6)?);
    let running = outcome.is_none() && std::path::Path::new(&format!("/proc/{pid}")).exists();
    Ok(JobView {
        tool: row.get(0)?,
        job: row.get(1)?,
        level: level_of(outcome.as_deref(), running),
        started: time(row.get(2)?),
        ended: row.get::<_, Option<i64>>(3)?.map(time),
        outcome,
        exit: row.get(5)?,
        last_good: None,
        running,
    })
}

/// What the name of an outcome says; a run that vanished may have done half its work.
fn level_of(outcome: Option<&str>, running: bool) -> Level {
    let Some(outcome) = outcome else {
        return if running { Level::Ok } else { Level::Warning };
    };
    let as_check = Level::ALL.iter().copied().find(|level| level.name() == outcome);
    let as_job = || Exit::ALL.iter().find(|exit| exit.name() == outcome).map(|exit| exit.level());
    as_check.or_else(as_job).unwrap_or(Level::Unknown)
}

/// The latest result of each target that is still looked at; how runs themselves ended is told by [`jobs`].
fn checks(db: &Connection, since: i64, due: &Due<'_>) -> rusqlite::Result<Vec<CheckView>> {
    let sql = "SELECT source, target, level, at, summary, max(id) FROM check_result latest
        WHERE at >= ?1 AND NOT EXISTS
            (SELECT 1 FROM run WHERE run.tool = latest.source AND run.job = latest.target)
        GROUP BY source, target ORDER BY source, target";
    let mut all = db.prepare(sql)?.query_map([since], check)?.collect::<rusqlite::Result<Vec<_>>>()?;
    // What is scheduled is judged afresh.
    all.retain(|check| check.source != rhythm::SOURCE || !due.schedule.contains_key(&check.target));
    let mut newest: HashMap<String, DateTime<Utc>> = HashMap::new();
    for check in &all {
        let known = newest.entry(check.source.clone()).or_insert(check.at);
        *known = check.at.max(*known);
    }
    all.retain(|check| newest[&check.source] - check.at <= passed_over(&check.source, due));
    all.iter_mut().for_each(|check| due.mark(check));
    Ok(all)
}

/// A target that its tool passed over for longer than this is no longer watched.
fn passed_over(source: &str, due: &Due<'_>) -> TimeDelta {
    let rhythm = due.stale_after(source).and_then(|after| TimeDelta::from_std(after).ok());
    rhythm.unwrap_or_default().max(PASSED_OVER)
}

fn check(row: &Row<'_>) -> rusqlite::Result<CheckView> {
    Ok(CheckView {
        source: row.get(0)?,
        target: row.get(1)?,
        level: Level::from_code(row.get(2)?).unwrap_or(Level::Unknown),
        at: time(row.get(3)?),
        summary: row.get(4)?,
        stale: false,
    })
}

fn incidents(db: &Connection) -> rusqlite::Result<Vec<IncidentView>> {
    let sql = "SELECT id, subject, level, summary, coalesce(opened, began), acknowledged FROM incident
        WHERE state = 'open' ORDER BY opened, id";
    let incident = |row: &Row<'_>| {
        Ok(IncidentView {
            id: row.get(0)?,
            subject: row.get(1)?,
            level: Level::from_code(row.get(2)?).unwrap_or(Level::Unknown),
            summary: row.get(3)?,
            opened: time(row.get(4)?),
            acknowledged: row.get(5)?,
        })
    };
    db.prepare(sql)?.query_map([], incident)?.collect()
}

/// What is owed; what a clock that was ahead dated into the future waits since it was first tried by a right one.
fn outbox(db: &Connection, now: i64, lately: i64) -> rusqlite::Result<Outbox> {
    let sql = "SELECT count(*), min(CASE WHEN owed <= ?1 THEN owed ELSE coalesce(
            (SELECT min(at) FROM attempt WHERE notification = n.id AND at <= ?1), ?1) END)
        FROM notification AS n WHERE state = 'owed'";
    let (owed, oldest): (i64, Option<i64>) =
        db.query_row(sql, [now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "SELECT count(*) FROM notification WHERE state = 'refused' AND ended >= ?1";
    let refused: i64 = db.query_row(sql, [lately], |row| row.get(0))?;
    Ok(Outbox { owed: owed.unsigned_abs(), oldest: oldest.map(time), refused: refused.unsigned_abs() })
}

fn heartbeats(db: &Connection, since: i64) -> rusqlite::Result<Vec<Heartbeat>> {
    let sql = "SELECT name, max(at) FROM heartbeat WHERE at >= ?1 GROUP BY name ORDER BY name";
    let heartbeat = |row: &Row<'_>| Ok(Heartbeat { name: row.get(0)?, at: time(row.get(1)?) });
    db.prepare(sql)?.query_map([since], heartbeat)?.collect()
}

fn measurements(db: &Connection, since: i64) -> rusqlite::Result<Vec<Measurement>> {
    let sql = "SELECT source, target, figure, unit, at, value FROM series
        JOIN sample ON sample.series = series.id
            AND sample.at = (SELECT max(at) FROM sample latest WHERE latest.series = series.id)
        WHERE at >= ?1 ORDER BY source, figure, target";
    let measurement = |row: &Row<'_>| {
        Ok(Measurement {
            source: row.get(0)?,
            target: row.get(1)?,
            figure: row.get(2)?,
            unit: row.get(3)?,
            at: time(row.get(4)?),
            value: row.get(5)?,
        })
    };
    db.prepare(sql)?.query_map([since], measurement)?.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use reliab_common::clock::{Clock as _, FixedClock};
    use reliab_common::config::Schedule;
    use reliab_common::fact::{self, CheckResult, Facts, Sample};
    use reliab_common::record::{Recorder, RunRecord};
    use serde_json::{Value, json};

    fn due(schedule: &Schedule, now: DateTime<Utc>) -> Due<'_> {
        Due { schedule, now, up: Duration::from_secs(90 * 86_400), own: None }
    }

    /// A state with a bit of everything, read at a fixed time.
    pub(crate) fn example() -> Overview {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, _) = Recorder::open(dir.path());
        let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
        let run = |tool, job, end: Exit, took, facts: &Facts| {
            let run = RunRecord::start(&recorder, tool, job, None, &clock);
            clock.advance(TimeDelta::seconds(took));
            run.finish(end, &json!({ "error": "disk full" }), facts).unwrap();
        };
        let none = Facts::default();
        run("backup", "backups", Exit::Done, 90, &none);
        clock.advance(TimeDelta::hours(20));
        run("backup", "backups", Exit::Failed, 5, &none);
        run("verify", "backups", Exit::Done, 600, &none);
        let checks = vec![
            check("probe", "api", clock.now(), Level::Ok, "200 in 31 ms"),
            check("probe", "a name that goes on and on\n\"quoted\"", clock.now(), Level::Warning, "slow"),
            check(
                "disk",
                "/",
                clock.now(),
                Level::Critical,
                "93% used, full in 3 to 9 days, which is a long text",
            ),
            check("probe", "gone", clock.now() - TimeDelta::days(3), Level::Critical, "removed since"),
        ];
        let sample = |source: &str, target: &str, figure: &str, unit, value| Sample {
            source: source.into(),
            target: target.into(),
            figure: figure.into(),
            unit,
            at: clock.now(),
            value,
        };
        let samples = vec![
            sample("probe", "api", "up", "1", 1.0),
            sample("probe", "api", "seconds", "s", 0.031),
            sample("probe", "api", "seconds.dns", "s", 0.001),
            sample("disk", "/", "free", "bytes", 1e9),
        ];
        let state = recorder.state().unwrap();
        state.write(|db| fact::store_all(db, None, &Facts { checks, samples })).unwrap();
        fact::beat(state, "nightly", clock.now()).unwrap();
        incident(state, clock.now());
        clock.advance(TimeDelta::minutes(42));
        Overview::read(state, &due(&Schedule::new(), clock.now())).unwrap()
    }

    fn check(source: &str, target: &str, at: DateTime<Utc>, level: Level, summary: &str) -> CheckResult {
        let detail = Value::Null;
        CheckResult {
            source: source.into(),
            target: target.into(),
            at,
            level,
            summary: summary.into(),
            detail,
        }
    }

    fn incident(state: &State, at: DateTime<Utc>) {
        let at = nanos(at);
        state
            .write(|db| {
                db.execute(
                    "INSERT INTO incident (rule, subject, state, level, summary, began, opened, memory)
                     VALUES ('disk', 'disk /', 'open', 2, '93% used', ?1, ?1, '{}')",
                    [at],
                )?;
                db.execute(
                    "INSERT INTO notification (channel, kind, key, message, owed, due, state)
                     VALUES ('mail', 'opened', 'k', '{}', ?1, ?1, 'owed')",
                    [at],
                )
            })
            .unwrap();
    }

    #[test]
    fn the_overview_has_the_last_of_everything() {
        let seen = example();
        assert_eq!(seen.level, Level::Critical);
        let jobs: Vec<_> = seen.jobs.iter().map(|job| (job.tool.as_str(), job.level)).collect();
        assert_eq!(jobs, [("backup", Level::Critical), ("verify", Level::Ok)]);
        let good = seen.jobs[0].last_good.unwrap();
        assert!(good < seen.jobs[0].started);
        let checks: Vec<_> = seen.checks.iter().map(|check| check.target.as_str()).collect();
        assert_eq!(checks, ["/", "a name that goes on and on\n\"quoted\"", "api"]);
        assert_eq!(seen.incidents.len(), 1);
        assert_eq!((seen.outbox.owed, seen.waits_long()), (1, true));
        assert_eq!(seen.heartbeats[0].name, "nightly");
        assert_eq!(seen.measurements.len(), 4);
    }

    #[test]
    fn a_message_from_the_future_waits_since_it_was_first_tried() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        incident(&state, now + TimeDelta::days(30));
        let read = || Overview::read(&state, &due(&Schedule::new(), now)).unwrap();
        assert_eq!((read().outbox.owed, read().oldest_wait()), (1, Some(Duration::ZERO)));
        let tried = nanos(now - TimeDelta::hours(2));
        let sql = "INSERT INTO attempt (notification, at, outcome, detail) VALUES (1, ?1, 'passing', '')";
        state.write(|db| db.execute(sql, [tried])).unwrap();
        assert_eq!((read().oldest_wait(), read().waits_long()), (Some(Duration::from_secs(7200)), true));
    }

    #[test]
    fn outcomes_of_jobs_and_of_checks_have_levels() {
        let check = |outcome, running, expected| assert_eq!(level_of(outcome, running), expected);
        check(Some("done"), false, Level::Ok);
        check(Some("partial"), false, Level::Warning);
        check(Some("damaged"), false, Level::Critical);
        check(Some("unknown"), false, Level::Unknown);
        check(Some("what a newer one writes"), false, Level::Unknown);
        check(None, true, Level::Ok);
        check(None, false, Level::Warning);
    }

    #[test]
    fn an_empty_state_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let seen =
            Overview::read(&state, &due(&Schedule::new(), "2026-11-22T12:00:00Z".parse().unwrap())).unwrap();
        assert_eq!(seen.level, Level::Ok);
        assert!(seen.jobs.is_empty() && seen.checks.is_empty());
    }

    /// A state in which a backup, a probe and a run that could not tell went before, and its clock.
    fn bench() -> (tempfile::TempDir, Recorder, FixedClock) {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, _) = Recorder::open(dir.path());
        let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
        let checks = vec![
            check("probe", "api", clock.now(), Level::Ok, "200 in 31 ms"),
            check("service", "web", clock.now(), Level::Ok, "well"),
            check("disk", "/", clock.now(), Level::Ok, "5% used"),
        ];
        let facts = Facts { checks, samples: vec![] };
        RunRecord::start(&recorder, "backup", "j", None, &clock)
            .finish(Exit::Done, &json!({}), &facts)
            .unwrap();
        (dir, recorder, clock)
    }

    fn schedule(jobs: &Value) -> Schedule {
        serde_json::from_value(jobs.clone()).unwrap()
    }

    fn found(seen: &Overview) -> Vec<(&str, &str, Level, bool)> {
        let all = seen.checks.iter();
        all.map(|check| (check.source.as_str(), check.target.as_str(), check.level, check.stale)).collect()
    }

    #[test]
    fn silence_is_told_of_jobs_and_of_checks() {
        let (_dir, recorder, clock) = bench();
        let state = recorder.state().unwrap();
        let schedule = schedule(&json!({ "backup": { "at": "02:30" }, "probe": { "every": "5m" } }));
        let first = Overview::read(state, &due(&schedule, clock.now())).unwrap();
        assert_eq!(first.level, Level::Ok, "{:?}", found(&first));
        clock.advance(TimeDelta::days(20));
        let seen = Overview::read(state, &due(&schedule, clock.now())).unwrap();
        let expected = [
            ("disk", "/", Level::Ok, false),
            ("probe", "api", Level::Warning, true),
            ("schedule", "backup", Level::Critical, false),
            ("schedule", "probe", Level::Critical, false),
            ("service", "web", Level::Warning, true),
        ];
        assert_eq!((seen.level, found(&seen)), (Level::Critical, expected.to_vec()));
        assert_eq!(seen.checks[1].summary, "stale, 20 d old, expected every 5 min; was: 200 in 31 ms");
        assert_eq!(seen.checks[2].summary, "last ran 20 d ago, expected every 24 h");
    }

    #[test]
    fn a_machine_that_has_just_started_and_the_job_that_runs_now_are_not_late() {
        let (_dir, recorder, clock) = bench();
        let state = recorder.state().unwrap();
        let schedule = schedule(&json!({ "probe": { "every": "5m" }, "metrics": { "every": "1m" } }));
        Overview::read(state, &due(&schedule, clock.now())).unwrap();
        clock.advance(TimeDelta::days(2));
        let up = Duration::from_secs(60);
        let seen =
            Overview::read(state, &Due { up, own: Some("metrics"), ..due(&schedule, clock.now()) }).unwrap();
        assert_eq!(seen.level, Level::Ok, "{:?}", found(&seen));
        assert!(seen.checks.iter().all(|check| check.target != "metrics"));
    }

    #[test]
    fn what_is_good_is_what_counts_for_the_rhythm_less_what_found_damage() {
        let (_dir, recorder, clock) = bench();
        for end in [Level::Critical, Level::Unknown] {
            clock.advance(TimeDelta::hours(1));
            RunRecord::start(&recorder, "disk", "mounts", None, &clock)
                .finish(end, &json!({}), &Facts::default())
                .unwrap();
        }
        clock.advance(TimeDelta::hours(1));
        RunRecord::start(&recorder, "disk", "mounts", None, &clock)
            .fail::<Level>(Exit::Failed, "no such folder")
            .unwrap();
        let seen = Overview::read(recorder.state().unwrap(), &due(&Schedule::new(), clock.now())).unwrap();
        let disk = seen.jobs.iter().find(|job| job.tool == "disk").unwrap();
        assert_eq!(disk.last_good, Some(clock.now() - TimeDelta::hours(1)));
        let mut good = None;
        for end in [Exit::Done, Exit::Damaged] {
            clock.advance(TimeDelta::hours(1));
            good = good.or(Some(clock.now()));
            RunRecord::start(&recorder, "verify", "backups", None, &clock)
                .finish(end, &json!({}), &Facts::default())
                .unwrap();
        }
        let seen = Overview::read(recorder.state().unwrap(), &due(&Schedule::new(), clock.now())).unwrap();
        let verify = seen.jobs.iter().find(|job| job.tool == "verify").unwrap();
        assert_eq!((verify.level, verify.last_good), (Level::Critical, good));
    }
}
