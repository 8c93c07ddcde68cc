//! Writing a cache file while the source is walked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{CachedEntry, Reader, encode};
use super::directory::{BlockRow, Directory, LayerInfo, Trailer, encode_directory};
use super::rows::{Row, Rows, Table, content_key, inode_key};
use super::run::RunFolder;
use super::{decode_block, has_content};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind};
use crate::format::{PAGE_CUT, path_hash};
use crate::id::{BlobId, Digest};
use crate::status;

const BLOCK_MIN: u64 = 128;
const BLOCK_MAX: u64 = 1024;
/// A block of this many bytes is closed: it is held whole, and each entry may have 4 MiB of attributes.
const BLOCK_BYTES: u64 = 4 << 20;
const WRITE_BUFFER: usize = 256 * 1024;

/// Blobs by number, some of them not yet closed, and how much of each bundle is live.
#[derive(Default)]
pub struct BlobTable {
    ids: Vec<BlobId>,
    numbers: HashMap<BlobId, u32>,
    live: Vec<u64>,
}

impl BlobTable {
    /// The number of a blob.
    pub fn number(&mut self, id: &BlobId) -> u32 {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        let number = self.reserve();
        self.set(number, *id);
        number
    }

    /// A number for a blob that is not closed yet.
    pub fn reserve(&mut self) -> u32 {
        self.ids.push(BlobId([0; 32]));
        self.live.push(0);
        u32::try_from(self.ids.len() - 1).unwrap_or(u32::MAX)
    }

    /// Says what the blob turned out to be.
    pub fn set(&mut self, number: u32, id: BlobId) {
        self.ids[number as usize] = id;
        self.numbers.entry(id).or_insert(number);
    }

    /// The id under a number.
    pub fn id(&self, number: u32) -> BlobId {
        self.ids[number as usize]
    }

    /// Bytes of records in this blob that entries point at.
    pub fn live(&self) -> impl Iterator<Item = (u32, BlobId, u64)> + '_ {
        (0u32..).zip(&self.ids).zip(&self.live).map(|((number, id), live)| (number, *id, *live))
    }

    fn count_live(&mut self, entry: &Entry) {
        if let Some(place) = entry.place() {
            self.live[place.blob as usize] += record_len(entry);
        }
    }
}

/// How long an entry's record is, bytes; at least so where it needs more than a plain header.
///
/// A bundle of records that are counted too short would look half empty for ever, and be stored again and again.
fn record_len(entry: &Entry) -> u64 {
    let is_plain = entry.path.is_ascii() && entry.path.len() <= 100 && entry.xattrs.is_empty();
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let extended = if is_plain { 0 } else { 1024 + (entry.path.len() + xattrs).next_multiple_of(512) as u64 };
    512 + extended + entry.size().next_multiple_of(512)
}

/// A cache file being written.
pub struct CacheWriter {
    path: PathBuf,
    /// Holds the file.
    _run: Arc<RunFolder>,
    file: File,
    buffer: Vec<u8>,
    /// Bytes written to the file; `buffer` comes behind them.
    written: u64,
    block_at: u64,
    block: BlockRow,
    block_blobs: Vec<u32>,
    fingerprint: Vec<u8>,
    blocks: Vec<BlockRow>,
    /// Bundles that entries of a block lie in, by block.
    bundles: Vec<Vec<u32>>,
    content: Rows,
    inodes: Vec<Row>,
    linked: HashMap<(u64, u64), u64>,
    /// The run's blobs.
    pub blobs: BlobTable,
}

impl CacheWriter {
    /// Creates the file in the run's folder.
    pub fn create(run: &Arc<RunFolder>) -> Result<Self> {
        let path = run.path().join("entries.new");
        let open = || File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = open().map_err(Error::local("create", &path))?;
        Ok(Self {
            path,
            _run: Arc::clone(run),
            file,
            buffer: Vec::new(),
            written: 0,
            block_at: 0,
            block: BlockRow::default(),
            block_blobs: Vec::new(),
            fingerprint: Vec::new(),
            blocks: Vec::new(),
            bundles: Vec::new(),
            content: Rows::default(),
            inodes: Vec::new(),
            linked: HashMap::new(),
            blobs: BlobTable::default(),
        })
    }

    /// Adds the next entry in path order.
    pub fn push(&mut self, cached: &CachedEntry) -> Result<()> {
        let position = self.written + self.buffer.len() as u64;
        if self.block.entries == 0 {
            self.block_at = position;
            self.block.first.clone_from(&cached.entry.path);
        }
        encode(&mut self.buffer, cached);
        self.blobs.count_live(&cached.entry);
        self.add_rows(cached, position);
        self.count(cached);
        let at_cut =
            self.block.entries >= BLOCK_MIN && path_hash(&cached.entry.path).is_multiple_of(PAGE_CUT);
        let len = self.written + self.buffer.len() as u64 - self.block_at;
        let is_full = self.block.entries >= BLOCK_MAX || len >= BLOCK_BYTES;
        if at_cut || is_full { self.close_block() } else { Ok(()) }
    }

    fn add_rows(&mut self, cached: &CachedEntry, position: u64) {
        let Kind::File(content) = &cached.entry.kind else { return };
        let meta = &cached.entry.meta;
        self.content.insert(content_key(&content.digest), position);
        self.inodes.push((inode_key(cached.device, meta.inode), position));
        if meta.links.is_some() {
            self.linked.entry((cached.device, meta.inode)).or_insert(position);
        }
    }

    fn count(&mut self, cached: &CachedEntry) {
        let block = &mut self.block;
        block.entries += 1;
        match &cached.entry.kind {
            Kind::File(content) => {
                block.files += 1;
                block.bytes += content.size;
            }
            Kind::Dir(_) => block.dirs += 1,
            _ => {}
        }
        block.changed |= cached.changed;
        status::fingerprint_of_cached(&mut self.fingerprint, cached);
        if cached.racy {
            block.fingerprint = [1; 32];
        }
        if let Some(place) = cached.entry.place()
            && !self.block_blobs.contains(&place.blob)
        {
            self.block_blobs.push(place.blob);
        }
    }

    fn close_block(&mut self) -> Result<()> {
        if self.block.entries == 0 {
            return Ok(());
        }
        // A block is never split by a flush, so it lies whole in the buffer.
        let start = usize::try_from(self.block_at - self.written).unwrap_or(0);
        let bytes = &self.buffer[start..];
        let mut block = std::mem::take(&mut self.block);
        block.at = self.block_at;
        block.len = u32::try_from(bytes.len()).map_err(|_| self.too_large())?;
        block.checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        let racy = block.fingerprint != [0; 32];
        block.fingerprint = if racy { [0; 32] } else { *blake3::hash(&self.fingerprint).as_bytes() };
        self.fingerprint.clear();
        self.blocks.push(block);
        self.bundles.push(std::mem::take(&mut self.block_blobs));
        if self.buffer.len() >= WRITE_BUFFER { self.flush() } else { Ok(()) }
    }

    fn too_large(&self) -> Error {
        Error::local("write", &self.path)(io::ErrorKind::FileTooLarge.into())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).map_err(Error::local("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// An entry of this run with this content.
    pub fn find_content(&self, digest: &Digest) -> Option<CachedEntry> {
        let position = self.content.get(content_key(digest))?;
        self.entry_at(position).filter(|found| has_content(found, digest))
    }

    /// An entry of this run that is another name of the same inode.
    pub fn find_link(&self, device: u64, inode: u64) -> Option<CachedEntry> {
        self.entry_at(*self.linked.get(&(device, inode))?)
    }

    fn entry_at(&self, position: u64) -> Option<CachedEntry> {
        if position >= self.written {
            let start = usize::try_from(position - self.written).ok()?;
            return Reader::new(self.buffer.get(start..)?).entry();
        }
        let number = self.blocks.partition_point(|block| block.at <= position).checked_sub(1)?;
        let block = &self.blocks[number];
        let rest = u64::from(block.len) - (position - block.at);
        // Most entries are short; read little first.
        let mut bytes = vec![0; usize::try_from(rest.min(1024)).ok()?];
        self.file.read_exact_at(&mut bytes, position).ok()?;
        if let Some(entry) = Reader::new(&bytes).entry() {
            return Some(entry);
        }
        bytes.resize(usize::try_from(rest).ok()?, 0);
        self.file.read_exact_at(&mut bytes, position).ok()?;
        Reader::new(&bytes).entry()
    }

    /// Closes the last block; after this entries can be read back by block.
    pub fn end_entries(&mut self) -> Result<()> {
        self.close_block()?;
        self.flush()
    }

    /// The blocks written.
    pub fn blocks(&self) -> &[BlockRow] {
        &self.blocks
    }

    /// Entries of a block written before.
    pub fn read_block(&self, number: usize) -> Result<Vec<CachedEntry>> {
        let block = &self.blocks[number];
        let mut bytes = vec![0; block.len as usize];
        self.file.read_exact_at(&mut bytes, block.at).map_err(Error::local("read", &self.path))?;
        // What is read goes into pages.
        let read = block.checked(&bytes).and_then(decode_block);
        read.ok_or_else(|| {
            Error::local("read", &self.path)(io::Error::other("it is not what was written there just now"))
        })
    }

    /// Writes tables and directory and gives the file its name.
    ///
    /// It is not synced: a cache that a power loss tears does not check out and is rebuilt.
    pub fn finish(
        mut self,
        to: &Path,
        repository: &str,
        layers: Vec<LayerInfo>,
        sparse: Vec<u32>,
    ) -> Result<()> {
        for (block, bundles) in self.blocks.iter_mut().zip(&self.bundles) {
            if bundles.iter().any(|bundle| sparse.contains(bundle)) {
                block.fingerprint = [0; 32];
            }
        }
        let content = self.write_rows(|writer| std::mem::take(&mut writer.content).into_sorted())?;
        let inodes = self.write_rows(|writer| {
            let mut rows = std::mem::take(&mut writer.inodes);
            rows.sort_unstable();
            rows.dedup_by_key(|row| row.0);
            rows
        })?;
        let directory = Directory {
            repository: repository.to_owned(),
            layers,
            blobs: std::mem::take(&mut self.blobs.ids),
            sparse,
            blocks: std::mem::take(&mut self.blocks),
        };
        let text = encode_directory(&directory);
        let checksum = *blake3::hash(&text).as_bytes();
        let directory_at = self.written;
        let trailer = Trailer { content, inodes, directory_at, directory_len: text.len() as u64, checksum };
        self.buffer.extend_from_slice(&text);
        self.buffer.extend_from_slice(&trailer.encode());
        self.flush()?;
        fs::rename(&self.path, to).map_err(Error::local("rename", &self.path))
    }

    fn write_rows(&mut self, rows: impl FnOnce(&mut Self) -> Vec<Row>) -> Result<Table> {
        let rows = rows(self);
        let table = Table { at: self.written, count: rows.len() as u64 };
        for chunk in rows.chunks(WRITE_BUFFER / 16) {
            for (key, position) in chunk {
                self.buffer.extend_from_slice(&key.to_le_bytes());
                self.buffer.extend_from_slice(&position.to_le_bytes());
            }
            self.flush()?;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Meta, Place};

    #[test]
    fn a_block_of_entries_with_many_attributes_is_closed_before_it_fills_the_memory() {
        let cache = tempfile::tempdir().unwrap();
        let mut writer = CacheWriter::create(&RunFolder::create(cache.path()).unwrap()).unwrap();
        let blob = writer.blobs.number(&BlobId([1; 32]));
        let entry = |number: u8| {
            let kind = Kind::Dir(Place { blob, offset: 0 });
            let xattrs = vec![(b"user.large".to_vec(), vec![number; 3 << 20])];
            let entry = Entry { path: vec![b'a' + number], kind, meta: Meta::default(), xattrs };
            CachedEntry { entry, device: 1, racy: false, changed: false }
        };
        let entries: Vec<_> = (0..9).map(entry).collect();
        entries.iter().for_each(|entry| writer.push(entry).unwrap());
        writer.end_entries().unwrap();
        assert!(writer.blocks().iter().all(|block| block.len < 8 << 20), "of 27 MiB");
        let read = (0..writer.blocks().len()).flat_map(|number| writer.read_block(number).unwrap());
        assert!(read.eq(entries));
    }
}
