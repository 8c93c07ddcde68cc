//! Every magic number, version and limit, and pure encoding and decoding: `docs/format.md` in code.

mod bounded;
pub mod config;
pub mod entry;
pub mod escape;
pub mod linked;
pub mod order;
pub mod page;
pub mod snapshot;
pub mod table;
pub mod tar;

/// The format version this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Files of this size or more, in bytes, are cut into chunks of their own.
pub const LARGE_FILE: u64 = 512 * 1024;

/// A bundle of this many bytes may be closed at a content-defined place. Near zstd's window at level 3, 2 MiB.
pub const BUNDLE_MIN: usize = 7 << 18;
/// A bundle of this many bytes is closed.
pub const BUNDLE_MAX: usize = 5 << 19;
/// Above `BUNDLE_MIN` one path in this many closes the bundle.
pub const BUNDLE_CUT: u64 = 64;

/// A patch blob of this many bytes is closed.
pub const PATCH_MAX: usize = 1 << 20;
/// The unit in which files that changed in place are compared, bytes.
pub const PATCH_BLOCK: usize = 4096;

/// A page of this many entries may be closed at a content-defined place.
pub const PAGE_MIN: usize = 128;
/// A page of this many entries is closed.
pub const PAGE_MAX: usize = 1024;
/// A page of this many bytes of text is closed.
pub const PAGE_BYTES: usize = 1 << 20;
/// Above `PAGE_MIN` one path in this many closes the page.
pub const PAGE_CUT: u64 = 128;

/// A pack of this many bytes is closed.
pub const PACK_SIZE: u64 = 32 << 20;

/// Overlays over a base before a run folds them; no snapshot has more.
pub const OVERLAYS_MAX: usize = 8;

/// The largest metadata file (snapshot, index, table, configuration) that is read, bytes.
pub const METADATA_LIMIT: u64 = 1 << 30;

/// The largest file that a page may tell of, bytes: more than any file system holds, and far from any overflow.
pub const FILE_MAX: u64 = 1 << 56;

/// Pieces of a large file: one for each this many bytes of its data, and two. Chunks and blocks are larger.
pub const PIECE_MIN: u64 = 512;
/// The most pieces of one file. As many different ones do not fit a page.
pub const PIECES_MAX: usize = 1 << 25;
/// The most data segments of a file with holes; the list of more does not fit its head.
pub const SEGMENTS_MAX: usize = 1 << 22;

/// Errors that a snapshot keeps.
pub const ERRORS_MAX: usize = 1000;

/// A text of the format that does not say what it should; becomes `Error::Damaged` where the object is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Bytes of a reason that are kept.
const REASON_MAX: usize = 500;

impl Malformed {
    /// What is wrong, in words that read after "it is damaged:".
    pub fn new(reason: impl ToString) -> Self {
        let mut reason = reason.to_string();
        if reason.len() > REASON_MAX {
            // It may repeat what a file holds, and that may be anything.
            let end = (0..=REASON_MAX).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
            reason.truncate(end);
            reason.push('…');
            reason.shrink_to_fit();
        }
        Self(reason)
    }
}

/// The first eight bytes of BLAKE3(path), little endian: decides content-defined cuts.
pub fn path_hash(path: &[u8]) -> u64 {
    let hash = blake3::hash(path);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default())
}
