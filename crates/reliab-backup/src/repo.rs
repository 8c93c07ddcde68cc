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
use reliab_repo::format::escape::escape;
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
        let snapshots = repository.snapshots().map_err(of(&folder))?;
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
        let (name, below) = spec.map_or(("latest".to_owned(), None), |spec| parse(spec));
        let found = match host {
            Some(_) if name != "latest" => {
                let text = format!("cannot find the latest of a host and snapshot {name:?}: leave out one");
                return Err(UsageError(text).into());
            }
            Some(_) => self.snapshots.latest(host),
            None => self.snapshots.find(&name),
        };
        let stored = found.map_err(of(&self.folder))?.clone();
        if let Some(below) = &below {
            self.require(&stored, below)?;
        }
        Ok(Selected { stored, below })
    }

    /// Begins to read the entries of a snapshot.
    pub fn manifest(&self, selected: &Selected) -> anyhow::Result<Manifest<'_>> {
        Manifest::open(&self.repository, &selected.stored.snapshot, selected.below.as_deref())
            .map_err(of(&self.folder))
    }

    fn require(&self, stored: &StoredSnapshot, below: &[u8]) -> anyhow::Result<()> {
        let mut manifest =
            Manifest::open(&self.repository, &stored.snapshot, Some(below)).map_err(of(&self.folder))?;
        if manifest.next().is_some() || !manifest.take_gaps().is_empty() {
            return Ok(());
        }
        let (path, id) = (escape(below), stored.id.short());
        let text = format!(
            "cannot find {path} in snapshot {id}: `reliab ls {id}` lists what it holds, `reliab find` looks in all"
        );
        Err(UsageError(text).into())
    }
}

/// Parts `SNAPSHOT[:PATH]`; the path need not be UTF-8.
fn parse(spec: &OsStr) -> (String, Option<Vec<u8>>) {
    let colon = spec.as_bytes().iter().position(|&byte| byte == b':');
    let (name, path) = if let (None, Some(colon)) = (spec.to_str(), colon) {
        let (name, path) = spec.as_bytes().split_at(colon);
        (String::from_utf8_lossy(name).into_owned(), Some(path[1..].to_vec()))
    } else {
        let spec = SnapshotSpec::parse(&spec.to_string_lossy());
        (spec.name, spec.path.map(String::into_bytes))
    };
    let below = path.map(|path| snapshot_path(Path::new(OsStr::from_bytes(&path))));
    (name, below.filter(|path| path != b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_a_name_and_a_path_in_normal_form() {
        let check = |spec: &[u8], name: &str, below: Option<&[u8]>| {
            let parsed = parse(OsStr::from_bytes(spec));
            assert_eq!(parsed, (name.to_owned(), below.map(<[u8]>::to_vec)));
        };
        check(b"latest", "latest", None);
        check(b"ab12:./data//x/", "ab12", Some(b"data/x"));
        check(b"ab12:/", "ab12", None);
        check(b"ab12:\xff", "ab12", Some(b"\xff"));
    }
}
