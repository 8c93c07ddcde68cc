//! Restore: entries are streamed, grouped by the blob they need, and written by several threads.
//!
//! Folders are made first and stamped when all that is in them is written; second names of a file are linked then, too.
//! A window of entries is planned while the one before it is written.

mod check;
mod finish;
mod held;
mod linked;
mod plan;
mod preview;
mod shared;
mod standing;
mod target;
mod temporary;
mod whole;
mod worker;
mod write;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;

pub use check::{XATTRS_DIFFER, check};
pub use preview::{Action, Preview};

use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::Entry;
use crate::manifest::{Gap, Manifest};
use crate::repository::{Repository, StoredSnapshot};
use crate::walk::compile_patterns;
use held::Held;
use target::Target;

/// What to do with what is already in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Replace whatever is there.
    Always,
    /// Replace files whose size or mtime differ.
    IfChanged,
    /// Keep whatever is there.
    Never,
}

/// What to restore, and where.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Folder to restore into; created if absent.
    pub target: PathBuf,
    /// Only this path of the snapshot and what is below it.
    pub below: Option<Vec<u8>>,
    /// Patterns (as in `.gitignore`) of what to restore; empty: everything.
    pub include: Vec<String>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// What to do with what is already there; `None`: the target must be empty or absent.
    pub overwrite: Option<Overwrite>,
    /// Write nothing.
    pub dry_run: bool,
    /// Threads that decompress and write.
    pub threads: usize,
}

/// An entry that was not restored, or not fully.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Path in the snapshot, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
    /// True if data of the repository is missing or damaged; false if the target could not take it.
    pub damaged: bool,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RestoreReport {
    /// Entries restored.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files left as they were (`Overwrite::IfChanged`, `Never`).
    pub kept: u64,
    /// What could not be restored.
    pub skipped: Vec<Skipped>,
    /// Attributes that the target did not take, of entries that were restored.
    pub attributes: Vec<Skipped>,
    /// True if owners could not be set, for want of privileges.
    pub owners_skipped: bool,
    /// After a dry run: what it found in the target.
    #[serde(flatten)]
    pub preview: Option<Preview>,
}

/// Restores a snapshot, or a part of it, into a folder.
pub fn restore(
    repository: &Repository,
    snapshot: &StoredSnapshot,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<RestoreReport> {
    let selection = Selection::watching(options)?;
    let manifest = Manifest::open(repository, &snapshot.snapshot, options.below.as_deref())?;
    if options.dry_run {
        let report = preview::run(manifest, &selection, options, events)?;
        let report = something(report, snapshot, options)?;
        selection.tell_unmatched(&report, events);
        return Ok(report);
    }
    let held = Held::take(&options.target)?;
    let done = require_room(options)
        .and_then(|fresh| Target::open(&held, &options.target, fresh))
        .and_then(|target| write::run(repository, manifest, &selection, &target, options, events))
        .and_then(|report| something(report, snapshot, options));
    match &done {
        Ok(report) => selection.tell_unmatched(report, events),
        Err(_) => held.give_back(),
    }
    done
}

/// An error instead of the report of a restore that found nothing.
fn something(
    report: RestoreReport,
    snapshot: &StoredSnapshot,
    options: &RestoreOptions,
) -> Result<RestoreReport> {
    let is_nothing = report.entries + report.kept == 0 && report.skipped.is_empty();
    match nothing_there(snapshot, options) {
        Some(error) if is_nothing => Err(error),
        _ => Ok(report),
    }
}

/// Why nothing was restored, if a part of the snapshot was asked for.
fn nothing_there(snapshot: &StoredSnapshot, options: &RestoreOptions) -> Option<Error> {
    let id = snapshot.id.short();
    let see = format!("`reliab ls {id}` shows what it holds");
    let unfit = |option, patterns: &[String], what| Error::Usage {
        option,
        value: patterns.join("\n"),
        reason: format!("{what} in snapshot {id}; {see}"),
    };
    if !options.include.is_empty() {
        return Some(unfit("--include", &options.include, "nothing matches"));
    }
    if let Some(below) = &options.below {
        let spec = format!("{id}:{}", String::from_utf8_lossy(below));
        return Some(Error::NoSnapshot { spec, reason: format!("it holds no such path; {see}") });
    }
    (!options.exclude.is_empty()).then(|| unfit("--exclude", &options.exclude, "it leaves out everything"))
}

/// Refuses a target that is in the way; true if it is empty or absent.
fn require_room(options: &RestoreOptions) -> Result<bool> {
    let path = &options.target;
    let empty = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(Error::local("list", path)(error)),
    };
    if !empty && options.overwrite.is_none() {
        let reason =
            "it is not empty; name an empty or new folder, or say what to do with --overwrite".to_owned();
        return Err(Error::Target { path: path.clone(), reason });
    }
    Ok(empty)
}

/// Which entries of the snapshot are wanted.
pub(crate) struct Selection {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
    /// Of several patterns of what to restore, each alone.
    watched: Vec<Watched>,
}

/// A pattern, and whether something has matched it.
struct Watched {
    text: String,
    pattern: Gitignore,
    is_matched: Cell<bool>,
}

impl Watched {
    fn new(pattern: &String) -> Result<Self> {
        let compiled = compile_patterns("--include", std::slice::from_ref(pattern))?;
        Ok(Self { text: pattern.clone(), pattern: compiled, is_matched: Cell::new(false) })
    }
}

impl Selection {
    fn new(options: &RestoreOptions) -> Result<Self> {
        let compile = |option, patterns: &[String]| {
            (!patterns.is_empty()).then(|| compile_patterns(option, patterns)).transpose()
        };
        Ok(Self {
            include: compile("--include", &options.include)?,
            exclude: compile("--exclude", &options.exclude)?,
            watched: Vec::new(),
        })
    }

    /// The same; it notes which patterns of what to restore match nothing. One that is the only one is an error then.
    fn watching(options: &RestoreOptions) -> Result<Self> {
        let mut selection = Self::new(options)?;
        if options.include.len() > 1 {
            selection.watched = options.include.iter().map(Watched::new).collect::<Result<_>>()?;
            // What takes back others, or is a comment, matches nothing by itself.
            selection.watched.retain(|watched| watched.pattern.num_ignores() > 0);
        }
        Ok(selection)
    }

    /// Warns of patterns that matched nothing; where entries could not be read nobody knows.
    fn tell_unmatched(&self, report: &RestoreReport, events: &dyn Events) {
        if report.skipped.iter().any(|skipped| skipped.damaged) {
            return;
        }
        for watched in self.watched.iter().filter(|watched| !watched.is_matched.get()) {
            events.warning(Path::new(&watched.text), "nothing matches this --include");
        }
    }

    /// True if the entry is to be restored. With `include`, folders are made where something in them is.
    fn wants(&self, entry: &Entry) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        let matches =
            |patterns: &Gitignore| patterns.matched_path_or_any_parents(path, entry.is_dir()).is_ignore();
        for watched in self.watched.iter().filter(|watched| !watched.is_matched.get()) {
            watched.is_matched.set(matches(&watched.pattern));
        }
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }
}

/// What a gap in the manifest costs, for the report.
fn skipped_gap(gap: &Gap) -> Skipped {
    use crate::format::escape::escape;
    let until = gap.next.as_ref().map_or("the end".to_owned(), |next| format!("before {}", escape(next)));
    Skipped {
        path: escape(&gap.first).into_owned(),
        reason: format!("entries from here to {until} cannot be read: {}", gap.error),
        damaged: true,
    }
}
