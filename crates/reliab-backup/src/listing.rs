//! What a run adds, changes and leaves out, entry by entry, for who asks for more.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reliab_common::ui::Ui;
use reliab_repo::event::Events;
use reliab_repo::format::entry::Entry;
use reliab_repo::format::escape::escape;
use reliab_repo::restore::Action;
use serde::Serialize;

use crate::diff::{Change, change, show};
use crate::entries::{line, shown};
use crate::events::UiEvents;

/// The events of a run, of which those about entries are shown with `--verbose`.
pub(crate) struct Listing<'a> {
    events: &'a UiEvents,
    /// `None`: nobody asked.
    ui: Option<Mutex<&'a mut Ui>>,
    /// What the dry run of a restore would do, for a document; `None`: there is none.
    previewed: Option<Mutex<Vec<Previewed>>>,
}

/// What a restore would do with a path, in JSON.
#[derive(Serialize)]
pub(crate) struct Previewed {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    action: Action,
}

impl<'a> Listing<'a> {
    pub fn new(events: &'a UiEvents, ui: &'a mut Ui) -> Self {
        let wanted = ui.is_verbose() && !ui.is_json();
        let previewed = ui.is_json().then(Mutex::default);
        Self { events, ui: wanted.then(|| Mutex::new(ui)), previewed }
    }

    /// What the dry run of a restore would do, path by path; `None` where nothing was to be previewed or kept.
    pub fn into_previewed(self) -> Option<Vec<Previewed>> {
        self.previewed.map(|all| all.into_inner().unwrap_or_else(PoisonError::into_inner))
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

    fn would_restore(&self, entry: &Entry, action: Action) {
        if let Some(previewed) = &self.previewed {
            let (path, kind) = (escape(&entry.path).into_owned(), entry.kind.word());
            let previewed = &mut previewed.lock().unwrap_or_else(PoisonError::into_inner);
            previewed.push(Previewed { path, kind, action });
        }
        if let Some(ui) = &self.ui {
            let slash: &[u8] = if entry.is_dir() { b"/" } else { b"" };
            let mut ui = ui.lock().unwrap_or_else(PoisonError::into_inner);
            line(&mut ui, &[word(action).as_bytes(), &shown(&entry.path), slash]);
        }
    }

    fn stop_requested(&self) -> bool {
        self.events.stop_requested()
    }
}

/// What is to become of a path, as wide as the longest.
fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create     ",
        Action::Overwrite => "overwrite  ",
        Action::Keep => "keep       ",
        Action::Refuse => "refuse     ",
    }
}
