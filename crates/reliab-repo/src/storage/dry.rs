//! Storage for `--dry-run`: reads what is there, keeps small objects in memory, and drops packs.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Object, Storage, Upload, storage_error};
use crate::error::Result;

/// Looks like the storage below it, and writes nothing to it.
pub struct DryStorage {
    below: Arc<dyn Storage>,
    written: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl DryStorage {
    /// A dry layer over real storage.
    pub fn new(below: Arc<dyn Storage>) -> Self {
        Self { below, written: Arc::default() }
    }

    fn written(&self, key: &str) -> Option<Vec<u8>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl Storage for DryStorage {
    fn location(&self) -> String {
        self.below.location()
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(DryUpload { written: Arc::clone(&self.written), bytes: Vec::new(), too_large: false }))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        self.written(key).map_or_else(|| self.below.get(key, limit), Ok)
    }

    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(bytes) = self.written(key) else { return self.below.get_range(key, offset, buf) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(buf.len()).and_then(|end| bytes.get(start..end)) {
            Some(part) => {
                buf.copy_from_slice(part);
                Ok(())
            }
            None => Err(storage_error("read", key)(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.below.list(folder)
    }

    fn sweep(&self) -> Result<()> {
        Ok(())
    }

    fn settle(&self, _key: &str) -> Result<()> {
        Ok(())
    }
}

/// What is larger than this is a pack, which a dry run never reads back.
const KEPT: usize = 64 * 1024;

struct DryUpload {
    written: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    bytes: Vec<u8>,
    too_large: bool,
}

impl Write for DryUpload {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.too_large |= self.bytes.len() + buf.len() > KEPT;
        if self.too_large {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(buf);
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for DryUpload {
    fn publish(self: Box<Self>, key: &str) -> Result<()> {
        if !self.too_large {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), self.bytes);
        }
        Ok(())
    }

    fn publish_new(self: Box<Self>, key: &str) -> Result<bool> {
        // A dry run is alone with what it writes.
        self.publish(key).map(|()| true)
    }
}
