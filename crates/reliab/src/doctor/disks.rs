//! Disks: a repository on the disk of its source is lost together with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use reliab_common::config::Backup;
use reliab_disk::mountinfo::{Mount, MountTable};

use super::Patient;
use super::finding::Finding;

const SUBJECT: &str = "repository";

/// Compares the disks of the repository with those of the sources.
pub fn check(patient: &Patient, findings: &mut Vec<Finding>) {
    let backup = &patient.config.backup;
    let is_default = *backup == Backup::default();
    let folder = patient.folder();
    let repository = folder.join(&backup.repository);
    let is_scheduled = patient.config.schedule.iter().any(|(name, job)| job.tool(name) == "backup");
    // Who only watches has nothing to back up.
    if is_default && !is_scheduled && !repository.exists() {
        return;
    }
    let mounts = MountTable::read().unwrap_or_default();
    let Some(of_repository) = Disk::of(nearest(&repository), &mounts) else { return };
    let (mut unknown, mut is_whole) = (None, !backup.sources.is_empty());
    for source in backup.sources.iter().map(|source| folder.join(source)) {
        let Some(of_source) = Disk::of(&source, &mounts) else {
            let text = format!("the source {} is not there", source.display());
            findings.push(Finding::critical(SUBJECT, text, "mend `sources` in [backup], or mount it"));
            is_whole = false;
            continue;
        };
        match of_source.shares(&of_repository) {
            Some(false) => {}
            Some(true) => {
                findings.push(shared(&source, &repository));
                return;
            }
            None => unknown = Some(source),
        }
    }
    match unknown {
        Some(source) => findings.push(untold(&source, &repository)),
        // What was not compared with every source is not said to be apart from them.
        None if is_whole => {
            let text = format!("{} is on a disk of its own", repository.display());
            findings.push(Finding::well(SUBJECT, text));
        }
        None => {}
    }
}

fn untold(source: &Path, repository: &Path) -> Finding {
    let (source, repository) = (source.display(), repository.display());
    Finding::unknown(
        SUBJECT,
        format!("it cannot be told whether {repository} is on the same disk as its source {source}"),
        "see what they are mounted from: findmnt",
    )
}

fn shared(source: &Path, repository: &Path) -> Finding {
    let (source, repository) = (source.display(), repository.display());
    Finding::warning(
        SUBJECT,
        format!("{repository} is on the same disk as its source {source}: both are lost together"),
        "put the repository on another disk or machine, or copy it to one",
    )
}

/// The path, or the nearest folder above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Where a file lies.
struct Disk {
    /// The number of its file system; each subvolume has its own.
    device: u64,
    /// The disks beneath it; none where they are not known.
    beneath: BTreeSet<PathBuf>,
    /// The other machine that it lies on.
    machine: Option<String>,
}

impl Disk {
    fn of(path: &Path, mounts: &MountTable) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let device = fs::metadata(&path).ok()?.dev();
        // What was mounted last on a place is what is seen there.
        let mount = mounts.mounts.iter().filter(|mount| path.starts_with(&mount.point));
        let mount = mount.max_by_key(|mount| mount.point.components().count());
        Some(Self::on(device, mount, Path::new("/sys")))
    }

    fn on(device: u64, mount: Option<&Mount>, sys: &Path) -> Self {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let mut disks = beneath(&sys.join("dev/block").join(format!("{major}:{minor}")));
        // Some file systems, such as btrfs, have numbers that are no device's: what was mounted is one.
        let source = mount.map(|mount| Path::new(&mount.source)).filter(|source| source.starts_with("/dev"));
        if let Some(source) = source.filter(|_| disks.is_empty()) {
            let device = source.canonicalize().unwrap_or_else(|_| source.to_owned());
            let name = device.strip_prefix("/dev").unwrap_or(&device).display().to_string();
            let name = name.replace('/', "!");
            let is_btrfs = mount.is_some_and(|mount| mount.kind == "btrfs");
            disks = if is_btrfs { btrfs(sys, &name) } else { beneath(&sys.join("class/block").join(name)) };
        }
        Self { device, beneath: disks, machine: mount.and_then(machine) }
    }

    /// Whether both are lost together; `None` where that cannot be told.
    fn shares(&self, other: &Self) -> Option<bool> {
        if self.device == other.device {
            return Some(true);
        }
        let is_known = |disk: &Self| disk.machine.is_some() || !disk.beneath.is_empty();
        let meet = self.beneath.intersection(&other.beneath).next().is_some();
        (is_known(self) && is_known(other))
            .then(|| meet || (self.machine.is_some() && self.machine == other.machine))
    }
}

/// The other machine that a file system is mounted from.
fn machine(mount: &Mount) -> Option<String> {
    let source = mount.source.to_string_lossy();
    match mount.kind.as_str() {
        "nfs" | "nfs4" | "fuse.sshfs" => {
            let host = source.rsplit_once(':')?.0;
            Some(host.rsplit('@').next().unwrap_or(host).to_owned())
        }
        "cifs" | "smb3" => Some(source.trim_start_matches('/').split('/').next()?.to_owned()),
        _ => None,
    }
}

/// The whole disks beneath all devices of the btrfs that has the device `name`; none where they are not all known.
///
/// The source of a mount is only one of them. See the kernel's Documentation/ABI/testing/sysfs-fs-btrfs.
fn btrfs(sys: &Path, name: &str) -> BTreeSet<PathBuf> {
    let entries =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let holds = |file_system: &PathBuf| file_system.join("devices").join(name).exists();
    let Some(file_system) = entries(sys.join("fs/btrfs")).find(holds) else { return BTreeSet::new() };
    let is_missing =
        |device: PathBuf| fs::read_to_string(device.join("missing")).is_ok_and(|text| text.trim() == "1");
    if entries(file_system.join("devinfo")).any(is_missing) {
        return BTreeSet::new();
    }
    entries(file_system.join("devices")).flat_map(|device| beneath(&device)).collect()
}

/// The whole disks beneath a block device: a partition's disk, and those of what a mapped device stands on.
fn beneath(block: &Path) -> BTreeSet<PathBuf> {
    let Ok(block) = block.canonicalize() else { return BTreeSet::new() };
    let slaves: Vec<PathBuf> = fs::read_dir(block.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|slave| slave.path())
        .collect();
    if !slaves.is_empty() {
        return slaves.iter().flat_map(|slave| beneath(slave)).collect();
    }
    let is_partition = block.join("partition").exists();
    let disk = if is_partition { block.parent().map(Path::to_owned) } else { Some(block) };
    disk.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A part of /sys: a disk with two partitions, another disk, and a mapped device on one of the partitions.
    fn sys() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["sda/sda1", "sda/sda2", "sdb", "dm-0/slaves"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["sda/sda1/partition", "sda/sda2/partition"] {
            fs::write(at(path), "1\n").unwrap();
        }
        symlink(at("sda/sda2"), at("dm-0/slaves/sda2")).unwrap();
        dir
    }

    #[test]
    fn partitions_and_mapped_devices_lead_to_their_disk() {
        let sys = sys();
        let of = |path: &str| beneath(&sys.path().join(path));
        assert_eq!(of("sda/sda1"), of("sda/sda2"));
        assert_eq!(of("dm-0"), of("sda"));
        assert!(of("sdb").is_disjoint(&of("dm-0")));
        assert_eq!(of("absent"), BTreeSet::new());
    }

    #[test]
    fn one_file_system_is_one_disk_and_what_is_not_known_is_not_well() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = MountTable::read().unwrap();
        let disk = |path: &Path| Disk::of(path, &mounts).unwrap();
        assert_eq!(disk(dir.path()).shares(&disk(nearest(&dir.path().join("a/b")))), Some(true));
        assert_eq!(disk(dir.path()).shares(&disk(Path::new("/proc"))), None);
    }

    /// Adds a btrfs over these devices to a part of /sys.
    fn btrfs_of(sys: &Path, name: &str, devices: &[&str]) {
        let folder = sys.join("fs/btrfs").join(name).join("devices");
        fs::create_dir_all(&folder).unwrap();
        for device in devices {
            symlink(sys.join(device), folder.join(device.rsplit('/').next().unwrap())).unwrap();
        }
    }

    #[test]
    fn all_devices_of_a_btrfs_are_compared_unless_one_is_missing() {
        let sys = sys();
        fs::create_dir_all(sys.path().join("sdc")).unwrap();
        btrfs_of(sys.path(), "pool", &["sda/sda1", "sdb"]);
        btrfs_of(sys.path(), "copy", &["dm-0"]);
        btrfs_of(sys.path(), "far", &["sdc"]);
        let table = MountTable::parse(
            b"21 1 0:31 / /srv rw - btrfs /dev/sdb rw\n22 1 0:32 / /copy rw - btrfs /dev/dm-0 rw\n\
            23 1 0:33 / /far rw - btrfs /dev/sdc rw\n24 1 0:34 / /gone rw - btrfs /dev/sdx rw\n",
        );
        let disk = |number: usize| {
            let device = rustix::fs::makedev(0, 31 + u32::try_from(number).unwrap());
            Disk::on(device, Some(&table.mounts[number]), sys.path())
        };
        assert_eq!(disk(0).beneath.len(), 2);
        // The mount names sdb, and the other file system is on a partition of sda.
        assert_eq!(disk(0).shares(&disk(1)), Some(true));
        assert_eq!(disk(0).shares(&disk(2)), Some(false));
        assert_eq!(disk(0).shares(&disk(3)), None);
        let missing = sys.path().join("fs/btrfs/pool/devinfo/2");
        fs::create_dir_all(&missing).unwrap();
        fs::write(missing.join("missing"), "1\n").unwrap();
        assert_eq!(disk(0).shares(&disk(2)), None);
        fs::write(missing.join("missing"), "0\n").unwrap();
        assert_eq!(disk(0).shares(&disk(2)), Some(false));
    }

    /// Two subvolumes, a file system on another disk, one of another machine, and one that has no disk.
    #[test]
    fn subvolumes_are_on_the_disk_that_was_mounted() {
        let sys = sys();
        btrfs_of(sys.path(), "one", &["sda/sda1"]);
        btrfs_of(sys.path(), "two", &["sdb"]);
        let text = "21 1 0:31 /data /data rw - btrfs /dev/sda1 rw\n22 1 0:31 /home /home rw - btrfs /dev/sda1 rw\n\
            23 1 0:33 / /mnt rw - btrfs /dev/sdb rw\n24 1 0:34 / /far rw - nfs4 nas:/export rw\n\
            25 1 0:35 / /pool rw - zfs pool/a rw\n";
        let mounts = MountTable::parse(text.as_bytes()).mounts;
        let disk = |number: u64| {
            let mount = &mounts[usize::try_from(number).unwrap()];
            Disk::on(rustix::fs::makedev(0, 40 + u32::try_from(number).unwrap()), Some(mount), sys.path())
        };
        assert_eq!(disk(0).shares(&disk(1)), Some(true));
        assert_eq!(disk(0).shares(&disk(2)), Some(false));
        assert_eq!(disk(0).shares(&disk(3)), Some(false));
        assert_eq!(disk(0).shares(&disk(4)), None);
    }
}
