//! `diff`: what differs between two snapshots.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::ffi::OsString;

use reliab_common::count::count;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::format::entry::{Entry, Kind};
use reliab_repo::format::escape::escape;
use reliab_repo::format::order;
use reliab_repo::manifest::{Manifest, ManifestEntry};
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help};
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{GapView, exit_of, gaps_of, line, shown, tell_gaps};
use crate::failure::ErrorTable;
use crate::repo::{RepoArg, Selected};
use crate::session::Session;
use crate::stream::{Stream, fields};

const EXAMPLES: &str = "  \
  reliab diff 1a2b3c4d latest              what changed since
  reliab diff 2026-01-30 2026-01-31 --metadata
  reliab diff 1a2b3c4d:data latest:data    in a part";

/// Show what differs between two snapshots.
///
/// A line begins with + for an added path, - for a removed one, M for other content, T for another type and, with
/// --metadata, U for another mode, owner, time or attribute only.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// The older snapshot.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    from: OsString,
    /// The newer snapshot.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    to: OsString,
    #[command(flatten)]
    repo: RepoArg,
    /// Show what differs in mode, owner, time or attributes only, too.
    #[arg(long)]
    metadata: bool,
}

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    Added,
    Removed,
    Content,
    Type,
    Metadata,
}

impl Change {
    fn sign(self) -> u8 {
        match self {
            Self::Added => b'+',
            Self::Removed => b'-',
            Self::Content => b'M',
            Self::Type => b'T',
            Self::Metadata => b'U',
        }
    }
}

/// A path that differs.
struct Difference {
    change: Change,
    path: Vec<u8>,
    is_dir: bool,
}

/// A difference in JSON.
#[derive(Serialize)]
struct DifferenceView {
    change: Change,
    path: String,
}

/// How much differs.
#[derive(Clone, Copy, Default, Serialize)]
struct Totals {
    added: u64,
    removed: u64,
    content: u64,
    #[serde(rename = "type")]
    kind: u64,
    metadata: u64,
    /// Bytes of files that were added or have other content.
    added_bytes: u64,
    /// Bytes of files that were removed or had other content.
    removed_bytes: u64,
}

impl Tool for Args {
    const NAME: &'static str = "diff";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let repository = self.repo.open(session, ui)?;
        let from = repository.select(Some(&self.from))?;
        let to = repository.select(Some(&self.to))?;
        let sides = [repository.manifest(&from)?, repository.manifest(&to)?];
        let prefixes = [&from, &to].map(|side| side.below.clone());
        let mut comparison = Comparison::new(sides, &prefixes, self.metadata);
        if ui.is_json() {
            return Ok(print_json(&from, &to, comparison, ui));
        }
        for found in comparison.by_ref() {
            show(found.change, &found.path, found.is_dir, ui);
            if ui.pipe_closed() {
                return Ok(Exit::Done);
            }
        }
        ui.summary(summary(&comparison.totals));
        Ok(tell_gaps(ui, &comparison.gaps()))
    }
}

/// One line about an entry that differs.
pub(crate) fn show(change: Change, path: &[u8], is_dir: bool, ui: &mut Ui) {
    let slash: &[u8] = if is_dir { b"/" } else { b"" };
    line(ui, &[&[change.sign()], b"    ", &shown(path), slash]);
}

fn print_json(from: &Selected, to: &Selected, comparison: Comparison<'_>, ui: &mut Ui) -> Exit {
    let comparison = RefCell::new(comparison);
    let gaps = RefCell::new(Vec::new());
    let items = std::iter::from_fn(|| comparison.borrow_mut().next())
        .map(|found| DifferenceView { change: found.change, path: escape(&found.path).into_owned() });
    let stream = Stream {
        name: Args::NAME,
        head: fields([("from", json!(from.stored.id.to_string())), ("to", json!(to.stored.id.to_string()))]),
        list: "differences",
        items: RefCell::new(Some(items)),
        end: &|| {
            gaps.replace(comparison.borrow_mut().gaps());
            let totals = comparison.borrow().totals;
            let end = fields([("totals", json!(totals)), ("unreadable", json!(*gaps.borrow()))]);
            (exit_of(&gaps.borrow()), end)
        },
    };
    ui.json(&stream);
    drop(stream);
    tell_gaps(ui, &gaps.into_inner())
}

fn summary(totals: &Totals) -> String {
    format!(
        "{} added, {} removed; {} more, {} less\n\
         {} with other content, {} of another type, {} with other metadata",
        count(totals.added),
        count(totals.removed),
        units::bytes(totals.added_bytes),
        units::bytes(totals.removed_bytes),
        count(totals.content),
        count(totals.kind),
        count(totals.metadata),
    )
}

/// Two manifests read side by side.
struct Comparison<'a> {
    from: Side<'a>,
    to: Side<'a>,
    metadata: bool,
    totals: Totals,
}

/// One of the manifests, and its next entry.
struct Side<'a> {
    manifest: Manifest<'a>,
    /// Bytes of a path that are left out in comparisons.
    skip: usize,
    head: Option<ManifestEntry>,
}

impl<'a> Side<'a> {
    fn new(mut manifest: Manifest<'a>, skip: usize) -> Self {
        let head = manifest.next();
        Self { manifest, skip, head }
    }

    fn path(&self) -> Option<&[u8]> {
        let path = &self.head.as_ref()?.entry.path;
        Some(path.get(self.skip..).filter(|rest| !rest.is_empty()).unwrap_or(b"."))
    }

    fn take(&mut self) -> Option<Entry> {
        let next = self.manifest.next();
        Some(std::mem::replace(&mut self.head, next)?.entry)
    }
}

impl<'a> Comparison<'a> {
    /// Where two different parts are compared, paths are told from there on.
    fn new(sides: [Manifest<'a>; 2], prefixes: &[Option<Vec<u8>>; 2], metadata: bool) -> Self {
        let same = prefixes[0] == prefixes[1];
        let skip =
            |prefix: &Option<Vec<u8>>| prefix.as_ref().filter(|_| !same).map_or(0, |path| path.len() + 1);
        let skips = prefixes.each_ref().map(skip);
        let [from, to] = sides;
        let (from, to) = (Side::new(from, skips[0]), Side::new(to, skips[1]));
        Self { from, to, metadata, totals: Totals::default() }
    }

    /// What could not be read, once there is no next difference.
    fn gaps(&mut self) -> Vec<GapView> {
        let mut gaps = gaps_of(&mut self.from.manifest);
        gaps.extend(gaps_of(&mut self.to.manifest));
        gaps
    }

    /// The older and the newer entry at the next path, and that path.
    fn next_pair(&mut self) -> Option<(Vec<u8>, Option<Entry>, Option<Entry>)> {
        let (path, order) = match (self.from.path(), self.to.path()) {
            (None, None) => return None,
            (Some(old), None) => (old, Ordering::Less),
            (None, Some(new)) => (new, Ordering::Greater),
            (Some(old), Some(new)) => {
                let order = order::compare(old, new);
                (if order.is_le() { old } else { new }, order)
            }
        };
        let path = path.to_vec();
        let old = if order.is_le() { self.from.take() } else { None };
        let new = if order.is_ge() { self.to.take() } else { None };
        Some((path, old, new))
    }
}

impl Iterator for Comparison<'_> {
    type Item = Difference;

    fn next(&mut self) -> Option<Difference> {
        loop {
            let (path, old, new) = self.next_pair()?;
            let Some(change) = change(old.as_ref(), new.as_ref()) else { continue };
            self.totals.count(change, old.as_ref(), new.as_ref());
            if change != Change::Metadata || self.metadata {
                let is_dir = new.or(old).is_some_and(|entry| entry.is_dir());
                return Some(Difference { change, path, is_dir });
            }
        }
    }
}

impl Totals {
    fn count(&mut self, change: Change, old: Option<&Entry>, new: Option<&Entry>) {
        let counter = match change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Content => &mut self.content,
            Change::Type => &mut self.kind,
            Change::Metadata => &mut self.metadata,
        };
        *counter += 1;
        if change != Change::Metadata {
            // Sizes are what a repository claims.
            self.added_bytes = self.added_bytes.saturating_add(new.map_or(0, Entry::size));
            self.removed_bytes = self.removed_bytes.saturating_add(old.map_or(0, Entry::size));
        }
    }
}

/// What differs between an entry and the one that took its place; `None` if nothing does.
pub(crate) fn change(old: Option<&Entry>, new: Option<&Entry>) -> Option<Change> {
    match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(old), Some(new)) if old.kind.word() != new.kind.word() => Some(Change::Type),
        (Some(old), Some(new)) if !same_content(&old.kind, &new.kind) => Some(Change::Content),
        (Some(old), Some(new)) => (!same_metadata(old, new)).then_some(Change::Metadata),
    }
}

/// True if what an entry holds, its place in the repository aside, is the same.
fn same_content(old: &Kind, new: &Kind) -> bool {
    match (old, new) {
        (Kind::File(old), Kind::File(new)) => old.digest == new.digest,
        (Kind::Symlink(_, old), Kind::Symlink(_, new)) => old == new,
        (Kind::Char(_, a, b), Kind::Char(_, c, d)) | (Kind::Block(_, a, b), Kind::Block(_, c, d)) => {
            (a, b) == (c, d)
        }
        _ => true,
    }
}

/// True if what a restore would set is the same; inode and ctime are not.
fn same_metadata(old: &Entry, new: &Entry) -> bool {
    let (a, b) = (&old.meta, &new.meta);
    (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime) && old.xattrs == new.xattrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_repo::format::entry::{Meta, Place};

    fn link(target: &str, mode: u32) -> Entry {
        let place = Place { blob: 0, offset: 0 };
        let kind = Kind::Symlink(place, target.into());
        Entry { path: b"a".into(), kind, meta: Meta { mode, ..Meta::default() }, xattrs: Vec::new() }
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let dir = Entry { kind: Kind::Dir(Place { blob: 1, offset: 2 }), ..link("", 0o777) };
        let check =
            |old: Option<&Entry>, new: Option<&Entry>, expected| assert_eq!(change(old, new), expected);
        check(None, Some(&dir), Some(Change::Added));
        check(Some(&dir), None, Some(Change::Removed));
        check(Some(&dir), Some(&link("x", 0o777)), Some(Change::Type));
        check(Some(&link("y", 0o777)), Some(&link("x", 0o777)), Some(Change::Content));
        check(Some(&link("x", 0o755)), Some(&link("x", 0o777)), Some(Change::Metadata));
        check(Some(&link("x", 0o777)), Some(&link("x", 0o777)), None);
    }
}
