//! Writing the manifest: an overlay of what changed, or a fresh base.

use super::merge::{Gone, Outcome};
use super::parent::Parent;
use super::store::Store;
use crate::cache::{CacheWriter, LayerInfo};
use crate::error::{Error, Result};
use crate::format::page::{Expected, Line, ListRow, Names, encode_header, encode_line, encode_list};
use crate::format::table::BlobKind;
use crate::format::{OVERLAYS_MAX, PAGE_BYTES, PAGE_CUT, PAGE_MAX, PAGE_MIN, order, path_hash};
use crate::id::{BlobId, Digest};
use crate::repository::Repository;

/// What becomes of the parent's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing changed.
    Keep,
    /// One more overlay.
    Overlay,
    /// All entries are written again.
    Base,
}

fn plan(parent: Option<&Parent>, entries: u64, outcome: &Outcome) -> Plan {
    let Some(parent) = parent else { return Plan::Base };
    let lines = outcome.changed + outcome.gone.len() as u64;
    let layers = &parent.cache.directory().layers;
    let overlaid: u64 = layers.iter().skip(1).map(|layer| layer.entries).sum();
    if !parent.layers_whole || outcome.within_gone {
        Plan::Base
    } else if lines == 0 {
        Plan::Keep
    } else if layers.len() > OVERLAYS_MAX || overlaid * 4 >= entries {
        Plan::Base
    } else {
        Plan::Overlay
    }
}

/// Stores the layers of the new snapshot that are not stored yet; gives all of them.
pub(super) fn write(
    store: &mut Store<'_>,
    parent: Option<&Parent>,
    outcome: &Outcome,
) -> Result<Vec<LayerInfo>> {
    let kept = parent.map_or_else(Vec::new, |parent| parent.cache.directory().layers.clone());
    match plan(parent, store.stats.entries, outcome) {
        Plan::Keep => Ok(kept),
        Plan::Base => Ok(vec![write_layer(store, &[], |_| true)?]),
        Plan::Overlay => {
            let overlay = write_layer(store, &outcome.gone, |changed| changed)?;
            Ok(kept.into_iter().chain([overlay]).collect())
        }
    }
}

/// Writes the entries of the new cache that are wanted, and what is gone, as one layer.
fn write_layer(store: &mut Store<'_>, gone: &[Gone], wanted: impl Fn(bool) -> bool) -> Result<LayerInfo> {
    // A fresh base over a cache that did not change needs the entries all the same.
    let blocks = store.cache()?.blocks().len();
    let mut layer = LayerWriter::default();
    let mut gone = gone.iter().peekable();
    for number in 0..blocks {
        let Some(cache) = store.finished_cache() else { return Err(Error::Panicked) };
        if !wanted(cache.blocks()[number].changed) {
            continue;
        }
        for cached in cache.read_block(number)?.into_iter().filter(|cached| wanted(cached.changed)) {
            while let Some(gone) = gone.next_if(|gone| order::compare(&gone.path, &cached.entry.path).is_lt())
            {
                layer.push(store, gone.line())?;
            }
            layer.push(store, Line::Entry(cached.entry))?;
        }
    }
    gone.try_for_each(|gone| layer.push(store, gone.line()))?;
    layer.finish(store)
}

/// A layer being written, page by page.
#[derive(Default)]
struct LayerWriter {
    rows: Vec<ListRow>,
    text: String,
    /// Ids by their number in the open page.
    blobs: Vec<BlobId>,
    /// The run's numbers of the same.
    numbers: Vec<u32>,
    names: Names,
    digests: Vec<Digest>,
    expected: Expected,
    first: Vec<u8>,
    lines: usize,
}

impl LayerWriter {
    fn push(&mut self, store: &mut Store<'_>, mut line: Line) -> Result<()> {
        if self.lines == 0 {
            self.first = line.path().to_vec();
        }
        if let Line::Entry(entry) = &mut line {
            store.names.add_to(&mut self.names, &entry.meta);
            entry.kind.for_each_blob(|blob| *blob = self.page_number(store, *blob));
        }
        encode_line(&mut self.text, &line, &mut self.expected);
        self.digests.extend(line.digest());
        self.lines += 1;
        let at_cut = self.lines >= PAGE_MIN && path_hash(line.path()).is_multiple_of(PAGE_CUT);
        if at_cut || self.lines >= PAGE_MAX || self.text.len() >= PAGE_BYTES {
            self.close(store)
        } else {
            Ok(())
        }
    }

    /// The number of a blob in the open page. Neighbours mostly share blobs, so the search goes backwards.
    fn page_number(&mut self, store: &Store<'_>, number: u32) -> u32 {
        const NEAR: usize = 64;
        let start = self.numbers.len().saturating_sub(NEAR);
        let found = self.numbers[start..].iter().rposition(|&known| known == number).map(|at| at + start);
        let at = found.unwrap_or_else(|| {
            self.numbers.push(number);
            self.blobs.push(store.blob_id(number));
            self.numbers.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn close(&mut self, store: &mut Store<'_>) -> Result<()> {
        let mut content = store.buffer();
        content.extend_from_slice(encode_header(&self.blobs, &self.names, &self.digests).as_bytes());
        content.extend_from_slice(self.text.as_bytes());
        if content.len() as u64 > u64::from(BlobKind::Page.limit()) {
            let path = crate::format::escape::escape(&self.first).into_owned();
            return Err(Error::Source { path: path.into(), reason: "the file is in too many pieces".into() });
        }
        let id = store.put_blob(BlobKind::Page, content)?;
        self.rows.push(ListRow { id, entries: self.lines as u64, first: std::mem::take(&mut self.first) });
        *self = Self { rows: std::mem::take(&mut self.rows), ..Self::default() };
        Ok(())
    }

    fn finish(mut self, store: &mut Store<'_>) -> Result<LayerInfo> {
        if self.lines > 0 {
            self.close(store)?;
        }
        let list = store.put_blob(BlobKind::List, encode_list(&self.rows).into_bytes())?;
        let entries = self.rows.iter().map(|row| row.entries).sum();
        Ok(LayerInfo { list, entries, pages: self.rows.into_iter().map(|row| row.id).collect() })
    }
}

/// Bundles of which less than half is live.
pub(super) fn sparse_bundles(repository: &Repository, cache: &CacheWriter) -> Vec<u32> {
    let is_sparse = |(_, id, live): &(u32, BlobId, u64)| {
        let place = repository.index().find(id).filter(|place| place.kind == BlobKind::Bundle);
        place.is_some_and(|place| *live > 0 && live * 2 < u64::from(place.len))
    };
    cache.blobs.live().filter(is_sparse).map(|(number, ..)| number).collect()
}
