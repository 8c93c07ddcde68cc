//! What a tree holds, read through folder handles so that no path is too long.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

/// Everything in a tree by its path below the top, whose own path is empty.
pub type Scan = BTreeMap<Vec<u8>, Item>;

/// What is known of one entry; times of inode changes and of access are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Type and what only this type has.
    pub kind: ItemKind,
    /// Low twelve bits of the mode.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode, where it has several here.
    pub link: Option<Vec<u8>>,
}

/// Type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// Length and BLAKE3 of the content.
    File(u64, [u8; 32]),
    /// A folder.
    Dir,
    /// A link's target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Character device: major, minor.
    Char(u32, u32),
    /// Block device: major, minor.
    Block(u32, u32),
}

/// Reads a tree.
pub fn scan(top: &Path) -> io::Result<Scan> {
    let parent = open_folder(rustix::fs::CWD, top.as_os_str())?;
    let mut scanner = Scanner::default();
    let stat = rustix::fs::fstat(&parent)?;
    scanner.add(&parent, c".", &stat, Vec::new())?;
    scanner.folder(&parent, b"")?;
    Ok(scanner.items)
}

fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

#[derive(Default)]
struct Scanner {
    items: Scan,
    inodes: HashMap<(u64, u64), Vec<u8>>,
}

impl Scanner {
    fn folder(&mut self, folder: &OwnedFd, path: &[u8]) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let name = entry?.file_name().to_owned();
            if name.as_bytes() != b"." && name.as_bytes() != b".." {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let stat = rustix::fs::statat(folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            self.add(folder, &name, &stat, below.clone())?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.folder(&open_folder(folder, name.as_c_str())?, &below)?;
            }
        }
        Ok(())
    }

    #[expect(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "field types differ between architectures"
    )]
    fn add(&mut self, folder: &OwnedFd, name: &CStr, stat: &Stat, path: Vec<u8>) -> io::Result<()> {
        let kind = kind_of(folder, name, stat)?;
        let mut link = None;
        if kind != ItemKind::Dir && stat.st_nlink > 1 {
            let first = self.inodes.entry((stat.st_dev.into(), stat.st_ino.into()));
            link = Some(first.or_insert_with(|| path.clone()).clone());
        }
        let item = Item {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime as i64, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            xattrs: xattrs(folder, name)?,
            link,
        };
        self.items.insert(path, item);
        Ok(())
    }
}

fn kind_of(folder: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<ItemKind> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let (len, digest) = digest(folder, name)?;
            ItemKind::File(len, digest)
        }
        FileType::Directory => ItemKind::Dir,
        FileType::Symlink => {
            ItemKind::Symlink(rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes())
        }
        FileType::Fifo => ItemKind::Fifo,
        FileType::CharacterDevice => ItemKind::Char(major, minor),
        FileType::BlockDevice => ItemKind::Block(major, minor),
        _ => ItemKind::Socket,
    })
}

fn digest(folder: &OwnedFd, name: &CStr) -> io::Result<(u64, [u8; 32])> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut len = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((len, *hasher.finalize().as_bytes()));
        }
        len += read as u64;
        hasher.update(&buffer[..read]);
    }
}

fn xattrs(folder: &OwnedFd, name: &CStr) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let mut list = vec![0; 65_536];
    let len = match rustix::fs::llistxattr(&path[..], &mut list[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(other) => return Err(other.into()),
    };
    let mut found = BTreeMap::new();
    for name in list[..len].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(&path[..], name, &mut value[..])?;
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// What differs between two trees, a line each.
pub fn differences(expected: &Scan, found: &Scan) -> Vec<String> {
    let name = |path: &[u8]| String::from_utf8_lossy(path).chars().take(300).collect::<String>();
    let mut lines = Vec::new();
    for (path, item) in expected {
        match found.get(path) {
            None => lines.push(format!("missing: {:?}", name(path))),
            Some(other) if other != item => {
                lines.push(format!("{:?} is {}, not {}", name(path), describe(other), describe(item)));
            }
            Some(_) => {}
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path));
    lines.extend(extra.map(|path| format!("extra: {:?}", name(path))));
    lines
}

fn describe(item: &Item) -> String {
    let Item { kind, mode, owner: (uid, gid), mtime: (seconds, nanos), xattrs, link } = item;
    let kind = match kind {
        ItemKind::File(len, digest) => {
            let [a, b, c, d, ..] = digest;
            format!("file of {len} bytes {a:02x}{b:02x}{c:02x}{d:02x}")
        }
        ItemKind::Symlink(target) => format!("link to {:?}", String::from_utf8_lossy(target)),
        other => format!("{other:?}"),
    };
    let names: Vec<_> = xattrs.keys().map(|name| String::from_utf8_lossy(name)).collect();
    let link = link.as_ref().map(|path| String::from_utf8_lossy(path));
    format!("{kind} {mode:o} {uid}:{gid} {seconds}.{nanos:09} {names:?} {link:?}")
}
