//! Which of the mounts are looked at.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use reliab_common::config::Disk;

use crate::mountinfo::{Device, Mount, MountTable};

/// Types that hold no data of users: kernel interfaces, and images that are always full.
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cramfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "pipefs",
    "proc",
    "pstore",
    "ramfs",
    "romfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sockfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Folders below which there are only kernel interfaces and secrets in memory.
const PSEUDO_PLACES: &[&str] = &["/proc", "/sys", "/run/credentials"];

/// A file system to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It is mounted.
    Mounted(Mount),
    /// It must be mounted here and is not.
    Absent(PathBuf),
}

impl Target {
    /// The mount point.
    pub fn point(&self) -> &Path {
        match self {
            Self::Mounted(mount) => &mount.point,
            Self::Absent(point) => point,
        }
    }
}

/// Finds the mounts that a path leads to.
pub struct Lookup<'a> {
    mounts: &'a [Mount],
    children: HashMap<u64, Vec<usize>>,
    /// Where a walk begins: the root, or what is mounted below a root that is no mount (in a chroot).
    tops: Vec<usize>,
}

impl<'a> Lookup<'a> {
    /// A lookup among all mounts of a table.
    pub fn of(table: &'a MountTable) -> Self {
        let mounts = table.mounts.as_slice();
        let ids: HashMap<u64, usize> = mounts.iter().enumerate().map(|(at, mount)| (mount.id, at)).collect();
        let mut children: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, mount) in mounts.iter().enumerate().filter(|(_, mount)| mount.parent != mount.id) {
            children.entry(mount.parent).or_default().push(at);
        }
        let is_root = |mount: &Mount| {
            mount.point == Path::new("/") && (mount.parent == mount.id || !ids.contains_key(&mount.parent))
        };
        let tops = match mounts.iter().position(is_root) {
            Some(root) => vec![root],
            None => (0..mounts.len()).filter(|&at| !ids.contains_key(&mounts[at].parent)).collect(),
        };
        Self { mounts, children, tops }
    }

    /// The mount that holds a path, as the kernel would walk there; `path` is absolute and without links.
    pub fn holder(&self, path: &Path) -> Option<&'a Mount> {
        let mut at = self.first(&self.tops, path)?;
        // A walk meets each mount once; more steps mean that the table is not a tree.
        for _ in 0..self.mounts.len() {
            let children = self.children.get(&self.mounts[at].id);
            let Some(next) = children.and_then(|children| self.first(children, path)) else { break };
            at = next;
        }
        Some(&self.mounts[at])
    }

    /// The first mount on the way to `path` among these, which are mounted on the same one.
    fn first(&self, among: &[usize], path: &Path) -> Option<usize> {
        let on_the_way = among.iter().copied().filter(|&at| path.starts_with(&self.mounts[at].point));
        // Of several at the same point the last hides the others.
        on_the_way.rev().min_by_key(|&at| self.mounts[at].point.components().count())
    }

    /// The mount that is seen at exactly this mount point.
    pub fn at(&self, point: &Path) -> Option<&'a Mount> {
        self.holder(point).filter(|mount| mount.point == point)
    }

    /// The mounts that are not hidden by others.
    fn visible(&self) -> impl Iterator<Item = &'a Mount> + '_ {
        self.mounts.iter().filter(|mount| self.holder(&mount.point).is_none_or(|seen| seen.id == mount.id))
    }
}

/// The file systems to look at when none is named: each once, and those that the configuration asks for.
pub fn all(table: &MountTable, config: &Disk) -> Vec<Target> {
    let lookup = Lookup::of(table);
    let mut by_device: BTreeMap<Device, Vec<&Mount>> = BTreeMap::new();
    for mount in lookup.visible().filter(|mount| is_wanted(mount, config)) {
        by_device.entry(mount.device).or_default().push(mount);
    }
    let is_configured = |mount: &&Mount| config.mount.iter().any(|entry| entry.path == mount.point);
    let mut targets: Vec<Target> = Vec::new();
    for mounts in by_device.values() {
        let configured: Vec<&&Mount> = mounts.iter().filter(|mount| is_configured(mount)).collect();
        if configured.is_empty() {
            targets.extend(
                mounts.iter().min_by_key(|mount| rank(mount)).map(|&mount| Target::Mounted(mount.clone())),
            );
        } else {
            targets.extend(configured.into_iter().map(|&mount| Target::Mounted(mount.clone())));
        }
    }
    let absent = config.mount.iter().filter(|entry| !entry.optional && lookup.at(&entry.path).is_none());
    targets.extend(absent.map(|entry| Target::Absent(entry.path.clone())));
    targets.sort_by(|a, b| a.point().cmp(b.point()));
    targets.dedup_by(|a, b| a.point() == b.point());
    targets
}

/// The mount nearest to the file system's own root, and of these the shortest: what is bound elsewhere comes later.
fn rank(mount: &Mount) -> (usize, usize, &Path) {
    (mount.root.components().count(), mount.point.components().count(), &mount.point)
}

fn is_wanted(mount: &Mount, config: &Disk) -> bool {
    let asked_for = config.mount.iter().any(|entry| entry.path == mount.point);
    asked_for || !(is_pseudo(mount) || is_excluded(mount, config))
}

fn is_pseudo(mount: &Mount) -> bool {
    // A sandbox has a /dev of its own, which holds nothing but nodes and links.
    let is_private_dev = mount.kind == "tmpfs" && mount.point == Path::new("/dev");
    is_private_dev
        || PSEUDO.contains(&mount.kind.as_str())
        || PSEUDO_PLACES.iter().any(|place| mount.point.starts_with(place))
}

fn is_excluded(mount: &Mount, config: &Disk) -> bool {
    let excludes = |pattern: &PathBuf| match pattern.file_name() {
        Some(name) if name == "*" => {
            pattern.parent().is_some_and(|above| mount.point.starts_with(above) && mount.point != above)
        }
        _ => *pattern == mount.point,
    };
    config.exclude_types.contains(&mount.kind) || config.exclude.iter().any(excludes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::config::disk::{DiskLimits, DiskMount};

    fn points(text: &str, config: &Disk) -> Vec<String> {
        let table = MountTable::parse(text.as_bytes());
        assert_eq!(table.unread, 0, "{text}");
        all(&table, config).iter().map(|target| target.point().display().to_string()).collect()
    }

    fn plain(text: &str) -> Vec<String> {
        points(text, &Disk::default())
    }

    fn entry(path: &str, optional: bool) -> DiskMount {
        let limits = DiskLimits::default;
        let (warn, critical) = (limits(), limits());
        DiskMount { path: path.into(), device: None, read_only: None, optional, warn, critical }
    }

    const ROOT: &str = "1 0 8:1 / / rw - ext4 /dev/a rw\n";

    #[test]
    fn pseudo_file_systems_are_left_out() {
        let text = format!(
            "{ROOT}2 1 0:2 / /proc rw - proc proc rw\n3 1 0:3 / /sys rw - sysfs sysfs rw\n\
             4 3 0:4 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             6 1 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro\n7 1 0:6 / /dev rw - tmpfs tmpfs rw\n\
             8 7 0:7 / /dev/shm rw - tmpfs tmpfs rw\n"
        );
        assert_eq!(plain(&text), ["/", "/dev/shm"]);
    }

    #[test]
    fn a_bind_mount_is_counted_once_and_the_root_of_the_file_system_wins() {
        let text = format!(
            "{ROOT}2 1 8:1 /home/a /a rw - ext4 /dev/a rw\n3 1 8:2 /deep/b /b rw - ext4 /dev/b rw\n\
             4 1 8:2 / /mnt/long/path rw - ext4 /dev/b rw\n5 1 8:2 / /mnt/longer/path rw - ext4 /dev/b rw\n"
        );
        assert_eq!(plain(&text), ["/", "/mnt/long/path"]);
        let config = Disk { mount: vec![entry("/b", false)], ..Disk::default() };
        assert_eq!(points(&text, &config), ["/", "/b"]);
    }

    #[test]
    fn what_others_hide_is_not_looked_at() {
        let text = format!(
            "{ROOT}2 1 8:2 / /a/b rw - ext4 /dev/b rw\n3 1 8:3 / /a rw - ext4 /dev/c rw\n\
             4 1 8:4 / /m rw - ext4 /dev/d rw\n5 4 8:5 / /m rw - ext4 /dev/e rw\n"
        );
        assert_eq!(plain(&text), ["/", "/a", "/m"]);
        let table = MountTable::parse(text.as_bytes());
        let lookup = Lookup::of(&table);
        let holder = |path: &str| lookup.holder(Path::new(path)).map(|mount| mount.id);
        assert_eq!(
            (holder("/a/b/c"), holder("/m/x"), holder("/mx"), holder("/")),
            (Some(3), Some(5), Some(1), Some(1))
        );
        assert!(lookup.at(Path::new("/a/b")).is_none());
    }

    #[test]
    fn below_a_root_that_is_no_mount_the_walk_begins_at_what_is_mounted() {
        // As a chroot sees it: the mount that holds its root is not in its table.
        let text = "2 1 8:2 / /srv rw - ext4 b rw\n3 1 8:3 / /srv/a rw - ext4 c rw\n4 2 8:4 / /srv/b rw - ext4 d rw\n\
                    5 2 8:5 / /srv/a rw - ext4 e rw\n";
        let table = MountTable::parse(text.as_bytes());
        let lookup = Lookup::of(&table);
        let at = |path: &str| lookup.holder(Path::new(path)).map(|mount| mount.id);
        assert_eq!(
            (at("/srv/b/x"), at("/srv/x"), at("/srv/a"), at("/etc")),
            (Some(4), Some(2), Some(5), None)
        );
        assert_eq!(plain(text), ["/srv", "/srv/a", "/srv/b"]);
    }

    #[test]
    fn a_table_that_is_no_tree_ends_the_walk() {
        let text = "1 2 8:1 / / rw - ext4 a rw\n2 1 8:2 / / rw - ext4 b rw\n3 9 8:3 / / rw - ext4 c rw\n\
                    4 3 8:4 / / rw - ext4 d rw\n3 4 8:5 / / rw - ext4 e rw\n";
        let table = MountTable::parse(text.as_bytes());
        assert!(Lookup::of(&table).holder(Path::new("/x")).is_some());
        assert!(!all(&table, &Disk::default()).is_empty());
        assert_eq!(all(&MountTable::default(), &Disk::default()), []);
    }

    #[test]
    fn exclusions_are_by_point_by_folder_and_by_type() {
        let text = format!(
            "{ROOT}2 1 8:2 / /mnt/a rw - ext4 b rw\n3 1 8:3 / /mnt rw - xfs c rw\n4 1 8:4 / /t rw - tmpfs d rw\n"
        );
        let of = |exclude: &[&str], types: &[&str]| {
            let exclude = exclude.iter().map(PathBuf::from).collect();
            let exclude_types = types.iter().map(|&kind| kind.to_owned()).collect();
            points(&text.replace("/mnt rw", "/mnt/b rw"), &Disk { exclude, exclude_types, ..Disk::default() })
        };
        assert_eq!(of(&["/mnt/a"], &[]), ["/", "/mnt/b", "/t"]);
        assert_eq!(of(&["/mnt/*"], &["tmpfs"]), ["/"]);
    }

    #[test]
    fn what_must_be_mounted_and_is_not_is_listed() {
        let config = Disk { mount: vec![entry("/srv", false), entry("/usb", true)], ..Disk::default() };
        let table = MountTable::parse(ROOT.as_bytes());
        let targets = all(&table, &config);
        assert_eq!(targets[1], Target::Absent("/srv".into()));
        assert_eq!(targets.len(), 2);
    }
}
