//! Metrics as text never make the parser panic, and what it reads can be asked for labels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reliab_probe::metrics::{Selector, parse};

fuzz_target!(|text: &str| {
    let Ok(selector) = Selector::parse("a{b=~\"c.*\"}") else { return };
    for open_metrics in [false, true] {
        let mut samples = 0;
        let result = parse(text, open_metrics, |sample| {
            samples += 1;
            let _ = selector.fits(&sample, "");
            assert!(!sample.name.is_empty());
        });
        assert!(samples <= text.lines().count());
        if open_metrics && result.is_ok() {
            assert!(text.contains("# EOF"));
        }
    }
});
