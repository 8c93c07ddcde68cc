//! `restore`: a snapshot, or a part of it, back on disk; the rehearsal of it; and the dry run, which only tells.

mod advice;
mod report;

use std::collections::HashSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_repo::event::Events;
use reliab_repo::restore::{self as engine, Overwrite, RestoreOptions, Skipped};
use serde_json::json;

use self::report::Done;
use crate::app::{Tool, after_help, document};
use crate::creation;
use crate::engine_errors::ENGINE_ERRORS;
use crate::events::UiEvents;
use crate::failure::{ErrorTable, UsageError};
use crate::listing::Listing;
use crate::repo::{OpenRepository, RepoArg, Selected, of};
use crate::scratch::Scratch;
use crate::session::{Job, Outcome, Session, threads};

const EXAMPLES: &str = "  \
  reliab restore --target /tmp/r                       the latest snapshot into a new folder
  reliab restore latest:data/app.db --target . --overwrite always
  reliab restore 2026-01-31 --target /tmp/r --verify   the last one of that day, read back and compared
  reliab restore --target /srv --overwrite if-changed --dry-run --verbose
                                                       what it would do, path by path
  reliab restore --verify                              rehearse: restore to a scratch folder, compare, remove";

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
    /// Tell what would be done to what is in the target, with --verbose path by path, but write nothing.
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
        let (job, is_dry) = (creation::job(&repository.folder), self.dry_run);
        let act = |job: &Job<'_>, ui: &mut Ui| self.restore(&repository, &selected, job, ui);
        if is_dry { session.unrecorded(ui, act) } else { session.record(&job, ui, act) }
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
    let exit = done.exit();
    done.tell_troubles(repository, selected, options, ui);
    if ui.is_json() {
        ui.json(&document(Args::NAME, exit, done.document(repository, selected, options)));
    }
    ui.summary(done.summary(selected, options));
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
    let paths = listing.into_previewed().filter(|_| options.engine.dry_run);
    let warnings = events.finish(ui);
    let mut done = Done {
        report: result.map_err(|error| advice::on(error, options).unwrap_or_else(&in_repository))?,
        paths,
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
