//! `find`: which snapshots hold a path.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use reliab_common::clock;
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::table::columns;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::manifest::ManifestEntry;
use reliab_repo::repository::StoredSnapshot;
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help};
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{EntryView, GapView, exit_of, gaps_of, line, shown, tell_gaps};
use crate::failure::{ErrorTable, UsageError};
use crate::repo::{NamedSource, OpenRepository, RepoArg, Selected, command};
use crate::session::Session;
use crate::stream::{Stream, fields};

const EXAMPLES: &str = "  \
  reliab find app.log                          by name, in every snapshot
  reliab find '*.conf' --snapshot latest:etc   in a part of one
  reliab find 'data/**/*.db'                   by path, as ls shows it
  reliab find '/srv/app/data/*.db'             by path, as it was on the disk";

/// Find paths in all snapshots, newest first.
///
/// A pattern is as in .gitignore: without a slash it is matched with names, with one it is matched with paths as `ls` shows
/// them. One that begins with a slash is also matched with paths from the root of the file system, as they were.
/// On a terminal, names with control characters are quoted as bash reads them. Elsewhere each name is written as it is,
/// so one with a newline in it takes two lines: programs read --json.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// What to look for.
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    #[command(flatten)]
    repo: RepoArg,
    /// Look in this snapshot only.
    #[arg(long, short, value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    /// Take upper and lower case for the same.
    #[arg(long, short)]
    ignore_case: bool,
}

/// An entry that was found, in JSON.
#[derive(Serialize)]
struct Hit {
    snapshot: String,
    time: String,
    #[serde(flatten)]
    entry: EntryView,
}

impl Tool for Args {
    const NAME: &'static str = "find";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let patterns = compile(&self.patterns, self.ignore_case)?;
        let rooted: Vec<_> =
            self.patterns.iter().filter(|pattern| pattern.starts_with('/')).cloned().collect();
        let rooted = (!rooted.is_empty()).then(|| compile(&rooted, self.ignore_case)).transpose()?;
        let repository = self.repo.open(session, ui)?;
        let places = self.places(&repository)?;
        let finder = Finder { repository: &repository, patterns, rooted, gaps: RefCell::default() };
        if ui.is_json() {
            return finder.print_json(&places, ui);
        }
        let mut hits = 0;
        for place in &places {
            finder.search(place, &mut |found| {
                hits += 1;
                show(&place.stored, found, ui);
                !ui.pipe_closed()
            })?;
            if ui.pipe_closed() {
                return Ok(Exit::Done);
            }
        }
        if hits == 0 && finder.gaps.borrow().is_empty() {
            let snapshots = counted(places.len() as u64, "snapshot", "snapshots");
            let has_path = self.patterns.iter().any(|pattern| pattern.contains('/'));
            let ls = command("ls", &repository.folder);
            let ls = if has_path { format!("; paths are matched as {ls} shows them") } else { String::new() };
            ui.note(format_args!("nothing matches in {snapshots}{ls}"));
        }
        Ok(tell_gaps(ui, &finder.gaps.into_inner()))
    }
}

impl Args {
    /// Where to look, newest first.
    fn places(&self, repository: &OpenRepository) -> anyhow::Result<Vec<Selected>> {
        if self.snapshot.is_some() {
            return Ok(vec![repository.select(self.snapshot.as_ref())?]);
        }
        let all = repository.snapshots.snapshots.iter().rev();
        Ok(all.map(|stored| Selected { stored: stored.clone(), below: None }).collect())
    }
}

/// The patterns, and what could not be read while looking for them.
struct Finder<'a> {
    repository: &'a OpenRepository,
    patterns: Gitignore,
    /// Those that begin at the root.
    rooted: Option<Gitignore>,
    gaps: RefCell<Vec<GapView>>,
}

impl Finder<'_> {
    /// Shows each match in a snapshot until told that it is enough.
    fn search(&self, place: &Selected, show: &mut dyn FnMut(&ManifestEntry) -> bool) -> anyhow::Result<()> {
        let mut manifest = self.repository.manifest(place)?;
        let sources = match self.rooted {
            Some(_) => self.repository.named_sources(&place.stored),
            None => Vec::new(),
        };
        for found in manifest.by_ref() {
            if self.matches(&found, &sources) && !show(&found) {
                return Ok(());
            }
        }
        self.gaps.borrow_mut().extend(gaps_of(&mut manifest));
        Ok(())
    }

    fn matches(&self, found: &ManifestEntry, sources: &[NamedSource]) -> bool {
        let (path, is_dir) = (&found.entry.path, found.entry.is_dir());
        let fits = |patterns: &Gitignore, path: &[u8]| {
            patterns.matched(Path::new(OsStr::from_bytes(path)), is_dir).is_ignore()
        };
        fits(&self.patterns, path)
            || self.rooted.as_ref().is_some_and(|rooted| {
                sources.iter().filter_map(|source| source.whole_of(path)).any(|whole| fits(rooted, &whole))
            })
    }

    fn print_json(&self, places: &[Selected], ui: &mut Ui) -> anyhow::Result<Exit> {
        let mut hits = Vec::new();
        for place in places {
            self.search(place, &mut |found| {
                hits.push(hit(&place.stored, found));
                true
            })?;
        }
        let gaps = self.gaps.take();
        let exit = exit_of(&gaps);
        ui.json(&Stream {
            name: Args::NAME,
            head: fields([("snapshots", json!(places.len()))]),
            list: "matches",
            items: RefCell::new(Some(hits.into_iter())),
            end: &|| (exit, fields([("unreadable", json!(gaps))])),
        });
        Ok(tell_gaps(ui, &gaps))
    }
}

fn hit(stored: &StoredSnapshot, found: &ManifestEntry) -> Hit {
    let (snapshot, time) = (stored.id.to_string(), stored.snapshot.time.to_rfc3339());
    Hit { snapshot, time, entry: EntryView::new(found) }
}

fn show(stored: &StoredSnapshot, found: &ManifestEntry, ui: &mut Ui) {
    let size = units::bytes(found.entry.size());
    let time = stored.snapshot.time;
    let time = if columns().is_some() { clock::local_short(time) } else { clock::local(time) };
    let place = format!("{} {time} {size:>10} ", stored.id.short());
    let slash: &[u8] = if found.entry.is_dir() { b"/" } else { b"" };
    line(ui, &[place.as_bytes(), &shown(&found.entry.path), slash]);
}

fn compile(patterns: &[String], ignore_case: bool) -> anyhow::Result<Gitignore> {
    let bad = |pattern: &str, error: ignore::Error| {
        UsageError(format!("cannot use the pattern {pattern:?}: {error}; see gitignore(5)"))
    };
    let mut builder = GitignoreBuilder::new("");
    builder.case_insensitive(ignore_case).map_err(|error| bad("", error))?;
    // git takes an unclosed [ for itself; here it is more likely a mistake.
    builder.allow_unclosed_class(false);
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| bad(pattern, error))?;
    }
    Ok(builder.build().map_err(|error| bad("", error))?)
}
