//! Opening what is below a folder, past no symbolic link.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A path longer than this is opened step by step (`PATH_MAX` is 4096).
const PATH_STEP: usize = 2000;

/// A folder on the way.
const THROUGH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a path below a folder, following no symbolic link, however long the path is.
///
/// By openat2(2); name by name where it is missing: in Linux before 5.6, and under filters of system calls that take it
/// away, as systemd's `RestrictSUIDSGID=` does. No name may be `..`.
pub fn open_beneath(folder: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    match at_once(folder, path, flags) {
        Err(Errno::NOSYS) => by_name(folder, path, flags),
        other => other,
    }
}

fn at_once(folder: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |at: &OwnedFd, path: &[u8], flags| {
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        rustix::fs::openat2(at, path.as_c_str(), flags, Mode::empty(), resolve)
    };
    let Some(step) = path.get(..PATH_STEP).and_then(|start| start.iter().rposition(|&b| b == b'/')) else {
        return open(folder, path, flags);
    };
    let next = open(folder, &path[..step], THROUGH)?;
    at_once(&next, &path[step + 1..], flags)
}

fn by_name(folder: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.first() == Some(&b'/') {
        return Err(Errno::XDEV);
    }
    let last = if path.ends_with(b"/") { flags | OFlags::DIRECTORY } else { flags };
    let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
    let mut reached = None;
    while let Some(name) = names.next() {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        let flags = if names.peek().is_some() { THROUGH } else { last };
        let at = reached.as_ref().unwrap_or(folder);
        reached = Some(rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
    }
    let found = reached.ok_or(Errno::NOENT)?;
    // With O_PATH a link itself can be opened, which only who asks for it gets.
    let may_be_link = flags.contains(OFlags::PATH) && !flags.contains(OFlags::NOFOLLOW);
    if may_be_link && FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn name_by_name_opens_the_same_as_at_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        fs::write(dir.path().join("root/a/b/file"), "x").unwrap();
        symlink("a", dir.path().join("root/folder-link")).unwrap();
        symlink("a/b/file", dir.path().join("root/link")).unwrap();
        symlink("../outside", dir.path().join("root/out")).unwrap();
        symlink("/", dir.path().join("root/a/top")).unwrap();
        let root = open(&dir.path().join("root"));
        let inode = |found: Result<OwnedFd, Errno>| found.and_then(rustix::fs::fstat).map(|s| s.st_ino).ok();
        let (mut opened, mut refused) = (0, 0);
        for path in [
            ".",
            "a",
            "a/b",
            "a//b",
            "a/./b/",
            "a/b/file",
            "a/b/file/",
            "a/b/file/x",
            "link",
            "out",
            "absent",
            "folder-link",
            "folder-link/",
            "folder-link/b",
            "folder-link/b/file",
            "a/top",
            "a/top/etc",
            "/",
            "/etc",
            "",
            "..",
            "../outside",
            "a/../../outside",
        ] {
            for flags in [
                OFlags::RDONLY,
                OFlags::RDONLY | OFlags::NOFOLLOW,
                OFlags::RDONLY | OFlags::DIRECTORY,
                OFlags::PATH,
                OFlags::PATH | OFlags::NOFOLLOW,
                OFlags::PATH | OFlags::DIRECTORY,
            ] {
                let flags = flags | OFlags::CLOEXEC;
                let expected = inode(at_once(&root, path.as_bytes(), flags));
                assert_eq!(inode(by_name(&root, path.as_bytes(), flags)), expected, "{path:?} {flags:?}");
                *if expected.is_some() { &mut opened } else { &mut refused } += 1;
            }
        }
        assert!(opened > 20 && refused > 40, "{opened} {refused}");
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_are_opened_either_way() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(250);
        let mut at = open(dir.path());
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, THROUGH, Mode::empty()).unwrap();
        }
        let root = open(dir.path());
        let path = vec![name; 20].join("/");
        assert!(path.len() > 4096);
        let inode = |found: OwnedFd| rustix::fs::fstat(found).unwrap().st_ino;
        let deepest = inode(at);
        assert_eq!(inode(at_once(&root, path.as_bytes(), THROUGH).unwrap()), deepest);
        assert_eq!(inode(by_name(&root, path.as_bytes(), THROUGH).unwrap()), deepest);
    }
}
