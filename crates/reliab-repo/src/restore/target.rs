//! The folder that is restored into: nothing is written outside it, whatever a repository holds.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags, renameat_with,
};
use rustix::io::Errno;

use super::held::Held;
use super::temporary::TemporaryNames;
use crate::archive::xattrs_of;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Kind, Meta, Xattr};
use crate::id::Digest;
use crate::walk::{Status, open_beneath, raw_stat};

/// A folder opened once; all paths are resolved beneath it, following no links.
pub(super) struct Target {
    root: OwnedFd,
    /// Owner that new files get by themselves; only there nothing need be said.
    born: Option<(u32, u32)>,
    umask: u32,
    privileged: bool,
    pub(super) owners_skipped: AtomicBool,
    /// Attributes that this user may not set were left out.
    pub(super) xattrs_skipped: AtomicBool,
    pub(super) names: TemporaryNames,
    /// No other restore can be writing into it.
    pub(super) is_locked: bool,
}

/// Which file something is: device and inode.
pub(super) type Inode = (u64, u64);

/// Which file is open.
pub(super) fn inode_of(file: &OwnedFd) -> std::result::Result<Inode, Errno> {
    let status = Status::new(&rustix::fs::fstat(file)?);
    Ok((status.device, status.inode))
}

/// What becomes of what stands at a path that gets a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It stays, and the new file is refused.
    New,
    /// The new file takes its place.
    Replace,
}

/// Attributes of one entry that the target did not take, and why.
pub(super) type Refused = Vec<(Vec<u8>, Errno)>;

/// A folder of the target that was used last.
#[derive(Default)]
pub(super) struct Parent {
    path: Vec<u8>,
    fd: Option<Arc<OwnedFd>>,
}

impl Target {
    /// The target at a path; `fresh` if it was empty, so that new files there get what the probe shows.
    pub(super) fn open(held: &Held, path: &Path, fresh: bool) -> Result<Self> {
        let root = held.folder.try_clone().map_err(Error::local("open", path))?;
        let names = TemporaryNames::new();
        let probed = probe(&root, &names).map_err(|errno| Error::local("open", path)(errno.into()));
        let (status, plain) = probed?;
        Ok(Self {
            names,
            is_locked: held.is_locked,
            root,
            born: (fresh && plain).then_some((status.uid, status.gid)),
            umask: if plain { 0o777 & !status.mode } else { 0o777 },
            privileged: rustix::process::geteuid().is_root(),
            owners_skipped: AtomicBool::new(false),
            xattrs_skipped: AtomicBool::new(false),
        })
    }

    /// The folder an entry stands in, and its name there; missing folders above it are made.
    pub(super) fn locate(
        &self,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<(Arc<OwnedFd>, CString), Errno> {
        let (folder, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if let Some(fd) = last.fd.as_ref().filter(|_| last.path == folder) {
            return Ok((Arc::clone(fd), name));
        }
        let fd = Arc::new(self.open_folder(folder)?);
        *last = Parent { path: folder.to_vec(), fd: Some(Arc::clone(&fd)) };
        Ok((fd, name))
    }

    fn open_folder(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open_beneath(&self.root, path, flags) {
            Err(Errno::NOENT) => {
                self.make_missing(path)?;
                open_beneath(&self.root, path, flags)
            }
            other => other,
        }
    }

    /// Folders above a restored path that the snapshot does not hold.
    fn make_missing(&self, path: &[u8]) -> std::result::Result<(), Errno> {
        let (folder, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (self.open_folder(&path[..slash])?, &path[slash + 1..]),
            None => (open_beneath(&self.root, b".", OFlags::PATH | OFlags::CLOEXEC)?, path),
        };
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Creates a file that is not there. One that gets attributes must be writable until it has them.
    pub(super) fn create(
        &self,
        path: &[u8],
        entry: &Entry,
        last: &mut Parent,
    ) -> std::result::Result<OwnedFd, Errno> {
        let (folder, name) = self.locate(path, last)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = if entry.xattrs.is_empty() { entry.meta.mode & 0o777 } else { 0o600 };
        rustix::fs::openat(&folder, name.as_c_str(), flags, Mode::from_raw_mode(mode))
    }

    /// Removes a file that was made at a path if it did not become what it should be.
    ///
    /// What cannot be removed is left: the error that is told is the first.
    pub(super) fn whole_or_gone<T>(
        &self,
        made: std::result::Result<T, Errno>,
        file: &OwnedFd,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<T, Errno> {
        if made.is_err() {
            inode_of(file).and_then(|inode| self.remove_made(path, inode, last)).unwrap_or(());
        }
        made
    }

    /// Removes what was made at a path, unless something else stands there by now.
    pub(super) fn remove_made(
        &self,
        path: &[u8],
        made: Inode,
        last: &mut Parent,
    ) -> std::result::Result<(), Errno> {
        if self.inode_at(path, last)? == Some(made) { self.remove(path, last) } else { Ok(()) }
    }

    /// Gives what was made under a temporary name its own, or removes it.
    ///
    /// What another program has put there meanwhile is neither named nor removed (`STALE`).
    pub(super) fn name(
        &self,
        temporary: &[u8],
        made: Inode,
        path: &[u8],
        naming: Naming,
        last: &mut Parent,
    ) -> std::result::Result<(), Errno> {
        if self.inode_at(temporary, last)? != Some(made) {
            return Err(Errno::STALE);
        }
        let named = match naming {
            Naming::New => self.rename_new(temporary, path, last),
            Naming::Replace => self.replace(temporary, path, last),
        };
        if named.is_err() {
            self.remove_made(temporary, made, last).unwrap_or(());
        }
        named
    }

    fn replace(&self, temporary: &[u8], path: &[u8], last: &mut Parent) -> std::result::Result<(), Errno> {
        if self.kind_of(path, last)? == Some(FileType::Directory) {
            // Fails unless it is empty: what is in a folder is never removed for a file.
            self.remove(path, last)?;
        }
        let (folder, from) = self.locate(temporary, last)?;
        let (_, to) = self.locate(path, last)?;
        rustix::fs::renameat(&folder, from.as_c_str(), &folder, to.as_c_str())
    }

    fn rename_new(&self, temporary: &[u8], path: &[u8], last: &mut Parent) -> std::result::Result<(), Errno> {
        let (folder, from) = self.locate(temporary, last)?;
        let (_, to) = self.locate(path, last)?;
        match renameat_with(&folder, from.as_c_str(), &folder, to.as_c_str(), RenameFlags::NOREPLACE) {
            // Not every file system can promise it.
            Err(Errno::INVAL | Errno::NOSYS) if self.kind_of(path, last)?.is_none() => {
                rustix::fs::renameat(&folder, from.as_c_str(), &folder, to.as_c_str())
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST),
            other => other,
        }
    }

    /// Gives an open file that was just created its owner, mode, attributes and times, in this order.
    pub(super) fn stamp_new(
        &self,
        file: &OwnedFd,
        meta: &Meta,
        xattrs: &[Xattr],
    ) -> std::result::Result<Refused, Errno> {
        let mut refused = Refused::new();
        let mut mode = self.mode(meta);
        if self.born != Some((meta.uid, meta.gid)) && self.may_own(meta) {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            if !taken("owner", rustix::fs::fchown(file, Some(uid), Some(gid)), &mut refused)? {
                mode = mode.difference(SET_ID);
            }
        }
        if self.born.is_none() {
            let list = |names: &mut [u8]| rustix::fs::flistxattr(file, names);
            refused.extend(drop_all(others(xattrs, list)?, |name| rustix::fs::fremovexattr(file, name))?);
        }
        refused.extend(self.set_xattrs(xattrs, |name, value| {
            rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
        })?);
        let needs_mode = meta.mode & (self.umask | 0o7000) != 0 || self.born.is_none() || !xattrs.is_empty();
        if needs_mode {
            taken("mode", rustix::fs::fchmod(file, mode), &mut refused)?;
        }
        taken("mtime", rustix::fs::futimens(file, &times(meta)), &mut refused)?;
        Ok(refused)
    }

    /// False, and noted, where the owner must be left as it is.
    fn may_own(&self, meta: &Meta) -> bool {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if !self.privileged && own != (meta.uid, meta.gid) {
            self.owners_skipped.store(true, Ordering::Relaxed);
        }
        self.privileged
    }

    /// The mode; without the owner, set-id bits would lend rights to the wrong user.
    fn mode(&self, meta: &Meta) -> Mode {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let keeps = self.privileged || own == (meta.uid, meta.gid);
        Mode::from_raw_mode(if keeps { meta.mode } else { meta.mode & !0o6000 })
    }

    /// Sets attributes; gives those that were refused, less those that only root may set.
    fn set_xattrs(
        &self,
        xattrs: &[Xattr],
        set: impl Fn(&[u8], &[u8]) -> std::result::Result<(), Errno>,
    ) -> std::result::Result<Refused, Errno> {
        let mut refused = Refused::new();
        for (name, value) in xattrs {
            match set(name, value) {
                Err(Errno::PERM | Errno::ACCESS) if needs_root(name) && !self.privileged => {
                    self.xattrs_skipped.store(true, Ordering::Relaxed);
                }
                Err(errno) if costs_itself_alone(errno) => refused.push((name.clone(), errno)),
                other => other?,
            }
        }
        Ok(refused)
    }

    /// Makes a folder, open to us alone until it gets its own mode. One that exists is fine; false if it did.
    pub(super) fn make_dir(&self, path: &[u8], last: &mut Parent) -> std::result::Result<bool, Errno> {
        if path == b"." {
            return Ok(self.born.is_some());
        }
        let (folder, name) = self.locate(path, last)?;
        match rustix::fs::mkdirat(&folder, name.as_c_str(), Mode::RWXU) {
            Err(Errno::EXIST) if self.kind_of(path, last)? == Some(FileType::Directory) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// What stands at a path.
    pub(super) fn status(
        &self,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<Option<Status>, Errno> {
        let (folder, name) = self.locate(path, last)?;
        match raw_stat(&folder, name.as_bytes()) {
            Ok(stat) => Ok(Some(Status::new(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// True if a regular file stands at a path that is as a restore of this entry would make it, its time apart.
    ///
    /// What cannot be read counts as another file.
    pub(super) fn is_same_file(&self, path: &[u8], entry: &Entry) -> bool {
        let Kind::File(content) = &entry.kind else { return false };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = open_beneath(&self.root, path, flags) else { return false };
        let Ok(status) = rustix::fs::fstat(&file).map(|stat| Status::new(&stat)) else { return false };
        let meta = &entry.meta;
        let is_owned = !self.privileged || (status.uid, status.gid) == (meta.uid, meta.gid);
        if status.kind != FileType::RegularFile
            || status.size != content.size
            || status.mode != self.mode(meta).as_raw_mode()
            || !is_owned
        {
            return false;
        }
        // A restore by others could not set the rest.
        let counts = |name: &[u8]| self.privileged || !needs_root(name);
        let expected = entry.xattrs.iter().filter(|(name, _)| counts(name));
        let is_like =
            xattrs_of(&file).is_ok_and(|found| found.iter().filter(|(name, _)| counts(name)).eq(expected));
        if !is_like {
            return false;
        }
        let mut hasher = blake3::Hasher::new();
        let read = hasher.update_reader(std::fs::File::from(file)).is_ok();
        read && Digest(*hasher.finalize().as_bytes()) == content.digest
    }

    /// Which file stands at a path.
    pub(super) fn inode_at(
        &self,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<Option<Inode>, Errno> {
        Ok(self.status(path, last)?.map(|status| (status.device, status.inode)))
    }

    /// What a folder holds.
    pub(super) fn names_in(&self, folder: &[u8]) -> std::result::Result<Vec<Vec<u8>>, Errno> {
        let folder = open_beneath(&self.root, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        let names = rustix::fs::Dir::new(folder)?;
        names.map(|name| name.map(|name| name.file_name().to_bytes().to_vec())).collect()
    }

    pub(super) fn kind_of(
        &self,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<Option<FileType>, Errno> {
        Ok(self.status(path, last)?.map(|status| status.kind))
    }

    /// Removes what stands at a path; of folders only empty ones.
    pub(super) fn remove(&self, path: &[u8], last: &mut Parent) -> std::result::Result<(), Errno> {
        let flags = match self.kind_of(path, last)? {
            None => return Ok(()),
            Some(FileType::Directory) => AtFlags::REMOVEDIR,
            Some(_) => AtFlags::empty(),
        };
        let (folder, name) = self.locate(path, last)?;
        rustix::fs::unlinkat(&folder, name.as_c_str(), flags)
    }

    /// Creates a link, pipe or device at a path, with all that belongs to it.
    pub(super) fn make_special(
        &self,
        entry: &Entry,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<Refused, Errno> {
        let (folder, name) = self.locate(path, last)?;
        let mode = Mode::from_raw_mode(entry.meta.mode & 0o777);
        match &entry.kind {
            Kind::Symlink(_, target) => rustix::fs::symlinkat(&target[..], &folder, name.as_c_str())?,
            Kind::Fifo(_) => rustix::fs::mknodat(&folder, name.as_c_str(), FileType::Fifo, mode, 0)?,
            Kind::Char(_, major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(&folder, name.as_c_str(), FileType::CharacterDevice, mode, device)?;
            }
            Kind::Block(_, major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(&folder, name.as_c_str(), FileType::BlockDevice, mode, device)?;
            }
            Kind::File(_) | Kind::Dir(_) => {}
        }
        let stamped = self.stamp_path(entry, path, last);
        if stamped.is_err() {
            self.remove(path, last).unwrap_or(());
        }
        stamped
    }

    /// Gives what stands at a path an entry's owner, mode, attributes and times.
    pub(super) fn stamp_path(
        &self,
        entry: &Entry,
        path: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<Refused, Errno> {
        let (folder, name) = self.locate(path, last)?;
        let meta = &entry.meta;
        let mut refused = Refused::new();
        let mut mode = self.mode(meta);
        if self.may_own(meta) {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let owned = rustix::fs::chownat(&folder, name.as_c_str(), Some(uid), Some(gid), flags);
            if !taken("owner", owned, &mut refused)? {
                mode = mode.difference(SET_ID);
            }
        }
        let is_link = matches!(entry.kind, Kind::Symlink(..));
        // What was made where nothing was has no attributes yet; the top folder was there.
        let may_have_others = self.born.is_none() || path == b".";
        if may_have_others || !entry.xattrs.is_empty() {
            let mut path = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).into_bytes();
            path.extend_from_slice(name.as_bytes());
            let list = |names: &mut [u8]| rustix::fs::llistxattr(&path[..], names);
            let others = if may_have_others { others(&entry.xattrs, list)? } else { Vec::new() };
            if !(is_link || entry.xattrs.is_empty() && others.is_empty()) {
                // The kernel wants write permission for attributes, whoever has the file open.
                taken("mode", chmod_beneath(&folder, &name, Mode::RWXU), &mut refused)?;
            }
            refused.extend(drop_all(others, |name| rustix::fs::lremovexattr(&path[..], name))?);
            refused.extend(self.set_xattrs(&entry.xattrs, |name, value| {
                rustix::fs::lsetxattr(&path[..], name, value, XattrFlags::empty())
            })?);
        }
        if !is_link {
            taken("mode", chmod_beneath(&folder, &name, mode), &mut refused)?;
        }
        let timed = rustix::fs::utimensat(&folder, name.as_c_str(), &times(meta), AtFlags::SYMLINK_NOFOLLOW);
        taken("mtime", timed, &mut refused)?;
        Ok(refused)
    }

    /// Makes a second name of a file.
    pub(super) fn link(
        &self,
        first: &[u8],
        second: &[u8],
        last: &mut Parent,
    ) -> std::result::Result<(), Errno> {
        let (from, from_name) = self.locate(first, &mut Parent::default())?;
        let (to, to_name) = self.locate(second, last)?;
        rustix::fs::linkat(&from, from_name.as_c_str(), &to, to_name.as_c_str(), AtFlags::empty())
    }
}

/// True for attributes that only root may set.
fn needs_root(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

/// True if a refused attribute is no reason to leave out what it belongs to: content is worth more. A disk that is broken
/// is one, and a file that is not there any more.
///
/// A POSIX ACL of users that are not known here is `INVAL` (user namespaces), and ext4 says `NOSPC` of attributes that do
/// not fit its block: a disk that is full shows at the next write.
fn costs_itself_alone(errno: Errno) -> bool {
    !matches!(
        errno,
        Errno::IO | Errno::ROFS | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::STALE | Errno::BADF
    )
}

/// Attributes that a restore takes away where the snapshot has none of the name: whoever may read by an ACL that the
/// folder passed on (acl(5)) could not in the snapshot. Those of security modules are the machine's own.
fn is_droppable(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default" | b"security.capability")
}

/// True for what a security module writes beside each new file.
fn is_label(name: &[u8]) -> bool {
    name.starts_with(b"security.") && !is_droppable(name)
}

/// Attributes that are there, and that the snapshot does not have.
fn others(
    xattrs: &[Xattr],
    list: impl Fn(&mut [u8]) -> std::result::Result<usize, Errno>,
) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0; 512];
    let mut listed = list(&mut names);
    if listed == Err(Errno::RANGE) {
        names.resize(XATTR_LIST_MAX, 0);
        listed = list(&mut names);
    }
    let len = match listed {
        Ok(len) => len,
        // There are none, or nobody can see them.
        Err(errno) if costs_itself_alone(errno) => 0,
        Err(errno) => return Err(errno),
    };
    let is_other = |name: &&[u8]| is_droppable(name) && !xattrs.iter().any(|(known, _)| known == name);
    Ok(names[..len].split(|&b| b == 0).filter(is_other).map(<[u8]>::to_vec).collect())
}

/// Removes attributes; gives those that stay all the same.
fn drop_all(
    names: Vec<Vec<u8>>,
    remove: impl Fn(&[u8]) -> std::result::Result<(), Errno>,
) -> std::result::Result<Refused, Errno> {
    let mut refused = Refused::new();
    for name in names {
        match remove(&name) {
            Err(Errno::NODATA) => {}
            Err(errno) if costs_itself_alone(errno) => refused.push((name, errno)),
            other => other?,
        }
    }
    Ok(refused)
}

/// The most that the kernel lists (xattr(7)).
const XATTR_LIST_MAX: usize = 65_536;

/// Set-user-id and set-group-id, which lend rights to whoever runs the file.
const SET_ID: Mode = Mode::SUID.union(Mode::SGID);

/// False, and noted, if a file system does not take what others do: content is worth more than its owner.
fn taken(
    what: &str,
    set: std::result::Result<(), Errno>,
    refused: &mut Refused,
) -> std::result::Result<bool, Errno> {
    match set {
        Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP | Errno::OVERFLOW)) => {
            refused.push((what.into(), errno));
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Creates and removes a file to see what new files get: its status, and true if no default ACL interferes.
fn probe(root: &OwnedFd, names: &TemporaryNames) -> std::result::Result<(Status, bool), Errno> {
    let name = names.beside(b".");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, &name[..], flags, Mode::from_raw_mode(0o777))?;
    let status = rustix::fs::fstat(&file).map(|stat| Status::new(&stat));
    let mut attributes = [0; 1024];
    let plain = match rustix::fs::flistxattr(&file, &mut attributes) {
        // A label of a security module changes nothing that is restored. ACLs of any kind do: those of NFS are called otherwise.
        Ok(len) => attributes[..len].split(|&b| b == 0).all(|name| name.is_empty() || is_label(name)),
        Err(errno) => errno != Errno::RANGE,
    };
    rustix::fs::unlinkat(root, &name[..], AtFlags::empty())?;
    Ok((status?, plain))
}

/// `chmod` that cannot be led outside: the name is opened without following it, then changed by that handle.
fn chmod_beneath(folder: &OwnedFd, name: &CString, mode: Mode) -> std::result::Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(folder, name.as_c_str(), flags, Mode::empty())?;
    if Status::new(&raw_stat(&handle, b"")?).kind == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Target {
        /// A target that nobody else writes into.
        pub(in super::super) fn at(path: &Path, fresh: bool) -> Result<Self> {
            Self::open(&Held::take(path)?, path, fresh)
        }
    }

    #[test]
    fn attributes_that_are_refused_are_given_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::at(folder.path(), true).unwrap();
        let xattrs: Vec<Xattr> = vec![(b"user.taken".to_vec(), vec![1]), (b"user.refused".to_vec(), vec![2])];
        // Of a file system without attributes, or one whose room for those of a file is used up.
        // Or an ACL that names users who are not known in this user namespace.
        for errno in [Errno::NOTSUP, Errno::NOSPC, Errno::TOOBIG, Errno::RANGE, Errno::INVAL, Errno::OVERFLOW]
        {
            let set = |name: &[u8], _: &[u8]| if name == b"user.taken" { Ok(()) } else { Err(errno) };
            let refused = target.set_xattrs(&xattrs, set).unwrap();
            assert_eq!(refused, vec![(b"user.refused".to_vec(), errno)]);
        }
        assert!(target.set_xattrs(&xattrs, |_, _| Err(Errno::IO)).is_err(), "a broken disk ends the restore");
    }

    #[test]
    fn an_owner_that_is_refused_is_told_and_a_broken_disk_is_an_error() {
        let mut refused = Refused::new();
        assert!(taken("owner", Ok(()), &mut refused).unwrap());
        assert!(!taken("owner", Err(Errno::PERM), &mut refused).unwrap());
        assert_eq!(refused, vec![(b"owner".to_vec(), Errno::PERM)]);
        assert!(taken("mode", Err(Errno::IO), &mut refused).is_err());
        assert_eq!(Mode::from_raw_mode(0o6755).difference(SET_ID), Mode::from_raw_mode(0o755));
    }

    #[test]
    fn what_only_root_may_set_is_noted_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target { privileged: false, ..Target::at(folder.path(), true).unwrap() };
        let capability: Vec<Xattr> = vec![(b"security.capability".to_vec(), vec![1])];
        assert_eq!(target.set_xattrs(&capability, |_, _| Err(Errno::PERM)).unwrap(), vec![]);
        assert!(target.xattrs_skipped.load(Ordering::Relaxed));
    }
}
