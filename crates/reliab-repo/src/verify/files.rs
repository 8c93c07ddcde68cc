//! Reading files: each content is what its digest says.

use std::collections::HashSet;
use std::path::Path;

use super::{Broken, Findings, blamed, for_each_blob_of};
use crate::content::ContentReader;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::{Content, Data, Kind, Pieces};
use crate::format::escape::escape;
use crate::format::table::BlobKind;
use crate::kept::extra_bytes;
use crate::manifest::Manifest;
use crate::repository::{Repository, StoredSnapshot};

/// Takes content until a stop is asked for: a hole may claim to be longer than anybody will wait.
struct StoppableSink<'a>(&'a dyn Events);

impl std::io::Write for StoppableSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.stop_requested() { Err(std::io::ErrorKind::Other.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of holes and of repeated blobs that one run reads: a minute or two. A digest of zeros takes as long as one of
/// data, a hole may claim to be of any length, and a file to be one blob a million times.
const EXTRA_MAX: u64 = 256 << 30;

/// Bytes of holes and of repeated blobs that may still be read.
struct ExtraLeft(u64);

impl ExtraLeft {
    /// True if those of a file may be read, too.
    fn take(&mut self, extra: u64) -> bool {
        let left = self.0.checked_sub(extra);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

fn not_hashed(extra: u64) -> String {
    format!(
        "it was not compared with its digest: {} GiB of it are holes or blobs over again, and one run reads {} GiB of \
         those; each of its blobs was checked, and that they cover its data",
        extra >> 30,
        EXTRA_MAX >> 30
    )
}

/// Adds where a content lies in its blobs and in the file, without its numbers of blobs, which each page counts anew.
fn update_offsets(places: &mut blake3::Hasher, content: &Content) {
    places.update(&content.size.to_le_bytes());
    match &content.data {
        Data::Record(place) => {
            places.update(&place.offset.to_le_bytes());
        }
        Data::Large(large) => {
            for (offset, len) in large.map.iter().flatten() {
                places.update(&offset.to_le_bytes()).update(&len.to_le_bytes());
            }
            if let Pieces::Extents(extents) = &large.pieces {
                for extent in extents {
                    places.update(&extent.offset.to_le_bytes()).update(&extent.len.to_le_bytes());
                }
            }
        }
    }
}

/// Reads every distinct file content and compares it with its digest.
pub(super) fn check(
    repository: &Repository,
    snapshots: &[StoredSnapshot],
    broken: &Broken,
    findings: &mut Findings,
    events: &dyn Events,
) -> Result<()> {
    let mut reader = ContentReader::new(repository)?;
    let mut seen = HashSet::new();
    let mut left = ExtraLeft(EXTRA_MAX);
    for stored in snapshots {
        let Ok(manifest) = Manifest::open(repository, &stored.snapshot, None) else { continue };
        for item in manifest {
            if events.stop_requested() {
                return Err(Error::Interrupted);
            }
            let Kind::File(content) = &item.entry.kind else { continue };
            // The place counts, too: equal contents may be stored twice.
            let mut places = blake3::Hasher::new();
            places.update(&content.digest.0);
            let mut is_broken = false;
            for_each_blob_of(&item, repository.index(), |blob| {
                is_broken |= broken.contains_key(&blob);
                // A head has no content, and each copy of a file one of its own.
                if blob.0 != BlobKind::Head {
                    places.update(&blob.1.0);
                }
            });
            if is_broken {
                // Named already, with the pack.
                continue;
            }
            update_offsets(&mut places, content);
            if !seen.insert(places.finalize()) {
                continue;
            }
            let extra = extra_bytes(&item, repository.index());
            let is_hashed = left.take(extra);
            let checked = if is_hashed {
                reader.copy(&item, &mut StoppableSink(events))
            } else {
                reader.check_parts(&item)
            };
            if let Err(error) = checked {
                if events.stop_requested() {
                    return Err(Error::Interrupted);
                }
                let (object, problem) = blamed(&error, broken, std::iter::empty());
                findings.hit(&object, &problem, stored, &item.entry.path);
            } else if !is_hashed {
                events.warning(Path::new(escape(&item.entry.path).as_ref()), &not_hashed(extra));
            }
        }
    }
    Ok(())
}
