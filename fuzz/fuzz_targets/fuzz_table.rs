#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::table::{decode_table, encode_table, frame_len};

fuzz_target!(|data: &[u8]| {
    let _ = frame_len(data);
    let Ok(rows) = decode_table(data) else { return };
    assert_eq!(decode_table(&encode_table(&rows)).as_ref(), Ok(&rows));
});
