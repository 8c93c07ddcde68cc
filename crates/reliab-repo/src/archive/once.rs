//! Warnings told once, though a run may read the source a second time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::event::Events;

/// Passes events on, each warning once.
pub(super) struct Once<'a> {
    events: &'a dyn Events,
    told: Mutex<HashSet<blake3::Hash>>,
}

impl<'a> Once<'a> {
    pub(super) fn new(events: &'a dyn Events) -> Self {
        Self { events, told: Mutex::default() }
    }
}

impl Events for Once<'_> {
    fn total(&self, bytes: u64) {
        self.events.total(bytes);
    }

    fn advance(&self, bytes: u64, entries: u64) {
        self.events.advance(bytes, entries);
    }

    fn warning(&self, path: &Path, message: &str) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(path.as_os_str().as_encoded_bytes()).update(b"\0").update(message.as_bytes());
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(hasher.finalize());
        if is_new {
            self.events.warning(path, message);
        }
    }

    fn stop_requested(&self) -> bool {
        self.events.stop_requested()
    }
}
