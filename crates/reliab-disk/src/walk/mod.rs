//! How much room a directory takes: all of it walked by several threads, as du does with one.

mod node;
mod place;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat, statat};
use rustix::io::Errno;

use node::{Node, Sum};
use place::{Place, directory_status, open, place_of};

/// `st_blocks` counts in these units, whatever the file system's blocks are (stat(2)).
const BLOCK: u64 = 512;
/// A thread that lists a large directory gives away so many names at a time.
const PART: usize = 512;
/// Errors that are kept; of more only the number is.
const KEPT_ERRORS: usize = 100;

/// How to walk.
#[derive(Clone, Debug)]
pub(crate) struct WalkOptions {
    /// Directories this deep below the first have figures of their own.
    pub depth: usize,
    /// Whether to go into what is mounted below.
    pub across: bool,
    /// Threads that walk.
    pub threads: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self { depth: 1, across: false, threads: reliab_common::session::threads(None) }
    }
}

/// What a directory and those below it take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, directories and others; a file with several names once.
    pub entries: u64,
    /// The directories that were asked for, the first included, by path.
    pub directories: Vec<DirectoryUsage>,
    /// What could not be read and why, by path.
    pub errors: Vec<(PathBuf, String)>,
    /// How many there were of these.
    pub error_count: u64,
}

/// What one directory takes, all below it included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryUsage {
    /// The directory.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, directories and others.
    pub entries: u64,
}

/// Told of bytes and entries as they are found; `true` stops the walk.
pub(crate) type Watch<'a> = dyn Fn(u64, u64) -> bool + Sync + 'a;

/// Walks a directory; fails only if that one cannot be read at all.
pub(crate) fn measure(path: &Path, options: &WalkOptions, watch: &Watch<'_>) -> io::Result<Usage> {
    let first = path.as_os_str().as_bytes().to_owned();
    let fd = open(&first, OFlags::empty())?;
    let status = directory_status(&fd)?;
    let node = Node::new(path.to_owned(), None, 0);
    let walk = Walk {
        options,
        watch,
        place: Place::of(&status),
        queue: Mutex::default(),
        ready: Condvar::new(),
        idle: AtomicUsize::new(0),
        nodes: Mutex::new(vec![Arc::clone(&node)]),
        links: std::array::from_fn(|_| Mutex::default()),
        errors: Mutex::default(),
    };
    walk.lock().jobs.push(Job::Directory(Directory { path: first, node, depth: 0 }));
    std::thread::scope(|scope| {
        for _ in 1..options.threads.max(1) {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    Ok(walk.end())
}

enum Job {
    Directory(Directory),
    Part(Part),
}

/// A directory to list.
struct Directory {
    path: Vec<u8>,
    node: Arc<Node>,
    depth: usize,
}

/// Some names of a directory, each with a NUL behind it, whose status is not known yet.
struct Part {
    fd: Arc<OwnedFd>,
    above: Arc<Directory>,
    names: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    /// Threads that work on something, which may become more jobs.
    busy: usize,
    stopped: bool,
}

/// A file with several names: which directory it counts for, and its size.
struct Link {
    node: Arc<Node>,
    bytes: u64,
}

type Links = Mutex<HashMap<(u64, u64), Link>>;

#[derive(Default)]
struct Errors {
    kept: Vec<(PathBuf, String)>,
    count: u64,
}

struct Walk<'a> {
    options: &'a WalkOptions,
    watch: &'a Watch<'a>,
    place: Place,
    queue: Mutex<Queue>,
    ready: Condvar,
    /// Threads that wait for a job.
    idle: AtomicUsize,
    nodes: Mutex<Vec<Arc<Node>>>,
    links: [Links; 16],
    errors: Mutex<Errors>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    /// Takes jobs until there are none and nobody can make more.
    fn work(&self) {
        let mut own: Vec<Job> = Vec::new();
        let mut buffer: Vec<u8> = Vec::with_capacity(65_536);
        while let Some(job) = own.pop().or_else(|| self.wait()) {
            match job {
                Job::Directory(directory) => self.list(directory, &mut buffer, &mut own),
                Job::Part(part) => self.part(&part, &mut own),
            }
            self.share(&mut own);
            if own.is_empty() {
                self.done();
            }
        }
    }

    /// The next job of the common queue; `None` when all is done.
    fn wait(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                self.ready.notify_all();
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn done(&self) {
        let mut queue = self.lock();
        queue.busy -= 1;
        if queue.busy == 0 {
            self.ready.notify_all();
        }
    }

    /// Gives jobs away while others have none; the oldest, which are likely the largest.
    fn share(&self, own: &mut Vec<Job>) {
        if own.len() > 1 && self.has_idle() {
            let half = own.len() / 2;
            self.lock().jobs.extend(own.drain(..half));
            self.ready.notify_all();
        }
    }

    fn has_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Lists a directory and counts what is in it; directories in it become jobs.
    fn list(&self, directory: Directory, buffer: &mut Vec<u8>, own: &mut Vec<Job>) {
        let (fd, status) = match open_below(&directory).and_then(|fd| Ok((directory_status(&fd)?, fd))) {
            Ok((status, fd)) => (fd, status),
            Err(errno) => return self.fail(&directory.path, errno),
        };
        if !self.options.across && Place::of(&status) != self.place {
            return;
        }
        let (fd, directory) = (Arc::new(fd), Arc::new(self.with_node(directory)));
        let mut part = Part { fd: Arc::clone(&fd), above: Arc::clone(&directory), names: Vec::new() };
        let (mut count, mut found) = (0, 0);
        let mut entries = RawDir::new(&*fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.fail(&directory.path, errno);
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                if self.is_wanted(&fd, name) {
                    own.push(Job::Directory(below(&directory, name)));
                }
                continue;
            }
            part.names.extend_from_slice(name.to_bytes_with_nul());
            count += 1;
            found += 1;
            if count == PART {
                self.part_or_share(&mut part, own);
                count = 0;
            }
        }
        self.part(&part, own);
        let own_size = status.stx_blocks.saturating_mul(BLOCK);
        directory.node.add(Sum { bytes: own_size, entries: 1 });
        if (self.watch)(own_size, found + 1) {
            self.lock().stopped = true;
            own.clear();
            self.ready.notify_all();
        }
    }

    /// Whether a directory is where the walk may go. Asked before it is opened: to open an automount is to mount it, and to
    /// wait for a server that may be dead.
    fn is_wanted(&self, above: &OwnedFd, name: &CStr) -> bool {
        self.options.across || place_of(above, name).is_none_or(|place| place == self.place)
    }

    /// The directory with a node of its own, if it is to have one.
    fn with_node(&self, directory: Directory) -> Directory {
        if directory.depth == 0 || directory.depth > self.options.depth {
            return directory;
        }
        let path = PathBuf::from(OsString::from_vec(directory.path.clone()));
        let node = Node::new(path, Some(Arc::clone(&directory.node)), directory.depth);
        locked(&self.nodes).push(Arc::clone(&node));
        Directory { node, ..directory }
    }

    /// Counts a part now, or lets another thread do it that has nothing else to do.
    fn part_or_share(&self, part: &mut Part, own: &mut Vec<Job>) {
        if self.has_idle() {
            let rest = Part { fd: Arc::clone(&part.fd), above: Arc::clone(&part.above), names: Vec::new() };
            self.lock().jobs.push(Job::Part(std::mem::replace(part, rest)));
            self.ready.notify_one();
        } else {
            self.part(part, own);
            part.names.clear();
        }
    }

    /// Asks for the status of each name and counts it.
    fn part(&self, part: &Part, own: &mut Vec<Job>) {
        let mut sum = Sum::default();
        for name in part.names.split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            match statat(&*part.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => self.count(&status, part, name, &mut sum, own),
                // Gone since it was listed.
                Err(Errno::NOENT) => {}
                Err(errno) => self.fail(&below(&part.above, name).path, errno),
            }
        }
        part.above.node.add(sum);
    }

    fn count(&self, status: &Stat, part: &Part, name: &CStr, sum: &mut Sum, own: &mut Vec<Job>) {
        let above = &part.above;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            if self.is_wanted(&part.fd, name) {
                own.push(Job::Directory(below(above, name)));
            }
            return;
        }
        let bytes = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK);
        if status.st_nlink > 1 {
            self.link((status.st_dev, status.st_ino), &above.node, bytes);
        } else {
            sum.bytes += bytes;
            sum.entries += 1;
        }
    }

    /// Notes a file with several names, for the first directory by path: so the figures are the same in every run.
    fn link(&self, key: (u64, u64), node: &Arc<Node>, bytes: u64) {
        let shelf = usize::try_from(key.1 % 16).unwrap_or(0);
        let mut links = locked(&self.links[shelf]);
        let link = links.entry(key).or_insert_with(|| Link { node: Arc::clone(node), bytes });
        if node.path < link.node.path {
            link.node = Arc::clone(node);
        }
    }

    fn fail(&self, path: &[u8], errno: Errno) {
        if errno == Errno::NOENT {
            return;
        }
        let mut errors = locked(&self.errors);
        errors.count += 1;
        if errors.kept.len() < KEPT_ERRORS {
            let path = PathBuf::from(OsString::from_vec(path.to_owned()));
            errors.kept.push((path, reliab_common::failure::plain(&io::Error::from(errno))));
        }
    }

    /// Adds up, from the deepest directories to the first.
    fn end(self) -> Usage {
        for links in &self.links {
            for link in locked(links).values() {
                link.node.add(Sum { bytes: link.bytes, entries: 1 });
            }
        }
        let mut nodes = std::mem::take(&mut *locked(&self.nodes));
        nodes.sort_by_key(|node| std::cmp::Reverse(node.depth));
        for node in &nodes {
            if let Some(above) = &node.above {
                above.add(node.sum());
            }
        }
        let first = nodes.last().map(|node| node.sum()).unwrap_or_default();
        let usage = |node: &Arc<Node>| {
            let Sum { bytes, entries } = node.sum();
            DirectoryUsage { path: node.path.clone(), bytes, entries }
        };
        let mut directories: Vec<DirectoryUsage> = nodes.iter().map(usage).collect();
        directories.sort_by(|a, b| a.path.cmp(&b.path));
        let mut errors = std::mem::take(&mut *locked(&self.errors));
        errors.kept.sort();
        let Sum { bytes, entries } = first;
        Usage { bytes, entries, directories, errors: errors.kept, error_count: errors.count }
    }
}

fn below(above: &Arc<Directory>, name: &CStr) -> Directory {
    let mut path = Vec::with_capacity(above.path.len() + 1 + name.to_bytes().len());
    path.extend_from_slice(&above.path);
    if above.path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    Directory { path, node: Arc::clone(&above.node), depth: above.depth + 1 }
}

/// Opens a directory; below the first one no link is followed.
fn open_below(directory: &Directory) -> Result<OwnedFd, Errno> {
    open(&directory.path, if directory.depth == 0 { OFlags::empty() } else { OFlags::NOFOLLOW })
}
