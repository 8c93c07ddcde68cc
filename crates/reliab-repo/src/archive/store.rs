//! What a run stores: the pack pipeline, open bundles, the new cache, and the figures.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::{self, BlockChanges, BlocksWriter};
use super::bundle::OpenBlob;
use super::inodes::Inodes;
use super::source::Opener;
use super::{BackupOptions, SourceErrors};
use crate::cache::{CacheWriter, CachedEntry, RunFolder};
use crate::chunker::Chunker;
use crate::error::{Error, Result, without_number};
use crate::event::Events;
use crate::format::entry::{Entry, Kind, Meta, Place, Xattr};
use crate::format::snapshot::{SourceError, Stats};
use crate::format::table::BlobKind;
use crate::format::tar::{Body, Header, encode, padding};
use crate::format::{PATCH_MAX, escape::escape};
use crate::id::BlobId;
use crate::names::NameCache;
use crate::pack::{Added, PackSink};
use crate::repository::Repository;
use crate::walk::Walked;

/// Everything a run writes to.
pub(super) struct Store<'a> {
    pub(super) repository: &'a Repository,
    pub(super) events: &'a dyn Events,
    pub(super) stats: Stats,
    pub(super) errors: SourceErrors,
    pub(super) names: NameCache,
    pub(super) opener: Opener,
    inodes: Inodes,
    pub(super) chunker: Chunker,
    /// Reused for reading small files, and for large ones piece by piece.
    pub(super) scratch: Vec<u8>,
    /// Block hashes that take effect when the run is done.
    pub(super) block_changes: BlockChanges,
    folder: PathBuf,
    cache: Option<CacheWriter>,
    /// Where the new cache is written.
    run: Option<Arc<RunFolder>>,
    sink: PackSink,
    new_blobs: HashSet<(BlobKind, BlobId)>,
    records: OpenBlob,
    dirs: OpenBlob,
    patch: OpenBlob,
    header: Vec<u8>,
}

/// Which bundle a record goes into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Records,
    Dirs,
}

impl<'a> Store<'a> {
    pub(super) fn start(
        repository: &'a Repository,
        options: &BackupOptions,
        events: &'a dyn Events,
        folder: &Path,
    ) -> Self {
        let sink = PackSink::new(repository.storage().clone(), options.level, options.threads);
        Self {
            repository,
            events,
            stats: Stats::default(),
            errors: SourceErrors::default(),
            names: NameCache::default(),
            opener: Opener::default(),
            inodes: Inodes::default(),
            chunker: Chunker::new(repository.config().chunker),
            scratch: Vec::new(),
            block_changes: BlockChanges::default(),
            folder: folder.to_owned(),
            cache: None,
            run: None,
            sink,
            new_blobs: HashSet::new(),
            records: OpenBlob::default(),
            dirs: OpenBlob::default(),
            patch: OpenBlob::default(),
            header: Vec::new(),
        }
    }

    /// The new cache, begun when the first difference shows up.
    pub(super) fn cache(&mut self) -> Result<&mut CacheWriter> {
        match &mut self.cache {
            Some(cache) => Ok(cache),
            none => {
                let run = RunFolder::create(&self.folder)?;
                let cache = CacheWriter::create(&run)?;
                self.run = Some(run);
                Ok(none.insert(cache))
            }
        }
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    pub(super) fn finished_cache(&self) -> Option<&CacheWriter> {
        self.cache.as_ref()
    }

    /// Folder of the block hashes of large files.
    pub(super) fn blocks_folder(&self) -> PathBuf {
        self.folder.join("blocks")
    }

    /// Block hashes of a file, to be written while it is read.
    pub(super) fn blocks_writer(&mut self, path: &[u8]) -> Result<BlocksWriter> {
        self.cache()?;
        let Some(run) = &self.run else { return Err(Error::Panicked) };
        Ok(BlocksWriter::create(run, &self.blocks_folder(), path))
    }

    pub(super) fn forget_blocks(&mut self, entry: &Entry) {
        if entry.size() >= blocks::MIN_SIZE {
            let folder = self.blocks_folder();
            self.block_changes.forget(&folder, &entry.path);
        }
    }

    /// Adds an entry to the snapshot.
    pub(super) fn push(&mut self, cached: &CachedEntry) -> Result<()> {
        self.count(cached);
        self.cache()?.push(cached)
    }

    fn count(&mut self, cached: &CachedEntry) {
        self.stats.entries += 1;
        match &cached.entry.kind {
            Kind::File(content) => {
                self.stats.files += 1;
                self.stats.bytes += content.size;
            }
            Kind::Dir(_) => self.stats.dirs += 1,
            _ => {}
        }
    }

    /// Notes a source that could not be read, or only in part.
    pub(super) fn source_error(&mut self, path: &[u8], error: &dyn ToString) {
        self.errors.unreadable += 1;
        self.note(path, without_number(&error.to_string()));
    }

    /// Notes something about a source that loses nothing.
    pub(super) fn note(&mut self, path: &[u8], message: &str) {
        let told = escape(path);
        // Of a folder both itself and what is in it may tell.
        let is_told =
            self.errors.kept.last().is_some_and(|last| (&last.path[..], &last.error[..]) == (&told, message));
        if !is_told {
            self.errors.push(path, message);
        }
        self.events.warning(Path::new(told.as_ref()), message);
    }

    /// True if the inode number of an entry is its own for good, not only while its file system is mounted.
    pub(super) fn has_stable_inode(&mut self, walked: &Walked) -> bool {
        let opener = &mut self.opener;
        self.inodes.are_stable(walked.status.device, || opener.file_system(walked))
    }

    /// True if the repository has the blob or this run stores it. A blob of another kind is another blob.
    fn has_blob(&self, kind: BlobKind, id: &BlobId) -> bool {
        let mut places = self.repository.index().places(id);
        self.new_blobs.contains(&(kind, *id)) || places.any(|place| place.pack.is_whole && place.kind == kind)
    }

    /// The id under one of the run's numbers.
    pub(super) fn blob_id(&self, number: u32) -> BlobId {
        self.cache.as_ref().map_or(BlobId([0; 32]), |cache| cache.blobs.id(number))
    }

    /// An empty buffer for a blob's content.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.sink.buffer()
    }

    /// Stores a blob, unless the repository has it; gives its id.
    pub(super) fn put_blob(&mut self, kind: BlobKind, content: Vec<u8>) -> Result<BlobId> {
        if content.len() as u64 > u64::from(kind.limit()) {
            // A reader would refuse it, and the table of its pack with it.
            let what = format!("a new {} of {} bytes", kind.word(), content.len());
            return Err(Error::damaged(what, "it is larger than the format allows"));
        }
        let id = BlobId::of(&content);
        if !self.has_blob(kind, &id) {
            self.new_blobs.insert((kind, id));
            self.sink.put(kind, id, content)?;
        }
        Ok(id)
    }

    /// Stores a blob and gives its number.
    pub(super) fn put_numbered(&mut self, kind: BlobKind, content: Vec<u8>) -> Result<u32> {
        let id = self.put_blob(kind, content)?;
        Ok(self.cache()?.blobs.number(&id))
    }

    /// Header blocks of a record, in a buffer of its own.
    pub(super) fn encode_header(
        &mut self,
        path: &[u8],
        meta: &Meta,
        xattrs: &[Xattr],
        body: Body<'_>,
    ) -> Vec<u8> {
        let mut header = self.buffer();
        encode(&mut header, &Header { path, meta, names: self.names.of(meta), xattrs, body });
        header
    }

    /// Puts the record of a small file into the open bundle.
    pub(super) fn put_record(
        &mut self,
        path: &[u8],
        meta: &Meta,
        xattrs: &[Xattr],
        content: &[u8],
    ) -> Result<Place> {
        let body = Body::File(content.len() as u64);
        self.append_record(Shelf::Records, path, meta, xattrs, (body, content))
    }

    /// Puts the record of an entry that is not a file into its bundle.
    pub(super) fn put_special(
        &mut self,
        path: &[u8],
        meta: &Meta,
        xattrs: &[Xattr],
        body: Body<'_>,
    ) -> Result<Place> {
        let shelf = if matches!(body, Body::Dir) { Shelf::Dirs } else { Shelf::Records };
        self.append_record(shelf, path, meta, xattrs, (body, &[]))
    }

    fn append_record(
        &mut self,
        shelf: Shelf,
        path: &[u8],
        meta: &Meta,
        xattrs: &[Xattr],
        (body, content): (Body<'_>, &[u8]),
    ) -> Result<Place> {
        self.header.clear();
        encode(&mut self.header, &Header { path, meta, names: self.names.of(meta), xattrs, body });
        self.cache()?;
        let open = if shelf == Shelf::Dirs { &mut self.dirs } else { &mut self.records };
        let Some(cache) = &mut self.cache else { return Err(Error::Panicked) };
        let place = open.place(&mut cache.blobs);
        let buffer = open.content();
        buffer.extend_from_slice(&self.header);
        buffer.extend_from_slice(content);
        buffer.resize(buffer.len() + padding(content.len() as u64), 0);
        if open.is_bundle_full(path) {
            self.close_bundle(shelf)?;
        }
        Ok(place)
    }

    fn close_bundle(&mut self, shelf: Shelf) -> Result<()> {
        let open = if shelf == Shelf::Dirs { &mut self.dirs } else { &mut self.records };
        let taken = open.take(|| self.sink.buffer());
        self.close(BlobKind::Bundle, taken)
    }

    fn close(&mut self, kind: BlobKind, taken: Option<(u32, Vec<u8>)>) -> Result<()> {
        let Some((number, content)) = taken else { return Ok(()) };
        let id = self.put_blob(kind, content)?;
        self.cache()?.blobs.set(number, id);
        Ok(())
    }

    /// Puts a block that changed in place into the open patch.
    pub(super) fn put_patch(&mut self, block: &[u8]) -> Result<Place> {
        self.cache()?;
        let Some(cache) = &mut self.cache else { return Err(Error::Panicked) };
        let place = self.patch.place(&mut cache.blobs);
        self.patch.content().extend_from_slice(block);
        if self.patch.len() >= PATCH_MAX {
            let taken = self.patch.take(|| self.sink.buffer());
            self.close(BlobKind::Patch, taken)?;
        }
        Ok(place)
    }

    /// Stores what is still open; after this all blobs of entries have their ids.
    pub(super) fn close_open_blobs(&mut self) -> Result<()> {
        self.close_bundle(Shelf::Records)?;
        self.close_bundle(Shelf::Dirs)?;
        let taken = self.patch.take(|| self.sink.buffer());
        self.close(BlobKind::Patch, taken)?;
        self.cache.as_mut().map_or(Ok(()), CacheWriter::end_entries)
    }

    /// Waits until all packs are durable.
    #[expect(clippy::type_complexity, reason = "taken apart at its one call")]
    pub(super) fn finish(self) -> Result<(Added, Option<CacheWriter>, Vec<SourceError>, Stats, u64)> {
        let added = self.sink.finish()?;
        Ok((added, self.cache, self.errors.kept, self.stats, self.errors.unreadable))
    }
}
