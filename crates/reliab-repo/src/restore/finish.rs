//! What comes when a window is written: second names are linked, and folders get their times.

use std::collections::HashSet;
use std::sync::Arc;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, fstat, futimens};
use rustix::io::Errno;

use super::linked::{First, Presence};
use super::target::{Naming, Parent, Target};
use super::write::Planner;
use crate::format::entry::{Entry, Kind};
use crate::format::escape::escape;
use crate::manifest::ManifestEntry;
use crate::walk::Status;

/// What is done when a window is written.
#[derive(Default)]
pub(super) struct Finish {
    pub(super) links: Vec<SecondName>,
    /// Kept files, and names that were made and become names of them.
    pub(super) joins: Vec<(Vec<u8>, Vec<u8>)>,
    /// Folders whose content is complete, innermost first.
    pub(super) dirs: Vec<Entry>,
}

/// Another name of an inode that was restored before.
pub(super) struct SecondName {
    pub(super) first: Arc<First>,
    pub(super) item: ManifestEntry,
    /// Something stands there.
    pub(super) replace: bool,
}

impl Finish {
    pub(super) fn len(&self) -> usize {
        self.links.len() + self.joins.len() + self.dirs.len()
    }
}

impl Planner<'_> {
    /// Waits until the window before is written, and does what comes after it.
    pub(super) fn finish_before(&mut self) {
        let Some((window, finish)) = self.before.take() else { return };
        window.wait();
        let mut waiting = HashSet::new();
        for name in finish.links {
            if self.shared.is_stopped() || self.shared.events.stop_requested() {
                break;
            }
            let path = name.item.entry.path.clone();
            if !self.second_name(name) {
                waiting.insert(path);
            }
        }
        for (kept, made) in finish.joins {
            self.join(kept, made, &waiting);
        }
        if waiting.is_empty() {
            self.stamp_dirs(&finish.dirs);
        } else {
            // A name that is still to be made would change the time of the folder it is in.
            self.finish.dirs.splice(0..0, finish.dirs);
        }
    }

    /// Links a second name to the first, if this run has made that; false if its turn comes with the next window.
    fn second_name(&mut self, name: SecondName) -> bool {
        let SecondName { first, item, replace } = name;
        match first.get() {
            (to, Presence::There) => self.link(&to, &item.entry, replace),
            (to, Presence::Damaged) => {
                let reason = format!("it is another name of {}, which is damaged", escape(&to));
                self.shared.skip(&item.entry, reason, true);
            }
            (to, Presence::Refused) => {
                if first.becomes(&item.entry.path) {
                    self.make(item, Some(first), replace);
                    return false;
                }
                let reason = format!("it is another name of {}, which was not restored either", escape(&to));
                self.shared.skip(&item.entry, reason, false);
            }
            (_, Presence::Awaited) => {
                self.finish.links.push(SecondName { first, item, replace });
                return false;
            }
        }
        true
    }

    fn link(&mut self, first: &[u8], entry: &Entry, replace: bool) {
        match link(self.shared.target, first, &entry.path, replace, &mut self.parent) {
            Ok(()) => match &entry.kind {
                Kind::File(content) => self.shared.file_done(content.size),
                _ => self.report.count(entry),
            },
            Err(errno) => self.shared.refused(entry, errno),
        }
    }

    /// Makes a name that this run made one of a file that was kept.
    fn join(&mut self, kept: Vec<u8>, made: Vec<u8>, waiting: &HashSet<Vec<u8>>) {
        if self.shared.is_stopped() {
            return;
        }
        if waiting.contains(&made) {
            self.finish.joins.push((kept, made));
            return;
        }
        let target = self.shared.target;
        // What could not be made has been told.
        let is_there = target.status(&made, &mut self.parent).is_ok_and(|found| found.is_some());
        if is_there && let Err(errno) = join(target, &kept, &made, &mut self.parent) {
            self.shared.not_taken(&made, errno);
        }
    }

    fn stamp_dirs(&mut self, dirs: &[Entry]) {
        for dir in dirs {
            // The top folder is the target itself, which a restore of `.` gives its times and mode, too.
            match self.shared.target.stamp_path(dir, &dir.path, &mut self.parent) {
                Ok(refused) => self.shared.attributes(&dir.path, refused),
                Err(errno) => self.shared.not_taken(&dir.path, errno),
            }
        }
    }
}

/// Makes a name that was made one of a file that was kept. Its folder may have got its times long ago, and keeps them.
fn join(target: &Target, kept: &[u8], made: &[u8], parent: &mut Parent) -> std::result::Result<(), Errno> {
    let (folder, _) = target.locate(made, parent)?;
    let before = Status::new(&fstat(&folder)?).mtime;
    link(target, kept, made, true, parent)?;
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let last_modification = Timespec { tv_sec: before.seconds, tv_nsec: before.nanos.into() };
    match futimens(&folder, &Timestamps { last_access, last_modification }) {
        // One of somebody else's was given no times.
        Err(Errno::PERM) => Ok(()),
        set => set,
    }
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
    let inode = target.inode_at(first, &mut Parent::default())?.ok_or(Errno::NOENT)?;
    let ((), temporary) = target.make_temporary(second, |name| target.link(first, name, parent))?;
    target.name(&temporary, inode, second, Naming::Replace, parent)?;
    // Renaming one name of a file to another name of the same does nothing (rename(2)).
    target.remove_made(&temporary, inode, parent)
}
