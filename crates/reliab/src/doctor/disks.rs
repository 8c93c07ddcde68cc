//! Disks: a repository on the disk of its source is lost together with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use reliab_common::config::Backup;

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
    let Some(of_repository) = Disk::of(nearest(&repository)) else { return };
    for source in backup.sources.iter().map(|source| folder.join(source)) {
        let Some(of_source) = Disk::of(&source) else {
            let text = format!("the source {} is not there", source.display());
            findings.push(Finding::critical(SUBJECT, text, "mend `sources` in [backup], or mount it"));
            continue;
        };
        if of_source.shares(&of_repository) {
            let (source, repository) = (source.display(), repository.display());
            findings.push(Finding::warning(
                SUBJECT,
                format!("{repository} is on the same disk as its source {source}: both are lost together"),
                "put the repository on another disk or machine, or copy it to one",
            ));
            return;
        }
    }
    findings.push(Finding::well(SUBJECT, format!("{} is on a disk of its own", repository.display())));
}

/// The path, or the nearest folder above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Where a file lies.
struct Disk {
    /// The number of its file system.
    device: u64,
    /// The disks beneath it, where the kernel knows them.
    beneath: BTreeSet<PathBuf>,
}

impl Disk {
    fn of(path: &Path) -> Option<Self> {
        let device = fs::metadata(path).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let block = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
        Some(Self { device, beneath: beneath(&block) })
    }

    fn shares(&self, other: &Self) -> bool {
        self.device == other.device || self.beneath.intersection(&other.beneath).next().is_some()
    }
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
    fn one_file_system_is_one_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk = |path: &Path| Disk::of(path).unwrap();
        assert!(disk(dir.path()).shares(&disk(nearest(&dir.path().join("a/b")))));
        assert!(!disk(dir.path()).shares(&disk(Path::new("/proc"))));
    }
}
