//! Blobs as zstd frames: compression, decompression, and the reader that checks what it reads.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

use crate::error::{Error, Result};
use crate::format::table::BlobKind;
use crate::id::BlobId;
use crate::repository::Repository;
use crate::storage::pack_key;

/// Compresses blobs, one at a time, with one context.
pub struct BlobCompressor {
    context: Compressor<'static>,
}

impl BlobCompressor {
    /// A compressor at a zstd level (1 to 19).
    pub fn new(level: i32) -> io::Result<Self> {
        let mut context = Compressor::new(level)?;
        context.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { context })
    }

    /// Replaces what is in `frame` by the frame of `content`.
    pub fn compress(&mut self, content: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
        frame.clear();
        frame.reserve(compress_bound(content.len()));
        self.context.compress_to_buffer(content, frame)?;
        Ok(())
    }
}

/// Who compares the content with a hash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Id,
    ByCaller,
}

/// Reads blobs of a repository and checks them; one a thread.
pub struct BlobReader<'a> {
    repository: &'a Repository,
    context: Decompressor<'static>,
    frame: Vec<u8>,
}

impl<'a> BlobReader<'a> {
    /// A reader of a repository's blobs.
    pub fn new(repository: &'a Repository) -> Result<Self> {
        let context = Decompressor::new().map_err(|source| Error::Storage {
            action: "start zstd for",
            path: repository.location(),
            source,
        })?;
        Ok(Self { repository, context, frame: Vec::new() })
    }

    /// Puts a blob's content into `content`, from whichever pack has it whole.
    pub fn read(&mut self, id: &BlobId, kind: BlobKind, content: &mut Vec<u8>) -> Result<()> {
        self.read_any(id, kind, content, Check::Id)
    }

    /// The same for a caller who compares all that it uses of the content with digests of its own.
    ///
    /// zstd's checksum is still verified; so is the id of a blob that lies in several packs.
    pub fn read_for_digest(&mut self, id: &BlobId, kind: BlobKind, content: &mut Vec<u8>) -> Result<()> {
        self.read_any(id, kind, content, Check::ByCaller)
    }

    fn read_any(&mut self, id: &BlobId, kind: BlobKind, content: &mut Vec<u8>, check: Check) -> Result<()> {
        let mut failure = Error::MissingBlob(*id);
        // The caller's digest would find a wrong copy too late to read another.
        let check = if self.repository.index().places(id).nth(1).is_some() { Check::Id } else { check };
        for place in self.repository.index().places(id) {
            let pack = place.pack;
            if place.kind != kind {
                failure = damaged(id, &pack.id.short(), &format!("it is a {}", place.kind.word()));
                continue;
            }
            if !place.is_there() {
                let reason =
                    if pack.len.is_some() { "the pack ends before it" } else { "the pack is missing" };
                failure = damaged(id, &pack.id.short(), reason);
                continue;
            }
            self.frame.resize(place.stored as usize, 0);
            let read = self.repository.storage().get_range(
                &pack_key(&pack.id),
                place.offset.into(),
                &mut self.frame,
            );
            let checked = match read {
                Ok(()) => self
                    .decode(id, place.len as usize, content, check)
                    .map_err(|r| damaged(id, &pack.id.short(), &r)),
                Err(error) if error.is_bad_sector() => Err(damaged(id, &pack.id.short(), &error.told())),
                Err(error) => Err(error),
            };
            match checked {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Decompresses the frame and compares it with its id.
    fn decode(
        &mut self,
        id: &BlobId,
        len: usize,
        content: &mut Vec<u8>,
        check: Check,
    ) -> std::result::Result<(), String> {
        content.clear();
        content.reserve(len);
        decompress(&mut self.context, &self.frame, len, content)?;
        if check == Check::ByCaller || BlobId::of(content) == *id {
            Ok(())
        } else {
            Err("its content does not match its id".to_owned())
        }
    }
}

/// Decompresses one frame that must hold exactly `len` bytes; `content` has room for them.
fn decompress(
    context: &mut Decompressor<'static>,
    frame: &[u8],
    len: usize,
    content: &mut Vec<u8>,
) -> std::result::Result<(), String> {
    let got = context.decompress_to_buffer(frame, content).map_err(|error| format!("zstd: {error}"))?;
    if got == len { Ok(()) } else { Err(format!("it holds {got} bytes, not {len}")) }
}

fn damaged(id: &BlobId, pack: &str, reason: &str) -> Error {
    Error::damaged(format!("blob {} of pack {pack}", id.short()), reason)
}
