//! From the engine's events to the output.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reliab_common::signal::Stop;
use reliab_common::ui::{Progress, Ui};
use reliab_repo::event::Events;
use serde::Serialize;

use crate::failure::without_number;

/// Warnings that are kept; of more only the number is told.
const KEPT: usize = 1000;
/// Warnings that are shown as text.
const SHOWN: usize = 100;

/// Counts progress at once and keeps warnings for the end.
pub(crate) struct UiEvents {
    progress: Progress,
    stop: Stop,
    warnings: Mutex<Warnings>,
}

/// What the engine warned of.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Warnings {
    /// The first of them.
    warnings: Vec<Warning>,
    /// How many there were.
    warning_count: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Warning {
    path: String,
    message: String,
}

impl UiEvents {
    /// Begins to show the progress of a job.
    pub fn start(ui: &Ui, stop: &Stop, label: &str) -> Self {
        let progress = ui.progress();
        progress.start(label, None);
        Self { progress, stop: stop.clone(), warnings: Mutex::default() }
    }

    /// Ends the progress, and shows and returns the warnings.
    pub fn finish(self, ui: &mut Ui) -> Warnings {
        self.progress.finish();
        let warnings = self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings.warnings.iter().take(SHOWN) {
            ui.warn(format_args!("{}: {}", warning.path, warning.message));
        }
        if let Some(more @ 1..) = warnings.warning_count.checked_sub(SHOWN) {
            ui.warn(format_args!("and {more} more warnings like these"));
        }
        warnings
    }
}

impl Events for UiEvents {
    fn total(&self, bytes: u64) {
        self.progress.set_total(bytes);
    }

    fn advance(&self, bytes: u64, entries: u64) {
        self.progress.advance(bytes, entries);
    }

    fn warning(&self, path: &Path, message: &str) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.warning_count += 1;
        if warnings.warnings.len() < KEPT {
            let path = path.to_string_lossy().into_owned();
            warnings.warnings.push(Warning { path, message: without_number(message).to_owned() });
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.requested()
    }
}
