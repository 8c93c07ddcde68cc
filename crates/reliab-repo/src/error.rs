//! What can go wrong in a repository, with the path or id it happened to.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::id::BlobId;

/// Result of the engine's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the repository engine; the text reads after "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on the repository's storage failed.
    #[error("{action} {path}")]
    Storage {
        /// What was tried, as a verb: "write", "read".
        action: &'static str,
        /// The file in the repository.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A local file outside the repository could not be used.
    #[error("{action} {}", path.display())]
    Local {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No repository there.
    #[error(
        "find a repository in {location}: name yours with --repo or in reliab.toml; the first `reliab backup` creates one"
    )]
    NoRepository {
        /// Where it was looked for, from the root.
        location: String,
    },
    /// There is something at the location that is not a repository.
    #[error("use {location} as a repository: {reason}")]
    NotARepository {
        /// Where it was looked for.
        location: String,
        /// Why it cannot be one.
        reason: String,
    },
    /// The repository needs a newer (or other) program.
    #[error(
        "read the repository: {what}; this program reads format version 1, unencrypted: use a newer reliab"
    )]
    Unsupported {
        /// What is not understood.
        what: String,
    },
    /// A file or blob of the repository is missing or does not hold what it should.
    #[error("use {what}: {reason}")]
    Damaged {
        /// The object: "pack ab12…", "snapshot 34cd…".
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A blob is in no readable pack.
    #[error("find blob {0}: no pack holds it")]
    MissingBlob(BlobId),
    /// A snapshot was asked for that is not there, or not clear.
    #[error("find snapshot {spec:?}: {reason}")]
    NoSnapshot {
        /// What was asked for.
        spec: String,
        /// Why it names none, and what is near.
        reason: String,
    },
    /// An option's value makes no sense.
    #[error("use {option} {value:?}: {reason}")]
    Usage {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A source root cannot be read, so nothing was published.
    #[error("back up {}: {reason}", path.display())]
    Source {
        /// The root.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The restore target is in the way.
    #[error("restore into {}: {reason}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another restore writes into the target.
    #[error(
        "restore into {}: another restore is writing into it; wait for it to end, or name another folder",
        path.display()
    )]
    Locked {
        /// The target.
        path: PathBuf,
    },
    /// A restore made fewer files than it planned.
    #[error(
        "restore everything: {missing} of the files were not written and nothing says why, which is a bug; run it again with --overwrite if-changed"
    )]
    Unaccounted {
        /// How many.
        missing: u64,
    },
    /// Asked to stop by a signal.
    #[error("go on: stopped by a signal; what was published stays")]
    Interrupted,
    /// A thread ended by a panic, whose message is on stderr.
    #[error("go on: a part of this program failed, which is a bug; what was published stays")]
    Panicked,
}

/// What the system says in words, without the number of its error, which says nothing to most people.
pub(crate) fn plain(errno: Errno) -> String {
    without_number(&io::Error::from(errno).to_string()).to_owned()
}

/// A text that may end with a system's error, without that error's number.
pub(crate) fn without_number(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

/// True if a disk does not give back what is there: Linux tells a bad sector by `EIO`, and file systems with checksums tell
/// theirs by `EUCLEAN` or `EBADMSG`, too.
pub(crate) fn is_bad_sector(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG))
}

impl Error {
    /// A damaged object.
    pub fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged { what: what.into(), reason: reason.to_string() }
    }

    /// A failed operation on a local file, for `map_err`.
    pub fn local(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { action, path, source }
    }

    /// The text with its cause.
    pub fn told(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("cannot {self}: {}", without_number(&cause.to_string())),
            None => format!("cannot {self}"),
        }
    }

    /// True if a file of the repository is there but its disk does not give the bytes back.
    pub(crate) fn is_bad_sector(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if is_bad_sector(source))
    }

    /// True if data of the repository is missing or damaged (exit code 4).
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::MissingBlob(_) => true,
            Self::Storage { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}
