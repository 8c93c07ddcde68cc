//! The sources: opened before anything is written; one inside another belongs to the walk of that.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::open_beneath;
use super::listing::{open_folder, raw_stat};
use super::{Status, join};
use crate::error::{Error, Result};
use crate::format::escape::is_well_formed;
use crate::format::order;

/// A folder or file to back up.
pub struct Root {
    /// As given.
    pub given: PathBuf,
    /// Its path in the snapshot.
    pub path: Vec<u8>,
    /// The folder the root itself stands in, or the root where it has no name of its own (`/`, `.`).
    pub parent: OwnedFd,
    /// Name below `parent`; empty where the root is `parent`.
    pub name: Vec<u8>,
    /// What it was when it was opened.
    pub opened: Status,
    /// Sources on a file system of their own stay open, so that what was mounted for them does not expire before the end
    /// (autofs(5)).
    open: Vec<OwnedFd>,
    /// Sources inside it that were named, too, and the folders on the way to them, in order.
    pub(super) inner: Vec<Inner>,
}

/// A place inside a root that is stored whatever is left out around it.
pub(super) struct Inner {
    /// Path below the root.
    pub(super) below: Vec<u8>,
    /// `None` for a folder on the way to a source: it is stored, and gone into only if nothing leaves it out.
    ///
    /// Without its entry it would be gone, and what was below it with it.
    pub(super) source: Option<Named>,
}

/// A source that was named and lies inside another.
pub(super) struct Named {
    given: PathBuf,
    device: u64,
}

impl Root {
    /// Path in the snapshot of what is below the root.
    pub(super) fn path_of(&self, below: &[u8]) -> Vec<u8> {
        if below.is_empty() { self.path.clone() } else { join(&self.path, below) }
    }

    /// Path from `parent` of what is below the root.
    pub(super) fn path_from_parent(&self, below: &[u8]) -> Vec<u8> {
        match (self.name.is_empty(), below.is_empty()) {
            (true, true) => b".".to_vec(),
            (true, false) => below.to_vec(),
            (false, true) => self.name.clone(),
            (false, false) => join(&self.name, below),
        }
    }

    /// `lstat` of what is below the root, past no link.
    pub(super) fn stat(&self, below: &[u8]) -> std::result::Result<Status, Errno> {
        if below.is_empty() {
            return raw_stat(&self.parent, &self.name).map(|stat| Status::new(&stat));
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = open_beneath(&self.parent, &self.path_from_parent(below), flags)?;
        rustix::fs::fstat(found).map(|stat| Status::new(&stat))
    }

    /// True if a path in the snapshot is that of a source.
    pub(crate) fn is_source(&self, path: &[u8]) -> bool {
        path == self.path || self.sources().any(|(_, of_source)| of_source == path)
    }

    /// The sources inside it, and the path in the snapshot of each.
    fn sources(&self) -> impl Iterator<Item = (&Path, Vec<u8>)> {
        self.inner.iter().filter_map(|inner| {
            let source = inner.source.as_ref()?;
            Some((source.given.as_path(), self.path_of(&inner.below)))
        })
    }

    /// The innermost source at or around a path below the root, and that path below it.
    pub(super) fn source_of<'a>(&'a self, below: &'a [u8]) -> (&'a Path, &'a [u8]) {
        match self.innermost(below) {
            Some((inner, source)) => {
                let rest = &below[inner.below.len()..];
                (source.given.as_path(), rest.strip_prefix(b"/").unwrap_or(rest))
            }
            None => (self.given.as_path(), below),
        }
    }

    /// The device to stay on with `--one-file-system` at a path below the root: that of the innermost source.
    pub(super) fn device_of(&self, below: &[u8]) -> u64 {
        self.innermost(below).map_or(self.opened.device, |(_, source)| source.device)
    }

    fn innermost(&self, below: &[u8]) -> Option<(&Inner, &Named)> {
        let sources = self.inner.iter().filter_map(|inner| Some((inner, inner.source.as_ref()?)));
        let around = sources.filter(|(inner, _)| order::is_within(below, &inner.below));
        around.max_by_key(|(inner, _)| inner.below.len())
    }

    /// Makes a source that lies in this one a part of it.
    fn take_in(&mut self, inner: Self) -> Result<()> {
        if inner.path == self.path {
            return same_place(self, &inner);
        }
        let below = self.place_of(&inner)?;
        for end in ends_of_names(&below) {
            let named = || Named { given: inner.given.clone(), device: inner.opened.device };
            let source = (end == below.len()).then(named);
            self.inner.push(Inner { below: below[..end].to_vec(), source });
        }
        self.open.extend(inner.open);
        Ok(())
    }

    /// Puts what is inside in order, each once.
    fn sort_inner(&mut self) {
        let rank = |inner: &Inner| inner.source.is_none();
        self.inner.sort_by(|a, b| order::compare(&a.below, &b.below).then(rank(a).cmp(&rank(b))));
        self.inner.dedup_by(|next, kept| next.below == kept.below);
    }

    /// The path below this root at which a walk comes to another source; refused where it would never do so.
    fn place_of(&self, inner: &Self) -> Result<Vec<u8>> {
        let identity = |status: Status| (status.device, status.inode);
        let is_at = |below: &[u8]| self.stat(below).map(identity) == Ok(identity(inner.opened));
        let named = if self.path == b"." { &inner.path[..] } else { &inner.path[self.path.len() + 1..] };
        if is_at(named) {
            return Ok(named.to_vec());
        }
        // Named by another way: from the top and from the working folder, or by a link from one place in it to another.
        let (whole, real) = (real_path(self)?, real_path(inner)?);
        match real.strip_prefix(whole).map(|below| below.as_os_str().as_bytes()) {
            Ok(below) if is_at(below) => Ok(below.to_vec()),
            _ => Err(Error::Source { path: inner.given.clone(), reason: self.why_not_at(named) }),
        }
    }

    /// Why nothing is found below this root: of a link only the link is stored.
    fn why_not_at(&self, below: &[u8]) -> String {
        let outer = self.given.display();
        if self.opened.kind == FileType::Symlink {
            return format!(
                "{outer} is a symbolic link, and only the link is stored; name {outer}/ instead, or back them up apart"
            );
        }
        let is_link = |below: &&[u8]| self.stat(below).is_ok_and(|found| found.kind == FileType::Symlink);
        match ends_of_names(below).map(|end| &below[..end]).find(is_link) {
            Some(link) => {
                let link = self.given.join(OsStr::from_bytes(link));
                let link = link.display();
                format!(
                    "{link} is a symbolic link, and only the link is stored; back it up apart from {outer}"
                )
            }
            None => format!("in the snapshot it would lie in {outer}, where it is not; back them up apart"),
        }
    }
}

/// Where each name of a path ends.
fn ends_of_names(path: &[u8]) -> impl Iterator<Item = usize> {
    (1..=path.len()).filter(|&end| path.get(end).is_none_or(|&byte| byte == b'/'))
}

/// Opens the roots; names that are the same in the snapshot, or inside one another, are sorted out.
pub fn open_roots(sources: &[PathBuf]) -> Result<Vec<Arc<Root>>> {
    let mut roots = sources.iter().map(|given| open_root(given)).collect::<Result<Vec<_>>>()?;
    // Of one path the one that follows a link comes first: `link/` is all that `link` is, and more.
    roots.sort_by(|a, b| order::compare(&a.path, &b.path).then(a.name.len().cmp(&b.name.len())));
    let mut kept: Vec<Root> = Vec::new();
    for root in roots {
        match kept.last_mut() {
            Some(outer) if order::is_within(&root.path, &outer.path) => outer.take_in(root)?,
            _ => kept.push(root),
        }
    }
    kept.iter_mut().for_each(Root::sort_inner);
    Ok(kept.into_iter().map(Arc::new).collect())
}

/// Each source, as it was given, and its path in the snapshot: where a walk comes to it.
pub fn places(roots: &[Arc<Root>]) -> Vec<(PathBuf, Vec<u8>)> {
    let of_root = |root: &Root| {
        let inner = root.sources().map(|(given, path)| (given.to_owned(), path));
        [(root.given.clone(), root.path.clone())].into_iter().chain(inner).collect::<Vec<_>>()
    };
    roots.iter().flat_map(|root| of_root(root)).collect()
}

/// The sources that lie on another file system than when they were opened, by their paths in the snapshot.
pub fn remounted(roots: &[Arc<Root>]) -> Vec<Vec<u8>> {
    let of_root = |root: &Root| {
        let inner =
            root.inner.iter().filter_map(|inner| Some((&inner.below[..], inner.source.as_ref()?.device)));
        let sources = [(&b""[..], root.opened.device)].into_iter().chain(inner);
        let is_other = |below: &[u8], device| root.stat(below).is_ok_and(|now| now.device != device);
        let other = sources.filter(|&(below, device)| is_other(below, device));
        other.map(|(below, _)| root.path_of(below)).collect::<Vec<_>>()
    };
    roots.iter().flat_map(|root| of_root(root)).collect()
}

/// Two sources of one path must be one place.
fn same_place(kept: &Root, other: &Root) -> Result<()> {
    if real_path(other)? == real_path(kept)? {
        return Ok(());
    }
    let reason = format!(
        "it would have the same path in the snapshot as {}; back them up apart",
        kept.given.display()
    );
    Err(Error::Source { path: other.given.clone(), reason })
}

fn real_path(root: &Root) -> Result<PathBuf> {
    std::fs::canonicalize(&root.given).map_err(Error::local("resolve", &root.given))
}

/// The folder to open for a source, and the source's name in it: none where a slash at the end asks to follow a link.
fn folder_of(given: &Path) -> (&Path, &[u8]) {
    let follows = given.as_os_str().as_bytes().ends_with(b"/");
    match (given.parent(), given.file_name()) {
        (Some(parent), Some(name)) if !follows => {
            (if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name.as_bytes())
        }
        _ => (given, b""),
    }
}

fn open_root(given: &Path) -> Result<Root> {
    let unreadable = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "it does not exist; check the path, or `sources` in the configuration".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "permission denied; check its owner and mode, or run as another user".to_owned()
            }
            _ => error.to_string(),
        };
        Error::Source { path: given.to_owned(), reason }
    };
    let path = snapshot_path(given);
    if !is_well_formed(&path) {
        return Err(Error::Source { path: given.to_owned(), reason: "this path cannot be stored".into() });
    }
    let (folder, name) = folder_of(given);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
    let parent = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let opened = Status::new(&raw_stat(&parent, name).map_err(|e| unreadable(e.into()))?);
    let (given, name) = (given.to_owned(), name.to_vec());
    let mut root = Root { given, path, parent, name, opened, open: Vec::new(), inner: Vec::new() };
    if opened.kind == FileType::Directory {
        // A folder that cannot be listed would look like one that is empty. To open it may mount what is to be in it.
        let folder = open_folder(&root, b"").map_err(|e| unreadable(e.into()))?;
        root.opened = Status::new(&raw_stat(&folder, b"").map_err(|e| unreadable(e.into()))?);
        let around = Status::new(&raw_stat(&root.parent, b"").map_err(|e| unreadable(e.into()))?);
        if around.device != root.opened.device {
            root.open.push(folder);
        }
    }
    Ok(root)
}

/// Refuses sources that are the repository, or inside it: what a backup writes would never be done.
pub fn refuse_repository(sources: &[PathBuf], repository: Option<(u64, u64)>) -> Result<()> {
    let Some(repository) = repository else { return Ok(()) };
    let is_repository = |found: std::fs::Metadata| (found.dev(), found.ino()) == repository;
    for given in sources {
        let (folder, _) = folder_of(given);
        let folder = std::fs::canonicalize(folder).map_err(Error::local("resolve", given))?;
        let is_inside =
            || folder.ancestors().any(|around| std::fs::metadata(around).is_ok_and(is_repository));
        if std::fs::symlink_metadata(given).is_ok_and(is_repository) || is_inside() {
            let reason = "it is the repository that it would be backed up into, or lies in that; name another \
                          source, or another repository with --repo";
            return Err(Error::Source { path: given.clone(), reason: reason.into() });
        }
    }
    Ok(())
}

/// A source's path in the snapshot: as given, less leading `/` and `..`, and every `.`.
pub fn snapshot_path(given: &Path) -> Vec<u8> {
    use std::path::Component;
    let mut parts: Vec<&OsStr> = Vec::new();
    for component in given.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => drop(parts.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    if parts.is_empty() {
        return b".".to_vec();
    }
    parts.join(OsStr::new("/")).into_encoded_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_paths_are_as_given_less_what_points_outside() {
        let check = |given: &str, path: &str| {
            assert_eq!(snapshot_path(Path::new(given)), path.as_bytes(), "{given}");
        };
        check("data", "data");
        check("./data/", "data");
        check("/srv/app", "srv/app");
        check("../../x/y", "x/y");
        check("a/../b", "b");
        check(".", ".");
        check("/", ".");
        check("..", ".");
    }

    #[test]
    fn names_of_a_path_end_at_slashes_and_at_its_end() {
        assert_eq!(ends_of_names(b"a/bc/d").collect::<Vec<_>>(), [1, 4, 6]);
        assert_eq!(ends_of_names(b"a").collect::<Vec<_>>(), [1]);
    }
}
