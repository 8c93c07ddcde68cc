//! Walking the source in path order: folders are listed ahead by several threads, within a bound.

mod ahead;
mod beneath;
mod filter;
mod listing;
mod root;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use ahead::{Ahead, Job};
pub use beneath::open_beneath;
pub use filter::{Filter, FilterOptions, compile_patterns, patterns_from};
use listing::Listing;
pub use listing::raw_stat;
use root::Inner;
pub use root::{Root, open_roots, places, refuse_repository, remounted, snapshot_path};

use crate::format::entry::{Stamp, Xattr};
use crate::format::order;

/// What is told of a source that is gone when its turn comes.
pub const SOURCE_GONE: &str = "it was there when the run began, and is gone now";

/// What is told of a source of which what came after may be missing: all of it seems to have vanished.
pub const UNMOUNTED: &str = "another file system was mounted or unmounted there while it was read";

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
        // A damaged file system may tell any number. A page with more than there are is refused, and all that is on it.
        let nanos = |value| u32::try_from(value).map_or(0, |nanos| nanos.min(999_999_999));
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
    /// What is in it, where somebody has read it ahead.
    pub read_ahead: Option<Box<ReadFile>>,
}

/// A small file that was read whole.
pub struct ReadFile {
    /// Its extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Its bytes.
    pub content: Vec<u8>,
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
    /// The one being walked, and how many of the places inside it were come to.
    root: Option<Arc<Root>>,
    inner: usize,
    stack: Vec<Frame>,
    pending: VecDeque<WalkItem>,
}

/// A folder being walked.
struct Frame {
    listing: Listing,
    next: usize,
    /// Listings of sub-folders that were asked for ahead, by entry number, in order.
    jobs: VecDeque<(usize, Arc<Job>)>,
}

impl Walk {
    /// Begins a walk; `threads` list folders ahead of it.
    pub fn start(roots: Vec<Arc<Root>>, filter: Arc<Filter>, threads: usize) -> Self {
        Self {
            ahead: Arc::new(Ahead::new(filter)),
            listers: threads,
            threads: Vec::new(),
            roots: roots.into_iter(),
            root: None,
            inner: 0,
            stack: Vec::new(),
            pending: VecDeque::new(),
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
        self.root = Some(Arc::clone(&root));
        self.inner = 0;
        Some(self.begin(root, Vec::new(), true))
    }

    /// Begins anew at the next place inside the root, which the walk of what is around it did not come to.
    fn next_inner(&mut self) -> Option<WalkItem> {
        let root = Arc::clone(self.root.as_ref()?);
        let Inner { below, source } = root.inner.get(self.inner)?;
        let (below, is_source) = (below.clone(), source.is_some());
        self.inner += 1;
        Some(self.begin(root, below, is_source))
    }

    fn begin(&mut self, root: Arc<Root>, below: Vec<u8>, goes_in: bool) -> WalkItem {
        let path = root.path_of(&below);
        let status = match root.stat(&below) {
            Ok(status) => status,
            Err(errno) => return Err(WalkError { path, error: errno.into() }),
        };
        if goes_in && status.kind == FileType::Directory {
            self.enter(&Job::new(Arc::clone(&root), below));
        }
        Ok(Walked { root, path, status, read_ahead: None })
    }

    /// How the next place inside the root stands to the entry that comes next; `None` if it is not in the same folder.
    fn inner_to_next(&self) -> Option<Ordering> {
        let below = &self.root.as_ref()?.inner.get(self.inner)?.below;
        let Some(frame) = self.stack.last() else { return Some(Ordering::Less) };
        frame.listing.is_around(below).then(|| {
            let is_done = frame.next >= frame.listing.len();
            if is_done { Ordering::Less } else { order::compare(below, &frame.listing.child(frame.next)) }
        })
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

    fn advance(&mut self) -> Option<WalkItem> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            let inner = self.inner_to_next();
            if inner == Some(Ordering::Less) {
                return self.next_inner();
            }
            if self.stack.is_empty() {
                return self.next_root();
            }
            if let Some(item) = self.step() {
                self.inner += usize::from(inner == Some(Ordering::Equal));
                return Some(item);
            }
        }
    }
}

impl Iterator for Walk {
    type Item = WalkItem;

    fn next(&mut self) -> Option<WalkItem> {
        let mut item = self.advance();
        if let Some(Err(failed)) = &mut item
            && failed.error.kind() == ErrorKind::NotFound
            && self.root.as_ref().is_some_and(|root| root.is_source(&failed.path))
        {
            // Anything else may go while it is read; a source was asked for.
            failed.error = std::io::Error::other(SOURCE_GONE);
        }
        item
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
    fn no_file_system_makes_a_time_that_pages_do_not_have() {
        let mut stat = rustix::fs::stat("/").unwrap();
        // The most that ext4 keeps room for.
        (stat.st_mtime_nsec, stat.st_ctime_nsec) = ((1 << 30) - 1, 5);
        let status = Status::new(&stat);
        assert_eq!((status.mtime.nanos, status.ctime.nanos), (999_999_999, 5));
    }
}
