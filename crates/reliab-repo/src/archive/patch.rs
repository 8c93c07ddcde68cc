//! Large files that changed in place: only the blocks that differ are stored.

use rustix::io::Errno;

use super::blocks::{self, BlockHash, BlocksReader, BlocksWriter, TreeHasher};
use super::file::OpenFile;
use super::large;
use super::merge::Merge;
use super::source::read_full;
use crate::cache::CachedEntry;
use crate::error::Result;
use crate::format::entry::{Content, Data, Extent, Kind, Large, Pieces};
use crate::format::table::BlobKind;
use crate::format::{PATCH_BLOCK, PATCH_MAX};
use crate::id::Digest;

/// Bytes read at a time; a multiple of the block.
const WINDOW: usize = 1 << 20;

/// Extents of one file beyond one for each chunk that its size makes: with more it is cut by content again.
///
/// An extent costs some 130 bytes at worst, when its page is made (in the entry, in its text, compressed), so these are 35 MB
/// of the 120 MiB that a run keeps to. Their text is 6 MB of the 256 MiB that a page may have (`BlobKind::limit`).
const EXTENTS_MAX: usize = 1 << 18;

/// Bytes that an extent takes in a page at most: the id of a blob in the header, and three numbers.
const EXTENT_TEXT: usize = 96;

/// Blocks of one file that are found to differ before it is cut by content: 4 GiB of data, in 24 MiB of memory.
const CHANGED_MAX: u64 = 1 << 20;

/// What the comparison of a file with its last version found.
struct Comparison {
    digest: Digest,
    /// Blocks that differ, with their new hashes.
    changed: Vec<(u64, BlockHash)>,
}

impl Merge<'_> {
    /// Stores the blocks in which a file differs from its last version.
    ///
    /// `None` where that is not possible or does not pay; the file is then cut by content.
    pub(super) fn patch_file(
        &mut self,
        opened: &OpenFile<'_>,
        old: &CachedEntry,
    ) -> std::result::Result<Result<Option<CachedEntry>>, Errno> {
        let Some((digest, size)) = self.patchable(opened, old) else { return Ok(Ok(None)) };
        let folder = self.store.blocks_folder();
        let Some(mut blocks) = BlocksReader::open(&folder, opened.path, digest, size) else {
            return Ok(Ok(None));
        };
        let writer = match self.store.blocks_writer(opened.path) {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error)),
        };
        let Some(comparison) = self.compare(opened, &mut blocks, writer)? else { return Ok(Ok(None)) };
        let base = match self.base_extents(old) {
            Ok(base) => base,
            Err(error) => return Ok(Err(error)),
        };
        let patched = patched_bytes(&base, self) + (comparison.changed.len() * PATCH_BLOCK) as u64;
        let chunk = self.store.repository.config().chunker.average;
        let size = opened.status.size;
        if patched * 4 > size || extents_with(&base, &comparison.changed, size) > extents_max(size, chunk) {
            return Ok(Ok(None));
        }
        let extents = match self.store_changed(opened, &comparison.changed, &base)? {
            Ok(Some(extents)) => extents,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.patched_entry(opened, comparison.digest, extents).map(Some))
    }

    /// Digest and size of the old content, if the new one may be expressed by it.
    fn patchable(&self, opened: &OpenFile<'_>, old: &CachedEntry) -> Option<(Digest, u64)> {
        let Kind::File(content) = &old.entry.kind else { return None };
        let Data::Large(large) = &content.data else { return None };
        let reread = self.parent.as_ref().is_none_or(|parent| parent.must_reread(&old.entry));
        let fits = opened.status.size >= blocks::MIN_SIZE && large.map.is_none() && !reread;
        fits.then_some((content.digest, content.size))
    }

    /// Reads the file once, for its digest, its new block hashes, and what differs. `None` if it is shorter than it was, or
    /// if too much differs for patches.
    fn compare(
        &mut self,
        opened: &OpenFile<'_>,
        blocks: &mut BlocksReader,
        mut writer: BlocksWriter,
    ) -> std::result::Result<Option<Comparison>, Errno> {
        let size = opened.status.size;
        let most = CHANGED_MAX.min(size / PATCH_BLOCK as u64 / 4);
        let mut tree = TreeHasher::default();
        let mut changed = Vec::new();
        let mut buffer = vec![0; WINDOW];
        let mut at = 0;
        while at < size {
            let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(WINDOW);
            if read_full(&opened.file, &mut buffer[..want], at)? < want {
                return Ok(None);
            }
            for (number, block) in (at / PATCH_BLOCK as u64..).zip(buffer[..want].chunks(PATCH_BLOCK)) {
                let hash = tree.block(block);
                writer.push(hash);
                if blocks.next() != Some(hash) {
                    changed.push((number, hash));
                }
            }
            // Who asks to stop is heard where the file is cut by content then.
            if changed.len() as u64 > most || self.store.events.stop_requested() {
                return Ok(None);
            }
            at += want as u64;
        }
        let Some(digest) = tree.digest() else { return Ok(None) };
        writer.finish(digest, size, &mut self.store.block_changes);
        Ok(Some(Comparison { digest, changed }))
    }

    /// The old pieces as extents in the run's numbers.
    fn base_extents(&mut self, old: &CachedEntry) -> Result<Vec<Extent>> {
        let renumbered = self.renumber(old.clone())?;
        let Kind::File(Content { data: Data::Large(new), size, .. }) = renumbered.entry.kind else {
            return Ok(Vec::new());
        };
        let mut rest = size;
        Ok(match new.pieces {
            Pieces::Extents(extents) => extents,
            Pieces::Chunks(chunks) => chunks
                .into_iter()
                .map(|blob| {
                    let id = self.store.blob_id(blob);
                    let len = self.store.repository.index().find(&id).map_or(0, |place| place.len);
                    let len = u32::try_from(rest.min(len.into())).unwrap_or(len);
                    rest -= u64::from(len);
                    Extent { blob, offset: 0, len }
                })
                .collect(),
        })
    }

    /// Stores the changed blocks and lays them over the old extents. `None` if a block is no longer what it was when
    /// it was compared.
    fn store_changed(
        &mut self,
        opened: &OpenFile<'_>,
        changed: &[(u64, BlockHash)],
        base: &[Extent],
    ) -> std::result::Result<Result<Option<Vec<Extent>>>, Errno> {
        let size = opened.status.size;
        let mut new = Overlay::new(base);
        let mut block = vec![0; PATCH_BLOCK];
        for &(number, hash) in changed {
            let at = number * PATCH_BLOCK as u64;
            let len = usize::try_from(size - at).unwrap_or(usize::MAX).min(PATCH_BLOCK);
            if read_full(&opened.file, &mut block[..len], at)? < len
                || single_hash(number, &block[..len]) != hash
            {
                return Ok(Ok(None));
            }
            new.keep_until(at);
            match self.store.put_patch(&block[..len]) {
                Ok(place) => new.replace(place.blob, place.offset, len),
                Err(error) => return Ok(Err(error)),
            }
        }
        new.keep_until(size);
        Ok(Ok(new.is_whole(size).then_some(new.extents)))
    }

    fn patched_entry(
        &mut self,
        opened: &OpenFile<'_>,
        digest: Digest,
        extents: Vec<Extent>,
    ) -> Result<CachedEntry> {
        if let Some(known) = self.find_content(&digest, &opened.seen())? {
            return Ok(self.point_at(opened.path, &opened.status, known));
        }
        let head = self.put_head(opened, None)?;
        let large = Large { head, pieces: Pieces::Extents(extents), map: None };
        Ok(self.file_entry(&opened.seen(), digest, Data::Large(large)))
    }
}

/// Bytes of a file that are in patches already.
fn patched_bytes(base: &[Extent], merge: &Merge<'_>) -> u64 {
    let index = merge.store.repository.index();
    let is_patch = |extent: &&Extent| {
        index.find(&merge.store.blob_id(extent.blob)).is_some_and(|place| place.kind == BlobKind::Patch)
    };
    base.iter().filter(is_patch).map(|extent| u64::from(extent.len)).sum()
}

/// The most extents that a file may come to; `chunk` is the average length of a chunk, bytes.
fn extents_max(size: u64, chunk: u32) -> usize {
    let chunks = usize::try_from(size / u64::from(chunk).max(1)).unwrap_or(usize::MAX);
    chunks.saturating_add(EXTENTS_MAX).min(large::entries_max(EXTENT_TEXT))
}

/// How many extents there are when the changed blocks are laid over the old ones.
fn extents_with(base: &[Extent], changed: &[(u64, BlockHash)], size: u64) -> usize {
    let mut new = Overlay::new(base);
    // Patches are filled one after another, so neighbours become one extent.
    let offsets =
        (0..PATCH_MAX).step_by(PATCH_BLOCK).map(|offset| u32::try_from(offset).unwrap_or(0)).cycle();
    for (&(number, _), offset) in changed.iter().zip(offsets) {
        let at = number * PATCH_BLOCK as u64;
        let len = usize::try_from(size - at).unwrap_or(usize::MAX).min(PATCH_BLOCK);
        new.keep_until(at);
        new.replace(u32::MAX, offset, len);
    }
    new.keep_until(size);
    new.extents.len()
}

/// The hash of one block, as `TreeHasher` gives it.
fn single_hash(number: u64, block: &[u8]) -> BlockHash {
    use blake3::hazmat::HasherExt;
    let value =
        blake3::Hasher::new().set_input_offset(number * PATCH_BLOCK as u64).update(block).finalize_non_root();
    let mut hash = [0; 16];
    hash.copy_from_slice(&value[..16]);
    hash
}

/// New extents laid over old ones, from the start of the file to its end.
struct Overlay<'a> {
    base: std::slice::Iter<'a, Extent>,
    /// What is left of the extent that is being gone through.
    rest: Option<Extent>,
    /// Position in the file.
    at: u64,
    extents: Vec<Extent>,
}

impl<'a> Overlay<'a> {
    fn new(base: &'a [Extent]) -> Self {
        let mut base = base.iter();
        let rest = base.next().copied();
        Self { base, rest, at: 0, extents: Vec::new() }
    }

    /// Takes the old extents up to a position.
    fn keep_until(&mut self, end: u64) {
        self.advance(end, true);
    }

    /// Puts a new extent in place of `len` old bytes.
    fn replace(&mut self, blob: u32, offset: u32, len: usize) {
        let end = self.at + len as u64;
        self.push(Extent { blob, offset, len: u32::try_from(len).unwrap_or(u32::MAX) });
        self.advance(end, false);
        // Behind the end of the old version there is nothing to skip.
        self.at = end;
    }

    fn advance(&mut self, end: u64, keep: bool) {
        while self.at < end
            && let Some(extent) = self.rest
        {
            let len = u32::try_from(end - self.at).unwrap_or(u32::MAX).min(extent.len);
            if keep {
                self.push(Extent { len, ..extent });
            }
            self.at += u64::from(len);
            let left = Extent { offset: extent.offset + len, len: extent.len - len, ..extent };
            self.rest = if left.len > 0 { Some(left) } else { self.base.next().copied() };
        }
    }

    fn push(&mut self, extent: Extent) {
        match self.extents.last_mut() {
            Some(last) if last.blob == extent.blob && last.offset + last.len == extent.offset => {
                last.len += extent.len;
            }
            _ if extent.len == 0 => {}
            _ => self.extents.push(extent),
        }
    }

    fn is_whole(&self, size: u64) -> bool {
        self.extents.iter().map(|extent| u64::from(extent.len)).sum::<u64>() == size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_extents_replace_what_they_cover_and_nothing_else() {
        let base = [Extent { blob: 0, offset: 0, len: 10_000 }, Extent { blob: 1, offset: 0, len: 10_000 }];
        let mut overlay = Overlay::new(&base);
        overlay.keep_until(8192);
        overlay.replace(7, 0, 4096);
        overlay.keep_until(20_000);
        let expected = vec![
            Extent { blob: 0, offset: 0, len: 8192 },
            Extent { blob: 7, offset: 0, len: 4096 },
            Extent { blob: 1, offset: 2288, len: 7712 },
        ];
        assert!(overlay.is_whole(20_000));
        assert_eq!(overlay.extents, expected);
    }

    #[test]
    fn extents_are_counted_before_anything_is_stored() {
        let base = [Extent { blob: 0, offset: 0, len: 40_960 }];
        let check = |blocks: &[u64], expected: usize| {
            let changed: Vec<_> = blocks.iter().map(|&number| (number, [0; 16])).collect();
            assert_eq!(extents_with(&base, &changed, 40_960), expected, "{blocks:?}");
        };
        check(&[], 1);
        check(&[0], 2);
        check(&[4, 5], 3);
        check(&[2, 4, 9], 6);
    }

    #[test]
    fn many_scattered_changes_are_too_many_extents() {
        const CHUNK: u32 = 2 << 20;
        // 4 GiB, of which each sixteenth block changed, and each fourth.
        let (size, blocks) = (4 << 30, 1 << 20);
        let base: Vec<_> = (0..2048).map(|blob| Extent { blob, offset: 0, len: CHUNK }).collect();
        let changed =
            |step| -> Vec<_> { (0..blocks).step_by(step).map(|number| (number, [0; 16])).collect() };
        let count = |step| extents_with(&base, &changed(step), size);
        assert_eq!(count(16), 2 * (1 << 16));
        assert!(count(16) <= extents_max(size, CHUNK));
        assert_eq!(count(4), 2 * (1 << 18));
        assert!(count(4) > extents_max(size, CHUNK), "a quarter of the file, and far too many");
        // What a large file has of its chunks alone is no reason.
        assert!(2 << 20 < extents_max(4 << 40, CHUNK));
        assert_eq!(extents_max(1 << 50, CHUNK), large::entries_max(EXTENT_TEXT), "more than a page tells");
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_covered_to_its_new_end() {
        let base = [Extent { blob: 0, offset: 0, len: 5000 }];
        let mut grown = Overlay::new(&base);
        grown.keep_until(4096);
        grown.replace(1, 0, 4096);
        grown.replace(1, 4096, 100);
        grown.keep_until(8292);
        assert!(grown.is_whole(8292));
        assert_eq!(grown.extents.len(), 2);
        let mut shrunk = Overlay::new(&base);
        shrunk.keep_until(4096);
        assert!(shrunk.is_whole(4096));
    }
}
