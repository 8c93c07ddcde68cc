//! Restore (being written).

use std::path::PathBuf;

/// What to do with what is already in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Replace whatever is there.
    Always,
    /// Replace files whose size or mtime differ.
    IfChanged,
    /// Keep whatever is there.
    Never,
}

/// What to restore, and where.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Folder to restore into; created if absent.
    pub target: PathBuf,
    /// Only this path of the snapshot and what is below it.
    pub below: Option<Vec<u8>>,
    /// Patterns (as in `.gitignore`) of what to restore; empty: everything.
    pub include: Vec<String>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// What to do with what is already there; `None`: the target must be empty or absent.
    pub overwrite: Option<Overwrite>,
    /// Write nothing.
    pub dry_run: bool,
    /// Threads that decompress and write.
    pub threads: usize,
}

/// An entry that was not restored, or not fully.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Path in the snapshot, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
    /// True if data of the repository is missing or damaged; false if the target could not take it.
    pub damaged: bool,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RestoreReport {
    /// Entries restored.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files left as they were (`Overwrite::IfChanged`, `Never`).
    pub kept: u64,
    /// What could not be restored.
    pub skipped: Vec<Skipped>,
    /// True if owners could not be set, for want of privileges.
    pub owners_skipped: bool,
}
