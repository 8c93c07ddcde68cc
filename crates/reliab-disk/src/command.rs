//! `disk`: its arguments, and what each of them does.

use std::path::PathBuf;

use anyhow::Context as _;
use reliab_common::app::{Tool, after_help_of, document};
use reliab_common::exit::Level;
use reliab_common::failure::ErrorTable;
use reliab_common::session::{Job, Outcome, Session, threads};
use reliab_common::ui::Ui;
use serde_json::json;

use crate::answer::{self, Measure};
use crate::check::{self, CheckOptions, sqlite_words};
use crate::directory::{self, DirectoryOptions};
use crate::report::{name_of, worst};
use crate::sqlite::{self, Condition};
use crate::walk::WalkOptions;

/// The command's name.
pub(crate) const NAME: &str = "disk";

const EXAMPLES: &str = "  \
  reliab disk                               every file system, and the day it is full
  reliab disk --quiet                       nothing, unless something is wrong; for cron
  reliab disk /srv --nagios                 one of them, in one line
  reliab disk --dirs /var --depth 2         what takes the room in /var
  reliab disk --sqlite app.db --quick-check   whether a SQLite file is whole";

/// Check file systems, inodes, directories and database files, and forecast the day a disk is full.
///
/// Each file system is measured by a process of its own with a deadline, so that a dead one is told and never waited for.
/// Thresholds, expected mounts, directories, SQLite files and database servers are in the section [disk] of the
/// configuration; see docs/disk.md.
#[expect(clippy::doc_markdown, reason = "shown as help, where backticks are noise")]
#[derive(Debug, clap::Args)]
#[command(after_help = after_help_of::<Level>(EXAMPLES))]
pub struct Args {
    /// Mount points, or any paths on the file systems to check [default: all, and all that is configured].
    #[arg(value_name = "MOUNT")]
    mounts: Vec<PathBuf>,
    /// Print one line with performance data, as monitoring plugins do.
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
    /// Show the directories below PATH by what they take on the disk.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["mounts", "nagios", "sqlite"])]
    dirs: Option<PathBuf>,
    /// Go so deep below PATH.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "dirs")]
    depth: usize,
    /// Show so many directories.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "dirs")]
    top: usize,
    /// Also count what is mounted below PATH.
    #[arg(long, requires = "dirs")]
    across: bool,
    /// Show the size, the free pages and the write-ahead log of SQLite files.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["mounts", "nagios"])]
    sqlite: Vec<PathBuf>,
    /// Also read each SQLite file and check that it is whole.
    #[arg(long, requires = "sqlite")]
    quick_check: bool,
    /// Measure one thing and print it for the process that asked.
    #[arg(long, value_name = "WHAT", hide = true)]
    measure: Option<Measure>,
}

impl Tool for Args {
    const NAME: &'static str = NAME;
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Level;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Level> {
        if let Some(what) = self.measure {
            let path = self.mounts.last().context("--measure needs a path")?;
            answer::give(what, path, session, ui);
            return Ok(Level::Ok);
        }
        if let Some(path) = self.dirs {
            let walk = WalkOptions { depth: self.depth, across: self.across, threads: threads(None) };
            let options = DirectoryOptions { path, walk, top: self.top };
            return session.record("directories", ui, |job, ui| directory::show(&options, job, ui));
        }
        if !self.sqlite.is_empty() {
            return session
                .record("sqlite", ui, |_: &Job<'_>, ui| show_sqlite(&self.sqlite, self.quick_check, ui));
        }
        let options = CheckOptions { paths: self.mounts, nagios: self.nagios };
        session.record("mounts", ui, |job, ui| check::run(&options, job, ui))
    }
}

/// Shows `SQLite` files, and checks them where that was asked for.
fn show_sqlite(files: &[PathBuf], quick_check: bool, ui: &mut Ui) -> anyhow::Result<Outcome<Level>> {
    let mut levels = Vec::new();
    let mut shown = Vec::new();
    for file in files {
        let size = sqlite::size(file).with_context(|| format!("cannot measure {}", file.display()))?;
        let condition = quick_check.then(|| sqlite::quick_check(file));
        let is_whole = condition == Some(Condition::Whole);
        let (level, damage, unchecked) = match condition {
            None | Some(Condition::Whole) => (Level::Ok, Vec::new(), None),
            Some(Condition::Damaged(found)) => (Level::Critical, found, None),
            Some(Condition::Unknown(reason)) => (Level::Unknown, Vec::new(), Some(reason)),
        };
        levels.push(level);
        if !ui.is_json() {
            let whole = if is_whole { ", whole" } else { "" };
            ui.summary(format_args!("{}: {}{whole}", file.display(), sqlite_words(&size)));
        }
        for line in damage.iter().chain(&unchecked) {
            ui.error(format_args!("{}: {line}", file.display()));
        }
        shown.push(json!({
            "path": name_of(file), "bytes": size.bytes, "free": size.free, "wal": size.wal, "page": size.page,
            "checked": quick_check && unchecked.is_none(), "damage": damage, "unchecked": unchecked,
        }));
    }
    let level = worst(levels.into_iter());
    if ui.is_json() {
        ui.json(&document(NAME, level, json!({ "sqlite": shown })));
    }
    Ok(Outcome::new(level, json!({ "files": files.len() })))
}
