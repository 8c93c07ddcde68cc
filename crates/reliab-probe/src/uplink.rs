//! Our own uplink: when everything fails, the fault is likely here.

use reliab_common::exit::Level;

use crate::finding::Finding;
use crate::run::Outcome;

/// Whether every target failed, so that the references are to be asked.
pub(crate) fn is_in_doubt(outcomes: &[Outcome]) -> bool {
    !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.level == Level::Critical)
}

/// Makes all outcomes UNKNOWN if the references fail too.
pub(crate) fn judge(outcomes: &mut [Outcome], references: &[Outcome]) {
    if !is_in_doubt(references) {
        return;
    }
    let names: Vec<&str> = references.iter().map(|reference| reference.target.name.as_str()).collect();
    let got = format!("none, nor one of {}: our own uplink is down", names.join(", "));
    for outcome in outcomes {
        outcome.level = Level::Unknown;
        outcome.findings.insert(0, Finding::unknown("an answer of any target", got.clone()));
    }
}
