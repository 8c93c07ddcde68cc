//! Hashes of a large file's 4 KiB blocks, by which the next run sees what changed in place.
//!
//! The hash of a block is the first half of its chaining value in the file's BLAKE3 tree (Aumasson et al., "BLAKE3",
//! 2.1; `blake3::hazmat`), so one pass gives the blocks' hashes and the file's digest.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::cache::RunFolder;
use crate::format::PATCH_BLOCK;
use crate::id::Digest;

/// Files smaller than this are not worth block hashes; a change stores a chunk or two again.
pub(super) const MIN_SIZE: u64 = 4 << 20;

/// Half of a block's chaining value.
pub(super) type BlockHash = [u8; 16];

const MAGIC: &[u8; 8] = b"RLBBLKS1";
const HEADER: usize = 8 + 32 + 8;

/// Digest of a file and hashes of its blocks, in one pass over its content. Needs at least two blocks.
#[derive(Default)]
pub(super) struct TreeHasher {
    /// Chaining values of complete subtrees, largest first.
    stack: Vec<ChainingValue>,
    last: Option<ChainingValue>,
    blocks: u64,
}

impl TreeHasher {
    /// Adds the next block; all but the last are `PATCH_BLOCK` bytes.
    pub(super) fn block(&mut self, block: &[u8]) -> BlockHash {
        if let Some(mut value) = self.last.take() {
            let mut complete = self.blocks;
            while complete & 1 == 0 {
                let Some(left) = self.stack.pop() else { break };
                value = merge_subtrees_non_root(&left, &value, Mode::Hash);
                complete >>= 1;
            }
            self.stack.push(value);
        }
        let value = blake3::Hasher::new()
            .set_input_offset(self.blocks * PATCH_BLOCK as u64)
            .update(block)
            .finalize_non_root();
        self.last = Some(value);
        self.blocks += 1;
        let mut hash = [0; 16];
        hash.copy_from_slice(&value[..16]);
        hash
    }

    /// The digest of all blocks; `None` with fewer than two.
    pub(super) fn digest(mut self) -> Option<Digest> {
        let mut value = self.last?;
        while self.stack.len() > 1 {
            let left = self.stack.pop()?;
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        let root = merge_subtrees_root(&self.stack.pop()?, &value, Mode::Hash);
        Some(Digest(*root.as_bytes()))
    }
}

/// Block hashes being written to the cache.
///
/// Where the cache cannot be written they are given up: the next run stores chunks instead of patches, and nothing is lost.
pub(super) struct BlocksWriter {
    run: Arc<RunFolder>,
    path: PathBuf,
    to: PathBuf,
    /// `None` when they were given up.
    file: Option<BufWriter<File>>,
}

impl BlocksWriter {
    /// Begins the hashes of the file at `path` in the run's own folder; when the run is done they go into `folder`.
    pub(super) fn create(run: &Arc<RunFolder>, folder: &Path, path: &[u8]) -> Self {
        let (partial, to) = (file_of(run.path(), path), file_of(folder, path));
        // There may be one of this run: a file that changes is read again.
        let file = File::create(&partial).ok().map(BufWriter::new);
        let mut writer = Self { run: Arc::clone(run), path: partial, to, file };
        writer.attempt(|file| file.write_all(&[0; HEADER]));
        writer
    }

    /// Does something to the file; if that fails, the hashes are given up.
    fn attempt(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some(file) = &mut self.file
            && act(file).is_err()
        {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        if let Some(file) = self.file.take() {
            // What is buffered would be written on drop, to a disk that is full or broken.
            drop(file.into_parts());
            drop(fs::remove_file(&self.path));
        }
    }

    pub(super) fn push(&mut self, hash: BlockHash) {
        self.attempt(|file| file.write_all(&hash));
    }

    /// Says whose blocks they are; the file gets its name when the run is done.
    pub(super) fn finish(mut self, digest: Digest, size: u64, changes: &mut BlockChanges) {
        let header = [&MAGIC[..], &digest.0, &size.to_le_bytes()].concat();
        self.attempt(|file| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.flush()
        });
        if self.file.take().is_some() {
            changes.written.push((self.path, self.to));
            changes.run = Some(self.run);
        }
    }
}

/// What a run makes of the block hashes, once it is done.
///
/// Until then those of the parent stay: a run that is refused, fails or is stopped has no use for others, and the next
/// one compares with the same parent.
#[derive(Default)]
pub(super) struct BlockChanges {
    /// Temporary names and those they get.
    written: Vec<(PathBuf, PathBuf)>,
    /// Holds what was written.
    run: Option<Arc<RunFolder>>,
    gone: Vec<PathBuf>,
}

impl BlockChanges {
    /// Forgets the blocks of a file that is gone.
    pub(super) fn forget(&mut self, folder: &Path, path: &[u8]) {
        self.gone.push(file_of(folder, path));
    }

    /// Puts the changes in place, after the snapshot was published.
    pub(super) fn commit(self) {
        for path in self.gone {
            // It may never have had any; a leftover only takes room.
            drop(fs::remove_file(path));
        }
        if let Some(folder) = self.written.first().and_then(|(_, to)| to.parent()) {
            drop(fs::create_dir_all(folder));
        }
        for (from, to) in self.written {
            // Without them the next run stores chunks.
            drop(fs::rename(from, to));
        }
    }
}

/// Block hashes of a file as it was.
pub(super) struct BlocksReader {
    file: BufReader<File>,
}

impl BlocksReader {
    /// `None` unless they are those of a file with this digest and size.
    pub(super) fn open(folder: &Path, path: &[u8], digest: Digest, size: u64) -> Option<Self> {
        let mut file = BufReader::new(File::open(file_of(folder, path)).ok()?);
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let expected = [&MAGIC[..], &digest.0, &size.to_le_bytes()].concat();
        (header[..] == expected[..]).then_some(Self { file })
    }

    /// The next block's hash; `None` behind the last.
    pub(super) fn next(&mut self) -> Option<BlockHash> {
        let mut hash = [0; 16];
        self.file.read_exact(&mut hash).ok()?;
        Some(hash)
    }
}

fn file_of(folder: &Path, path: &[u8]) -> PathBuf {
    folder.join(&blake3::hash(path).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_cannot_be_written_are_given_up() {
        let mut changes = BlockChanges::default();
        let cache = tempfile::tempdir().unwrap();
        let (run, folder) = (RunFolder::create(cache.path()).unwrap(), cache.path().join("blocks"));
        fs::create_dir(file_of(run.path(), b"a")).unwrap();
        let mut writer = BlocksWriter::create(&run, &folder, b"a");
        writer.push([1; 16]);
        writer.finish(Digest([2; 32]), 8192, &mut changes);
        // A full device takes what is buffered and fails when it is flushed.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = BlocksWriter::create(&run, &folder, b"b");
        writer.file = Some(BufWriter::new(full));
        writer.push([1; 16]);
        writer.finish(Digest([2; 32]), 8192, &mut changes);
        assert!(changes.written.is_empty() && !file_of(run.path(), b"b").exists());
        changes.commit();
        assert!(BlocksReader::open(&folder, b"b", Digest([2; 32]), 8192).is_none());
    }

    #[test]
    fn hashes_of_the_parent_stay_until_the_run_is_done() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("blocks");
        let write = |name: &[u8], digest: u8, changes: &mut BlockChanges| {
            let run = RunFolder::create(cache.path()).unwrap();
            let mut writer = BlocksWriter::create(changes.run.as_ref().unwrap_or(&run), &folder, name);
            writer.push([digest; 16]);
            writer.finish(Digest([digest; 32]), 8192, changes);
        };
        let has =
            |name: &[u8], digest: u8| BlocksReader::open(&folder, name, Digest([digest; 32]), 8192).is_some();
        let mut changes = BlockChanges::default();
        write(b"a", 1, &mut changes);
        write(b"b", 2, &mut changes);
        changes.commit();
        let change = || {
            let mut changes = BlockChanges::default();
            write(b"a", 3, &mut changes);
            changes.forget(&folder, b"b");
            changes
        };
        drop(change());
        assert!(has(b"a", 1) && has(b"b", 2) && !has(b"a", 3));
        let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((count(&folder), count(cache.path())), (2, 1), "nothing is left over");
        change().commit();
        assert!(has(b"a", 3) && !has(b"b", 2));
    }

    #[test]
    fn two_runs_that_read_one_file_write_its_hashes_apart() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("blocks");
        let [(mut first, mut changes), (mut second, mut refused)] = [(), ()].map(|()| {
            let run = RunFolder::create(cache.path()).unwrap();
            (BlocksWriter::create(&run, &folder, b"a"), BlockChanges::default())
        });
        // More than is buffered.
        (0..1000).for_each(|_| first.push([1; 16]));
        (0..1000).for_each(|_| second.push([2; 16]));
        first.finish(Digest([1; 32]), 4_096_000, &mut changes);
        second.finish(Digest([2; 32]), 4_096_000, &mut refused);
        changes.commit();
        drop(refused);
        let mut reader = BlocksReader::open(&folder, b"a", Digest([1; 32]), 4_096_000).unwrap();
        assert_eq!((0..1000).filter(|_| reader.next() == Some([1; 16])).count(), 1000);
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn the_tree_of_blocks_gives_the_digest_of_the_file() {
        for len in [4097u32, 8192, 8193, 12_288, 65_536, 65_537, 1 << 20, (1 << 20) + 5, 3_333_333] {
            let data: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let mut tree = TreeHasher::default();
            data.chunks(PATCH_BLOCK).for_each(|block| {
                tree.block(block);
            });
            assert_eq!(tree.digest(), Some(Digest(*blake3::hash(&data).as_bytes())), "{len}");
        }
    }
}
