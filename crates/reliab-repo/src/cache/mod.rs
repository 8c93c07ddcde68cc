//! The local cache: the parent's entries merged, in blocks with a fingerprint each, and two look-up tables.
//!
//! It is ours to shape and may be lost at any time: entries and directory carry a BLAKE3, rows are hints that are
//! compared with the entry they lead to, and a cache that does not check out is rebuilt from the repository. Layout of the file:
//!
//! ```text
//! blocks        entries, about 256 a block, each readable on its own (codec.rs)
//! content rows  key of the content's BLAKE3, position of the entry; sorted
//! inode rows    key of device and inode, position of the entry; sorted
//! directory     what `Directory` holds, JSON-free and small: one row a block
//! trailer       magic, positions and lengths of the above, BLAKE3 of the directory
//! ```

mod codec;
mod directory;
mod rows;
mod run;
mod writer;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use codec::CachedEntry;
use codec::Reader;
pub use directory::{BlockRow, Directory, LayerInfo};
use directory::{Trailer, decode_directory};
use rows::{Table, content_key, inode_key};
pub use run::RunFolder;
pub use writer::{BlobTable, CacheWriter};

use crate::error::{Error, Result};
use crate::format::entry::Kind;
use crate::id::Digest;

/// A cache file that was finished.
pub struct Cache {
    file: File,
    directory: Directory,
    content: Table,
    inodes: Table,
}

impl Cache {
    /// Opens a cache; `None` if there is none that checks out.
    pub fn open(path: &Path, repository: &str) -> Option<Self> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let mut bytes = [0; Trailer::LEN];
        file.read_exact_at(&mut bytes, size.checked_sub(Trailer::LEN as u64)?).ok()?;
        let trailer = Trailer::decode(&bytes)?;
        if trailer.directory_at.checked_add(trailer.directory_len)? != size - Trailer::LEN as u64 {
            return None;
        }
        if !trailer.content.fits(trailer.directory_at) || !trailer.inodes.fits(trailer.directory_at) {
            return None;
        }
        let mut text = vec![0; usize::try_from(trailer.directory_len).ok()?];
        file.read_exact_at(&mut text, trailer.directory_at).ok()?;
        if blake3::hash(&text).as_bytes() != &trailer.checksum {
            return None;
        }
        let directory = decode_directory(&text)?;
        (directory.repository == repository).then_some(Self {
            file,
            directory,
            content: trailer.content,
            inodes: trailer.inodes,
        })
    }

    /// What the cache says of itself and its blocks.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The entries of a block; an error means the cache is damaged.
    pub fn read_block(&self, block: &BlockRow) -> Result<Vec<CachedEntry>> {
        let damaged = || Error::damaged("the local cache", "a block does not match its checksum");
        let mut bytes = vec![0; block.len as usize];
        self.file.read_exact_at(&mut bytes, block.at).map_err(|_| damaged())?;
        block.checked(&bytes).and_then(decode_block).ok_or_else(damaged)
    }

    /// An entry with this content.
    pub fn find_content(&self, digest: &Digest) -> Option<CachedEntry> {
        let position = self.content.find(&self.file, content_key(digest)).ok()??;
        self.checked_at(position).filter(|found| has_content(found, digest))
    }

    /// An entry with this inode.
    pub fn find_inode(&self, device: u64, inode: u64) -> Option<CachedEntry> {
        let position = self.inodes.find(&self.file, inode_key(device, inode)).ok()??;
        self.checked_at(position).filter(|found| found.device == device && found.entry.meta.inode == inode)
    }

    /// The entry at a position, if its block checks out.
    fn checked_at(&self, position: u64) -> Option<CachedEntry> {
        let number = self.directory.blocks.partition_point(|block| block.at <= position).checked_sub(1)?;
        let block = &self.directory.blocks[number];
        let mut bytes = vec![0; block.len as usize];
        self.file.read_exact_at(&mut bytes, block.at).ok()?;
        let start = usize::try_from(position - block.at).ok()?;
        Reader::new(block.checked(&bytes)?.get(start..)?).entry()
    }
}

fn has_content(cached: &CachedEntry, digest: &Digest) -> bool {
    matches!(&cached.entry.kind, Kind::File(content) if content.digest == *digest)
}

fn decode_block(bytes: &[u8]) -> Option<Vec<CachedEntry>> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::with_capacity(256);
    while !reader.is_empty() {
        entries.push(reader.entry()?);
    }
    Some(entries)
}

/// Every decoder of the file, for the fuzz target.
pub(crate) fn decode_all(bytes: &[u8]) {
    let _ = Trailer::decode(bytes).is_some();
    drop(decode_directory(bytes));
    drop(decode_block(bytes));
}
