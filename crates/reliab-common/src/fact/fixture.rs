//! Made-up facts, and a state for them.

use serde_json::json;

use super::{CheckResult, DateTime, Facts, Level, Sample, State, Utc, store_all};

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// How much of `/` is used.
pub(super) fn sample(at: DateTime<Utc>, value: f64) -> Sample {
    let (source, target, figure) = ("disk".into(), "/".into(), "used".into());
    Sample { source, target, figure, unit: "1", at, value }
}

/// The result of a probe.
pub(super) fn check(target: &str, at: DateTime<Utc>, level: Level) -> CheckResult {
    let (source, target, summary) = ("probe".into(), target.into(), "as told".into());
    CheckResult { source, target, at, level, summary, detail: json!({"status": 200}) }
}

pub(super) fn state() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    (dir, state)
}

pub(super) fn put(state: &State, checks: Vec<CheckResult>, samples: Vec<Sample>) {
    state.write(|db| store_all(db, None, &Facts { checks, samples })).unwrap();
}
