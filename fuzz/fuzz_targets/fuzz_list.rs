#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::page::{decode_list, encode_list};

fuzz_target!(|data: &[u8]| {
    let Ok(rows) = decode_list(data) else { return };
    assert_eq!(decode_list(encode_list(&rows).as_bytes()).as_ref(), Ok(&rows));
});
