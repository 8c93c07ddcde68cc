//! Small files read ahead of a first backup: all of them must be read then, and opening them is what it would wait for.
//!
//! What was read ahead is used only if the file is whole and as the walk saw it. In all other cases nothing is, and the file
//! is read as any other, which tells what is wrong with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::FileType;

use super::file::is_as_it_was;
use super::source::{Opener, may_have_holes, read_full, status_of, xattrs_of};
use crate::format::entry::Xattr;
use crate::walk::{ReadFile, WalkItem, Walked};

/// Larger files are read when their turn comes, and those with larger attributes.
const FILE_MAX: u64 = 64 * 1024;
/// Entries of a batch, and bytes of the files in it after which it ends.
const BATCH_ENTRIES: usize = 128;
const BATCH_BYTES: u64 = 1 << 20;

/// A batch, and where to put it when its files are read.
type Task = (Vec<WalkItem>, Sender<Vec<WalkItem>>);

/// A walk whose small files are read by other threads, in the order of the walk.
pub(super) struct ReadAhead<W> {
    walk: W,
    threads: usize,
    readers: Option<Readers>,
    /// Batches that are being read, in order.
    ahead: VecDeque<Receiver<Vec<WalkItem>>>,
    batch: std::vec::IntoIter<WalkItem>,
    failed: Arc<AtomicBool>,
}

/// Threads that read, until this is dropped.
struct Readers {
    tasks: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Iterator<Item = WalkItem>> ReadAhead<W> {
    /// Reads with this many threads once there is more than a batch to read.
    pub(super) fn start(walk: W, threads: usize) -> Self {
        let (ahead, batch, failed) = (VecDeque::new(), Vec::new().into_iter(), Arc::default());
        Self { walk, threads, readers: None, ahead, batch, failed }
    }

    /// Set if a thread died, and with it what it was to read: the walk ends there then.
    pub(super) fn failed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failed)
    }

    /// The next entries of the walk, and whether they fill a batch.
    fn take(&mut self) -> (Vec<WalkItem>, bool) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let Some(item) = self.walk.next() else { return (batch, false) };
            bytes += item.as_ref().map_or(0, |walked| if is_wanted(walked) { walked.status.size } else { 0 });
            batch.push(item);
        }
        (batch, true)
    }

    /// Hands out batches as far ahead as there are threads, and one more.
    fn fill(&mut self) {
        while self.ahead.len() <= self.threads {
            let (batch, is_full) = self.take();
            if batch.is_empty() {
                return;
            }
            let (done, place) = bounded(1);
            self.ahead.push_back(place);
            // A few entries are not worth a thread.
            let tasks = match &mut self.readers {
                Some(readers) => readers.tasks.as_ref(),
                None if is_full => self.readers.insert(Readers::start(self.threads)).tasks.as_ref(),
                None => None,
            };
            let unsent = match tasks {
                Some(tasks) => tasks.send((batch, done)).err().map(|failed| failed.0),
                None => Some((batch, done)),
            };
            if let Some((batch, done)) = unsent {
                // The place is empty, and its receiver is there.
                drop(done.send(batch));
            }
        }
    }
}

impl<W: Iterator<Item = WalkItem>> Iterator for ReadAhead<W> {
    type Item = WalkItem;

    fn next(&mut self) -> Option<WalkItem> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(item);
            }
            self.fill();
            let Ok(batch) = self.ahead.pop_front()?.recv() else {
                self.failed.store(true, Ordering::Relaxed);
                self.ahead.clear();
                return None;
            };
            self.batch = batch.into_iter();
        }
    }
}

impl Readers {
    fn start(threads: usize) -> Self {
        let (tasks, todo) = bounded::<Task>(threads + 1);
        let threads = (0..threads).map(|_| todo.clone()).map(|todo| std::thread::spawn(move || work(&todo)));
        Self { tasks: Some(tasks), threads: threads.collect() }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A panic there has already been reported by the default hook.
            drop(thread.join());
        }
    }
}

fn work(todo: &Receiver<Task>) {
    let mut opener = Opener::default();
    for (mut batch, done) in todo {
        for walked in batch.iter_mut().flatten().filter(|walked| is_wanted(walked)) {
            walked.read_ahead = read(&mut opener, walked);
        }
        // Nobody waits for it where the run has ended.
        drop(done.send(batch));
    }
}

/// True for a file that is read whole and by nobody else: of several names of one, others may tell what it holds.
fn is_wanted(walked: &Walked) -> bool {
    let status = &walked.status;
    status.kind == FileType::RegularFile
        && status.size <= FILE_MAX
        && status.links == 1
        && !may_have_holes(status)
}

/// A file that is whole, and still as the walk saw it.
fn read(opener: &mut Opener, walked: &Walked) -> Option<Box<ReadFile>> {
    let file = opener.open(walked).ok()?;
    // Those of a batch are held at once; few files have any.
    let xattrs = xattrs_of(&file).ok().filter(|xattrs| len_of(xattrs) <= FILE_MAX)?;
    let mut content = vec![0; usize::try_from(walked.status.size).ok()?];
    let is_whole = read_full(&file, &mut content, 0).ok()? == content.len();
    let is_still = is_as_it_was(&walked.status, &status_of(&file).ok()?);
    (is_whole && is_still).then(|| Box::new(ReadFile { xattrs, content }))
}

fn len_of(xattrs: &[Xattr]) -> u64 {
    xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{Filter, FilterOptions, Walk, open_roots};
    use std::fs;
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::{Path, PathBuf};

    fn walk(source: &Path) -> Walk {
        let sources = [source.to_owned()];
        let filter = Filter::new(FilterOptions::default(), &sources).unwrap();
        Walk::start(open_roots(&sources).unwrap(), Arc::new(filter), 2)
    }

    /// A source of many small files, and some that are not read ahead.
    fn source() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        for number in 0..1000 {
            let folder = source.join(format!("folder {}", number % 7));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("file {number}")), format!("content {number}")).unwrap();
        }
        fs::write(source.join("empty"), "").unwrap();
        fs::write(source.join("long"), vec![1; 70_000]).unwrap();
        fs::File::create(source.join("hole")).unwrap().write_all_at(b"end", 20_000).unwrap();
        fs::write(source.join("one name"), "of two").unwrap();
        fs::hard_link(source.join("one name"), source.join("other name")).unwrap();
        symlink("empty", source.join("link")).unwrap();
        (dir, source)
    }

    #[test]
    fn what_is_read_ahead_comes_in_the_order_of_the_walk_and_is_what_is_there() {
        let (_dir, source) = source();
        let plain: Vec<_> = walk(&source).map(|item| item.ok().unwrap().path).collect();
        let ahead: Vec<_> = ReadAhead::start(walk(&source), 3).map(|item| item.ok().unwrap()).collect();
        assert_eq!(plain, ahead.iter().map(|walked| walked.path.clone()).collect::<Vec<_>>());
        let mut read = 0;
        for walked in &ahead {
            let Some(file) = &walked.read_ahead else { continue };
            let below = walked.path.rsplit(|byte| *byte == b'/').next().unwrap();
            assert!(below.starts_with(b"file ") || below == b"empty", "{}", below.escape_ascii());
            let path = format!("/{}", String::from_utf8(walked.path.clone()).unwrap());
            assert_eq!(fs::read(path).unwrap(), file.content);
            read += 1;
        }
        assert_eq!(read, 1001);
    }

    #[test]
    fn a_few_entries_are_not_read_ahead_and_start_no_threads() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        let mut ahead = ReadAhead::start(walk(dir.path()), 2);
        let found: Vec<_> = ahead.by_ref().map(|item| item.ok().unwrap().read_ahead.is_some()).collect();
        assert_eq!(found, [false, false]);
        assert!(ahead.readers.is_none());
    }

    #[test]
    fn a_file_that_is_not_as_the_walk_saw_it_is_left_to_be_read_in_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        let seen = || walk(&path).next().unwrap().ok().unwrap();
        let mut opener = Opener::default();
        assert_eq!(read(&mut opener, &seen()).unwrap().content, b"content");
        for change in ["longer content", "short"] {
            let walked = seen();
            fs::write(&path, change).unwrap();
            assert!(read(&mut opener, &walked).is_none(), "{change}");
        }
        let walked = seen();
        fs::remove_file(&path).unwrap();
        assert!(read(&mut opener, &walked).is_none());
        fs::create_dir(&path).unwrap();
        assert!(read(&mut opener, &walked).is_none());
    }

    #[test]
    fn a_thread_that_died_ends_the_walk_and_is_told() {
        let (_dir, source) = source();
        let mut ahead = ReadAhead::start(walk(&source), 2);
        let failed = ahead.failed();
        assert!(ahead.next().is_some() && !failed.load(Ordering::Relaxed));
        // As if the thread that had the next batch were gone.
        ahead.ahead.push_front(bounded(1).1);
        assert!(ahead.by_ref().count() < BATCH_ENTRIES && failed.load(Ordering::Relaxed));
    }
}
