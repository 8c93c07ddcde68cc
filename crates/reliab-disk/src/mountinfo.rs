//! `/proc/self/mountinfo`, as proc(5) describes it.
//!
//! Read here and not by a crate: it is one line format, its paths need not be UTF-8, and a line that a newer kernel
//! writes differently must cost that line only.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the kernel lists the mounts that this process sees.
pub const PATH: &str = "/proc/self/mountinfo";

/// The number of a file system's device; one without a block device has major number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, unique among those that are mounted.
    pub id: u64,
    /// The number of the mount it is mounted on.
    pub parent: u64,
    /// The device of its file system.
    pub device: Device,
    /// Which folder of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Options of this mount alone.
    pub options: String,
    /// Type of the file system, such as `ext4` or `fuse.sshfs`.
    pub kind: String,
    /// What is mounted, such as `/dev/sda1`.
    pub source: OsString,
    /// Options of the super block, which all mounts of the file system share.
    pub super_options: String,
}

impl Mount {
    /// Whether this mount alone is read-only.
    pub fn is_read_only(&self) -> bool {
        has(&self.options, "ro")
    }

    /// Whether the file system itself is read-only, by choice or because the kernel stopped writing to it.
    pub fn is_super_read_only(&self) -> bool {
        has(&self.super_options, "ro") || self.is_emergency_read_only()
    }

    /// Whether the kernel stopped writing after an error: `emergency_ro` since Linux 6.10, `shutdown` where it gave up.
    pub fn is_emergency_read_only(&self) -> bool {
        has(&self.super_options, "emergency_ro") || has(&self.super_options, "shutdown")
    }

    /// The value of an option of the super block, such as `upperdir`.
    pub fn super_option(&self, name: &str) -> Option<&str> {
        self.super_options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

fn has(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// All mounts of a process, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// Lines that say something else.
    pub unread: usize,
}

impl MountTable {
    /// Reads the mounts that this process sees.
    pub fn read() -> io::Result<Self> {
        fs::read(PATH).map(|text| Self::parse(&text))
    }

    /// The mounts in a text.
    pub fn parse(text: &[u8]) -> Self {
        let mut table = Self::default();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match mount(line) {
                Some(mount) => table.mounts.push(mount),
                None => table.unread += 1,
            }
        }
        table
    }
}

/// The mount that a line describes.
fn mount(line: &[u8]) -> Option<Mount> {
    // One space is one separator: an empty source leaves two in a row.
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = device(fields.next()?)?;
    let root = unescaped(fields.next()?);
    let point = unescaped(fields.next()?);
    let options = text(fields.next()?);
    // Zero or more tags such as `shared:1` end with a dash.
    fields.find(|&field| field == b"-")?;
    let kind = text(fields.next()?);
    let source = unescaped(fields.next()?);
    let rest: Vec<&[u8]> = fields.collect();
    let super_options = text(&rest.join(&b' '));
    let is_absolute = Path::new(&point).is_absolute();
    is_absolute.then(|| Mount {
        id,
        parent,
        device,
        root: root.into(),
        point: point.into(),
        options,
        kind,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<Device> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn text(field: &[u8]) -> String {
    let field: &OsStr = &unescaped(field);
    field.to_string_lossy().into_owned()
}

/// A field without the kernel's escapes: a backslash and three octal digits for blanks, newlines and backslashes.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        if let (b'\\', Some(byte)) = (first, behind.get(..3).and_then(octal)) {
            bytes.push(byte);
            rest = &behind[3..];
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    fn one(line: &[u8]) -> Mount {
        let table = MountTable::parse(line);
        assert_eq!((table.mounts.len(), table.unread), (1, 0));
        table.mounts.into_iter().next().unwrap()
    }

    #[test]
    fn the_example_of_the_manual_is_read() {
        let mount = one(b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
        let expected = Mount {
            id: 36,
            parent: 35,
            device: Device { major: 98, minor: 0 },
            root: "/mnt1".into(),
            point: "/mnt2".into(),
            options: "rw,noatime".into(),
            kind: "ext3".into(),
            source: "/dev/root".into(),
            super_options: "rw,errors=continue".into(),
        };
        assert_eq!(mount, expected);
        assert!(!mount.is_read_only() && !mount.is_super_read_only());
        assert_eq!(mount.super_option("errors"), Some("continue"));
    }

    #[test]
    fn tags_may_be_missing_or_many_and_the_source_empty() {
        assert_eq!(one(b"1 0 0:1 / /a rw - tmpfs x rw").kind, "tmpfs");
        assert_eq!(one(b"1 0 0:1 / /a rw shared:1 master:2 unbindable - tmpfs x rw").kind, "tmpfs");
        let mount = one(b"1 0 0:1 / /a rw - tmpfs  rw,size=1k");
        assert_eq!((mount.source.as_os_str(), mount.super_options.as_str()), (OsStr::new(""), "rw,size=1k"));
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        let mount = one(b"1 0 8:1 / /a\\040b\\011c\\012d\\134e\\9\\04\xff rw - ext4 /dev/x\\043 rw");
        assert_eq!(mount.point.as_os_str().as_bytes(), b"/a b\tc\nd\\e\\9\\04\xff");
        assert_eq!(mount.source, "/dev/x#");
        assert_eq!(one(b"1 0 8:1 / /\\777 rw - ext4 x rw").point, Path::new("/\\777"));
    }

    #[test]
    fn read_only_is_told_apart_by_mount_super_block_and_emergency() {
        let of = |options: &str, super_options: &str| {
            let line = format!("1 0 8:1 / /a {options} - ext4 /dev/x {super_options}");
            let mount = one(line.as_bytes());
            (mount.is_read_only(), mount.is_super_read_only(), mount.is_emergency_read_only())
        };
        assert_eq!(of("rw", "rw"), (false, false, false));
        assert_eq!(of("ro,noatime", "rw"), (true, false, false));
        assert_eq!(of("rw", "ro"), (false, true, false));
        assert_eq!(of("rw", "rw,emergency_ro"), (false, true, true));
        assert_eq!(of("rw", "rw,errors=remount-ro"), (false, false, false));
    }

    #[test]
    fn lines_that_say_something_else_are_counted() {
        let text =
            b"nonsense\n1 0 8 / /a rw - ext4 x rw\n1 0 8:1 / a rw - ext4 x rw\n1 0 8:1 / /a rw ext4 x rw\n\n";
        let table = MountTable::parse(text);
        assert_eq!((table.mounts.len(), table.unread), (0, 4));
    }

    #[test]
    fn the_mounts_of_this_process_are_read_whole() {
        let table = MountTable::read().unwrap();
        assert_eq!(table.unread, 0);
        assert!(table.mounts.iter().any(|mount| mount.point == Path::new("/")));
    }

    /// A field as the kernel writes it, which escapes these.
    fn escaped(field: &[u8]) -> Vec<u8> {
        let byte = |&byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            other => vec![other],
        };
        field.iter().flat_map(byte).collect()
    }

    proptest! {
        #[test]
        fn any_path_comes_back(point in vec(1u8.., 0..60), source in vec(1u8.., 0..60)) {
            let point = [b"/".as_slice(), &point].concat();
            let parts: [&[u8]; 5] = [b"7 1 8:1 / ", &escaped(&point), b" rw - ext4 ", &escaped(&source), b" rw"];
            let mount = one(&parts.concat());
            prop_assert_eq!(mount.point.as_os_str().as_bytes(), point);
            prop_assert_eq!(mount.source.as_bytes(), source);
            prop_assert_eq!(mount.super_options, "rw");
        }
    }
}
