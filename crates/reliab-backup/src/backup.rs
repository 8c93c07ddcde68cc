//! `backup`: a snapshot of files and folders.

use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use reliab_common::clock::Clock;
use reliab_common::count::{count, counted};
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::archive::{self, BackupOptions, BackupReport};
use reliab_repo::format::snapshot::{SourceError, Stats};
use reliab_repo::id::ObjectHasher;
use reliab_repo::walk::{FilterOptions, open_roots, patterns_from};
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help, document};
use crate::creation;
use crate::engine_errors::ENGINE_ERRORS;
use crate::events::{UiEvents, Warnings};
use crate::failure::{ErrorTable, UsageError};
use crate::known_damage;
use crate::listing::Listing;
use crate::repo::{RepoArg, of, storage};
use crate::session::{Job, Outcome, Session, threads};

const EXAMPLES: &str = "  \
  reliab backup                                 what the configuration says, or data into backups
  reliab backup /etc /srv/app --repo /mnt/b     two folders into a repository elsewhere
  reliab backup data --exclude '*.tmp' --tag nightly
  reliab backup --dry-run --verbose             what would be added, entry by entry";

/// Back up files and folders into the repository.
///
/// Each run is a complete snapshot; only what is new is stored. The repository is created on first use.
/// With --verbose, what is new, gone or different is listed, as `diff` lists it.
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// Files and folders to back up [default: `sources` of the configuration, or data].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    repo: RepoArg,
    /// Leave out what matches, as in .gitignore; may be repeated.
    #[arg(long, short, value_name = "PATTERN", value_parser = NonEmptyStringValueParser::new())]
    exclude: Vec<String>,
    /// Leave out what matches a line of this file; may be repeated.
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Leave out what is in folders with a CACHEDIR.TAG.
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out files larger than this, such as 500M.
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    exclude_larger_than: Option<u64>,
    /// Stay on the file systems of the sources.
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// The zstd level: 1 is fast, 19 is small [default: `compression` of the configuration, or 3].
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: Option<i32>,
    /// A label for the snapshot; may be repeated.
    #[arg(long, value_name = "TAG", value_parser = NonEmptyStringValueParser::new())]
    tag: Vec<String>,
    /// The host the snapshot is of [default: this machine's name].
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    host: Option<String>,
    /// Read and compare everything, but write nothing.
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Accept sources without any file where the last snapshot had some.
    #[arg(long)]
    allow_empty: bool,
    /// Begin a new repository where an earlier one is gone.
    #[arg(long)]
    new_repository: bool,
    /// Threads that compress [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// Where to back up to, and the engine's options.
struct Options {
    folder: PathBuf,
    new_repository: bool,
    engine: BackupOptions,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// `None` after a dry run.
    snapshot: Option<String>,
    dry_run: bool,
    repository: &'a Path,
    /// Whether this run made it, or after a dry run, would have.
    created_repository: bool,
    time: String,
    host: &'a str,
    tags: &'a [String],
    paths: &'a [String],
    parent: Option<String>,
    seconds: f64,
    stats: &'a Stats,
    unreadable: u64,
    errors: &'a [SourceError],
    #[serde(flatten)]
    warnings: Warnings,
}

impl Tool for Args {
    const NAME: &'static str = "backup";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let options = self.resolve(session)?;
        let (job, is_dry) = (creation::job(&options.folder), options.engine.dry_run);
        let act = |job: &Job<'_>, ui: &mut Ui| run(options, job, ui);
        if is_dry { session.unrecorded(ui, act) } else { session.record(&job, ui, act) }
    }
}

impl Args {
    fn resolve(self, session: &Session) -> anyhow::Result<Options> {
        let config = &session.config.backup;
        let folder = self.repo.folder(session)?;
        let mut tags = if self.tag.is_empty() { config.tags.clone() } else { self.tag.clone() };
        let mut seen = HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        let engine = BackupOptions {
            sources: once(if self.paths.is_empty() { &config.sources } else { &self.paths }),
            filter: self.filter(session)?,
            tags,
            host: self.host.or_else(|| config.host.clone()).unwrap_or_else(host),
            user: user(session),
            program: concat!("reliab ", env!("CARGO_PKG_VERSION")).to_owned(),
            time: session.clock.now(),
            level: self.compression.unwrap_or(config.compression),
            dry_run: self.dry_run,
            allow_empty: self.allow_empty,
            cache: session.cache_dir(),
            threads: threads(self.threads),
        };
        Ok(Options { folder, new_repository: self.new_repository, engine })
    }

    fn filter(&self, session: &Session) -> anyhow::Result<FilterOptions> {
        let config = &session.config.backup;
        let mut exclude = config.exclude.clone();
        exclude.extend_from_slice(&self.exclude);
        for file in &self.exclude_from {
            let cannot = || UsageError("cannot use --exclude-from".to_owned());
            exclude.extend(patterns_from(file).with_context(cannot)?);
        }
        Ok(FilterOptions {
            exclude,
            exclude_caches: self.exclude_caches || config.exclude_caches,
            exclude_larger_than: self.exclude_larger_than.or(config.exclude_larger_than),
            one_file_system: self.one_file_system || config.one_file_system,
            never: None,
        })
    }
}

fn run(mut options: Options, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Exit>> {
    let _lock = job.session.lock(&lock_name(&options), ui)?;
    // Before anything is made: a wrong path must not leave a new folder behind.
    drop(open_roots(&options.engine.sources)?);
    let created = creation::is_due(&options.folder, options.new_repository, job.recorder.state())?;
    if let Some(warning) = known_damage::warning(&options.folder, job.recorder.state()) {
        ui.warn(warning);
    }
    options.engine.filter.never = repository_folder(&options)?;
    let started = Instant::now();
    let events = UiEvents::start(ui, &job.stop, "backup");
    let result = archive::backup(storage(&options.folder), &options.engine, &Listing::new(&events, ui));
    let seconds = started.elapsed().as_secs_f64();
    let warnings = events.finish(ui);
    let done = result.map_err(of(&options.folder))?;
    let exit = if done.unreadable > 0 { Exit::Partial } else { Exit::Done };
    if ui.is_json() {
        ui.json(&document(Args::NAME, exit, report(&options, created, &done, seconds, warnings)));
    }
    if created {
        ui.summary(creation::told(&options.folder, options.engine.dry_run));
    }
    ui.summary(summary(&options, &done, started.elapsed()));
    let stats = &done.stored.snapshot.stats;
    let snapshot = (!options.engine.dry_run).then(|| done.stored.id.to_string());
    let figures = json!({
        "snapshot": snapshot, "repository": options.folder.display().to_string(),
        "location": creation::location(&options.folder).display().to_string(), "created_repository": created,
        "seconds": seconds, "stats": stats, "unreadable": done.unreadable,
    });
    Ok(Outcome::new(exit, figures))
}

/// The sources, each once: named twice, they would be another set than when named once.
fn once(sources: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    // A path that cannot be resolved is told by the engine.
    let is_new =
        |path: &&PathBuf| std::path::absolute(path).map_or(true, |whole| seen.insert(whole.into_os_string()));
    sources.iter().filter(is_new).cloned().collect()
}

/// Makes the repository's folder and identifies it, so that it is not backed up into itself.
fn repository_folder(options: &Options) -> anyhow::Result<Option<(u64, u64)>> {
    let folder = &options.folder;
    if !options.engine.dry_run && !folder.exists() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the repository {}", folder.display()))?;
        sync_parent(folder);
    }
    Ok(fs::metadata(folder).ok().map(|metadata| (metadata.dev(), metadata.ino())))
}

/// Makes a new folder's name durable, where the file system can.
fn sync_parent(folder: &Path) {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    drop(fs::File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all()));
}

/// One lock for each repository and set of sources, by whatever name.
fn lock_name(options: &Options) -> String {
    let mut hasher = ObjectHasher::default();
    for path in [&options.folder].into_iter().chain(&options.engine.sources) {
        hasher.update(creation::location(path).as_os_str().as_bytes());
        hasher.update(&[0]);
    }
    format!("backup-{}", &hasher.finish().to_string()[..16])
}

fn report<'a>(
    options: &'a Options,
    created_repository: bool,
    done: &'a BackupReport,
    seconds: f64,
    warnings: Warnings,
) -> Report<'a> {
    let snapshot = &done.stored.snapshot;
    let dry_run = options.engine.dry_run;
    Report {
        snapshot: (!dry_run).then(|| done.stored.id.to_string()),
        dry_run,
        repository: &options.folder,
        created_repository,
        time: snapshot.time.to_rfc3339(),
        host: &snapshot.host,
        tags: &snapshot.tags,
        paths: &snapshot.paths,
        parent: snapshot.parent.map(|id| id.to_string()),
        seconds,
        stats: &snapshot.stats,
        unreadable: done.unreadable,
        errors: &snapshot.errors,
        warnings,
    }
}

fn summary(options: &Options, done: &BackupReport, took: std::time::Duration) -> String {
    let stats = &done.stored.snapshot.stats;
    let dry_run = options.engine.dry_run;
    let name = if dry_run { "dry run".to_owned() } else { format!("snapshot {}", done.stored.id.short()) };
    let unreadable = match done.unreadable {
        0 => String::new(),
        some => format!("; {} could not be read", counted(some, "path", "paths")),
    };
    // Two lines, so that they fit a terminal of 80 columns.
    format!(
        "{name}: {} ({}) in {}; {} {} to {}\n  \
         files: {} new, {} changed, {} unmodified; {} gone{unreadable}",
        counted(stats.entries, "entry", "entries"),
        units::bytes(stats.bytes),
        units::duration(took),
        if dry_run { "would add" } else { "added" },
        units::bytes(stats.added_bytes),
        options.folder.display(),
        count(stats.new_files),
        count(stats.changed_files),
        count(stats.unmodified_files),
        counted(stats.gone, "entry", "entries"),
    )
}

/// The machine's name.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user who runs this, or else the number.
fn user(session: &Session) -> String {
    let uid = nix::unistd::geteuid();
    let known = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let from_env = || session.env.var("LOGNAME").map(|name| name.to_string_lossy().into_owned());
    known.or_else(from_env).unwrap_or_else(|| uid.to_string())
}
