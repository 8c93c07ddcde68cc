//! The state file: can it be written, is it whole, how large is it?

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use reliab_common::failure::plain;
use reliab_common::paths::NoFolder;
use reliab_common::state::{State, StateError};
use reliab_common::units;

use super::finding::Finding;

const SUBJECT: &str = "state";
/// Larger than this it should not be: old facts are summed up every day.
const LARGE: u64 = 1 << 30;
/// A larger file is not read through: that takes more than a moment.
const QUICK: u64 = 256 << 20;

/// Opens the state, and says how it is.
pub fn open(
    folder: Result<PathBuf, NoFolder>,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) -> Option<State> {
    let folder = match folder {
        Ok(folder) => folder,
        Err(error) => {
            findings.push(Finding::critical(SUBJECT, error.to_string(), "name a folder with --state-dir"));
            return None;
        }
    };
    let step = format!(
        "runs are not recorded and alerts not evaluated until it can be written: check owner, mode and free space of {}",
        folder.display()
    );
    let opened = State::open(&folder).and_then(|state| {
        // That it opens does not mean that it can be written.
        state.set_cursor("doctor", &now.to_rfc3339())?;
        Ok(state)
    });
    match opened {
        Ok(state) => {
            findings.push(health(&state));
            Some(state)
        }
        Err(error) => {
            findings.push(Finding::critical(SUBJECT, told(&error), step));
            None
        }
    }
}

fn health(state: &State) -> Finding {
    let (path, size) = (state.path().display(), state.size());
    let shown = units::bytes(size);
    let whole = |text: &str| text == "ok";
    let check = || state.with(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)));
    if size <= QUICK && !check().is_ok_and(|text| whole(&text)) {
        let step =
            format!("move {path} away: a new one is begun by the next run; open alerts are sent again");
        return Finding::critical(SUBJECT, format!("{path} is damaged"), step);
    }
    if size > LARGE {
        let step = format!(
            "see what it holds with: sqlite3 {path} .dbinfo, and make room with: sqlite3 {path} VACUUM"
        );
        return Finding::warning(SUBJECT, format!("{path} has grown to {shown}"), step);
    }
    Finding::well(SUBJECT, format!("{path}, {shown}"))
}

/// The error with its causes.
pub fn told(error: &StateError) -> String {
    let mut text = plain(error);
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&plain(error));
        cause = error.source();
    }
    text
}
