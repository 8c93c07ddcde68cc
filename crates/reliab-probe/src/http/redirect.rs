//! Where an answer sends us.

use hyper::header::LOCATION;
use hyper::{Method, StatusCode};
use url::Url;

use super::{Answer, Step};
use crate::finding::{Finding, excerpt};

/// The next step, if the answer is a redirect. It never leaves HTTP, and takes no user or password along.
pub(super) fn next(step: &Step, answer: &Answer) -> Result<Option<Step>, Finding> {
    let method = match answer.status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if step.method == Method::POST => Method::GET,
        StatusCode::SEE_OTHER if step.method != Method::HEAD => Method::GET,
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => step.method.clone(),
        _ => return Ok(None),
    };
    let Some(location) = answer.headers.get(LOCATION) else { return Ok(None) };
    let text = String::from_utf8_lossy(location.as_bytes());
    let joined = step.url.join(&text).map_err(|error| {
        Finding::critical("a redirect to a URL", format!("{error}: {}", excerpt(&text))).lasting()
    })?;
    let mut url = joined;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        let got = format!("one to {}:", excerpt(url.scheme()));
        return Err(Finding::critical("a redirect to http: or https:", got).lasting());
    }
    url.set_fragment(None);
    // Neither can fail for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let with_body = step.with_body && method == step.method;
    Ok(Some(Step { url, method, with_body, ..*step }))
}

/// A URL as it may be shown and stored: what follows the path is often a secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(url.query().map(|_| "…"));
    let text = bare.as_str().replace("%E2%80%A6", "…");
    excerpt(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderMap;

    fn follow(method: Method, status: u16, location: &str) -> Result<Option<(String, Method, bool)>, String> {
        let url = Url::parse("https://a.test/x/y?token=planted").unwrap();
        let step = Step { url, method, with_body: true, at_home: true, shows_certificate: true };
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: vec![] };
        let found = next(&step, &answer).map_err(|finding| finding.text())?;
        Ok(found.map(|step| (step.url.to_string(), step.method, step.with_body)))
    }

    #[test]
    fn redirects_are_resolved_as_browsers_do() {
        let step = |url: &str, method, body| Ok(Some((url.to_owned(), method, body)));
        assert_eq!(follow(Method::GET, 302, "z#f"), step("https://a.test/x/z", Method::GET, true));
        assert_eq!(follow(Method::POST, 302, "/z"), step("https://a.test/z", Method::GET, false));
        assert_eq!(follow(Method::POST, 307, "/z"), step("https://a.test/z", Method::POST, true));
        assert_eq!(follow(Method::PUT, 303, "//b.test"), step("https://b.test/", Method::GET, false));
        assert_eq!(follow(Method::GET, 301, "http://u:p@b.test/"), step("http://b.test/", Method::GET, true));
        assert_eq!(follow(Method::GET, 304, "/z"), Ok(None));
        assert_eq!(follow(Method::GET, 200, "/z"), Ok(None));
    }

    #[test]
    fn redirects_never_leave_http() {
        for location in ["file:///etc/passwd", "ftp://a.test/", "javascript:alert(1)", "data:text/plain,x"] {
            let error = follow(Method::GET, 302, location).unwrap_err();
            let scheme = location.split(':').next().unwrap();
            assert_eq!(error, format!("expected a redirect to http: or https:, got one to {scheme}:"));
        }
        assert!(follow(Method::GET, 302, "http://[").is_err());
    }

    #[test]
    fn what_follows_the_path_is_not_shown() {
        assert_eq!(shown(&Url::parse("https://a.test/x?token=planted").unwrap()), "https://a.test/x?…");
        assert_eq!(shown(&Url::parse("https://a.test/x").unwrap()), "https://a.test/x");
    }
}
