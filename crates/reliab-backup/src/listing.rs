//! What a run adds, changes and leaves out, entry by entry, for who asks for more.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reliab_common::ui::Ui;
use reliab_repo::event::Events;
use reliab_repo::format::entry::Entry;

use crate::diff::{Change, change, show};
use crate::events::UiEvents;

/// The events of a run, of which those about entries are shown with `--verbose`.
pub(crate) struct Listing<'a> {
    events: &'a UiEvents,
    /// `None`: nobody asked.
    ui: Option<Mutex<&'a mut Ui>>,
}

impl<'a> Listing<'a> {
    pub fn new(events: &'a UiEvents, ui: &'a mut Ui) -> Self {
        let wanted = ui.is_verbose() && !ui.is_json();
        Self { events, ui: wanted.then(|| Mutex::new(ui)) }
    }
}

impl Events for Listing<'_> {
    fn total(&self, bytes: u64) {
        self.events.total(bytes);
    }

    fn advance(&self, bytes: u64, entries: u64) {
        self.events.advance(bytes, entries);
    }

    fn warning(&self, path: &Path, message: &str) {
        self.events.warning(path, message);
    }

    fn entry(&self, old: Option<&Entry>, new: Option<&Entry>) {
        let (Some(ui), Some(entry)) = (&self.ui, new.or(old)) else { return };
        match change(old, new) {
            None => {}
            // Whatever changes in a folder changes its time.
            Some(Change::Metadata) if entry.is_dir() => {}
            Some(change) => {
                let mut ui = ui.lock().unwrap_or_else(PoisonError::into_inner);
                show(change, &entry.path, entry.is_dir(), &mut ui);
            }
        }
    }

    fn stop_requested(&self) -> bool {
        self.events.stop_requested()
    }
}
