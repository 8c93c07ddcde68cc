//! Where a repository's files lie: the seam between the engine and a folder, a bucket or a test's memory.

mod dry;
mod local;

use std::io::{self, Write};

pub use dry::DryStorage;
pub use local::{Disk, DiskFile, FsDisk, LocalStorage};

use crate::error::{Error, Result};
use crate::id::ObjectId;

/// A file of the repository: its key and length in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key, such as `packs/ab/abcd…`.
    pub key: String,
    /// Length in bytes.
    pub len: u64,
}

/// Storage of a repository.
///
/// What it guarantees: once `Upload::publish` or `put` returns, the object is durable and whole under its key, and
/// it was never visible in part. Keys are `/`-separated and relative.
pub trait Storage: Send + Sync {
    /// What to call it in messages: a path or URL.
    fn location(&self) -> String;
    /// Begins a new object whose key is known only when all of it is written.
    fn upload(&self) -> Result<Box<dyn Upload>>;
    /// Reads a whole object of at most `limit` bytes.
    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>>;
    /// Reads exactly `buf.len()` bytes from `offset`.
    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// All published objects below a folder, in no order; an absent folder is empty.
    fn list(&self, folder: &str) -> Result<Vec<Object>>;
    /// The same, less what a bad sector keeps from being listed: an error for each folder that is named by it.
    fn list_readable(&self, folder: &str, unreadable: &mut Vec<Error>) -> Result<Vec<Object>> {
        match self.list(folder) {
            Err(error) if error.is_bad_sector() => {
                unreadable.push(error);
                Ok(Vec::new())
            }
            listed => listed,
        }
    }
    /// Removes leftovers of runs that were cut off, and nothing that a run holds.
    fn sweep(&self) -> Result<()>;
    /// Makes an object durable that a run published but may not have lived to make durable.
    fn settle(&self, key: &str) -> Result<()>;

    /// Writes an object in one go.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let mut upload = self.upload()?;
        upload.write_all(bytes).map_err(storage_error("write", key))?;
        upload.publish(key)
    }

    /// The same, unless there is one under the key already: then that stays, and this is false.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let mut upload = self.upload()?;
        upload.write_all(bytes).map_err(storage_error("write", key))?;
        upload.publish_new(key)
    }
}

/// An object being written.
pub trait Upload: Write + Send {
    /// Makes what was written durable and visible under `key`, in the place of what is there.
    fn publish(self: Box<Self>, key: &str) -> Result<()>;
    /// The same, unless something is there already: then that stays, durable, and this is false. Of several at once, one
    /// wins.
    fn publish_new(self: Box<Self>, key: &str) -> Result<bool>;
}

/// The key of a pack.
pub fn pack_key(id: &ObjectId) -> String {
    let name = id.to_string();
    format!("packs/{}/{name}", &name[..2])
}

/// The key of an index file.
pub fn index_key(id: &ObjectId) -> String {
    format!("index/{id}")
}

/// The key of a snapshot.
pub fn snapshot_key(id: &ObjectId) -> String {
    format!("snapshots/{id}")
}

fn storage_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Storage { action, path, source }
}
