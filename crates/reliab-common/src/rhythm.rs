//! The rhythm of scheduled jobs: whichever tool runs notices those that have stopped.
//!
//! A timer that died reports nothing, so the living ones look after it: at the end of each recorded run the tool
//! compares the last good run of every job in `[schedule]` with its rhythm and stores what it finds as a check
//! result of the source `schedule`.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use crate::config::{Schedule, ScheduledJob};
use crate::exit::Level;
use crate::fact::{self, CheckResult, Facts, StoredCheck};
use crate::state::{State, StateError, nanos, time};
use crate::units::rough;

/// The source of these check results.
pub const SOURCE: &str = "schedule";
/// The environment variable by which timers tell a run which job of `[schedule]` it is.
pub const VARIABLE: &str = "RELIAB_SCHEDULE";

/// A result that did not change is stored again after this time, with its age brought up to date.
const REPEAT: TimeDelta = TimeDelta::hours(1);
/// A run that began later than now by more than this says that a clock was wrong, and nothing else.
const CLOCK_ERROR: TimeDelta = TimeDelta::minutes(5);

/// What the state knows of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since when the job is scheduled in this rhythm.
    pub since: DateTime<Utc>,
    /// When the latest run began that did its work.
    pub good: Option<DateTime<Utc>>,
    /// When the latest run of all began, and how it ended; `None`: it never said.
    pub latest: Option<(DateTime<Utc>, Option<String>)>,
}

/// What is said of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// CRITICAL if it is overdue, else OK.
    pub level: Level,
    /// One line for people.
    pub summary: String,
    /// Whether the job ever did its work.
    pub ran: bool,
}

/// Says whether a job is overdue on a machine that has been up for the time `up`.
///
/// After a start of the machine nothing is overdue for the job's time of grace: its timer has yet to catch up.
pub fn judge(job: &ScheduledJob, seen: &Seen, now: DateTime<Utc>, up: Duration) -> Verdict {
    let late_after = job.late_after();
    let since = |start: DateTime<Utc>| (now - start).to_std().unwrap_or_default();
    let (begun, ended) = match &seen.latest {
        Some((begun, ended)) => (Some(*begun), ended.as_deref()),
        None => (None, None),
    };
    // A run that goes on counts until it has gone on for too long.
    let running = begun.filter(|&begun| ended.is_none() && since(begun) <= late_after);
    let reference = [seen.good, running, Some(seen.since)].into_iter().flatten().max().unwrap_or(now);
    let is_late = since(reference) > late_after && up > job.grace();
    let mut summary = match seen.good {
        Some(good) => format!("last ran {} ago, expected every {}", rough(since(good)), rough(job.period())),
        None if is_late => {
            let scheduled = rough(since(seen.since));
            format!(
                "never ran since it was scheduled {scheduled} ago, expected every {}",
                rough(job.period())
            )
        }
        None => format!("has not run yet, expected every {}", rough(job.period())),
    };
    if let Some(begun) = begun.filter(|&begun| is_late && seen.good.is_none_or(|good| good < begun)) {
        let ended = ended.unwrap_or("not ended");
        summary.push_str(&format!("; the last try, {} ago, has {ended}", rough(since(begun))));
    }
    Verdict { level: if is_late { Level::Critical } else { Level::Ok }, summary, ran: seen.good.is_some() }
}

/// Looks at every job of `schedule` and stores what changed, in one transaction.
///
/// `config` is the file that the schedule stands in: a job that left it is reported as no longer scheduled.
pub fn look(
    state: &State,
    schedule: &Schedule,
    config: Option<&Path>,
    now: DateTime<Utc>,
    up: Duration,
) -> Result<(), StateError> {
    if schedule.is_empty() && config.is_none() {
        return Ok(());
    }
    let stored = fact::latest_checks(state, SOURCE)?;
    let config = config.map(|path| path.display().to_string());
    let result = |name: &str, verdict: Verdict| CheckResult {
        source: SOURCE.into(),
        target: name.into(),
        at: now,
        level: verdict.level,
        summary: verdict.summary,
        detail: json!({ "configuration": config, "ran": verdict.ran }),
    };
    state.write(|db| {
        let mut checks = Vec::new();
        for (name, job) in schedule {
            let verdict = judge(job, &seen(db, schedule, name, now)?, now, up);
            let known = stored.iter().find(|stored| stored.check.target == *name);
            if known.is_none_or(|known| is_news(known, &verdict, now)) {
                checks.push(result(name, verdict));
            }
        }
        for gone in stored.iter().filter(|stored| left(&stored.check, schedule, config.as_deref())) {
            let summary = "no longer scheduled".to_owned();
            checks.push(result(&gone.check.target, Verdict { level: Level::Ok, summary, ran: true }));
            db.execute("DELETE FROM cursor WHERE name = ?1", [cursor(&gone.check.target)])?;
        }
        fact::store_all(db, None, &Facts { checks, samples: Vec::new() })
    })
}

fn is_news(known: &StoredCheck, verdict: &Verdict, now: DateTime<Utc>) -> bool {
    let age = now - known.check.at;
    let first = verdict.ran && known.check.detail.get("ran") == Some(&json!(false));
    known.check.level != verdict.level || first || age >= REPEAT || age < -CLOCK_ERROR
}

/// Whether an alarm is about a job that this very configuration no longer has; another file's jobs are its own.
fn left(check: &CheckResult, schedule: &Schedule, config: Option<&str>) -> bool {
    let of = check.detail.get("configuration").and_then(|path| path.as_str());
    check.level != Level::Ok && !schedule.contains_key(&check.target) && of.is_some() && of == config
}

/// What the state knows of a job; the first look notes since when it is scheduled.
pub fn seen(db: &Connection, schedule: &Schedule, name: &str, now: DateTime<Utc>) -> rusqlite::Result<Seen> {
    let Some(job) = schedule.get(name) else { return Ok(Seen { since: now, good: None, latest: None }) };
    let since = scheduled_since(db, name, job, now)?;
    let tool = job.tool(name);
    let alone = schedule.iter().filter(|(name, job)| job.tool(name) == tool).count() == 1;
    let of_job = "started <= ?1 AND tool = ?3 AND (schedule = ?2 OR (?4 AND schedule IS NULL AND job = coalesce(?5, job)))";
    let known = params![nanos(now + CLOCK_ERROR), name, tool, alone, scheduled_job(db, name, &tool)?];
    let sql = format!(
        "SELECT outcome, max(started) FROM run WHERE {of_job} AND outcome IS NOT NULL GROUP BY outcome"
    );
    let mut ended = db.prepare_cached(&sql)?;
    let ended = ended.query_map(known, |row| Ok((row.get::<_, String>(0)?, time(row.get(1)?))))?;
    let mut recorded = None;
    for latest in ended {
        let (outcome, started) = latest?;
        recorded = recorded.max(is_good(&outcome).then_some(started));
    }
    let good = recorded.max(noted(db, name, &tool)?.filter(|&at| at <= now + CLOCK_ERROR));
    let latest = format!("SELECT started, outcome FROM run WHERE {of_job} ORDER BY started DESC LIMIT 1");
    let latest = db.query_row(&latest, known, |row| Ok((time(row.get(0)?), row.get(1)?))).optional()?;
    Ok(Seen { since, good, latest })
}

/// Which of the tool's jobs the timer started last: of runs by a person only those of the same stand for it, and of another
/// repository none. `None` as long as no timer has.
fn scheduled_job(db: &Connection, name: &str, tool: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT job FROM run WHERE tool = ?1 AND schedule = ?2 ORDER BY started DESC LIMIT 1";
    db.prepare_cached(sql)?.query_row([tool, name], |row| row.get(0)).optional()
}

/// Whether a run that ended so did its work; a check that finds something unknown or critical has.
pub fn is_good(outcome: &str) -> bool {
    !matches!(outcome, "failed" | "usage" | "locked")
}

/// Notes that a tool did its work for a job; not every tool records its runs.
pub fn note(state: &State, job: &str, tool: &str, at: DateTime<Utc>) -> Result<(), StateError> {
    state.set_cursor(&noted_as(job, tool), &nanos(at).to_string())
}

/// When [`note`] last noted the job.
fn noted(db: &Connection, job: &str, tool: &str) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let sql = "SELECT value FROM cursor WHERE name = ?1";
    let noted: Option<String> = db.query_row(sql, [noted_as(job, tool)], |row| row.get(0)).optional()?;
    Ok(noted.and_then(|at| at.parse().ok()).map(time))
}

/// The tool belongs to it: alerts that are evaluated after a backup must not count as that backup.
fn noted_as(job: &str, tool: &str) -> String {
    format!("ran-{job}-{tool}")
}

/// Since when the job is scheduled in its present rhythm.
fn scheduled_since(
    db: &Connection,
    name: &str,
    job: &ScheduledJob,
    now: DateTime<Utc>,
) -> rusqlite::Result<DateTime<Utc>> {
    let sql = "SELECT value FROM cursor WHERE name = ?1";
    let known: Option<String> = db.query_row(sql, [cursor(name)], |row| row.get(0)).optional()?;
    let rhythm = job.start.to_string();
    let since = known.and_then(|known| {
        let (since, of) = known.split_once(' ')?;
        since.parse().ok().filter(|_| of == rhythm)
    });
    if let Some(since) = since.filter(|&since| since <= nanos(now + CLOCK_ERROR)) {
        return Ok(time(since));
    }
    db.execute(
        "INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [cursor(name), format!("{} {rhythm}", nanos(now))],
    )?;
    Ok(now)
}

fn cursor(name: &str) -> String {
    format!("schedule-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, FixedClock};
    use crate::exit::Exit;
    use crate::record::{Recorder, RunRecord};
    use serde_json::Value;

    const LONG_UP: Duration = Duration::from_secs(40 * 86_400);

    struct Bench {
        _dir: tempfile::TempDir,
        recorder: Recorder,
        clock: FixedClock,
        schedule: Schedule,
    }

    fn bench(schedule: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (recorder, error) = Recorder::open(dir.path());
        assert!(error.is_none());
        let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
        Bench { _dir: dir, recorder, clock, schedule: toml::from_str(schedule).unwrap() }
    }

    impl Bench {
        fn state(&self) -> &State {
            self.recorder.state().unwrap()
        }

        fn run(&self, tool: &str, schedule: Option<&str>, end: Exit) {
            RunRecord::start(&self.recorder, tool, "job", schedule, &self.clock)
                .finish(end, &Value::Null, &Facts::default())
                .unwrap();
        }

        fn look_from(&self, config: Option<&str>, up: Duration) {
            look(self.state(), &self.schedule, config.map(Path::new), self.clock.now(), up).unwrap();
        }

        fn after(&self, step: TimeDelta) -> Vec<(String, Level, String)> {
            self.clock.advance(step);
            self.look_from(Some("/etc/reliab/reliab.toml"), LONG_UP);
            self.latest()
        }

        fn latest(&self) -> Vec<(String, Level, String)> {
            let checks = fact::latest_checks(self.state(), SOURCE).unwrap();
            checks.into_iter().map(|c| (c.check.target, c.check.level, c.check.summary)).collect()
        }

        fn results(&self) -> usize {
            let all = fact::checks_after(self.state(), 0).unwrap();
            all.iter().filter(|stored| stored.check.source == SOURCE).count()
        }
    }

    fn said(name: &str, level: Level, summary: &str) -> (String, Level, String) {
        (name.into(), level, summary.into())
    }

    #[test]
    fn a_job_that_stopped_is_critical_until_it_runs_again() {
        let bench = bench("[backup]\nat = \"02:30\"\n[probe]\nevery = \"1m\"");
        bench.run("backup", None, Exit::Done);
        bench.run("probe", None, Exit::Done);
        let first = bench.after(TimeDelta::minutes(1));
        assert_eq!(first[0], said("backup", Level::Ok, "last ran 60 s ago, expected every 24 h"));
        bench.run("probe", None, Exit::Done);
        let late = bench.after(TimeDelta::days(3));
        assert_eq!(late[0], said("backup", Level::Critical, "last ran 3 d ago, expected every 24 h"));
        assert_eq!(late[1].1, Level::Critical);
        bench.run("backup", None, Exit::Partial);
        let again = bench.after(TimeDelta::minutes(2));
        assert_eq!(again[0], said("backup", Level::Ok, "last ran 2 min ago, expected every 24 h"));
        assert_eq!(again[1].1, Level::Critical);
    }

    #[test]
    fn a_job_that_never_ran_is_late_counted_from_when_it_was_scheduled() {
        let bench = bench("[verify]\nat = \"Sun 04:00\"");
        let wait = |days| bench.after(TimeDelta::days(days));
        assert_eq!(wait(0), [said("verify", Level::Ok, "has not run yet, expected every 7 d")]);
        assert_eq!(wait(7)[0].1, Level::Ok);
        let summary = "never ran since it was scheduled 8 d ago, expected every 7 d";
        assert_eq!(wait(1), [said("verify", Level::Critical, summary)]);
    }

    #[test]
    fn a_new_rhythm_counts_from_when_it_was_changed() {
        let mut bench = bench("[verify]\nat = \"02:00\"");
        bench.run("verify", None, Exit::Done);
        bench.after(TimeDelta::hours(5));
        bench.schedule = toml::from_str("[verify]\nevery = \"1h\"").unwrap();
        assert_eq!(bench.after(TimeDelta::zero())[0].1, Level::Ok);
        assert_eq!(bench.after(TimeDelta::minutes(66))[0].1, Level::Critical);
    }

    #[test]
    fn failures_do_not_count_and_are_told() {
        let bench = bench("[backup]\nat = \"02:30\"");
        bench.run("backup", None, Exit::Done);
        bench.after(TimeDelta::zero());
        bench.after(TimeDelta::hours(25));
        bench.run("backup", None, Exit::Failed);
        let summary = "last ran 28 h ago, expected every 24 h; the last try, 3 h ago, has failed";
        assert_eq!(bench.after(TimeDelta::hours(3)), [said("backup", Level::Critical, summary)]);
    }

    #[test]
    fn a_run_that_goes_on_counts_until_it_has_gone_on_for_too_long() {
        let bench = bench("[backup]\nat = \"02:30\"");
        bench.run("backup", None, Exit::Done);
        bench.after(TimeDelta::hours(24));
        let _running = RunRecord::start(&bench.recorder, "backup", "job", None, &bench.clock);
        assert_eq!(bench.after(TimeDelta::hours(20))[0].1, Level::Ok);
        let summary = "last ran 51 h ago, expected every 24 h; the last try, 27 h ago, has not ended";
        assert_eq!(bench.after(TimeDelta::hours(7)), [said("backup", Level::Critical, summary)]);
    }

    #[test]
    fn two_jobs_of_one_tool_are_told_apart_by_what_started_them() {
        let bench = bench(
            "[quick]\nat = \"02:00\"\ncommand = [\"verify\"]\n[deep]\nat = \"03:00\"\ncommand = [\"verify\"]",
        );
        bench.after(TimeDelta::zero());
        bench.clock.advance(TimeDelta::hours(20));
        bench.run("verify", Some("quick"), Exit::Done);
        bench.run("verify", None, Exit::Done);
        let found = bench.after(TimeDelta::hours(8));
        assert_eq!((found[0].1, found[1].1), (Level::Critical, Level::Ok));
    }

    #[test]
    fn what_a_person_backed_up_elsewhere_does_not_hide_a_dead_timer() {
        let bench = bench("[backup]\nat = \"02:30\"");
        bench.run("backup", Some("backup"), Exit::Done);
        bench.after(TimeDelta::zero());
        let by_hand = |job| {
            RunRecord::start(&bench.recorder, "backup", job, None, &bench.clock)
                .finish(Exit::Done, &Value::Null, &Facts::default())
                .unwrap();
        };
        bench.clock.advance(TimeDelta::hours(40));
        by_hand("another repository");
        assert_eq!(bench.after(TimeDelta::minutes(1))[0].1, Level::Critical);
        by_hand("job");
        assert_eq!(bench.after(TimeDelta::minutes(1))[0].1, Level::Ok);
    }

    #[test]
    fn what_another_tool_did_for_a_job_does_not_count() {
        let bench = bench("[backup]\nat = \"02:30\"");
        bench.after(TimeDelta::zero());
        bench.clock.advance(TimeDelta::hours(30));
        bench.run("backup", Some("backup"), Exit::Failed);
        bench.run("alert", Some("backup"), Exit::Done);
        note(bench.state(), "backup", "alert", bench.clock.now()).unwrap();
        assert_eq!(bench.after(TimeDelta::zero())[0].1, Level::Critical);
    }

    #[test]
    fn a_job_whose_tool_records_no_runs_is_noted() {
        let bench = bench("[metrics]\nevery = \"1m\"\ncommand = [\"status\"]");
        bench.after(TimeDelta::zero());
        bench.clock.advance(TimeDelta::minutes(9));
        note(bench.state(), "metrics", "alert", bench.clock.now()).unwrap();
        note(bench.state(), "metrics", "status", bench.clock.now()).unwrap();
        let well = said("metrics", Level::Ok, "last ran 60 s ago, expected every 60 s");
        assert_eq!(bench.after(TimeDelta::minutes(1)), [well]);
        assert_eq!(bench.after(TimeDelta::minutes(6))[0].1, Level::Critical);
        assert!(is_good("critical") && is_good("partial") && !is_good("failed") && is_good("unknown"));
    }

    #[test]
    fn a_check_that_fails_every_time_is_overdue_and_one_that_finds_something_unknown_is_not() {
        let bench = bench("[disk]\nevery = \"1h\"\n[probe]\nevery = \"1h\"");
        bench.after(TimeDelta::zero());
        for _ in 0..3 {
            bench.clock.advance(TimeDelta::hours(1));
            RunRecord::start(&bench.recorder, "probe", "job", None, &bench.clock)
                .fail::<Level>(Exit::Failed, "no network")
                .unwrap();
            RunRecord::start(&bench.recorder, "disk", "job", None, &bench.clock)
                .finish(Level::Unknown, &Value::Null, &Facts::default())
                .unwrap();
        }
        let found = bench.after(TimeDelta::minutes(1));
        assert_eq!((found[0].1, found[1].1), (Level::Ok, Level::Critical), "{found:?}");
        assert!(found[1].2.ends_with("the last try, 60 s ago, has failed"), "{found:?}");
    }

    #[test]
    fn what_did_not_change_is_stored_once_an_hour() {
        let bench = bench("[backup]\nat = \"02:30\"");
        for _ in 0..120 {
            bench.after(TimeDelta::minutes(1));
        }
        assert_eq!(bench.results(), 2);
    }

    #[test]
    fn after_a_start_of_the_machine_timers_get_time_to_catch_up() {
        let bench = bench("[backup]\nat = \"02:30\"");
        bench.run("backup", None, Exit::Done);
        bench.after(TimeDelta::zero());
        bench.clock.advance(TimeDelta::days(9));
        bench.look_from(None, Duration::from_secs(60));
        assert_eq!(bench.latest()[0].1, Level::Ok);
        bench.look_from(None, Duration::from_secs(3 * 3600));
        assert_eq!(bench.latest()[0].1, Level::Critical);
    }

    #[test]
    fn a_run_in_the_future_hides_nothing() {
        let bench = bench("[backup]\nat = \"02:30\"");
        let now = bench.clock.now();
        bench.clock.advance(TimeDelta::days(2000));
        bench.run("backup", None, Exit::Done);
        bench.after(TimeDelta::zero());
        bench.clock.set(now);
        assert_eq!(bench.after(TimeDelta::zero())[0].2, "has not run yet, expected every 24 h");
        assert_eq!(bench.after(TimeDelta::hours(27))[0].1, Level::Critical);
    }

    #[test]
    fn only_the_same_configuration_takes_a_job_away() {
        let mut bench = bench("[backup]\nat = \"02:30\"");
        bench.after(TimeDelta::zero());
        assert_eq!(bench.after(TimeDelta::days(2))[0].1, Level::Critical);
        bench.schedule = Schedule::new();
        bench.look_from(None, LONG_UP);
        bench.look_from(Some("/home/me/reliab.toml"), LONG_UP);
        assert_eq!(bench.latest()[0].1, Level::Critical);
        assert_eq!(bench.after(TimeDelta::zero()), [said("backup", Level::Ok, "no longer scheduled")]);
        assert_eq!(bench.state().cursor("schedule-backup").unwrap(), None);
    }
}
