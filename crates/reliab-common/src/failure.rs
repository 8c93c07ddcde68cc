//! From an error to the exit code and the line that is told: the one place for both.

use std::error::Error as StdError;
use std::io;

use crate::config::ConfigError;
use crate::exit::Exit;
use crate::lock::LockError;
use crate::paths::NoFolder;
use crate::units::UnitError;

/// An option, an argument or the configuration asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What was being done when an error came, and what to do about it, where only who did it can tell: the context of that
/// error.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Advised {
    /// What was being done, or where: it stands before the error.
    pub doing: String,
    /// What to do about it, in place of what is said of such errors elsewhere.
    pub next_step: String,
}

/// What a tool says about the errors of its own engine, one link of a chain at a time.
///
/// Each function answers `None` for an error that it does not know.
#[derive(Clone, Copy)]
pub struct ErrorTable {
    /// The exit.
    pub exit: fn(&(dyn StdError + 'static)) -> Option<Exit>,
    /// The text, where it is not the error's own.
    pub part: fn(&(dyn StdError + 'static)) -> Option<String>,
    /// What to do about it.
    pub next_step: fn(&(dyn StdError + 'static)) -> Option<&'static str>,
}

impl ErrorTable {
    /// Knows nothing but what all tools have in common.
    pub const COMMON: Self = Self { exit: |_| None, part: |_| None, next_step: |_| None };
}

/// An error, ready to be told.
pub struct Failure {
    /// How the run ends.
    pub exit: Exit,
    /// The error and its causes in one line, with the next step.
    pub text: String,
}

impl Failure {
    /// The exit code and the text of an error with all its causes.
    pub fn of(error: &anyhow::Error, table: &ErrorTable) -> Self {
        let is_usage = error.is::<UsageError>();
        let exit_of = |link| (table.exit)(link).or_else(|| common_exit(link));
        let exit = if is_usage { Some(Exit::Usage) } else { error.chain().find_map(exit_of) };
        let exit = exit.unwrap_or(Exit::Failed);
        let part = |link| (table.part)(link).unwrap_or_else(|| plain(link));
        let mut text = error.chain().map(part).collect::<Vec<_>>().join(": ");
        let step_of = |link| (table.next_step)(link).or_else(|| common_step(link));
        let advised = error.downcast_ref::<Advised>().map(|advised| advised.next_step.as_str());
        if let Some(step) = advised.or_else(|| error.chain().find_map(step_of)) {
            text.push_str("; ");
            text.push_str(step);
        }
        Self { exit, text }
    }
}

/// The text of an error without the number of the system's error, which says nothing to most people.
pub fn plain(error: &(dyn StdError + 'static)) -> String {
    without_number(&error.to_string()).to_owned()
}

/// A text that may end with a system's error, without that error's number.
pub fn without_number(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

fn common_exit(error: &(dyn StdError + 'static)) -> Option<Exit> {
    let is_usage = error.is::<UsageError>()
        || error.is::<ConfigError>()
        || error.is::<UnitError>()
        || error.is::<NoFolder>();
    if is_usage {
        return Some(Exit::Usage);
    }
    match error.downcast_ref::<LockError>()? {
        LockError::Held { .. } => Some(Exit::Locked),
        LockError::Io { .. } => Some(Exit::Failed),
    }
}

/// What to do about an error whose text does not say it.
fn common_step(error: &(dyn StdError + 'static)) -> Option<&'static str> {
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
