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

use crate::failure::{Advised, UsageError};
use crate::session::Session;
use crate::terminal;

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
            ui.warn(describe(problem, &folder));
        }
        for damaged in &snapshots.damaged {
            let what = if damaged.is_closed { "is not used" } else { "is damaged" };
            ui.warn(format_args!("{} {what}: {}", damaged.key, damaged.reason));
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
fn describe(problem: &IndexProblem, folder: &Path) -> String {
    let see = || format!("{} lists what it hits", command("verify", folder));
    match problem {
        IndexProblem::DamagedIndex { key, reason } => {
            format!("{key} is damaged ({reason}); nothing is lost: packs name their content themselves")
        }
        IndexProblem::MissingPack(pack) => {
            format!("pack {} is missing; {}", pack.short(), see())
        }
        IndexProblem::WrongLength { pack, expected, found } => {
            format!("pack {} has {found} bytes in place of {expected}; {}", pack.short(), see())
        }
        IndexProblem::UnreadableTable { pack, reason } => {
            format!("pack {} cannot be used ({reason}); {}", pack.short(), see())
        }
        IndexProblem::UnreadableFolder { key, reason } => {
            format!("the folder {key} cannot be used ({reason}); {}", see())
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
    let folder = folder.to_owned();
    let repository = format!("repository {}", folder.display());
    move |error| match error {
        error if error.is_damage() => {
            let next_step = format!("{} lists what is damaged and what it hits", command("verify", &folder));
            anyhow::Error::new(error).context(Advised { doing: repository.clone(), next_step })
        }
        Error::NoSnapshot { spec, reason } => {
            let reason = naming(&reason, &folder);
            anyhow::Error::new(Error::NoSnapshot { spec, reason }).context(repository.clone())
        }
        Error::Usage { option, value, reason } => {
            Error::Usage { option, value, reason: naming(&reason, &folder) }.into()
        }
        Error::Storage { .. } | Error::Unsupported { .. } => {
            anyhow::Error::new(error).context(repository.clone())
        }
        other => other.into(),
    }
}

/// A text of the engine, which advises commands but does not know how the repository is named for them, with its name.
fn naming(text: &str, folder: &Path) -> String {
    let (mut named, mut rest) = (String::new(), text);
    while let Some((before, (words, after))) =
        rest.split_once("`reliab ").and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
    {
        named = format!("{named}{before}{}", command(words, folder));
        rest = after;
    }
    named + rest
}

/// A command about this repository that can be pasted into a shell, in backquotes.
pub(crate) fn command(command: &str, folder: &Path) -> String {
    format!("`reliab {command} --repo {}`", terminal::quoted_word(&folder.display().to_string()))
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
        let spec = spec.map_or(&b"latest"[..], |spec| spec.as_bytes());
        let SnapshotSpec { name, path } = SnapshotSpec::parse(spec);
        let found = match host {
            Some(_) if name != "latest" => {
                let text = format!("cannot find the latest of a host and snapshot {name:?}: leave out one");
                return Err(UsageError(text).into());
            }
            Some(_) => self.snapshots.latest(host),
            None => self.snapshots.find(&name),
        };
        let stored = found.map_err(of(&self.folder))?.clone();
        let below = path.map(|path| self.place(&stored, path, typed_path(spec, &name))).transpose()?;
        // A source that was called `.` is all of a snapshot.
        Ok(Selected { stored, below: below.filter(|place| place != b".") })
    }

    /// Begins to read the entries of a snapshot.
    pub fn manifest(&self, selected: &Selected) -> anyhow::Result<Manifest<'_>> {
        Manifest::open(&self.repository, &selected.stored.snapshot, selected.below.as_deref())
            .map_err(of(&self.folder))
    }

    /// Where a path that is asked for is in a snapshot; `typed` is how it was written.
    fn place(&self, stored: &StoredSnapshot, path: Vec<u8>, typed: &[u8]) -> anyhow::Result<Vec<u8>> {
        if self.holds(stored, &path)? {
            return Ok(path);
        }
        if let Some(place) = self.place_in_source(stored, &path)
            && self.holds(stored, &place)?
        {
            return Ok(place);
        }
        let (typed, id) = (escape(typed), stored.id.short());
        let ls = command(&format!("ls {id}"), &self.folder);
        let find = command("find PATTERN", &self.folder);
        let text =
            format!("cannot find {typed} in snapshot {id}: {ls} lists what it holds, {find} looks in all");
        Err(UsageError(text).into())
    }

    /// Where a path from the root of the file system is in a snapshot. `snapshots` shows where its sources lay; its
    /// entries begin with what they were called, which may have been less. Where that is not certain, nothing is found.
    fn place_in_source(&self, stored: &StoredSnapshot, path: &[u8]) -> Option<Vec<u8>> {
        let whole = [b"/", path].concat();
        let sources = sources_of(stored);
        let mut around = sources.iter().filter(|source| order::is_within(&whole, source));
        let named = |source: &Vec<u8>| Some((source.len(), self.name_of(stored, source, &sources)?));
        let (len, name) = around.find_map(named)?;
        Some(join(&name, &whole[len..]))
    }

    /// The sources of a snapshot of which it is certain what they are called in it: where they lay, and their names.
    pub fn named_sources(&self, stored: &StoredSnapshot) -> Vec<NamedSource> {
        let sources = sources_of(stored);
        let named = |whole: &Vec<u8>| {
            let name = self.name_of(stored, whole, &sources)?;
            Some(NamedSource { whole: whole.clone(), name })
        };
        sources.iter().filter_map(named).collect()
    }

    /// What a source is called in a snapshot; `None` where that is not certain.
    fn name_of(&self, stored: &StoredSnapshot, source: &[u8], sources: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut names = names_of(source);
        names.retain(|name| self.is_source(stored, name));
        let [name] = &names[..] else { return None };
        let others = sources.iter().filter(|other| *other != source);
        let is_taken = others.flat_map(|other| names_of(other)).any(|other| other == *name);
        (!is_taken).then(|| name.clone())
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

/// The path of a `NAME:PATH` as it was written; a name that is left out is `latest`.
fn typed_path<'a>(spec: &'a [u8], name: &str) -> &'a [u8] {
    let path = spec.strip_prefix(name.as_bytes()).unwrap_or(spec);
    path.strip_prefix(b":").unwrap_or(path)
}

/// A source and what it is called in a snapshot.
pub(crate) struct NamedSource {
    /// Its path from the root, with the slash there.
    whole: Vec<u8>,
    name: Vec<u8>,
}

impl NamedSource {
    /// The path from the root, without the slash there, of an entry; `None` if it is not of this source.
    pub fn whole_of(&self, path: &[u8]) -> Option<Vec<u8>> {
        if !order::is_within(path, &self.name) {
            return None;
        }
        let top = if self.whole.is_empty() { &b"."[..] } else { &self.whole[1..] };
        let below = match &self.name[..] {
            name if name == path => b"",
            b"." => path,
            name => &path[name.len()..],
        };
        Some(join(top, below))
    }
}

/// Where the sources of a snapshot lay.
fn sources_of(stored: &StoredSnapshot) -> Vec<Vec<u8>> {
    let paths = stored.snapshot.paths.iter();
    paths.filter_map(|path| unescape(path).ok()).map(|path| clean(&path)).collect()
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
    fn advice_names_the_repository() {
        let folder = Path::new("o'ther");
        let named = |words: &str| format!("`reliab {words} --repo 'o'\\''ther'`");
        let check = |text: &str, expected: String| assert_eq!(naming(text, folder), expected);
        check("no id begins so", "no id begins so".to_owned());
        check("a `b (`reliab ls", "a `b (`reliab ls".to_owned());
        check(
            "x (`reliab snapshots` lists all); `reliab ls 1a` shows",
            format!("x ({} lists all); {} shows", named("snapshots"), named("ls 1a")),
        );
        let reason = "its table is damaged".to_owned();
        let problem = IndexProblem::UnreadableFolder { key: "packs/ab".to_owned(), reason };
        let expected = format!(
            "the folder packs/ab cannot be used (its table is damaged); {} lists what it hits",
            named("verify")
        );
        assert_eq!(describe(&problem, folder), expected);
    }

    #[test]
    fn a_path_is_told_as_it_was_typed() {
        let check = |spec: &str, name: &str, expected: &str| {
            assert_eq!(typed_path(spec.as_bytes(), name), expected.as_bytes(), "{spec}");
        };
        check("latest:/etc", "latest", "/etc");
        check("latest:./etc/", "latest", "./etc/");
        check(":etc", "latest", "etc");
        check("2026-01-02T03:04:a:b", "2026-01-02T03:04", "a:b");
    }

    #[test]
    fn entries_have_a_path_from_the_root_where_their_source_is_known() {
        let check = |whole: &str, name: &str, path: &str, expected: Option<&str>| {
            let source = NamedSource { whole: whole.into(), name: name.into() };
            let found = source.whole_of(path.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name} {path}");
        };
        check("/srv/data", "data", "data/x/y", Some("srv/data/x/y"));
        check("/srv/data", "data", "data", Some("srv/data"));
        check("/srv/data", "data", "data2/x", None);
        check("/srv/data", ".", "x", Some("srv/data/x"));
        check("/srv/data", ".", ".", Some("srv/data"));
        check("/srv/data", "srv/data", "srv/data/x", Some("srv/data/x"));
        check("", ".", "etc/hosts", Some("etc/hosts"));
    }

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
