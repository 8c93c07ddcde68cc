//! What becomes of what stands at an entry's path: the one decision for a restore and for its dry run.

use rustix::fs::FileType;

use super::Overwrite;
use crate::format::entry::{Entry, Kind};
use crate::walk::Status;

/// What becomes of what stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is there.
    Nothing,
    /// It stays as it is.
    Keep,
    /// It has the entry's size and time, so it stays, with the entry's owner, mode and attributes.
    Same,
    /// The entry takes its place, once it is whole.
    Replace,
}

impl Standing {
    /// Decides about what was found at an entry's path.
    pub(super) fn of(entry: &Entry, found: Option<&Status>, overwrite: Overwrite) -> Self {
        let Some(found) = found else { return Self::Nothing };
        if entry.is_dir() && found.kind == FileType::Directory {
            return Self::Keep;
        }
        // Names of one file are put back together, so one of them is never kept by itself.
        let is_same = entry.meta.links.is_none()
            && found.kind == FileType::RegularFile
            && matches!(entry.kind, Kind::File(_))
            && (found.size, found.mtime) == (entry.size(), entry.meta.mtime);
        match overwrite {
            Overwrite::Never => Self::Keep,
            Overwrite::IfChanged if is_same => Self::Same,
            Overwrite::IfChanged | Overwrite::Always => Self::Replace,
        }
    }
}
