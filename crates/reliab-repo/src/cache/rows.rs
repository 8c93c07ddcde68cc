//! Sorted tables of sixteen bytes an entry: from a hash of something to where its entry stands in the cache file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::id::Digest;

/// Key and position.
pub(super) type Row = (u64, u64);

pub(super) const ROW: usize = 16;
const WINDOW: u64 = 256;

/// The key of a content.
pub(super) fn content_key(digest: &Digest) -> u64 {
    digest.0.first_chunk().map_or(1, |start| u64::from_le_bytes(*start).max(1))
}

/// The key of an inode: mixed, so that keys are spread evenly (the finalizer of `SplitMix64`).
pub(super) fn inode_key(device: u64, inode: u64) -> u64 {
    let mut key = inode ^ device.rotate_left(32);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (key ^ (key >> 31)).max(1)
}

/// A hash table that is being filled: open addressing, key 0 is free.
#[derive(Default)]
pub(super) struct Rows {
    slots: Vec<Row>,
    used: usize,
}

impl Rows {
    pub(super) fn get(&self, key: u64) -> Option<u64> {
        if self.slots.is_empty() {
            return None;
        }
        let (found, position) = self.slots[self.slot(key)];
        (found == key).then_some(position)
    }

    /// Keeps the first position of a key.
    pub(super) fn insert(&mut self, key: u64, position: u64) {
        if self.used * 8 >= self.slots.len() * 7 {
            self.grow();
        }
        let slot = self.slot(key);
        if self.slots[slot].0 == 0 {
            self.slots[slot] = (key, position);
            self.used += 1;
        }
    }

    /// The slot that has the key, or the free one where it belongs.
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        // The low bits choose; keys are hashes, so any bits are as good.
        let mut slot = usize::try_from(key & mask as u64).unwrap_or(0);
        while self.slots[slot].0 != key && self.slots[slot].0 != 0 {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(1024);
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); size]);
        for (key, position) in old.into_iter().filter(|row| row.0 != 0) {
            let slot = self.slot(key);
            self.slots[slot] = (key, position);
        }
    }

    /// The rows sorted by key.
    pub(super) fn into_sorted(mut self) -> Vec<Row> {
        self.slots.retain(|row| row.0 != 0);
        self.slots.sort_unstable();
        self.slots
    }
}

/// A sorted table in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    pub(super) at: u64,
    pub(super) count: u64,
}

impl Table {
    /// True if the table lies before a position in its file.
    pub(super) fn fits(&self, before: u64) -> bool {
        let len = self.count.checked_mul(ROW as u64);
        len.and_then(|len| self.at.checked_add(len)).is_some_and(|end| end <= before)
    }

    /// The position stored under a key: interpolation search, since keys are spread evenly.
    pub(super) fn find(&self, file: &File, key: u64) -> io::Result<Option<u64>> {
        let (mut low, mut high) = (0, self.count);
        let (mut low_key, mut high_key) = (0, u64::MAX);
        while high > low {
            let span = u128::from(high - low);
            let reach = u128::from(key.saturating_sub(low_key)) * span / (u128::from(high_key - low_key) + 1);
            let guess = low + u64::try_from(reach).unwrap_or(0).min(high - low);
            let start = guess.saturating_sub(WINDOW / 2).clamp(low, high.saturating_sub(WINDOW).max(low));
            let rows = self.read(file, start, (high - start).min(WINDOW))?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
            if key < first.0 {
                (high, high_key) = (start, first.0);
            } else if key > last.0 {
                (low, low_key) = (start + rows.len() as u64, last.0);
            } else {
                return Ok(rows.binary_search_by_key(&key, |row| row.0).ok().map(|at| rows[at].1));
            }
            if low_key > key || high_key < key {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn read(&self, file: &File, start: u64, count: u64) -> io::Result<Vec<Row>> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * ROW];
        file.read_exact_at(&mut bytes, self.at + start * ROW as u64)?;
        Ok(bytes.as_chunks().0.iter().map(decode_row).collect())
    }
}

fn decode_row(bytes: &[u8; ROW]) -> Row {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    (number(0), number(8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_inserted_is_found_in_memory_and_in_the_sorted_file() {
        for count in [0u64, 1, 255, 256, 257, 5000, 100_000] {
            let mut rows = Rows::default();
            let key = |n: u64| inode_key(7, n);
            (0..count).for_each(|n| rows.insert(key(n), n));
            (0..count).for_each(|n| assert_eq!(rows.get(key(n)), Some(n)));
            assert_eq!(rows.get(key(count)), None);
            let mut file = tempfile::tempfile().unwrap();
            for (key, position) in rows.into_sorted() {
                file.write_all(&key.to_le_bytes()).unwrap();
                file.write_all(&position.to_le_bytes()).unwrap();
            }
            let table = Table { at: 0, count };
            for n in (0..count).step_by(97) {
                assert_eq!(table.find(&file, key(n)).unwrap(), Some(n), "{n} of {count}");
            }
            assert_eq!(table.find(&file, key(count + 1)).unwrap(), None);
        }
    }
}
