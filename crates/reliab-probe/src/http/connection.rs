//! Connections for HTTP: direct or through a proxy, with TLS or without.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use reliab_common::config::probe::HttpVersion;
use url::{Host, Url};

use super::Step;
use super::exchange::{Tasks, told};
use crate::dial::Net;
use crate::finding::{Finding, excerpt};
use crate::socket::{Permit, Stream};
use crate::target::{DialRules, Endpoint, HttpTarget};
use crate::trace::{Phase, Trace};

/// An open connection.
pub(super) struct Connection {
    /// The stream, TLS taken off.
    pub stream: Box<dyn Stream>,
    /// The version of HTTP to speak on it.
    pub version: HttpVersion,
}

/// Opens a connection on which the URL of a step can be asked for.
pub(super) async fn open(
    net: &Net,
    target: &HttpTarget,
    rules: &DialRules,
    step: &Step,
    (permit, tasks): (&Permit, &Tasks),
    trace: &mut Trace,
) -> Result<Connection, Finding> {
    let url = &step.url;
    let endpoint =
        endpoint_of(url).ok_or_else(|| Finding::critical("a URL with a host", excerpt(url.as_str())))?;
    let is_tls = url.scheme() == "https";
    let stream: Box<dyn Stream> = match &target.proxy {
        None => Box::new(net.dial(&endpoint, rules, permit, trace).await?),
        Some((proxy, authorization)) => {
            let socket = net.dial(proxy, rules, permit, trace).await?;
            if is_tls {
                trace.begin(Phase::Connect);
                let limit = Phase::Connect.limit(&rules.limits);
                let work = tunnel(Box::new(socket), &endpoint, authorization.as_ref(), tasks);
                let stream = Trace::limited(Phase::Connect, limit, work).await??;
                trace.end();
                stream
            } else {
                Box::new(socket)
            }
        }
    };
    if !is_tls {
        return Ok(Connection { stream, version: target.version.unwrap_or(HttpVersion::Http1) });
    }
    let protocols: &[&[u8]] = match target.version {
        None => &[b"h2", b"http/1.1"],
        Some(HttpVersion::Http1) => &[b"http/1.1"],
        Some(HttpVersion::Http2) => &[b"h2"],
    };
    let unable = |problem: &String| Finding::unknown("to be able to speak TLS", problem).lasting();
    let tls = if step.shows_certificate { &target.tls } else { &target.tls_elsewhere };
    let tls = tls.as_ref().map_err(unable)?;
    let stream = tls.handshake(stream, &endpoint.host, protocols, &rules.limits, trace).await?;
    let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if target.version == Some(HttpVersion::Http2) && !agreed {
        return Err(Finding::critical("HTTP/2", "a server that does not offer it"));
    }
    let version = if agreed { HttpVersion::Http2 } else { HttpVersion::Http1 };
    Ok(Connection { stream: Box::new(stream), version })
}

/// The host and the port of a URL.
pub(crate) fn endpoint_of(url: &Url) -> Option<Endpoint> {
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some(Endpoint { host, port: url.port_or_known_default()? })
}

/// Asks a proxy for a connection to somebody else.
async fn tunnel(
    socket: Box<dyn Stream>,
    endpoint: &Endpoint,
    authorization: Option<&HeaderValue>,
    tasks: &Tasks,
) -> Result<Box<dyn Stream>, Finding> {
    let failed = |error: hyper::Error| Finding::critical("a tunnel from the proxy", told(&error));
    let (mut sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(socket)).await.map_err(failed)?;
    tasks.spawn(async move {
        // What goes wrong is told by the request.
        let _ = connection.with_upgrades().await;
    });
    let authority = if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    };
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(HOST, &authority);
    if let Some(value) = authorization {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Finding::critical("a host", error.to_string()))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(Finding::critical("a tunnel from the proxy", format!("status {}", response.status())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}
