//! The repository that a command is about, and the snapshot in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use reliab_common::clock::{Clock as _, local};
use reliab_common::ui::Ui;
use reliab_repo::error::Error;
use reliab_repo::format::escape::{escape, unescape};
use reliab_repo::format::order;
use reliab_repo::index::IndexProblem;
use reliab_repo::manifest::Manifest;
use reliab_repo::repository::{Repository, SnapshotList, SnapshotSpec, StoredSnapshot};
use reliab_repo::storage::{LocalStorage, Storage};
use reliab_repo::walk::snapshot_path;

use crate::failure::UsageError;
use crate::session::Session;

/// Where the repository is.
#[derive(Debug, Args)]
pub(crate) struct RepoArg {
    /// The repository's folder [default: `$RELIAB_REPOSITORY`, or `repository` of the configuration, or backups].
    #[arg(long, short, value_name = "DIR")]
    pub repo: Option<PathBuf>,
}

impl RepoArg {
    /// The repository's folder.
    pub fn folder(&self, session: &Session) -> anyhow::Result<PathBuf> {
        let folder = self.named(session);
        if folder.as_os_str().is_empty() || folder.as_os_str().as_bytes().windows(3).any(|w| w == b"://") {
            let folder = folder.display();
            let text =
                format!("cannot use the repository \"{folder}\": it is not a folder; give one with --repo");
            return Err(UsageError(text).into());
        }
        Ok(folder)
    }

    /// The folder that the option, the environment or the configuration names.
    fn named(&self, session: &Session) -> PathBuf {
        let from_env = || session.env.var("RELIAB_REPOSITORY").map(PathBuf::from);
        self.repo.clone().or_else(from_env).unwrap_or_else(|| session.config.backup.repository.clone())
    }

    /// Opens the repository, which must exist, and warns of what is amiss in it.
    pub fn open(&self, session: &Session, ui: &mut Ui) -> anyhow::Result<OpenRepository> {
        let folder = self.folder(session)?;
        let repository = Repository::open(storage(&folder)).map_err(of(&folder))?;
        let snapshots = repository.snapshots().clone();
        for problem in repository.problems() {
            ui.warn(describe(problem));
        }
        for damaged in &snapshots.damaged {
            ui.warn(format_args!("{} is damaged: {}", damaged.key, damaged.reason));
        }
        for key in &snapshots.foreign {
            ui.warn(format_args!("{key} does not belong into the repository"));
        }
        warn_of_the_future(&snapshots, session.clock.now(), ui);
        Ok(OpenRepository { folder, repository, snapshots })
    }
}

/// Clocks of two machines may differ by less than this.
const SKEW: TimeDelta = TimeDelta::hours(1);

/// Tells of snapshots that carry a time that is not yet.
fn warn_of_the_future(list: &SnapshotList, now: DateTime<Utc>, ui: &mut Ui) {
    for stored in list.snapshots.iter().filter(|stored| stored.snapshot.time > now + SKEW) {
        ui.warn(format_args!(
            "snapshot {} carries the time {}: a clock was wrong then, or is now",
            stored.id.short(),
            local(stored.snapshot.time),
        ));
    }
}

/// What is amiss with the index or a pack, and what it means.
fn describe(problem: &IndexProblem) -> String {
    match problem {
        IndexProblem::DamagedIndex { key, reason } => {
            format!("{key} is damaged ({reason}); nothing is lost: packs name their content themselves")
        }
        IndexProblem::MissingPack(pack) => {
            format!("pack {} is missing; `reliab verify` lists what it hits", pack.short())
        }
        IndexProblem::WrongLength { pack, expected, found } => format!(
            "pack {} has {found} bytes in place of {expected}; `reliab verify` lists what it hits",
            pack.short()
        ),
        IndexProblem::UnreadableTable { pack, reason } => {
            format!("pack {} cannot be used ({reason}); `reliab verify` lists what it hits", pack.short())
        }
        IndexProblem::ForeignFile(key) => format!("{key} does not belong into the repository"),
    }
}

/// The storage in a folder.
pub(crate) fn storage(folder: &Path) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::open(folder))
}

/// Says which repository an error is about, where its text does not.
pub(crate) fn of(folder: &Path) -> impl Fn(Error) -> anyhow::Error {
    let repository = format!("repository {}", folder.display());
    move |error| match error {
        Error::Storage { .. }
        | Error::Unsupported { .. }
        | Error::Damaged { .. }
        | Error::MissingBlob(_)
        | Error::NoSnapshot { .. } => anyhow::Error::new(error).context(repository.clone()),
        other => other.into(),
    }
}

/// A repository that was opened to be read.
pub(crate) struct OpenRepository {
    pub folder: PathBuf,
    pub repository: Repository,
    pub snapshots: SnapshotList,
}

/// A snapshot, and the path in it that is meant.
pub(crate) struct Selected {
    pub stored: StoredSnapshot,
    pub below: Option<Vec<u8>>,
}

impl OpenRepository {
    /// The snapshot that `spec` names, the latest without one; a path must be in it.
    pub fn select(&self, spec: Option<&OsString>) -> anyhow::Result<Selected> {
        self.select_of(spec, None)
    }

    /// The same; `latest` is the latest of a host, if one is given.
    pub fn select_of(&self, spec: Option<&OsString>, host: Option<&str>) -> anyhow::Result<Selected> {
        let SnapshotSpec { name, path } = SnapshotSpec::parse(spec.map_or(b"latest", |spec| spec.as_bytes()));
        let found = match host {
            Some(_) if name != "latest" => {
                let text = format!("cannot find the latest of a host and snapshot {name:?}: leave out one");
                return Err(UsageError(text).into());
            }
            Some(_) => self.snapshots.latest(host),
            None => self.snapshots.find(&name),
        };
        let stored = found.map_err(of(&self.folder))?.clone();
        let below = path.map(|path| self.place(&stored, path)).transpose()?;
        // A source that was called `.` is all of a snapshot.
        Ok(Selected { stored, below: below.filter(|place| place != b".") })
    }

    /// Begins to read the entries of a snapshot.
    pub fn manifest(&self, selected: &Selected) -> anyhow::Result<Manifest<'_>> {
        Manifest::open(&self.repository, &selected.stored.snapshot, selected.below.as_deref())
            .map_err(of(&self.folder))
    }

    /// Where a path that is asked for is in a snapshot.
    fn place(&self, stored: &StoredSnapshot, path: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        if self.holds(stored, &path)? {
            return Ok(path);
        }
        if let Some(place) = self.place_in_source(stored, &path)
            && self.holds(stored, &place)?
        {
            return Ok(place);
        }
        let (path, id) = (escape(&path), stored.id.short());
        let text = format!(
            "cannot find {path} in snapshot {id}: `reliab ls {id}` lists what it holds, `reliab find` looks in all"
        );
        Err(UsageError(text).into())
    }

    /// Where a path from the root of the file system is in a snapshot. `snapshots` shows where its sources lay; its
    /// entries begin with what they were called, which may have been less. Where that is not certain, nothing is found.
    fn place_in_source(&self, stored: &StoredSnapshot, path: &[u8]) -> Option<Vec<u8>> {
        let whole = [b"/", path].concat();
        let paths = stored.snapshot.paths.iter();
        let sources: Vec<_> = paths.filter_map(|path| unescape(path).ok()).map(|path| clean(&path)).collect();
        for source in sources.iter().filter(|source| order::is_within(&whole, source)) {
            let mut names = names_of(source);
            names.retain(|name| self.is_source(stored, name));
            let others = sources.iter().filter(|other| *other != source);
            if let [name] = &names[..]
                && !others.flat_map(|other| names_of(other)).any(|other| other == *name)
            {
                return Some(join(name, &whole[source.len()..]));
            }
        }
        None
    }

    /// Whether a source is called so: there is an entry, and none that it lies in.
    fn is_source(&self, stored: &StoredSnapshot, name: &[u8]) -> bool {
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let outer = ends.map(|end| &name[..end]).chain([&b"."[..]]).filter(|outer| *outer != name);
        self.is_entry(stored, name) && !outer.into_iter().any(|outer| self.is_entry(stored, outer))
    }

    fn is_entry(&self, stored: &StoredSnapshot, path: &[u8]) -> bool {
        let below = (path != b".").then_some(path);
        let manifest = Manifest::open(&self.repository, &stored.snapshot, below);
        manifest.is_ok_and(|mut manifest| manifest.next().is_some_and(|found| found.entry.path == path))
    }

    /// Whether there is something at a path, or nobody can tell for damage.
    fn holds(&self, stored: &StoredSnapshot, path: &[u8]) -> anyhow::Result<bool> {
        let below = (path != b".").then_some(path);
        let mut manifest =
            Manifest::open(&self.repository, &stored.snapshot, below).map_err(of(&self.folder))?;
        Ok(manifest.next().is_some() || !manifest.take_gaps().is_empty())
    }
}

/// A path from the root without `..` and a slash at its end, as far as its letters tell.
fn clean(path: &[u8]) -> Vec<u8> {
    match snapshot_path(Path::new(OsStr::from_bytes(path))) {
        top if top == b"." => Vec::new(),
        below => [b"/", &below[..]].concat(),
    }
}

/// What a source may have been called on the command line, the longest first: all of its path, or the end of it.
fn names_of(source: &[u8]) -> Vec<Vec<u8>> {
    let slashes = source.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.map(|at| source[at + 1..].to_vec()).chain([b".".to_vec()]).collect()
}

/// A source's name in the snapshot, and what comes below it.
fn join(name: &[u8], below: &[u8]) -> Vec<u8> {
    let below = below.strip_prefix(b"/").unwrap_or(below);
    match (name, below) {
        (b".", b"") => b".".to_vec(),
        (b".", below) => below.to_vec(),
        (name, b"") => name.to_vec(),
        (name, below) => [name, b"/", below].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_have_been_called_by_any_end_of_its_path() {
        let names = |source: &[u8]| {
            names_of(source).iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(b"/srv/app/data"), ["srv/app/data", "app/data", "data", "."]);
        assert_eq!(names(b""), ["."]);
        let check = |name: &str, below: &str, expected: &str| {
            assert_eq!(join(name.as_bytes(), below.as_bytes()), expected.as_bytes());
        };
        check("data", "/x", "data/x");
        check("data", "", "data");
        check(".", "/x/y", "x/y");
        check(".", "", ".");
    }
}
