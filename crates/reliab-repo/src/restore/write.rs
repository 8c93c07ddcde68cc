//! Carrying out a restore: one thread plans and makes folders, the others write files (`worker`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Sender, bounded};
use rustix::io::Errno;

use super::linked::{Keeping, LinkedFiles, Making};
use super::plan::{Groups, SmallFile, record_of};
use super::target::{Parent, Target};
use super::worker::{Job, LargeFile, Shared, Ticket, Window, finish_large, temporary_name, work};
use super::{Overwrite, RestoreOptions, RestoreReport, Selection, skipped_gap};
use crate::content::{Part, parts_of};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::{Content, Data, Entry, Kind};
use crate::format::escape::escape;
use crate::format::order;
use crate::id::BlobId;
use crate::manifest::{Manifest, ManifestEntry};
use crate::repository::Repository;

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
