//! Expectations of the configuration, made ready.

use hyper::header::HeaderName;
use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use reliab_common::config::probe::Expect;

use crate::expect::HttpExpect;
use crate::json::Condition;

/// What an HTTP answer must be like.
pub(super) fn http(expect: &Expect) -> Result<HttpExpect, String> {
    let status: Result<Vec<_>, _> = expect.status.iter().map(|text| status(text)).collect();
    let status = status?;
    let header = |(name, pattern): (&String, &String)| {
        let wrong = |error: &dyn std::fmt::Display| format!("`expect.header` {name}: {error}");
        let header = HeaderName::try_from(name.as_str()).map_err(|error| wrong(&error))?;
        Ok((header, Regex::new(pattern).map_err(|error| wrong(&error))?))
    };
    let condition = |text: &String| Condition::parse(text).map_err(|error| format!("`expect.json`: {error}"));
    Ok(HttpExpect {
        status: if status.is_empty() { vec![(200, 299)] } else { status },
        body: expect.body.clone(),
        body_not: expect.body_not.clone(),
        regex: expect.regex.as_deref().map(pattern).transpose()?,
        headers: expect.header.iter().map(header).collect::<Result<_, String>>()?,
        json: expect.json.iter().map(condition).collect::<Result<_, String>>()?,
    })
}

/// A pattern on bytes.
pub(super) fn pattern(text: &str) -> Result<BytesRegex, String> {
    BytesRegex::new(text).map_err(|error| format!("`expect.regex`: {error}"))
}

/// `200`, `200-299` or `2xx`.
pub(super) fn status(text: &str) -> Result<(u16, u16), String> {
    let text = text.trim();
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=999).contains(code));
    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
    let range = match (class.filter(|class| (1..=5).contains(class)), text.split_once('-')) {
        (Some(class), _) => Some((class * 100, class * 100 + 99)),
        (None, Some((low, high))) => number(low).zip(number(high)).filter(|(low, high)| low <= high),
        (None, None) => number(text).map(|code| (code, code)),
    };
    range.ok_or_else(|| format!("`{text}` is not a status or a range of them, such as 200, 200-299 or 2xx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_ranges_and_classes() {
        assert_eq!(status("200"), Ok((200, 200)));
        assert_eq!(status("200 - 299"), Ok((200, 299)));
        assert_eq!(status("3xx"), Ok((300, 399)));
        for text in ["", "20", "299-200", "6xx", "ok", "200,301", "1000"] {
            assert!(status(text).is_err(), "{text}");
        }
    }
}
