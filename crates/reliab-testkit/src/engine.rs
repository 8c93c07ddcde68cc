//! Running the engine in integration tests, and reading snapshots back without `restore`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use reliab_repo::archive::{BackupOptions, BackupReport, backup};
use reliab_repo::content::ContentReader;
use reliab_repo::error::{Error, Result};
use reliab_repo::event::Silent;
use reliab_repo::format::entry::{Entry, Kind};
use reliab_repo::format::order;
use reliab_repo::id::ObjectId;
use reliab_repo::manifest::{Manifest, ManifestEntry};
use reliab_repo::repository::{Repository, StoredSnapshot};
use reliab_repo::restore::{RestoreOptions, RestoreReport, restore};
use reliab_repo::storage::{LocalStorage, Storage};
use reliab_repo::verify::{Level, VerifyOptions, VerifyReport, verify};
use reliab_repo::walk::{FilterOptions, snapshot_path};

use crate::disk::SimDisk;
use crate::scan::{Item, ItemKind, Scan};
use crate::tree::Scratch;

/// Storage on a simulated disk, as a new process would open it.
pub fn simulated(disk: &SimDisk) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::new(Arc::new(disk.clone())))
}

/// Storage in a real folder.
pub fn local(folder: &Path) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::open(folder))
}

/// A backup of one source with one thread, so that the disk sees the same operations in every run.
pub fn options(source: &Path, cache: &Path) -> BackupOptions {
    BackupOptions {
        sources: vec![source.to_owned()],
        filter: FilterOptions::default(),
        tags: Vec::new(),
        host: "host".into(),
        user: "user".into(),
        program: "test".into(),
        time: Utc::now(),
        level: 1,
        dry_run: false,
        allow_empty: false,
        cache: cache.to_owned(),
        threads: 1,
    }
}

/// Backs up one source.
pub fn back_up(storage: &Arc<dyn Storage>, source: &Path, cache: &Path) -> Result<BackupReport> {
    backup(Arc::clone(storage), &options(source, cache), &Silent)
}

/// A scratch folder in which a planted tree, `source`, was backed up into `repo`; and options to restore it into `target`.
pub fn backed_up(plant: impl FnOnce(&Path)) -> Result<(Scratch, RestoreOptions)> {
    let made =
        Scratch::new().and_then(|scratch| fs::create_dir(scratch.path().join("source")).map(|()| scratch));
    let scratch = made.map_err(Error::local("create", "a scratch folder"))?;
    let [source, repo, cache, target] =
        ["source", "repo", "cache", "target"].map(|name| scratch.path().join(name));
    plant(&source);
    back_up(&local(&repo), &source, &cache)?;
    Ok((scratch, restore_options(&target)))
}

/// Checks everything.
pub fn verify_all(storage: &Arc<dyn Storage>) -> Result<VerifyReport> {
    let options = VerifyOptions { level: Level::Data, sample: None, threads: 1 };
    verify(Arc::clone(storage), &options, &Silent)
}

/// A snapshot by its id.
pub fn find(repository: &Repository, id: ObjectId) -> Result<StoredSnapshot> {
    repository.snapshots().find(&id.to_string()).cloned()
}

/// Restores everything into a new folder with two threads; `source` is then found below what `restored_at` says.
pub fn restore_all(storage: &Arc<dyn Storage>, id: ObjectId, target: &Path) -> Result<RestoreReport> {
    let repository = Repository::open(Arc::clone(storage))?;
    let snapshot = find(&repository, id)?;
    restore(&repository, &snapshot, &restore_options(target), &Silent)
}

/// Options for restoring everything into a new folder.
pub fn restore_options(target: &Path) -> RestoreOptions {
    RestoreOptions {
        target: target.to_owned(),
        below: None,
        include: Vec::new(),
        exclude: Vec::new(),
        overwrite: None,
        dry_run: false,
        threads: 2,
    }
}

/// Where a restore puts a source.
pub fn restored_at(target: &Path, source: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    target.join(std::ffi::OsStr::from_bytes(&snapshot_path(source)))
}

/// What a snapshot of one source holds, each content read and checked, as a scan of the source would have it.
pub fn read_back(storage: &Arc<dyn Storage>, id: ObjectId, source: &Path) -> Result<Scan> {
    let repository = Repository::open(Arc::clone(storage))?;
    let snapshot = find(&repository, id)?;
    let mut reader = ContentReader::new(&repository)?;
    let mut manifest = Manifest::open(&repository, &snapshot.snapshot, None)?;
    let mut scan = Scan::new();
    let mut inodes = HashMap::new();
    let top = snapshot_path(source);
    for item in manifest.by_ref() {
        let path = below(&item.entry.path, &top)?;
        let kind = kind_of(&item, &mut reader)?;
        scan.insert(path.clone(), to_item(&item.entry, path, kind, &mut inodes));
    }
    match manifest.take_gaps().into_iter().next() {
        Some(gap) => Err(gap.error),
        None => Ok(scan),
    }
}

/// The part of a path below the source's.
pub fn below(path: &[u8], top: &[u8]) -> Result<Vec<u8>> {
    if !order::is_within(path, top) {
        return Err(Error::damaged("a path", format!("{:?} is not below the source", path.escape_ascii())));
    }
    Ok(path[top.len()..].strip_prefix(b"/").unwrap_or_default().to_vec())
}

fn kind_of(item: &ManifestEntry, reader: &mut ContentReader<'_>) -> Result<ItemKind> {
    Ok(match &item.entry.kind {
        Kind::File(_) => {
            let mut out = Hashing::default();
            reader.copy(item, &mut out)?;
            ItemKind::File(out.len, *out.hasher.finalize().as_bytes())
        }
        Kind::Dir(_) => ItemKind::Dir,
        Kind::Symlink(_, target) => ItemKind::Symlink(target.clone()),
        Kind::Fifo(_) => ItemKind::Fifo,
        Kind::Char(_, major, minor) => ItemKind::Char(*major, *minor),
        Kind::Block(_, major, minor) => ItemKind::Block(*major, *minor),
    })
}

fn to_item(entry: &Entry, path: Vec<u8>, kind: ItemKind, inodes: &mut HashMap<(u64, u64), Vec<u8>>) -> Item {
    let meta = &entry.meta;
    let link = meta.links.map(|links| {
        let first = inodes.entry((links.device, meta.inode));
        first.or_insert(path).clone()
    });
    Item {
        kind,
        mode: meta.mode,
        owner: (meta.uid, meta.gid),
        mtime: (meta.mtime.seconds, meta.mtime.nanos),
        xattrs: entry.xattrs.iter().cloned().collect(),
        link,
    }
}

/// Counts and hashes what is written.
#[derive(Default)]
struct Hashing {
    len: u64,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.len += buf.len() as u64;
        self.hasher.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
