//! `snapshots`: what the repository holds.

use std::path::{Path, PathBuf};

use reliab_common::clock;
use reliab_common::count::count;
use reliab_common::exit::Exit;
use reliab_common::table::{Narrowing, columns, table, table_within};
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::format::escape::escape;
use reliab_repo::format::snapshot::Stats;
use reliab_repo::repository::StoredSnapshot;
use serde::Serialize;

use crate::app::{Tool, after_help, document};
use crate::engine_errors::ENGINE_ERRORS;
use crate::failure::ErrorTable;
use crate::repo::{OpenRepository, RepoArg};
use crate::session::Session;
use crate::terminal;

const EXAMPLES: &str = "  \
  reliab snapshots
  reliab snapshots --host web1 --tag nightly --latest 7
  reliab snapshots --json";

/// List the snapshots of the repository, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    #[command(flatten)]
    repo: RepoArg,
    /// Only of this host; may be repeated.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Only with this tag; may be repeated, and then all are needed.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only of this source; may be repeated, and then all are needed.
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Only the last N of what is left.
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    repository: &'a Path,
    snapshots: Vec<View<'a>>,
    damaged: Vec<DamagedView<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    id: String,
    time: String,
    host: &'a str,
    user: &'a str,
    program: &'a str,
    tags: &'a [String],
    paths: &'a [String],
    parent: Option<String>,
    stats: &'a Stats,
    errors: usize,
}

#[derive(Serialize)]
struct DamagedView<'a> {
    object: &'a str,
    problem: &'a str,
}

impl Tool for Args {
    const NAME: &'static str = "snapshots";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let repository = self.repo.open(session, ui)?;
        let wanted = self.wanted(&repository);
        let unusable = &repository.snapshots.damaged;
        let exit = match unusable.iter().any(|snapshot| !snapshot.is_closed) {
            true => Exit::Damaged,
            false if unusable.is_empty() => Exit::Done,
            false => Exit::Partial,
        };
        if ui.is_json() {
            ui.json(&document(Self::NAME, exit, report(&repository, &wanted)));
        } else {
            show(&wanted, ui);
        }
        Ok(exit)
    }
}

impl Args {
    fn wanted<'a>(&self, repository: &'a OpenRepository) -> Vec<&'a StoredSnapshot> {
        let paths: Vec<String> = self.path.iter().map(|path| absolute(path)).collect();
        let mut wanted: Vec<_> = repository
            .snapshots
            .snapshots
            .iter()
            .filter(|stored| {
                let snapshot = &stored.snapshot;
                (self.host.is_empty() || self.host.contains(&snapshot.host))
                    && self.tag.iter().all(|tag| snapshot.tags.contains(tag))
                    && paths.iter().all(|path| snapshot.paths.contains(path))
            })
            .collect();
        if let Some(latest) = self.latest {
            wanted.drain(..wanted.len().saturating_sub(latest));
        }
        wanted
    }
}

/// A source as snapshots name it.
fn absolute(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    escape(absolute.as_os_str().as_bytes()).into_owned()
}

fn report<'a>(repository: &'a OpenRepository, wanted: &[&'a StoredSnapshot]) -> Report<'a> {
    let damaged = repository.snapshots.damaged.iter();
    Report {
        repository: &repository.folder,
        snapshots: wanted.iter().map(|stored| view(stored)).collect(),
        damaged: damaged.map(|found| DamagedView { object: &found.key, problem: &found.reason }).collect(),
    }
}

fn view(stored: &StoredSnapshot) -> View<'_> {
    let snapshot = &stored.snapshot;
    View {
        id: stored.id.to_string(),
        time: snapshot.time.to_rfc3339(),
        host: &snapshot.host,
        user: &snapshot.user,
        program: &snapshot.program,
        tags: &snapshot.tags,
        paths: &snapshot.paths,
        parent: snapshot.parent.map(|id| id.to_string()),
        stats: &snapshot.stats,
        errors: snapshot.errors.len(),
    }
}

fn show(wanted: &[&StoredSnapshot], ui: &mut Ui) {
    if wanted.is_empty() {
        ui.note("no snapshots");
        return;
    }
    let head = ["ID", "TIME", "HOST", ">FILES", ">SIZE", ">ADDED", "TAGS", "PATHS"];
    let lines = match columns() {
        None => table(head, &wanted.iter().map(|stored| row(stored)).collect::<Vec<_>>()),
        Some(columns) => {
            let rows: Vec<_> = wanted.iter().flat_map(|stored| rows_of(stored)).collect();
            table_within(head, &rows, columns, &NARROWING)
        }
    };
    for line in lines {
        ui.out(line);
    }
}

/// On a narrow terminal the counts of files and new bytes give way first; paths, tags and hosts are shortened.
const NARROWING: Narrowing<'_> = Narrowing { drop: &[3, 5], shorten: &[(7, 16), (6, 6), (2, 6)], begin: &[] };

/// The same for a terminal: a line for each path and tag, and no offset of the time, as restic shows them.
fn rows_of(stored: &StoredSnapshot) -> Vec<[String; 8]> {
    let snapshot = &stored.snapshot;
    let (paths, tags) = (&snapshot.paths, &snapshot.tags);
    let nth = |list: &[String], number: usize| {
        list.get(number).map_or_else(String::new, |text| terminal::quoted_text(text))
    };
    let mut rows: Vec<[String; 8]> = vec![row(stored)];
    rows[0][1] = clock::local_short(snapshot.time);
    rows[0][2] = terminal::quoted_text(&snapshot.host);
    rows.resize_with(paths.len().max(tags.len()).max(1), Default::default);
    for (number, row) in rows.iter_mut().enumerate() {
        row[6] = nth(tags, number);
        row[7] = nth(paths, number);
    }
    rows
}

fn row(stored: &StoredSnapshot) -> [String; 8] {
    let snapshot = &stored.snapshot;
    [
        stored.id.short(),
        clock::local(snapshot.time),
        snapshot.host.clone(),
        count(snapshot.stats.files),
        units::bytes(snapshot.stats.bytes),
        units::bytes(snapshot.stats.added_bytes),
        snapshot.tags.join(","),
        snapshot.paths.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_repo::format::snapshot::Snapshot;
    use reliab_repo::id::ObjectId;

    #[test]
    fn snapshots_fit_a_terminal_of_80_columns() {
        let text = |text: &str| text.to_owned();
        let snapshot = Snapshot {
            time: chrono::Utc::now(),
            host: text("database-\u{1b}primary.example.org"),
            user: text("root"),
            program: text("reliab"),
            paths: vec![text("/srv/app/data/uploads/of/customers"), text("/etc")],
            tags: vec![text("nightly"), text("before-the-upgrade"), text("kept")],
            parent: None,
            after: Vec::new(),
            layers: Vec::new(),
            stats: Stats { files: 12_345_678, bytes: 1 << 39, added_bytes: 1 << 29, ..Stats::default() },
            errors: Vec::new(),
        };
        let rows = rows_of(&StoredSnapshot { id: ObjectId::of(b"a snapshot"), snapshot });
        assert_eq!(rows.len(), 3);
        let head = ["ID", "TIME", "HOST", ">FILES", ">SIZE", ">ADDED", "TAGS", "PATHS"];
        let whole = table(head, &rows);
        assert!(whole.iter().any(|line| line.chars().count() > 80), "nothing is to be cut: {whole:#?}");
        let lines = table_within(head, &rows, 80, &NARROWING);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        let ends = ["TAGS    PATHS", "…ghtly  …ds/of/customers", "…grade  /etc", "kept"];
        let fits = lines.iter().zip(ends).all(|(line, end)| line.ends_with(end));
        assert!(fits && lines.len() == ends.len(), "{lines:#?}");
        // The counts have given way, the size and the end of the host's name have not.
        assert!(lines[0].contains("HOST") && !lines[0].contains("FILES"), "{lines:#?}");
        assert!(lines[1].contains("512.0 GiB") && lines[1].contains('…'), "{lines:#?}");
        assert!(!lines.concat().contains('\u{1b}'), "{lines:#?}");
    }
}
