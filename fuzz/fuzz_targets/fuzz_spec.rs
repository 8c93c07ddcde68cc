#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::repository::{SnapshotList, SnapshotSpec};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let spec = SnapshotSpec::parse(text);
        assert!(SnapshotList::default().find(&spec.name).is_err());
    }
});
