#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::snapshot::{decode_snapshot, encode_snapshot};

fuzz_target!(|data: &[u8]| {
    let Ok(snapshot) = decode_snapshot(data) else { return };
    let bytes = encode_snapshot(&snapshot).expect("a decoded snapshot can be written");
    assert_eq!(decode_snapshot(&bytes).as_ref(), Ok(&snapshot));
});
