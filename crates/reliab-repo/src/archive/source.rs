//! Reading the source: files opened below their root without following links, attributes, link targets.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::format::entry::Xattr;
use crate::walk::{Root, Status, Walked, open_beneath, raw_stat};

/// Opens entries; keeps the folder of the last one open.
#[derive(Default)]
pub(super) struct Opener {
    folder: Option<OpenFolder>,
    no_atime: AtimeMode,
}

/// Whether reading may leave access times alone.
#[derive(Clone, Copy, Default, PartialEq)]
enum AtimeMode {
    #[default]
    Keep,
    /// The kernel refused: the files are somebody else's.
    Touch,
}

struct OpenFolder {
    root: Arc<Root>,
    below: Vec<u8>,
    fd: OwnedFd,
}

impl Opener {
    /// Opens a file for reading. Never blocks on a pipe that took its place.
    pub(super) fn open(&mut self, walked: &Walked) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.no_atime == AtimeMode::Keep {
            match self.open_with(walked, flags | OFlags::NOATIME) {
                Err(Errno::PERM) => self.no_atime = AtimeMode::Touch,
                other => return other,
            }
        }
        self.open_with(walked, flags)
    }

    fn open_with(&mut self, walked: &Walked, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.locate(walked)?;
        rustix::fs::openat(folder, name.as_c_str(), flags, Mode::empty())
    }

    /// The open folder of an entry, and its name in it.
    fn locate<'a>(&'a mut self, walked: &'a Walked) -> Result<(&'a OwnedFd, CString), Errno> {
        let root = &walked.root;
        let path = path_from_parent(walked);
        let (below, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if below.is_empty() {
            return Ok((&root.parent, name));
        }
        let is_same = |open: &OpenFolder| Arc::ptr_eq(&open.root, root) && open.below == below;
        if !self.folder.as_ref().is_some_and(is_same) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = open_beneath(&root.parent, below, flags)?;
            self.folder = Some(OpenFolder { root: Arc::clone(root), below: below.to_vec(), fd });
        }
        match &self.folder {
            Some(open) => Ok((&open.fd, name)),
            None => Err(Errno::NOENT),
        }
    }

    /// The target of a symbolic link.
    pub(super) fn read_link(&mut self, walked: &Walked) -> Result<Vec<u8>, Errno> {
        let (folder, name) = self.locate(walked)?;
        Ok(rustix::fs::readlinkat(folder, name.as_c_str(), Vec::new())?.into_bytes())
    }

    /// The type of the file system that an entry lies on (`f_type`, statfs(2)).
    pub(super) fn file_system(&mut self, walked: &Walked) -> Result<u32, Errno> {
        let file = self.open_with(walked, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        if status_of(&file)?.device != walked.status.device {
            return Err(Errno::XDEV);
        }
        // All types that there are fit 32 bits; the field differs between architectures, and so may what stands above them.
        let kind = i128::from(rustix::fs::fstatfs(&file)?.f_type) & i128::from(u32::MAX);
        u32::try_from(kind).map_err(|_| Errno::OVERFLOW)
    }

    /// The error that looking at an entry again gives, if it does.
    pub(super) fn gone(&mut self, walked: &Walked) -> Option<Errno> {
        let (folder, name) = match self.locate(walked) {
            Ok(located) => located,
            Err(errno) => return Some(errno),
        };
        raw_stat(folder, name.as_bytes()).err()
    }

    /// Extended attributes of an entry that is not opened for reading.
    pub(super) fn xattrs(&mut self, walked: &Walked) -> Result<Vec<Xattr>, Errno> {
        let (folder, name) = self.locate(walked)?;
        xattrs_in(folder, name.as_bytes())
    }
}

/// Extended attributes of a name in a folder; of a link its own.
fn xattrs_in(folder: &OwnedFd, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    // There is no llistxattrat(); /proc gives a path that cannot be redirected.
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let list = |buf: &mut [u8]| rustix::fs::llistxattr(&path[..], buf);
    let get = |name: &[u8], buf: &mut [u8]| rustix::fs::lgetxattr(&path[..], name, buf);
    read_xattrs(list, get)
}

/// Extended attributes of a path below a folder.
pub(crate) fn xattrs_at(folder: &OwnedFd, path: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let (parent, name) = parent_of(folder, path)?;
    xattrs_in(&parent, name)
}

/// Target of a symbolic link below a folder.
pub(crate) fn link_target(folder: &OwnedFd, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let (parent, name) = parent_of(folder, path)?;
    Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
}

fn parent_of<'p>(folder: &OwnedFd, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => Ok((open_beneath(folder, &path[..slash], flags)?, &path[slash + 1..])),
        None => Ok((open_beneath(folder, b".", flags)?, path)),
    }
}

/// The path of an entry from the folder that holds its root; empty for a root that has no name.
fn path_from_parent(walked: &Walked) -> Vec<u8> {
    let root = &walked.root;
    let below = if root.path == b"." {
        if walked.path == b"." { &b""[..] } else { &walked.path[..] }
    } else {
        walked.path.get(root.path.len() + 1..).unwrap_or_default()
    };
    let parts = [&root.name[..], below];
    let path = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(&b'/');
    if path.is_empty() { b".".to_vec() } else { path }
}

/// Status of an open file.
pub(super) fn status_of(file: impl AsFd) -> Result<Status, Errno> {
    rustix::fs::fstat(file).map(|stat| Status::new(&stat))
}

/// Extended attributes of an open file.
pub(crate) fn xattrs_of(file: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    let list = |buf: &mut [u8]| rustix::fs::flistxattr(file, buf);
    let get = |name: &[u8], buf: &mut [u8]| rustix::fs::fgetxattr(file, name, buf);
    read_xattrs(list, get)
}

/// The kernel's limits: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` (xattr(7)).
const XATTR_MAX: usize = 65_536;

/// Bytes of attributes of one entry that are stored; its record must fit a bundle.
const XATTRS_MAX: usize = 4 << 20;

/// `TOOBIG` if they are more than can be stored, or more names than the kernel lists.
fn read_xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let mut small = [0; 256];
    let names = match list(&mut small) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(len) => small[..len].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_MAX];
            let len = list(&mut large)?;
            large.truncate(len);
            large
        }
        Err(other) => return Err(other),
    };
    let mut xattrs = Vec::new();
    let mut value = vec![0; XATTR_MAX];
    let mut total = 0;
    for name in names.split(|&b| b == 0).filter(|name| is_kept(name)) {
        match get(name, &mut value) {
            Ok(len) => {
                total += name.len() + len;
                if total > XATTRS_MAX {
                    return Err(Errno::TOOBIG);
                }
                xattrs.push((name.to_vec(), value[..len].to_vec()));
            }
            // It went between the two calls; ctime has moved, so the next run looks again.
            Err(Errno::NODATA) => {}
            Err(other) => return Err(other),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Labels of a security module belong to the machine's policy, not to the data.
fn is_kept(name: &[u8]) -> bool {
    !name.is_empty() && name != b"security.selinux"
}

/// Data segments of an open file of `size` bytes; `None` if it has no holes (lseek(2), `SEEK_DATA`).
pub(super) fn segments_of(file: &OwnedFd, size: u64) -> Result<Option<Vec<(u64, u64)>>, Errno> {
    use rustix::fs::SeekFrom::{Data, Hole};
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, Data(at)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            // The file system does not know about holes.
            Err(Errno::INVAL) => return Ok(None),
            Err(other) => return Err(other),
        };
        let end = rustix::fs::seek(file, Hole(start)).unwrap_or(size).min(size);
        if start < end {
            push_segment(&mut segments, start, end);
        }
        at = end.max(start + 1);
    }
    let whole = segments == [(0, size)] || size == 0;
    Ok((!whole).then_some(segments))
}

/// Data segments of one file that are told apart: their list has to fit its head.
const SEGMENTS_MAX: usize = 1 << 20;

/// Adds a segment; when there are too many, the hole before it is stored as zeros.
fn push_segment(segments: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    let full = segments.len() >= SEGMENTS_MAX;
    match segments.last_mut().filter(|_| full) {
        Some((last, len)) => *len = end - *last,
        None => segments.push((start, end - start)),
    }
}

/// True if a status may be that of a file with holes.
pub(super) fn may_have_holes(status: &Status) -> bool {
    status.kind == FileType::RegularFile && status.blocks.saturating_mul(512) < status.size
}

/// Reads at an offset until the buffer is full or the file ends; gives the length read.
pub(super) fn read_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attributes of these lengths, and how many of them were asked for.
    fn read(lens: &[usize]) -> (Result<Vec<Xattr>, Errno>, usize) {
        let names: Vec<u8> =
            (0..lens.len()).flat_map(|number| format!("user.{number:04}\0").into_bytes()).collect();
        let asked = std::cell::Cell::new(0);
        let list = |buffer: &mut [u8]| {
            let to = buffer.get_mut(..names.len()).ok_or(Errno::RANGE)?;
            to.copy_from_slice(&names);
            Ok(names.len())
        };
        let get = |_: &[u8], buffer: &mut [u8]| {
            let len = lens[asked.get()];
            asked.set(asked.get() + 1);
            buffer[..len].fill(7);
            Ok(len)
        };
        (read_xattrs(list, get), asked.get())
    }

    #[test]
    fn attributes_are_read_to_what_a_record_takes_and_no_further() {
        let lens: Vec<usize> = (0..60).map(|number| number * 1000).collect();
        let xattrs = read(&lens).0.unwrap();
        assert!(xattrs.iter().map(|(_, value)| value.len()).eq(lens));
        assert!(
            xattrs.iter().all(|(_, value)| value.iter().all(|&byte| byte == 7) && value.capacity() < 60_000)
        );
        // 9 MiB.
        let (refused, asked) = read(&[65_536; 144]);
        assert_eq!((refused, asked), (Err(Errno::TOOBIG), 64));
        assert_eq!(read(&[]).0, Ok(Vec::new()));
    }
}
