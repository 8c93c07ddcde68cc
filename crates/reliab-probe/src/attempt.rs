//! One attempt at one target.

use chrono::Utc;
use reliab_common::config::probe::{DaysLimit, LatencyLimit};
use reliab_common::exit::Level;

use crate::dial::Net;
use crate::finding::{Finding, worst};
use crate::http::Answer;
use crate::report::took;
use crate::socket::Permit;
use crate::target::{Kind, Target};
use crate::trace::{Phase, Trace};
use crate::{dns, http, tcp};

/// An attempt that is over.
pub(crate) struct Attempt {
    /// Where the time went, what was seen and what was found.
    pub trace: Trace,
    /// The answer, where it was to be kept.
    pub answer: Option<Answer>,
}

impl Attempt {
    /// What it says about the target.
    pub(crate) fn level(&self) -> Level {
        worst(&self.trace.findings)
    }

    /// Whether another attempt may end better.
    pub(crate) fn may_pass(&self) -> bool {
        let mut findings = self.trace.findings.iter().filter(|finding| finding.level != Level::Ok);
        findings.any(|finding| !finding.lasting)
    }
}

/// Makes an attempt.
pub(crate) async fn attempt(net: &Net, target: &Target, permit: Permit) -> Attempt {
    let mut trace = Trace::start(target.timeout);
    let deadline = trace.shared_deadline();
    let result = deadline.limit(Box::pin(act(net, target, &permit, &mut trace))).await;
    let phase = trace.phase();
    trace.stop();
    let answer = match result {
        Some(Ok(answer)) => {
            judge_certificate(target.cert_days, &mut trace);
            answer
        }
        Some(Err(finding)) => {
            trace.findings.push(finding);
            None
        }
        None => {
            trace.findings.push(late(phase, target));
            None
        }
    };
    judge_latency(target, &mut trace);
    Attempt { trace, answer }
}

async fn act(
    net: &Net,
    target: &Target,
    permit: &Permit,
    trace: &mut Trace,
) -> Result<Option<Answer>, Finding> {
    let rules = &target.dial;
    match &target.kind {
        Kind::Http(http) => http::attempt(net, http, rules, permit, trace).await,
        Kind::Tcp(tcp) => tcp::attempt(net, tcp, None, rules, permit, trace).await.map(|()| None),
        Kind::Tls(tcp, tls) => tcp::attempt(net, tcp, Some(tls), rules, permit, trace).await.map(|()| None),
        Kind::Dns(dns) => dns::attempt(dns, rules, trace).await.map(|()| None),
        Kind::Unready(problem) => Err(Finding::unknown("to be able to ask", problem).lasting()),
    }
}

/// The finding that the time of the whole attempt was over in this phase.
fn late(phase: Option<Phase>, target: &Target) -> Finding {
    match phase {
        Some(phase) => phase.late(target.timeout),
        None => {
            Finding::unknown("a free thread to resolve the name", "none: all wait for names of other probes")
        }
    }
}

fn judge_certificate(limit: Option<DaysLimit>, trace: &mut Trace) {
    let finding = match &trace.seen.certificate {
        Some(certificate) => certificate.judge(limit, Utc::now()),
        // What was expected of it was not seen to hold.
        None => limit.map(|_| Finding::critical("a certificate", "none that can be read").lasting()),
    };
    trace.findings.extend(finding);
}

/// Latency says something about an answer only; an attempt that failed has its finding.
fn judge_latency(target: &Target, trace: &mut Trace) {
    if worst(&trace.findings) == Level::Critical {
        return;
    }
    let mut findings = Vec::new();
    let limits = &target.latency;
    findings.extend(slow("an answer", trace.total(), limits.total));
    for phase in Phase::ALL {
        let limit = limits.phases[phase as usize];
        findings.extend(trace.took(phase).and_then(|time| slow(phase.label(), time, limit)));
    }
    trace.findings.extend(findings);
}

fn slow(what: &str, time: std::time::Duration, limit: Option<LatencyLimit>) -> Option<Finding> {
    let limit = limit?;
    let over = |limit: Option<std::time::Duration>| limit.filter(|&limit| time > limit);
    let found = over(limit.critical).map(|limit| (Level::Critical, limit));
    let (level, limit) = found.or_else(|| over(limit.warn).map(|limit| (Level::Warning, limit)))?;
    let finding = Finding::critical(format!("{what} within {}", took(limit)), took(time));
    Some(Finding { level, ..finding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_certificate_that_was_not_seen_is_not_valid_for_days() {
        let mut trace = Trace::start(Duration::from_secs(1));
        judge_certificate(None, &mut trace);
        assert_eq!(worst(&trace.findings), Level::Ok);
        judge_certificate(Some(DaysLimit { warn: Some(20), critical: None }), &mut trace);
        assert_eq!(worst(&trace.findings), Level::Critical);
    }
}
