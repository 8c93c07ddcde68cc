//! What all services that speak HTTP have in common: one request, its answer, and what the answer means.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use reliab_common::secret::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde_json::Value;

use super::{Class, SendError, text, tls};

/// No more of an answer is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(10);

/// A client of one channel.
pub(super) struct Client {
    /// For services elsewhere, through a proxy where the environment names one.
    far: reqwest::Client,
    /// For what listens on this machine.
    near: reqwest::Client,
}

impl Client {
    /// A client that trusts the certificates in `ca` too.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, SendError> {
        let builder = || -> Result<_, SendError> {
            Ok(reqwest::Client::builder()
                .tls_backend_preconfigured(tls::config(ca)?)
                // An alert must not follow a redirect to a place that nobody configured.
                .redirect(reqwest::redirect::Policy::none())
                // The outbox tries again, and counts it.
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT)
                .user_agent(concat!("reliab/", env!("CARGO_PKG_VERSION"))))
        };
        let fail = |error: reqwest::Error| SendError::passing(text::chain(&error.without_url()));
        let far = builder()?.build().map_err(fail)?;
        let near = builder()?.no_proxy().build().map_err(fail)?;
        Ok(Self { far, near })
    }
}

impl Client {
    fn of(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url) { &self.near } else { &self.far }
    }
}

/// A request that posts JSON.
pub(super) struct Request {
    pub(super) url: Secret,
    pub(super) headers: Vec<(&'static str, Secret)>,
    pub(super) body: Vec<u8>,
    /// Whether the body of an answer with a good status says so too.
    pub(super) accepts: fn(&[u8]) -> bool,
}

impl Request {
    /// A request with its idempotency key, of which any answer with a good status will do.
    pub(super) fn json(url: Secret, key: &str, body: &impl Serialize) -> Self {
        // Strings, numbers and lists of them are all that is serialised here.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let headers = vec![("idempotency-key", Secret::new(key))];
        Self { url, headers, body, accepts: |_| true }
    }

    pub(super) fn header(mut self, name: &'static str, value: Option<String>) -> Self {
        self.headers.extend(value.map(|value| (name, Secret::new(value))));
        self
    }

    pub(super) fn accepting(mut self, accepts: fn(&[u8]) -> bool) -> Self {
        self.accepts = accepts;
        self
    }
}

/// Whether the URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Sends a request and gives the answer.
pub(super) async fn send(client: &Client, request: &Request) -> Result<String, SendError> {
    let url = parsed(&request.url)?;
    let post = client.of(&url).post(url).headers(headers(request)?).body(request.body.clone());
    answer(post, request.accepts).await
}

/// Asks for a URL without saying anything, or posts a text to it, and gives the answer.
pub(super) async fn ask(
    client: &Client,
    url: Url,
    text: Option<&str>,
    accepts: fn(&[u8]) -> bool,
) -> Result<String, SendError> {
    let asked = client.of(&url);
    let request = match text {
        None => asked.get(url),
        Some(text) => asked.post(url).header(CONTENT_TYPE, "text/plain; charset=utf-8").body(text.to_owned()),
    };
    answer(request, accepts).await
}

/// The URL that a secret is.
pub(super) fn parsed(url: &Secret) -> Result<Url, SendError> {
    Url::parse(url.expose()).map_err(|error| SendError::passing(format!("its URL is not one: {error}")))
}

/// Sends a request and gives the answer, where that is a yes.
async fn answer(request: RequestBuilder, accepts: fn(&[u8]) -> bool) -> Result<String, SendError> {
    let mut response = request.send().await.map_err(failed)?;
    let body = read(&mut response).await?;
    let (status, answer) = (response.status(), String::from_utf8_lossy(&body));
    let said = format!("{}: {answer}", status.as_u16());
    if status.is_success() && accepts(&body) {
        return Ok(said);
    }
    if status.is_success() {
        return Err(SendError::passing(format!("answered {said}, which is not how this service says yes")));
    }
    let retry_after = retry_after(response.headers(), &body);
    Err(SendError { class: class(status), text: format!("answered {said}"), retry_after })
}

fn headers(request: &Request) -> Result<HeaderMap, SendError> {
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &request.headers {
        let bad =
            |_| SendError::passing(format!("the value of the header {name} has characters it cannot have"));
        let mut value = HeaderValue::from_str(value.expose()).map_err(bad)?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}

/// The URL of a request is often itself a secret, so errors are told without it.
fn failed(error: reqwest::Error) -> SendError {
    SendError::passing(text::chain(&error.without_url()))
}

/// The start of the body: all that is looked at.
async fn read(response: &mut Response) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::new();
    while body.len() < LONGEST_ANSWER {
        let Some(chunk) = response.chunk().await.map_err(failed)? else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(LONGEST_ANSWER - body.len())]);
    }
    Ok(body)
}

/// What a status says of the next attempt.
///
/// A redirect is often a page for maintenance. A client's error lasts, but for those that speak of time (408, 425, 429);
/// the channel itself is wrong where it speaks of who asks (401, 403, 407) or where (404, 405, 410).
fn class(status: StatusCode) -> Class {
    match status.as_u16() {
        408 | 425 | 429 => Class::Passing,
        401 | 403 | 404 | 405 | 407 | 410 => Class::Channel,
        400..=499 => Class::Message,
        _ => Class::Passing,
    }
}

/// How long to wait: as the header says it (RFC 9110, 10.2.3), or the body of Telegram and Discord.
fn retry_after(headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    header.and_then(of_header).or_else(|| of_body(body))
}

fn of_header(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok())
}

fn of_body(body: &[u8]) -> Option<Duration> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let seconds = value.pointer("/parameters/retry_after").or_else(|| value.get("retry_after"))?.as_f64()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_passing_or_lasting() {
        let check = |codes: &[u16], expected| {
            for &code in codes {
                assert_eq!(class(StatusCode::from_u16(code).unwrap()), expected, "{code}");
            }
        };
        check(&[301, 302, 408, 425, 429, 500, 502, 503, 504, 599], Class::Passing);
        check(&[400, 406, 409, 413, 415, 422], Class::Message);
        check(&[401, 403, 404, 405, 407, 410], Class::Channel);
    }

    #[test]
    fn the_wait_is_read_from_header_or_body() {
        let check = |header: Option<&'static str>, body: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|value| (RETRY_AFTER, HeaderValue::from_static(value))));
            let found = retry_after(&headers, body.as_bytes());
            assert_eq!(found.map(|found| found.as_secs()), expected, "{header:?} {body}");
        };
        check(Some("120"), "", Some(120));
        check(Some(" 5 "), "{\"retry_after\":9}", Some(5));
        check(None, "{\"ok\":false,\"parameters\":{\"retry_after\":35}}", Some(35));
        check(None, "{\"message\":\"slow down\",\"retry_after\":64.57}", Some(64));
        check(Some("Sun, 06 Nov 1994 08:49:37 GMT"), "", None);
        check(Some("soon"), "{\"retry_after\":-3}", None);
        check(Some("99999999999999999999999"), "", None);
    }

    #[test]
    fn the_wait_may_be_a_date() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(&date).unwrap());
        let found = retry_after(&headers, b"").unwrap().as_secs();
        assert!((590..=600).contains(&found), "{found}");
    }

    #[test]
    fn this_machine_has_many_names() {
        let check =
            |url: &str, expected| assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        check("http://127.0.0.1:9093/", true);
        check("http://127.8.8.8/", true);
        check("http://[::1]:80/", true);
        check("http://localhost/", true);
        check("http://localhost.example.org/", false);
        check("http://192.0.2.1/", false);
    }
}
