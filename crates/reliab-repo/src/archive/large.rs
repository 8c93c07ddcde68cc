//! Large files and files with holes: cut into chunks by content, with a head of their own.

use rustix::io::Errno;

use super::blocks::{self, BlockChanges, BlocksWriter, TreeHasher};
use super::file::OpenFile;
use super::merge::Merge;
use super::source::read_full;
use crate::cache::CachedEntry;
use crate::error::Result;
use crate::format::PATCH_BLOCK;
use crate::format::entry::{Data, Large, Pieces};
use crate::format::table::BlobKind;
use crate::format::tar::{Body, padding};
use crate::id::Digest;
use crate::status::meta;

/// Data segments of a file with holes.
pub(super) type Segments = Option<Vec<(u64, u64)>>;

/// Either error ends the reading of this file: the source's, or the repository's.
type Reading<T> = std::result::Result<Result<T>, Errno>;

/// Bytes that a chunk takes in a page at most: its id in the header, and its number.
const CHUNK_TEXT: usize = 80;

/// Bytes that a data segment takes in a page at most: two numbers.
const SEGMENT_TEXT: usize = 40;

/// Bytes of a page for all else: entries that stand before, and the attributes of this one.
const OTHER_TEXT: usize = 16 << 20;

/// The most chunks that a file may have so that its entry fits a page: some three million, 6 TiB.
fn chunks_max(segments: usize) -> usize {
    entries_max(CHUNK_TEXT).saturating_sub(segments * SEGMENT_TEXT / CHUNK_TEXT)
}

/// The most pieces of a file whose entry fits a page, if each takes this many bytes of it.
pub(super) fn entries_max(piece: usize) -> usize {
    (BlobKind::Page.limit() as usize - OTHER_TEXT) / piece
}

/// Bytes of a hole that are hashed before it is asked whether to stop: of 16 TiB that takes an hour.
const HOLE_STEP: u64 = 16 << 20;

/// Zeros to hash in place of holes.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The digest of a file being read, with its block hashes where they are kept.
enum FileHasher {
    Plain(Box<blake3::Hasher>),
    Blocks(TreeHasher, BlocksWriter),
}

impl FileHasher {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Plain(hasher) => {
                hasher.update(data);
            }
            Self::Blocks(tree, writer) => {
                data.chunks(PATCH_BLOCK).for_each(|block| writer.push(tree.block(block)));
            }
        }
    }

    fn zeros(&mut self, mut len: u64) {
        let Self::Plain(hasher) = self else { return };
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
            hasher.update(&ZEROS[..step]);
            len -= step as u64;
        }
    }

    fn finish(self, size: u64, changes: &mut BlockChanges) -> Digest {
        match self {
            Self::Plain(hasher) => Digest(*hasher.finalize().as_bytes()),
            Self::Blocks(tree, writer) => {
                // Only files of many blocks are hashed so.
                let digest = tree.digest().unwrap_or(Digest([0; 32]));
                writer.finish(digest, size, changes);
                digest
            }
        }
    }
}

impl Merge<'_> {
    pub(super) fn read_large(
        &mut self,
        opened: &OpenFile<'_>,
        segments: Segments,
        old: Option<&CachedEntry>,
    ) -> Reading<Option<CachedEntry>> {
        // Not DONTNEED: that would throw out pages which the service itself keeps warm. NOREUSE (honoured since Linux
        // 6.3) only keeps this one reading from making pages look busy; where it is unknown nothing is lost.
        rustix::fs::fadvise(&opened.file, 0, None, rustix::fs::Advice::NoReuse).unwrap_or(());
        if segments.is_none()
            && let Some(old) = old
            && let Some(patched) = self.patch_file(opened, old)?.transpose()
        {
            return Ok(patched.map(Some));
        }
        let whole = [(0, opened.status.size)];
        let map = segments.as_deref().unwrap_or(&whole);
        let hasher = match self.file_hasher(opened, segments.is_some()) {
            Ok(hasher) => hasher,
            Err(error) => return Ok(Err(error)),
        };
        match self.read_chunks(opened, map, hasher)? {
            Ok(Some((digest, chunks))) => Ok(self.large_entry(opened, segments, digest, chunks).map(Some)),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn file_hasher(&mut self, opened: &OpenFile<'_>, has_holes: bool) -> Result<FileHasher> {
        if has_holes || opened.status.size < blocks::MIN_SIZE {
            return Ok(FileHasher::Plain(Box::default()));
        }
        let writer = self.store.blocks_writer(opened.path)?;
        Ok(FileHasher::Blocks(TreeHasher::default(), writer))
    }

    /// Stores the data as chunks; `None` if the file is shorter than it was.
    fn read_chunks(
        &mut self,
        opened: &OpenFile<'_>,
        map: &[(u64, u64)],
        mut hasher: FileHasher,
    ) -> Reading<Option<(Digest, Vec<u32>)>> {
        let window = self.store.chunker.max() * 2;
        let mut buffer = std::mem::take(&mut self.store.scratch);
        buffer.resize(window.max(buffer.len()), 0);
        let outcome = self.read_window(opened, map, &mut hasher, &mut buffer[..window]);
        self.store.scratch = buffer;
        let size = opened.status.size;
        let changes = &mut self.store.block_changes;
        Ok(outcome?.map(|chunks| chunks.map(|chunks| (hasher.finish(size, changes), chunks))))
    }

    /// Slides a window of two largest chunks over the data. `FBIG` if there are more of them than a page can tell.
    fn read_window(
        &mut self,
        opened: &OpenFile<'_>,
        map: &[(u64, u64)],
        hasher: &mut FileHasher,
        window: &mut [u8],
    ) -> Reading<Option<Vec<u32>>> {
        let zeros = padding(map.iter().map(|&(_, len)| len).sum());
        let most = chunks_max(map.len());
        let mut chunks = Vec::new();
        let mut filled = 0;
        let mut end = 0;
        for (number, &(offset, len)) in map.iter().enumerate() {
            if let Err(error) = self.hash_hole(hasher, offset - end) {
                return Ok(Err(error));
            }
            end = offset + len;
            let mut at = offset;
            while at < end {
                // Whole blocks, so that block hashes see them at their places.
                let room = (window.len() - filled) / PATCH_BLOCK * PATCH_BLOCK;
                let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(room);
                let got = read_full(&opened.file, &mut window[filled..filled + want], at)?;
                if got < want {
                    return Ok(Ok(None));
                }
                at += want as u64;
                let last = (at == end && number + 1 == map.len()).then_some(zeros);
                hasher.update(&window[filled..filled + want]);
                match self.cut_chunks(window, filled + want, last, &mut chunks) {
                    Ok(_) if chunks.len() > most => return Err(Errno::FBIG),
                    Ok(left) => filled = left,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        Ok(self.hash_hole(hasher, opened.status.size - end).map(|()| Some(chunks)))
    }

    fn hash_hole(&self, hasher: &mut FileHasher, mut len: u64) -> Result<()> {
        while len > 0 {
            self.stop_if_asked()?;
            let step = len.min(HOLE_STEP);
            hasher.zeros(step);
            len -= step;
        }
        Ok(())
    }

    /// Stores the chunks at the window's start and moves the rest there; gives its length. With `last` zeros to add
    /// behind the last chunk, the rest is stored, too.
    fn cut_chunks(
        &mut self,
        window: &mut [u8],
        filled: usize,
        last: Option<usize>,
        chunks: &mut Vec<u32>,
    ) -> Result<usize> {
        let mut start = 0;
        while filled - start >= self.store.chunker.max() || (last.is_some() && start < filled) {
            self.stop_if_asked()?;
            let len = self.store.chunker.cut(&window[start..filled]);
            let mut content = self.store.buffer();
            content.extend_from_slice(&window[start..start + len]);
            start += len;
            if let Some(zeros) = last.filter(|_| start == filled) {
                content.resize(len + zeros, 0);
            }
            chunks.push(self.store.put_numbered(BlobKind::Chunk, content)?);
        }
        window.copy_within(start..filled, 0);
        Ok(filled - start)
    }

    /// Makes the entry: another file's blobs where the content is known, else a head for these.
    fn large_entry(
        &mut self,
        opened: &OpenFile<'_>,
        map: Segments,
        digest: Digest,
        chunks: Vec<u32>,
    ) -> Result<CachedEntry> {
        if map.is_none()
            && let Some(known) = self.find_content(&digest, &opened.seen())?
            && matches!(&known.entry.kind, crate::format::entry::Kind::File(c) if matches!(&c.data, Data::Large(l) if l.map.is_none()))
        {
            return Ok(self.point_at(opened.path, &opened.status, known));
        }
        let head = self.put_head(opened, map.as_deref())?;
        Ok(self.file_entry(
            &opened.seen(),
            digest,
            Data::Large(Large { head, pieces: Pieces::Chunks(chunks), map }),
        ))
    }

    /// Stores the header blocks of a large file.
    pub(super) fn put_head(&mut self, opened: &OpenFile<'_>, map: Option<&[(u64, u64)]>) -> Result<u32> {
        let size = opened.status.size;
        let body = map.map_or(Body::File(size), |map| Body::Sparse(size, map));
        let header = self.store.encode_header(opened.path, &meta(&opened.status), opened.seen().xattrs, body);
        self.store.put_numbered(BlobKind::Head, header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Content, Entry, Kind, Meta};
    use crate::format::page::{Line, Page, encode_page};
    use crate::id::BlobId;

    #[test]
    fn the_chunks_that_are_allowed_fit_a_page() {
        let page = |chunks: u32, segments: u64| {
            let most = u32::try_from(chunks_max(0)).unwrap();
            let pieces = Pieces::Chunks((most - chunks..most).collect());
            // The longest numbers that the format has.
            let map = (segments > 0).then(|| vec![(crate::format::FILE_MAX, crate::format::FILE_MAX); 1000]);
            let data = Data::Large(Large { head: most, pieces, map });
            let content = Content { size: 1, digest: Digest([0; 32]), data, was: None, restamp: false };
            let entry = Entry {
                path: b"f".to_vec(),
                kind: Kind::File(content),
                meta: Meta::default(),
                xattrs: Vec::new(),
            };
            let blobs = vec![BlobId([255; 32]); chunks as usize];
            encode_page(&Page { blobs, lines: vec![Line::Entry(entry)], ..Page::default() }).len()
        };
        let (none, chunks, segments) = (page(0, 0), page(1000, 0), page(0, 1000));
        assert!(chunks - none <= 1000 * CHUNK_TEXT && segments - none <= 1000 * SEGMENT_TEXT);
        let whole = chunks_max(1 << 20) * CHUNK_TEXT + (1 << 20) * SEGMENT_TEXT + OTHER_TEXT;
        assert!(whole <= BlobKind::Page.limit() as usize);
        assert!(chunks_max(1) > 3_000_000, "files of 6 TiB can be told");
    }
}
