//! Builders of scratch trees. Everything in them is the same in every run, times included.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use crate::generator::Generator;

/// A scratch folder that goes away even where read-only folders are in it.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// A new empty folder.
    pub fn new() -> io::Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("reliab-").tempdir()? })
    }

    /// A new empty folder in memory, where the system has a place for that: for tests that write a lot and do not
    /// care on what.
    pub fn in_memory() -> io::Result<Self> {
        match tempfile::Builder::new().prefix("reliab-").tempdir_in("/dev/shm") {
            Ok(folder) => Ok(Self { folder }),
            Err(_) => Self::new(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() {
            // Only to be able to delete it; what cannot be changed stays in the system's folder for such things.
            drop(unlock(self.folder.path()));
        }
    }
}

fn unlock(folder: &Path) -> io::Result<()> {
    set_mode(folder, 0o700)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// Copies folders and plain files into a new folder in memory; an absent folder is an empty one.
pub fn copy_of(folder: &Path) -> io::Result<Scratch> {
    let scratch = Scratch::in_memory()?;
    if folder.exists() {
        copy(folder, scratch.path())?;
    }
    Ok(scratch)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Sets the time of last modification, of a link itself; before 1970 with negative seconds.
pub fn set_mtime(path: &Path, seconds: i64, nanos: u32) -> io::Result<()> {
    set_mtime_at(CWD, path.as_os_str(), seconds, nanos)
}

fn set_mtime_at(folder: impl AsFd, name: &OsStr, seconds: i64, nanos: u32) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the mode.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Inverts the bits of one byte in place.
pub fn flip_byte(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)
}

/// About 40 entries of every common kind, 750 KB that compress well; for tests that run hundreds of times.
///
/// `big` is cut into chunks.
pub fn small(dir: &Path) -> io::Result<()> {
    let mut generator = Generator::new(1);
    for folder in ["src", "src/deep", "src/deep/er", "doc", "void"] {
        fs::create_dir(dir.join(folder))?;
    }
    for number in 0..24 {
        let folder = ["src", "src/deep", "src/deep/er", "doc"][number % 4];
        let content = generator.text(100 + number * 400);
        fs::write(dir.join(folder).join(format!("file-{number:02}.txt")), content)?;
    }
    fs::write(dir.join("empty"), "")?;
    fs::write(dir.join("random"), generator.bytes(3000))?;
    fs::write(dir.join("link-1"), "two names")?;
    fs::hard_link(dir.join("link-1"), dir.join("link-2"))?;
    fs::hard_link(dir.join("link-1"), dir.join("doc/link-3"))?;
    symlink("src/deep", dir.join("symlink"))?;
    fs::write(dir.join("new\nline \"%\\ name"), "odd name")?;
    fs::write(dir.join("script"), "#!/bin/sh\n")?;
    set_mode(&dir.join("script"), 0o755)?;
    fs::write(dir.join("big"), generator.text(600_000))?;
    settle_times(dir, &mut Generator::new(2))
}

/// A file large enough to be patched in place: 4.3 MB that compress well.
pub fn database(path: &Path) -> io::Result<()> {
    fs::write(path, Generator::new(8).text(16_384).repeat(260))?;
    set_mtime(path, 1_555_555_555, 5)
}

/// Gives everything times of its own in the past.
fn settle_times(dir: &Path, generator: &mut Generator) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            settle_times(&entry.path(), generator)?;
        } else {
            settle_time(&entry.path(), generator)?;
        }
    }
    settle_time(dir, generator)
}

fn settle_time(path: &Path, generator: &mut Generator) -> io::Result<()> {
    let seconds = 1_500_000_000 + i64::try_from(generator.below(100_000_000)).unwrap_or_default();
    set_mtime(path, seconds, u32::try_from(generator.below(1_000_000_000)).unwrap_or_default())
}

/// Features that the file system or the user could not provide, each with the reason.
pub type Missing = Vec<String>;

/// Everything that a backup must be faithful to, but for [`huge_sparse`].
pub fn fidelity(dir: &Path) -> io::Result<Missing> {
    let mut missing = Missing::new();
    let mut generator = Generator::new(3);
    names(&dir.join("names"), &mut generator)?;
    sizes(&dir.join("sizes"), &mut generator)?;
    links(&dir.join("links"))?;
    attempt(&mut missing, "sparse files", sparse(&dir.join("sparse"), &mut generator))?;
    crowd(&dir.join("crowd"))?;
    modes(&dir.join("modes"), &mut missing)?;
    special(&dir.join("special"), &mut missing)?;
    attributes(&dir.join("attributes"), &mut missing)?;
    fs::create_dir(dir.join("void"))?;
    deep(dir)?;
    times(&dir.join("times"))?;
    set_mtime(dir, 1_111_111_111, 111_111_111)?;
    Ok(missing)
}

/// Notes a feature that is not there; errors that say something else are passed on.
fn attempt(missing: &mut Missing, feature: &str, outcome: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    match outcome {
        Err(error)
            if matches!(error.kind(), PermissionDenied | Unsupported)
                || error.raw_os_error() == Some(rustix::io::Errno::NOTSUP.raw_os_error()) =>
        {
            missing.push(format!("{feature}: {error}"));
            Ok(())
        }
        other => other,
    }
}

fn names(dir: &Path, generator: &mut Generator) -> io::Result<()> {
    fs::create_dir(dir)?;
    let long = [b'x'; 255];
    let wide = "ü".repeat(127);
    let names: [&[u8]; 19] = [
        b"new\nline",
        b"\n",
        b"tab\tand\rreturn",
        b"\"quotes\" and 'quotes'",
        b"100% %41 %0A %",
        b"back\\slash\\012",
        b"\xff\xfe not utf-8 \xc3(",
        b"\xc3\xbc is utf-8",
        b"\x01\x1b\x7f",
        b"-rf",
        b"--delete",
        b" leading and trailing ",
        b"...",
        b"..data",
        b"*?[a]{b}!",
        b"#comment",
        b"$HOME `id`; exit",
        &long,
        wide.as_bytes(),
    ];
    for name in names {
        let path = dir.join(OsStr::from_bytes(name));
        fs::write(&path, generator.text(50))?;
        let mut folder = name[..name.len().min(200)].to_vec();
        folder.extend_from_slice(b".d");
        let folder = dir.join(OsStr::from_bytes(&folder));
        fs::create_dir(&folder)?;
        fs::write(folder.join(OsStr::from_bytes(name)), generator.text(50))?;
        symlink(OsStr::from_bytes(name), folder.join("link"))?;
    }
    Ok(())
}

/// Sizes around every threshold of the format.
pub const SIZES: [usize; 15] = [
    0,
    1,
    511,
    512,
    513,
    (512 << 10) - 1,
    512 << 10,
    (512 << 10) + 1,
    (1 << 20) - 1,
    (1 << 20) + 1,
    (4 << 20) - 1,
    4 << 20,
    (4 << 20) + 1,
    9 << 20,
    (9 << 20) + 777,
];

fn sizes(dir: &Path, generator: &mut Generator) -> io::Result<()> {
    fs::create_dir(dir)?;
    for size in SIZES {
        // Half of it random: neither all chunk boundaries by size nor a long time to compress.
        let mut content = generator.bytes(size / 2);
        content.extend(generator.text(size - size / 2));
        fs::write(dir.join(format!("{size}")), content)?;
    }
    // Equal content at another place, small and large.
    for size in [513, (1 << 20) + 1] {
        fs::copy(dir.join(format!("{size}")), dir.join(format!("copy of {size}")))?;
    }
    Ok(())
}

fn links(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join("a/b"))?;
    fs::create_dir(dir.join("c"))?;
    fs::write(dir.join("a/first"), "hard-linked")?;
    fs::hard_link(dir.join("a/first"), dir.join("a/second"))?;
    fs::hard_link(dir.join("a/first"), dir.join("a/b/third"))?;
    fs::hard_link(dir.join("a/first"), dir.join("c/fourth"))?;
    fs::write(dir.join("c/large"), Generator::new(4).text(700_000))?;
    fs::hard_link(dir.join("c/large"), dir.join("a/large"))?;
    fs::write(dir.join("c/none"), "")?;
    fs::hard_link(dir.join("c/none"), dir.join("a/none"))?;
    symlink("nowhere", dir.join("dangling"))?;
    symlink("/etc/passwd", dir.join("absolute"))?;
    symlink("loop-2", dir.join("loop-1"))?;
    symlink("loop-1", dir.join("loop-2"))?;
    symlink(".", dir.join("self"))?;
    symlink("../..", dir.join("up"))?;
    symlink("a/first", dir.join("file"))?;
    symlink("a/b", dir.join("folder"))?;
    symlink(OsStr::from_bytes(b"new\nline\xff%41"), dir.join("odd"))?;
    symlink("t".repeat(4000), dir.join("long"))?;
    symlink("dangling", dir.join("linked"))?;
    fs::hard_link(dir.join("linked"), dir.join("linked again"))
}

/// Files with holes at their start, in the middle, at their end, all hole, many holes, and one too small for a chunk.
fn sparse(dir: &Path, generator: &mut Generator) -> io::Result<()> {
    fs::create_dir(dir)?;
    let mut make = |name: &str, len: u64, data: &[(u64, usize)]| -> io::Result<()> {
        let file = File::create(dir.join(name))?;
        for &(at, len) in data {
            file.write_all_at(&generator.bytes(len), at)?;
        }
        file.set_len(len)
    };
    make("start", 3 << 20, &[(2 << 20, 1 << 20)])?;
    make("middle", 3 << 20, &[(0, 70_000), (2 << 20, 1 << 20)])?;
    make("end", 3 << 20, &[(0, 123_456)])?;
    make("all hole", 5 << 20, &[])?;
    make("odd end", (3 << 20) + 17, &[(1 << 20, 5000), ((3 << 20) + 1, 16)])?;
    make("small", 200_000, &[(100_000, 10)])?;
    let many: Vec<(u64, usize)> = (0..200).map(|number| (number * 20_000, 100)).collect();
    make("many", 200 * 20_000, &many)?;
    let is_sparse = crate::judge::sparse_blocks(&dir.join("all hole"))? * 512 < 5 << 20;
    if is_sparse { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// A file of 20 GiB, nearly all hole.
pub fn huge_sparse(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let mut generator = Generator::new(5);
    for at in [0, 5 << 30, (20 << 30) - 1000] {
        file.write_all_at(&generator.bytes(1000), at)?;
    }
    file.set_len(20 << 30)?;
    set_mtime(path, 1_222_222_222, 222_222_222)
}

/// A folder of 5,000 entries.
fn crowd(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    for number in 0..5000 {
        let name = dir.join(format!("entry {number}"));
        match number % 10 {
            0 => fs::create_dir(name)?,
            1 => symlink(format!("entry {}", number + 1), name)?,
            _ => fs::write(name, format!("{number}"))?,
        }
    }
    Ok(())
}

fn modes(dir: &Path, missing: &mut Missing) -> io::Result<()> {
    fs::create_dir(dir)?;
    for mode in [0o400, 0o444, 0o600, 0o777, 0o4755, 0o2755, 0o6711, 0o1644] {
        let path = dir.join(format!("file {mode:o}"));
        fs::write(&path, format!("{mode:o}"))?;
        set_mode(&path, mode)?;
    }
    for mode in [0o555, 0o700, 0o1777, 0o2775, 0o500] {
        let path = dir.join(format!("dir {mode:o}"));
        fs::create_dir(&path)?;
        fs::write(path.join("inside"), "")?;
        fs::create_dir(path.join("below"))?;
        fs::write(path.join("below/inside"), "x")?;
        set_mode(&path.join("below"), 0o555)?;
        set_mode(&path, mode)?;
    }
    if rustix::process::geteuid().is_root() {
        let path = dir.join("of others");
        fs::write(&path, "owned")?;
        std::os::unix::fs::chown(&path, Some(12_345), Some(54_321))?;
        set_mode(&path, 0o6755)?;
        std::os::unix::fs::lchown(dir, Some(70_000), Some(3_000_000))?;
        fs::write(dir.join("unreadable"), "but for root")?;
        set_mode(&dir.join("unreadable"), 0)?;
    } else {
        missing.push("other owners, files without any mode: only root can".to_owned());
    }
    Ok(())
}

/// A set-up that needs rights is noted where it is refused.
fn special(dir: &Path, missing: &mut Missing) -> io::Result<()> {
    fs::create_dir(dir)?;
    let node = |name: &str, kind, major, minor| -> io::Result<()> {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device)?;
        Ok(())
    };
    node("fifo", FileType::Fifo, 0, 0)?;
    fs::hard_link(dir.join("fifo"), dir.join("fifo again"))?;
    attempt(missing, "character devices", node("null", FileType::CharacterDevice, 1, 3))?;
    attempt(missing, "character devices", node("large minor", FileType::CharacterDevice, 200, 70_000))?;
    attempt(missing, "block devices", node("loop", FileType::BlockDevice, 7, 5))?;
    let socket = dir.join("socket");
    attempt(missing, "sockets", UnixListener::bind(socket).map(drop))
}

/// Sets an extended attribute, of a link itself.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

fn attributes(dir: &Path, missing: &mut Missing) -> io::Result<()> {
    fs::create_dir(dir)?;
    for name in ["plain", "many", "acl", "capable", "private", "large"] {
        fs::write(dir.join(name), name)?;
    }
    fs::write(dir.join("large"), Generator::new(6).text(600_000))?;
    for name in ["folder", "acl folder"] {
        fs::create_dir(dir.join(name))?;
    }
    let user = || -> io::Result<()> {
        set_xattr(&dir.join("plain"), "user.note", b"\0binary\xff\n=")?;
        set_xattr(&dir.join("plain"), "user.empty", b"")?;
        set_xattr(&dir.join("plain"), "user.odd name=%41 \u{fc}", b"x")?;
        set_xattr(&dir.join("large"), "user.note", &[7; 1000])?;
        set_xattr(&dir.join("folder"), "user.note", b"of a folder")?;
        (0..30).try_for_each(|n| set_xattr(&dir.join("many"), &format!("user.n{n}"), &[n; 40]))
    };
    attempt(missing, "extended attributes", user())?;
    attempt(missing, "ACLs", acls(dir))?;
    attempt(missing, "file capabilities", capability(&dir.join("capable")))?;
    let trusted = set_xattr(&dir.join("private"), "trusted.note", b"for root");
    attempt(missing, "trusted attributes", trusted)?;
    symlink("plain", dir.join("link"))?;
    attempt(missing, "attributes of links", set_xattr(&dir.join("link"), "trusted.note", b"of the link"))
}

/// `cap_net_bind_service+ep` as `VFS_CAP_REVISION_2` (capabilities(7)).
fn capability(path: &Path) -> io::Result<()> {
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    set_xattr(path, "security.capability", &words.map(u32::to_le_bytes).concat())
}

fn acls(dir: &Path) -> io::Result<()> {
    let access =
        acl(&[(1, 6, NONE), (2, 4, 1234), (4, 4, NONE), (8, 6, 4321), (0x10, 6, NONE), (0x20, 0, NONE)]);
    let default = acl(&[(1, 7, NONE), (2, 5, 1234), (4, 5, NONE), (0x10, 7, NONE), (0x20, 0, NONE)]);
    set_xattr(&dir.join("acl"), "system.posix_acl_access", &access)?;
    let passable = acl(&[(1, 7, NONE), (2, 5, 1234), (4, 5, NONE), (0x10, 5, NONE), (0x20, 0, NONE)]);
    set_xattr(&dir.join("acl folder"), "system.posix_acl_access", &passable)?;
    set_xattr(&dir.join("acl folder"), "system.posix_acl_default", &default)?;
    // What is in the folder would inherit; it must be restored with what it really has.
    fs::write(dir.join("acl folder/inherits"), "x")?;
    fs::write(dir.join("acl folder/does not"), "y")?;
    rustix::fs::lremovexattr(dir.join("acl folder/does not"), "system.posix_acl_access")?;
    fs::create_dir(dir.join("acl folder/below"))
}

/// The id in a row of an ACL that names nobody.
pub const NONE: u32 = u32::MAX;

/// A POSIX ACL as the kernel stores it: version 2, then tag, permissions, id (`acl_ea_header`).
pub fn acl(rows: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in rows {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Folders of 250-byte names, 24 deep: a path of 6,000 bytes with a bit of everything at its end.
fn deep(dir: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder: OwnedFd = rustix::fs::open(dir, flags, Mode::empty())?;
    let mut folders = Vec::new();
    for number in 0..24u8 {
        let name = [b"d", &[b'a' + number; 249][..]].concat();
        rustix::fs::mkdirat(&folder, &name[..], Mode::from_raw_mode(0o750))?;
        let next = rustix::fs::openat(&folder, &name[..], flags, Mode::empty())?;
        folders.push((std::mem::replace(&mut folder, next), name));
    }
    let create = |name: &str, content: &[u8]| -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o640))?);
        file.write_all(content)?;
        Ok(file)
    };
    create("file", b"at the bottom")?;
    create("large", &Generator::new(7).text(600_000))?;
    rustix::fs::linkat(&folder, "file", &folder, "file again", AtFlags::empty())?;
    rustix::fs::symlinkat("file", &folder, "link")?;
    rustix::fs::mkdirat(&folder, "void", Mode::from_raw_mode(0o700))?;
    for (seconds, name) in (1_300_000_000..).zip(["file", "large", "link", "void"]) {
        set_mtime_at(&folder, OsStr::new(name), seconds, 123)?;
    }
    for (seconds, (parent, name)) in (1_400_000_000..).zip(folders.into_iter().rev()) {
        set_mtime_at(parent, OsStr::from_bytes(&name), seconds, 321)?;
    }
    Ok(())
}

fn times(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    let times = [
        ("epoch", 0, 0),
        ("nanoseconds", 1_600_000_000, 123_456_789),
        ("one nanosecond", 1_600_000_000, 1),
        ("last nanosecond", 1_600_000_000, 999_999_999),
        ("just before 1970", -1, 999_999_999),
        ("before 1970", -1_000_000_000, 500_000_000),
        ("1901", -2_147_483_648, 0),
        ("2040", 2_208_988_800, 5),
        ("2300", 10_413_792_000, 7),
    ];
    for (name, seconds, nanos) in times {
        fs::write(dir.join(name), name)?;
        fs::create_dir(dir.join(format!("dir {name}")))?;
        symlink(name, dir.join(format!("link {name}")))?;
        for path in [dir.join(name), dir.join(format!("dir {name}")), dir.join(format!("link {name}"))] {
            set_mtime(&path, seconds, nanos)?;
        }
    }
    set_mtime(dir, -5, 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{differences, scan};

    #[test]
    fn trees_are_the_same_every_time() {
        let (a, b) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        small(a.path()).unwrap();
        small(b.path()).unwrap();
        let (a, b) = (scan(a.path()).unwrap(), scan(b.path()).unwrap());
        assert_eq!(differences(&a, &b), Vec::<String>::new());
        assert!(a.len() > 36, "{}", a.len());
    }

    #[test]
    fn the_fidelity_tree_can_be_built_and_says_what_it_could_not() {
        let scratch = Scratch::new().unwrap();
        let missing = fidelity(scratch.path()).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root || missing.iter().any(|line| line.starts_with("block devices")), "{missing:?}");
        let tree = scan(scratch.path()).unwrap();
        assert!(tree.len() > 5200, "{}", tree.len());
        assert!(tree.keys().any(|path| path.len() > 4096));
    }
}
