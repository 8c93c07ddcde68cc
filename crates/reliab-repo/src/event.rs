//! What the engine tells while it works; it prints nothing itself.

use std::path::Path;

use crate::format::entry::Entry;
use crate::restore::Action;

/// Receives what happens; called from several threads.
pub trait Events: Sync {
    /// Work that will be done: bytes, where known.
    fn total(&self, _bytes: u64) {}
    /// Work done: bytes and entries since the last call.
    fn advance(&self, _bytes: u64, _entries: u64) {}
    /// Something a person should know that does not stop the run.
    fn warning(&self, _path: &Path, _message: &str) {}
    /// An entry that is new (`old` is `None`), gone (`new` is `None`) or was looked at again, which may be as it was.
    fn entry(&self, _old: Option<&Entry>, _new: Option<&Entry>) {}
    /// An entry that a restore would treat so, in a dry run of it.
    fn would_restore(&self, _entry: &Entry, _action: Action) {}
    /// True if the run should stop at the next safe point.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Takes no notice of anything.
pub struct Silent;

impl Events for Silent {}
