//! Which keys of a probe belong to which kind: one that would do nothing is an error.

use reliab_common::config::Probe;
use reliab_common::config::probe::{Expect, Transport};

/// Keys by the kinds they belong to, with whether the probe has them.
fn keys(probe: &Probe) -> Vec<(&'static str, &'static [&'static str], bool)> {
    const HTTP: &[&str] = &["http"];
    const TLS: &[&str] = &["http", "tls"];
    const STREAMS: &[&str] = &["http", "tcp", "tls"];
    const BARE: &[&str] = &["tcp", "tls"];
    const DNS: &[&str] = &["dns"];
    let (plain, expect) = (Probe::default(), &probe.expect);
    let Expect { phases, .. } = expect;
    vec![
        ("method", HTTP, probe.method.is_some()),
        ("headers", HTTP, !probe.headers.is_empty()),
        ("body", HTTP, probe.body.is_some()),
        ("basic_auth", HTTP, probe.basic_auth.is_some()),
        ("bearer", HTTP, probe.bearer.is_some()),
        ("redirects", HTTP, probe.redirects != plain.redirects),
        ("proxy", HTTP, probe.proxy.is_some()),
        ("proxy_auth", HTTP, probe.proxy_auth.is_some()),
        ("version", HTTP, probe.version.is_some()),
        ("body_limit", STREAMS, probe.body_limit != plain.body_limit),
        ("ca", TLS, probe.ca.is_some()),
        ("client_cert", TLS, probe.client_cert.is_some()),
        ("client_key", TLS, probe.client_key.is_some()),
        ("server_name", TLS, probe.server_name.is_some()),
        ("verify", TLS, !probe.verify),
        ("ip", STREAMS, probe.ip.is_some()),
        ("deny_private", STREAMS, probe.deny_private),
        ("send", BARE, probe.send.is_some()),
        ("record", DNS, probe.record.is_some()),
        ("server", DNS, probe.server.is_some()),
        ("transport", DNS, probe.transport != Transport::Udp),
        ("timeouts.connect", STREAMS, probe.timeouts.connect.is_some()),
        ("timeouts.tls", TLS, probe.timeouts.tls.is_some()),
        ("timeouts.first_byte", STREAMS, probe.timeouts.first_byte.is_some()),
        ("timeouts.transfer", STREAMS, probe.timeouts.transfer.is_some()),
        ("expect.status", HTTP, !expect.status.is_empty()),
        ("expect.body", STREAMS, expect.body.is_some()),
        ("expect.body_not", HTTP, expect.body_not.is_some()),
        ("expect.regex", STREAMS, expect.regex.is_some()),
        ("expect.header", HTTP, !expect.header.is_empty()),
        ("expect.json", HTTP, !expect.json.is_empty()),
        ("expect.phases.connect", STREAMS, phases.connect.is_some()),
        ("expect.phases.tls", TLS, phases.tls.is_some()),
        ("expect.phases.first_byte", STREAMS, phases.first_byte.is_some()),
        ("expect.phases.transfer", STREAMS, phases.transfer.is_some()),
        ("expect.cert_days", TLS, expect.cert_days.is_some()),
        ("expect.answer", DNS, !expect.answer.is_empty()),
        ("expect.rcode", DNS, expect.rcode.is_some()),
    ]
}

/// Refuses expectations of TLS where none is spoken: they would never be looked at.
pub(super) fn check_scheme(probe: &Probe, scheme: &str) -> Result<(), String> {
    let expect = &probe.expect;
    let keys = [
        ("expect.cert_days", expect.cert_days.is_some()),
        ("expect.phases.tls", expect.phases.tls.is_some()),
    ];
    match keys.iter().find(|(_, set)| *set) {
        Some((key, _)) if scheme == "http" => {
            Err(format!("`{key}` needs an https: URL, and this one begins with http:"))
        }
        _ => Ok(()),
    }
}

/// Refuses keys that the kind does not have, and pairs of which one is missing or too many.
pub(super) fn check(probe: &Probe, kind: &str) -> Result<(), String> {
    if let Some((key, kinds, _)) =
        keys(probe).into_iter().find(|(_, kinds, set)| *set && !kinds.contains(&kind))
    {
        return Err(format!(
            "`{key}` belongs to probes of kind {}, and this is one of kind {kind}",
            kinds.join(", ")
        ));
    }
    let pairs = [
        (
            probe.client_cert.is_some() != probe.client_key.is_some(),
            "`client_cert` and `client_key` belong together",
        ),
        (probe.proxy_auth.is_some() && probe.proxy.is_none(), "`proxy_auth` needs a `proxy`"),
        (
            probe.basic_auth.is_some() && probe.bearer.is_some(),
            "`basic_auth` and `bearer` exclude each other",
        ),
        (
            probe.deny_private && probe.proxy.is_some(),
            "`deny_private` cannot be kept through a `proxy`, which resolves the name by itself",
        ),
        (
            matches!(kind, "tcp" | "tls") && probe.expect.body.is_some() && probe.expect.regex.is_some(),
            "`expect.body` and `expect.regex` exclude each other",
        ),
    ];
    pairs.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, problem)| Err((*problem).to_owned()))
}
