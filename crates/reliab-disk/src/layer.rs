//! The layers of overlays: whose room the room of an overlay is.
//!
//! An overlay tells the path of its upper directory as it was where the overlay was mounted. In a container that path
//! leads to something else or nowhere, so it is a guess that the figures of both must confirm.

use std::path::Path;

use reliab_common::config::Disk;

use crate::mountinfo::MountTable;
use crate::mounts::{Lookup, Target};
use crate::space::Space;

/// What is free changes between two looks; by no more than this part of the size.
const WAVERS: u64 = 1000;

/// The number of the target that seems to hold the files of this overlay.
///
/// `None` also for `/` and for what the configuration asks for: these are shown whatever holds them.
pub(crate) fn below(target: &Target, all: &[Target], table: &MountTable, config: &Disk) -> Option<usize> {
    let Target::Mounted(overlay) = target else { return None };
    let is_asked_for = config.mount.iter().any(|entry| entry.path == overlay.point);
    if overlay.kind != "overlay" || overlay.point == Path::new("/") || is_asked_for {
        return None;
    }
    let holder = Lookup::of(table).holder(Path::new(overlay.super_option("upperdir")?))?;
    let holds = |other: &Target| matches!(other, Target::Mounted(other) if other.device == holder.device);
    (holder.kind != "overlay").then(|| all.iter().position(holds)).flatten()
}

/// Whether two rooms are one and the same.
pub(crate) fn is_same(a: &Space, b: &Space) -> bool {
    (a.size, a.inodes) == (b.size, b.inodes) && a.free.abs_diff(b.free) <= a.size / WAVERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts;
    use reliab_common::config::disk::{DiskLimits, DiskMount};

    const ROOT: &str = "1 0 8:1 / / rw - ext4 /dev/a rw\n";
    const MERGED: &str = "2 1 0:9 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n";

    /// The mount points that are looked at, each with the one that seems to hold its files.
    fn pairs(text: &str, config: &Disk) -> Vec<(String, Option<String>)> {
        let table = MountTable::parse(text.as_bytes());
        let targets = mounts::all(&table, config);
        let name = |target: &Target| target.point().display().to_string();
        let holder = |target| below(target, &targets, &table, config).map(|at| name(&targets[at]));
        targets.iter().map(|target| (name(target), holder(target))).collect()
    }

    fn pair(point: &str, holder: Option<&str>) -> (String, Option<String>) {
        (point.into(), holder.map(str::to_owned))
    }

    #[test]
    fn an_overlay_has_the_room_of_what_holds_its_upper_directory() {
        let plain = |text: &str| pairs(text, &Disk::default());
        let both = [pair("/", None), pair("/merged", Some("/"))];
        assert_eq!(plain(&format!("{ROOT}{MERGED}")), both);
        let read_only = "2 1 0:9 / /merged ro - overlay overlay ro,lowerdir=/l:/m\n";
        assert_eq!(plain(&format!("{ROOT}{read_only}"))[1], pair("/merged", None));
    }

    #[test]
    fn the_root_and_what_is_configured_have_a_room_of_their_own() {
        let container = "1 0 0:9 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/u,workdir=/w\n\
                         2 1 8:2 / /var rw - ext4 /dev/b rw\n";
        let both = [pair("/", None), pair("/var", None)];
        assert_eq!(pairs(container, &Disk::default()), both);
        let limits = DiskLimits::default;
        let (warn, critical) = (limits(), limits());
        let (device, read_only, optional) = (None, None, false);
        let entry = DiskMount { path: "/merged".into(), device, read_only, optional, warn, critical };
        let config = Disk { mount: vec![entry], ..Disk::default() };
        assert_eq!(pairs(&format!("{ROOT}{MERGED}"), &config)[1], pair("/merged", None));
        // What is left out is not looked at, so nothing would tell of its room.
        let config = Disk { exclude: vec!["/".into()], ..Disk::default() };
        assert_eq!(pairs(&format!("{ROOT}{MERGED}"), &config), [pair("/merged", None)]);
    }

    #[test]
    fn rooms_are_the_same_by_their_figures() {
        let space = Space { size: 1_000_000, unused: 10, free: 500_000, inodes: 10, inodes_free: 5 };
        assert!(is_same(&space, &Space { free: 500_900, inodes_free: 4, ..space }));
        assert!(!is_same(&space, &Space { free: 502_000, ..space }));
        assert!(!is_same(&space, &Space { size: 1_000_001, ..space }));
        assert!(!is_same(&space, &Space { inodes: 11, ..space }));
    }
}
