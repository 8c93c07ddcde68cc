//! The repository engine: snapshots as tar archives, cut into shared zstd frames (`docs/format.md`).
//!
//! A library without printing and without global state; the storage is passed in, progress goes out as events.

pub mod archive;
pub mod blob;
mod cache;
mod chunker;
pub mod content;
pub mod error;
pub mod event;
pub mod format;
pub mod id;
pub mod index;
mod kept;
pub mod manifest;
mod names;
mod pack;
pub mod repository;
pub mod restore;
mod status;
pub mod storage;
pub mod verify;
pub mod walk;

/// Decoders that are private to the engine, for the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads bytes as each part of a cache file.
    pub fn decode_cache(bytes: &[u8]) {
        crate::cache::decode_all(bytes);
    }
}
