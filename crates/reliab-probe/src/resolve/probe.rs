//! The target of a probe.

use std::fs;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::{Name, RecordType};
use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use reliab_common::config::Probe;
use reliab_common::config::probe::{BasicAuth, HeaderText};
use reliab_common::paths::Env;
use reliab_common::secret::SecretError;

use super::{Resolver, Trouble, endpoint, expectation, relevance};
use crate::dns::CODES;
use crate::http::{endpoint_of, shown};
use crate::target::{DialRules, DnsTarget, HttpTarget, Kind, Latencies, Said, Target, TcpTarget};

/// Most servers of `/etc/resolv.conf` that are asked, as in resolv.conf(5).
const SERVERS: usize = 3;

impl From<SecretError> for Trouble {
    fn from(error: SecretError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Unready(format!("{error}{cause}"))
    }
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Usage(problem)
    }
}

/// Makes the target of a probe.
pub(super) fn target(resolver: &mut Resolver<'_>, probe: &Probe) -> Result<Target, String> {
    let asked = [("http", &probe.http), ("tcp", &probe.tcp), ("tls", &probe.tls), ("dns", &probe.dns)];
    let mut asked = asked.into_iter().filter_map(|(kind, text)| Some((kind, text.as_deref()?)));
    let (Some((kind, text)), None) = (asked.next(), asked.next()) else {
        return Err("it needs one of `http`, `tcp`, `tls` and `dns`, and no second".into());
    };
    relevance::check(probe, kind)?;
    if probe.timeout.is_zero() {
        return Err("`timeout` must be longer than nothing".into());
    }
    let (shown, made) = match kind {
        "http" => {
            let url = endpoint::http_url(text)?;
            relevance::check_scheme(probe, url.scheme())?;
            (shown(&url), http(resolver, probe, url))
        }
        "tcp" => (text.to_owned(), stream(probe, text).map(Kind::Tcp)),
        "tls" => (text.to_owned(), tls(resolver, probe, text)),
        _ => (text.to_owned(), dns(probe, text)),
    };
    let kind = match made {
        Ok(kind) => kind,
        Err(Trouble::Unready(problem)) => Kind::Unready(problem),
        Err(Trouble::Usage(problem)) => return Err(problem),
    };
    let phases = probe.expect.phases;
    Ok(Target {
        name: probe.name.clone(),
        shown,
        kind,
        dial: DialRules { ip: probe.ip, deny_private: probe.deny_private, limits: probe.timeouts },
        timeout: probe.timeout,
        retries: probe.retries,
        retry_pause: probe.retry_pause,
        latency: Latencies {
            total: probe.expect.latency,
            phases: [phases.dns, phases.connect, phases.tls, phases.first_byte, phases.transfer],
        },
        cert_days: probe.expect.cert_days,
    })
}

fn http(resolver: &mut Resolver<'_>, probe: &Probe, url: url::Url) -> Result<Kind, Trouble> {
    let method = probe.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is not a method"))?;
    let expect = expectation::http(&probe.expect)?;
    let proxy = match &probe.proxy {
        None => None,
        Some(text) => Some(proxy(text, probe.proxy_auth.as_ref(), resolver.env)?),
    };
    let (headers, secret_headers) = headers(probe, resolver.env)?;
    Ok(Kind::Http(Box::new(HttpTarget {
        url,
        method,
        headers,
        secret_headers,
        body: probe.body.clone().unwrap_or_default(),
        redirects: probe.redirects,
        proxy,
        version: probe.version,
        body_limit: limit(probe.body_limit),
        tls: resolver.tls(probe),
        tls_elsewhere: resolver.tls_elsewhere(probe),
        expect,
        keep_body: false,
    })))
}

fn limit(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX - 1)
}

fn proxy(
    text: &str,
    auth: Option<&BasicAuth>,
    env: &Env,
) -> Result<(crate::target::Endpoint, Option<HeaderValue>), Trouble> {
    let url = endpoint::http_url(text).map_err(|problem| format!("`proxy`: {problem}"))?;
    if url.scheme() != "http" {
        return Err(Trouble::Usage("`proxy` must be an http: URL".into()));
    }
    let endpoint = endpoint_of(&url).ok_or_else(|| "`proxy` names no host".to_owned())?;
    Ok((endpoint, auth.map(|auth| basic(auth, env)).transpose()?))
}

/// Headers, and those that another origin must not see.
fn headers(probe: &Probe, env: &Env) -> Result<(HeaderMap, HeaderMap), Trouble> {
    let (mut open, mut secret) = (HeaderMap::new(), HeaderMap::new());
    for (name, text) in &probe.headers {
        let header = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("`{name}` is not the name of a header"))?;
        let is_secret = matches!(text, HeaderText::Secret(_)) || header == AUTHORIZATION || header == COOKIE;
        let value = match text {
            HeaderText::Plain(text) => HeaderValue::from_str(text)
                .map_err(|_| format!("the value of `{name}` is not that of a header"))?,
            HeaderText::Secret(source) => sensitive(source.read(env)?.expose())?,
        };
        if is_secret {
            secret.append(header, value)
        } else {
            open.append(header, value)
        };
    }
    if let Some(auth) = &probe.basic_auth {
        secret.insert(AUTHORIZATION, basic(auth, env)?);
    }
    if let Some(source) = &probe.bearer {
        secret.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", source.read(env)?.expose()))?);
    }
    Ok((open, secret))
}

fn basic(auth: &BasicAuth, env: &Env) -> Result<HeaderValue, Trouble> {
    if auth.user.contains(':') {
        return Err(Trouble::Usage("a `user` has no colon".into()));
    }
    let password = auth.password.read(env)?;
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{}:{}", auth.user, password.expose()))))
}

/// A value that debug output leaves out.
fn sensitive(text: &str) -> Result<HeaderValue, Trouble> {
    let value = HeaderValue::from_str(text);
    let mut value =
        value.map_err(|_| Trouble::Unready("a secret has characters that no header may have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn stream(probe: &Probe, text: &str) -> Result<TcpTarget, Trouble> {
    let expect = match (&probe.expect.body, &probe.expect.regex) {
        (Some(text), _) => Some(Said::Text(text.clone())),
        (None, Some(pattern)) => Some(Said::Pattern(expectation::pattern(pattern)?)),
        (None, None) => None,
    };
    let endpoint = endpoint::parse(text)?;
    Ok(TcpTarget { endpoint, send: probe.send.clone(), expect, limit: limit(probe.body_limit) })
}

fn tls(resolver: &mut Resolver<'_>, probe: &Probe, text: &str) -> Result<Kind, Trouble> {
    let stream = stream(probe, text)?;
    Ok(Kind::Tls(stream, resolver.tls(probe).map_err(Trouble::Unready)?))
}

fn dns(probe: &Probe, text: &str) -> Result<Kind, Trouble> {
    let mut name = Name::from_utf8(text).map_err(|error| format!("`{text}` is not a name: {error}"))?;
    name.set_fqdn(true);
    let record = probe.record.as_deref().unwrap_or("A").to_ascii_uppercase();
    let record: RecordType =
        record.parse().map_err(|_| format!("`{record}` is not a type of DNS records"))?;
    let servers = match &probe.server {
        Some(server) => vec![endpoint::dns_server(server)?],
        None => system_servers()?,
    };
    let rcode = probe.expect.rcode.as_deref().unwrap_or("NOERROR").to_ascii_uppercase();
    if !CODES.contains(&rcode.as_str()) {
        let problem = format!("`expect.rcode`: `{rcode}` is none; there are {}", CODES.join(", "));
        return Err(Trouble::Usage(problem));
    }
    Ok(Kind::Dns(DnsTarget {
        name,
        record,
        servers,
        transport: probe.transport,
        rcode,
        answer: probe.expect.answer.clone(),
    }))
}

/// The servers of the system; this machine where none is named, as the C library does.
fn system_servers() -> Result<Vec<SocketAddr>, Trouble> {
    const PATH: &str = "/etc/resolv.conf";
    let unready = |problem: String| Trouble::Unready(format!("cannot read {PATH}: {problem}"));
    let text = fs::read(PATH).map_err(|error| unready(error.to_string()))?;
    let config = resolv_conf::Config::parse(&text).map_err(|error| unready(error.to_string()))?;
    let servers = config.get_nameservers_or_local();
    Ok(servers.iter().take(SERVERS).map(|server| SocketAddr::new(server.into(), 53)).collect())
}
