#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::table::{decode_index, encode_index};

fuzz_target!(|data: &[u8]| {
    let Ok(packs) = decode_index(data) else { return };
    assert_eq!(decode_index(encode_index(&packs).as_bytes()).as_ref(), Ok(&packs));
});
