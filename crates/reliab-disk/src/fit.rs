//! Whether the next backup and a restore drill will fit, by the figures of the last backups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::clock::Clock as _;
use reliab_common::config::{Schedule, ScheduledJob};
use reliab_common::exit::Level;
use reliab_common::session::Job;
use reliab_common::state::{State, StateError, nanos};
use reliab_common::ui::Ui;
use reliab_common::units;
use rusqlite::params;
use serde_json::Value;

use crate::answer::{Answer, Measure};
use crate::question::{Question, absolute, ask};
use crate::report::{Figures, SizeReport, name_of};
use crate::space::Space;

/// So many backups of each repository are looked at.
const RUNS: u32 = 50;
/// A repository without a backup for longer than this many days is no longer in use.
const IN_USE_DAYS: i64 = 35;
/// The next backup may be larger than the largest of the last ones by this part.
const MARGIN: u64 = 5;
/// A file or directory takes up to a block more than its bytes when it is restored.
const BLOCK: u64 = 4096;

/// What a job will need, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    kind: &'static str,
    place: PathBuf,
    bytes: u64,
    entries: u64,
    level: Level,
    /// Whether the place was given relative to a working folder, which may be another than this one.
    relative: bool,
}

/// Compares what the next backup and a drill will need with what is free where they write.
pub(crate) fn check(job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Vec<SizeReport>> {
    let Some(state) = job.recorder.state() else { return Ok(Vec::new()) };
    let since = job.session.clock.now() - TimeDelta::days(IN_USE_DAYS);
    let backups = backups(state, since).unwrap_or_else(|error| {
        ui.warn(format_args!("what the next backup needs is not known: {error}"));
        Vec::new()
    });
    let env = &job.session.env;
    let drilled = drills(&job.session.config.schedule);
    let scratch = drilled.then(|| env.var("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from));
    let needs = needs(&backups, scratch.as_deref());
    let deadline = job.session.config.disk.deadline;
    let question = |need: &Need| Question { what: Measure::Path, path: need.place.clone(), deadline };
    let questions: Vec<Question> = needs.iter().map(question).collect();
    let answers = ask(&questions, job)?;
    let elsewhere = |answer: &Result<Answer, _>| matches!(answer, Ok(Answer::Path { exists: false, .. }));
    let reports =
        needs.into_iter().zip(answers).filter(|(need, answer)| !(need.relative && elsewhere(answer)));
    Ok(reports.map(|(need, answer)| report(need, answer.map_err(|error| error.text().to_owned()))).collect())
}

/// Whether a restore drill is scheduled.
fn drills(schedule: &Schedule) -> bool {
    let is_drill = |(name, job): (&String, &ScheduledJob)| {
        job.tool(name) == "restore" && job.command(name).iter().any(|word| word == "--verify")
    };
    schedule.iter().any(is_drill)
}

/// What was told of the last backups into each repository that is in use, the latest first.
///
/// Asked for each repository by itself: a frequent one must not push out one that is backed up to once a week.
fn backups(state: &State, since: DateTime<Utc>) -> Result<Vec<Value>, StateError> {
    let sql = "SELECT figures FROM
            (SELECT id, started, figures,
                row_number() OVER (PARTITION BY repository ORDER BY started DESC, id DESC) AS place,
                max(started) OVER (PARTITION BY repository) AS latest
            FROM (SELECT id, started, figures, json_extract(figures, '$.repository') AS repository FROM run
                WHERE tool = 'backup' AND ended IS NOT NULL AND json_valid(figures)
                    AND json_type(figures, '$.stats') = 'object'))
        WHERE place <= ?1 AND latest >= ?2 ORDER BY started DESC, id DESC";
    let texts: Vec<String> = state
        .with(|db| db.prepare(sql)?.query_map(params![RUNS, nanos(since)], |row| row.get(0))?.collect())?;
    Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
}

fn report(need: Need, answer: Result<Answer, String>) -> SizeReport {
    let Need { kind, place, bytes, entries, level, .. } = need;
    let name = name_of(&place);
    let wanted = units::bytes(bytes);
    let step = match kind {
        "drill" => "make room in this folder, or let TMPDIR name another for the drill",
        _ => "make room before it runs",
    };
    let (level, summary, free) = match answer {
        Ok(Answer::Path { space, .. }) => {
            let free = units::bytes(space.free);
            match lacks(&space, bytes, entries) {
                None => (Level::Ok, format!("needs about {wanted} of {free}: fits"), Some(space.free)),
                Some(what) => {
                    let text = format!("needs about {wanted} of {free}: {what}; {step}");
                    (level, text, Some(space.free))
                }
            }
        }
        Ok(_) => (Level::Unknown, format!("needs about {wanted}; the room there is not known"), None),
        Err(reason) => {
            (Level::Unknown, format!("needs about {wanted}; the room there is not known: {reason}"), None)
        }
    };
    let figures = [("need", Some(bytes)), ("free", free)];
    let figures = figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    SizeReport { kind, name, level, summary, figures: Figures(figures) }
}

fn lacks(space: &Space, bytes: u64, entries: u64) -> Option<&'static str> {
    if bytes > space.free {
        Some("does not fit")
    } else if space.inodes > 0 && entries > space.inodes_free {
        Some("too few inodes")
    } else {
        None
    }
}

/// What the next backup into each repository and a drill of the last one will need.
///
/// `scratch` is where a drill restores to; `None` if there is none.
fn needs(backups: &[Value], scratch: Option<&Path>) -> Vec<Need> {
    let mut repositories: BTreeMap<&Path, Vec<&Value>> = BTreeMap::new();
    for figures in backups {
        let Some(repository) = figures["repository"].as_str() else { continue };
        // What is on another machine has room of its own.
        if figures["stats"].is_object() && !repository.contains("://") {
            repositories.entry(Path::new(repository)).or_default().push(figures);
        }
    }
    let mut needs = Vec::new();
    let mut drill: Option<Need> = None;
    for (repository, figures) in repositories {
        let (place, relative) = (absolute(repository), repository.is_relative());
        let added = |figures: &&&Value| number(&figures["stats"], "added_bytes");
        let routine = figures.iter().filter(|figures| !is_first(&figures["stats"]));
        // Where there was only a first backup, the next is no larger than that.
        let most = routine.max_by_key(added).or_else(|| figures.iter().max_by_key(added));
        let most = most.map_or(0, |figures| added(&figures));
        let bytes = most.saturating_add(most / MARGIN);
        needs.push(Need { kind: "backup", place, bytes, entries: 0, level: Level::Critical, relative });
        let stats = &figures[0]["stats"];
        let entries = number(stats, "entries");
        let whole = number(stats, "bytes").saturating_add(entries.saturating_mul(BLOCK));
        if let Some(scratch) = scratch.filter(|_| drill.as_ref().is_none_or(|drill| drill.bytes < whole)) {
            let place = scratch.to_owned();
            let (kind, level) = ("drill", Level::Warning);
            drill = Some(Need { kind, place, bytes: whole, entries, level, relative: false });
        }
    }
    needs.extend(drill);
    needs
}

/// Whether a run had nothing to compare with, and so stored everything.
fn is_first(stats: &Value) -> bool {
    number(stats, "new_files") == number(stats, "files")
}

fn number(stats: &Value, name: &str) -> u64 {
    stats[name].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::clock::FixedClock;
    use reliab_common::exit::Exit;
    use reliab_common::fact::Facts;
    use reliab_common::record::{Recorder, RunRecord};
    use serde_json::json;

    const MIB: u64 = 1 << 20;

    fn run(repository: &str, stats: Value) -> Value {
        json!({ "repository": repository, "stats": stats })
    }

    fn stats(bytes: u64, files: u64, new_files: u64, added: u64) -> Value {
        json!({ "bytes": bytes, "files": files, "entries": files + 1, "new_files": new_files, "added_bytes": added })
    }

    fn of(backups: &[Value]) -> Vec<(&'static str, String, u64)> {
        let needs = needs(backups, Some(Path::new("/scratch")));
        needs.into_iter().map(|need| (need.kind, name_of(&need.place), need.bytes)).collect()
    }

    #[test]
    fn the_next_backup_is_as_large_as_the_largest_that_was_not_the_first() {
        let runs = [
            run("/b", stats(900 * MIB, 9, 1, 5 * MIB)),
            run("/b", stats(800 * MIB, 8, 2, 50 * MIB)),
            run("/b", stats(700 * MIB, 7, 7, 700 * MIB)),
        ];
        let drill = 900 * MIB + 10 * BLOCK;
        assert_eq!(of(&runs), [("backup", "/b".into(), 60 * MIB), ("drill", "/scratch".into(), drill)]);
        assert_eq!(of(&runs[2..])[0].2, 840 * MIB);
        assert!(needs(&runs, None).iter().all(|need| need.kind == "backup"));
    }

    #[test]
    fn a_drill_is_one_that_is_scheduled() {
        let of = |jobs: Value| drills(&serde_json::from_value(jobs).unwrap());
        assert!(!of(json!({ "backup": { "at": "02:30" } })));
        assert!(!of(json!({ "restore": { "at": "02:30", "command": ["restore", "latest"] } })));
        assert!(of(json!({ "drill": { "at": "02:30", "command": ["restore", "--verify"] } })));
    }

    #[test]
    fn each_repository_has_its_own_last_backups() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(dir.path()).0;
        let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
        let run = |figures: &Value| {
            let run = RunRecord::start(&recorder, "backup", "j", None, &clock);
            run.finish(Exit::Done, figures, &Facts::default()).unwrap();
        };
        run(&run_of("/retired"));
        clock.advance(TimeDelta::days(30));
        run(&run_of("/weekly"));
        run(&json!({ "error": "disk full" }));
        for _ in 0..60 {
            clock.advance(TimeDelta::hours(3));
            run(&run_of("/often"));
        }
        let found = backups(recorder.state().unwrap(), clock.now() - TimeDelta::days(IN_USE_DAYS)).unwrap();
        let count = |name: &str| found.iter().filter(|figures| figures["repository"] == name).count();
        assert_eq!((found.len(), count("/weekly"), count("/often"), count("/retired")), (51, 1, 50, 0));
    }

    fn run_of(repository: &str) -> Value {
        run(repository, stats(1, 1, 1, 1))
    }

    #[test]
    fn remote_repositories_and_failed_runs_say_nothing() {
        let failed = run("/b", Value::Null);
        let remote = run("s3://bucket/x", stats(1, 1, 1, 1));
        assert_eq!(of(&[failed, remote]), []);
    }

    #[test]
    fn what_does_not_fit_is_critical_for_a_backup_and_a_warning_for_a_drill() {
        let space = Space { size: 100 * MIB, unused: 10 * MIB, free: 10 * MIB, inodes: 10, inodes_free: 5 };
        let answer = || Ok(Answer::Path { found: "/".into(), exists: true, space });
        let need = |kind, bytes, entries, level| Need {
            kind,
            place: "/x".into(),
            bytes,
            entries,
            level,
            relative: false,
        };
        let backup = report(need("backup", 11 * MIB, 0, Level::Critical), answer());
        assert_eq!((backup.level, backup.figures.0.len()), (Level::Critical, 2));
        assert!(
            backup.summary.contains("needs about 11.0 MiB of 10.0 MiB: does not fit"),
            "{}",
            backup.summary
        );
        let drill = report(need("drill", MIB, 6, Level::Warning), answer());
        assert!(
            drill.level == Level::Warning
                && drill.summary.ends_with(
                    "too few inodes; make room in this folder, or let TMPDIR name another for the drill"
                ),
            "{}",
            drill.summary
        );
        assert_eq!(report(need("drill", MIB, 5, Level::Warning), answer()).level, Level::Ok);
        assert_eq!(report(need("drill", MIB, 5, Level::Warning), Err("so".into())).level, Level::Unknown);
    }
}
