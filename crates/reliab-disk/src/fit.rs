//! Whether the next backup and a restore drill will fit, by the figures of the last backups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reliab_common::exit::Level;
use reliab_common::record::{self, Run};
use reliab_common::session::Job;
use reliab_common::ui::Ui;
use reliab_common::units;
use serde_json::Value;

use crate::answer::{Answer, Measure};
use crate::question::{Question, absolute, ask};
use crate::report::{Figures, SizeReport, name_of};
use crate::space::Space;

/// So many runs are looked at.
const RUNS: u32 = 50;
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
    let runs = record::recent(state, "backup", RUNS).unwrap_or_else(|error| {
        ui.warn(format_args!("what the next backup needs is not known: {error}"));
        Vec::new()
    });
    let scratch = job.session.env.var("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    let needs = needs(&runs, &scratch);
    let deadline = job.session.config.disk.deadline;
    let question = |need: &Need| Question { what: Measure::Path, path: need.place.clone(), deadline };
    let questions: Vec<Question> = needs.iter().map(question).collect();
    let answers = ask(&questions, job)?;
    let elsewhere = |answer: &Result<Answer, _>| matches!(answer, Ok(Answer::Path { exists: false, .. }));
    let reports =
        needs.into_iter().zip(answers).filter(|(need, answer)| !(need.relative && elsewhere(answer)));
    Ok(reports.map(|(need, answer)| report(need, answer.map_err(|error| error.text().to_owned()))).collect())
}

fn report(need: Need, answer: Result<Answer, String>) -> SizeReport {
    let Need { kind, place, bytes, entries, level, .. } = need;
    let name = name_of(&place);
    let wanted = units::bytes(bytes);
    let (level, summary, free) = match answer {
        Ok(Answer::Path { space, .. }) => {
            let free = units::bytes(space.free);
            match lacks(&space, bytes, entries) {
                None => (Level::Ok, format!("needs about {wanted} of {free}: fits"), Some(space.free)),
                Some(what) => {
                    let text = format!("needs about {wanted} of {free}: {what}; make room before it runs");
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
fn needs(runs: &[Run], scratch: &Path) -> Vec<Need> {
    let mut repositories: BTreeMap<&Path, Vec<&Value>> = BTreeMap::new();
    for figures in runs.iter().filter_map(|run| Some(&run.end.as_ref()?.figures)) {
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
        if drill.as_ref().is_none_or(|drill| drill.bytes < whole) {
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
    use reliab_common::record::RunEnd;
    use serde_json::json;

    const MIB: u64 = 1 << 20;

    fn run(repository: &str, stats: Value) -> Run {
        let at = "2026-11-22T12:00:00Z".parse().unwrap();
        let figures = json!({ "repository": repository, "stats": stats });
        let end = Some(RunEnd { at, outcome: "done".into(), exit: 0, figures });
        Run { tool: "backup".into(), job: "j".into(), started: at, end, pid: 1, host: "h".into() }
    }

    fn stats(bytes: u64, files: u64, new_files: u64, added: u64) -> Value {
        json!({ "bytes": bytes, "files": files, "entries": files + 1, "new_files": new_files, "added_bytes": added })
    }

    fn of(runs: &[Run]) -> Vec<(&'static str, String, u64)> {
        let needs = needs(runs, Path::new("/scratch"));
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
    }

    #[test]
    fn remote_repositories_and_unfinished_runs_say_nothing() {
        let mut killed = run("/b", stats(1, 1, 1, 1));
        killed.end = None;
        let failed = run("/b", Value::Null);
        let remote = run("s3://bucket/x", stats(1, 1, 1, 1));
        assert_eq!(of(&[killed, failed, remote]), []);
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
            drill.level == Level::Warning && drill.summary.contains("too few inodes"),
            "{}",
            drill.summary
        );
        assert_eq!(report(need("drill", MIB, 5, Level::Warning), answer()).level, Level::Ok);
        assert_eq!(report(need("drill", MIB, 5, Level::Warning), Err("so".into())).level, Level::Unknown);
    }
}
