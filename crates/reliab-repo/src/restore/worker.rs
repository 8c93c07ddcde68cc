//! The threads of a restore: they decompress and write files.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::Receiver;
use rustix::io::Errno;

use super::linked::{First, Presence, note};
use super::plan::SmallFile;
use super::shared::Shared;
use super::target::{Naming, Parent, Refused, Target, inode_of};
use super::whole::Whole;
use crate::blob::BlobReader;
use crate::content::Part;
use crate::error::{Error, Result, plain};
use crate::format::entry::{Entry, Kind};
use crate::format::table::BlobKind;
use crate::format::tar::content_range;
use crate::id::{BlobId, Digest};

/// What a thread does next.
pub(super) enum Job {
    /// Small files out of a bundle.
    Bundle(BlobId, Vec<SmallFile>),
    /// Parts of a large file out of one blob.
    Parts(Arc<LargeFile>, BlobId, Vec<Part>),
}

/// A large file being written by several threads.
pub(super) struct LargeFile {
    pub(super) entry: Entry,
    /// The name it has until it is whole.
    pub(super) temporary: Vec<u8>,
    /// What becomes of what stands at its own.
    pub(super) naming: Naming,
    pub(super) file: OwnedFd,
    /// What its content is, if that is compared.
    pub(super) whole: Option<Whole>,
    /// Jobs that are not done.
    pub(super) left: AtomicUsize,
    pub(super) failed: AtomicBool,
    /// Other names wait for it.
    pub(super) first: Option<Arc<First>>,
}

/// Counts the jobs of a window that are not done.
#[derive(Default)]
pub(super) struct Window {
    open: Mutex<usize>,
    done: Condvar,
}

impl Window {
    pub(super) fn enter(self: &Arc<Self>) -> Ticket {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Ticket(Arc::clone(self))
    }

    pub(super) fn wait(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while *open > 0 {
            open = self.done.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A job's place in its window, given up when it is done, however it ends.
pub(super) struct Ticket(Arc<Window>);

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.done.notify_all();
    }
}

/// Does what is in the queue until it is closed.
pub(super) fn work(shared: &Shared<'_>, queue: &Receiver<(Job, Ticket)>) -> Result<()> {
    let mut guard = StopUnlessDone { shared, queue, is_done: false };
    let ended = take_jobs(shared, queue);
    guard.is_done = ended.is_ok();
    ended
}

fn take_jobs(shared: &Shared<'_>, queue: &Receiver<(Job, Ticket)>) -> Result<()> {
    let mut worker = Worker {
        shared,
        reader: BlobReader::new(shared.repository)?,
        content: Vec::new(),
        parent: Parent::default(),
    };
    for (job, ticket) in queue {
        if shared.events.stop_requested() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        match job {
            _ if shared.is_stopped() => discard(shared, job),
            Job::Bundle(id, files) => worker.bundle(&id, files),
            Job::Parts(large, id, parts) => worker.parts(&large, &id, &parts),
        }
        drop(ticket);
    }
    Ok(())
}

fn discard(shared: &Shared<'_>, job: Job) {
    if let Job::Parts(large, ..) = job {
        // What was written of it must not pass for the whole.
        large.failed.store(true, Ordering::Relaxed);
        finish_large(shared, &large);
    }
}

/// Ends the restore when a thread ends by an error or a panic.
///
/// One that ends because there is no more to do says nothing of the others, which may still have work in hand.
struct StopUnlessDone<'a> {
    shared: &'a Shared<'a>,
    queue: &'a Receiver<(Job, Ticket)>,
    is_done: bool,
}

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        // It may have been the last, and the planner waits for what is in the queue.
        for (job, ticket) in self.queue {
            discard(self.shared, job);
            drop(ticket);
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    reader: BlobReader<'a>,
    content: Vec<u8>,
    parent: Parent,
}

impl Worker<'_> {
    fn bundle(&mut self, id: &BlobId, files: Vec<SmallFile>) {
        if let Err(error) = self.reader.read_for_digest(id, BlobKind::Bundle, &mut self.content) {
            for file in &files {
                self.shared.skip(&file.entry, format!("cannot {error}"), true);
                note(file.first.as_ref(), Presence::Damaged);
            }
            return;
        }
        let count = files.len() as u64;
        let bytes = files.iter().map(|file| self.small_file(file)).sum();
        self.shared.events.advance(bytes, count);
    }

    /// Writes a small file, if its content matches its digest; gives the bytes written.
    fn small_file(&mut self, file: &SmallFile) -> u64 {
        let content = match content_of(&self.content, file) {
            Ok(content) => content,
            Err(reason) => {
                self.shared.skip(&file.entry, reason, true);
                note(file.first.as_ref(), Presence::Damaged);
                return 0;
            }
        };
        match write_small(self.shared, file, content, &mut self.parent) {
            Ok(()) => {
                self.shared.file_done(content.len() as u64);
                note(file.first.as_ref(), Presence::There);
                content.len() as u64
            }
            Err(errno) => {
                self.shared.refused(&file.entry, errno);
                note(file.first.as_ref(), Presence::Refused);
                0
            }
        }
    }

    fn parts(&mut self, large: &LargeFile, id: &BlobId, parts: &[Part]) {
        let kind = self.shared.repository.index().piece_kind(id);
        let read = match large.whole {
            Some(_) => self.reader.read_for_digest(id, kind, &mut self.content),
            None => self.reader.read(id, kind, &mut self.content),
        };
        if let Err(error) = read {
            self.fail(large, &error);
        } else {
            parts.iter().for_each(|part| self.part(large, part));
        }
        finish_large(self.shared, large);
    }

    fn part(&self, large: &LargeFile, part: &Part) {
        let (from, len) = (part.from as usize, part.len as usize);
        let Some(bytes) = from.checked_add(len).and_then(|end| self.content.get(from..end)) else {
            return self.fail(large, &Error::damaged("a part of it", "it lies outside its blob"));
        };
        if let Some(whole) = &large.whole
            && !large.failed.load(Ordering::Relaxed)
        {
            whole.add(part.to, bytes);
        }
        match write_full(&large.file, bytes, part.to) {
            Ok(()) => self.shared.events.advance(len as u64, 0),
            Err(errno) => {
                if !large.failed.swap(true, Ordering::Relaxed) {
                    self.shared.refused(&large.entry, errno);
                    note(large.first.as_ref(), Presence::Refused);
                }
            }
        }
    }

    fn fail(&self, large: &LargeFile, error: &Error) {
        if !large.failed.swap(true, Ordering::Relaxed) {
            self.shared.skip(&large.entry, format!("cannot {error}"), true);
            note(large.first.as_ref(), Presence::Damaged);
        }
    }
}

/// The content of a small file in its bundle, if it is what its digest says.
fn content_of<'a>(bundle: &'a [u8], file: &SmallFile) -> std::result::Result<&'a [u8], &'static str> {
    let range = content_range(bundle, file.offset, file.content.size);
    let content = range.map(|range| &bundle[range]).ok_or("its record is not where it should be")?;
    let is_whole = Digest(*blake3::hash(content).as_bytes()) == file.content.digest;
    is_whole.then_some(content).ok_or("its content does not match its digest")
}

/// Writes a small file with all that belongs to it, or nothing.
fn write_small(
    shared: &Shared<'_>,
    file: &SmallFile,
    content: &[u8],
    parent: &mut Parent,
) -> std::result::Result<(), Errno> {
    let target = shared.target;
    let path = &file.entry.path;
    let (out, temporary) = if file.replace {
        let made = target.create_temporary(path, &file.entry, parent)?;
        (made.0, Some(made.1))
    } else {
        (target.create(path, &file.entry, parent)?, None)
    };
    let written = write_full(&out, content, 0)
        .and_then(|()| target.stamp_new(&out, &file.entry.meta, &file.entry.xattrs));
    let refused = target.whole_or_gone(written, &out, temporary.as_ref().unwrap_or(path), parent)?;
    if let Some(temporary) = &temporary {
        target.name(temporary, inode_of(&out)?, path, Naming::Replace, parent)?;
    }
    shared.attributes(path, refused);
    Ok(())
}

/// Lets go of a large file; the last one stamps and names it, or removes what could not be completed.
pub(super) fn finish_large(shared: &Shared<'_>, large: &LargeFile) {
    if large.left.fetch_sub(1, Ordering::AcqRel) > 1 {
        return;
    }
    let entry = &large.entry;
    let mut parent = Parent::default();
    if !large.failed.load(Ordering::Relaxed) && !is_as_told(large) {
        large.failed.store(true, Ordering::Relaxed);
        shared.skip(entry, "its content does not match its digest", true);
        note(large.first.as_ref(), Presence::Damaged);
    }
    if large.failed.load(Ordering::Relaxed) {
        // Half a file under its own name would pass for the whole; nothing is better.
        let removed = inode_of(&large.file)
            .and_then(|inode| shared.target.remove_made(&large.temporary, inode, &mut parent));
        if let Err(errno) = removed {
            shared.tell(&entry.path, format!("what was written of it is left: {}", plain(errno)), false);
        }
        return;
    }
    match name_large(shared.target, large, &mut parent) {
        Ok(refused) => {
            shared.attributes(&entry.path, refused);
            shared.file_done(entry.size());
            note(large.first.as_ref(), Presence::There);
        }
        Err(errno) => {
            shared.refused(entry, errno);
            note(large.first.as_ref(), Presence::Refused);
        }
    }
    shared.events.advance(0, 1);
}

/// False if the content of a file that is compared is not what its digest says.
fn is_as_told(large: &LargeFile) -> bool {
    match (&large.entry.kind, &large.whole) {
        (Kind::File(content), Some(whole)) => whole.digest() == Some(content.digest),
        _ => true,
    }
}

/// Stamps a large file that is whole and gives it its name, or removes it.
fn name_large(
    target: &Target,
    large: &LargeFile,
    parent: &mut Parent,
) -> std::result::Result<Refused, Errno> {
    let LargeFile { entry, temporary, file, naming, .. } = large;
    let stamped = target.stamp_new(file, &entry.meta, &entry.xattrs);
    let refused = target.whole_or_gone(stamped, file, temporary, parent)?;
    target.name(temporary, inode_of(file)?, &entry.path, *naming, parent)?;
    Ok(refused)
}

fn write_full(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(len) => {
                bytes = &bytes[len..];
                at += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
