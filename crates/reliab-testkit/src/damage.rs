//! Ways in which the bytes of a file go bad.

use std::fs;
use std::io;
use std::path::Path;

/// What happens to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit is inverted, so many thousandths into the file.
    Flip(usize),
    /// The highest bit of this byte is inverted.
    FlipAt(usize),
    /// The end is missing; so many thousandths are left.
    Truncate(usize),
    /// So many bytes at the end are missing.
    CutOff(usize),
    /// So many zeros follow.
    Extend(usize),
    /// The file is gone.
    Delete,
    /// It holds what another file should.
    Replace(Vec<u8>),
    /// All of it is zeros.
    Zero,
}

impl Damage {
    /// The bytes after the damage; `None` if the file is gone.
    pub fn apply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let at = |thousandths: usize| bytes.len().saturating_mul(thousandths) / 1000;
        let mut bad = bytes.to_vec();
        match self {
            Self::Flip(thousandths) => {
                let last = bytes.len().checked_sub(1)?;
                bad[at(*thousandths).min(last)] ^= 1 << (thousandths % 8);
            }
            Self::FlipAt(byte) => *bad.get_mut(*byte)? ^= 0x80,
            Self::Truncate(thousandths) => bad.truncate(at(*thousandths)),
            Self::CutOff(bytes) => bad.truncate(bad.len().saturating_sub(*bytes)),
            Self::Extend(bytes) => bad.resize(bad.len() + bytes, 0),
            Self::Delete => return None,
            Self::Replace(other) => bad.clone_from(other),
            Self::Zero => bad.fill(0),
        }
        Some(bad)
    }

    /// Damages a real file.
    pub fn apply_to(&self, path: &Path) -> io::Result<()> {
        match self.apply(&fs::read(path)?) {
            Some(bytes) => fs::write(path, bytes),
            None => fs::remove_file(path),
        }
    }
}
