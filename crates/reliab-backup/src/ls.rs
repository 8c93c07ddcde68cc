//! `ls`: what a snapshot holds.

use std::cell::RefCell;
use std::ffi::OsString;

use reliab_common::clock;
use reliab_common::exit::Exit;
use reliab_common::table::columns;
use reliab_common::ui::Ui;
use reliab_repo::format::entry::Kind;
use reliab_repo::manifest::{Manifest, ManifestEntry};
use serde_json::json;

use crate::app::{Tool, after_help};
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{EntryView, exit_of, gaps_of, line, shown, tell_gaps, time_of};
use crate::failure::ErrorTable;
use crate::repo::{RepoArg, Selected};
use crate::session::Session;
use crate::stream::{Stream, fields};
use crate::terminal;

const EXAMPLES: &str = "  \
  reliab ls                        every path of the latest snapshot
  reliab ls -l 1a2b3c4d:data       as ls -l shows them, a part of an older one
  reliab ls 2026-01-31 | grep app";

/// List the paths in a snapshot.
///
/// On a terminal, names with control characters are quoted as bash reads them. Elsewhere each name is written as it is,
/// so one with a newline in it takes two lines: programs read --json.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// What to list [default: latest].
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    repo: RepoArg,
    /// Show mode, owner, size and time, too.
    #[arg(long, short)]
    long: bool,
}

impl Tool for Args {
    const NAME: &'static str = "ls";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let repository = self.repo.open(session, ui)?;
        let selected = repository.select(self.snapshot.as_ref())?;
        let mut manifest = repository.manifest(&selected)?;
        if ui.is_json() {
            return Ok(print_json(&selected, manifest, ui));
        }
        for found in manifest.by_ref() {
            let details = if self.long { long(&found) } else { String::new() };
            let target = if self.long { target(&found) } else { Vec::new() };
            line(ui, &[details.as_bytes(), &shown(&found.entry.path), &target]);
            if ui.pipe_closed() {
                return Ok(Exit::Done);
            }
        }
        Ok(tell_gaps(ui, &gaps_of(&mut manifest)))
    }
}

fn print_json(selected: &Selected, manifest: Manifest<'_>, ui: &mut Ui) -> Exit {
    let manifest = RefCell::new(manifest);
    let end = RefCell::new(Vec::new());
    let items = std::iter::from_fn(|| manifest.borrow_mut().next()).map(|found| EntryView::new(&found));
    let stream = Stream {
        name: Args::NAME,
        head: fields([("snapshot", json!(selected.stored.id.to_string()))]),
        list: "entries",
        items: RefCell::new(Some(items)),
        end: &|| {
            end.replace(gaps_of(&mut manifest.borrow_mut()));
            (exit_of(&end.borrow()), fields([("unreadable", json!(*end.borrow()))]))
        },
    };
    ui.json(&stream);
    drop(stream);
    tell_gaps(ui, &end.into_inner())
}

/// Mode, owner, size and time in columns.
fn long(found: &ManifestEntry) -> String {
    let meta = &found.entry.meta;
    let (user, group) = found.page.names.of(meta);
    let size = match &found.entry.kind {
        Kind::Char(_, major, minor) | Kind::Block(_, major, minor) => format!("{major},{minor}"),
        _ => found.entry.size().to_string(),
    };
    let is_terminal = columns().is_some();
    let shown_time = if is_terminal { clock::local_short } else { clock::local };
    let time = time_of(meta.mtime).map_or_else(|| meta.mtime.seconds.to_string(), shown_time);
    let owner = |name, number| owner(name, number, is_terminal);
    let columns = Columns { owner: owner(user, meta.uid), group: owner(group, meta.gid), size, time };
    let kind = kind_letter(&found.entry.kind);
    format!("{kind}{} {}", mode_letters(meta.mode), columns.line(is_terminal))
}

/// The name of an owner, or the number of one that has none.
fn owner(name: &str, number: u32, is_terminal: bool) -> String {
    match name {
        "" => number.to_string(),
        name if is_terminal => terminal::quoted_text(name),
        name => name.to_owned(),
    }
}

/// What is told of an entry between its mode and its path.
struct Columns {
    owner: String,
    group: String,
    size: String,
    time: String,
}

impl Columns {
    /// In columns of fixed width, as entries come one by one; narrow ones leave room for a path in 80 columns.
    fn line(&self, is_narrow: bool) -> String {
        let Self { owner, group, size, time } = self;
        if is_narrow {
            format!("{owner:<5} {group:<5} {size:>9} {time} ")
        } else {
            format!("{owner:<8} {group:<8} {size:>12} {time} ")
        }
    }
}

fn target(found: &ManifestEntry) -> Vec<u8> {
    match &found.entry.kind {
        Kind::Symlink(_, target) => [b" -> ".as_slice(), &shown(target)].concat(),
        _ => Vec::new(),
    }
}

fn kind_letter(kind: &Kind) -> char {
    match kind {
        Kind::File(_) => '-',
        Kind::Dir(_) => 'd',
        Kind::Symlink(..) => 'l',
        Kind::Fifo(_) => 'p',
        Kind::Char(..) => 'c',
        Kind::Block(..) => 'b',
    }
}

/// The twelve bits of a mode as `ls` writes them.
fn mode_letters(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_on_a_terminal_leaves_room_for_a_path() {
        let text = |text: &str| text.to_owned();
        let columns = Columns {
            owner: text("root"),
            group: text("root"),
            size: text("123456789"),
            time: text("2026-01-31 12:00:00"),
        };
        // Type and mode take eleven more.
        assert_eq!(11 + columns.line(true).len(), 53);
        assert_eq!(columns.line(false), "root     root        123456789 2026-01-31 12:00:00 ");
    }

    #[test]
    fn names_of_owners_cannot_command_a_terminal() {
        assert_eq!(owner("", 1000, true), "1000");
        assert_eq!(owner("ann", 1000, true), "ann");
        assert_eq!(owner("evil\u{1b}[2J", 1000, true), "$'evil\\033[2J'");
        assert_eq!(owner("evil\u{1b}[2J", 1000, false), "evil\u{1b}[2J");
    }

    #[test]
    fn modes_look_as_ls_shows_them() {
        let check = |mode, expected: &str| assert_eq!(mode_letters(mode), expected, "{mode:o}");
        check(0o644, "rw-r--r--");
        check(0o4755, "rwsr-xr-x");
        check(0o2640, "rw-r-S---");
        check(0o1777, "rwxrwxrwt");
        check(0o7000, "--S--S--T");
    }
}
