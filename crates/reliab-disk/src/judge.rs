//! What is wrong with a file system, and how bad that is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use reliab_common::config::disk::DiskMount;
use reliab_common::exit::Level;
use reliab_common::units;
use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};

use crate::forecast::Forecast;
use crate::limits::Limits;
use crate::mountinfo::{Device, Mount};
use crate::mounts::Target;
use crate::question::NoAnswer;
use crate::space::Space;

/// Where udev names devices; absent in a sandbox with a `/dev` of its own, and without udev.
const NAMES: &str = "/dev/disk";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub level: Level,
    /// One line for people.
    pub text: String,
}

impl Finding {
    fn critical(text: impl Into<String>) -> Self {
        Self { level: Level::Critical, text: text.into() }
    }
}

/// What the next check must know of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The level of the room.
    pub space: Level,
    /// The level of the inodes.
    pub inodes: Level,
    /// The level of the forecast.
    pub forecast: Level,
    /// Whether it was ever seen writable.
    pub was_writable: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { space: Level::Ok, inodes: Level::Ok, forecast: Level::Ok, was_writable: false }
    }
}

/// All that is known of a file system.
pub(crate) struct Evidence<'a> {
    /// The mount, or its absence.
    pub target: &'a Target,
    /// What the configuration says of it.
    pub entry: Option<&'a DiskMount>,
    /// Its thresholds.
    pub limits: &'a Limits,
    /// Its room, or why that is not known.
    pub space: &'a Result<Space, NoAnswer>,
    /// When it will be full.
    pub forecast: Option<Forecast>,
    /// What the last check left.
    pub memory: Memory,
}

/// Everything that is wrong with a file system, and what the next check must know.
pub(crate) fn judge(evidence: &Evidence<'_>) -> (Vec<Finding>, Memory) {
    let mut memory = evidence.memory;
    let Target::Mounted(mount) = evidence.target else {
        let text = "not mounted: mount it; what is written there now goes to the file system above";
        return (vec![Finding::critical(text)], memory);
    };
    memory.was_writable |= !mount.is_read_only() && !mount.is_super_read_only();
    let mut findings: Vec<Finding> =
        [other_device(mount, evidence.entry), read_only(mount, evidence)].into_iter().flatten().collect();
    match evidence.space {
        Ok(space) => room(space, evidence, &mut memory, &mut findings),
        Err(NoAnswer::Unknown(text)) => findings.push(Finding { level: Level::Unknown, text: text.clone() }),
        Err(NoAnswer::Silent(text) | NoAnswer::Failed(text)) => findings.push(Finding::critical(text)),
    }
    (findings, memory)
}

fn room(space: &Space, evidence: &Evidence<'_>, memory: &mut Memory, findings: &mut Vec<Finding>) {
    let limits = evidence.limits;
    memory.space = limits.space(space, memory.space);
    memory.inodes = limits.inodes(space, memory.inodes);
    let forecast_level = |forecast: Forecast| limits.forecast(forecast.full_in(), memory.forecast);
    memory.forecast = evidence.forecast.map_or(Level::Ok, forecast_level);
    let mut add = |level: Level, text: &dyn Fn() -> String| {
        if level != Level::Ok {
            findings.push(Finding { level, text: text() });
        }
    };
    let threshold = |level| if level == Level::Critical { &limits.critical } else { &limits.warn };
    add(memory.space, &|| {
        let at = limits.words(space, memory.space);
        format!("{} ({} at {at})", used_and_free(space), memory.space.name())
    });
    add(memory.inodes, &|| {
        let at = threshold(memory.inodes).inodes * 100.0;
        let used = space.inodes_used_percent().unwrap_or(0);
        format!("{used}% of the inodes used ({} at {at:.0}%)", memory.inodes.name())
    });
    add(memory.forecast, &|| {
        let words = evidence.forecast.map(|forecast| forecast.words()).unwrap_or_default();
        format!("full in {words} at the present growth")
    });
}

/// The room in words.
pub(crate) fn used_and_free(space: &Space) -> String {
    let free = units::bytes(space.free);
    space
        .used_percent()
        .map_or_else(|| "no room of its own".to_owned(), |used| format!("{used}% used, {free} free"))
}

/// Whether the file system cannot be written to, though it should be.
fn read_only(mount: &Mount, evidence: &Evidence<'_>) -> Option<Finding> {
    let wanted = evidence.entry.and_then(|entry| entry.read_only);
    let (by_mount, by_super_block) = (mount.is_read_only(), mount.is_super_read_only());
    let look = "see the kernel's log, then check it with fsck";
    if mount.is_emergency_read_only() {
        return Some(Finding::critical(format!(
            "read-only: the kernel stopped writing to it after an error; {look}"
        )));
    }
    if wanted == Some(true) {
        return None;
    }
    if by_super_block && !by_mount {
        return Some(Finding::critical(format!(
            "read-only, though mounted for writing: an error made it so; {look}"
        )));
    }
    if wanted == Some(false) && (by_mount || by_super_block) {
        return Some(Finding::critical("mounted read-only, and must be writable"));
    }
    (by_super_block && evidence.memory.was_writable)
        .then(|| Finding::critical("became read-only: remount it, or set `read_only = true` for it"))
}

/// Whether something else is mounted there than the configuration expects.
fn other_device(mount: &Mount, entry: Option<&DiskMount>) -> Option<Finding> {
    let expected = entry?.device.as_ref()?;
    let source = mount.source.to_string_lossy();
    if mount.source == **expected {
        return None;
    }
    let node = node_of(expected);
    if node.as_deref().is_some_and(|node| node.starts_with(NAMES)) && !Path::new(NAMES).is_dir() {
        let text = format!(
            "cannot tell which device has {expected}, as there is no {NAMES} here: {source} is mounted"
        );
        return Some(Finding { level: Level::Unknown, text });
    }
    let is_it = node.is_some_and(|node| is_device(&node, mount));
    (!is_it).then(|| Finding::critical(format!("{source} is mounted, and must be {expected}")))
}

fn is_device(node: &Path, mount: &Mount) -> bool {
    // Only below /dev: a source may be a path on a dead file system.
    let real = |path: &Path| path.starts_with("/dev").then(|| fs::canonicalize(path).ok()).flatten();
    let is_number = fs::metadata(node).is_ok_and(|found| {
        let number = found.rdev();
        number != 0 && Device { major: major(number), minor: minor(number) } == mount.device
    });
    is_number || real(node).is_some_and(|node| Some(node) == real(Path::new(&mount.source)))
}

/// The device node that a name stands for, as mount(8) and udev have it.
fn node_of(expected: &str) -> Option<PathBuf> {
    let by = |kind: &str, name: &str| Some(Path::new(NAMES).join(kind).join(name));
    match expected.split_once('=') {
        Some(("UUID", name)) => by("by-uuid", name),
        Some(("LABEL", name)) => by("by-label", name),
        Some(("PARTUUID", name)) => by("by-partuuid", name),
        Some(("PARTLABEL", name)) => by("by-partlabel", name),
        _ => expected.starts_with("/dev/").then(|| expected.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::MountTable;
    use reliab_common::config::Disk;
    use reliab_common::config::disk::DiskLimits;

    fn target(options: &str, super_options: &str) -> Target {
        let line = format!("1 0 8:1 / /srv {options} - ext4 /dev/sdb1 {super_options}");
        Target::Mounted(MountTable::parse(line.as_bytes()).mounts.remove(0))
    }

    fn entry(device: Option<&str>, read_only: Option<bool>) -> DiskMount {
        let (warn, critical) = (DiskLimits::default(), DiskLimits::default());
        let device = device.map(str::to_owned);
        DiskMount { path: "/srv".into(), device, read_only, optional: false, warn, critical }
    }

    fn space(free: u64, inodes_free: u64) -> Space {
        Space { size: 1000, unused: free, free, inodes: 1000, inodes_free }
    }

    struct Case {
        target: Target,
        entry: Option<DiskMount>,
        space: Result<Space, NoAnswer>,
        forecast: Option<Forecast>,
        memory: Memory,
    }

    impl Case {
        fn of(target: Target) -> Self {
            let space = Ok(space(900, 900));
            Self { target, entry: None, space, forecast: None, memory: Memory::default() }
        }

        fn judge(&self) -> (Vec<(Level, String)>, Memory) {
            let limits = Limits::of(&Disk::default(), self.entry.as_ref()).unwrap();
            let (findings, memory) = judge(&Evidence {
                target: &self.target,
                entry: self.entry.as_ref(),
                limits: &limits,
                space: &self.space,
                forecast: self.forecast,
                memory: self.memory,
            });
            (findings.into_iter().map(|finding| (finding.level, finding.text)).collect(), memory)
        }

        fn check(&self, expected: &[(Level, &str)]) {
            let (found, _) = self.judge();
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for ((level, text), (expected_level, part)) in found.iter().zip(expected) {
                assert!(level == expected_level && text.contains(part), "{level:?} {text}");
            }
        }
    }

    #[test]
    fn a_writable_disk_with_room_is_well() {
        let case = Case::of(target("rw", "rw"));
        case.check(&[]);
        assert!(case.judge().1.was_writable);
    }

    #[test]
    fn room_inodes_and_forecast_are_judged_each() {
        let day = 86_400.0;
        let forecast = Forecast { earliest: 2.0 * day, expected: 3.0 * day, latest: 4.0 * day };
        let mut case =
            Case { space: Ok(space(150, 50)), forecast: Some(forecast), ..Case::of(target("rw", "rw")) };
        case.check(&[
            (Level::Warning, "85% used, 150 B free (warning at 200 B free)"),
            (Level::Critical, "95% of the inodes used (critical at 90%)"),
            (Level::Warning, "full in 2 to 4 days"),
        ]);
        case.memory = case.judge().1;
        assert_eq!((case.memory.space, case.memory.inodes), (Level::Warning, Level::Critical));
        case.space = Ok(space(210, 210));
        case.forecast = None;
        case.check(&[(Level::Warning, "79% used"), (Level::Warning, "79% of the inodes")]);
        assert_eq!(case.judge().1.forecast, Level::Ok);
    }

    #[test]
    fn read_only_is_told_by_what_it_should_be() {
        let mut case = Case::of(target("ro", "ro"));
        case.check(&[]);
        assert!(!case.judge().1.was_writable);
        case.memory.was_writable = true;
        case.check(&[(Level::Critical, "became read-only")]);
        case.entry = Some(entry(None, Some(true)));
        case.check(&[]);
        case.entry = Some(entry(None, Some(false)));
        case.check(&[(Level::Critical, "must be writable")]);
        // A bind mount or a service's own view of it; the file system is as it was.
        let mut view = Case { memory: case.memory, ..Case::of(target("ro", "rw")) };
        view.check(&[]);
        view.entry = Some(entry(None, Some(false)));
        view.check(&[(Level::Critical, "must be writable")]);
    }

    #[test]
    fn what_an_error_made_read_only_is_critical_at_once() {
        Case::of(target("rw", "ro")).check(&[(Level::Critical, "though mounted for writing")]);
        Case::of(target("rw", "rw,emergency_ro")).check(&[(Level::Critical, "the kernel stopped writing")]);
        let wanted =
            Case { entry: Some(entry(None, Some(true))), ..Case::of(target("ro", "ro,emergency_ro")) };
        wanted.check(&[(Level::Critical, "the kernel stopped writing")]);
    }

    #[test]
    fn absence_silence_and_refusal_are_told_apart() {
        Case::of(Target::Absent("/srv".into())).check(&[(Level::Critical, "not mounted")]);
        let of = |space| Case { space: Err(space), ..Case::of(target("rw", "rw")) };
        of(NoAnswer::Silent("not answering for 10 s".into())).check(&[(Level::Critical, "not answering")]);
        of(NoAnswer::Failed("Stale file handle".into())).check(&[(Level::Critical, "Stale")]);
        of(NoAnswer::Unknown("Permission denied".into())).check(&[(Level::Unknown, "denied")]);
    }

    #[test]
    fn another_device_is_noticed() {
        let of = |device| Case { entry: Some(entry(Some(device), None)), ..Case::of(target("rw", "rw")) };
        of("/dev/sdb1").check(&[]);
        let text = "/dev/sdb1 is mounted, and must be";
        for other in ["/dev/null", "nas:/export"] {
            of(other).check(&[(Level::Critical, text)]);
        }
        // Without udev nobody knows which device has the name.
        let named = if Path::new(NAMES).is_dir() {
            (Level::Critical, text)
        } else {
            (Level::Unknown, "cannot tell which device has ")
        };
        for other in ["UUID=absent", "LABEL=absent", "/dev/disk/by-id/absent"] {
            of(other).check(&[named]);
        }
        let null = "1 0 1:3 / /srv rw - ext4 /dev/mapper/x rw";
        let target = Target::Mounted(MountTable::parse(null.as_bytes()).mounts.remove(0));
        Case { target, ..of("/dev/null") }.check(&[]);
    }

    #[test]
    fn names_of_devices_are_those_of_mount() {
        let path = |name| node_of(name).map(|path| path.display().to_string());
        assert_eq!(path("UUID=1-2").as_deref(), Some("/dev/disk/by-uuid/1-2"));
        assert_eq!(path("LABEL=data").as_deref(), Some("/dev/disk/by-label/data"));
        assert_eq!(path("PARTUUID=3").as_deref(), Some("/dev/disk/by-partuuid/3"));
        assert_eq!(path("PARTLABEL=a").as_deref(), Some("/dev/disk/by-partlabel/a"));
        assert_eq!(path("nas:/export"), None);
    }
}
