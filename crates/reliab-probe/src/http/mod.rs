//! HTTP probes: a request, the redirects it leads through, and the answer.

mod body;
mod connection;
mod exchange;
mod redirect;

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use url::Url;

use crate::dial::Net;
use crate::finding::Finding;
use crate::socket::Permit;
use crate::target::{DialRules, HttpTarget};
use crate::trace::Trace;

pub(crate) use connection::endpoint_of;
pub(crate) use redirect::shown;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, unpacked where an expectation needs it.
    pub body: Vec<u8>,
}

/// A request on the way through redirects.
struct Step {
    url: Url,
    method: Method,
    /// Whether the target's body goes with it.
    with_body: bool,
    /// Whether it stays with the origin of the target, which alone may see secrets.
    at_home: bool,
    /// Whether `server_name` and the client certificate are for whom it leads to.
    shows_certificate: bool,
}

/// Whether it is the same host, now with TLS, at the usual ports.
fn is_upgrade(from: &Url, to: &Url) -> bool {
    let is = |url: &Url, scheme| url.scheme() == scheme && url.port().is_none();
    from.host() == to.host() && is(from, "http") && is(to, "https")
}

/// Asks, follows redirects, compares; what is wrong and does not end the attempt goes to the trace.
pub(crate) async fn attempt(
    net: &Net,
    target: &HttpTarget,
    rules: &DialRules,
    permit: &Permit,
    trace: &mut Trace,
) -> Result<Option<Answer>, Finding> {
    let (url, method) = (target.url.clone(), target.method.clone());
    let mut step = Step { url, method, with_body: true, at_home: true, shows_certificate: true };
    let mut visited = vec![step.url.clone()];
    loop {
        let mut answer = exchange::exchange(net, target, rules, &step, permit, trace).await?;
        trace.seen.status = Some(answer.status.as_u16());
        let next = if target.redirects == 0 { None } else { redirect::next(&step, &answer)? };
        let Some(next) = next else {
            if target.keep_body || target.expect.reads_body() {
                body::unpack(&mut answer, target.body_limit)?;
            }
            trace.findings.extend(target.expect.judge(&answer));
            return Ok(target.keep_body.then_some(answer));
        };
        if visited.contains(&next.url) && next.method == step.method {
            let got = format!("a redirect back to {}", shown(&next.url));
            return Err(Finding::critical("an answer", got));
        }
        if visited.len() > usize::from(target.redirects) {
            return Err(Finding::critical(format!("at most {} redirects", target.redirects), "one more"));
        }
        trace.seen.redirects.push(shown(&next.url));
        visited.push(next.url.clone());
        let at_home = next.url.origin() == target.url.origin();
        let shows_certificate = at_home || is_upgrade(&target.url, &next.url);
        step = Step { at_home, shows_certificate, ..next };
    }
}
