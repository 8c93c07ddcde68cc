//! How much room a file system has.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Room on a file system, in bytes and inodes, as statvfs(3) tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Space {
    /// All of it.
    pub size: u64,
    /// What nothing uses, what is reserved for root included.
    pub unused: u64,
    /// What users may still use.
    pub free: u64,
    /// All inodes; 0 where the file system makes them as needed.
    pub inodes: u64,
    /// Inodes that nothing uses.
    pub inodes_free: u64,
}

impl Space {
    /// Asks the file system that holds a path.
    pub fn of(path: &Path) -> Result<Self, Errno> {
        Ok(Self::told(&statvfs(path)?))
    }

    /// What the kernel told, in bytes.
    fn told(found: &StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // A server may tell less than nothing where root took of what is reserved (BSD does); as a count without a sign
        // that is more than there is.
        let is_less = found.f_blocks > 0 && found.f_bavail > found.f_blocks;
        let free = if is_less { 0 } else { found.f_bavail };
        Self {
            size: bytes(found.f_blocks),
            unused: bytes(found.f_bfree),
            free: bytes(free),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.size.saturating_sub(self.unused)
    }

    /// What users can have at most: what is used and what is free for them, without what is reserved.
    pub fn usable(&self) -> u64 {
        self.used().saturating_add(self.free)
    }

    /// The used part of what users can have, 0 to 1; `None` for a file system without any room.
    pub fn used_part(&self) -> Option<f64> {
        part(self.used(), self.usable())
    }

    /// The same in percent, rounded up as df does.
    pub fn used_percent(&self) -> Option<u64> {
        percent(self.used(), self.usable())
    }

    /// Inodes in use.
    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }

    /// The used part of the inodes, 0 to 1; `None` where there is no fixed number of them.
    pub fn inodes_used_part(&self) -> Option<f64> {
        part(self.inodes_used(), self.inodes)
    }

    /// The same in percent, rounded up as `df -i` does.
    pub fn inodes_used_percent(&self) -> Option<u64> {
        percent(self.inodes_used(), self.inodes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a part needs no more than 52 bits")]
fn part(used: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| used as f64 / all as f64)
}

fn percent(used: u64, all: u64) -> Option<u64> {
    let percent = (u128::from(used) * 100).div_ceil(u128::from(all).max(1));
    (all > 0).then(|| u64::try_from(percent).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_blocks_are_neither_used_nor_free() {
        let space = Space { size: 1000, unused: 300, free: 250, inodes: 100, inodes_free: 99 };
        assert_eq!((space.used(), space.usable()), (700, 950));
        assert_eq!(space.used_percent(), Some(74));
        assert!((space.used_part().unwrap() - 700.0 / 950.0).abs() < 1e-12);
        assert_eq!((space.inodes_used_percent(), space.inodes_used_part()), (Some(1), Some(0.01)));
    }

    #[test]
    fn less_than_nothing_free_is_nothing() {
        let mut found = statvfs("/").unwrap();
        (found.f_frsize, found.f_blocks, found.f_bfree) = (4096, 1000, 30);
        for (told, free) in [(20, 20), (0, 0), (5u64.wrapping_neg(), 0), (5u64.wrapping_neg() >> 20, 0)] {
            found.f_bavail = told;
            assert_eq!(Space::told(&found).free, free * 4096);
        }
    }

    #[test]
    fn nothing_of_nothing_is_no_part() {
        let space = Space::default();
        assert_eq!(
            (space.used_percent(), space.used_part(), space.inodes_used_percent()),
            (None, None, None)
        );
        let full = Space { size: u64::MAX, ..Space::default() };
        assert_eq!(full.used_percent(), Some(100));
    }
}
