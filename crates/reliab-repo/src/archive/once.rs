//! Warnings told once, though a run may read the source a second time. Of very many the first are remembered.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::event::Events;
use crate::format::ERRORS_MAX;
use crate::format::entry::Entry;

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

impl Once<'_> {
    /// Past as many as a snapshot keeps a warning may be told twice; nobody reads that many.
    fn is_new(&self, warning: blake3::Hash) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= ERRORS_MAX { !told.contains(&warning) } else { told.insert(warning) }
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
        if self.is_new(hasher.finalize()) {
            self.events.warning(path, message);
        }
    }

    fn entry(&self, old: Option<&Entry>, new: Option<&Entry>) {
        self.events.entry(old, new);
    }

    fn stop_requested(&self) -> bool {
        self.events.stop_requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Events for Count {
        fn warning(&self, _: &Path, _: &str) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_warnings_are_told_once_and_no_more_are_remembered() {
        let count = Count::default();
        let once = Once::new(&count);
        for _ in 0..2 {
            for number in 0..ERRORS_MAX + 5 {
                once.warning(Path::new("a"), &number.to_string());
            }
        }
        assert_eq!(count.0.load(Ordering::Relaxed), ERRORS_MAX + 10);
        assert_eq!(once.told.into_inner().unwrap().len(), ERRORS_MAX);
    }
}
