//! The parent: the last snapshot of the same host and sources, and the cache of its entries.

use std::collections::HashSet;

use super::{Job, is_same_source};
use crate::blob::BlobReader;
use crate::cache::{BlockRow, Cache, CacheWriter, CachedEntry, LayerInfo, RunFolder};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Stamp};
use crate::format::escape::unescape;
use crate::format::snapshot::{Snapshot, SourceError};
use crate::format::{ERRORS_MAX, order};
use crate::manifest::{Manifest, read_list};
use crate::repository::{Repository, StoredSnapshot};
use crate::status;

fn is_same_set(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same_source(one, other))
}

/// Name of the cache file in a job's cache folder.
pub(super) const CACHE_FILE: &str = "entries";

/// True if an error means that the cache, not the repository, is damaged.
pub(super) fn is_cache_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged { what, .. } if what == "the local cache")
}

/// What the run is compared with.
pub(super) struct Parent {
    pub(super) stored: StoredSnapshot,
    pub(super) cache: Cache,
    /// Numbers of blobs that no whole pack holds: what lies in them is read again.
    lost: HashSet<u32>,
    /// Numbers of bundles to empty: what lives in them is read again.
    sparse: HashSet<u32>,
    /// False if a list or page of the layers is lost: a fresh base is written.
    pub(super) layers_whole: bool,
}

impl Parent {
    /// The parent of a job, if it has one that can be used.
    pub(super) fn find(job: &Job<'_>) -> Result<Option<Self>> {
        let is_ours = |s: &StoredSnapshot| {
            s.snapshot.host == job.options.host && is_same_set(&s.snapshot.paths, &job.paths)
        };
        let Some(stored) = job.before.latest_of(is_ours) else { return Ok(None) };
        let path = job.cache.join(CACHE_FILE);
        let usable = |cache: &Cache| {
            cache.directory().layers.iter().map(|l| l.list).eq(stored.snapshot.layers.iter().copied())
        };
        let id = &job.repository.config().id;
        let mut cache = Cache::open(&path, id).filter(usable);
        if cache.is_none() && rebuild(job, &stored.snapshot)? {
            cache = Cache::open(&path, id).filter(usable);
        }
        Ok(cache.map(|cache| Self::new(job.repository, stored.clone(), cache)))
    }

    fn new(repository: &Repository, stored: StoredSnapshot, cache: Cache) -> Self {
        let is_lost = |id| !repository.index().is_safe(id);
        let directory = cache.directory();
        let lost = (0u32..).zip(&directory.blobs).filter(|(_, id)| is_lost(id)).map(|(n, _)| n).collect();
        let sparse = directory.sparse.iter().copied().collect();
        let layers_whole = !directory.layers.iter().any(|l| is_lost(&l.list) || l.pages.iter().any(is_lost));
        Self { stored, cache, lost, sparse, layers_whole }
    }

    /// True if a block need not be looked into when its fingerprint matches.
    pub(super) fn is_trusted(&self, block: &BlockRow) -> bool {
        self.lost.is_empty() && block.fingerprint != [0; 32]
    }

    /// True if the entry's content must be read again whatever its status says.
    pub(super) fn must_reread(&self, entry: &Entry) -> bool {
        if self.lost.is_empty() && self.sparse.is_empty() {
            return false;
        }
        let in_sparse = entry.place().is_some_and(|place| self.sparse.contains(&place.blob));
        let mut in_lost = false;
        entry.kind.clone().for_each_blob(|blob| in_lost |= self.lost.contains(blob));
        in_sparse || in_lost
    }

    /// An entry with this content that may be pointed at.
    pub(super) fn find_content(&self, digest: &crate::id::Digest) -> Option<CachedEntry> {
        self.cache.find_content(digest).filter(|found| !self.must_reread(&found.entry))
    }

    /// An entry with this inode that may be pointed at.
    pub(super) fn find_inode(&self, device: u64, inode: u64) -> Option<CachedEntry> {
        self.cache.find_inode(device, inode).filter(|found| !self.must_reread(&found.entry))
    }
}

/// Writes the cache anew from the repository; false if the snapshot's pages are damaged.
fn rebuild(job: &Job<'_>, snapshot: &Snapshot) -> Result<bool> {
    let repository = job.repository;
    let Ok(layers) = layer_infos(repository, snapshot) else { return Ok(false) };
    let Ok(mut manifest) = Manifest::open(repository, snapshot, None) else { return Ok(false) };
    let mut writer = CacheWriter::create(&RunFolder::create(&job.cache)?)?;
    let told = Told::of(&snapshot.errors);
    let start = Stamp { seconds: snapshot.time.timestamp(), nanos: snapshot.time.timestamp_subsec_nanos() };
    for item in &mut manifest {
        let mut entry = item.entry;
        entry.kind.for_each_blob(|blob| *blob = writer.blobs.number(&item.page.blobs[*blob as usize]));
        // The device is known only where the page says it; elsewhere a renamed file is read again.
        let device = entry.meta.links.map_or(0, |links| links.device);
        let racy = status::is_racy_meta(&entry.meta, start) || told.is_of(&entry.path);
        writer.push(&CachedEntry { entry, device, racy, changed: false })?;
    }
    if !manifest.take_gaps().is_empty() {
        return Ok(false);
    }
    writer.end_entries()?;
    let sparse = super::layers::sparse_bundles(repository, &writer);
    writer.finish(&job.cache.join(CACHE_FILE), &repository.config().id, layers, sparse)?;
    Ok(true)
}

/// What a snapshot tells of entries that are not whole, or may be of several moments: they are looked at again, as with the
/// cache of its own run.
struct Told {
    paths: HashSet<Vec<u8>>,
    /// The last path, where there may be more behind it.
    last: Option<Vec<u8>>,
}

impl Told {
    fn of(errors: &[SourceError]) -> Self {
        let path = |error: &SourceError| unescape(&error.path).ok();
        // They stand in the order of the walk.
        let last = errors.last().filter(|_| errors.len() >= ERRORS_MAX).and_then(path);
        Self { paths: errors.iter().filter_map(path).collect(), last }
    }

    fn is_of(&self, path: &[u8]) -> bool {
        self.paths.contains(path) || self.last.as_ref().is_some_and(|last| order::compare(path, last).is_gt())
    }
}

fn layer_infos(repository: &Repository, snapshot: &Snapshot) -> Result<Vec<LayerInfo>> {
    let mut reader = BlobReader::new(repository)?;
    snapshot
        .layers
        .iter()
        .map(|list| {
            let rows = read_list(&mut reader, list)?;
            let entries = rows.iter().map(|row| row.entries).sum();
            Ok(LayerInfo { list: *list, entries, pages: rows.iter().map(|row| row.id).collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_is_looked_at_again_and_all_behind_the_last_of_too_many() {
        let error = |path: String| SourceError { path, error: SourceError::CHANGED.to_owned() };
        let told = Told::of(&[error("a/b%25".into()), error("c".into())]);
        let check = |told: &Told, path: &str, expected: bool| {
            assert_eq!(told.is_of(path.as_bytes()), expected, "{path}");
        };
        for (path, expected) in [("a/b%", true), ("a/b", false), ("c", true), ("d", false)] {
            check(&told, path, expected);
        }
        let many: Vec<_> = (0..ERRORS_MAX).map(|number| error(format!("m/{number:04}"))).collect();
        let told = Told::of(&many);
        let of_many = [("m/0007", true), ("m/00070", false), ("a", false), ("m/0999", true), ("n", true)];
        of_many.iter().for_each(|(path, expected)| check(&told, path, *expected));
    }
}
