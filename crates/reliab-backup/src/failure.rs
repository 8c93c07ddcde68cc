//! From an error to the exit code and the line that is told: the one place for both.

use std::error::Error as StdError;
use std::io;

use reliab_common::config::ConfigError;
use reliab_common::exit::Exit;
use reliab_common::lock::LockError;
use reliab_common::paths::NoFolder;
use reliab_common::units::UnitError;
use reliab_repo::error::Error;

/// An option, an argument or the configuration asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// An error, ready to be told.
pub(crate) struct Failure {
    pub exit: Exit,
    pub text: String,
}

impl Failure {
    /// The exit code and the text of an error with all its causes.
    pub fn of(error: &anyhow::Error) -> Self {
        let is_usage = error.is::<UsageError>();
        let exit = if is_usage { Some(Exit::Usage) } else { error.chain().find_map(exit_of) };
        let exit = exit.unwrap_or(Exit::Failed);
        let mut text = error.chain().map(part).collect::<Vec<_>>().join(": ");
        if let Some(step) = error.chain().find_map(next_step) {
            text.push_str("; ");
            text.push_str(step);
        }
        Self { exit, text }
    }
}

/// One link of the chain; the engine's read after "cannot".
fn part(error: &(dyn StdError + 'static)) -> String {
    if error.is::<Error>() { format!("cannot {error}") } else { plain(error) }
}

/// The text of an error without the number of the system's error, which says nothing to most people.
pub(crate) fn plain(error: &(dyn StdError + 'static)) -> String {
    without_number(&error.to_string()).to_owned()
}

/// A text that may end with a system's error, without that error's number.
pub(crate) fn without_number(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

fn exit_of(error: &(dyn StdError + 'static)) -> Option<Exit> {
    let is_usage = error.is::<UsageError>()
        || error.is::<ConfigError>()
        || error.is::<UnitError>()
        || error.is::<NoFolder>();
    if is_usage {
        return Some(Exit::Usage);
    }
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(exit_of_engine(error));
    }
    match error.downcast_ref::<LockError>()? {
        LockError::Held { .. } => Some(Exit::Locked),
        LockError::Io { .. } => Some(Exit::Failed),
    }
}

fn exit_of_engine(error: &Error) -> Exit {
    match error {
        Error::NoRepository { .. }
        | Error::NotARepository { .. }
        | Error::NoSnapshot { .. }
        | Error::Usage { .. }
        | Error::Target { .. } => Exit::Usage,
        Error::Damaged { .. } | Error::MissingBlob(_) => Exit::Damaged,
        Error::Storage { .. } if error.is_damage() => Exit::Damaged,
        Error::Storage { .. }
        | Error::Local { .. }
        | Error::Source { .. }
        | Error::Unsupported { .. }
        | Error::Interrupted
        | Error::Panicked => Exit::Failed,
    }
}

/// What to do about an error whose text does not say it.
fn next_step(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<Error>()
        && error.is_damage()
    {
        return Some("`reliab verify` lists what is damaged and what it hits");
    }
    if let Some(LockError::Held { .. }) = error.downcast_ref() {
        return Some("wait for it to end, or stop it");
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room there and run it again: what was there before is untouched")
        }
        io::ErrorKind::PermissionDenied => Some("check its owner and mode, or run as another user"),
        io::ErrorKind::ReadOnlyFilesystem => Some("mount it for writing, or name another folder"),
        _ => None,
    }
}
