//! Reading one entry that is new or changed.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::is_large;
use super::merge::Merge;
use super::source::{may_have_holes, read_full, segments_of, status_of, xattrs_of};
use crate::cache::CachedEntry;
use crate::error::Result;
use crate::format::FILE_MAX;
use crate::format::entry::{Content, Data, Entry, Kind, Place, Xattr};
use crate::format::snapshot::SourceError;
use crate::format::tar::Body;
use crate::id::Digest;
use crate::status::{is_racy, is_same_content, meta};
use crate::walk::{SOURCE_GONE, Status, Walked};

/// Times a file that changes while it is read is read.
const ATTEMPTS: usize = 2;

/// What is told of something that is not any more what it was when it was listed.
pub(super) const REPLACED: &str = "it was replaced while it was read";

/// What is told of attributes that the kernel does not list, or that do not fit a record.
const LEFT_OUT: &str =
    "its extended attributes are left out: they are more than 4 MiB, or their names more than 64 KiB";

/// A regular file that was opened.
pub(super) struct OpenFile<'a> {
    pub(super) path: &'a [u8],
    pub(super) file: OwnedFd,
    /// What it is taken to be until it is read.
    pub(super) status: Status,
    /// `None` if they are too many to be stored.
    all_xattrs: Option<Vec<Xattr>>,
}

impl OpenFile<'_> {
    /// What is stored of it besides its content.
    pub(super) fn seen(&self) -> Seen<'_> {
        let xattrs = self.all_xattrs.as_deref().unwrap_or_default();
        Seen { path: self.path, status: &self.status, xattrs }
    }
}

/// What was seen of a regular file, its content aside.
pub(super) struct Seen<'a> {
    pub(super) path: &'a [u8],
    pub(super) status: &'a Status,
    /// The attributes that are stored.
    pub(super) xattrs: &'a [Xattr],
}

impl Merge<'_> {
    /// Reads an entry; `None` if it vanished or cannot be read, which has been noted then.
    pub(super) fn read(&mut self, walked: &Walked, old: Option<&CachedEntry>) -> Result<Option<CachedEntry>> {
        if walked.status.kind != FileType::RegularFile {
            return self.read_special(walked, old);
        }
        if let Some(known) = self.find_known(walked)? {
            return Ok(Some(self.point_at(&walked.path, &walked.status, known)));
        }
        if let Some(read) = &walked.read_ahead {
            let seen = Seen { path: &walked.path, status: &walked.status, xattrs: &read.xattrs };
            return self.store_small(&seen, &read.content).map(Some);
        }
        for attempt in 1..=ATTEMPTS {
            let opened = match self.open(walked, attempt) {
                Ok(opened) => opened,
                Err(errno) => return Ok(self.not_read(walked, errno)),
            };
            if opened.status.kind != FileType::RegularFile {
                self.store.source_error(&walked.path, &REPLACED);
                return Ok(None);
            }
            let read = match self.read_file(&opened, old) {
                Ok(read) => read?,
                Err(errno) => return Ok(self.not_read(walked, replaced(&opened.file).unwrap_or(errno))),
            };
            let after = status_of(&opened.file).unwrap_or(opened.status);
            let still = is_as_it_was(&opened.status, &after);
            if let Some(mut entry) = read
                && (still || attempt == ATTEMPTS)
            {
                if !still || self.differs_from_other_name(walked, &entry)? {
                    self.store.note(&walked.path, SourceError::CHANGED);
                    entry.racy = true;
                }
                if opened.all_xattrs.is_none() {
                    self.store.source_error(&walked.path, &LEFT_OUT);
                    // So that the next run tells it, too.
                    entry.racy = true;
                }
                return Ok(Some(entry));
            }
        }
        self.store.source_error(&walked.path, &"it kept changing while it was read");
        Ok(None)
    }

    /// Opens a file. The first attempt trusts what the walk saw; reading ends with a look whether it still holds.
    fn open<'w>(&mut self, walked: &'w Walked, attempt: usize) -> std::result::Result<OpenFile<'w>, Errno> {
        let file = self.store.opener.open(walked)?;
        let status = if attempt == 1 { walked.status } else { status_of(&file)? };
        let all_xattrs = match xattrs_of(&file) {
            Err(Errno::TOOBIG) => None,
            read => Some(read?),
        };
        Ok(OpenFile { path: &walked.path, file, status, all_xattrs })
    }

    fn not_read(&mut self, walked: &Walked, errno: Errno) -> Option<CachedEntry> {
        match errno {
            Errno::NOENT if walked.root.is_source(&walked.path) => {
                self.store.source_error(&walked.path, &SOURCE_GONE);
            }
            Errno::NOENT => self.store.note(&walked.path, "vanished while it was read"),
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
                self.store.source_error(&walked.path, &REPLACED);
            }
            other => self.store.source_error(&walked.path, &std::io::Error::from(other)),
        }
        None
    }

    /// An entry that shows the same content without reading it: another name of the inode, or its old name.
    ///
    /// Names of one file within one run are no exception where inode numbers do not last: programs behind FUSE pass on
    /// those of several disks, and there two files of one number may have been linked in the same moment.
    fn find_known(&mut self, walked: &Walked) -> Result<Option<CachedEntry>> {
        let status = &walked.status;
        if status.links > 1
            && let Some(known) = self.store.cache()?.find_link(status.device, status.inode)
            && is_same_content(status, &known)
        {
            return Ok(self.store.has_stable_inode(walked).then_some(known));
        }
        let Some(parent) = &self.parent else { return Ok(None) };
        match parent.find_inode(status.device, status.inode).filter(|known| is_same_content(status, known)) {
            Some(known) if self.store.has_stable_inode(walked) => self.renumber(known).map(Some),
            _ => Ok(None),
        }
    }

    /// True if a name of the same file that came before has other content: it changed between the two.
    fn differs_from_other_name(&mut self, walked: &Walked, entry: &CachedEntry) -> Result<bool> {
        let meta = &entry.entry.meta;
        let Some(links) = meta.links else { return Ok(false) };
        let other = self.store.cache()?.find_link(links.device, meta.inode);
        let differs = other.is_some_and(|other| digest_of(&other.entry) != digest_of(&entry.entry));
        Ok(differs && self.store.has_stable_inode(walked))
    }

    /// An entry that stores nothing: its content is where another entry's is.
    pub(super) fn point_at(&self, path: &[u8], status: &Status, known: CachedEntry) -> CachedEntry {
        let Entry { path: known_path, kind, meta: known_meta, xattrs } = known.entry;
        let meta = meta(status);
        let kind = match kind {
            Kind::File(content) => {
                let record_path = content.was.unwrap_or(known_path);
                let stamp = |m: &crate::format::entry::Meta| (m.mode, m.uid, m.gid, m.mtime.seconds);
                let restamp = content.restamp || stamp(&meta) != stamp(&known_meta);
                let was = (record_path != path).then_some(record_path);
                Kind::File(Content { was, restamp, ..content })
            }
            other => other,
        };
        let entry = Entry { path: path.to_vec(), kind, meta, xattrs };
        self.cached(entry, status)
    }

    fn cached(&self, entry: Entry, status: &Status) -> CachedEntry {
        CachedEntry { entry, device: status.device, racy: is_racy(status, self.start), changed: true }
    }

    /// The outer error is the source's; `None` means that the file is no longer as long as it was.
    fn read_file(
        &mut self,
        opened: &OpenFile<'_>,
        old: Option<&CachedEntry>,
    ) -> std::result::Result<Result<Option<CachedEntry>>, Errno> {
        let size = opened.status.size;
        if size > FILE_MAX {
            // One hole, as nothing else is so long. No page may tell of it, and its zeros would be hashed for years.
            return Err(Errno::FBIG);
        }
        let segments = if may_have_holes(&opened.status) { segments_of(&opened.file, size)? } else { None };
        if is_large(size) || segments.is_some() {
            return self.read_large(opened, segments, old);
        }
        self.read_small(opened)
    }

    fn read_small(
        &mut self,
        opened: &OpenFile<'_>,
    ) -> std::result::Result<Result<Option<CachedEntry>>, Errno> {
        let size = usize::try_from(opened.status.size).unwrap_or(usize::MAX);
        let mut content = std::mem::take(&mut self.store.scratch);
        content.resize(size.max(content.len()), 0);
        let read = read_full(&opened.file, &mut content[..size], 0);
        let stored = match read {
            Ok(len) if len == size => self.store_small(&opened.seen(), &content[..size]).map(Some),
            Ok(_) => Ok(None),
            Err(errno) => {
                self.store.scratch = content;
                return Err(errno);
            }
        };
        self.store.scratch = content;
        Ok(stored)
    }

    fn store_small(&mut self, seen: &Seen<'_>, content: &[u8]) -> Result<CachedEntry> {
        let digest = Digest(*blake3::hash(content).as_bytes());
        if let Some(known) = self.find_content(&digest, seen)? {
            return Ok(self.point_at(seen.path, seen.status, known));
        }
        let meta = meta(seen.status);
        let place = self.store.put_record(seen.path, &meta, seen.xattrs, content)?;
        let data = Data::Record(place);
        Ok(self.file_entry(seen, digest, data))
    }

    /// The entry of a file whose content was stored just now.
    pub(super) fn file_entry(&self, seen: &Seen<'_>, digest: Digest, data: Data) -> CachedEntry {
        let content = Content { size: seen.status.size, digest, data, was: None, restamp: false };
        let entry = Entry {
            path: seen.path.to_vec(),
            kind: Kind::File(content),
            meta: meta(seen.status),
            xattrs: seen.xattrs.to_vec(),
        };
        self.cached(entry, seen.status)
    }

    /// An entry whose record this file can share. Empty files are not worth it.
    pub(super) fn find_content(&mut self, digest: &Digest, seen: &Seen<'_>) -> Result<Option<CachedEntry>> {
        if seen.status.size == 0 {
            return Ok(None);
        }
        let fits =
            |found: &CachedEntry| found.entry.xattrs == seen.xattrs && found.entry.size() == seen.status.size;
        if let Some(found) = self.store.cache()?.find_content(digest).filter(fits) {
            return Ok(Some(found));
        }
        match self.parent.as_ref().and_then(|parent| parent.find_content(digest)).filter(fits) {
            Some(found) => self.renumber(found).map(Some),
            None => Ok(None),
        }
    }

    fn read_special(&mut self, walked: &Walked, old: Option<&CachedEntry>) -> Result<Option<CachedEntry>> {
        let kind = match self.special_kind(walked) {
            Ok(Some(kind)) => kind,
            Ok(None) => return Ok(None),
            Err(errno) => return Ok(self.not_read(walked, errno)),
        };
        let xattrs = match self.special_xattrs(walked) {
            Ok(xattrs) => xattrs,
            Err(errno) => return Ok(self.not_read(walked, errno)),
        };
        let is_complete = xattrs.is_some();
        let xattrs = xattrs.unwrap_or_default();
        let mut entry = Entry { path: walked.path.clone(), kind, meta: meta(&walked.status), xattrs };
        match old.filter(|old| is_same_but_for_place(&entry, &old.entry)) {
            Some(old) if !self.parent.as_ref().is_some_and(|parent| parent.must_reread(&old.entry)) => {
                entry = self.renumber(old.clone())?.entry;
            }
            _ => {
                let Some(body) = Body::special(&entry.kind) else { return Ok(None) };
                let place = self.store.put_special(&entry.path, &entry.meta, &entry.xattrs, body)?;
                entry.kind.set_place(place);
            }
        }
        let mut cached = self.cached(entry, &walked.status);
        // The next run looks again, or tells again.
        cached.racy |= !is_complete;
        Ok(Some(cached))
    }

    /// The attributes of an entry that is no file; `None` if they cannot be had, which has been told then.
    fn special_xattrs(&mut self, walked: &Walked) -> std::result::Result<Option<Vec<Xattr>>, Errno> {
        let reason = match self.store.opener.xattrs(walked) {
            Ok(xattrs) => return Ok(Some(xattrs)),
            Err(Errno::TOOBIG) => LEFT_OUT.to_owned(),
            Err(errno) => match self.store.opener.gone(walked) {
                Some(gone) => return Err(gone),
                None => format!("its attributes cannot be read: {}", std::io::Error::from(errno)),
            },
        };
        self.store.source_error(&walked.path, &reason);
        Ok(None)
    }

    /// The kind of an entry that is no file, with a place that means nothing yet.
    fn special_kind(&mut self, walked: &Walked) -> std::result::Result<Option<Kind>, Errno> {
        let nowhere = Place { blob: 0, offset: 0 };
        let (major, minor) = (rustix::fs::major(walked.status.rdev), rustix::fs::minor(walked.status.rdev));
        Ok(match walked.status.kind {
            FileType::Directory => Some(Kind::Dir(nowhere)),
            FileType::Symlink => Some(Kind::Symlink(nowhere, self.store.opener.read_link(walked)?)),
            FileType::Fifo => Some(Kind::Fifo(nowhere)),
            FileType::CharacterDevice => Some(Kind::Char(nowhere, major, minor)),
            FileType::BlockDevice => Some(Kind::Block(nowhere, major, minor)),
            _ => {
                self.store.source_error(&walked.path, &"it is of an unknown type");
                None
            }
        })
    }
}

/// The errno of a file that something else took the place of before it was opened: reading that fails in many ways.
fn replaced(opened: &OwnedFd) -> Option<Errno> {
    let is_other = status_of(opened).is_ok_and(|status| status.kind != FileType::RegularFile);
    is_other.then_some(Errno::LOOP)
}

fn digest_of(entry: &Entry) -> Option<Digest> {
    match &entry.kind {
        Kind::File(content) => Some(content.digest),
        _ => None,
    }
}

pub(super) fn is_as_it_was(before: &Status, after: &Status) -> bool {
    let identity = |s: &Status| (s.kind, s.device, s.inode, s.size, s.mtime, s.ctime);
    identity(before) == identity(after)
}

fn is_same_but_for_place(new: &Entry, old: &Entry) -> bool {
    let mut moved = new.clone();
    if let Some(place) = old.place() {
        moved.kind.set_place(place);
    }
    moved == *old
}
