#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::config::decode_config;

fuzz_target!(|data: &[u8]| {
    // The checksum stops a fuzzer, so it is made right for it.
    let text = String::from_utf8_lossy(data);
    let sum = reliab_repo::id::ObjectId::of(text.as_bytes());
    let _ = decode_config(data);
    let _ = decode_config(format!("{text},\"sha256\":\"{sum}\"}}\n").as_bytes());
});
