//! The state file: can it be written, is it whole, how large is it?

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use reliab_common::failure::plain;
use reliab_common::paths::NoFolder;
use reliab_common::state::{State, StateError};
use reliab_common::units;
use rusqlite::ErrorCode;

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
    let check = || state.with(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)));
    let is_small = size <= QUICK;
    if let Some(finding) = is_small.then(check).and_then(|checked| unsound(&path.to_string(), checked)) {
        return finding;
    }
    if size > LARGE {
        let step = format!(
            "see what it holds with: sqlite3 {path} .dbinfo, and make room with: sqlite3 {path} VACUUM"
        );
        return Finding::warning(SUBJECT, format!("{path} has grown to {shown}"), step);
    }
    let unchecked = if is_small { "" } else { ", too large to be checked for damage here" };
    Finding::well(SUBJECT, format!("{path}, {shown}{unchecked}"))
}

/// What is wrong after a look through the file; one that cannot be read is not known to be damaged.
fn unsound(path: &str, checked: Result<String, StateError>) -> Option<Finding> {
    let damage = match checked {
        Ok(text) if text == "ok" => return None,
        Ok(text) => text,
        Err(error) if is_damage(&error) => told(&error),
        Err(error) => {
            let step = "run reliab doctor again; if it stays so, look at the disk beneath it";
            let text = format!("it could not be checked for damage: {}", told(&error));
            return Some(Finding::unknown(SUBJECT, text, step));
        }
    };
    let damage = damage.replace('\n', "; ");
    let step = format!("move {path} away: a new one is begun by the next run; open alerts are sent again");
    Some(Finding::critical(SUBJECT, format!("{path} is damaged: {damage}"), step))
}

fn is_damage(error: &StateError) -> bool {
    let StateError::Database { source, .. } = error else { return false };
    matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
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

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::exit::Level;

    #[test]
    fn a_file_that_is_busy_or_cannot_be_read_is_not_called_damaged() {
        let error = |code| {
            let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            Err(StateError::Database { path: "state.db".into(), source })
        };
        let level = |checked| unsound("state.db", checked).map(|finding| finding.level);
        assert_eq!(level(Ok("ok".into())), None);
        assert_eq!(level(Ok("Page 3: never used".into())), Some(Level::Critical));
        assert_eq!(level(error(rusqlite::ffi::SQLITE_CORRUPT)), Some(Level::Critical));
        assert_eq!(level(error(rusqlite::ffi::SQLITE_BUSY)), Some(Level::Unknown));
        assert_eq!(level(error(rusqlite::ffi::SQLITE_IOERR)), Some(Level::Unknown));
    }
}
