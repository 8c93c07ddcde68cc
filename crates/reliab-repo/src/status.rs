//! What `lstat` says, compared with what it said last time.

use rustix::fs::FileType;

use crate::cache::CachedEntry;
use crate::format::entry::{Entry, Kind, Links, Meta, Stamp};
use crate::walk::{Status, Walked};

/// What must be equal for an entry to count as unchanged.
#[derive(PartialEq, Eq)]
struct Identity {
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: Stamp,
    ctime: Stamp,
    inode: u64,
    rdev: u64,
    /// Names and device; the device counts only where names tie entries together, since it changes between mounts.
    links: Option<(u64, u64)>,
}

fn identity_of_status(status: &Status) -> Identity {
    let is_file = status.kind == FileType::RegularFile;
    let is_device = matches!(status.kind, FileType::CharacterDevice | FileType::BlockDevice);
    let links = links(status).map(|links| (links.count, links.device));
    Identity {
        kind: kind_number(status.kind),
        mode: status.mode,
        uid: status.uid,
        gid: status.gid,
        size: if is_file { status.size } else { 0 },
        mtime: status.mtime,
        ctime: status.ctime,
        inode: status.inode,
        rdev: if is_device { status.rdev } else { 0 },
        links,
    }
}

fn identity_of_entry(entry: &Entry) -> Identity {
    let meta = &entry.meta;
    let (kind, size, rdev) = match &entry.kind {
        Kind::File(content) => (0, content.size, 0),
        Kind::Dir(_) => (1, 0, 0),
        Kind::Symlink(..) => (2, 0, 0),
        Kind::Fifo(_) => (3, 0, 0),
        Kind::Char(_, major, minor) => (4, 0, rustix::fs::makedev(*major, *minor)),
        Kind::Block(_, major, minor) => (5, 0, rustix::fs::makedev(*major, *minor)),
    };
    Identity {
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        size,
        mtime: meta.mtime,
        ctime: meta.ctime,
        inode: meta.inode,
        rdev,
        links: meta.links.map(|links| (links.count, links.device)),
    }
}

fn kind_number(kind: FileType) -> u8 {
    match kind {
        FileType::RegularFile => 0,
        FileType::Directory => 1,
        FileType::Symlink => 2,
        FileType::Fifo => 3,
        FileType::CharacterDevice => 4,
        FileType::BlockDevice => 5,
        _ => 6,
    }
}

/// Appends what identifies an entry of the source to a block's fingerprint.
pub fn fingerprint_of_walked(out: &mut Vec<u8>, walked: &Walked) {
    append(out, &walked.path, &identity_of_status(&walked.status));
}

/// Appends what identifies an entry of the cache to a block's fingerprint.
pub fn fingerprint_of_cached(out: &mut Vec<u8>, cached: &CachedEntry) {
    append(out, &cached.entry.path, &identity_of_entry(&cached.entry));
}

fn append(out: &mut Vec<u8>, path: &[u8], id: &Identity) {
    out.extend_from_slice(&(path.len() as u64).to_le_bytes());
    out.extend_from_slice(path);
    out.push(id.kind);
    for number in [id.mode, id.uid, id.gid, id.mtime.nanos, id.ctime.nanos] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let (count, device) = id.links.unwrap_or_default();
    for number in [id.size, id.inode, id.rdev, count, device] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [id.mtime.seconds, id.ctime.seconds] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// True if nothing says that the entry changed since it was read.
///
/// It compares one path with itself, as every tool does, and needs no inode numbers that last: where they come anew with
/// each mount (FUSE, CIFS, FAT) a file that is no longer the same one differs in them, so after a mount all is read again.
/// What stays unseen there is a change that keeps size, inode and mtime, where ctime is no more than a copy of mtime.
pub fn is_unchanged(status: &Status, cached: &CachedEntry) -> bool {
    !cached.racy && identity_of_status(status) == identity_of_entry(&cached.entry)
}

/// True if two readings of one file show the same content: same inode, size and times.
///
/// Here names differ, so it must be the same file: whole seconds are shared by too many, such as all files of an image.
/// The caller makes sure that the file system's inode numbers last.
pub fn is_same_content(status: &Status, cached: &CachedEntry) -> bool {
    let meta = &cached.entry.meta;
    !cached.racy
        && status.kind == FileType::RegularFile
        && matches!(cached.entry.kind, Kind::File(_))
        && cached.entry.size() == status.size
        && (meta.inode, cached.device) == (status.inode, status.device)
        && (meta.mtime, meta.ctime) == (status.mtime, status.ctime)
        && status.ctime.nanos != 0
}

/// The hard-link group of an entry, if it has more than one name.
pub fn links(status: &Status) -> Option<Links> {
    let linked = status.kind != FileType::Directory && status.links > 1;
    linked.then_some(Links { count: status.links, device: status.device })
}

/// What an entry takes over from `lstat`.
pub fn meta(status: &Status) -> Meta {
    Meta {
        mode: status.mode,
        uid: status.uid,
        gid: status.gid,
        mtime: status.mtime,
        ctime: status.ctime,
        inode: status.inode,
        links: links(status),
    }
}

/// True if the entry changed so shortly before `start` that a later change could leave its times as they are.
///
/// Time stamps advance by the kernel's tick (10 ms at most); on file systems that keep whole seconds, by up to two. An
/// mtime far in the future was set by hand and says nothing; ctime cannot be set.
pub fn is_racy(status: &Status, start: Stamp) -> bool {
    is_racy_meta(&meta(status), start)
}

/// The same, of what an entry says.
pub fn is_racy_meta(status: &Meta, start: Stamp) -> bool {
    let whole_seconds = status.mtime.nanos == 0 && status.ctime.nanos == 0;
    let margin = if whole_seconds { 2_000_000_000 } else { 20_000_000 };
    let earliest = nanos(start) - margin;
    let mtime = nanos(status.mtime);
    nanos(status.ctime) >= earliest || (mtime >= earliest && mtime < earliest + DAY)
}

const DAY: i128 = 86_400 * 1_000_000_000;

fn nanos(stamp: Stamp) -> i128 {
    i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(seconds: i64, nanos: u32) -> Status {
        let time = Stamp { seconds, nanos };
        Status {
            kind: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 1,
            blocks: 8,
            mtime: time,
            ctime: time,
            inode: 1,
            device: 1,
            links: 1,
            rdev: 0,
        }
    }

    #[test]
    fn a_change_within_the_clocks_granularity_of_the_start_is_racy() {
        let start = Stamp { seconds: 100, nanos: 500_000_000 };
        let check = |seconds, nanos, racy| {
            assert_eq!(is_racy(&status(seconds, nanos), start), racy, "{seconds}.{nanos}");
        };
        check(100, 490_000_000, true);
        check(100, 470_000_000, false);
        check(101, 0, true);
        check(99, 0, true);
        check(98, 0, false);
    }
}
