//! Blobs that are filled from several entries: bundles of records, and patches.

use crate::cache::BlobTable;
use crate::format::entry::Place;
use crate::format::{BUNDLE_CUT, BUNDLE_MAX, BUNDLE_MIN, path_hash};

/// A blob that is being filled; its number is known from the start, its id at the end.
#[derive(Default)]
pub(super) struct OpenBlob {
    number: Option<u32>,
    content: Vec<u8>,
}

impl OpenBlob {
    /// Where the next byte comes to stand.
    pub(super) fn place(&mut self, blobs: &mut BlobTable) -> Place {
        let blob = *self.number.get_or_insert_with(|| blobs.reserve());
        // Closed long before 4 GiB.
        Place { blob, offset: u32::try_from(self.content.len()).unwrap_or(u32::MAX) }
    }

    /// The content so far, to append to.
    pub(super) fn content(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// Takes number and content out, to be stored; `None` if it is empty.
    pub(super) fn take(&mut self, next_buffer: impl FnOnce() -> Vec<u8>) -> Option<(u32, Vec<u8>)> {
        let number = self.number.take()?;
        Some((number, std::mem::replace(&mut self.content, next_buffer())))
    }

    /// True if a bundle ends after the entry with this path.
    pub(super) fn is_bundle_full(&self, path: &[u8]) -> bool {
        self.len() >= BUNDLE_MAX || (self.len() >= BUNDLE_MIN && path_hash(path).is_multiple_of(BUNDLE_CUT))
    }
}
