//! The target's folder, opened and held against other restores for as long as this one writes.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, accessat, flock, fstat, stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A folder that no other restore writes into while this is held; no file of a lock is left in it.
pub(super) struct Held {
    pub(super) folder: OwnedFd,
    /// False where the file system has no locks.
    pub(super) is_locked: bool,
    path: PathBuf,
    /// True if this run made the folder.
    is_new: bool,
}

impl Held {
    /// Makes the folder if need be, opens and locks it; an error if another restore holds it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let is_new = make(path)?;
        let folder = open(path)?;
        let is_locked = lock(&folder, path, FlockOperation::NonBlockingLockExclusive)?;
        let place = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let same = stat(path).is_ok_and(|now| fstat(&folder).is_ok_and(|held| place(now) == place(held)));
        // Another restore has given back the folder that it had made, between our opening and our lock.
        same.then(|| Self { folder, is_locked, path: path.to_owned(), is_new })
            .ok_or_else(|| Error::Locked { path: path.to_owned() })
    }

    /// Removes the folder if this run made it and nothing is in it.
    pub(super) fn give_back(self) {
        if self.is_new {
            // It fails, as it should, unless the folder is empty.
            std::fs::remove_dir(&self.path).unwrap_or(());
        }
    }
}

/// Opens a folder to read it back, held so that no restore writes into it meanwhile; others may read.
pub(super) fn open_to_read(path: &Path) -> Result<OwnedFd> {
    let folder = open(path)?;
    lock(&folder, path, FlockOperation::NonBlockingLockShared)?;
    Ok(folder)
}

/// Opens the folder that a restore would be refused or given, and holds it no longer than it takes to see that it is
/// free; `None` if the restore would make it.
pub(super) fn look(path: &Path) -> Result<Option<OwnedFd>> {
    if !path.is_dir() {
        let cannot = Error::local("create", path);
        return match std::fs::symlink_metadata(path) {
            Ok(_) => Err(cannot(Errno::EXIST.into())),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot(error)),
            Err(_) => may_make(path).map(|()| None).map_err(|errno| cannot(errno.into())),
        };
    }
    let folder = open(path)?;
    if lock(&folder, path, FlockOperation::NonBlockingLockExclusive)? {
        flock(&folder, FlockOperation::Unlock).map_err(|errno| Error::local("unlock", path)(errno.into()))?;
    }
    Ok(Some(folder))
}

/// Whether this user can make something in a folder.
pub(super) fn may_write(folder: impl AsFd) -> std::result::Result<(), Errno> {
    accessat(folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// Whether this user can make a folder that is not there, with those above it.
fn may_make(path: &Path) -> std::result::Result<(), Errno> {
    let above = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("."));
    accessat(CWD, above, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// Makes a folder and those above it; false if it is there.
fn make(path: &Path) -> Result<bool> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map_err(Error::local("create", path)).map(|()| true)
        }
        Err(_) if path.is_dir() => Ok(false),
        Err(error) => Err(Error::local("create", path)(error)),
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::local("open", path)(errno.into()))
}

/// How long a lock that is held is asked for again. A process that is just being started has a copy of all that its parent
/// held, until the new program begins, and with it a lock that was given up (flock(2)).
const PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);

/// Takes an advisory lock; false where there are none, an error if another restore has it.
fn lock(folder: &OwnedFd, path: &Path, operation: FlockOperation) -> Result<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(folder, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(STEP),
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: path.to_owned() }),
            Err(Errno::INTR) => {}
            // NFS, for one, has no exclusive locks on folders.
            Err(_) => return Ok(false),
        }
    }
}
