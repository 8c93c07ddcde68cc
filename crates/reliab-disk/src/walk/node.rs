//! Directories with figures of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory with figures of its own.
pub(super) struct Node {
    pub path: PathBuf,
    pub above: Option<Arc<Self>>,
    pub depth: usize,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Node {
    pub fn new(path: PathBuf, above: Option<Arc<Self>>, depth: usize) -> Arc<Self> {
        Arc::new(Self { path, above, depth, bytes: AtomicU64::new(0), entries: AtomicU64::new(0) })
    }

    pub fn add(&self, sum: Sum) {
        self.bytes.fetch_add(sum.bytes, Ordering::Relaxed);
        self.entries.fetch_add(sum.entries, Ordering::Relaxed);
    }

    pub fn sum(&self) -> Sum {
        Sum { bytes: self.bytes.load(Ordering::Relaxed), entries: self.entries.load(Ordering::Relaxed) }
    }
}

/// Bytes on the disk, and how many files and others they belong to.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub bytes: u64,
    pub entries: u64,
}
