//! `verify`: is the repository itself whole?

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units::{self, Percent};
use reliab_repo::repository::Repository;
use reliab_repo::verify::{self as engine, Finding, Level, Lists, Sample, VerifyOptions, VerifyReport};
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help, document};
use crate::creation;
use crate::engine_errors::ENGINE_ERRORS;
use crate::events::{UiEvents, Warnings};
use crate::failure::{ErrorTable, UsageError};
use crate::known_damage::REPAIR;
use crate::repo::{RepoArg, of, storage};
use crate::session::{Job, Outcome, Session, threads};

const EXAMPLES: &str = "  \
  reliab verify                              every byte of every pack and every blob
  reliab verify --level structure            only that all that is needed is there; quick
  reliab verify --sample 5%                  a twentieth of the packs, the next twentieth next time";

/// Check the repository itself for damage.
///
/// Each finding names the object, what is wrong with it, and the snapshots and paths that it hits.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    #[command(flatten)]
    repo: RepoArg,
    /// How deep to look.
    #[arg(long, value_name = "LEVEL", default_value = "data")]
    level: LevelArg,
    /// Read only this share of the packs, going on where the last such run ended.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    sample: Option<Percent>,
    /// Threads that read [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LevelArg {
    /// Everything that is referenced exists and parses
    Structure,
    /// Also: the bytes of each file match its name
    Packs,
    /// Also: each blob decompresses and matches its id, each file its digest
    Data,
}

impl From<LevelArg> for Level {
    fn from(arg: LevelArg) -> Self {
        match arg {
            LevelArg::Structure => Self::Structure,
            LevelArg::Packs => Self::Packs,
            LevelArg::Data => Self::Data,
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    repository: &'a Path,
    level: Level,
    /// Part of the packs that was asked for, 0 to 1; `None`: all.
    sample: Option<f64>,
    seconds: f64,
    #[serde(flatten)]
    found: &'a VerifyReport,
    #[serde(flatten)]
    warnings: Warnings,
}

impl Tool for Args {
    const NAME: &'static str = "verify";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let folder = self.repo.folder(session)?;
        if self.sample.is_some() && self.level == LevelArg::Structure {
            let text = "cannot use --sample with --level structure: that level reads no packs";
            return Err(UsageError(text.into()).into());
        }
        session.record(&creation::job(&folder), ui, |job, ui| self.verify(&folder, job, ui))
    }
}

impl Args {
    fn verify(&self, folder: &Path, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Exit>> {
        let cursor = self.sample.and_then(|_| Cursor::of(folder, job, ui));
        let started = Instant::now();
        let options = self.resolve(cursor.as_ref().and_then(|cursor| cursor.read(ui)));
        let events = UiEvents::start(ui, &job.stop, "verify");
        let result = engine::verify(storage(folder), &options, &events);
        let took = started.elapsed();
        let warnings = events.finish(ui);
        let found = result.map_err(of(folder))?;
        if let (Some(cursor), Some(next)) = (&cursor, &found.cursor) {
            cursor.write(next, ui);
        }
        let exit = exit_of(&found);
        tell(&found, ui);
        let sample = self.sample.map(Percent::fraction);
        if ui.is_json() {
            let (level, seconds) = (options.level, took.as_secs_f64());
            let report = Report { repository: folder, level, sample, seconds, found: &found, warnings };
            ui.json(&document(Self::NAME, exit, report));
        }
        ui.summary(self.summary(folder, &found, took));
        let figures = json!({
            "repository": folder, "level": options.level, "sample": sample, "seconds": took.as_secs_f64(),
            "location": creation::location(folder).display().to_string(),
            "lost": found.findings.iter().filter(|finding| finding.data_lost).count(),
            "findings": found.findings.len(), "packs": found.packs, "blobs": found.blobs, "bytes": found.bytes,
        });
        Ok(Outcome::new(exit, figures))
    }

    fn resolve(&self, cursor: Option<String>) -> VerifyOptions {
        let sample = self.sample.map(|share| Sample { fraction: share.fraction(), cursor });
        VerifyOptions { level: self.level.into(), sample, threads: threads(self.threads) }
    }

    fn summary(&self, folder: &Path, found: &VerifyReport, took: std::time::Duration) -> String {
        let result = match found.findings.len() as u64 {
            0 => "no damage found".to_owned(),
            findings => counted(findings, "finding", "findings"),
        };
        let mut seen = vec![counted(found.snapshots, "snapshot", "snapshots")];
        // How much was looked at depends on the level.
        seen.extend((found.packs > 0).then(|| counted(found.packs, "pack", "packs")));
        seen.extend((found.blobs > 0).then(|| counted(found.blobs, "blob", "blobs")));
        seen.extend((found.bytes > 0).then(|| format!("{} read", units::bytes(found.bytes))));
        let is_shallow = self.level == LevelArg::Structure;
        let unread = if is_shallow { "; the contents of files were not read" } else { "" };
        let unclaimed = unclaimed(found.unclaimed_lists);
        format!(
            "{}: {result}\n  looked at {} in {}{unread}{unclaimed}",
            folder.display(),
            seen.join(", "),
            units::duration(took),
        )
    }
}

/// A line on lists of entries without a snapshot. It is no finding: a run that was cut off is nothing to worry about.
fn unclaimed(lists: u64) -> String {
    if lists == 0 {
        return String::new();
    }
    let belong = if lists == 1 { "belongs" } else { "belong" };
    let lists = counted(lists, "list of entries", "lists of entries");
    format!(
        "\n  {lists} {belong} to no readable snapshot: a run was cut off, or a snapshot was deleted or damaged"
    )
}

/// A share that is not nothing: a sample that reads no pack would find no damage.
fn share(text: &str) -> Result<Percent, UsageError> {
    let share = units::parse_percent(text).map_err(|error| UsageError(error.to_string()))?;
    if share.fraction() > 0.0 {
        return Ok(share);
    }
    Err(UsageError("a sample of nothing finds nothing: give more than 0%".into()))
}

/// Where the next sample of a repository begins, kept in the state file.
struct Cursor<'a> {
    job: &'a Job<'a>,
    name: String,
}

impl<'a> Cursor<'a> {
    /// `None` where the repository has no readable configuration; the verification tells why.
    fn of(folder: &Path, job: &'a Job<'a>, ui: &mut Ui) -> Option<Self> {
        let repository = Repository::open(storage(folder)).ok()?;
        if job.recorder.state().is_none() {
            ui.warn("without the state file each sample begins at the first pack");
        }
        Some(Self { job, name: format!("verify-sample-{}", repository.config().id) })
    }

    fn read(&self, ui: &mut Ui) -> Option<String> {
        self.job.recorder.state()?.cursor(&self.name).unwrap_or_else(|error| {
            ui.warn(format_args!("the sample begins at the first pack: {error}"));
            None
        })
    }

    fn write(&self, value: &str, ui: &mut Ui) {
        let Some(state) = self.job.recorder.state() else { return };
        if let Err(error) = state.set_cursor(&self.name, value) {
            ui.warn(format_args!("the next sample will read the same packs: {error}"));
        }
    }
}

/// A damaged index costs nothing but time, but somebody should look at the disk all the same.
fn exit_of(found: &VerifyReport) -> Exit {
    if found.findings.is_empty() { Exit::Done } else { Exit::Damaged }
}

fn tell(found: &VerifyReport, ui: &mut Ui) {
    for finding in &found.findings {
        if finding.data_lost {
            ui.error(describe(finding));
        } else {
            ui.warn(describe(finding));
        }
    }
    if found.findings.iter().any(|finding| finding.data_lost) {
        ui.warn(format_args!("the repository is damaged: {REPAIR}"));
    }
}

/// One line on what is wrong, and lines on what it hits.
fn describe(finding: &Finding) -> String {
    let harmless = if finding.data_lost { "" } else { " (nothing is lost by it)" };
    let mut lines = vec![format!("{}: {}{harmless}", finding.object, finding.problem)];
    if !finding.snapshots.is_empty() {
        let ids: Vec<&str> = finding.snapshots.iter().map(|id| &id[..id.len().min(8)]).collect();
        let snapshots = counted(ids.len() as u64, "snapshot", "snapshots");
        lines.push(format!("  hits {snapshots}: {}", ids.join(" ")));
    }
    if finding.lists == Lists::All {
        lines.push("  hits the list of files of a snapshot, so all of it".to_owned());
    }
    // A list that is hit is told of as what it is a list of.
    let is_list = |path: &str| finding.lists == Lists::All && path == ".";
    let paths = finding.paths.iter().filter(|path| !is_list(path));
    lines.extend(paths.map(|path| format!("  hits {path}")));
    if finding.lists == Lists::Part {
        lines.push(
            "  hits a part of the list of files: of what follows these paths not all is known".to_owned(),
        );
    }
    if let Some(more @ 1..) = finding.path_count.checked_sub(finding.paths.len() as u64) {
        lines.push(format!("  and {}", counted(more, "more path", "more paths")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_without_a_snapshot_are_told_only_where_there_are_any() {
        assert_eq!(unclaimed(0), "");
        assert!(unclaimed(1).starts_with("\n  1 list of entries belongs to no readable snapshot: "));
        assert!(unclaimed(2).starts_with("\n  2 lists of entries belong to no readable snapshot: "));
    }

    #[test]
    fn a_list_that_is_hit_is_told_as_what_it_is() {
        let told = |lists| {
            describe(&Finding {
                object: "packs/ab".to_owned(),
                problem: "it is missing".to_owned(),
                snapshots: vec!["0123456789".to_owned()],
                paths: vec![".".to_owned()],
                path_count: 1,
                lists,
                data_lost: true,
            })
        };
        let head = "packs/ab: it is missing\n  hits 1 snapshot: 01234567\n";
        let all = "  hits the list of files of a snapshot, so all of it";
        assert_eq!(told(Lists::All), format!("{head}{all}"));
        assert_eq!(told(Lists::None), format!("{head}  hits ."));
        assert!(told(Lists::Part).starts_with(&format!("{head}  hits .\n  hits a part of the list")));
    }

    #[test]
    fn a_sample_is_more_than_nothing() {
        for text in ["0.1%", "5", "100%"] {
            assert!(share(text).is_ok(), "{text}");
        }
        for text in ["0", "0%", "0.0 %", "-0", "lots"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
