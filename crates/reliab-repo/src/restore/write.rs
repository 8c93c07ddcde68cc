//! Carrying out a restore: one thread plans and makes folders, the others decompress and write files.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;

use super::linked::{Keeping, LinkedFiles, Making};
use super::plan::{Groups, SmallFile, record_of};
use super::target::{Parent, Refused, Target};
use super::{Overwrite, RestoreOptions, RestoreReport, Selection, Skipped, skipped_gap};
use crate::blob::BlobReader;
use crate::content::{Part, parts_of};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::{Content, Data, Entry, Kind};
use crate::format::escape::escape;
use crate::format::order;
use crate::format::table::BlobKind;
use crate::format::tar::content_range;
use crate::id::{BlobId, Digest};
use crate::manifest::{Manifest, ManifestEntry};
use crate::repository::Repository;

/// What a thread does next.
enum Job {
    /// Small files out of a bundle.
    Bundle(BlobId, Vec<SmallFile>),
    /// Parts of a large file out of one blob.
    Parts(Arc<LargeFile>, BlobId, Vec<Part>),
}

/// A large file being written by several threads.
struct LargeFile {
    entry: Entry,
    /// The name it has until it is whole, where it replaces something.
    temporary: Option<Vec<u8>>,
    file: OwnedFd,
    /// Jobs that are not done.
    left: AtomicUsize,
    failed: AtomicBool,
}

/// Counts the jobs of a window that are not done.
#[derive(Default)]
struct Window {
    open: Mutex<usize>,
    done: Condvar,
}

impl Window {
    fn enter(self: &Arc<Self>) -> Ticket {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Ticket(Arc::clone(self))
    }

    fn wait(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while *open > 0 {
            open = self.done.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A job's place in its window, given up when it is done, however it ends.
struct Ticket(Arc<Window>);

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.done.notify_all();
    }
}

/// What the threads share.
struct Shared<'a> {
    repository: &'a Repository,
    target: &'a Target,
    events: &'a dyn Events,
    /// Files that are whole under their names.
    files: AtomicU64,
    /// Their bytes.
    bytes: AtomicU64,
    skipped: Mutex<Vec<Skipped>>,
    attributes: Mutex<Vec<Skipped>>,
    fatal: Mutex<Option<Error>>,
    stop: AtomicBool,
}

impl Shared<'_> {
    fn file_done(&self, size: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn skip(&self, path: &[u8], reason: impl ToString, damaged: bool) {
        let skipped = Skipped { path: escape(path).into_owned(), reason: reason.to_string(), damaged };
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).push(skipped);
    }

    /// True if a path was skipped because the repository's data of it are missing or damaged.
    fn is_damaged(&self, path: &[u8]) -> bool {
        let path = escape(path);
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.iter().any(|skipped| skipped.damaged && skipped.path == path)
    }

    /// Notes what the target could not take. A full or broken file system ends the restore.
    fn refused(&self, path: &[u8], errno: Errno) {
        if matches!(
            errno,
            Errno::NOSPC | Errno::IO | Errno::ROFS | Errno::DQUOT | Errno::MFILE | Errno::NFILE
        ) {
            let path = escape(path).into_owned();
            let error = Error::local("restore", path)(errno.into());
            self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        } else {
            self.skip(path, std::io::Error::from(errno), false);
        }
    }

    /// Tells that a file was restored apart from one that was kept, of which it should be another name.
    fn apart(&self, path: &[u8], kept: &[u8]) {
        let reason = format!(
            "it is a file of its own now: {} was kept, and is not what the snapshot has under both names",
            escape(kept)
        );
        self.events.warning(std::path::Path::new(escape(path).as_ref()), &reason);
    }

    /// Notes attributes that the target did not take.
    fn attributes(&self, path: &[u8], refused: Refused) {
        for (name, errno) in refused {
            let reason =
                format!("its attribute {} was not set: {}", escape(&name), std::io::Error::from(errno));
            let refused = Skipped { path: escape(path).into_owned(), reason, damaged: false };
            self.attributes.lock().unwrap_or_else(PoisonError::into_inner).push(refused);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Restores what a manifest holds and the selection wants.
pub(super) fn run(
    repository: &Repository,
    manifest: Manifest<'_>,
    selection: &Selection,
    target: &Target,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<RestoreReport> {
    let shared = Shared {
        repository,
        target,
        events,
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        skipped: Mutex::default(),
        attributes: Mutex::default(),
        fatal: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    let mut report = std::thread::scope(|scope| {
        let (jobs, queue) = bounded(options.threads * 2);
        let workers: Vec<_> = (0..options.threads.max(1))
            .map(|_| {
                let queue = queue.clone();
                let shared = &shared;
                scope.spawn(move || work(shared, &queue))
            })
            .collect();
        drop(queue);
        let planned = Planner::new(&shared, jobs, options.overwrite).run(manifest, selection);
        let mut outcome = planned;
        for worker in workers {
            let ended = worker.join().unwrap_or(Err(Error::Panicked));
            outcome = outcome.and_then(|report| ended.map(|()| report));
        }
        outcome
    })?;
    if let Some(error) = shared.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    report.files = shared.files.into_inner();
    report.entries += report.files;
    report.bytes = shared.bytes.into_inner();
    report.skipped.extend(shared.skipped.into_inner().unwrap_or_else(PoisonError::into_inner));
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    report.attributes = shared.attributes.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.attributes.sort_by(|a, b| a.path.cmp(&b.path));
    report.owners_skipped = target.owners_skipped.load(Ordering::Relaxed);
    if target.xattrs_skipped.load(Ordering::Relaxed) {
        events.warning(
            std::path::Path::new("."),
            "some extended attributes were not restored: that needs root",
        );
    }
    Ok(report)
}

/// Plans windows, makes folders and special files, and finishes what must come after the files.
struct Planner<'a> {
    shared: &'a Shared<'a>,
    jobs: Sender<(Job, Ticket)>,
    overwrite: Option<Overwrite>,
    report: RestoreReport,
    groups: Groups,
    window: Arc<Window>,
    finish: Finish,
    /// The window before, still being written, and what comes after it.
    before: Option<(Arc<Window>, Finish)>,
    /// Folders around the current entry, outermost first.
    open_dirs: Vec<Entry>,
    linked: LinkedFiles,
    parent: Parent,
}

/// What is done when a window is written.
#[derive(Default)]
struct Finish {
    links: Vec<SecondName>,
    /// Kept files, and names that were made and become names of them.
    joins: Vec<(Vec<u8>, Vec<u8>)>,
    /// Folders whose content is complete, innermost first.
    dirs: Vec<Entry>,
}

/// Another name of an inode that was restored before.
struct SecondName {
    first: Vec<u8>,
    entry: Entry,
    /// Something stands there.
    replace: bool,
}

impl<'a> Planner<'a> {
    fn new(shared: &'a Shared<'a>, jobs: Sender<(Job, Ticket)>, overwrite: Option<Overwrite>) -> Self {
        Self {
            shared,
            jobs,
            overwrite,
            report: RestoreReport::default(),
            groups: Groups::default(),
            window: Arc::default(),
            finish: Finish::default(),
            before: None,
            open_dirs: Vec::new(),
            linked: LinkedFiles::new(overwrite == Some(Overwrite::Never)),
            parent: Parent::default(),
        }
    }

    fn run(mut self, mut manifest: Manifest<'_>, selection: &Selection) -> Result<RestoreReport> {
        for item in manifest.by_ref().filter(|item| selection.wants(&item.entry)) {
            if self.shared.events.stop_requested() {
                self.shared.stop.store(true, Ordering::Relaxed);
                return Err(Error::Interrupted);
            }
            if self.shared.is_stopped() {
                break;
            }
            self.entry(item);
            if self.groups.is_full() || self.finish.len() >= super::plan::WINDOW {
                self.end_window();
            }
        }
        self.leave_dirs(None);
        self.end_window();
        self.finish_before();
        if self.shared.events.stop_requested() {
            return Err(Error::Interrupted);
        }
        self.report.skipped.extend(manifest.take_gaps().iter().map(skipped_gap));
        Ok(self.report)
    }

    fn entry(&mut self, item: ManifestEntry) {
        self.leave_dirs(Some(&item.entry.path));
        if let Err((path, errno)) = self.plan(item) {
            self.shared.refused(&path, errno);
        }
    }

    fn plan(&mut self, item: ManifestEntry) -> std::result::Result<(), (Vec<u8>, Errno)> {
        let path = item.entry.path.clone();
        let failed = |errno| (path.clone(), errno);
        let standing = self.standing(&item.entry).map_err(failed)?;
        if item.entry.is_dir() {
            return self.plan_dir(item.entry, standing).map_err(failed);
        }
        if standing == Standing::Keep {
            self.report.kept += 1;
            self.keep_name(&item.entry);
            return Ok(());
        }
        let replace = standing == Standing::Replace;
        let target = self.shared.target;
        match self.linked.made(&item.entry, |kept| target.is_same_file(kept, &item.entry)) {
            Making::Link(first) => {
                self.finish.links.push(SecondName { first, entry: item.entry, replace });
                return Ok(());
            }
            Making::Apart(kept) => self.shared.apart(&item.entry.path, &kept),
            Making::Content => {}
        }
        if let Kind::File(content) = &item.entry.kind {
            let content = content.clone();
            return self.plan_file(item, content, replace).map_err(failed);
        }
        self.make_special(&item.entry, replace).map_err(failed)?;
        self.report.count(&item.entry);
        Ok(())
    }

    /// Makes a folder; what is no folder gives way to it where it may be replaced.
    fn plan_dir(&mut self, entry: Entry, standing: Standing) -> std::result::Result<(), Errno> {
        let target = self.shared.target;
        if standing == Standing::Replace {
            target.remove(&entry.path, &mut self.parent)?;
        }
        let made = target.make_dir(&entry.path, &mut self.parent)?;
        self.report.count(&entry);
        // A folder that is to be kept as it is keeps its owner, mode and times, too.
        if made || self.overwrite != Some(Overwrite::Never) {
            self.open_dirs.push(entry);
        }
        Ok(())
    }

    fn make_special(&mut self, entry: &Entry, replace: bool) -> std::result::Result<(), Errno> {
        let target = self.shared.target;
        let temporary = replace.then(|| temporary_name(&entry.path));
        let path = temporary.as_ref().unwrap_or(&entry.path);
        if temporary.is_some() {
            target.remove(path, &mut self.parent)?;
        }
        let refused = target.make_special(entry, path, &mut self.parent)?;
        self.shared.attributes(&entry.path, refused);
        temporary.map_or(Ok(()), |temporary| target.replace(&temporary, &entry.path, &mut self.parent))
    }

    /// Decides about what stands at an entry's path. Nothing is removed before its replacement is whole.
    fn standing(&mut self, entry: &Entry) -> std::result::Result<Standing, Errno> {
        let Some(overwrite) = self.overwrite else { return Ok(Standing::Nothing) };
        if entry.path == b"." {
            return Ok(Standing::Keep);
        }
        let target = self.shared.target;
        let Some(found) = target.status(&entry.path, &mut self.parent)? else { return Ok(Standing::Nothing) };
        if entry.is_dir() && found.kind == rustix::fs::FileType::Directory {
            return Ok(Standing::Keep);
        }
        // Names of one file are put back together, so one of them is never kept by itself.
        let is_same = entry.meta.links.is_none()
            && found.kind == rustix::fs::FileType::RegularFile
            && matches!(entry.kind, Kind::File(_))
            && (found.size, found.mtime) == (entry.size(), entry.meta.mtime);
        match overwrite {
            Overwrite::Never => Ok(Standing::Keep),
            Overwrite::IfChanged if is_same => {
                let refused = target.stamp_path(entry, &entry.path, &mut self.parent)?;
                self.shared.attributes(&entry.path, refused);
                Ok(Standing::Keep)
            }
            Overwrite::IfChanged | Overwrite::Always => Ok(Standing::Replace),
        }
    }

    /// Names that were made become names of one that is kept, if that is what the snapshot has.
    fn keep_name(&mut self, entry: &Entry) {
        let target = self.shared.target;
        match self.linked.kept(entry, |kept| target.is_same_file(kept, entry)) {
            Keeping::Alone => {}
            Keeping::Join(made) => {
                self.finish.joins.extend(made.into_iter().map(|made| (entry.path.clone(), made)));
            }
            Keeping::Apart(made) => self.shared.apart(&made, &entry.path),
        }
    }

    fn plan_file(
        &mut self,
        item: ManifestEntry,
        content: Content,
        replace: bool,
    ) -> std::result::Result<(), Errno> {
        if let Some((bundle, offset)) = record_of(&item) {
            self.groups.push(bundle, SmallFile { entry: item.entry, content, offset, replace });
            return Ok(());
        }
        let Data::Large(large) = &content.data else { return Ok(()) };
        let index = self.shared.repository.index();
        let len_of = |blob| index.find(&item.blob(blob)).map(|place| place.len);
        let parts = match parts_of(large, content.size, len_of) {
            Ok(parts) => parts,
            Err(reason) => {
                self.shared.skip(&item.entry.path, reason, true);
                return Ok(());
            }
        };
        self.send_large(item, content.size, parts, replace)
    }

    fn send_large(
        &mut self,
        item: ManifestEntry,
        size: u64,
        parts: Vec<Part>,
        replace: bool,
    ) -> std::result::Result<(), Errno> {
        let temporary = replace.then(|| temporary_name(&item.entry.path));
        let path = temporary.as_ref().unwrap_or(&item.entry.path);
        if temporary.is_some() {
            // Left by a run that was killed.
            self.shared.target.remove(path, &mut self.parent)?;
        }
        let file = self.shared.target.create(path, &item.entry, &mut self.parent)?;
        rustix::fs::ftruncate(&file, size)?;
        let mut by_blob: Vec<(BlobId, Vec<Part>)> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for part in parts {
            let at = *places.entry(part.blob).or_insert_with(|| {
                by_blob.push((item.blob(part.blob), Vec::new()));
                by_blob.len() - 1
            });
            by_blob[at].1.push(part);
        }
        // One more than there are jobs: the last one to let go stamps the file, and that may be this thread.
        let left = AtomicUsize::new(by_blob.len() + 1);
        let large =
            Arc::new(LargeFile { entry: item.entry, temporary, file, left, failed: AtomicBool::new(false) });
        for (blob, parts) in by_blob {
            self.send(Job::Parts(Arc::clone(&large), blob, parts));
        }
        finish_large(self.shared, &large);
        Ok(())
    }

    /// The channel closes only when every worker has ended, whose error is reported then.
    fn send(&self, job: Job) {
        drop(self.jobs.send((job, self.window.enter())));
    }

    /// Closes the folders that the next entry is not in.
    fn leave_dirs(&mut self, next: Option<&[u8]>) {
        while let Some(dir) =
            self.open_dirs.pop_if(|dir| !next.is_some_and(|path| order::is_within(path, &dir.path)))
        {
            self.finish.dirs.push(dir);
        }
    }

    /// Hands the window out, and finishes the one before it.
    fn end_window(&mut self) {
        for (bundle, files) in self.groups.take(self.shared.repository.index()) {
            self.send(Job::Bundle(bundle, files));
        }
        self.finish_before();
        self.before = Some((std::mem::take(&mut self.window), std::mem::take(&mut self.finish)));
    }

    fn finish_before(&mut self) {
        let Some((window, finish)) = self.before.take() else { return };
        window.wait();
        let target = self.shared.target;
        for SecondName { first, entry, replace } in finish.links {
            let second = &entry.path;
            match link(target, &first, second, replace, &mut self.parent) {
                Ok(()) => match &entry.kind {
                    Kind::File(content) => self.shared.file_done(content.size),
                    _ => self.report.count(&entry),
                },
                Err(Errno::NOENT) if self.shared.is_damaged(&first) => {
                    let reason = format!("it is another name of {}, which is damaged", escape(&first));
                    self.shared.skip(second, reason, true);
                }
                Err(errno) => self.shared.refused(second, errno),
            }
        }
        for (kept, made) in finish.joins {
            // What could not be made has been told.
            let is_there = target.status(&made, &mut self.parent).is_ok_and(|found| found.is_some());
            if is_there && let Err(errno) = link(target, &kept, &made, true, &mut self.parent) {
                self.shared.refused(&made, errno);
            }
        }
        for dir in finish.dirs {
            // The top folder is the target itself, which a restore of `.` gives its times and mode, too.
            match target.stamp_path(&dir, &dir.path, &mut self.parent) {
                Ok(refused) => self.shared.attributes(&dir.path, refused),
                Err(errno) => self.shared.refused(&dir.path, errno),
            }
        }
    }
}

impl Finish {
    fn len(&self) -> usize {
        self.links.len() + self.joins.len() + self.dirs.len()
    }
}

/// What becomes of what stands at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Nothing,
    Keep,
    Replace,
}

/// A name in the same folder, for what will replace an entry.
fn temporary_name(path: &[u8]) -> Vec<u8> {
    let folder = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let hash = blake3::hash(path).to_hex();
    [&path[..folder], b".reliab-restore-", &hash.as_bytes()[..16]].concat()
}

/// Makes a second name of a file, in place of what has it.
fn link(
    target: &Target,
    first: &[u8],
    second: &[u8],
    replace: bool,
    parent: &mut Parent,
) -> std::result::Result<(), Errno> {
    if !replace {
        return target.link(first, second, parent);
    }
    let temporary = temporary_name(second);
    target.remove(&temporary, parent)?;
    target.link(first, &temporary, parent)?;
    target.replace(&temporary, second, parent)?;
    // Renaming one name of a file to another name of the same does nothing (rename(2)).
    target.remove(&temporary, parent)
}

fn work(shared: &Shared<'_>, queue: &Receiver<(Job, Ticket)>) -> Result<()> {
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
            Job::Bundle(id, files) if !shared.is_stopped() => worker.bundle(&id, files),
            Job::Bundle(..) => {}
            Job::Parts(large, id, parts) if !shared.is_stopped() => worker.parts(&large, &id, &parts),
            Job::Parts(large, ..) => {
                // What was written of it must not pass for the whole.
                large.failed.store(true, Ordering::Relaxed);
                finish_large(shared, &large);
            }
        }
        drop(ticket);
    }
    Ok(())
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
            files.iter().for_each(|file| self.shared.skip(&file.entry.path, format!("cannot {error}"), true));
            return;
        }
        let count = files.len() as u64;
        let bytes = files.iter().map(|file| self.small_file(file)).sum();
        self.shared.events.advance(bytes, count);
    }

    /// Writes a small file, if its content matches its digest; gives the bytes written.
    fn small_file(&mut self, file: &SmallFile) -> u64 {
        let path = &file.entry.path;
        let range = content_range(&self.content, file.offset, file.content.size);
        let Some(content) = range.map(|range| &self.content[range]) else {
            self.shared.skip(path, "its record is not where it should be", true);
            return 0;
        };
        if Digest(*blake3::hash(content).as_bytes()) != file.content.digest {
            self.shared.skip(path, "its content does not match its digest", true);
            return 0;
        }
        let target = self.shared.target;
        let temporary = file.replace.then(|| temporary_name(path));
        let first_path = temporary.as_ref().unwrap_or(path);
        if let Some(temporary) = &temporary {
            // Left by a run that was killed; if it cannot be removed, creating it says so.
            target.remove(temporary, &mut self.parent).unwrap_or(());
        }
        let written = target.create(first_path, &file.entry, &mut self.parent).and_then(|out| {
            write_full(&out, content, 0)?;
            let refused = target.stamp_new(&out, &file.entry.meta, &file.entry.xattrs)?;
            self.shared.attributes(path, refused);
            temporary.as_ref().map_or(Ok(()), |temporary| target.replace(temporary, path, &mut self.parent))
        });
        if written.is_err()
            && let Some(temporary) = &temporary
        {
            // What stood there still does; the rest of the attempt is in nobody's way for long.
            target.remove(temporary, &mut self.parent).unwrap_or(());
        }
        match written {
            Ok(()) => {
                self.shared.file_done(content.len() as u64);
                content.len() as u64
            }
            Err(errno) => {
                self.shared.refused(path, errno);
                0
            }
        }
    }

    fn parts(&mut self, large: &LargeFile, id: &BlobId, parts: &[Part]) {
        let kind = self.shared.repository.index().piece_kind(id);
        if let Err(error) = self.reader.read(id, kind, &mut self.content) {
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
        match write_full(&large.file, bytes, part.to) {
            Ok(()) => self.shared.events.advance(len as u64, 0),
            Err(errno) => {
                if !large.failed.swap(true, Ordering::Relaxed) {
                    self.shared.refused(&large.entry.path, errno);
                }
            }
        }
    }

    fn fail(&self, large: &LargeFile, error: &Error) {
        if !large.failed.swap(true, Ordering::Relaxed) {
            self.shared.skip(&large.entry.path, format!("cannot {error}"), true);
        }
    }
}

/// Lets go of a large file; the last one stamps it, or removes what could not be completed.
fn finish_large(shared: &Shared<'_>, large: &LargeFile) {
    if large.left.fetch_sub(1, Ordering::AcqRel) > 1 {
        return;
    }
    let entry = &large.entry;
    let mut parent = Parent::default();
    let path = large.temporary.as_ref().unwrap_or(&entry.path);
    if large.failed.load(Ordering::Relaxed) {
        // Half a file under its own name would pass for the whole; nothing is better.
        if let Err(errno) = shared.target.remove(path, &mut parent) {
            shared.skip(
                &entry.path,
                format!("what was written of it is left: {}", std::io::Error::from(errno)),
                false,
            );
        }
        return;
    }
    let named = shared.target.stamp_new(&large.file, &entry.meta, &entry.xattrs).and_then(|refused| {
        shared.attributes(&entry.path, refused);
        let temporary = large.temporary.as_ref();
        temporary.map_or(Ok(()), |temporary| shared.target.replace(temporary, &entry.path, &mut parent))
    });
    match named {
        Ok(()) => shared.file_done(entry.size()),
        Err(errno) => shared.refused(&entry.path, errno),
    }
    shared.events.advance(0, 1);
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
