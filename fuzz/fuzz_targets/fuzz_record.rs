#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::tar::content_range;

fuzz_target!(|data: &[u8]| {
    if let [a, b, c, d, e, rest @ ..] = data {
        let offset = u32::from_le_bytes([*a, *b, 0, 0]);
        let size = u64::from_le_bytes([*c, *d, *e, 0, 0, 0, 0, 0]);
        if let Some(range) = content_range(rest, offset, size) {
            assert_eq!(rest[range].len() as u64, size);
        }
    }
});
