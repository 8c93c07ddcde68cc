#![no_main]
use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use reliab_common::config::Disk;
use reliab_disk::mountinfo::MountTable;
use reliab_disk::mounts::{Lookup, Target, all};

fuzz_target!(|data: &[u8]| {
    let table = MountTable::parse(data);
    let lines = data.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(table.mounts.len() + table.unread, lines);
    // Looking at all of them takes the square of their number.
    if table.mounts.len() > 200 {
        return;
    }
    let lookup = Lookup::of(&table);
    let mut devices = HashSet::new();
    let mut points = HashSet::new();
    for target in all(&table, &Disk::default()) {
        assert!(target.point().is_absolute() && points.insert(target.point().to_owned()));
        let Target::Mounted(mount) = target else { panic!("nothing is configured, so nothing is missed") };
        assert!(devices.insert(mount.device));
        assert!(lookup.holder(&mount.point).is_none_or(|holder| holder.id == mount.id));
    }
});
