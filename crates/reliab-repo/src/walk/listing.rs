//! One folder, listed and sorted, with the status of what is in it.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::ahead::{Ahead, Job};
use super::beneath::open_beneath;
use super::filter::Filter;
use super::{Root, Status, WalkError, WalkItem, Walked, join};
use crate::format::order;

/// Status is asked for this many entries at a time, so that a huge folder costs no more memory than its names.
pub(super) const PART: usize = 4096;

/// A folder's entries in order.
#[derive(Default)]
pub(super) struct Listing {
    root: Option<Arc<Root>>,
    /// Path below the root, for opening; empty for the root itself.
    below: Vec<u8>,
    names: Vec<u8>,
    rows: Vec<Name>,
    /// Status of the part that begins at `part`.
    part: usize,
    statuses: Vec<Result<Option<Status>, Errno>>,
    errors: Vec<WalkError>,
}

/// Where a name stands in `Listing::names`.
#[derive(Clone, Copy)]
struct Name {
    start: u32,
    len: u16,
    /// What the folder says, where it does; only `lstat` knows.
    is_dir: bool,
}

impl Listing {
    /// Lists the folder of a job, with the status of the first part.
    pub(super) fn read(job: &Job, filter: &Filter) -> Self {
        let mut listing =
            Self { root: Some(Arc::clone(&job.root)), below: job.below.clone(), ..Self::default() };
        if let Err(errno) = listing.fill(filter) {
            listing.fail(errno);
        }
        listing
    }

    fn fail(&mut self, errno: Errno) {
        self.errors.push(WalkError { path: self.path(), error: errno.into() });
    }

    /// The folder's path in the snapshot.
    fn path(&self) -> Vec<u8> {
        match &self.root {
            Some(root) => root.path_of(&self.below),
            None => Vec::new(),
        }
    }

    fn fill(&mut self, filter: &Filter) -> Result<(), Errno> {
        let Some(root) = self.root.clone() else { return Ok(()) };
        let folder = open_folder(&root, &self.below)?;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&folder, &mut buffer);
        let mut failed = None;
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => {
                    let is_dir = entry.file_type() == FileType::Directory;
                    self.push_name(entry.file_name().to_bytes(), is_dir);
                }
                Err(errno) => {
                    failed = Some(errno);
                    break;
                }
            }
        }
        self.sort();
        if filter.is_cache_folder(&folder) {
            self.rows.retain(|name| name.of(&self.names) == b"CACHEDIR.TAG");
        }
        self.read_part(0, &folder, filter);
        failed.map_or(Ok(()), Err)
    }

    fn push_name(&mut self, name: &[u8], is_dir: bool) {
        if name != b"." && name != b".." {
            // A folder's names would have to exceed 4 GiB to overflow the offset.
            let start = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.names.extend_from_slice(name);
            self.rows.push(Name { start, len, is_dir });
        }
    }

    /// Sorts the names. One that was removed and made again while the folder was read may stand there twice (readdir(3)).
    fn sort(&mut self) {
        let names = &self.names;
        self.rows.sort_unstable_by(|a, b| a.of(names).cmp(b.of(names)));
        self.rows.dedup_by(|next, kept| next.of(names) == kept.of(names));
    }

    /// Asks for the status of the entries from `start`; what the filter leaves out becomes `None`.
    fn read_part(&mut self, start: usize, folder: &OwnedFd, filter: &Filter) {
        let Some(root) = self.root.clone() else { return };
        self.part = start;
        self.statuses.clear();
        let mut judge = filter.in_folder(&root, &self.below);
        let end = self.rows.len().min(start + PART);
        for row in &self.rows[start..end] {
            let name = row.of(&self.names);
            let stat = || raw_stat(folder, name).map(|stat| Status::new(&stat));
            self.statuses.push(judge.status(name, row.is_dir, stat));
        }
    }

    /// Makes the status of an entry known, if its part was not read ahead.
    pub(super) fn ensure_stat(&mut self, number: usize, ahead: &Ahead) {
        if number < self.part + self.statuses.len() {
            return;
        }
        let Some(root) = self.root.clone() else { return };
        match open_folder(&root, &self.below) {
            Ok(folder) => self.read_part(number, &folder, ahead.filter()),
            Err(errno) => {
                self.part = number;
                self.statuses = vec![Err(errno); self.rows.len().min(number + PART) - number];
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Entries whose status is held.
    pub(super) fn held(&self) -> usize {
        self.statuses.len()
    }

    pub(super) fn take_errors(&mut self) -> Vec<WalkError> {
        std::mem::take(&mut self.errors)
    }

    /// True if a path below the root lies below this folder.
    pub(super) fn is_around(&self, below: &[u8]) -> bool {
        self.below.is_empty() || order::is_within(below, &self.below)
    }

    /// The entry's path below the root.
    pub(super) fn child(&self, number: usize) -> Vec<u8> {
        let name = self.rows[number].of(&self.names);
        if self.below.is_empty() { name.to_vec() } else { join(&self.below, name) }
    }

    fn status(&self, number: usize) -> Result<Option<Status>, Errno> {
        self.statuses.get(number.wrapping_sub(self.part)).copied().unwrap_or(Ok(None))
    }

    /// The entry, or what kept it from being read; `None` if it is left out.
    pub(super) fn walked(&self, number: usize) -> Option<WalkItem> {
        let root = self.root.as_ref()?;
        let status = match self.status(number) {
            Ok(status) => Ok(status?),
            Err(errno) => Err(errno),
        };
        let name = self.rows[number].of(&self.names);
        let path = if self.below.is_empty() {
            join(&root.path, name)
        } else {
            join(&join(&root.path, &self.below), name)
        };
        Some(match status {
            Ok(status) => Ok(Walked { root: Arc::clone(root), path, status, read_ahead: None }),
            Err(errno) => Err(WalkError { path, error: errno.into() }),
        })
    }

    /// The job of listing an entry, if it is a folder to go into.
    pub(super) fn folder_job(&self, number: usize, filter: &Filter) -> Option<Arc<Job>> {
        let root = self.root.as_ref()?;
        let status = self.status(number).ok().flatten()?;
        let child = || self.child(number);
        filter.enters(root, &status, child).then(|| Job::new(Arc::clone(root), child()))
    }

    /// Jobs for the folders of the part that is held, by entry number.
    pub(super) fn folder_jobs(&self, filter: &Filter) -> VecDeque<(usize, Arc<Job>)> {
        let range = self.part..self.part + self.statuses.len();
        range.filter_map(|number| Some((number, self.folder_job(number, filter)?))).collect()
    }
}

impl Name {
    fn of(self, names: &[u8]) -> &[u8] {
        &names[self.start as usize..self.start as usize + usize::from(self.len)]
    }
}

pub(super) fn open_folder(root: &Root, below: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_beneath(&root.parent, &root.path_from_parent(below), flags)
}

/// `lstat` of a name in a folder; an empty name is the folder itself.
pub fn raw_stat(folder: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    if name.is_empty() {
        return rustix::fs::statat(folder, c"", AtFlags::EMPTY_PATH);
    }
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_folder_lists_twice_is_one() {
        let mut listing = Listing::default();
        for name in ["b", "a", "ab", "b", ".", "b", ".."] {
            listing.push_name(name.as_bytes(), false);
        }
        listing.sort();
        let names: Vec<_> = (0..listing.len()).map(|number| listing.child(number)).collect();
        assert_eq!(names, [&b"a"[..], b"ab", b"b"]);
    }
}
