//! Backup: the source is walked in path order and joined with the parent's entries; what changed is stored.

mod blocks;
mod bundle;
mod emptied;
mod file;
mod inodes;
mod large;
mod layers;
mod merge;
mod once;
mod parent;
mod patch;
mod read_ahead;
mod source;
mod store;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use rustix::fs::FileType;

use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::Stamp;
use crate::format::escape::escape;
use crate::format::order;
use crate::format::snapshot::{Snapshot, SourceError, Stats};
use crate::format::table::PackTable;
use crate::format::{ERRORS_MAX, LARGE_FILE};
use crate::index;
use crate::repository::{Repository, SnapshotList, StoredSnapshot};
use crate::storage::{DryStorage, Storage, pack_key};
use crate::walk::{
    Filter, FilterOptions, Root, UNMOUNTED, Walk, open_roots, places, refuse_repository, remounted,
};
use merge::Merge;
use once::Once;
use parent::Parent;
use read_ahead::ReadAhead;
pub(crate) use source::{link_target, xattrs_at, xattrs_of};
use store::Store;

/// What to back up, and how.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Files and folders.
    pub sources: Vec<PathBuf>,
    /// What to leave out.
    pub filter: FilterOptions,
    /// Labels of the snapshot.
    pub tags: Vec<String>,
    /// Host the snapshot is of.
    pub host: String,
    /// User who runs the backup.
    pub user: String,
    /// Program and version.
    pub program: String,
    /// Now; becomes the snapshot's time.
    pub time: DateTime<Utc>,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Write nothing.
    pub dry_run: bool,
    /// Accept a source without files where the parent had some.
    pub allow_empty: bool,
    /// Folder for what makes the next run fast; may be lost.
    pub cache: PathBuf,
    /// Threads that compress.
    pub threads: usize,
}

/// What a backup did.
#[derive(Debug)]
pub struct BackupReport {
    /// The new snapshot; its id means nothing after a dry run.
    pub stored: StoredSnapshot,
    /// Sources that could not be read; the rest is safe.
    pub unreadable: u64,
}

/// Backs up into the storage's repository, creating it on first use.
pub fn backup(
    storage: Arc<dyn Storage>,
    options: &BackupOptions,
    events: &dyn Events,
) -> Result<BackupReport> {
    let storage: Arc<dyn Storage> =
        if options.dry_run { Arc::new(DryStorage::new(storage)) } else { storage };
    // Roots are opened before anything is created: a wrong path must not leave a new repository behind.
    drop(open_roots(&options.sources)?);
    refuse_repository(&options.sources, options.filter.never)?;
    let events = &Once::new(events);
    let mut repository = Repository::open_or_create(Arc::clone(&storage), options.time)?;
    storage.sweep()?;
    repository.check_adopted(events)?;
    let job = Job::new(&repository, options)?;
    let again = match job.run(events) {
        // Found while it was read: forget it, so that it is rebuilt, and begin again.
        Err(error) if parent::is_cache_damage(&error) => job.forget_cache(),
        // A full or broken disk under the cache must not keep anybody from a backup elsewhere.
        Err(error) if job.is_cache_failure(&error) => {
            events.warning(&job.cache, &format!("a temporary cache is used instead: {}", error.told()));
            Again::InScratch
        }
        other => return other,
    };
    // Opened anew, the repository knows the packs that the first attempt has published.
    let known = job.repository.index().adopted();
    let mut again_from = Repository::open(storage)?;
    again_from.check_adopted(events)?;
    let mut second = match again {
        Again::WithoutCache => Job::new(&again_from, options)?,
        Again::InScratch => Job::in_scratch(&again_from, options, None)?,
    };
    // What was there before this run, from one that was cut off, is nothing that it added.
    let is_ours = |pack: &&PackTable| !known.iter().any(|known| known.id == pack.id);
    second.added = again_from.index().adopted().iter().filter(is_ours).cloned().collect();
    second.run(events)
}

/// How a run whose cache failed begins again.
enum Again {
    WithoutCache,
    InScratch,
}

/// One backup of one set of sources.
struct Job<'a> {
    repository: &'a Repository,
    options: &'a BackupOptions,
    /// The sources as snapshots name them.
    paths: Vec<String>,
    cache: PathBuf,
    /// Packs that an attempt before this one has published.
    added: Vec<PackTable>,
    /// The snapshots that were there when it began.
    before: &'a SnapshotList,
    /// Holds the cache where the folder asked for cannot be written.
    scratch: Option<tempfile::TempDir>,
}

impl<'a> Job<'a> {
    fn new(repository: &'a Repository, options: &'a BackupOptions) -> Result<Self> {
        let paths = paths_of(options)?;
        let key = blake3::hash(format!("{}\0{}", options.host, paths.join("\0")).as_bytes()).to_hex();
        // Errors name whole paths, by which those of the cache are known.
        let cache = std::path::absolute(&options.cache).unwrap_or_else(|_| options.cache.clone());
        let folder = cache.join(&repository.config().id).join(&key[..16]);
        if std::fs::create_dir_all(&folder).is_ok() && !options.dry_run {
            return Self::with(repository, options, folder, None);
        }
        Self::in_scratch(repository, options, Some(&folder))
    }

    /// A job whose cache is a temporary folder, with what an older cache holds, if there is one.
    fn in_scratch(
        repository: &'a Repository,
        options: &'a BackupOptions,
        old: Option<&Path>,
    ) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(Error::local("create a folder in", std::env::temp_dir()))?;
        if let Some(old) = old {
            // A dry run may read the real cache and must not change it.
            copy_cache(old, scratch.path());
        }
        Self::with(repository, options, scratch.path().to_owned(), Some(scratch))
    }

    fn with(
        repository: &'a Repository,
        options: &'a BackupOptions,
        cache: PathBuf,
        scratch: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let (paths, before) = (paths_of(options)?, repository.snapshots());
        Ok(Self { repository, options, paths, cache, added: Vec::new(), before, scratch })
    }

    /// Removes a damaged cache; where only a copy of it is used, or it cannot be removed, it is left alone.
    fn forget_cache(&self) -> Again {
        let path = self.cache.join(parent::CACHE_FILE);
        let removed = self.scratch.is_none() && std::fs::remove_file(path).is_ok();
        if removed { Again::WithoutCache } else { Again::InScratch }
    }

    /// True if a file of the cache could not be used, and a temporary folder has not been tried yet.
    fn is_cache_failure(&self, error: &Error) -> bool {
        self.scratch.is_none() && matches!(error, Error::Local { path, .. } if path.starts_with(&self.cache))
    }

    fn run(&self, events: &dyn Events) -> Result<BackupReport> {
        let options = self.options;
        let roots = open_roots(&options.sources)?;
        roots.iter().for_each(|root| warn_of_link(root, events));
        let parent = Parent::find(self)?;
        let store = Store::start(self.repository, options, events, &self.cache);
        let places = places(&roots);
        let filter = Arc::new(Filter::new(options.filter.clone(), &options.sources)?);
        let walk = Walk::start(roots.clone(), filter, options.threads);
        let start = Stamp { seconds: options.time.timestamp(), nanos: options.time.timestamp_subsec_nanos() };
        let is_first = parent.is_none();
        let mut merge = Merge::new(store, parent, start);
        if is_first {
            let walk = ReadAhead::start(walk, options.threads);
            let failed = walk.failed();
            merge.run(walk)?;
            if failed.load(Ordering::Relaxed) {
                return Err(Error::Panicked);
            }
        } else {
            merge.run(walk)?;
        }
        remounted(&roots).iter().for_each(|path| merge.store.source_error(path, &UNMOUNTED));
        self.publish(merge, &places, events)
    }

    /// Writes the layers, then what makes them reachable, in the order that keeps every step safe.
    fn publish(
        &self,
        merge: Merge<'_>,
        places: &[(PathBuf, Vec<u8>)],
        events: &dyn Events,
    ) -> Result<BackupReport> {
        let (mut store, parent, outcome) = merge.finish()?;
        if !self.options.allow_empty {
            emptied::refuse(self, places, parent.as_ref(), store.finished_cache(), &store.errors)?;
        }
        let layers = layers::write(&mut store, parent.as_ref(), &outcome)?;
        let block_changes = std::mem::take(&mut store.block_changes);
        let (added, cache, errors, mut stats, unreadable) = store.finish()?;
        for pack in self.repository.index().adopted() {
            // Its writer may have been killed between giving it its name and making the name durable.
            self.repository.storage().settle(&pack_key(&pack.id))?;
        }
        let new_packs = [self.repository.index().adopted(), &added.packs].concat();
        let list: Vec<_> = layers.iter().map(|layer| layer.list).collect();
        let is_like_parent = parent.as_ref().is_some_and(|parent| parent.stored.snapshot.layers == list);
        if !new_packs.is_empty() {
            index::publish(self.repository.storage(), &new_packs)?;
        } else if !is_like_parent {
            // All that is needed may be in the index of a run that was killed before it had made that name durable.
            index::settle(self.repository.storage().as_ref())?;
        }
        let before = |figure: fn(&PackTable) -> u64| self.added.iter().map(figure).sum::<u64>();
        stats.added_blobs = added.blobs + before(|pack| pack.rows.len() as u64);
        stats.added_bytes = added.bytes + before(|pack| pack.size);
        stats.layer_entries = layers.iter().map(|layer| layer.entries).collect();
        let stored = self.repository.publish_snapshot(self.snapshot(parent.as_ref(), list, stats, errors))?;
        block_changes.commit();
        if let Some(cache) = cache {
            let sparse = layers::sparse_bundles(self.repository, &cache);
            let to = self.cache.join(parent::CACHE_FILE);
            if let Err(error) = cache.finish(&to, &self.repository.config().id, layers, sparse) {
                // The snapshot is published; all that is lost is time.
                events.warning(&to, &format!("the next run will be slower: {}", error.told()));
            }
        }
        Ok(BackupReport { stored, unreadable })
    }

    fn snapshot(
        &self,
        parent: Option<&Parent>,
        layers: Vec<crate::id::BlobId>,
        stats: Stats,
        errors: Vec<SourceError>,
    ) -> Snapshot {
        let parent = parent.map(|parent| parent.stored.id);
        Snapshot {
            time: self.options.time,
            host: self.options.host.clone(),
            user: self.options.user.clone(),
            program: self.options.program.clone(),
            paths: self.paths.clone(),
            tags: self.options.tags.clone(),
            parent,
            after: self.before.ends().into_iter().filter(|&id| Some(id) != parent).collect(),
            layers,
            stats,
            errors,
        }
    }
}

/// The sources as snapshots name them, each once.
fn paths_of(options: &BackupOptions) -> Result<Vec<String>> {
    let mut paths = options.sources.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    Ok(paths)
}

/// Tells that of a source that is a symbolic link only the link is stored, which is seldom what was meant.
fn warn_of_link(root: &Root, events: &dyn Events) {
    if root.opened.kind != FileType::Symlink {
        return;
    }
    let given = escape(root.given.as_os_str().as_bytes());
    let leads_to_folder = std::fs::metadata(&root.given).is_ok_and(|found| found.is_dir());
    let message = if leads_to_folder {
        format!("only this symbolic link is stored; {given}/ is what it leads to")
    } else {
        "only this symbolic link is stored; name what it leads to, if that is to be stored".to_owned()
    };
    events.warning(Path::new(&*given), &message);
}

/// Copies a job's cache as far as it goes: without it the run is only slower.
fn copy_cache(from: &Path, to: &Path) {
    drop(std::fs::copy(from.join(parent::CACHE_FILE), to.join(parent::CACHE_FILE)));
    let blocks = to.join("blocks");
    drop(std::fs::create_dir(&blocks));
    for file in std::fs::read_dir(from.join("blocks")).into_iter().flatten().flatten() {
        drop(std::fs::copy(file.path(), blocks.join(file.file_name())));
    }
}

/// A source as snapshots name it: absolute, escaped. With a slash at its end it is the same source.
fn absolute(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(Error::local("resolve", path))?;
    let absolute: PathBuf = absolute.components().collect();
    Ok(escape(absolute.as_os_str().as_bytes()).into_owned())
}

/// True if two names of sources are one: older snapshots name some with a slash at the end.
fn is_same_source(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// True if a file of this size gets blobs of its own.
fn is_large(size: u64) -> bool {
    size >= LARGE_FILE
}

/// Sources that could not be read: the first of them, and how many.
#[derive(Default)]
struct SourceErrors {
    kept: Vec<SourceError>,
    unreadable: u64,
}

impl SourceErrors {
    fn push(&mut self, path: &[u8], error: &str) {
        // Why a whole source was not read is told last and explains the others.
        if self.kept.len() == ERRORS_MAX
            && error == UNMOUNTED
            && let Some(other) = self.kept.iter().rposition(|kept| kept.error != UNMOUNTED)
        {
            self.kept.remove(other);
        }
        if self.kept.len() < ERRORS_MAX {
            self.kept.push(SourceError { path: escape(path).into_owned(), error: error.to_owned() });
        }
    }

    /// The first that was noted at or below a path of the snapshot.
    fn first_in(&self, path: &[u8]) -> Option<&SourceError> {
        let path = escape(path);
        self.kept.iter().find(|kept| order::is_within(kept.path.as_bytes(), path.as_bytes()))
    }
}
