//! The digest of a large file whose parts come in any order, from several threads.
//!
//! Each part is hashed as what it is in the file's BLAKE3 tree (Aumasson et al., "BLAKE3", 2.1; `blake3::hazmat`). That takes
//! the place of the hash of its blob, so that all of a file is compared in no more time than its blobs would be.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::format::entry::{Content, Data, Large};
use crate::id::Digest;

/// Bytes of a leaf of the tree.
const LEAF: u64 = blake3::CHUNK_LEN as u64;

/// What was hashed of a file so far.
pub(super) struct Whole {
    size: u64,
    front: Mutex<Front>,
}

/// A part that was hashed, or several that lie side by side.
struct Span {
    len: u64,
    /// Bytes before the first leaf that begins in it.
    head: Vec<u8>,
    /// Subtrees that it covers, in order, each with its length.
    trees: Vec<(ChainingValue, u64)>,
    /// Bytes of the leaf that ends behind it, if that begins in it.
    tail: Vec<u8>,
}

impl Whole {
    /// `None` for a file that is not compared so: holes would have to be hashed, too, which may take for ever.
    pub(super) fn of(content: &Content) -> Option<Self> {
        let has_no_holes = matches!(&content.data, Data::Large(Large { map: None, .. }));
        (has_no_holes && content.size > LEAF).then(|| Self { size: content.size, front: Mutex::default() })
    }

    /// Hashes the bytes that belong at an offset of the file.
    pub(super) fn add(&self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let first = at.next_multiple_of(LEAF).min(end);
        let last = (end - end % LEAF).max(first);
        let part = |from: u64, to: u64| &bytes[index(from - at)..index(to - at)];
        let hash = |(from, len)| {
            let mut hasher = blake3::Hasher::new();
            (hasher.set_input_offset(from).update(part(from, from + len)).finalize_non_root(), len)
        };
        let trees = subtrees(first, last, self.size).map(hash).collect();
        let span =
            Span { len: end - at, head: part(at, first).to_vec(), trees, tail: part(last, end).to_vec() };
        self.front.lock().unwrap_or_else(PoisonError::into_inner).push(at, span);
    }

    /// The digest of the file; `None` if the parts do not cover it, each byte once.
    pub(super) fn digest(&self) -> Option<Digest> {
        let front = std::mem::take(&mut *self.front.lock().unwrap_or_else(PoisonError::into_inner));
        let Front { mut tree, leaf, end, waiting, is_twice } = front;
        if !leaf.is_empty() {
            tree.push(leaf_at(end - leaf.len() as u64, &leaf), LEAF);
        }
        if end == self.size && waiting.is_empty() && !is_twice { tree.root() } else { None }
    }
}

impl Span {
    /// Joins what begins where this ends, at an offset of the file.
    fn append(&mut self, at: u64, next: Self) {
        self.len += next.len;
        let is_inside_a_leaf = self.trees.is_empty() && self.tail.is_empty();
        let edge = if is_inside_a_leaf { &mut self.head } else { &mut self.tail };
        edge.extend_from_slice(&next.head);
        if !is_inside_a_leaf && self.tail.len() as u64 == LEAF {
            self.trees.push((leaf_at(at + next.head.len() as u64 - LEAF, &self.tail), LEAF));
            self.tail.clear();
        }
        self.trees.extend(next.trees);
        self.tail.extend_from_slice(&next.tail);
    }
}

/// What was hashed from the start on, and what waits for its turn.
#[derive(Default)]
struct Front {
    tree: Tree,
    /// Bytes of the leaf that is not whole yet.
    leaf: Vec<u8>,
    /// Where the front is.
    end: u64,
    /// By offset. Neighbours are one, so that there are few.
    waiting: BTreeMap<u64, Span>,
    /// Two parts began at one offset.
    is_twice: bool,
}

impl Front {
    fn push(&mut self, at: u64, mut span: Span) {
        if at == self.end {
            self.take(at, span);
        } else {
            let end = at + span.len;
            if let Some(next) = self.waiting.remove(&end) {
                span.append(end, next);
            }
            match self.waiting.range_mut(..at).next_back() {
                Some((from, before)) if from + before.len == at => before.append(at, span),
                _ => self.is_twice |= self.waiting.insert(at, span).is_some(),
            }
        }
        while let Some(span) = self.waiting.remove(&self.end) {
            self.take(self.end, span);
        }
    }

    fn take(&mut self, at: u64, span: Span) {
        self.leaf.extend_from_slice(&span.head);
        if self.leaf.len() as u64 == LEAF {
            self.tree.push(leaf_at(at + span.head.len() as u64 - LEAF, &self.leaf), LEAF);
            self.leaf.clear();
        }
        span.trees.into_iter().for_each(|(value, len)| self.tree.push(value, len));
        self.leaf.extend_from_slice(&span.tail);
        self.end = at + span.len;
    }
}

/// No part is longer than a blob.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn leaf_at(offset: u64, bytes: &[u8]) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// The largest subtrees between two leaves of a file, none of which is all of it: offset and length of each.
fn subtrees(first: u64, last: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    let most = left_subtree_len(size);
    let mut at = first;
    std::iter::from_fn(move || {
        let room = (last - at) / LEAF * LEAF;
        if room == 0 {
            return None;
        }
        let aligned = if at == 0 { most } else { 1 << at.trailing_zeros() };
        let len = aligned.min(most).min(1 << room.ilog2());
        at += len;
        Some((at - len, len))
    })
}

/// The left edge of the tree: complete subtrees, each with its length.
#[derive(Default)]
struct Tree(Vec<(ChainingValue, u64)>);

impl Tree {
    /// Adds the next subtree. Two that are alike are joined when more comes: the last join makes the root.
    fn push(&mut self, value: ChainingValue, len: u64) {
        while let [.., (left, a), (right, b)] = &self.0[..]
            && a == b
        {
            let joined = (merge_subtrees_non_root(left, right, Mode::Hash), a + b);
            self.0.truncate(self.0.len() - 2);
            self.0.push(joined);
        }
        self.0.push((value, len));
    }

    fn root(mut self) -> Option<Digest> {
        let (mut value, _) = self.0.pop()?;
        while self.0.len() > 1 {
            let (left, _) = self.0.pop()?;
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        let (left, _) = self.0.pop()?;
        Some(Digest(*merge_subtrees_root(&left, &value, Mode::Hash).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Pieces;

    fn whole(size: u64) -> Whole {
        let data = Data::Large(Large { head: 0, pieces: Pieces::Chunks(Vec::new()), map: None });
        Whole::of(&Content { size, digest: Digest([0; 32]), data, was: None, restamp: false }).unwrap()
    }

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Lengths of parts, made up from a seed.
    fn lengths(total: usize, mut seed: u64, most: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut left = total;
        while left > 0 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let len = (usize::try_from(seed >> 33).unwrap() % most + 1).min(left);
            lengths.push(len);
            left -= len;
        }
        lengths
    }

    #[test]
    fn parts_in_any_order_and_of_any_length_give_the_digest_of_the_file() {
        for size in [1025, 2047, 2048, 2049, 4096, 65_536, 65_537, 100_000, 1 << 20, (1 << 20) + 1, 1_500_000]
        {
            let content = bytes(size);
            let expected = Digest(*blake3::hash(&content).as_bytes());
            for (seed, most) in (0..).zip([10, 700, 1024, 4096, 50_000, 300_000, 2_000_000]) {
                if size / most > 100_000 {
                    continue;
                }
                let lengths = lengths(size, seed, most);
                let mut parts = Vec::new();
                let mut at = 0;
                for len in lengths {
                    parts.push((at, &content[at..at + len]));
                    at += len;
                }
                parts.sort_by_key(|(at, _)| blake3::hash(&at.to_le_bytes()).as_bytes()[..8].to_vec());
                let whole = whole(size as u64);
                parts.iter().for_each(|(at, part)| whole.add(*at as u64, part));
                assert_eq!(whole.digest(), Some(expected), "{size} in parts of {most}");
            }
            // In blocks, as those of a file that was patched.
            let whole = whole(size as u64);
            content.chunks(4096).enumerate().rev().for_each(|(n, part)| whole.add(n as u64 * 4096, part));
            assert_eq!(whole.digest(), Some(expected), "{size} in blocks");
        }
    }

    #[test]
    fn parts_that_do_not_cover_a_file_have_no_digest_and_those_in_another_order_another() {
        let content = bytes(10_000);
        let digest = |parts: &[(u64, usize, usize)]| {
            let whole = whole(10_000);
            parts.iter().for_each(|&(at, from, to)| whole.add(at, &content[from..to]));
            whole.digest()
        };
        let right = Some(Digest(*blake3::hash(&content).as_bytes()));
        assert_eq!(digest(&[(5000, 5000, 10_000), (0, 0, 5000)]), right);
        assert_eq!(digest(&[(0, 0, 5000)]), None);
        assert_eq!(digest(&[(0, 0, 5000), (5001, 5001, 10_000)]), None);
        assert_eq!(digest(&[(0, 0, 5000), (4999, 4999, 10_000)]), None);
        assert_eq!(digest(&[(5000, 5000, 10_000), (5000, 5000, 10_000), (0, 0, 5000)]), None);
        let swapped = digest(&[(0, 5000, 10_000), (5000, 0, 5000)]);
        assert!(swapped.is_some() && swapped != right);
    }
}
