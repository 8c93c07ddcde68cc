//! What is to be written: a window of entries, grouped by the blobs they need.

use std::collections::HashMap;
use std::sync::Arc;

use super::RestoreReport;
use super::linked::First;
use crate::format::entry::{Content, Data, Entry, Kind};
use crate::id::BlobId;
use crate::index::Index;
use crate::manifest::ManifestEntry;

/// Entries planned before they are handed out.
pub(super) const WINDOW: usize = 16 * 1024;

/// A small file to write from a bundle.
pub(super) struct SmallFile {
    pub(super) entry: Entry,
    pub(super) content: Content,
    /// Offset of its record in the bundle.
    pub(super) offset: u32,
    /// Something stands at its path, to be replaced when the new content is whole.
    pub(super) replace: bool,
    /// Other names wait for it.
    pub(super) first: Option<Arc<First>>,
}

/// The small files of a window, by bundle.
#[derive(Default)]
pub(super) struct Groups {
    by_bundle: HashMap<BlobId, Vec<SmallFile>>,
    len: usize,
}

impl Groups {
    pub(super) fn push(&mut self, bundle: BlobId, file: SmallFile) {
        self.by_bundle.entry(bundle).or_default().push(file);
        self.len += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= WINDOW
    }

    /// The groups in the order in which the bundles lie in the packs, so that each pack is read forwards.
    pub(super) fn take(&mut self, index: &Index) -> Vec<(BlobId, Vec<SmallFile>)> {
        let mut groups: Vec<_> = std::mem::take(self).by_bundle.into_iter().collect();
        groups.sort_by_key(|(id, _)| index.find(id).map(|place| (place.pack.id, place.offset)));
        groups
    }
}

impl RestoreReport {
    pub(super) fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        match &entry.kind {
            Kind::File(content) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(content.size);
            }
            Kind::Dir(_) => self.dirs += 1,
            _ => {}
        }
    }
}

/// The bundle and offset of a small file's record.
pub(super) fn record_of(item: &ManifestEntry) -> Option<(BlobId, u32)> {
    match &item.entry.kind {
        Kind::File(Content { data: Data::Record(place), .. }) => Some((item.blob(place.blob), place.offset)),
        _ => None,
    }
}
