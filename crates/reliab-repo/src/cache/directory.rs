//! The directory of a cache file: what it is a cache of, its blobs, and a row a block.

use super::codec::{Reader, put, put_bytes};
use super::rows::Table;
use crate::id::BlobId;

const MAGIC: &[u8; 8] = b"RLBCACH1";

/// What a cache file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The repository's id.
    pub repository: String,
    /// The layers whose merged entries it holds.
    pub layers: Vec<LayerInfo>,
    /// Blobs by number.
    pub blobs: Vec<BlobId>,
    /// Numbers of bundles of which less than half is live: their content is read again.
    pub sparse: Vec<u32>,
    /// The blocks in order.
    pub blocks: Vec<BlockRow>,
}

/// A layer of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its list.
    pub list: BlobId,
    /// Lines it has.
    pub entries: u64,
    /// Its pages.
    pub pages: Vec<BlobId>,
}

/// A block of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockRow {
    /// Position in the file.
    pub at: u64,
    /// Length in bytes.
    pub len: u32,
    /// First 16 bytes of the BLAKE3 of its bytes.
    pub checksum: [u8; 16],
    /// BLAKE3 of what `lstat` said of its entries; zeros if they must be looked at again.
    pub fingerprint: [u8; 32],
    /// Path of its first entry.
    pub first: Vec<u8>,
    /// Entries in it.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// True if an entry differs from the parent's.
    pub changed: bool,
}

impl BlockRow {
    /// The bytes of the block, if they are what was written.
    pub(super) fn checked<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        (blake3::hash(bytes).as_bytes()[..16] == self.checksum).then_some(bytes)
    }
}

/// The fixed-size end of the file.
pub(super) struct Trailer {
    pub(super) content: Table,
    pub(super) inodes: Table,
    pub(super) directory_at: u64,
    pub(super) directory_len: u64,
    pub(super) checksum: [u8; 32],
}

impl Trailer {
    pub(super) const LEN: usize = 8 + 6 * 8 + 32;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let numbers = [
            self.content.at,
            self.content.count,
            self.inodes.at,
            self.inodes.count,
            self.directory_at,
            self.directory_len,
        ];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(&self.checksum);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>()? != MAGIC {
            return None;
        }
        let mut number = || reader.array().map(u64::from_le_bytes);
        let content = Table { at: number()?, count: number()? };
        let inodes = Table { at: number()?, count: number()? };
        let (directory_at, directory_len) = (number()?, number()?);
        Some(Self { content, inodes, directory_at, directory_len, checksum: reader.array()? })
    }
}

pub(super) fn encode_directory(directory: &Directory) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, directory.repository.as_bytes());
    put(&mut out, directory.layers.len() as u64);
    for layer in &directory.layers {
        out.extend_from_slice(&layer.list.0);
        put(&mut out, layer.entries);
        put_ids(&mut out, &layer.pages);
    }
    put_ids(&mut out, &directory.blobs);
    put(&mut out, directory.sparse.len() as u64);
    directory.sparse.iter().for_each(|&blob| put(&mut out, blob.into()));
    put(&mut out, directory.blocks.len() as u64);
    directory.blocks.iter().for_each(|block| put_block(&mut out, block));
    out
}

fn put_ids(out: &mut Vec<u8>, ids: &[BlobId]) {
    put(out, ids.len() as u64);
    ids.iter().for_each(|id| out.extend_from_slice(&id.0));
}

fn put_block(out: &mut Vec<u8>, block: &BlockRow) {
    put(out, block.at);
    put(out, block.len.into());
    out.extend_from_slice(&block.checksum);
    out.extend_from_slice(&block.fingerprint);
    put_bytes(out, &block.first);
    for number in [block.entries, block.files, block.dirs, block.bytes, u64::from(block.changed)] {
        put(out, number);
    }
}

pub(super) fn decode_directory(bytes: &[u8]) -> Option<Directory> {
    let mut reader = Reader::new(bytes);
    let repository = String::from_utf8(reader.bytes()?).ok()?;
    let layers = (0..reader.count()?).map(|_| read_layer(&mut reader)).collect::<Option<_>>()?;
    let blobs = read_ids(&mut reader)?;
    let sparse = (0..reader.count()?).map(|_| reader.number()?.try_into().ok()).collect::<Option<_>>()?;
    let blocks = (0..reader.count()?).map(|_| read_block(&mut reader)).collect::<Option<_>>()?;
    reader.is_empty().then_some(Directory { repository, layers, blobs, sparse, blocks })
}

fn read_layer(reader: &mut Reader<'_>) -> Option<LayerInfo> {
    Some(LayerInfo { list: BlobId(reader.array()?), entries: reader.number()?, pages: read_ids(reader)? })
}

fn read_ids(reader: &mut Reader<'_>) -> Option<Vec<BlobId>> {
    (0..reader.count()?).map(|_| reader.array().map(BlobId)).collect()
}

fn read_block(reader: &mut Reader<'_>) -> Option<BlockRow> {
    Some(BlockRow {
        at: reader.number()?,
        len: reader.number()?.try_into().ok()?,
        checksum: reader.array()?,
        fingerprint: reader.array()?,
        first: reader.bytes()?,
        entries: reader.number()?,
        files: reader.number()?,
        dirs: reader.number()?,
        bytes: reader.number()?,
        changed: reader.number()? != 0,
    })
}
