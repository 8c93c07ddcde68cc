//! Our own uplink: when everything fails, the fault is likely here.

use reliab_common::exit::Level;

use crate::finding::Finding;
use crate::run::Outcome;
use crate::target::Kind;

/// Whether every target that says something about the uplink failed, so that the references are to be asked.
pub(crate) fn is_in_doubt(outcomes: &[Outcome]) -> bool {
    let mut beyond = outcomes.iter().filter(|outcome| !is_local(outcome));
    !beyond.clone().any(is_reached) && all_failed(&mut beyond)
}

/// Whether the target itself was reached, by its certificate; what it then said may be bad. An answer without one may be
/// that of a gateway on this side of the uplink.
fn is_reached(outcome: &Outcome) -> bool {
    let is_verified = match &outcome.target.kind {
        Kind::Http(http) => http.tls.as_ref().is_ok_and(|tls| tls.is_verified()),
        Kind::Tls(_, tls) => tls.is_verified(),
        Kind::Tcp(_) | Kind::Dns(_) | Kind::Unready(_) => false,
    };
    is_verified && outcome.seen.tls.is_some()
}

/// Makes the outcomes of all that lies beyond the uplink UNKNOWN if the references fail too.
pub(crate) fn judge(outcomes: &mut [Outcome], references: &[Outcome]) {
    if !all_failed(references) {
        return;
    }
    let names: Vec<&str> = references.iter().map(|reference| reference.target.name.as_str()).collect();
    let got = format!("none, nor one of {}: our own uplink is down", names.join(", "));
    // What could not be asked has a reason of its own.
    let is_meant = |outcome: &&mut Outcome| outcome.level == Level::Critical && !is_local(outcome);
    for outcome in outcomes.iter_mut().filter(is_meant) {
        outcome.level = Level::Unknown;
        outcome.findings.insert(0, Finding::unknown("an answer of any target", got.clone()));
    }
}

/// Whether there are some and all failed. What could not be asked says nothing.
fn all_failed<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> bool {
    let mut asked = outcomes.into_iter().filter(|outcome| outcome.level != Level::Unknown).peekable();
    asked.peek().is_some() && asked.all(|outcome| outcome.level == Level::Critical)
}

/// Whether a target is on this machine, so that its answer is none about the uplink.
fn is_local(outcome: &Outcome) -> bool {
    let is_passed_on = match &outcome.target.kind {
        Kind::Http(http) => http.proxy.is_some(),
        // A resolver on this machine asks others; what it answers from its cache says nothing.
        Kind::Dns(_) => outcome.level == Level::Critical,
        Kind::Tcp(_) | Kind::Tls(..) | Kind::Unready(_) => false,
    };
    let is_loopback = |address: std::net::SocketAddr| address.ip().to_canonical().is_loopback();
    !is_passed_on && outcome.seen.address.is_some_and(is_loopback)
}
