//! Walking the source in path order: folders are listed ahead by several threads, within a bound.

mod ahead;
mod beneath;
mod filter;
mod listing;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use ahead::{Ahead, Job};
pub use beneath::open_beneath;
pub use filter::{Filter, FilterOptions, compile_patterns, patterns_from};
use listing::Listing;
pub use listing::raw_stat;

use crate::error::{Error, Result};
use crate::format::entry::Stamp;
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
    /// Devices to stay on with `--one-file-system`: its own, and those of sources inside it that were named, too.
    pub devices: Vec<u64>,
}

/// What `lstat` says of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Type of file.
    pub kind: FileType,
    /// Low twelve bits of the mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// 512-byte blocks allocated.
    pub blocks: u64,
    /// Content changed.
    pub mtime: Stamp,
    /// Inode changed.
    pub ctime: Stamp,
    /// Inode number.
    pub inode: u64,
    /// Device it lies on.
    pub device: u64,
    /// Names it has.
    pub links: u64,
    /// Device number of a device file.
    pub rdev: u64,
}

impl Status {
    /// From a `stat` structure, whose field types differ between architectures.
    #[expect(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "field types differ between architectures"
    )]
    pub fn new(stat: &Stat) -> Self {
        let nanos = |value| u32::try_from(value).unwrap_or(0);
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            mtime: Stamp { seconds: stat.st_mtime as i64, nanos: nanos(stat.st_mtime_nsec) },
            ctime: Stamp { seconds: stat.st_ctime as i64, nanos: nanos(stat.st_ctime_nsec) },
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            links: stat.st_nlink as u64,
            rdev: stat.st_rdev as u64,
        }
    }
}

/// An entry of the source.
pub struct Walked {
    /// The root it was found under.
    pub root: Arc<Root>,
    /// Path in the snapshot.
    pub path: Vec<u8>,
    /// What `lstat` said.
    pub status: Status,
}

/// Something that could not be walked.
pub struct WalkError {
    /// Path in the snapshot.
    pub path: Vec<u8>,
    /// Why.
    pub error: std::io::Error,
}

/// An entry, or what kept one from being read.
pub type WalkItem = std::result::Result<Walked, WalkError>;

/// Walks roots in path order.
pub struct Walk {
    ahead: Arc<Ahead>,
    /// How many list ahead. They begin with the first folder below a root: a few files need none.
    listers: usize,
    threads: Vec<std::thread::JoinHandle<()>>,
    roots: std::vec::IntoIter<Arc<Root>>,
    stack: Vec<Frame>,
    pending: std::collections::VecDeque<WalkItem>,
}

/// A folder being walked.
struct Frame {
    listing: Listing,
    next: usize,
    /// Listings of sub-folders that were asked for ahead, by entry number, in order.
    jobs: std::collections::VecDeque<(usize, Arc<Job>)>,
}

impl Walk {
    /// Begins a walk; `threads` list folders ahead of it.
    pub fn start(roots: Vec<Arc<Root>>, filter: Arc<Filter>, threads: usize) -> Self {
        Self {
            ahead: Arc::new(Ahead::new(filter)),
            listers: threads,
            threads: Vec::new(),
            roots: roots.into_iter(),
            stack: Vec::new(),
            pending: std::collections::VecDeque::new(),
        }
    }

    fn enter(&mut self, job: &Arc<Job>) {
        let mut listing = self.ahead.take(job);
        for error in listing.take_errors() {
            self.pending.push_back(Err(error));
        }
        let jobs = self.ahead.ask_for_folders(&listing);
        if self.threads.is_empty() && !jobs.is_empty() {
            let listers = (0..self.listers).map(|_| Arc::clone(&self.ahead));
            self.threads = listers.map(|ahead| std::thread::spawn(move || ahead.work())).collect();
        }
        self.stack.push(Frame { listing, next: 0, jobs });
    }

    fn next_root(&mut self) -> Option<WalkItem> {
        let root = self.roots.next()?;
        let item = stat_root(&root);
        if let Ok(walked) = &item
            && walked.status.kind == FileType::Directory
        {
            let job = Job::new(root, Vec::new());
            self.enter(&job);
        }
        Some(item)
    }

    /// Takes the next entry of the innermost folder.
    fn step(&mut self) -> Option<WalkItem> {
        let frame = self.stack.last_mut()?;
        let number = frame.next;
        if number >= frame.listing.len() {
            self.stack.pop();
            return None;
        }
        frame.next += 1;
        frame.listing.ensure_stat(number, &self.ahead);
        let item = frame.listing.walked(number);
        let job = match frame.jobs.front() {
            Some((at, _)) if *at == number => frame.jobs.pop_front().map(|(_, job)| job),
            _ => frame.listing.folder_job(number, self.ahead.filter()),
        };
        if let Some(job) = job {
            self.enter(&job);
        }
        item
    }
}

impl Iterator for Walk {
    type Item = WalkItem;

    fn next(&mut self) -> Option<WalkItem> {
        loop {
            if self.stack.is_empty() {
                if let Some(item) = self.pending.pop_front() {
                    return Some(item);
                }
                return self.next_root();
            }
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            if let Some(item) = self.step() {
                return Some(item);
            }
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.ahead.close();
        for thread in self.threads.drain(..) {
            // A panic there has already been reported by the default hook.
            drop(thread.join());
        }
    }
}

fn stat_root(root: &Arc<Root>) -> WalkItem {
    match raw_stat(&root.parent, &root.name) {
        Ok(stat) => {
            Ok(Walked { root: Arc::clone(root), path: root.path.clone(), status: Status::new(&stat) })
        }
        Err(error) => Err(WalkError { path: root.path.clone(), error: error.into() }),
    }
}

/// Opens the roots; names that are the same in the snapshot, or inside one another, are sorted out.
pub fn open_roots(sources: &[PathBuf]) -> Result<Vec<Arc<Root>>> {
    let mut roots = sources.iter().map(|given| open_root(given)).collect::<Result<Vec<_>>>()?;
    // Of one path the one that follows a link comes first: `link/` is all that `link` is, and more.
    roots.sort_by(|a, b| order::compare(&a.path, &b.path).then(a.name.len().cmp(&b.name.len())));
    let mut kept: Vec<Root> = Vec::new();
    for root in roots {
        match kept.last_mut() {
            Some(outer) if order::is_within(&root.path, &outer.path) => {
                same_place(outer, &root)?;
                outer.devices.extend(root.devices);
            }
            _ => kept.push(root),
        }
    }
    Ok(kept.into_iter().map(Arc::new).collect())
}

/// A root inside another is already covered, if it really is the same place.
fn same_place(outer: &Root, inner: &Root) -> Result<()> {
    let real = |root: &Root| std::fs::canonicalize(&root.given).map_err(Error::local("resolve", &root.given));
    if real(inner)?.starts_with(real(outer)?) {
        return Ok(());
    }
    let reason = format!(
        "it would have the same path in the snapshot as {}; back them up apart",
        outer.given.display()
    );
    Err(Error::Source { path: inner.given.clone(), reason })
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
    let follows = given.as_os_str().as_bytes().ends_with(b"/");
    let (folder, name) = match (given.parent(), given.file_name()) {
        (Some(parent), Some(name)) if !follows => {
            (if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name.as_bytes().to_vec())
        }
        _ => (given, Vec::new()),
    };
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::PATH;
    let parent =
        rustix::fs::open(folder, flags, rustix::fs::Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let stat = raw_stat(&parent, &name).map_err(|e| unreadable(e.into()))?;
    let status = Status::new(&stat);
    let root = Root { given: given.to_owned(), path, parent, name, devices: vec![status.device] };
    if status.kind == FileType::Directory {
        // A folder that cannot be listed would look like one that is empty.
        drop(listing::open_folder(&root, b"").map_err(|e| unreadable(e.into()))?);
    }
    Ok(root)
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

/// Joins a folder's path in the snapshot and a name.
fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder == b"." {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    path.push(b'/');
    path.extend_from_slice(name);
    path
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
}
