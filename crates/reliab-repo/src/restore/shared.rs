//! What the threads of a restore share, and the account of it: each file that is planned is made, or is told of.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::linked::Apart;
use super::target::{Refused, Target};
use super::{RestoreReport, Skipped};
use crate::error::{Error, Result, plain};
use crate::event::Events;
use crate::format::entry::{Entry, Kind};
use crate::format::escape::escape;
use crate::repository::Repository;

/// The files of a restore: each that is planned must be made, or lost.
#[derive(Default)]
struct Account {
    planned: AtomicU64,
    /// Files that are whole under their names.
    made: AtomicU64,
    /// Files that are not, and it is told why.
    lost: AtomicU64,
}

impl Account {
    /// How many were made; an error if that and what was told is not all.
    fn close(self) -> Result<u64> {
        let made = self.made.into_inner();
        match self.planned.into_inner().abs_diff(made + self.lost.into_inner()) {
            0 => Ok(made),
            // More than planned is no comfort: what was counted twice may hide what is missing.
            missing => Err(Error::Unaccounted { missing }),
        }
    }
}

/// What the threads share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    pub(super) target: &'a Target,
    pub(super) events: &'a dyn Events,
    account: Account,
    /// Bytes of the files that are made.
    bytes: AtomicU64,
    skipped: Mutex<Vec<Skipped>>,
    attributes: Mutex<Vec<Skipped>>,
    fatal: Mutex<Option<Error>>,
    pub(super) stop: AtomicBool,
}

impl<'a> Shared<'a> {
    pub(super) fn new(repository: &'a Repository, target: &'a Target, events: &'a dyn Events) -> Self {
        Self {
            repository,
            target,
            events,
            account: Account::default(),
            bytes: AtomicU64::new(0),
            skipped: Mutex::default(),
            attributes: Mutex::default(),
            fatal: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Notes an entry that is to be made.
    pub(super) fn plan(&self, entry: &Entry) {
        if matches!(entry.kind, Kind::File(_)) {
            self.account.planned.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn file_done(&self, size: u64) {
        self.account.made.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    /// Notes an entry that cannot be made, and why.
    pub(super) fn skip(&self, entry: &Entry, reason: impl ToString, damaged: bool) {
        self.lose(entry);
        self.tell(&entry.path, reason, damaged);
    }

    /// Notes an entry that the target did not take.
    pub(super) fn refused(&self, entry: &Entry, errno: Errno) {
        self.lose(entry);
        self.not_taken(&entry.path, errno);
    }

    fn lose(&self, entry: &Entry) {
        if matches!(entry.kind, Kind::File(_)) {
            self.account.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn tell(&self, path: &[u8], reason: impl ToString, damaged: bool) {
        let skipped = Skipped { path: escape(path).into_owned(), reason: reason.to_string(), damaged };
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).push(skipped);
    }

    /// Notes what the target did not take of a path. A full or broken file system ends the restore.
    pub(super) fn not_taken(&self, path: &[u8], errno: Errno) {
        if ends_restore(errno) {
            let path = escape(path).into_owned();
            let error = Error::local("restore", path)(errno.into());
            self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        } else {
            self.tell(path, refusal(errno), false);
        }
    }

    /// Tells that a file was restored apart from another, of which it was another name on the source.
    pub(super) fn apart(&self, path: &[u8], why: &Apart) {
        let reason = match why {
            Apart::Kept(kept) => format!(
                "it is a file of its own now: {} was kept, and is not what the snapshot has under both names",
                escape(kept)
            ),
            Apart::Changed(other) => format!(
                "it is a file of its own now: it was another name of {}, and changed between the backup's reading of the two",
                escape(other)
            ),
        };
        self.events.warning(Path::new(escape(path).as_ref()), &reason);
    }

    /// Notes attributes that the target did not take.
    pub(super) fn attributes(&self, path: &[u8], refused: Refused) {
        for (name, errno) in refused {
            let reason = format!("its attribute {} was not set: {}", escape(&name), plain(errno));
            let refused = Skipped { path: escape(path).into_owned(), reason, damaged: false };
            self.attributes.lock().unwrap_or_else(PoisonError::into_inner).push(refused);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What was done, when all threads have ended; an error if not all that was planned was done or told of.
    pub(super) fn into_report(self, mut report: RestoreReport) -> Result<RestoreReport> {
        if let Some(error) = self.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        // No part of it failed, so whoever was asked said stop, if only once.
        if self.stop.into_inner() {
            return Err(Error::Interrupted);
        }
        report.files = self.account.close()?;
        report.entries += report.files;
        report.bytes = self.bytes.into_inner();
        report.skipped.extend(self.skipped.into_inner().unwrap_or_else(PoisonError::into_inner));
        report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        report.attributes = self.attributes.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.attributes.sort_by(|a, b| a.path.cmp(&b.path));
        report.owners_skipped = self.target.owners_skipped.load(Ordering::Relaxed);
        if self.target.xattrs_skipped.load(Ordering::Relaxed) {
            self.events
                .warning(Path::new("."), "some extended attributes were not restored: that needs root");
        }
        Ok(report)
    }
}

/// True if a target that says so will take nothing more: it is full, broken or cannot be written.
pub(super) fn ends_restore(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::IO | Errno::ROFS | Errno::DQUOT | Errno::MFILE | Errno::NFILE)
}

/// Why the target did not take an entry.
pub(super) fn refusal(errno: Errno) -> String {
    if errno == Errno::STALE {
        return "what was written of it was moved or replaced by another program; restore it again"
            .to_owned();
    }
    plain(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_planned_is_made_or_told_of_or_the_restore_fails() {
        let account = |planned, made, lost| Account {
            planned: AtomicU64::new(planned),
            made: AtomicU64::new(made),
            lost: AtomicU64::new(lost),
        };
        assert!(matches!(account(3, 3, 0).close(), Ok(3)));
        assert!(matches!(account(3, 1, 2).close(), Ok(1)));
        assert!(matches!(account(3, 1, 1).close(), Err(Error::Unaccounted { missing: 1 })));
        assert!(matches!(account(3, 0, 0).close(), Err(Error::Unaccounted { missing: 3 })));
        assert!(matches!(account(3, 3, 1).close(), Err(Error::Unaccounted { missing: 1 })), "told of twice");
        assert!(matches!(account(0, 1, 0).close(), Err(Error::Unaccounted { missing: 1 })), "never planned");
    }
}
