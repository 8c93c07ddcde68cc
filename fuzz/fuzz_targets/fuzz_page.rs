#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::page::{decode_page, encode_page};

fuzz_target!(|data: &[u8]| {
    let Ok(page) = decode_page(data) else { return };
    // What was read is written so that it reads the same.
    assert_eq!(decode_page(encode_page(&page).as_bytes()).as_ref(), Ok(&page));
});
