//! What can be asked, given as one text.

use std::net::{IpAddr, SocketAddr};

use reliab_common::config::Probe;
use url::Url;

use crate::http::shown;
use crate::target::Endpoint;

/// What is said of a password that stands in an address: without repeating it.
const WITH_USER: &str = "an address has no user and no password: give HOST:PORT alone";

/// A probe with defaults of a URL (`http:`, `https:`, `tcp:`, `tls:`, `dns:`) or of `HOST:PORT`.
pub(crate) fn probe_of(text: &str) -> Result<Probe, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        parse(text)?;
        return Ok(Probe { name: text.into(), tcp: Some(text.into()), ..Probe::default() });
    };
    if !matches!(scheme, "http" | "https") && rest.contains('@') {
        return Err(WITH_USER.into());
    }
    let name = text.to_owned();
    match scheme {
        "http" | "https" => {
            let url = http_url(text)?;
            Ok(Probe { name: shown(&url), http: Some(text.into()), ..Probe::default() })
        }
        "tcp" => Ok(Probe { name, tcp: Some(rest.trim_end_matches('/').into()), ..Probe::default() }),
        "tls" => {
            let rest = rest.trim_end_matches('/');
            let port = if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                ""
            } else {
                ":443"
            };
            Ok(Probe { name, tls: Some(format!("{rest}{port}")), ..Probe::default() })
        }
        "dns" => Ok(dns(name, rest)),
        other => Err(format!("`{other}:` cannot be probed: give http, https, tcp, tls or dns")),
    }
}

/// `[SERVER/]NAME[?type=TYPE]`, much as in RFC 4501.
fn dns(name: String, rest: &str) -> Probe {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, host) = match path.split_once('/') {
        Some((server, host)) if !host.is_empty() => (Some(server).filter(|server| !server.is_empty()), host),
        _ => (None, path.trim_end_matches('/')),
    };
    let record = query.split(['&', ';']).find_map(|part| part.strip_prefix("type=")).map(str::to_owned);
    Probe { name, dns: Some(host.into()), server: server.map(str::to_owned), record, ..Probe::default() }
}

/// A URL that can be probed. Users and passwords have a key of their own, which does not end up in logs.
pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("the URL does not parse: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the URL begins with `{}:`; give http: or https:", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has a user or a password: give them by `basic_auth`".into());
    }
    url.set_fragment(None);
    Ok(url)
}

/// `HOST:PORT`, with brackets around an IPv6 address.
pub(super) fn parse(text: &str) -> Result<Endpoint, String> {
    if text.contains('@') {
        return Err(WITH_USER.into());
    }
    let wrong = || format!("`{text}` is not HOST:PORT, such as db.example.org:5432 or [::1]:5432");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|&port| port > 0).ok_or_else(wrong)?;
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = |host: &str| !host.is_empty() && !host.contains([':', '/', '@', '[', ' ']);
    let host = match inside {
        Some(inside) if inside.parse::<std::net::Ipv6Addr>().is_ok() => inside,
        None if is_plain(host) => host,
        _ => return Err(wrong()),
    };
    Ok(Endpoint { host: host.to_owned(), port })
}

/// The address of a DNS server, at port 53 if none is given.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 53));
    }
    text.parse()
        .map_err(|_| format!("`{text}` is not the address of a DNS server, such as 9.9.9.9 or [::1]:5353"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        let check = |text, host: &str, port| {
            assert_eq!(parse(text), Ok(Endpoint { host: host.into(), port }), "{text}");
        };
        check("db.test:5432", "db.test", 5432);
        check("[::1]:80", "::1", 80);
        for text in
            ["db.test", "db.test:", ":80", "a:0", "a:65536", "::1:80", "[db]:80", "a/b:80", "http://a:80"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(dns_server("9.9.9.9"), Ok("9.9.9.9:53".parse().unwrap()));
        assert_eq!(dns_server("[::1]:5353"), Ok("[::1]:5353".parse().unwrap()));
        assert_eq!(dns_server("::1"), Ok("[::1]:53".parse().unwrap()));
        assert!(dns_server("dns.test").is_err());
    }

    #[test]
    fn a_text_says_what_is_probed() {
        let probe = |text| probe_of(text).unwrap();
        assert_eq!(probe("https://a.test/x?t=planted").name, "https://a.test/x?…");
        assert_eq!(probe("tcp://a.test:22").tcp.unwrap(), "a.test:22");
        assert_eq!(probe("a.test:22").tcp.unwrap(), "a.test:22");
        assert_eq!(probe("tls://a.test").tls.unwrap(), "a.test:443");
        assert_eq!(probe("tls://a.test:465").tls.unwrap(), "a.test:465");
        let dns = probe("dns://9.9.9.9/a.test?type=MX");
        assert_eq!(
            (dns.dns.as_deref(), dns.server.as_deref(), dns.record.as_deref()),
            (Some("a.test"), Some("9.9.9.9"), Some("MX"))
        );
        let dns = probe("dns://a.test");
        assert_eq!((dns.dns.as_deref(), dns.server), (Some("a.test"), None));
        for text in ["file:///etc/passwd", "http://u:p@a.test/", "a.test", "http://"] {
            assert!(probe_of(text).is_err(), "{text}");
        }
        for scheme in ["http://", "tcp://", "tls://", "dns://", ""] {
            let problem = probe_of(&format!("{scheme}u:planted@a.test:80")).unwrap_err();
            assert!(!problem.contains("planted"), "{problem}");
        }
    }
}
