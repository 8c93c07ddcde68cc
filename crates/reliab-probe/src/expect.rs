//! What an HTTP answer must be like.

use hyper::header::HeaderName;
use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use serde_json::Value;

use crate::finding::{Finding, excerpt};
use crate::http::Answer;
use crate::json::Condition;
use crate::tcp::contains;

/// Expectations, ready to be compared.
#[derive(Debug)]
pub(crate) struct HttpExpect {
    /// Ranges of status codes, ends included.
    pub status: Vec<(u16, u16)>,
    /// Text that must be in the body.
    pub body: Option<String>,
    /// Text that must not be in the body.
    pub body_not: Option<String>,
    /// What must match in the body.
    pub regex: Option<BytesRegex>,
    /// What must match in a header.
    pub headers: Vec<(HeaderName, Regex)>,
    /// Conditions on a JSON body.
    pub json: Vec<Condition>,
}

impl HttpExpect {
    /// Success, and nothing else.
    #[cfg(test)]
    fn success() -> Self {
        let status = vec![(200, 299)];
        Self { status, body: None, body_not: None, regex: None, headers: vec![], json: vec![] }
    }

    /// Whether the body must be unpacked.
    pub(crate) fn reads_body(&self) -> bool {
        self.body.is_some() || self.body_not.is_some() || self.regex.is_some() || !self.json.is_empty()
    }

    /// All that is not as expected. An answer of the wrong status is not looked into any further.
    pub(crate) fn judge(&self, answer: &Answer) -> Vec<Finding> {
        let status = answer.status.as_u16();
        if !self.status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
            let reason =
                answer.status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
            return vec![Finding::critical(self.statuses(), format!("{status}{reason}"))];
        }
        let mut findings: Vec<_> =
            self.headers.iter().filter_map(|(name, want)| header(answer, name, want)).collect();
        findings.extend(self.judge_body(&answer.body));
        findings.extend(self.judge_json(&answer.body));
        findings
    }

    fn statuses(&self) -> String {
        let range =
            |&(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
        format!("status {}", self.status.iter().map(range).collect::<Vec<_>>().join(" or "))
    }

    fn judge_body(&self, body: &[u8]) -> Vec<Finding> {
        let size = body.len();
        let mut findings = Vec::new();
        if let Some(text) = self.body.as_ref().filter(|text| !contains(body, text.as_bytes())) {
            let expected = format!("a body with \"{}\"", excerpt(text));
            findings.push(Finding::critical(expected, format!("{size} bytes without it")));
        }
        if let Some(text) = self.body_not.as_ref().filter(|text| contains(body, text.as_bytes())) {
            findings.push(Finding::critical(format!("a body without \"{}\"", excerpt(text)), "one with it"));
        }
        if let Some(pattern) = self.regex.as_ref().filter(|pattern| !pattern.is_match(body)) {
            let expected = format!("a body that matches {}", excerpt(pattern.as_str()));
            findings.push(Finding::critical(expected, format!("{size} bytes that do not")));
        }
        findings
    }

    fn judge_json(&self, body: &[u8]) -> Vec<Finding> {
        if self.json.is_empty() {
            return Vec::new();
        }
        let document: Value = match serde_json::from_slice(body) {
            Ok(document) => document,
            Err(error) => {
                let got = format!("what is none: {}", excerpt(&error.to_string()));
                return vec![Finding::critical("a JSON document", got)];
            }
        };
        let failed = |condition: &Condition| {
            condition.check(&document).err().map(|got| Finding::critical(condition.text(), got))
        };
        self.json.iter().filter_map(failed).collect()
    }
}

fn header(answer: &Answer, name: &HeaderName, want: &Regex) -> Option<Finding> {
    let values: Vec<_> =
        answer.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if values.iter().any(|value| want.is_match(value)) {
        return None;
    }
    let expected = format!("a header {name} that matches {}", excerpt(want.as_str()));
    let got = if values.is_empty() { "none".into() } else { format!("\"{}\"", excerpt(&values.join(", "))) };
    Some(Finding::critical(expected, got))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue};

    fn told(expect: &HttpExpect, status: u16, body: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.append("x-cache", HeaderValue::from_static("MISS"));
        let status = hyper::StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers, body: body.into() };
        expect.judge(&answer).iter().map(Finding::text).collect()
    }

    #[test]
    fn a_wrong_status_is_told_alone() {
        let expect = HttpExpect {
            status: vec![(200, 299), (404, 404)],
            body: Some("x".into()),
            ..HttpExpect::success()
        };
        assert_eq!(told(&expect, 503, ""), ["expected status 200-299 or 404, got 503 Service Unavailable"]);
        assert_eq!(told(&expect, 404, "x"), [""; 0]);
    }

    #[test]
    fn each_expectation_says_what_came() {
        let expect = HttpExpect {
            body: Some("ready".into()),
            body_not: Some("error".into()),
            regex: Some(BytesRegex::new("^v[0-9]").unwrap()),
            headers: vec![
                (HeaderName::from_static("x-cache"), Regex::new("HIT").unwrap()),
                (HeaderName::from_static("etag"), Regex::new(".").unwrap()),
            ],
            json: vec![Condition::parse("$.a == 1").unwrap()],
            ..HttpExpect::success()
        };
        assert_eq!(
            told(&expect, 200, "an error"),
            [
                "expected a header x-cache that matches HIT, got \"MISS\"",
                "expected a header etag that matches ., got none",
                "expected a body with \"ready\", got 8 bytes without it",
                "expected a body without \"error\", got one with it",
                "expected a body that matches ^v[0-9], got 8 bytes that do not",
                "expected a JSON document, got what is none: expected value at line 1 column 1",
            ]
        );
        let json = HttpExpect { json: vec![Condition::parse("$.a == 1").unwrap()], ..HttpExpect::success() };
        assert_eq!(told(&json, 200, "{\"a\": 2}"), ["expected $.a == 1, got 2"]);
    }
}
