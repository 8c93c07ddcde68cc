//! Conditions on JSON and documents, neither of which may make the other panic: the first line is the condition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reliab_probe::json::Condition;

fuzz_target!(|text: &str| {
    let (condition, document) = text.split_once('\n').unwrap_or((text, "{\"a\": [1, \"x\", {\"a\": null}]}"));
    let Ok(condition) = Condition::parse(condition) else { return };
    let Ok(document) = serde_json::from_str(document) else { return };
    if let Err(got) = condition.check(&document) {
        assert!(got.chars().all(|c| !c.is_control()));
    }
});
