//! Any text as a rule: it is read or refused, and an error points into it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reliab_alert::rule::parse::parse;

fuzz_target!(|text: &str| {
    if let Err(error) = parse(text) {
        assert!(error.at <= error.text.chars().count(), "{error}");
        assert!(!error.to_string().is_empty());
    }
});
