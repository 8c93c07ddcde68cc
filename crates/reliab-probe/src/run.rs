//! A run: all targets, in one thread, with bounded sockets and spread starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use reliab_common::signal::Stop;
use reliab_common::ui::Progress;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::attempt::{Attempt, attempt};
use crate::dial::{LOOKUPS, Net};
use crate::finding::Finding;
use crate::http::Answer;
use crate::socket::Permit;
use crate::target::Target;
use crate::trace::{Phase, Seen};
use crate::uplink;

/// No start follows while work that is ready waits longer than this: what is measured is the target, not our queue.
const CALM: Duration = Duration::from_millis(1);
/// … but no start waits longer than this: a peer that keeps us busy must not keep others from being asked.
const BUSY: Duration = Duration::from_secs(1);
/// How often a run looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// What came of a target.
pub(crate) struct Outcome {
    /// The target.
    pub target: Arc<Target>,
    /// When the first attempt began.
    pub at: DateTime<Utc>,
    /// What it is.
    pub level: Level,
    /// What the last attempt found.
    pub findings: Vec<Finding>,
    /// What the attempts before the last found.
    pub earlier: Vec<String>,
    /// How long the last attempt took.
    pub total: Duration,
    /// How long its phases took.
    pub phases: [Option<Duration>; Phase::ALL.len()],
    /// What it saw.
    pub seen: Seen,
    /// The answer, where it was to be kept.
    pub answer: Option<Answer>,
}

impl Outcome {
    fn of(target: Arc<Target>, at: DateTime<Utc>, earlier: Vec<String>, last: Attempt) -> Self {
        let level = last.level();
        let (trace, answer) = (last.trace, last.answer);
        let phases = Phase::ALL.map(|phase| trace.took(phase));
        let total = trace.total();
        Self { target, at, level, findings: trace.findings, earlier, total, phases, seen: trace.seen, answer }
    }

    /// The outcome of a target whose task broke down.
    fn broken(target: Arc<Target>) -> Self {
        let finding = Finding::unknown("an outcome", "a panic of reliab, which is a bug");
        let (earlier, seen, phases) = (Vec::new(), Seen::default(), [None; Phase::ALL.len()]);
        let (at, total, findings) = (Utc::now(), Duration::ZERO, vec![finding]);
        Self { target, at, level: Level::Unknown, findings, earlier, total, phases, seen, answer: None }
    }

    /// How many attempts there were.
    pub(crate) fn attempts(&self) -> usize {
        self.earlier.len() + 1
    }
}

/// Attempts all targets, and the references where all fail; the outcomes are in the order of the targets.
pub(crate) fn run(
    targets: Vec<Target>,
    references: Vec<Target>,
    max_sockets: usize,
    stop: &Stop,
    progress: &Progress,
) -> anyhow::Result<Vec<Outcome>> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().max_blocking_threads(LOOKUPS).build();
    let runtime = runtime.context("cannot start the probes")?;
    let result = runtime.block_on(async {
        let crew = Crew { net: Net::new(), sockets: Arc::new(Semaphore::new(max_sockets)) };
        let work = async {
            let mut outcomes = crew.attempt_all(targets, progress).await;
            if uplink::is_in_doubt(&outcomes) {
                let references = crew.attempt_all(references, &Progress::default()).await;
                uplink::judge(&mut outcomes, &references);
            }
            outcomes
        };
        tokio::select! {
            outcomes = work => Ok(outcomes),
            () = stopped(stop) => Err(anyhow::anyhow!("stopped before every target was asked: nothing of this run counts")),
        }
    });
    // A thread in which the system still resolves a name cannot be stopped, and nobody waits for it.
    runtime.shutdown_background();
    result
}

async fn stopped(stop: &Stop) {
    while !stop.requested() {
        tokio::time::sleep(GLANCE).await;
    }
}

/// What all attempts share.
#[derive(Clone)]
struct Crew {
    net: Net,
    sockets: Arc<Semaphore>,
}

impl Crew {
    async fn attempt_all(&self, targets: Vec<Target>, progress: &Progress) -> Vec<Outcome> {
        let targets: Vec<_> = targets.into_iter().map(Arc::new).collect();
        let mut outcomes: Vec<Option<Outcome>> = targets.iter().map(|_| None).collect();
        let mut running = JoinSet::new();
        let mut keep = |joined: Result<(usize, Outcome), tokio::task::JoinError>| {
            progress.advance(0, 1);
            if let Ok((index, outcome)) = joined {
                outcomes[index] = Some(outcome);
            }
        };
        for (index, target) in targets.iter().enumerate() {
            let permit = self.permit().await;
            calm().await;
            let (crew, target) = (self.clone(), Arc::clone(target));
            running.spawn(async move { (index, crew.pursue(target, permit).await) });
            while let Some(joined) = running.try_join_next() {
                keep(joined);
            }
        }
        while let Some(joined) = running.join_next().await {
            keep(joined);
        }
        let all = outcomes.into_iter().zip(targets);
        all.map(|(outcome, target)| outcome.unwrap_or_else(|| Outcome::broken(target))).collect()
    }

    async fn permit(&self) -> Permit {
        let permit = Arc::clone(&self.sockets).acquire_owned().await;
        Arc::new(permit.unwrap_or_else(|_| unreachable!("the semaphore is never closed")))
    }

    /// Attempts a target until it is well or has had its attempts.
    async fn pursue(&self, target: Arc<Target>, permit: Permit) -> Outcome {
        let at = Utc::now();
        let mut earlier = Vec::new();
        let mut last = attempt(&self.net, &target, permit).await;
        for _ in 0..target.retries {
            if !last.may_pass() {
                break;
            }
            earlier.push(last.trace.findings.iter().map(Finding::text).collect::<Vec<_>>().join("; "));
            drop(last);
            tokio::time::sleep(target.retry_pause).await;
            last = attempt(&self.net, &target, self.permit().await).await;
        }
        Outcome::of(target, at, earlier, last)
    }
}

/// Waits until what is ready to go on does so without delay.
async fn calm() {
    let began = Instant::now();
    while began.elapsed() < BUSY {
        let asked = Instant::now();
        tokio::task::yield_now().await;
        if asked.elapsed() < CALM {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_keeps_us_busy_keeps_no_other_from_being_asked() {
        let busy = tokio::spawn(async {
            loop {
                std::thread::sleep(CALM * 2);
                tokio::task::yield_now().await;
            }
        });
        let started = Instant::now();
        // Without a bound this never ends, and no timer of the runtime would say so.
        calm().await;
        assert!(started.elapsed() < BUSY * 3);
        busy.abort();
    }
}
