//! Reading a restored tree back from the disk and comparing it with the manifest.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, bounded};
use rustix::fs::{Advice, FileType, OFlags};
use rustix::io::Errno;

use super::held::open_to_read;
use super::{RestoreOptions, Selection, Skipped, skipped_gap};
use crate::archive::{link_target, xattrs_at};
use crate::error::{Error, Result, plain, without_number};
use crate::event::Events;
use crate::format::entry::{Content, Entry, Kind, Links, Xattr};
use crate::format::escape::escape;
use crate::format::linked::LinkedFile;
use crate::format::order;
use crate::id::Digest;
use crate::manifest::{Manifest, ManifestEntry};
use crate::repository::{Repository, StoredSnapshot};
use crate::walk::{Filter, FilterOptions, Status, Walk, Walked, open_beneath, open_roots};

/// Compares a restored tree with the snapshot: content, metadata, and that nothing is there that should not be.
///
/// What was written is synced and dropped from the page cache first, so it is read from the disk. What this user may not
/// read back is told and is no damage: a folder of mode 000 is as it should be if that is its mode in the snapshot.
pub fn check(
    repository: &Repository,
    snapshot: &StoredSnapshot,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<Vec<Skipped>> {
    let target = open_to_read(&options.target)?;
    rustix::fs::syncfs(&target).map_err(|errno| Error::local("sync", &options.target)(errno.into()))?;
    let selection = Selection::new(options)?;
    let mut manifest = Manifest::open(repository, &snapshot.snapshot, options.below.as_deref())?;
    let mut root = options.target.clone();
    // With a slash at its end a target that is a link is followed, as it was when it was restored into.
    root.push("");
    let roots = open_roots(std::slice::from_ref(&root))?;
    let walk_root = roots.first().map(|root| root.path.clone()).unwrap_or_default();
    let filter = Arc::new(Filter::new(FilterOptions::default(), &[])?);
    let walk = Walk::start(roots, filter, 1);
    let findings = Findings::default();
    std::thread::scope(|scope| {
        let (jobs, queue) = bounded(256);
        for _ in 0..options.threads.max(1) {
            let (queue, target, findings) = (queue.clone(), &target, &findings);
            scope.spawn(move || read_back(&queue, target, findings, events));
        }
        drop(queue);
        let privileged = rustix::process::geteuid().is_root();
        let comparison = Comparison {
            findings: &findings,
            target: &target,
            privileged,
            exact: options.overwrite.is_none(),
            linked: HashMap::new(),
            places: HashMap::new(),
        };
        let wanted = manifest.by_ref().filter(|item| selection.wants(&item.entry));
        comparison.run(wanted, walk, &walk_root, &jobs, events)
    })?;
    if events.stop_requested() {
        return Err(Error::Interrupted);
    }
    let mut findings = findings.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.extend(manifest.take_gaps().iter().map(skipped_gap));
    Ok(findings)
}

/// What is said of an entry whose attributes are not those of the snapshot.
pub const XATTRS_DIFFER: &str = "its extended attributes differ";

#[derive(Default)]
struct Findings(Mutex<Vec<Skipped>>);

impl Findings {
    fn push(&self, path: &[u8], reason: impl ToString) {
        self.add(path, reason.to_string(), true);
    }

    /// Notes what could not be read back. Where permissions forbid it, it need not be wrong: they are compared apart.
    fn unread(&self, path: &[u8], what: &str, errno: Errno) {
        self.add(path, format!("{what}cannot be read back: {}", plain(errno)), !is_forbidden(errno));
    }

    fn add(&self, path: &[u8], reason: String, damaged: bool) {
        let finding = Skipped { path: escape(path).into_owned(), reason, damaged };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }
}

fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM)
}

/// Paths that this user may not look at, and folders that it may not list.
#[derive(Default)]
struct Closed(RefCell<HashSet<Vec<u8>>>);

impl Closed {
    /// True if a path, or a folder around it, is closed.
    fn hides(&self, path: &[u8]) -> bool {
        let closed = self.0.borrow();
        let around = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| &path[..at]);
        !closed.is_empty() && around.chain([path, b"."]).any(|path| closed.contains(path))
    }
}

/// A file to read back.
struct ReadBack {
    path: Vec<u8>,
    size: u64,
    digest: Digest,
}

/// The join of manifest and restored tree, both in path order.
struct Comparison<'a> {
    findings: &'a Findings,
    target: &'a OwnedFd,
    privileged: bool,
    /// True if nothing but the snapshot may be there.
    exact: bool,
    /// What became of files with several names.
    linked: HashMap<LinkedFile, Linked>,
    /// Files with several names as they are now, by device and inode.
    places: HashMap<(u64, u64), Place>,
}

/// A restored file of which more names may come.
struct Place {
    path: Vec<u8>,
    /// Which file of the snapshot it is; `None` for one with a single name.
    file: Option<LinkedFile>,
    left: u64,
}

/// The first restored name of a file with several.
struct Linked {
    path: Vec<u8>,
    /// Device and inode now.
    place: (u64, u64),
    /// Names that came, and how many there are at most. (The restore must not forget a file before this does.)
    came: u64,
    count: u64,
}

impl Comparison<'_> {
    fn run(
        mut self,
        wanted: impl Iterator<Item = ManifestEntry>,
        walk: Walk,
        root: &[u8],
        jobs: &crossbeam_channel::Sender<ReadBack>,
        events: &dyn Events,
    ) -> Result<()> {
        let findings = self.findings;
        let closed = Closed::default();
        let mut walk = walk.filter_map(|item| below(item, root, findings, &closed)).peekable();
        for ManifestEntry { entry, .. } in wanted {
            if events.stop_requested() {
                return Err(Error::Interrupted);
            }
            while let Some(extra) = walk.next_if(|found| order::compare(&found.path, &entry.path).is_lt()) {
                self.extra(&extra, &entry.path);
            }
            match walk.next_if(|found| found.path == entry.path) {
                // Told once, of the folder.
                None if closed.hides(&entry.path) => {}
                None => self.findings.push(&entry.path, "it is missing"),
                Some(found) => self.entry(&entry, &found, jobs),
            }
        }
        walk.for_each(|extra| self.extra(&extra, b""));
        Ok(())
    }

    /// Folders above a restored path are made as needed and are no surprise.
    fn extra(&self, found: &Walked, next: &[u8]) {
        let is_above = found.status.kind == FileType::Directory
            && (found.path == b"." || order::is_within(next, &found.path));
        if self.exact && !is_above {
            self.findings.push(&found.path, "it is not in the snapshot");
        }
    }

    fn entry(&mut self, entry: &Entry, found: &Walked, jobs: &crossbeam_channel::Sender<ReadBack>) {
        for difference in self.differences(entry, found) {
            self.findings.push(&entry.path, difference);
        }
        if kind_of(&entry.kind) == found.status.kind {
            self.compare_xattrs(entry);
        }
        if let Some(difference) = self.names_differ(entry, found) {
            self.findings.push(&entry.path, difference);
        }
        if let Kind::File(Content { size, digest, .. }) = &entry.kind
            && found.status.kind == FileType::RegularFile
        {
            // The readers end only when this side does.
            drop(jobs.send(ReadBack { path: entry.path.clone(), size: *size, digest: *digest }));
        }
    }

    fn differences(&self, entry: &Entry, found: &Walked) -> Vec<String> {
        let mut differences = Vec::new();
        let status = &found.status;
        let meta = &entry.meta;
        if kind_of(&entry.kind) != status.kind {
            return vec![format!("it is not a {}", entry.kind.word())];
        }
        let is_link = matches!(entry.kind, Kind::Symlink(..));
        let own = (status.uid, status.gid) == (meta.uid, meta.gid);
        if self.privileged && !own {
            differences
                .push(format!("its owner is {}:{}, not {}:{}", status.uid, status.gid, meta.uid, meta.gid));
        }
        let expected = if self.privileged || own { meta.mode } else { meta.mode & !0o6000 };
        if !is_link && status.mode != expected {
            differences.push(format!("its mode is {:o}, not {expected:o}", status.mode));
        }
        if status.mtime != meta.mtime {
            differences.push("its time of modification differs".to_owned());
        }
        if let Kind::Symlink(_, target) = &entry.kind
            && link_target(self.target, &entry.path).as_ref() != Ok(target)
        {
            differences.push("it points elsewhere".to_owned());
        }
        if let Kind::Char(_, major, minor) | Kind::Block(_, major, minor) = &entry.kind
            && rustix::fs::makedev(*major, *minor) != status.rdev
        {
            differences.push("it is another device".to_owned());
        }
        differences
    }

    fn compare_xattrs(&self, entry: &Entry) {
        let is_checked = |xattr: &Xattr| self.privileged || is_for_everyone(&xattr.0);
        match xattrs_at(self.target, &entry.path) {
            Ok(mut found) => {
                found.retain(is_checked);
                if !entry.xattrs.iter().filter(|xattr| is_checked(xattr)).eq(&found) {
                    self.findings.push(&entry.path, XATTRS_DIFFER);
                }
            }
            Err(errno) if self.privileged || entry.xattrs.iter().any(is_checked) => {
                self.findings.unread(&entry.path, "its extended attributes ", errno);
            }
            // Nothing to compare, and others may keep what they have to themselves.
            Err(_) => {}
        }
    }

    /// What is wrong with the names of a file: those of one file must be one file, and those of several several.
    fn names_differ(&mut self, entry: &Entry, found: &Walked) -> Option<String> {
        let status = &found.status;
        if entry.is_dir() || kind_of(&entry.kind) != status.kind {
            return None;
        }
        let file = LinkedFile::of(entry);
        let merged = self.is_merged(entry, status, file);
        let (Some(file), Some(Links { count, .. })) = (file, entry.meta.links) else {
            let shared = self.exact && status.links > 1;
            return merged.or(shared.then(|| "it is another name of a file that it was not".to_owned()));
        };
        let place = (status.device, status.inode);
        let Some(first) = self.linked.get_mut(&file) else {
            if count > 1 {
                self.linked.insert(file, Linked { path: entry.path.clone(), place, came: 1, count });
            }
            return merged;
        };
        let differs =
            (first.place != place).then(|| format!("it is not the same file as {}", escape(&first.path)));
        first.came += 1;
        first.count = first.count.max(count);
        if first.came >= first.count {
            self.linked.remove(&file);
        }
        differs.or(merged)
    }

    /// What is wrong with a name of a file that has other names, which are another file in the snapshot.
    fn is_merged(&mut self, entry: &Entry, status: &Status, file: Option<LinkedFile>) -> Option<String> {
        if status.links < 2 {
            return None;
        }
        let at = (status.device, status.inode);
        let first = Place { path: entry.path.clone(), file, left: status.links };
        let place = self.places.entry(at).or_insert(first);
        let is_first = place.path == entry.path;
        let merged = (!is_first && (file.is_none() || place.file != file))
            .then(|| format!("it is the same file as {}, which it was not", escape(&place.path)));
        place.left -= 1;
        if place.left == 0 {
            self.places.remove(&at);
        }
        merged
    }
}

/// Attributes that need no privilege to be set: a restore by anyone has to bring them back.
fn is_for_everyone(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

/// The walked entry with its path below the target.
fn below(item: crate::walk::WalkItem, root: &[u8], findings: &Findings, closed: &Closed) -> Option<Walked> {
    let strip = |path: Vec<u8>| match path.strip_prefix(root) {
        _ if root == b"." => path,
        Some([]) => b".".to_vec(),
        Some(rest) => rest[1..].to_vec(),
        None => path,
    };
    match item {
        Ok(mut walked) => {
            walked.path = strip(walked.path);
            Some(walked)
        }
        Err(failed) => {
            let path = strip(failed.path);
            match Errno::from_io_error(&failed.error) {
                Some(errno) => {
                    findings.unread(&path, "", errno);
                    if is_forbidden(errno) {
                        closed.0.borrow_mut().insert(path);
                    }
                }
                None => findings.push(&path, without_number(&failed.error.to_string())),
            }
            None
        }
    }
}

fn kind_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Dir(_) => FileType::Directory,
        Kind::Symlink(..) => FileType::Symlink,
        Kind::Fifo(_) => FileType::Fifo,
        Kind::Char(..) => FileType::CharacterDevice,
        Kind::Block(..) => FileType::BlockDevice,
    }
}

fn read_back(queue: &Receiver<ReadBack>, target: &OwnedFd, findings: &Findings, events: &dyn Events) {
    let mut buffer = vec![0; 1 << 20];
    for job in queue {
        if events.stop_requested() {
            continue;
        }
        match digest_of(target, &job, &mut buffer, events) {
            Ok(digest) if digest == job.digest => {}
            Ok(_) => findings.push(&job.path, "its content differs"),
            Err(errno) => findings.unread(&job.path, "", errno),
        }
        events.advance(job.size, 1);
    }
}

fn digest_of(
    target: &OwnedFd,
    job: &ReadBack,
    buffer: &mut [u8],
    events: &dyn Events,
) -> std::result::Result<Digest, Errno> {
    let file = open_beneath(target, &job.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC)?;
    let status = rustix::fs::fstat(&file).map(|stat| Status::new(&stat))?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    // After a stop what was found is not told, so any outcome will do.
    while !events.stop_requested() {
        match rustix::io::pread(&file, &mut *buffer, at) {
            Ok(0) => break,
            Ok(len) => {
                hasher.update(&buffer[..len]);
                at += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    let whole = status.size == job.size && at == job.size;
    Ok(if whole { Digest(*hasher.finalize().as_bytes()) } else { Digest([0; 32]) })
}
