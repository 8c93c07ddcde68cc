#![no_main]
use libfuzzer_sys::fuzz_target;
use reliab_repo::format::escape::{escape, unescape};

fuzz_target!(|data: &[u8]| {
    assert_eq!(unescape(&escape(data)).as_deref(), Ok(data));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(raw) = unescape(text)
    {
        assert_eq!(escape(&raw), text);
    }
});
