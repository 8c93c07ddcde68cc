//! `restore`: a snapshot, or a part of it, back on disk; and the rehearsal of it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::event::Events;
use reliab_repo::format::snapshot::SourceError;
use reliab_repo::restore::{self as engine, Overwrite, RestoreOptions, RestoreReport, Skipped};
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help, document};
use crate::creation;
use crate::engine_errors::ENGINE_ERRORS;
use crate::events::{UiEvents, Warnings};
use crate::failure::{ErrorTable, UsageError};
use crate::listing::Listing;
use crate::repo::{OpenRepository, RepoArg, Selected, of};
use crate::scratch::Scratch;
use crate::session::{Job, Outcome, Session, threads};

const EXAMPLES: &str = "  \
  reliab restore --target /tmp/r                       the latest snapshot into a new folder
  reliab restore latest:data/app.db --target . --overwrite always
  reliab restore 2026-01-31 --target /tmp/r --verify   the last one of that day, read back and compared
  reliab restore --verify                              rehearse: restore to a scratch folder, compare, remove";

/// Entries that could not be restored and are shown as text.
const SHOWN: usize = 100;

/// Restore a snapshot, or a part of it.
///
/// SNAPSHOT is `latest` (the default), the beginning of an id, or a date; with :PATH only that part is restored.
/// With --verify and no target, the restore is a rehearsal in a scratch folder.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// What to restore.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    repo: RepoArg,
    /// The latest snapshot of this host; without it, of all hosts.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    host: Option<String>,
    /// Restore into this folder, which must be empty or absent unless --overwrite says otherwise.
    #[arg(long, short, value_name = "DIR")]
    target: Option<PathBuf>,
    /// Read every restored file back from disk and compare it with the snapshot.
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Rehearse in a new folder inside this one [default: the folder for temporary files].
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    scratch: Option<PathBuf>,
    /// Restore only what matches, as in .gitignore; may be repeated.
    #[arg(long, short, value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    include: Vec<String>,
    /// Leave out what matches; may be repeated.
    #[arg(long, short, value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    exclude: Vec<String>,
    /// What to do with what is already in the target.
    #[arg(long, value_name = "WHEN", requires = "target")]
    overwrite: Option<OverwriteArg>,
    /// Tell what would be restored, with --verbose entry by entry, but write nothing.
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Threads that decompress and write [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// What to do with what is already there.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverwriteArg {
    /// Replace whatever is there, but a folder that is not empty
    Always,
    /// Replace files whose size or time differ
    IfChanged,
    /// Keep whatever is there
    Never,
}

impl From<OverwriteArg> for Overwrite {
    fn from(arg: OverwriteArg) -> Self {
        match arg {
            OverwriteArg::Always => Self::Always,
            OverwriteArg::IfChanged => Self::IfChanged,
            OverwriteArg::Never => Self::Never,
        }
    }
}

/// Whether a folder, which need not be there yet, is another or lies in it.
fn lies_in(folder: &Path, other: &Path) -> bool {
    let (Ok(folder), Ok(other)) = (std::path::absolute(folder), other.canonicalize()) else { return false };
    // What is not there yet is what it is called; `..` in that leads back to what is there.
    let mut real = PathBuf::new();
    for part in folder.components() {
        if part == Component::ParentDir {
            real.pop();
        } else {
            real.push(part);
            real = real.canonicalize().unwrap_or(real);
        }
    }
    real.starts_with(other)
}

/// What a restore is asked to do, less the target of a rehearsal.
struct Options {
    engine: RestoreOptions,
    verify: bool,
    rehearsal: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    snapshot: String,
    time: String,
    repository: &'a Path,
    /// `None` for a rehearsal.
    target: Option<&'a Path>,
    dry_run: bool,
    rehearsal: bool,
    /// Whether what was restored was read back.
    verified: bool,
    seconds: f64,
    /// `None` if nothing was read back.
    verify_seconds: Option<f64>,
    #[serde(flatten)]
    done: &'a RestoreReport,
    /// What was read back and differs from the snapshot.
    differences: &'a [Skipped],
    #[serde(flatten)]
    warnings: Warnings,
}

/// What was done, and how long it took.
struct Done {
    report: RestoreReport,
    differences: Vec<Skipped>,
    took: Duration,
    verify_took: Option<Duration>,
    warnings: Warnings,
}

impl Tool for Args {
    const NAME: &'static str = "restore";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(mut self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        if self.target.is_none() && !self.verify {
            let text =
                "nowhere to restore to: name a new or empty folder with --target, or rehearse with --verify";
            return Err(UsageError(text.into()).into());
        }
        let repository = self.repo.open(session, ui)?;
        let selected = repository.select_of(self.snapshot.take().as_ref(), self.host.as_deref())?;
        session.record(&creation::job(&repository.folder), ui, |job, ui| {
            self.restore(&repository, &selected, job, ui)
        })
    }
}

impl Args {
    fn restore(
        self,
        repository: &OpenRepository,
        selected: &Selected,
        job: &Job<'_>,
        ui: &mut Ui,
    ) -> anyhow::Result<Outcome<Exit>> {
        let Some(target) = self.target.clone() else {
            let scratch = Scratch::create(self.scratch.as_deref())?;
            let options = self.resolve(scratch.path().to_owned(), true, selected);
            let outcome = run(repository, selected, &options, job, ui);
            scratch.remove()?;
            return outcome;
        };
        if target.as_os_str().is_empty() {
            return Err(
                UsageError("cannot restore into \"\": --target needs the name of a folder".into()).into()
            );
        }
        if target.exists() && !target.is_dir() {
            let text = format!(
                "cannot restore into {}: it is not a folder; name an empty or new one",
                target.display()
            );
            return Err(UsageError(text).into());
        }
        if lies_in(&target, &repository.folder) {
            let text = format!(
                "cannot restore into {}: it lies in the repository itself; name a folder outside of {}",
                target.display(),
                repository.folder.display()
            );
            return Err(UsageError(text).into());
        }
        run(repository, selected, &self.resolve(target, false, selected), job, ui)
    }

    fn resolve(self, target: PathBuf, rehearsal: bool, selected: &Selected) -> Options {
        let engine = RestoreOptions {
            target,
            below: selected.below.clone(),
            include: self.include,
            exclude: self.exclude,
            overwrite: self.overwrite.map(Overwrite::from),
            dry_run: self.dry_run,
            threads: threads(self.threads),
        };
        Options { engine, verify: self.verify, rehearsal }
    }
}

fn run(
    repository: &OpenRepository,
    selected: &Selected,
    options: &Options,
    job: &Job<'_>,
    ui: &mut Ui,
) -> anyhow::Result<Outcome<Exit>> {
    let done = act(repository, selected, options, job, ui)?;
    let exit = exit_of(&done);
    tell_troubles(selected, &done, ui);
    if ui.is_json() {
        ui.json(&document(Args::NAME, exit, report(repository, selected, options, &done)));
    }
    ui.summary(summary(selected, options, &done));
    let figures = json!({
        "snapshot": selected.stored.id.to_string(), "repository": repository.folder,
        "rehearsal": options.rehearsal, "verified": options.verify,
        "entries": done.report.entries, "bytes": done.report.bytes, "seconds": done.took.as_secs_f64(),
        "verify_seconds": done.verify_took.map(|took| took.as_secs_f64()),
        "skipped": done.report.skipped.len(), "differences": done.differences.len(),
    });
    Ok(Outcome::new(exit, figures))
}

fn act(
    repository: &OpenRepository,
    selected: &Selected,
    options: &Options,
    job: &Job<'_>,
    ui: &mut Ui,
) -> anyhow::Result<Done> {
    let in_repository = of(&repository.folder);
    let started = Instant::now();
    let events = UiEvents::start(ui, &job.stop, "restore");
    if selected.below.is_none() {
        events.total(selected.stored.snapshot.stats.bytes);
    }
    let listing = Listing::new(&events, ui);
    let result = engine::restore(&repository.repository, &selected.stored, &options.engine, &listing);
    let warnings = events.finish(ui);
    let mut done = Done {
        report: result.map_err(&in_repository)?,
        differences: Vec::new(),
        took: started.elapsed(),
        verify_took: None,
        warnings,
    };
    if options.verify {
        let started = Instant::now();
        let events = UiEvents::start(ui, &job.stop, "verify");
        let result = engine::check(&repository.repository, &selected.stored, &options.engine, &events);
        events.finish(ui);
        done.differences = result.map_err(&in_repository)?;
        // What was told to be left out is not told a second time.
        let paths = |list: &[Skipped]| list.iter().map(|known| known.path.clone()).collect::<HashSet<_>>();
        let (skipped, attributes) = (paths(&done.report.skipped), paths(&done.report.attributes));
        let is_told = |found: &Skipped| {
            skipped.contains(&found.path)
                || (found.reason == engine::XATTRS_DIFFER && attributes.contains(&found.path))
        };
        done.differences.retain(|found| !is_told(found));
        done.verify_took = Some(started.elapsed());
    }
    Ok(done)
}

/// What differs after a restore without complaint is damage, whoever did it; what may not be read back need not differ.
fn exit_of(done: &Done) -> Exit {
    let Done { report, differences, .. } = done;
    let is_damage = differences.iter().chain(&report.skipped).any(|entry| entry.damaged);
    let is_all = differences.is_empty() && report.skipped.is_empty() && report.attributes.is_empty();
    match (is_damage, is_all) {
        (true, _) => Exit::Damaged,
        (false, false) => Exit::Partial,
        (false, true) => Exit::Done,
    }
}

fn tell_troubles(selected: &Selected, done: &Done, ui: &mut Ui) {
    let (wrong, unread): (Vec<_>, Vec<_>) = done.differences.iter().partition(|found| found.damaged);
    for (kind, entries) in [
        ("not restored", done.report.skipped.iter().collect::<Vec<_>>()),
        ("restored in part", done.report.attributes.iter().collect()),
        ("wrong after the restore", wrong),
        ("not verified", unread),
    ] {
        for entry in entries.iter().take(SHOWN) {
            ui.error(format_args!("{kind}: {}: {}", entry.path, entry.reason));
        }
        if let Some(more @ 1..) = entries.len().checked_sub(SHOWN) {
            ui.error(format_args!("and {more} more {kind}"));
        }
    }
    let errors = &selected.stored.snapshot.errors;
    let unread = errors.iter().filter(|error| error.error != SourceError::CHANGED).count() as u64;
    if unread > 0 {
        let what = counted(unread, "path", "paths");
        ui.warn(format_args!(
            "{what} could not be read when the snapshot was made: \"errors\" of snapshots/{} names them",
            selected.stored.id
        ));
    }
    if done.report.owners_skipped {
        ui.note("owners were not restored: that needs root");
    }
}

fn report<'a>(
    repository: &'a OpenRepository,
    selected: &Selected,
    options: &'a Options,
    done: &'a Done,
) -> Report<'a> {
    Report {
        snapshot: selected.stored.id.to_string(),
        time: selected.stored.snapshot.time.to_rfc3339(),
        repository: &repository.folder,
        target: (!options.rehearsal).then_some(&options.engine.target),
        dry_run: options.engine.dry_run,
        rehearsal: options.rehearsal,
        verified: options.verify,
        seconds: done.took.as_secs_f64(),
        verify_seconds: done.verify_took.map(|took| took.as_secs_f64()),
        done: &done.report,
        differences: &done.differences,
        warnings: done.warnings.clone(),
    }
}

fn summary(selected: &Selected, options: &Options, done: &Done) -> String {
    let name = match (options.rehearsal, options.engine.dry_run) {
        (true, _) => "rehearsal: restored ",
        (_, true) => "dry run: would restore ",
        _ => "restored ",
    };
    let mut parts = vec![format!(
        "{name}snapshot {}: {} ({}) in {}",
        selected.stored.id.short(),
        counted(done.report.entries, "entry", "entries"),
        units::bytes(done.report.bytes),
        units::duration(done.took),
    )];
    if done.report.kept > 0 {
        parts.push(format!("{} kept", counted(done.report.kept, "file", "files")));
    }
    if !done.report.skipped.is_empty() {
        let skipped = done.report.skipped.len() as u64;
        parts.push(format!("{} not restored", counted(skipped, "entry", "entries")));
    }
    if let Some(took) = done.verify_took {
        let wrong = done.differences.iter().filter(|found| found.damaged).count() as u64;
        let unread = done.differences.len() as u64 - wrong;
        let result = match (wrong, unread, done.report.skipped.is_empty()) {
            (0, 0, true) => "every byte is as it was".to_owned(),
            (0, 0, false) => "the rest is as it was".to_owned(),
            (0, unread, _) => {
                format!("{} not verified, the rest is as it was", counted(unread, "entry", "entries"))
            }
            (wrong, ..) => format!("{} wrong", counted(wrong, "entry is", "entries are")),
        };
        parts.push(format!("read back in {}: {result}", units::duration(took)));
    }
    if options.rehearsal {
        parts.push("scratch folder removed".to_owned());
    }
    // The first part may be all there is; the rest has a line of its own, to fit 80 columns.
    let rest = parts.split_off(1);
    if rest.is_empty() { parts.concat() } else { format!("{}\n  {}", parts.concat(), rest.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_restore_goes_into_the_repository() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("backups");
        std::fs::create_dir_all(repository.join("packs")).unwrap();
        std::os::unix::fs::symlink("backups", dir.path().join("link")).unwrap();
        for inside in
            ["backups", "backups/new", "backups/packs/a/b", "link/new", "new/../backups", "backups/./new/"]
        {
            assert!(lies_in(&dir.path().join(inside), &repository), "{inside}");
        }
        for outside in ["", "new", "backups2/new", "backups/../new", "link/../new"] {
            assert!(!lies_in(&dir.path().join(outside), &repository), "{outside}");
        }
    }
}
