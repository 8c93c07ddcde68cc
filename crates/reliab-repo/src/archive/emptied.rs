//! Sources that lost all their files: a mount that is not there looks like that, and must not pass for a deletion.

use std::path::{Path, PathBuf};

use super::parent::Parent;
use super::{Job, SourceErrors, absolute, is_same_source};
use crate::cache::{BlockRow, CacheWriter, CachedEntry};
use crate::error::{Error, Result, without_number};
use crate::format::entry::Kind;
use crate::format::order;
use crate::format::snapshot::SourceError;
use crate::manifest::Manifest;

/// Refuses the run if one of its sources holds no files now and held some in the parent, or, where there is none, in the
/// last snapshot of the host that has it among others.
///
/// Where something in it could not be read, that is the reason given.
pub(super) fn refuse(
    job: &Job<'_>,
    places: &[(PathBuf, Vec<u8>)],
    parent: Option<&Parent>,
    now: Option<&CacheWriter>,
    errors: &SourceErrors,
) -> Result<()> {
    // Without a new cache nothing changed.
    let Some(now) = now else { return Ok(()) };
    // Those inside another, too: each may be a mount of its own.
    for (source, root) in places {
        if files_in(root, now.blocks(), |number| now.read_block(number), 1)? > 0 {
            continue;
        }
        let had = match parent {
            Some(parent) => files_in_parent(root, parent)?,
            None => files_elsewhere(job, source, root)?,
        };
        if had > 0 {
            let reason = match errors.first_in(root) {
                Some(SourceError { path, error }) => {
                    let error = without_number(error);
                    format!(
                        "none of its files can be read, but it had {had}; {path}: {error}; put that right, or use \
                         --allow-empty"
                    )
                }
                None => format!(
                    "it holds no files now, but had {had}; check that it is mounted, or use --allow-empty"
                ),
            };
            return Err(Error::Source { path: source.clone(), reason });
        }
    }
    Ok(())
}

fn files_in_parent(root: &[u8], parent: &Parent) -> Result<u64> {
    let blocks = &parent.cache.directory().blocks;
    files_in(root, blocks, |number| parent.cache.read_block(&blocks[number]), u64::MAX)
}

/// Counts the files of a source in the last snapshot of another set of sources. What cannot be read of it, or is called
/// otherwise there, refuses nothing.
fn files_elsewhere(job: &Job<'_>, source: &Path, root: &[u8]) -> Result<u64> {
    let path = absolute(source)?;
    let is_it = |other: &String| is_same_source(other, &path);
    let last = job.before.latest_of(|stored| {
        stored.snapshot.host == job.options.host && stored.snapshot.paths.iter().any(is_it)
    });
    let below = (root != b".").then_some(root);
    let manifest = last.and_then(|last| Manifest::open(job.repository, &last.snapshot, below).ok());
    let files = manifest.into_iter().flatten().filter(|found| matches!(found.entry.kind, Kind::File(_)));
    Ok(files.count() as u64)
}

/// Counts the files at or below a path, up to `enough`; only blocks that begin or end outside it are decoded.
fn files_in(
    root: &[u8],
    blocks: &[BlockRow],
    read: impl Fn(usize) -> Result<Vec<CachedEntry>>,
    enough: u64,
) -> Result<u64> {
    let before = blocks.partition_point(|block| order::compare(&block.first, root).is_le());
    let start = before.saturating_sub(1);
    let mut files = 0;
    for (number, block) in blocks.iter().enumerate().skip(start) {
        let is_behind = number > start && !order::is_within(&block.first, root);
        if is_behind || files >= enough {
            break;
        }
        let next = blocks.get(number + 1).map(|next| &next.first[..]);
        let is_whole =
            order::is_within(&block.first, root) && next.is_some_and(|next| order::is_within(next, root));
        files += if block.files == 0 || is_whole { block.files } else { files_of(&read(number)?, root) };
    }
    Ok(files)
}

fn files_of(entries: &[CachedEntry], root: &[u8]) -> u64 {
    let is_file_there =
        |c: &&CachedEntry| matches!(c.entry.kind, Kind::File(_)) && order::is_within(&c.entry.path, root);
    entries.iter().filter(is_file_there).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Entry, Meta, Place};

    fn cached(path: &str) -> CachedEntry {
        let kind = if path.ends_with('f') {
            let content = crate::format::entry::Content {
                size: 0,
                digest: crate::id::Digest([0; 32]),
                data: crate::format::entry::Data::Record(Place { blob: 0, offset: 0 }),
                was: None,
                restamp: false,
            };
            Kind::File(content)
        } else {
            Kind::Dir(Place { blob: 0, offset: 0 })
        };
        let entry = Entry { path: path.into(), kind, meta: Meta::default(), xattrs: Vec::new() };
        CachedEntry { entry, device: 1, racy: false, changed: false }
    }

    fn check(blocks: &[&[&str]], root: &str, expected: u64) {
        let entries: Vec<Vec<CachedEntry>> =
            blocks.iter().map(|block| block.iter().map(|path| cached(path)).collect()).collect();
        let rows: Vec<BlockRow> = entries
            .iter()
            .map(|block| BlockRow {
                first: block[0].entry.path.clone(),
                files: files_of(block, b"."),
                ..BlockRow::default()
            })
            .collect();
        let counted =
            files_in(root.as_bytes(), &rows, |number| Ok(entries[number].clone()), u64::MAX).unwrap();
        assert_eq!(counted, expected, "{root}");
    }

    #[test]
    fn files_of_a_source_are_counted_wherever_blocks_begin() {
        let blocks: &[&[&str]] = &[&["a", "a/f"], &["a/if", "a/jf", "b"], &["b/f"], &["b/gf", "c", "d/f"]];
        check(&[&["a", "a/f", "a!f"], &["a-b", "a-b/f"]], "a", 1);
        check(blocks, "a", 3);
        check(blocks, "b", 2);
        check(blocks, "c", 0);
        check(blocks, "d", 1);
        check(blocks, "d/f", 1);
        check(blocks, ".", 6);
        check(blocks, "0", 0);
        check(blocks, "z", 0);
        check(&[], "a", 0);
    }
}
