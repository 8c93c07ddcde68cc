//! The dry run of a restore: what it would do with each entry, by what stands in the target now. Nothing is written.
//!
//! What is decided is decided by `Standing`, as in the run. Here is only what the system would say to that decision.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use super::held::{look, may_write};
use super::shared::{ends_restore, refusal};
use super::standing::Standing;
use super::{Overwrite, RestoreOptions, RestoreReport, Selection, Skipped, require_room, skipped_gap};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::Entry;
use crate::format::escape::escape;
use crate::format::order;
use crate::manifest::{Manifest, ManifestEntry};
use crate::walk::{Status, open_beneath, raw_stat};

/// What a restore would do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Make it where nothing stands.
    Create,
    /// Put it in the place of what stands there.
    Overwrite,
    /// Leave what stands there; without `Overwrite::Never` it still gets the entry's owner, mode and attributes.
    Keep,
    /// Nothing: the target would not take it.
    Refuse,
}

/// What a dry run found of the entries that would be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Preview {
    /// Entries that would be made where nothing stands.
    pub created: u64,
    /// Entries that would take the place of something.
    pub overwritten: u64,
    /// Folders that are there already.
    pub existing_dirs: u64,
}

/// Tells and counts what a restore would do; an error where it would end with that.
pub(super) fn run(
    mut manifest: Manifest<'_>,
    selection: &Selection,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<RestoreReport> {
    let mut look = Look::open(options)?;
    let mut report = RestoreReport::default();
    let mut preview = Preview::default();
    for ManifestEntry { entry, .. } in manifest.by_ref().filter(|item| selection.wants(&item.entry)) {
        if events.stop_requested() {
            return Err(Error::Interrupted);
        }
        let action = look.decide(&entry).or_else(|errno| refuse(&mut report, &entry, errno))?;
        match action {
            Action::Create => preview.created += 1,
            Action::Overwrite => preview.overwritten += 1,
            Action::Keep if entry.is_dir() => preview.existing_dirs += 1,
            Action::Keep => report.kept += 1,
            Action::Refuse => {}
        }
        if matches!(action, Action::Create | Action::Overwrite) || action == Action::Keep && entry.is_dir() {
            report.count(&entry);
        }
        events.would_restore(&entry, action);
        events.advance(entry.size(), 1);
    }
    report.skipped.extend(manifest.take_gaps().iter().map(skipped_gap));
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    report.preview = Some(preview);
    Ok(report)
}

/// Notes what the target would not take; an error that would end the restore ends this, too.
fn refuse(report: &mut RestoreReport, entry: &Entry, errno: Errno) -> Result<Action> {
    let path = escape(&entry.path).into_owned();
    if ends_restore(errno) {
        return Err(Error::local("restore", path)(errno.into()));
    }
    report.skipped.push(Skipped { path, reason: refusal(errno), damaged: false });
    Ok(Action::Refuse)
}

/// The target as it stands.
struct Look {
    /// `None` where the folder would be made.
    root: Option<OwnedFd>,
    /// `None`: nothing is in it.
    overwrite: Option<Overwrite>,
    /// The folder that would be made last: nothing stands below it.
    made: Option<Vec<u8>>,
    parent: Parent,
}

/// The folder that was looked into last.
#[derive(Default)]
struct Parent {
    path: Vec<u8>,
    /// `None` where it is missing and would be made.
    folder: Option<OwnedFd>,
    /// Why nothing can be made in it, or in the one above it that is there.
    closed: Option<Errno>,
}

impl Look {
    /// Refuses a target that the run would refuse, in the same order and words.
    fn open(options: &RestoreOptions) -> Result<Self> {
        let path = &options.target;
        let root = look(path)?;
        let is_empty = require_room(options)?;
        if let Some(root) = &root {
            // The run tries out there what new files get.
            may_write(root).map_err(|errno| Error::local("open", path)(errno.into()))?;
        }
        let overwrite = options.overwrite.filter(|_| !is_empty);
        Ok(Self { root, overwrite, made: None, parent: Parent::default() })
    }

    /// What the run would do with an entry; an error where the target would not take it.
    fn decide(&mut self, entry: &Entry) -> std::result::Result<Action, Errno> {
        let path = &entry.path;
        if path == b"." && self.root.is_some() {
            return Ok(Action::Keep);
        }
        if self.made.as_ref().is_some_and(|made| order::is_within(path, made)) {
            return Ok(Action::Create);
        }
        let action = match (&self.root, self.overwrite) {
            (Some(_), Some(overwrite)) => self.by_standing(entry, overwrite)?,
            _ => Action::Create,
        };
        if entry.is_dir() && action != Action::Keep {
            self.made = Some(path.clone());
        }
        Ok(action)
    }

    fn by_standing(&mut self, entry: &Entry, overwrite: Overwrite) -> std::result::Result<Action, Errno> {
        let (folder, name) = match entry.path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&b"."[..], &entry.path[..]),
        };
        self.enter(folder)?;
        let found = self.parent.folder.as_ref().map_or(Ok(None), |folder| status(folder, name))?;
        let is_dir = found.as_ref().is_some_and(|found| found.kind == FileType::Directory);
        let standing = Standing::of(entry, found.as_ref(), overwrite);
        match standing {
            // A folder cannot be made where something else is kept.
            Standing::Keep if entry.is_dir() && !is_dir => return Err(Errno::EXIST),
            Standing::Keep | Standing::Same => return Ok(Action::Keep),
            Standing::Nothing | Standing::Replace => {}
        }
        if let Some(errno) = self.parent.closed {
            return Err(errno);
        }
        match (standing, &self.parent.folder) {
            (Standing::Nothing, _) | (_, None) => Ok(Action::Create),
            // What is in a folder is never removed for something else.
            (_, Some(folder)) if is_dir && !is_empty(folder, name)? => Err(Errno::NOTEMPTY),
            _ => Ok(Action::Overwrite),
        }
    }

    /// Looks at the folder that an entry stands in.
    fn enter(&mut self, path: &[u8]) -> std::result::Result<(), Errno> {
        let Some(root) = &self.root else { return Ok(()) };
        if self.parent.path == path {
            return Ok(());
        }
        self.parent = Parent::default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (mut at, mut is_missing) = (path, false);
        let folder = loop {
            match open_beneath(root, at, flags) {
                // It would be made, in the first folder above it that is there.
                Err(Errno::NOENT) if at != b"." => {
                    at = at.iter().rposition(|&b| b == b'/').map_or(b".", |slash| &at[..slash]);
                    is_missing = true;
                }
                opened => break opened?,
            }
        };
        let closed = may_write(&folder).err();
        self.parent = Parent { path: path.to_vec(), folder: (!is_missing).then_some(folder), closed };
        Ok(())
    }
}

fn status(folder: &OwnedFd, name: &[u8]) -> std::result::Result<Option<Status>, Errno> {
    match raw_stat(folder, name) {
        Ok(stat) => Ok(Some(Status::new(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(other) => Err(other),
    }
}

fn is_empty(folder: &OwnedFd, name: &[u8]) -> std::result::Result<bool, Errno> {
    let folder = open_beneath(folder, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mut names = Dir::new(folder)?;
    Ok(names.all(|name| name.is_ok_and(|name| matches!(name.file_name().to_bytes(), b"." | b".."))))
}
