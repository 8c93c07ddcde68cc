//! Opening directories, and telling where they are mounted.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// A path longer than this is opened step by step (`PATH_MAX` is 4096).
const PATH_STEP: usize = 2000;

/// Where a directory is mounted: the number of the mount, where the kernel tells it, and the device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Mount(u64),
    Device(u32, u32),
}

impl Place {
    /// The place of a directory of this status.
    pub fn of(status: &Statx) -> Self {
        if status.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            Self::Mount(status.stx_mnt_id)
        } else {
            Self::Device(status.stx_dev_major, status.stx_dev_minor)
        }
    }
}

/// Opens a directory, whatever the length of its path.
pub(super) fn open(path: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    if path.len() <= PATH_STEP {
        return openat(CWD, path, flags, Mode::empty());
    }
    let mut rest = path;
    let mut fd: Option<OwnedFd> = None;
    while rest.len() > PATH_STEP {
        let end = rest[..PATH_STEP].iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let step = CString::new(&rest[..=end]).map_err(|_| Errno::INVAL)?;
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fd = Some(match &fd {
            Some(fd) => openat(fd, &step, way, Mode::empty())?,
            None => openat(CWD, &step, way, Mode::empty())?,
        });
        rest = &rest[end + 1..];
    }
    match &fd {
        Some(fd) => openat(fd, rest, flags, Mode::empty()),
        None => openat(CWD, rest, flags, Mode::empty()),
    }
}

/// What the walk must know of an open directory.
pub(super) fn directory_status(fd: &OwnedFd) -> Result<Statx, Errno> {
    let wanted = StatxFlags::BLOCKS | StatxFlags::MNT_ID;
    statx(fd, c"", AtFlags::EMPTY_PATH, wanted)
}

/// Where a directory in another is mounted, without mounting what waits to be used; `None` if it cannot be told.
pub(super) fn place_of(above: &OwnedFd, name: &CStr) -> Option<Place> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(above, name, flags, StatxFlags::MNT_ID).ok().map(|status| Place::of(&status))
}
