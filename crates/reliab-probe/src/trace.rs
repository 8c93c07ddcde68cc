//! Where the time of an attempt goes, and what is seen on the way.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reliab_common::config::probe::PhaseLimits;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::finding::Finding;

/// A phase of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The name is resolved; a DNS probe is this alone.
    Dns,
    /// A connection is made, through a proxy if need be.
    Connect,
    /// The TLS handshake.
    Tls,
    /// From the request to the first byte of the answer.
    FirstByte,
    /// From the first byte to the last.
    Transfer,
}

impl Phase {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 5] = [Self::Dns, Self::Connect, Self::Tls, Self::FirstByte, Self::Transfer];

    /// The name in figures and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
        }
    }

    /// The name for people.
    pub(crate) fn label(self) -> &'static str {
        if self == Self::FirstByte { "first byte" } else { self.name() }
    }

    /// What the phase ends with.
    fn awaited(self) -> &'static str {
        match self {
            Self::Dns => "an answer from DNS",
            Self::Connect => "a connection",
            Self::Tls => "a TLS handshake",
            Self::FirstByte => "a first byte",
            Self::Transfer => "the whole answer",
        }
    }

    /// The finding that the phase did not end in time.
    pub(crate) fn late(self, limit: Duration) -> Finding {
        let got = if self == Self::Transfer { "only a part of it" } else { "none" };
        Finding::critical(format!("{} within {}", self.awaited(), crate::report::took(limit)), got)
    }

    /// The limit of the phase.
    pub(crate) fn limit(self, limits: &PhaseLimits) -> Option<Duration> {
        match self {
            Self::Dns => limits.dns,
            Self::Connect => limits.connect,
            Self::Tls => limits.tls,
            Self::FirstByte => limits.first_byte,
            Self::Transfer => limits.transfer,
        }
    }
}

/// What was seen of the target.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Seen {
    /// The address connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The protocol of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Bytes of the last answer's body, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The certificate shown, of all on the way the one that ends first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Where redirects led.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<String>,
    /// The response code of a DNS answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    /// The records of a DNS answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
}

/// The moment of the first byte, set by the socket that sees it.
pub(crate) type FirstByte = Arc<OnceLock<Instant>>;

/// When an attempt must be over. It may be moved while somebody waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    fn at(moment: Instant) -> Self {
        Self(Arc::new(Mutex::new(moment)))
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// Does work until it is done or the deadline is over, wherever that is by then.
    pub(crate) async fn limit<T>(&self, mut work: impl Future<Output = T> + Unpin) -> Option<T> {
        loop {
            let until = self.get();
            match tokio::time::timeout_at(until.into(), &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.get() > until => {}
                Err(_) => return None,
            }
        }
    }
}

/// One attempt while it goes on, and after.
#[derive(Debug)]
pub(crate) struct Trace {
    started: Instant,
    deadline: Deadline,
    durations: [Option<Duration>; 5],
    current: Option<(Phase, Instant)>,
    first: Option<FirstByte>,
    total: Duration,
    /// What was seen.
    pub seen: Seen,
    /// What was not as expected and did not end the attempt.
    pub findings: Vec<Finding>,
}

impl Trace {
    /// An attempt that begins now.
    pub(crate) fn start(timeout: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            deadline: Deadline::at(started + timeout),
            durations: [None; 5],
            current: None,
            first: None,
            total: Duration::ZERO,
            seen: Seen::default(),
            findings: Vec::new(),
        }
    }

    /// A phase begins.
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.current = Some((phase, Instant::now()));
    }

    /// The phase ends now.
    pub(crate) fn end(&mut self) {
        self.end_at(Instant::now());
    }

    fn end_at(&mut self, at: Instant) {
        if let Some((phase, since)) = self.current.take() {
            // Redirects pass through the phases again; their times add up.
            *self.durations[phase as usize].get_or_insert_default() += at.saturating_duration_since(since);
        }
    }

    /// A request is about to be sent; `first` will hold when its answer began, where the protocol tells it.
    pub(crate) fn await_first_byte(&mut self, first: Option<FirstByte>) {
        self.first = first;
        self.begin(Phase::FirstByte);
    }

    /// The head of the answer is there: the transfer began with its first byte.
    pub(crate) fn answer_began(&mut self) {
        let at = self.first.take().and_then(|first| first.get().copied()).unwrap_or_else(Instant::now);
        self.end_at(at);
        self.current = Some((Phase::Transfer, at));
    }

    /// When the attempt must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// Where that will be told while the attempt goes on.
    pub(crate) fn shared_deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Time in which the attempt waited for reliab itself; it does not count, and the target has it afterwards.
    pub(crate) fn excuse(&mut self, waited: Duration) {
        self.started += waited;
        self.deadline.extend(waited);
    }

    /// The attempt is over, in whatever phase it was.
    pub(crate) fn stop(&mut self) {
        let now = Instant::now();
        if self.phase() == Some(Phase::Transfer) && self.first.is_some() {
            self.answer_began();
        }
        self.end_at(now);
        self.total = now.saturating_duration_since(self.started);
    }

    /// The phase the attempt is in. A head that comes slowly is a transfer from its first byte on.
    pub(crate) fn phase(&self) -> Option<Phase> {
        let (phase, _) = self.current?;
        let began = self.first.as_ref().is_some_and(|first| first.get().is_some());
        Some(if phase == Phase::FirstByte && began { Phase::Transfer } else { phase })
    }

    /// How long a phase took, if the attempt came to it.
    pub(crate) fn took(&self, phase: Phase) -> Option<Duration> {
        self.durations[phase as usize]
    }

    /// How long the attempt took.
    pub(crate) fn total(&self) -> Duration {
        self.total
    }

    /// Does the work of a phase within its limit.
    pub(crate) async fn limited<T>(
        phase: Phase,
        limit: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Result<T, Finding> {
        let Some(limit) = limit else { return Ok(work.await) };
        tokio::time::timeout(limit, work).await.map_err(|_| phase.late(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_never_ends_is_a_transfer_from_its_first_byte_on() {
        let mut trace = Trace::start(Duration::from_secs(1));
        let first = FirstByte::default();
        trace.await_first_byte(Some(first.clone()));
        assert_eq!(trace.phase(), Some(Phase::FirstByte));
        first.set(Instant::now() + Duration::from_millis(0)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(trace.phase(), Some(Phase::Transfer));
        trace.stop();
        assert!(trace.took(Phase::FirstByte).unwrap() < Duration::from_millis(10));
        assert!(trace.took(Phase::Transfer).unwrap() >= Duration::from_millis(20));
    }

    #[test]
    fn phases_of_several_hops_add_up_and_those_never_reached_are_absent() {
        let mut trace = Trace::start(Duration::from_secs(1));
        for _ in 0..2 {
            trace.begin(Phase::Connect);
            std::thread::sleep(Duration::from_millis(5));
            trace.end();
        }
        trace.stop();
        assert!(trace.took(Phase::Connect).unwrap() >= Duration::from_millis(10));
        assert_eq!(trace.took(Phase::Tls), None);
        assert!(trace.total() >= trace.took(Phase::Connect).unwrap());
    }
}
