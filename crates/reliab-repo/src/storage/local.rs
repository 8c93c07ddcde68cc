//! A repository in a folder: durable publishing over the few operations of a file system.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Object, Storage, Upload, storage_error};
use crate::error::{Error, Result, is_bad_sector};

/// The file-system operations that publishing needs; tests put a faulty one in their place.
///
/// Paths are relative to the repository, `/`-separated.
pub trait Disk: Send + Sync {
    /// What to call it in messages.
    fn location(&self) -> String;
    /// Creates a file that must not exist.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a folder; one that exists is fine.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Gives a file its final name, replacing what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file its final name; `AlreadyExists` if something has it. Of several at once, one succeeds.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the name of the repository's own folder durable.
    fn sync_root(&self) -> io::Result<()> {
        Ok(())
    }
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// True if no running process is writing the file.
    fn is_abandoned(&self, path: &str) -> io::Result<bool>;
    /// Reads exactly `buf.len()` bytes from `offset`.
    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Reads a whole file, at most `limit` bytes and one more.
    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>>;
    /// Names in a folder, each with its length, or `None` for a folder.
    fn list(&self, path: &str) -> io::Result<Vec<(String, Option<u64>)>>;
}

/// A file being written on a [`Disk`].
pub trait DiskFile: Write + Send {
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A run locks a file it has made well within this time.
const SETTLING: Duration = Duration::from_secs(60);

/// `O_NONBLOCK` and `O_NOCTTY` (open(2)), which mean nothing for regular files.
const NO_WAITING: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

/// The real file system below a folder.
pub struct FsDisk {
    root: PathBuf,
}

impl FsDisk {
    /// A disk rooted at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Opens a file to read it. A pipe that lies in its place is opened, too, and is empty: to wait for who writes into it
    /// could take for ever.
    fn open(&self, relative: &str) -> io::Result<File> {
        let path = self.path(relative);
        match OpenOptions::new().read(true).custom_flags(NO_WAITING).open(&path) {
            // A file server has lent it to somebody (leases, fcntl(2)), who gives it back within seconds.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && fs::metadata(&path)?.is_file() => {
                File::open(path)
            }
            opened => opened,
        }
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for FsDisk {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(path))?;
        // The lock tells a sweep that the file is in use; where the file system has none, the file just stays
        // open to sweeping by a second run on the same repository.
        drop(file.try_lock());
        Ok(Box::new(file))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // Network file systems and those in user space mostly have no such call.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(&from, &to),
            other => Ok(other?),
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.path(path))?.sync_all()
    }

    fn sync_root(&self) -> io::Result<()> {
        // Several levels may be new; folders that may not be read were not made by us.
        for folder in std::path::absolute(&self.root)?.ancestors().skip(1) {
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                other => other?,
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn is_abandoned(&self, path: &str) -> io::Result<bool> {
        let file = self.open(path)?;
        // A file that was made a moment ago may not be locked yet.
        let old = file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > SETTLING);
        Ok(old && file.try_lock().is_ok())
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.open(path)?.read_exact_at(buf, offset)
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let limit = limit.saturating_add(1);
        // With room for all of it, a small file is two reads; growing takes one for each doubling.
        let room = usize::try_from(file.metadata()?.len().saturating_add(1).min(limit)).unwrap_or(0);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room)?;
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, Option<u64>)>> {
        fs::read_dir(self.path(path))?
            .map(|item| {
                let item = item?;
                // A name that is not UTF-8 cannot be one of ours; its lossy form names it in messages.
                let name = item.file_name().to_string_lossy().into_owned();
                match item.metadata() {
                    Ok(meta) => Ok(Some((name, (!meta.is_dir()).then_some(meta.len())))),
                    // Another run has renamed or removed it since.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    // The name is there, whatever it names; to read that fails in its turn, and hides nothing else.
                    Err(error) if is_bad_sector(&error) => {
                        let is_dir = item.file_type().is_ok_and(|kind| kind.is_dir());
                        Ok(Some((name, (!is_dir).then_some(0))))
                    }
                    Err(error) => Err(error),
                }
            })
            .filter_map(|item: io::Result<Option<(String, Option<u64>)>>| item.transpose())
            .collect()
    }
}

/// `rename_new` by a hard link, which replaces nothing either.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::link(from, to) {
        Ok(()) => fs::remove_file(from),
        // Nor are there links (exFAT by way of FUSE): all that is left is to look first.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {
            if to.try_exists()? {
                Err(io::ErrorKind::AlreadyExists.into())
            } else {
                fs::rename(from, to)
            }
        }
        Err(other) => Err(other.into()),
    }
}

/// Repository storage in a folder of a file system.
pub struct LocalStorage<D: Disk> {
    inner: Arc<Inner<D>>,
}

struct Inner<D: Disk> {
    disk: Arc<D>,
    /// Tells our temporary files from those of other runs.
    nonce: u64,
    counter: AtomicU64,
    /// Folders whose own names this run has made durable.
    durable: Mutex<HashSet<String>>,
}

impl LocalStorage<FsDisk> {
    /// Storage in a real folder, which need not exist yet.
    pub fn open(root: &Path) -> Self {
        Self::new(Arc::new(FsDisk::new(root)))
    }
}

impl<D: Disk + 'static> LocalStorage<D> {
    /// Storage on a disk.
    pub fn new(disk: Arc<D>) -> Self {
        let nonce = RandomState::new().hash_one(std::process::id());
        let inner = Inner { disk, nonce, counter: AtomicU64::new(0), durable: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    fn disk(&self) -> &D {
        &self.inner.disk
    }

    fn list_into(&self, folder: &str, out: &mut Vec<Object>, unreadable: &mut Vec<Error>) -> Result<()> {
        let names = match self.disk().list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(storage_error("list", folder)),
        };
        let names = match names {
            Err(error) if error.is_bad_sector() => {
                unreadable.push(error);
                return Ok(());
            }
            other => other?,
        };
        for (name, len) in names {
            let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match len {
                Some(len) => out.push(Object { key, len }),
                None => self.list_into(&key, out, unreadable)?,
            }
        }
        Ok(())
    }
}

impl<D: Disk + 'static> Storage for LocalStorage<D> {
    fn location(&self) -> String {
        self.disk().location()
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        let inner = Arc::clone(&self.inner);
        inner.ensure_dir("tmp")?;
        let number = inner.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("tmp/{:016x}-{number}", inner.nonce);
        let file = inner.disk.create(&name).map_err(storage_error("create", &name))?;
        Ok(Box::new(LocalUpload { inner, name, file, published: false }))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.disk().read(key, limit).map_err(storage_error("read", key))?;
        if bytes.len() as u64 > limit {
            return Err(Error::damaged(key, format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.disk().read_at(key, offset, buf) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::damaged(key, "it is shorter than it should be"))
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SPIPE) => {
                Err(Error::damaged(key, "it is a pipe"))
            }
            other => other.map_err(storage_error("read", key)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let mut unreadable = Vec::new();
        let objects = self.list_readable(folder, &mut unreadable)?;
        unreadable.into_iter().next().map_or(Ok(objects), Err)
    }

    fn list_readable(&self, folder: &str, unreadable: &mut Vec<Error>) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        self.list_into(folder, &mut objects, unreadable)?;
        Ok(objects)
    }

    fn settle(&self, key: &str) -> Result<()> {
        // Content is synced before the rename, so only the name can be in doubt.
        self.inner.settle(parent(key))
    }

    fn sweep(&self) -> Result<()> {
        for object in self.list("tmp")? {
            let key = object.key;
            let removed = match self.disk().is_abandoned(&key) {
                Ok(true) => self.disk().remove(&key),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            match removed {
                // Its run has published it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(storage_error("remove", &key))?,
            }
        }
        Ok(())
    }
}

impl<D: Disk> Inner<D> {
    /// Makes the names in a folder, and its own, durable.
    fn settle(&self, folder: &str) -> Result<()> {
        self.ensure_dir(folder)?;
        self.disk.sync_dir(folder).map_err(storage_error("sync", folder))
    }

    /// Creates a folder and makes its name, and those of its parents, durable, once a run.
    ///
    /// A folder that exists is synced, too: the run that made it may have been killed before it could.
    fn ensure_dir(&self, folder: &str) -> Result<()> {
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        self.disk.create_dir(folder).map_err(storage_error("create", folder))?;
        if folder.is_empty() {
            self.disk.sync_root().map_err(storage_error("sync the folder of", "the repository"))?;
        } else {
            let parent = parent(folder);
            self.ensure_dir(parent)?;
            self.disk.sync_dir(parent).map_err(storage_error("sync", parent))?;
        }
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Written under `tmp/`, then fsync, rename, fsync of the folder.
struct LocalUpload<D: Disk> {
    inner: Arc<Inner<D>>,
    name: String,
    file: Box<dyn DiskFile>,
    published: bool,
}

impl<D: Disk> Write for LocalUpload<D> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<D: Disk> LocalUpload<D> {
    /// Publishes; `rename` gives the name to the file, or says that it did not.
    fn publish_by(
        &mut self,
        key: &str,
        rename: impl FnOnce(&D, &str, &str) -> io::Result<bool>,
    ) -> Result<bool> {
        let folder = parent(key);
        self.file.sync().map_err(storage_error("sync", key))?;
        self.inner.ensure_dir(folder)?;
        self.published = rename(&self.inner.disk, &self.name, key).map_err(storage_error("rename", key))?;
        // Whoever has the name may not have lived to make it durable.
        self.inner.disk.sync_dir(folder).map_err(storage_error("sync", folder))?;
        Ok(self.published)
    }
}

impl<D: Disk> Upload for LocalUpload<D> {
    fn publish(mut self: Box<Self>, key: &str) -> Result<()> {
        self.publish_by(key, |disk, from, to| disk.rename(from, to).map(|()| true)).map(drop)
    }

    fn publish_new(mut self: Box<Self>, key: &str) -> Result<bool> {
        self.publish_by(key, |disk, from, to| match disk.rename_new(from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        })
    }
}

impl<D: Disk> Drop for LocalUpload<D> {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: on failure the file stays in tmp/, which the next run sweeps.
            drop(self.inner.disk.remove(&self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several threads want one name for files of their own.
    fn one_wins(folder: &Path, rename: impl Fn(&str, &str) -> io::Result<()> + Sync) {
        let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        names.iter().for_each(|name| fs::write(folder.join(name), name).unwrap());
        let rename = &rename;
        let won: Vec<&String> = std::thread::scope(|scope| {
            let runs: Vec<_> =
                names.iter().map(|name| (name, scope.spawn(move || rename(name, "to")))).collect();
            let ended = runs.into_iter().map(|(name, run)| (name, run.join().unwrap()));
            let won = ended.filter(|(_, outcome)| match outcome {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                    false
                }
            });
            won.map(|(name, _)| name).collect()
        });
        assert_eq!(won.len(), 1);
        assert_eq!(&fs::read_to_string(folder.join("to")).unwrap(), won[0]);
        assert!(!folder.join(won[0]).exists());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 8, "those that lost have their own names still");
    }

    #[test]
    fn of_several_that_want_a_new_name_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(folder.path());
        one_wins(folder.path(), |from, to| disk.rename_new(from, to));
        let folder = tempfile::tempdir().unwrap();
        one_wins(folder.path(), |from, to| link_new(&folder.path().join(from), &folder.path().join(to)));
    }
}
