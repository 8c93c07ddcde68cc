//! From a host and a port to a connection.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reliab_common::config::probe::IpFamily;
use reliab_common::failure::without_number;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::address::is_public;
use crate::finding::Finding;
use crate::socket::{Permit, Socket};
use crate::target::{DialRules, Endpoint};
use crate::trace::{Phase, Trace};

/// Threads in which the system resolves names: its resolver blocks.
pub(crate) const LOOKUPS: usize = 64;

/// What connections share in a run.
#[derive(Clone)]
pub(crate) struct Net {
    lookups: Arc<Semaphore>,
}

impl Net {
    /// With all threads free.
    pub(crate) fn new() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Connects, trying one address after the other.
    pub(crate) async fn dial(
        &self,
        endpoint: &Endpoint,
        rules: &DialRules,
        permit: &Permit,
        trace: &mut Trace,
    ) -> Result<Socket, Finding> {
        let addresses = allowed(self.resolve(endpoint, rules, permit, trace).await?, endpoint, rules)?;
        trace.begin(Phase::Connect);
        let limit = Phase::Connect.limit(&rules.limits);
        let stream = Trace::limited(Phase::Connect, limit, connect(&addresses, limit, trace)).await??;
        trace.end();
        // Small requests must not wait for acknowledgements; without it the first byte comes later, no more.
        let _ = stream.set_nodelay(true);
        Ok(Socket::new(stream, Arc::clone(permit)))
    }

    async fn resolve(
        &self,
        endpoint: &Endpoint,
        rules: &DialRules,
        permit: &Permit,
        trace: &mut Trace,
    ) -> Result<Vec<SocketAddr>, Finding> {
        if let Ok(address) = endpoint.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, endpoint.port)]);
        }
        let waiting = Instant::now();
        let thread = Arc::clone(&self.lookups).acquire_owned().await;
        trace.excuse(waiting.elapsed());
        trace.begin(Phase::Dns);
        let (host, port, permit) = (endpoint.host.clone(), endpoint.port, Arc::clone(permit));
        // The thread keeps both permits for as long as the resolver holds it, even after nobody waits any more.
        let lookup = tokio::task::spawn_blocking(move || {
            let result = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            drop((thread, permit));
            result
        });
        let result = Trace::limited(Phase::Dns, Phase::Dns.limit(&rules.limits), lookup).await?;
        trace.end();
        let found = result.map_err(io::Error::other).and_then(|found| found);
        found.map_err(|error| Finding::critical(format!("an address of {}", endpoint.host), told(&error)))
    }
}

/// The addresses that may be connected to; an error if there is none.
fn allowed(
    found: Vec<SocketAddr>,
    endpoint: &Endpoint,
    rules: &DialRules,
) -> Result<Vec<SocketAddr>, Finding> {
    let of_family = |address: &SocketAddr| match rules.ip {
        None => true,
        Some(IpFamily::V4) => address.is_ipv4(),
        Some(IpFamily::V6) => address.is_ipv6(),
    };
    let mut addresses: Vec<_> = found.into_iter().filter(of_family).collect();
    if addresses.is_empty() {
        let family = if rules.ip == Some(IpFamily::V6) { "IPv6" } else { "IPv4" };
        return Err(Finding::critical(format!("an {family} address of {}", endpoint.host), "none"));
    }
    if rules.deny_private && !addresses.iter().all(|address| is_public(address.ip())) {
        let refused = addresses.iter().find(|address| !is_public(address.ip())).map(SocketAddr::ip);
        addresses.retain(|address| is_public(address.ip()));
        if let (true, Some(address)) = (addresses.is_empty(), refused) {
            let expected = format!("a public address of {}", endpoint.host);
            return Err(
                Finding::critical(expected, format!("{address}, which deny_private refuses")).lasting()
            );
        }
    }
    Ok(addresses)
}

/// Connects to the first address that lets us; each gets its share of the time that is left, and one socket at a
/// time is open.
async fn connect(
    addresses: &[SocketAddr],
    limit: Option<Duration>,
    trace: &mut Trace,
) -> Result<TcpStream, Finding> {
    let now = Instant::now();
    let until = limit.map_or(trace.deadline(), |limit| trace.deadline().min(now + limit));
    let mut failures = Vec::new();
    for (tried, &address) in addresses.iter().enumerate() {
        trace.seen.address = Some(address);
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - tried - 1).unwrap_or(u32::MAX);
        // The last one ends with the phase or the attempt, whose finding says so.
        let share = if others == 0 { left + Duration::from_secs(1) } else { left / (others + 1) };
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(format!("{} by {address}", told(&error))),
            Err(_) => failures.push(format!("no answer from {address}")),
        }
    }
    failures.dedup();
    Err(Finding::critical("a connection", failures.join(", ")))
}

/// An error of the system as part of a sentence.
pub(crate) fn told(error: &io::Error) -> String {
    let text = error.to_string();
    let text = without_number(&text).trim_start_matches("failed to lookup address information: ");
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::attempt;
    use crate::target::{Kind, Latencies, Said, Target, TcpTarget};

    fn endpoint() -> Endpoint {
        Endpoint { host: "x.test".into(), port: 80 }
    }

    #[test]
    fn private_addresses_are_refused_after_resolution() {
        let rules = DialRules { deny_private: true, ..DialRules::default() };
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let mixed = addresses(&["10.0.0.1:80", "1.1.1.1:80"]);
        assert_eq!(allowed(mixed, &endpoint(), &rules).unwrap(), addresses(&["1.1.1.1:80"]));
        let error = allowed(addresses(&["[::1]:80", "10.0.0.1:80"]), &endpoint(), &rules).unwrap_err();
        assert_eq!(error.text(), "expected a public address of x.test, got ::1, which deny_private refuses");
        assert!(error.lasting);
    }

    /// A server on loopback that says something after a while, as a target with this much time.
    fn slow_target(pause: Duration, timeout: Duration) -> Target {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::thread::sleep(pause);
            let _ = std::io::Write::write_all(&mut stream, b"ready");
        });
        let endpoint = Endpoint { host: "localhost".into(), port };
        let expect = Some(Said::Text("ready".into()));
        Target {
            name: "slow".into(),
            shown: String::new(),
            kind: Kind::Tcp(TcpTarget { endpoint, send: None, expect, limit: 100 }),
            dial: DialRules { ip: Some(IpFamily::V4), ..DialRules::default() },
            timeout,
            retries: 0,
            retry_pause: Duration::ZERO,
            latency: Latencies::default(),
            cert_days: None,
        }
    }

    #[tokio::test]
    async fn waiting_for_a_thread_takes_nothing_of_the_time_for_the_target() {
        let net = Net { lookups: Arc::new(Semaphore::new(1)) };
        let busy = Arc::clone(&net.lookups).acquire_owned().await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            drop(busy);
        });
        let permit = Arc::new(Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap());
        let target = slow_target(Duration::from_millis(500), Duration::from_secs(1));
        let attempt = attempt(&net, &target, permit).await;
        assert_eq!(attempt.trace.findings, []);
        assert!(attempt.trace.total() < Duration::from_secs(1), "{:?}", attempt.trace.total());
    }

    #[test]
    fn a_family_that_is_absent_is_named() {
        let rules = DialRules { ip: Some(IpFamily::V6), ..DialRules::default() };
        let error = allowed(vec!["1.1.1.1:80".parse().unwrap()], &endpoint(), &rules).unwrap_err();
        assert_eq!(error.text(), "expected an IPv6 address of x.test, got none");
    }
}
