//! The entries of a snapshot as commands show them, and what of them could not be read.

use std::io::IsTerminal;

use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_repo::format::entry::{Kind, Stamp};
use reliab_repo::format::escape::escape;
use reliab_repo::manifest::{Gap, Manifest, ManifestEntry};
use serde::Serialize;

use crate::terminal;

/// An entry in JSON.
#[derive(Serialize)]
pub(crate) struct EntryView {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

impl EntryView {
    /// What JSON says of an entry.
    pub fn new(found: &ManifestEntry) -> Self {
        let entry = &found.entry;
        let (user, group) = found.page.names.of(&entry.meta);
        let (size, target, blake3) = match &entry.kind {
            Kind::File(content) => (Some(content.size), None, Some(content.digest.to_string())),
            Kind::Symlink(_, target) => (None, Some(escape(target).into_owned()), None),
            _ => (None, None, None),
        };
        Self {
            path: escape(&entry.path).into_owned(),
            kind: entry.kind.word(),
            mode: format!("{:o}", entry.meta.mode),
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            user: user.to_owned(),
            group: group.to_owned(),
            size,
            mtime: time_of(entry.meta.mtime).map_or_else(String::new, |time| time.to_rfc3339()),
            target,
            blake3,
        }
    }
}

/// A time of an entry, if the calendar reaches that far.
pub(crate) fn time_of(stamp: Stamp) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::from_timestamp(stamp.seconds, stamp.nanos)
}

/// A path for stdout: as it is for programs, without what commands a terminal for people.
pub(crate) fn shown(path: &[u8]) -> Vec<u8> {
    if std::io::stdout().is_terminal() { terminal::quoted(path) } else { path.to_vec() }
}

/// Writes a line that holds bytes as they are.
pub(crate) fn line(ui: &mut Ui, parts: &[&[u8]]) {
    let mut line = parts.concat();
    line.push(b'\n');
    ui.raw_out(&line);
}

/// A part of a manifest that cannot be read, in JSON.
#[derive(Serialize)]
pub(crate) struct GapView {
    error: String,
    first: String,
    /// `None`: up to the last path.
    next: Option<String>,
}

impl From<Gap> for GapView {
    fn from(gap: Gap) -> Self {
        Self {
            error: gap.error.to_string(),
            first: escape(&gap.first).into_owned(),
            next: gap.next.map(|next| escape(&next).into_owned()),
        }
    }
}

/// The parts of a manifest that could not be read, once it was read to its end.
pub(crate) fn gaps_of(manifest: &mut Manifest<'_>) -> Vec<GapView> {
    manifest.take_gaps().into_iter().map(GapView::from).collect()
}

/// Tells of unreadable parts, and what the exit is for them.
pub(crate) fn tell_gaps(ui: &mut Ui, gaps: &[GapView]) -> Exit {
    for gap in gaps {
        let until = gap.next.as_ref().map_or_else(|| "to the end".to_owned(), |next| format!("up to {next}"));
        ui.error(format_args!("entries from {} {until} are not known: cannot {}", gap.first, gap.error));
    }
    exit_of(gaps)
}

/// The exit of a command that met these gaps.
pub(crate) fn exit_of(gaps: &[GapView]) -> Exit {
    if gaps.is_empty() { Exit::Done } else { Exit::Damaged }
}
