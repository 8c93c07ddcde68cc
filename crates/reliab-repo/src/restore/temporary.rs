//! Temporary names for what is not whole yet, and what killed runs left under theirs.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::skipped_gap;
use super::target::{Parent, Target};
use super::write::Planner;
use crate::error::plain;
use crate::format::entry::Entry;
use crate::format::escape::escape;
use crate::format::order;
use crate::manifest::Manifest;

/// How temporary names begin; two numbers of 16 hexadecimal digits follow, with a hyphen between.
const PREFIX: &str = ".reliab-restore-";

/// Names tried if something stands at one, which only somebody who guesses them can bring about.
const TRIES: u32 = 16;

/// Temporary names that no other run gives: a random number for the run, and a count.
pub(super) struct TemporaryNames {
    run: u64,
    next: AtomicU64,
}

impl TemporaryNames {
    pub(super) fn new() -> Self {
        // The keys of the standard library's hashes are random, from the operating system.
        let run = RandomState::new().hash_one((std::time::SystemTime::now(), std::process::id()));
        Self { run, next: AtomicU64::new(0) }
    }

    /// A new name in the folder of a path.
    pub(super) fn beside(&self, path: &[u8]) -> Vec<u8> {
        let folder = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        [&path[..folder], format!("{PREFIX}{:016x}-{number:016x}", self.run).as_bytes()].concat()
    }

    fn is_own(&self, name: &[u8]) -> bool {
        name.starts_with(format!("{PREFIX}{:016x}-", self.run).as_bytes())
    }
}

/// True for a name that some run may have given.
fn is_temporary(name: &[u8]) -> bool {
    let is_number = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
        rest.len() == 33 && is_number(&rest[..16]) && rest[16] == b'-' && is_number(&rest[17..])
    })
}

impl Target {
    /// Makes something under a temporary name beside a path; gives it and the name.
    ///
    /// `make` must fail with `EXIST` at a name that is taken: then it gets another one.
    pub(super) fn make_temporary<T>(
        &self,
        path: &[u8],
        mut make: impl FnMut(&[u8]) -> Result<T, Errno>,
    ) -> Result<(T, Vec<u8>), Errno> {
        for _ in 0..TRIES {
            let name = self.names.beside(path);
            match make(&name) {
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (made, name)),
            }
        }
        Err(Errno::EXIST)
    }

    /// Creates a file under a temporary name beside a path, held for as long as it is open; gives it and the name.
    pub(super) fn create_temporary(
        &self,
        path: &[u8],
        entry: &Entry,
        last: &mut Parent,
    ) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let (file, name) = self.make_temporary(path, |name| self.create(name, entry, last))?;
        // For restores into folders around this target, which hold another lock. Some file systems have none.
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap_or(());
        Ok((file, name))
    }

    /// True if a restore holds the file at a path, or may hold it: one that cannot be opened is not judged.
    fn is_held(&self, path: &[u8], last: &mut Parent) -> Result<bool, Errno> {
        let (folder, name) = self.locate(path, last)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name.as_c_str(), flags, Mode::empty()) {
            Err(Errno::ACCESS) => return Ok(true),
            opened => opened?,
        };
        Ok(flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
    }

    /// Removes what killed runs left in a folder, less what the snapshot itself has there.
    fn clear(&self, folder: &Folder, last: &mut Parent) -> Result<(), Errno> {
        for name in self.names_in(&folder.path)? {
            let path =
                if folder.path == b"." { name.clone() } else { [&folder.path[..], b"/", &name].concat() };
            let is_left = is_temporary(&name) && !self.names.is_own(&name) && !folder.entries.contains(&path);
            let is_left = is_left
                && match self.kind_of(&path, last)? {
                    // No run makes a folder under such a name.
                    None | Some(FileType::Directory) => false,
                    Some(FileType::RegularFile) => !self.is_held(&path, last)?,
                    Some(_) => true,
                };
            if is_left {
                self.remove(&path, last)?;
            }
        }
        Ok(())
    }
}

/// A folder of the snapshot whose entries come by.
struct Folder {
    path: Vec<u8>,
    /// Something in it is restored.
    is_used: bool,
    /// Entries of the snapshot that are called as temporary files are.
    entries: Vec<Vec<u8>>,
}

/// The folders around the current entry: in each, when all its entries have come by, the rest can be told from them.
pub(super) struct Leftovers {
    folders: Vec<Folder>,
    below: Option<Vec<u8>>,
    /// False where what a killed run left cannot be told from what is in use, or there is none.
    is_on: bool,
}

impl Leftovers {
    /// `is_on` if something may stand in the target, and no other restore can be writing into it.
    pub(super) fn new(is_on: bool, below: Option<&[u8]>) -> Self {
        // Every restore makes a probe in the top folder.
        let top = Folder { path: b".".to_vec(), is_used: true, entries: Vec::new() };
        Self { folders: vec![top], below: below.map(<[u8]>::to_vec), is_on }
    }

    /// Notes the next entry in path order; gives the folders that it leaves, with all their entries known.
    fn come(&mut self, path: &[u8], is_wanted: bool) -> Vec<Folder> {
        if !self.is_on {
            return Vec::new();
        }
        let (folder, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let left = self.leave(folder);
        if self.folders.last().is_none_or(|last| last.path != folder) {
            self.folders.push(Folder { path: folder.to_vec(), is_used: false, entries: Vec::new() });
        }
        if let Some(last) = self.folders.last_mut() {
            last.is_used |= is_wanted;
            if is_temporary(name) {
                last.entries.push(path.to_vec());
            }
        }
        left
    }

    /// Leaves the folders that another is not in.
    fn leave(&mut self, next: &[u8]) -> Vec<Folder> {
        let stays = self.folders.iter().take_while(|folder| order::is_within(next, &folder.path)).count();
        let left = self.folders.split_off(stays);
        left.into_iter().filter(|folder| folder.is_used && self.is_whole(folder)).collect()
    }

    /// True if all entries of a folder come by, not only those below the path that is restored.
    fn is_whole(&self, folder: &Folder) -> bool {
        self.below.as_ref().is_none_or(|below| order::is_within(&folder.path, below))
    }

    /// Leaves the folders that are left when the last entry came.
    fn end(&mut self) -> Vec<Folder> {
        let left = std::mem::take(&mut self.folders);
        left.into_iter().filter(|folder| self.is_on && folder.is_used && self.is_whole(folder)).collect()
    }
}

impl Planner<'_> {
    /// Notes the next entry, or the end, and clears the folders that are complete by that.
    pub(super) fn clear_leftovers(&mut self, next: Option<(&[u8], bool)>, manifest: &mut Manifest<'_>) {
        let folders = match next {
            Some((path, is_wanted)) => self.leftovers.come(path, is_wanted),
            None => self.leftovers.end(),
        };
        if folders.is_empty() {
            return;
        }
        self.report.skipped.extend(manifest.take_gaps().iter().map(skipped_gap));
        // What cannot be read of the snapshot may have been called so.
        self.leftovers.is_on &= self.report.skipped.is_empty();
        for folder in folders.iter().filter(|_| self.leftovers.is_on) {
            match self.shared.target.clear(folder, &mut self.parent) {
                // A folder that could not be made is told by itself.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => {
                    let path = escape(&folder.path).into_owned();
                    let reason = format!("what a restore left there that was killed stays: {}", plain(errno));
                    self.shared.events.warning(Path::new(&path), &reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Kind, Meta, Place};

    fn entry() -> Entry {
        let kind = Kind::Dir(Place { blob: 0, offset: 0 });
        Entry { path: b"f".to_vec(), kind, meta: Meta::default(), xattrs: Vec::new() }
    }

    #[test]
    fn what_another_run_still_writes_is_not_cleared_away() {
        let place = tempfile::tempdir().unwrap();
        let target = Target::at(place.path(), true).unwrap();
        let mut parent = Parent::default();
        let meta = Meta { mode: 0o600, ..Meta::default() };
        let (file, name) = target.create_temporary(b"f", &Entry { meta, ..entry() }, &mut parent).unwrap();
        let path = place.path().join(std::str::from_utf8(&name).unwrap());
        // A run into a folder around this one, say.
        drop(target);
        let other = Target::at(place.path(), false).unwrap();
        let folder = Folder { path: b".".to_vec(), is_used: true, entries: Vec::new() };
        other.clear(&folder, &mut parent).unwrap();
        assert!(path.exists(), "it is in use");
        drop(file);
        other.clear(&folder, &mut parent).unwrap();
        assert!(!path.exists(), "nobody writes it any more");
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone_and_another_one_used() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::at(folder.path(), true).unwrap();
        let before = target.names.next.load(Ordering::Relaxed);
        let taken = folder.path().join(format!("{PREFIX}{:016x}-{before:016x}", target.names.run));
        std::fs::write(&taken, "of the snapshot").unwrap();
        let entry = entry();
        let mut parent = Parent::default();
        let (_, name) = target.make_temporary(b"f", |name| target.create(name, &entry, &mut parent)).unwrap();
        assert!(is_temporary(&name) && target.names.is_own(&name));
        assert_ne!(name, taken.file_name().unwrap().as_encoded_bytes());
        assert_eq!(std::fs::read_to_string(&taken).unwrap(), "of the snapshot");
        let full: Result<((), _), _> = target.make_temporary(b"f", |_| Err(Errno::EXIST));
        assert_eq!(full.unwrap_err(), Errno::EXIST);
    }

    #[test]
    fn names_of_runs_differ_and_are_told_from_others() {
        let (one, other) = (TemporaryNames::new(), TemporaryNames::new());
        let name = one.beside(b"folder/file");
        let name = name.strip_prefix(b"folder/").unwrap();
        assert!(is_temporary(name) && one.is_own(name) && !other.is_own(name));
        assert_ne!(one.beside(b"f"), one.beside(b"f"));
        for name in [".reliab-restore-", ".reliab-restore-0123456789abcdef", ".reliab-restore-probe", "file"]
        {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }

    /// The folders that are complete when each entry comes, and at the end.
    fn told(below: Option<&[u8]>, paths: &[(&str, bool)]) -> Vec<String> {
        let mut leftovers = Leftovers::new(true, below);
        let mut left: Vec<Folder> = Vec::new();
        for (path, is_wanted) in paths {
            left.extend(leftovers.come(path.as_bytes(), *is_wanted));
        }
        left.extend(leftovers.end());
        left.into_iter().map(|folder| String::from_utf8(folder.path).unwrap()).collect()
    }

    #[test]
    fn a_folder_is_cleared_when_all_its_entries_are_known_and_one_of_them_is_restored() {
        let paths =
            [("a", true), ("a/b", true), ("a/b/c", true), ("a/d", true), ("e/f/g", true), ("h/i", false)];
        assert_eq!(told(None, &paths), ["a/b", "a", "e/f", "."]);
        assert_eq!(told(Some(b"a"), &paths[..4]), ["a/b", "a"], "not what is around it");
        assert_eq!(told(Some(b"a/d"), &paths[3..4]), [""; 0]);
    }
}
