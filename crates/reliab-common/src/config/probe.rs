//! The section `[[probe]]`: what is asked over the network, and what is expected of the answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Needed, OneOrMore, Optional, SizeText};
use crate::secret::SecretSource;
use crate::units;

/// A probe. Exactly one of `http`, `tcp`, `tls` and `dns` says what is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a probe such as [[probe]]")]
#[schemars(extend(
    "required" = ["name"],
    "oneOf" = [{ "required": ["http"] }, { "required": ["tcp"] }, { "required": ["tls"] }, { "required": ["dns"] }],
))]
pub struct Probe {
    /// The name, in results, rules and on the command line.
    pub name: String,
    /// An `http:` or `https:` URL.
    pub http: Option<String>,
    /// `HOST:PORT` to which a connection is made.
    pub tcp: Option<String>,
    /// `HOST:PORT` with which a TLS handshake is made.
    pub tls: Option<String>,
    /// A name to look up.
    pub dns: Option<String>,

    /// The HTTP method; `GET` without it.
    pub method: Option<String>,
    /// Headers of the HTTP request.
    pub headers: BTreeMap<String, HeaderText>,
    /// The body of the HTTP request.
    pub body: Option<String>,
    /// User and password for basic authentication.
    pub basic_auth: Option<BasicAuth>,
    /// A bearer token.
    pub bearer: Option<SecretSource>,
    /// How many redirects are followed; with 0 the redirect itself is the answer.
    pub redirects: u8,
    /// The `http:` URL of a proxy.
    pub proxy: Option<String>,
    /// User and password for the proxy.
    pub proxy_auth: Option<BasicAuth>,
    /// The version of HTTP; without it, the one agreed on in the TLS handshake, else 1.1.
    pub version: Option<HttpVersion>,
    /// A body of more than this many bytes, packed or unpacked, is a failure.
    #[serde(with = "Needed::<SizeText>")]
    pub body_limit: u64,

    /// Certificates (PEM) to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate chain (PEM) to show when asked for one.
    pub client_cert: Option<PathBuf>,
    /// The private key (PEM) of `client_cert`.
    pub client_key: Option<PathBuf>,
    /// The host name in the handshake and the certificate, in place of the one connected to.
    pub server_name: Option<String>,
    /// Whether the chain and the host name must hold; the dates are looked at in any case.
    pub verify: bool,

    /// 4 or 6, to use no addresses of the other family.
    pub ip: Option<IpFamily>,
    /// Whether to refuse addresses that are not public, after the name was resolved.
    pub deny_private: bool,

    /// What is sent after a TCP or TLS connection was made.
    pub send: Option<String>,
    /// The type of the DNS record.
    pub record: Option<String>,
    /// The DNS server, `ADDRESS` or `ADDRESS:PORT`; without it, the system's.
    pub server: Option<String>,
    /// How the DNS server is asked.
    pub transport: Transport,

    /// How long an attempt may take.
    #[serde(with = "Needed::<DurationText>")]
    pub timeout: Duration,
    /// How long each phase of an attempt may take.
    pub timeouts: PhaseLimits,
    /// How many more attempts a probe has that fails.
    pub retries: u8,
    /// The time between two attempts.
    #[serde(with = "Needed::<DurationText>")]
    pub retry_pause: Duration,
    /// What the answer must be like.
    pub expect: Expect,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            name: String::new(),
            http: None,
            tcp: None,
            tls: None,
            dns: None,
            method: None,
            headers: BTreeMap::new(),
            body: None,
            basic_auth: None,
            bearer: None,
            redirects: 10,
            proxy: None,
            proxy_auth: None,
            version: None,
            body_limit: 1 << 20,
            ca: None,
            client_cert: None,
            client_key: None,
            server_name: None,
            verify: true,
            ip: None,
            deny_private: false,
            send: None,
            record: None,
            server: None,
            transport: Transport::Udp,
            timeout: Duration::from_secs(10),
            timeouts: PhaseLimits::default(),
            retries: 2,
            retry_pause: Duration::from_secs(1),
            expect: Expect::default(),
        }
    }
}

/// The value of a header: text, or where the secret is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "text, { file = \"…\" } or { env = \"…\" }")]
pub enum HeaderText {
    /// As it stands here.
    Plain(String),
    /// Read from a file or the environment.
    Secret(SecretSource),
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub user: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/1.1
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2; without TLS it is spoken from the first byte.
    #[serde(rename = "2")]
    Http2,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(extend("enum" = [4, 6]))]
pub enum IpFamily {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl TryFrom<u8> for IpFamily {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err("expected 4 or 6"),
        }
    }
}

impl From<IpFamily> for u8 {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::V4 => 4,
            IpFamily::V6 => 6,
        }
    }
}

/// How a DNS server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By UDP, and once more by TCP where the answer does not fit.
    #[default]
    Udp,
    /// By TCP.
    Tcp,
}

/// How long each phase may take; without a limit, as long as the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseLimits {
    /// Resolving the name.
    #[serde(with = "Optional::<DurationText>")]
    pub dns: Option<Duration>,
    /// Connecting.
    #[serde(with = "Optional::<DurationText>")]
    pub connect: Option<Duration>,
    /// The TLS handshake.
    #[serde(with = "Optional::<DurationText>")]
    pub tls: Option<Duration>,
    /// From the request to the first byte of the answer.
    #[serde(with = "Optional::<DurationText>")]
    pub first_byte: Option<Duration>,
    /// From the first byte to the last.
    #[serde(with = "Optional::<DurationText>")]
    pub transfer: Option<Duration>,
}

/// What the answer must be like.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Status codes and ranges, such as `"200"` or `"200-299"`; 200 to 299 without any.
    #[serde(with = "OneOrMore")]
    pub status: Vec<String>,
    /// Text that must be in the body.
    pub body: Option<String>,
    /// Text that must not be in the body.
    pub body_not: Option<String>,
    /// A regular expression that must match in the body.
    pub regex: Option<String>,
    /// Regular expressions by the name of the header in whose value they must match.
    pub header: BTreeMap<String, String>,
    /// Conditions on a JSON body, such as `'$.status == "ok"'`.
    #[serde(with = "OneOrMore")]
    pub json: Vec<String>,
    /// How long the whole may take.
    pub latency: Option<LatencyLimit>,
    /// How long a phase may take.
    pub phases: PhaseLatencies,
    /// How many days the certificate must still be valid.
    pub cert_days: Option<DaysLimit>,
    /// Values of DNS records that must be in the answer.
    #[serde(with = "OneOrMore")]
    pub answer: Vec<String>,
    /// The response code of the DNS answer; `NOERROR` without it.
    pub rcode: Option<String>,
}

/// From which latency on a phase gives a warning or is critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseLatencies {
    /// Resolving the name.
    pub dns: Option<LatencyLimit>,
    /// Connecting.
    pub connect: Option<LatencyLimit>,
    /// The TLS handshake.
    pub tls: Option<LatencyLimit>,
    /// From the request to the first byte of the answer.
    pub first_byte: Option<LatencyLimit>,
    /// From the first byte to the last.
    pub transfer: Option<LatencyLimit>,
}

/// Latencies that are too long: `"500ms"` for a warning, or `{ warn = "500ms", critical = "2s" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "RawLimit<String>")]
#[schemars(try_from = "RawLimit<Needed<DurationText>>")]
pub struct LatencyLimit {
    /// More than this is a warning.
    #[serde(serialize_with = "Optional::<DurationText>::serialize")]
    pub warn: Option<Duration>,
    /// More than this is critical.
    #[serde(serialize_with = "Optional::<DurationText>::serialize")]
    pub critical: Option<Duration>,
}

/// Days that are too few: `20` for a warning, or `{ warn = 20, critical = 7 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "RawLimit<u32>")]
pub struct DaysLimit {
    /// Fewer than this is a warning.
    pub warn: Option<u32>,
    /// Fewer than this is critical.
    pub critical: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a value such as 20 or \"500ms\", or { warn = …, critical = … }")]
enum RawLimit<T> {
    Warn(T),
    Both(RawLimits<T>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLimits<T> {
    warn: Option<T>,
    critical: Option<T>,
}

impl<T> RawLimit<T> {
    fn parts(self) -> (Option<T>, Option<T>) {
        match self {
            Self::Warn(warn) => (Some(warn), None),
            Self::Both(both) => (both.warn, both.critical),
        }
    }
}

impl TryFrom<RawLimit<String>> for LatencyLimit {
    type Error = units::UnitError;

    fn try_from(raw: RawLimit<String>) -> Result<Self, Self::Error> {
        let (warn, critical) = raw.parts();
        let parse = |text: Option<String>| text.map(|text| units::parse_duration(&text)).transpose();
        Ok(Self { warn: parse(warn)?, critical: parse(critical)? })
    }
}

impl From<RawLimit<u32>> for DaysLimit {
    fn from(raw: RawLimit<u32>) -> Self {
        let (warn, critical) = raw.parts();
        Self { warn, critical }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_of_two_lines_has_defaults() {
        let probe: Probe = toml::from_str("name = \"api\"\nhttp = \"http://127.0.0.1/\"").unwrap();
        let named = Probe { name: "api".into(), http: Some("http://127.0.0.1/".into()), ..Probe::default() };
        assert_eq!(probe, named);
        assert_eq!((probe.redirects, probe.retries, probe.body_limit), (10, 2, 1 << 20));
        assert_eq!((probe.timeout, probe.retry_pause), (Duration::from_secs(10), Duration::from_secs(1)));
    }

    #[test]
    fn expectations_are_read_in_their_short_and_long_forms() {
        let text = r#"
            status = [200, "301-302"]
            json = '$.status == "ok"'
            latency = "500ms"
            phases = { first_byte = { warn = "300ms", critical = "1s" } }
            cert_days = { critical = 7 }
        "#;
        let expect: Expect = toml::from_str(text).unwrap();
        assert_eq!(expect.status, ["200", "301-302"]);
        assert_eq!(expect.json, ["$.status == \"ok\""]);
        let latency = LatencyLimit { warn: Some(Duration::from_millis(500)), critical: None };
        assert_eq!(expect.latency, Some(latency));
        assert_eq!(expect.phases.first_byte.unwrap().critical, Some(Duration::from_secs(1)));
        assert_eq!(expect.cert_days, Some(DaysLimit { warn: None, critical: Some(7) }));
    }

    #[test]
    fn what_no_probe_can_mean_is_refused() {
        for text in [
            "ip = 5",
            "version = \"3\"",
            "timeout = \"soon\"",
            "expect.latency = 5",
            "expect.cert_days = { warm = 5 }",
            "expect.status = [[200]]",
            "basic_auth = { user = \"a\", password = \"hunter2\" }",
            "colour = \"red\"",
        ] {
            assert!(toml::from_str::<Probe>(text).is_err(), "{text}");
        }
    }
}
