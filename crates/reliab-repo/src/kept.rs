//! The pieces of a large file that are kept while it is read: one that was patched goes back and forth between them.

use std::collections::{HashMap, HashSet};

use crate::format::entry::{Data, Kind, Pieces};
use crate::format::table::BlobKind;
use crate::id::BlobId;
use crate::index::Index;
use crate::manifest::ManifestEntry;

/// Patches kept. One of a run of backups is read from its start to its end, so one for each run will do.
const PATCHES: usize = 64;

/// The last chunk and some patches.
pub(crate) struct Kept<T> {
    chunk: Option<(BlobId, T)>,
    patches: HashMap<BlobId, T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { chunk: None, patches: HashMap::new() }
    }
}

impl<T> Kept<T> {
    /// A piece, which `load` reads if it is not kept.
    pub(crate) fn get_or_load<E>(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        load: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if kind != BlobKind::Patch {
            return match self.chunk.take() {
                Some(kept) if kept.0 == id => Ok(&self.chunk.insert(kept).1),
                _ => Ok(&self.chunk.insert((id, load()?)).1),
            };
        }
        if !self.patches.contains_key(&id) {
            let patch = load()?;
            if self.patches.len() >= PATCHES {
                self.patches.clear();
            }
            self.patches.insert(id, patch);
        }
        Ok(&self.patches[&id])
    }
}

/// Bytes that reading an entry's content takes beyond twice those of its blobs: holes, which are hashed as zeros, and
/// pieces that are named or read again and again.
pub(crate) fn extra_bytes(item: &ManifestEntry, index: &Index) -> u64 {
    let Kind::File(content) = &item.entry.kind else { return 0 };
    let Data::Large(large) = &content.data else { return 0 };
    let mut kept = Kept::default();
    let mut distinct = HashSet::new();
    let (mut loaded, mut needed) = (0u64, 0u64);
    let mut piece = |number| {
        let id = item.blob(number);
        let len = index.find(&id).map_or(0, |place| u64::from(place.len));
        if distinct.insert(id) {
            needed = needed.saturating_add(len);
        }
        let load = || {
            loaded = loaded.saturating_add(len);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = kept.get_or_load(index.piece_kind(&id), id, load);
    };
    match &large.pieces {
        Pieces::Chunks(chunks) => chunks.iter().for_each(|chunk| piece(*chunk)),
        Pieces::Extents(extents) => extents.iter().for_each(|extent| piece(extent.blob)),
    }
    content.size.saturating_add(loaded).saturating_sub(needed.saturating_mul(2))
}
