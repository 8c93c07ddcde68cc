//! Targets: probes with everything resolved that can be before the run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue};
use regex::bytes::Regex;
use reliab_common::config::probe::{DaysLimit, HttpVersion, IpFamily, LatencyLimit, PhaseLimits, Transport};
use url::Url;

use crate::expect::HttpExpect;
use crate::tls::TlsSettings;
use crate::trace::Phase;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Something to attempt.
pub(crate) struct Target {
    /// Its name in results.
    pub name: String,
    /// What is asked, as people read it; without secrets.
    pub shown: String,
    /// What is asked.
    pub kind: Kind,
    /// How connections are made.
    pub dial: DialRules,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How many more attempts there are after one that failed.
    pub retries: u8,
    /// The time between two attempts.
    pub retry_pause: Duration,
    /// Latencies that are too long.
    pub latency: Latencies,
    /// Days of the certificate that are too few; `None`: fewer than a renewal in time would leave.
    pub cert_days: Option<DaysLimit>,
}

/// What is asked.
pub(crate) enum Kind {
    /// An HTTP request.
    Http(Box<HttpTarget>),
    /// A TCP connection.
    Tcp(TcpTarget),
    /// A TLS handshake.
    Tls(TcpTarget, Arc<TlsSettings>),
    /// A DNS query.
    Dns(DnsTarget),
    /// Nothing: why it cannot be asked.
    Unready(String),
}

impl Kind {
    /// The name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Tls(..) => "tls",
            Self::Dns(_) => "dns",
            Self::Unready(_) => "unready",
        }
    }
}

/// How connections are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialRules {
    /// Only addresses of this family.
    pub ip: Option<IpFamily>,
    /// Whether addresses that are not public are refused.
    pub deny_private: bool,
    /// The limit of each phase.
    pub limits: PhaseLimits,
}

/// Latencies that are too long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latencies {
    /// Of the whole.
    pub total: Option<LatencyLimit>,
    /// Of a phase.
    pub phases: [Option<LatencyLimit>; Phase::ALL.len()],
}

/// An HTTP request, and what is expected of its answer.
pub(crate) struct HttpTarget {
    /// The URL, without user and password.
    pub url: Url,
    /// The method.
    pub method: Method,
    /// Headers, authorization and cookies apart.
    pub headers: HeaderMap,
    /// Headers that another origin must not see.
    pub secret_headers: HeaderMap,
    /// The body.
    pub body: String,
    /// How many redirects are followed.
    pub redirects: u8,
    /// The proxy, and what it is told to let us pass.
    pub proxy: Option<(Endpoint, Option<HeaderValue>)>,
    /// The version to speak.
    pub version: Option<HttpVersion>,
    /// The most bytes of a body, packed or unpacked.
    pub body_limit: usize,
    /// How TLS is spoken, or why it cannot be; made even for `http:`, as a redirect may lead to `https:`.
    pub tls: Result<Arc<TlsSettings>, String>,
    /// The same where a redirect leads to somebody else, who gets neither `server_name` nor the client certificate.
    pub tls_elsewhere: Result<Arc<TlsSettings>, String>,
    /// What is expected.
    pub expect: HttpExpect,
    /// Whether the answer is kept for what comes after the run.
    pub keep_body: bool,
}

/// A connection, and what is expected to be said on it.
pub(crate) struct TcpTarget {
    /// Where to.
    pub endpoint: Endpoint,
    /// What is sent first.
    pub send: Option<String>,
    /// What must come then.
    pub expect: Option<Said>,
    /// The most bytes to read.
    pub limit: usize,
}

/// What must be said by the other side.
pub(crate) enum Said {
    /// This text.
    Text(String),
    /// What matches this.
    Pattern(Regex),
}

/// A DNS query, and what is expected of its answer.
pub(crate) struct DnsTarget {
    /// The name asked for.
    pub name: Name,
    /// The type of the record.
    pub record: RecordType,
    /// Who is asked, one after the other until one answers.
    pub servers: Vec<SocketAddr>,
    /// How.
    pub transport: Transport,
    /// The response code expected.
    pub rcode: String,
    /// Values that must be in the answer.
    pub answer: Vec<String>,
}
