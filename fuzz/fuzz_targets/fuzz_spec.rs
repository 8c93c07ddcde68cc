#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::repository::{SnapshotList, SnapshotSpec};

fuzz_target!(|data: &[u8]| {
    let spec = SnapshotSpec::parse(data);
    assert!(SnapshotList::default().find(&spec.name).is_err());
});
