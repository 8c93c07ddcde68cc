//! The content of files of a snapshot: where its parts are, and copying it out.

use std::io::Write;

use crate::blob::BlobReader;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Data, Kind, Large, Pieces};
use crate::format::escape::escape;
use crate::format::table::BlobKind;
use crate::format::tar::content_range;
use crate::id::{BlobId, Digest};
use crate::kept::Kept;
use crate::manifest::ManifestEntry;
use crate::repository::Repository;

/// A part of a large file: bytes of a blob, and where in the file they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of the blob in the page's table.
    pub blob: u32,
    /// Offset in the blob's content, bytes.
    pub from: u32,
    /// Length in bytes.
    pub len: u32,
    /// Offset in the file, bytes.
    pub to: u64,
}

/// The parts of a large file in order; `len_of` gives the length of a blob's content.
///
/// They cover the file's data exactly: each segment from its start to its end, none of it twice, and nothing is left over
/// but the end of the last chunk, which is padding.
///
/// # Errors
/// A text if the parts do not add up to what the entry says.
pub fn parts_of(
    large: &Large,
    size: u64,
    len_of: impl Fn(u32) -> Option<u32>,
) -> std::result::Result<Vec<Part>, String> {
    let whole = [(0, size)];
    let mut segments = large.map.as_deref().unwrap_or(&whole).iter().copied().filter(|&(_, len)| len > 0);
    let mut segment = segments.next();
    let mut parts = Vec::new();
    // Gives what found no room.
    let mut place = |blob, mut from: u32, mut len: u32| {
        while len > 0
            && let Some((to, room)) = segment
        {
            let step = u32::try_from(room).unwrap_or(u32::MAX).min(len);
            parts.push(Part { blob, from, len: step, to });
            (from, len) = (from.saturating_add(step), len - step);
            let left = room - u64::from(step);
            segment = if left > 0 { Some((to + u64::from(step), left)) } else { segments.next() };
        }
        len
    };
    let too_much = || "its parts are more than its size".to_owned();
    match &large.pieces {
        Pieces::Chunks(chunks) => {
            let mut rest = 0;
            for &blob in chunks {
                // A blob that is nowhere still takes its room: what follows it cannot be placed.
                let len = len_of(blob).ok_or("a chunk of it is missing")?;
                // Only the last may be longer than what is needed of it.
                if rest > 0 || len == 0 {
                    return Err(too_much());
                }
                rest = place(blob, 0, len);
                if rest == len {
                    return Err(too_much());
                }
            }
        }
        Pieces::Extents(extents) => {
            if extents.iter().any(|extent| place(extent.blob, extent.offset, extent.len) > 0) {
                return Err(too_much());
            }
        }
    }
    if segment.is_some() { Err("its parts do not add up to its size".to_owned()) } else { Ok(parts) }
}

/// Copies contents out, file by file; keeps the last bundle.
pub struct ContentReader<'a> {
    repository: &'a Repository,
    reader: BlobReader<'a>,
    bundle: Option<BlobId>,
    content: Vec<u8>,
}

impl<'a> ContentReader<'a> {
    /// A reader of a repository's files.
    pub fn new(repository: &'a Repository) -> Result<Self> {
        Ok(Self { repository, reader: BlobReader::new(repository)?, bundle: None, content: Vec::new() })
    }

    /// Writes a file's content, holes as zeros, and checks it against its digest. Does nothing for other types.
    pub fn copy(&mut self, entry: &ManifestEntry, out: &mut dyn Write) -> Result<()> {
        let Kind::File(content) = &entry.entry.kind else { return Ok(()) };
        let mut out = HashingWriter { out, hasher: blake3::Hasher::new() };
        match &content.data {
            Data::Record(place) => {
                self.load_bundle(entry.blob(place.blob))?;
                let range = content_range(&self.content, place.offset, content.size)
                    .ok_or_else(|| damaged(entry, "its record is not where it should be"))?;
                out.write(&self.content[range])?;
            }
            Data::Large(large) => self.copy_large(entry, content, large, &mut out)?,
        }
        if Digest(*out.hasher.finalize().as_bytes()) == content.digest {
            Ok(())
        } else {
            Err(damaged(entry, "its content does not match its digest"))
        }
    }

    fn load_bundle(&mut self, id: BlobId) -> Result<()> {
        if self.bundle != Some(id) {
            self.bundle = None;
            self.reader.read(&id, BlobKind::Bundle, &mut self.content)?;
            self.bundle = Some(id);
        }
        Ok(())
    }

    fn copy_large(
        &mut self,
        entry: &ManifestEntry,
        content: &Content,
        large: &Large,
        out: &mut HashingWriter<'_>,
    ) -> Result<()> {
        let parts = self.parts(entry, content, large)?;
        let mut kept = Kept::default();
        let mut at = 0;
        for part in parts {
            out.zeros(part.to - at)?;
            let id = entry.blob(part.blob);
            let kind = self.repository.index().piece_kind(&id);
            let piece = kept.get_or_load(kind, id, || {
                let mut piece = Vec::new();
                self.reader.read(&id, kind, &mut piece).map(|()| piece)
            })?;
            let bytes = (part.from as usize)
                .checked_add(part.len as usize)
                .and_then(|end| piece.get(part.from as usize..end));
            out.write(bytes.ok_or_else(|| damaged(entry, "a part lies outside its blob"))?)?;
            at = part.to + u64::from(part.len);
        }
        out.zeros(content.size - at)
    }

    /// Where the parts of a large file are; an error if they do not cover it, or lie outside their blobs.
    fn parts(&self, entry: &ManifestEntry, content: &Content, large: &Large) -> Result<Vec<Part>> {
        let index = self.repository.index();
        let len_of = |blob| index.find(&entry.blob(blob)).map(|place| place.len);
        let parts = parts_of(large, content.size, len_of).map_err(|reason| damaged(entry, &reason))?;
        let is_inside = |part: &Part| {
            let end = part.from.checked_add(part.len);
            end.is_some_and(|end| len_of(part.blob).is_none_or(|len| end <= len))
        };
        if parts.iter().all(is_inside) {
            Ok(parts)
        } else {
            Err(damaged(entry, "a part lies outside its blob"))
        }
    }

    /// Checks that a file's parts cover it, without reading them.
    pub fn check_parts(&self, entry: &ManifestEntry) -> Result<()> {
        match &entry.entry.kind {
            Kind::File(content) => match &content.data {
                Data::Large(large) => self.parts(entry, content, large).map(drop),
                Data::Record(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn damaged(entry: &ManifestEntry, reason: &str) -> Error {
    Error::damaged(escape(&entry.entry.path), reason)
}

struct HashingWriter<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(|source| Error::Storage {
            action: "write",
            path: "the output".into(),
            source,
        })
    }

    fn zeros(&mut self, mut len: u64) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..step])?;
            len -= step as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Extent;

    #[test]
    fn parts_fill_the_data_segments_in_order() {
        let large =
            Large { head: 0, pieces: Pieces::Chunks(vec![1, 2]), map: Some(vec![(100, 50), (1000, 20)]) };
        let parts = parts_of(&large, 2000, |blob| Some(if blob == 1 { 60 } else { 512 })).unwrap();
        let expected = vec![
            Part { blob: 1, from: 0, len: 50, to: 100 },
            Part { blob: 1, from: 50, len: 10, to: 1000 },
            Part { blob: 2, from: 0, len: 10, to: 1010 },
        ];
        assert_eq!(parts, expected);
        assert!(parts_of(&large, 2000, |_| Some(5)).is_err(), "too little data");
        assert!(parts_of(&large, 2000, |_| None).is_err(), "missing chunk");
        let extents = Pieces::Extents(vec![Extent { blob: 3, offset: 7, len: 70 }]);
        let parts = parts_of(&Large { pieces: extents, ..large }, 2000, |_| None).unwrap();
        assert_eq!(parts[1], Part { blob: 3, from: 57, len: 20, to: 1000 });
    }

    #[test]
    fn parts_that_do_not_cover_the_file_exactly_are_refused() {
        let check = |pieces: Pieces, size, covers: bool| {
            let large = Large { head: 0, pieces, map: None };
            let parts = parts_of(&large, size, |_| Some(512));
            assert_eq!(parts.is_ok(), covers, "{large:?} {size}: {parts:?}");
        };
        let chunks = |count: u32| Pieces::Chunks((0..count).collect());
        let extents = |lens: &[u32]| {
            Pieces::Extents(lens.iter().map(|&len| Extent { blob: 0, offset: 0, len }).collect())
        };
        check(chunks(2), 1024, true);
        check(chunks(2), 600, true);
        check(chunks(2), 1025, false);
        check(chunks(2), 512, false);
        check(chunks(3), 600, false);
        check(chunks(0), 0, true);
        check(chunks(1), 0, false);
        check(extents(&[100, 28]), 128, true);
        check(extents(&[100, 27]), 128, false);
        check(extents(&[100, 29]), 128, false);
        check(extents(&[128, 1]), 128, false);
    }
}
