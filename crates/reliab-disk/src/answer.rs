//! What is found out in a process of its own, which may hang on a dead file system in place of the run.
//!
//! That process is this very program with `--measure`. It holds a lock for as long as it lives, so that a hanging one
//! is not joined by another in the next run.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use reliab_common::lock::{JobLock, LockError};
use reliab_common::paths;
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::space::Space;
use crate::sqlite::{self, SqliteSize};
use crate::walk::{self, WalkOptions};

/// What to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// The room on the file system of a mount point
    Mount,
    /// Where a path really is, and the room there
    Path,
    /// The size of a `SQLite` file
    Sqlite,
    /// The size of a directory
    Directory,
}

impl Measure {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Path => "path",
            Self::Sqlite => "sqlite",
            Self::Directory => "directory",
        }
    }
}

/// What was found out, one JSON text a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// An earlier process for the same thing has not ended; this one waits for it.
    Held {
        /// Its number.
        pid: Option<u32>,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// That process has ended, and this one begins.
    Freed,
    /// Room on a file system.
    Mount(Space),
    /// The nearest folder to a path that exists, without links, and the room there.
    Path {
        /// That folder, or the path itself; a path need not be text.
        found: OsString,
        /// Whether it is the path itself.
        exists: bool,
        /// The room there.
        space: Space,
    },
    /// The size of a `SQLite` file.
    Sqlite(SqliteSize),
    /// The size of a directory in bytes, and how much in it could not be read.
    Directory {
        /// Bytes on the disk.
        bytes: u64,
        /// Files and directories that could not be read.
        unread: u64,
    },
    /// It cannot be found out.
    Failed {
        /// Why.
        reason: String,
        /// Whether it is a matter of permission, and so says nothing about the disk.
        denied: bool,
    },
}

/// Finds it out and writes it to stdout.
pub(crate) fn give(what: Measure, path: &Path, session: &Session, ui: &mut Ui) {
    // Where the run that asked is gone nobody wants to know.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _lock = wait_for_lock(what, path, session, ui);
    let answer = find_out(what, path).unwrap_or_else(|error| Answer::Failed {
        denied: error.kind() == io::ErrorKind::PermissionDenied,
        reason: reliab_common::failure::plain(&error),
    });
    tell(&answer, ui);
}

fn tell(answer: &Answer, ui: &mut Ui) {
    if let Ok(line) = serde_json::to_string(answer) {
        ui.out(line);
        // The reader must see it even if this process hangs next; a failure is met again at the end.
        drop(ui.finish());
    }
}

fn find_out(what: Measure, path: &Path) -> io::Result<Answer> {
    Ok(match what {
        Measure::Mount => {
            // An XFS that shut itself down after an error still tells its room, and nothing else.
            path.metadata()?;
            Answer::Mount(Space::of(path)?)
        }
        Measure::Path => nearest(path)?,
        Measure::Sqlite => Answer::Sqlite(sqlite::size(path)?),
        Measure::Directory => {
            let usage =
                walk::measure(path, &WalkOptions { depth: 0, ..WalkOptions::default() }, &|_, _| false)?;
            Answer::Directory { bytes: usage.bytes, unread: usage.error_count }
        }
    })
}

/// The path, or what is nearest above it and exists.
fn nearest(path: &Path) -> io::Result<Answer> {
    for (step, above) in path.ancestors().enumerate() {
        match above.canonicalize() {
            Ok(found) => {
                let space = Space::of(&found)?;
                return Ok(Answer::Path { found: found.into(), exists: step == 0, space });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Takes the lock of this question, waiting for an earlier process as long as it takes: whoever asks has a deadline.
///
/// Where no lock can be kept there is none: measuring matters more.
fn wait_for_lock(what: Measure, path: &Path, session: &Session, ui: &mut Ui) -> Option<JobLock> {
    let dir = paths::state_dir(session.global.state_dir.as_deref(), &session.env).ok()?;
    let name = lock_name(what, path);
    let mut told = false;
    loop {
        match JobLock::acquire(&dir, &name, &session.clock) {
            Ok(lock) => {
                if told {
                    tell(&Answer::Freed, ui);
                }
                return Some(lock);
            }
            Err(LockError::Io { .. }) => return None,
            Err(LockError::Held { pid, since, .. }) if !told => {
                tell(&Answer::Held { pid, since }, ui);
                told = true;
            }
            Err(LockError::Held { .. }) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A name that is short enough for a file, whatever the path.
fn lock_name(what: Measure, path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    format!("disk-{}-{:016x}", what.name(), hasher.finish())
}
