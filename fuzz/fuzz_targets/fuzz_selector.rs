//! No text makes the parser of selectors panic; what it takes begins with the name of a metric.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reliab_probe::metrics::{Sample, Selector};

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        assert!(text.trim_start().starts_with(&selector.name));
        let labels = vec![("a", "b".into())];
        let name = selector.name.clone();
        let _ = selector.fits(&Sample { name: &name, labels, value: 1.0 }, "");
    }
});
