//! One request and its answer.

use std::error::Error as _;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::rt::Executor;
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use reliab_common::config::probe::HttpVersion;
use tokio::task::JoinSet;
use url::{Position, Url};

use super::connection::{self, Connection};
use super::{Answer, Step, body};
use crate::dial::Net;
use crate::finding::{Finding, excerpt};
use crate::socket::{Permit, Watched};
use crate::target::{DialRules, HttpTarget};
use crate::trace::{Phase, Trace};

/// The most bytes in the head of an answer.
const HEAD: usize = 64 << 10;
/// The most headers in an answer.
const HEADERS: usize = 256;
/// Bytes that an HTTP/2 server may send ahead of us.
const WINDOW: u32 = 256 << 10;

/// Tasks that drive connections. They end with their owner, and their sockets with them.
pub(super) struct Tasks(Spawner);

/// Starts tasks for their owner.
#[derive(Clone, Default)]
struct Spawner(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn new() -> Self {
        Self(Spawner::default())
    }

    /// Starts a task.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.execute(task);
    }

    /// Ends all tasks and waits until they are gone, so that no socket is open any more.
    async fn end(self) {
        let mut tasks = std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // A task may itself hold the set, so that letting go of it is not enough.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        let task = async {
            task.await;
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

/// Sends the request of a step and reads the answer; nothing is left open afterwards.
pub(super) async fn exchange(
    net: &Net,
    target: &HttpTarget,
    rules: &DialRules,
    step: &Step,
    permit: &Permit,
    trace: &mut Trace,
) -> Result<Answer, Finding> {
    let tasks = Tasks::new();
    let connection = connection::open(net, target, rules, step, (permit, &tasks), trace).await?;
    let result = ask(target, rules, step, connection, &tasks, trace).await;
    tasks.end().await;
    result
}

async fn ask(
    target: &HttpTarget,
    rules: &DialRules,
    step: &Step,
    connection: Connection,
    tasks: &Tasks,
    trace: &mut Trace,
) -> Result<Answer, Finding> {
    let request = request(target, step, connection.version)?;
    let response = async {
        match connection.version {
            HttpVersion::Http1 => ask_http1(request, connection, tasks, trace).await,
            HttpVersion::Http2 => ask_http2(request, connection, tasks, trace).await,
        }
    };
    let limit = Phase::FirstByte.limit(&rules.limits);
    let response = Trace::limited(Phase::FirstByte, limit, response).await?;
    let response = response.map_err(|error| Finding::critical("an HTTP answer", told(&error)))?;
    // HTTP/2 bounds the bytes of a head only.
    if response.headers().len() > HEADERS {
        return Err(Finding::critical("an HTTP answer", too_much()));
    }
    trace.answer_began();
    trace.seen.protocol = Some(format!("{:?}", response.version()));
    let (head, incoming) = response.into_parts();
    let limit = Phase::Transfer.limit(&rules.limits);
    let work = body::read(incoming, target.body_limit);
    let body = Trace::limited(Phase::Transfer, limit, work).await??;
    trace.end();
    trace.seen.bytes = Some(body.len() as u64);
    Ok(Answer { status: head.status, headers: head.headers, body })
}

async fn ask_http1(
    request: Request<Full<Bytes>>,
    connection: Connection,
    tasks: &Tasks,
    trace: &mut Trace,
) -> hyper::Result<Response<Incoming>> {
    let stream = Watched::new(connection.stream);
    trace.await_first_byte(Some(stream.first()));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD).max_headers(HEADERS);
    let (mut sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
    tasks.spawn(async move {
        // What goes wrong is told by the request.
        let _ = driver.await;
    });
    sender.send_request(request).await
}

/// The first byte of an HTTP/2 connection says nothing; the head of the answer is what counts.
async fn ask_http2(
    request: Request<Full<Bytes>>,
    connection: Connection,
    tasks: &Tasks,
    trace: &mut Trace,
) -> hyper::Result<Response<Incoming>> {
    trace.await_first_byte(None);
    let mut builder = http2::Builder::new(tasks.0.clone());
    builder.max_header_list_size(HEAD.try_into().unwrap_or(u32::MAX));
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (mut sender, driver) = builder.handshake(TokioIo::new(connection.stream)).await?;
    tasks.spawn(async move {
        let _ = driver.await;
    });
    sender.send_request(request).await
}

fn request(target: &HttpTarget, step: &Step, version: HttpVersion) -> Result<Request<Full<Bytes>>, Finding> {
    let whole = &step.url[..Position::AfterQuery];
    let via_proxy = target.proxy.is_some() && step.url.scheme() == "http";
    let http2 = version == HttpVersion::Http2;
    let path = if via_proxy || http2 { whole } else { &step.url[Position::BeforePath..Position::AfterQuery] };
    let uri: Uri = path.parse().map_err(|error| Finding::critical("a URL", format!("{error}")).lasting())?;
    let body = if step.with_body { Bytes::from(target.body.clone()) } else { Bytes::new() };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = step.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("reliab-probe/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.extend(target.headers.clone());
    if step.at_home {
        headers.extend(target.secret_headers.clone());
    } else {
        headers.remove(HOST);
    }
    if !http2 && !headers.contains_key(HOST) {
        headers.insert(HOST, host(&step.url)?);
    }
    // In HTTP/2 the authority is what is the header in HTTP/1; two that differ are refused.
    let authority = if http2 { headers.remove(HOST) } else { None };
    if let (true, Some((_, Some(value)))) = (via_proxy, &target.proxy) {
        headers.insert(hyper::header::PROXY_AUTHORIZATION, value.clone());
    }
    if let Some(authority) = authority {
        *request.uri_mut() = with_authority(request.uri(), &authority)?;
    }
    Ok(request)
}

fn with_authority(uri: &Uri, authority: &HeaderValue) -> Result<Uri, Finding> {
    let wrong = |error: hyper::http::Error| Finding::critical("a host", error.to_string()).lasting();
    let mut parts = uri.clone().into_parts();
    let authority = Authority::try_from(authority.as_bytes()).map_err(|error| wrong(error.into()))?;
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|error| wrong(error.into()))
}

fn host(url: &Url) -> Result<HeaderValue, Finding> {
    let text = &url[Position::BeforeHost..Position::AfterPort];
    text.parse().map_err(|_| Finding::critical("a host", excerpt(text)).lasting())
}

fn too_much() -> String {
    format!("a head of more than {HEADERS} headers or {} KiB", HEAD >> 10)
}

/// An error of hyper as part of a sentence.
pub(super) fn told(error: &hyper::Error) -> String {
    if error.is_parse() && error.to_string().contains("too large") {
        return too_much();
    }
    if error.is_incomplete_message() {
        return "a connection that closed before the answer was complete".into();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if error.is_parse() {
        return format!("what is not HTTP: {}", excerpt(&innermost.to_string()));
    }
    let text = error.to_string();
    if error.source().is_some() { excerpt(&format!("{text}: {innermost}")) } else { excerpt(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Resolver;
    use crate::target::Kind;
    use hyper::Method;
    use reliab_common::config::Probe;
    use reliab_common::config::probe::HeaderText;
    use reliab_common::paths::Env;

    #[test]
    fn a_host_of_the_configuration_is_the_authority_of_http_2() {
        let mut probe =
            Probe { name: "a".into(), http: Some("http://127.0.0.1:81/x?y".into()), ..Probe::default() };
        probe.headers.insert("Host".into(), HeaderText::Plain("shop.test".into()));
        let env = Env::fixed(false, &[]);
        let Ok(target) = Resolver::new(&env).target(&probe) else { panic!("it is refused") };
        let Kind::Http(target) = target.kind else { panic!("it is none of HTTP") };
        let (url, method) = (target.url.clone(), Method::GET);
        let mut step = Step { url, method, with_body: true, at_home: true, shows_certificate: true };
        let made = |step: &Step, version| {
            let request = request(&target, step, version).unwrap();
            (request.uri().to_string(), request.headers().get(HOST).cloned())
        };
        let host = |text: &'static str| Some(HeaderValue::from_static(text));
        assert_eq!(made(&step, HttpVersion::Http2), ("http://shop.test/x?y".into(), None));
        assert_eq!(made(&step, HttpVersion::Http1), ("/x?y".into(), host("shop.test")));
        step.at_home = false;
        assert_eq!(made(&step, HttpVersion::Http2), ("http://127.0.0.1:81/x?y".into(), None));
        assert_eq!(made(&step, HttpVersion::Http1), ("/x?y".into(), host("127.0.0.1:81")));
    }
}
