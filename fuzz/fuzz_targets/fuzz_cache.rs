#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::fuzzing::decode_cache;

fuzz_target!(|data: &[u8]| {
    decode_cache(data);
});
