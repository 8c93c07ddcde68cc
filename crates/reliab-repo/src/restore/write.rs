//! Carrying out a restore: one thread plans and makes folders, the others write files (`worker`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, bounded};
use rustix::io::Errno;

use super::finish::{Finish, SecondName};
use super::linked::{Apart, First, Keeping, LinkedFiles, Making, Presence, note};
use super::plan::{Groups, SmallFile, record_of};
use super::shared::Shared;
use super::standing::Standing;
use super::target::{Naming, Parent, Target};
use super::temporary::Leftovers;
use super::whole::Whole;
use super::worker::{Job, LargeFile, Ticket, Window, finish_large, work};
use super::{Overwrite, RestoreOptions, RestoreReport, Selection, skipped_gap};
use crate::content::{Part, parts_of};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::{Content, Data, Entry, Kind};
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
    let shared = Shared::new(repository, target, events);
    let report = std::thread::scope(|scope| {
        let (jobs, queue) = bounded(options.threads * 2);
        let workers: Vec<_> = (0..options.threads.max(1))
            .map(|_| {
                let queue = queue.clone();
                let shared = &shared;
                scope.spawn(move || work(shared, &queue))
            })
            .collect();
        drop(queue);
        let planned = Planner::new(&shared, jobs, options).run(manifest, selection);
        let mut outcome = planned;
        for worker in workers {
            let ended = worker.join().unwrap_or(Err(Error::Panicked));
            outcome = outcome.and_then(|report| ended.map(|()| report));
        }
        outcome
    })?;
    shared.into_report(report)
}

/// Plans windows, and makes folders and special files; what must come after the files is in `finish`.
pub(super) struct Planner<'a> {
    pub(super) shared: &'a Shared<'a>,
    jobs: Sender<(Job, Ticket)>,
    overwrite: Option<Overwrite>,
    pub(super) report: RestoreReport,
    groups: Groups,
    window: Arc<Window>,
    pub(super) finish: Finish,
    /// The window before, still being written, and what comes after it.
    pub(super) before: Option<(Arc<Window>, Finish)>,
    /// Folders around the current entry, outermost first.
    open_dirs: Vec<Entry>,
    linked: LinkedFiles,
    pub(super) leftovers: Leftovers,
    pub(super) parent: Parent,
}

impl<'a> Planner<'a> {
    fn new(shared: &'a Shared<'a>, jobs: Sender<(Job, Ticket)>, options: &RestoreOptions) -> Self {
        let overwrite = options.overwrite;
        Self {
            shared,
            jobs,
            overwrite,
            leftovers: Leftovers::new(
                overwrite.is_some() && shared.target.is_locked,
                options.below.as_deref(),
            ),
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
        while let Some(item) = manifest.next() {
            if self.shared.events.stop_requested() {
                self.shared.stop.store(true, Ordering::Relaxed);
                return Err(Error::Interrupted);
            }
            if self.shared.is_stopped() {
                break;
            }
            let is_wanted = selection.wants(&item.entry);
            self.clear_leftovers(Some((&item.entry.path, is_wanted)), &mut manifest);
            if is_wanted {
                self.entry(item);
            }
            if self.groups.is_full() || self.finish.len() >= super::plan::WINDOW {
                self.end_window();
            }
        }
        if !self.shared.is_stopped() {
            self.clear_leftovers(None, &mut manifest);
        }
        self.leave_dirs(None);
        self.end_window();
        // More than once where second names wait for one that could not be made.
        while self.before.as_ref().is_some_and(|(_, finish)| finish.len() > 0) {
            self.end_window();
        }
        // Nothing comes after the last window, but it has to be written.
        self.finish_before();
        if self.shared.events.stop_requested() {
            return Err(Error::Interrupted);
        }
        self.report.skipped.extend(manifest.take_gaps().iter().map(skipped_gap));
        Ok(self.report)
    }

    fn entry(&mut self, item: ManifestEntry) {
        self.leave_dirs(Some(&item.entry.path));
        match self.standing(&item.entry) {
            Err(errno) => self.shared.not_taken(&item.entry.path, errno),
            Ok(standing) if item.entry.is_dir() => self.plan_dir(item.entry, standing),
            Ok(Standing::Keep | Standing::Same) => {
                self.report.kept += 1;
                self.keep_name(&item.entry);
            }
            Ok(standing) => self.plan(item, standing == Standing::Replace),
        }
    }

    fn plan(&mut self, item: ManifestEntry, replace: bool) {
        self.shared.plan(&item.entry);
        let target = self.shared.target;
        let first = match self.linked.made(&item.entry, |kept| target.is_same_file(kept, &item.entry)) {
            Making::Link(first) => {
                self.finish.links.push(SecondName { first, item, replace });
                return;
            }
            Making::Apart(why, first) => {
                self.shared.apart(&item.entry.path, &why);
                Some(first)
            }
            Making::Content(first) => first,
        };
        self.make(item, first, replace);
    }

    /// Makes a file, link, pipe or device with all that belongs to it; others may wait to be linked to it.
    pub(super) fn make(&mut self, item: ManifestEntry, first: Option<Arc<First>>, replace: bool) {
        if let Kind::File(content) = &item.entry.kind {
            let content = content.clone();
            return self.plan_file(item, content, replace, first);
        }
        match self.make_special(&item.entry, replace) {
            Ok(()) => {
                self.report.count(&item.entry);
                note(first.as_ref(), Presence::There);
            }
            Err(errno) => {
                self.shared.refused(&item.entry, errno);
                note(first.as_ref(), Presence::Refused);
            }
        }
    }

    fn plan_dir(&mut self, entry: Entry, standing: Standing) {
        match self.make_dir(&entry.path, standing) {
            Ok(made) => {
                self.report.count(&entry);
                // A folder that is to be kept as it is keeps its owner, mode and times, too.
                if made || self.overwrite != Some(Overwrite::Never) {
                    self.open_dirs.push(entry);
                }
            }
            Err(errno) => self.shared.not_taken(&entry.path, errno),
        }
    }

    /// Makes a folder, unless it is there; what is no folder gives way to it where it may be replaced.
    fn make_dir(&mut self, path: &[u8], standing: Standing) -> std::result::Result<bool, Errno> {
        let target = self.shared.target;
        if standing == Standing::Replace {
            target.remove(path, &mut self.parent)?;
        }
        target.make_dir(path, &mut self.parent)
    }

    fn make_special(&mut self, entry: &Entry, replace: bool) -> std::result::Result<(), Errno> {
        let target = self.shared.target;
        let parent = &mut self.parent;
        if !replace {
            let refused = target.make_special(entry, &entry.path, parent)?;
            self.shared.attributes(&entry.path, refused);
            return Ok(());
        }
        let (refused, temporary) =
            target.make_temporary(&entry.path, |name| target.make_special(entry, name, parent))?;
        self.shared.attributes(&entry.path, refused);
        let inode = target.inode_at(&temporary, parent)?.ok_or(Errno::STALE)?;
        target.name(&temporary, inode, &entry.path, Naming::Replace, parent)
    }

    /// Decides about what stands at an entry's path. Nothing is removed before its replacement is whole.
    fn standing(&mut self, entry: &Entry) -> std::result::Result<Standing, Errno> {
        let Some(overwrite) = self.overwrite else { return Ok(Standing::Nothing) };
        if entry.path == b"." {
            return Ok(Standing::Keep);
        }
        let target = self.shared.target;
        let found = target.status(&entry.path, &mut self.parent)?;
        let standing = Standing::of(entry, found.as_ref(), overwrite);
        if standing == Standing::Same {
            let refused = target.stamp_path(entry, &entry.path, &mut self.parent)?;
            self.shared.attributes(&entry.path, refused);
        }
        Ok(standing)
    }

    /// Names that were made become names of one that is kept, if that is what the snapshot has.
    fn keep_name(&mut self, entry: &Entry) {
        let target = self.shared.target;
        match self.linked.kept(entry, |kept| target.is_same_file(kept, entry)) {
            Keeping::Alone => {}
            Keeping::Join(made) => {
                self.finish.joins.extend(made.into_iter().map(|made| (entry.path.clone(), made)));
            }
            Keeping::Apart(made) => self.shared.apart(&made, &Apart::Kept(entry.path.clone())),
        }
    }

    fn plan_file(&mut self, item: ManifestEntry, content: Content, replace: bool, first: Option<Arc<First>>) {
        if let Some((bundle, offset)) = record_of(&item) {
            self.groups.push(bundle, SmallFile { entry: item.entry, content, offset, replace, first });
            return;
        }
        let Data::Large(large) = &content.data else { return };
        let index = self.shared.repository.index();
        let len_of = |blob| index.find(&item.blob(blob)).map(|place| place.len);
        let parts = match parts_of(large, content.size, len_of) {
            Ok(parts) => parts,
            Err(reason) => {
                self.shared.skip(&item.entry, reason, true);
                return note(first.as_ref(), Presence::Damaged);
            }
        };
        let (file, temporary) = match self.create_large(&item.entry) {
            Ok(created) => created,
            Err(errno) => {
                self.shared.refused(&item.entry, errno);
                return note(first.as_ref(), Presence::Refused);
            }
        };
        let naming = if replace { Naming::Replace } else { Naming::New };
        let large = LargeFile {
            entry: item.entry.clone(),
            temporary,
            naming,
            file,
            whole: Whole::of(&content),
            left: AtomicUsize::new(1),
            failed: AtomicBool::new(false),
            first,
        };
        self.send_large(&item, large, parts);
    }

    /// A new file of its full length under a temporary name, so that half of it never passes for the whole.
    fn create_large(&mut self, entry: &Entry) -> std::result::Result<(OwnedFd, Vec<u8>), Errno> {
        let target = self.shared.target;
        let parent = &mut self.parent;
        let (file, temporary) = target.create_temporary(&entry.path, entry, parent)?;
        let lengthened = rustix::fs::ftruncate(&file, entry.size());
        target.whole_or_gone(lengthened, &file, &temporary, parent)?;
        Ok((file, temporary))
    }

    /// Hands a large file out by the blobs it needs.
    fn send_large(&self, item: &ManifestEntry, mut large: LargeFile, parts: Vec<Part>) {
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
        large.left = AtomicUsize::new(by_blob.len() + 1);
        let large = Arc::new(large);
        for (blob, parts) in by_blob {
            self.send(Job::Parts(Arc::clone(&large), blob, parts));
        }
        finish_large(self.shared, &large);
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

    fn send_groups(&mut self) {
        for (bundle, files) in self.groups.take(self.shared.repository.index()) {
            self.send(Job::Bundle(bundle, files));
        }
    }

    /// Hands the window out, and finishes the one before it.
    fn end_window(&mut self) {
        self.send_groups();
        self.finish_before();
        // What had to be made otherwise than planned.
        self.send_groups();
        self.before = Some((std::mem::take(&mut self.window), std::mem::take(&mut self.finish)));
    }
}
