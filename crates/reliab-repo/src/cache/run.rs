//! The folder in which one run writes what becomes the cache when it is done.
//!
//! It has a random name and is locked: two runs of a job never write the same file, and a later one knows what a killed
//! run left behind. It stands in the job's cache folder, so that what is done is renamed into its place.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::{Error, Result};

/// How the names of these folders begin.
const PREFIX: &str = "run-";

/// Folders made if others take them for left over, which they can only before they are locked.
const TRIES: u32 = 16;

/// A run's own folder, removed with all that is still in it when nobody needs it any more.
pub struct RunFolder {
    folder: TempDir,
    /// Held open for its lock.
    _lock: File,
}

impl RunFolder {
    /// Makes one in a job's cache folder, and removes those of runs that were killed.
    pub fn create(cache: &Path) -> Result<Arc<Self>> {
        // What is left over only takes room.
        drop(sweep(cache));
        Self::make(cache).map(Arc::new).map_err(Error::local("create a folder in", cache))
    }

    fn make(cache: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let private = Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(cache)?;
            if let Some(lock) = hold(folder.path())? {
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Locks a new folder; `None` if a sweep came first. Where the file system has no locks, nothing is swept either.
fn hold(folder: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let swept = matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !folder.exists();
    Ok((!swept).then_some(lock))
}

/// Removes the folders that no run holds. One that cannot be opened, or is removed meanwhile, does not end it.
fn sweep(cache: &Path) -> io::Result<()> {
    for item in fs::read_dir(cache)?.flatten() {
        let is_ours = item.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        if is_ours
            && item.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(lock) = File::open(item.path())
            && lock.try_lock().is_ok()
        {
            // While it is locked, so that whoever has just made it sees that it is gone.
            drop(fs::remove_dir_all(item.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_another_holds_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let left = cache.path().join("run-left");
        fs::create_dir_all(left.join("blocks")).unwrap();
        fs::create_dir(cache.path().join("blocks")).unwrap();
        let first = RunFolder::create(cache.path()).unwrap();
        assert!(!left.exists(), "nobody holds it");
        let second = RunFolder::create(cache.path()).unwrap();
        assert!(first.path().is_dir() && first.path() != second.path());
        drop((first, second));
        let names: Vec<_> =
            fs::read_dir(cache.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
        assert_eq!(names, ["blocks"]);
    }

    #[test]
    fn a_folder_that_a_sweep_took_is_not_used() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("run-new");
        fs::create_dir(&folder).unwrap();
        let sweeping = File::open(&folder).unwrap();
        sweeping.try_lock().unwrap();
        assert!(hold(&folder).unwrap().is_none(), "it is about to be removed");
        drop(sweeping);
        assert!(hold(&folder).unwrap().is_some());
        fs::remove_dir(&folder).unwrap();
        assert!(hold(&folder).unwrap().is_none());
    }
}
