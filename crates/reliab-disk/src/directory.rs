//! Directories by size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use reliab_common::app::document;
use reliab_common::exit::Level;
use reliab_common::session::{Job, Outcome};
use reliab_common::ui::Ui;
use reliab_common::units;
use serde_json::json;

use crate::command::NAME;
use crate::report::name_of;
use crate::walk::{DirectoryUsage, Usage, WalkOptions, measure};

/// Which directories to show.
pub(crate) struct DirectoryOptions {
    /// The first directory.
    pub path: PathBuf,
    /// How to walk.
    pub walk: WalkOptions,
    /// How many to show.
    pub top: usize,
}

/// Walks a directory and shows those below it, the largest first.
pub(crate) fn show(options: &DirectoryOptions, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Level>> {
    let started = Instant::now();
    let shown = || options.path.display().to_string();
    let path = options.path.canonicalize().with_context(|| format!("cannot measure {}", shown()))?;
    let progress = ui.progress();
    progress.start("measure", None);
    let stop = &job.stop;
    let watch = |bytes, entries| {
        progress.advance(bytes, entries);
        stop.requested()
    };
    let usage =
        measure(&path, &options.walk, &watch).with_context(|| format!("cannot measure {}", shown()))?;
    progress.finish();
    if job.stop.requested() {
        anyhow::bail!("stopped by a signal");
    }
    for (path, reason) in &usage.errors {
        ui.warn(format_args!("cannot read {}: {reason}", path.display()));
    }
    if let Some(more @ 1..) = usage.error_count.checked_sub(usage.errors.len() as u64) {
        ui.warn(format_args!("and {more} more that cannot be read"));
    }
    let level = if usage.error_count > 0 { Level::Warning } else { Level::Ok };
    let seconds = started.elapsed().as_secs_f64();
    print(&path, options, &usage, level, ui);
    let figures = json!({
        "path": name_of(&path), "bytes": usage.bytes, "entries": usage.entries, "unread": usage.error_count,
        "seconds": seconds,
    });
    Ok(Outcome::new(level, figures))
}

fn print(path: &Path, options: &DirectoryOptions, usage: &Usage, level: Level, ui: &mut Ui) {
    let mut largest: Vec<&DirectoryUsage> =
        usage.directories.iter().filter(|directory| directory.path != path).collect();
    largest.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    largest.truncate(options.top);
    if ui.is_json() {
        let directory = |directory: &&DirectoryUsage| json!({ "path": name_of(&directory.path), "bytes": directory.bytes, "entries": directory.entries });
        let directories: Vec<_> = largest.iter().map(directory).collect();
        let body = json!({
            "path": name_of(path), "bytes": usage.bytes, "entries": usage.entries,
            "directories": directories, "unread": usage.error_count,
        });
        ui.json(&document(NAME, level, body));
        return;
    }
    ui.out(line("SIZE", "FILES", "PART", "DIRECTORY"));
    for directory in
        largest.into_iter().chain(usage.directories.iter().filter(|directory| directory.path == path))
    {
        let part = part(directory.bytes, usage.bytes);
        let (size, entries) = (units::bytes(directory.bytes), directory.entries.to_string());
        ui.out(line(&size, &entries, &part, &name_of(&directory.path)));
    }
}

fn line(size: &str, entries: &str, part: &str, path: &str) -> String {
    format!("{size:>10}  {entries:>9}  {part:>4}  {path}")
}

fn part(bytes: u64, all: u64) -> String {
    let percent = (u128::from(bytes) * 100 + u128::from(all) / 2).checked_div(u128::from(all));
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%"))
}
