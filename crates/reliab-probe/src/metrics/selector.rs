//! Which series are meant: a name, and conditions on labels as Prometheus writes them.

use regex::Regex;
use thiserror::Error;

use super::text::{Sample, quoted};
use crate::finding::excerpt;

/// A selector such as `http_requests_total{handler="/checkout", code=~"5.."}`.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The name of the metric.
    pub name: String,
    text: String,
    matchers: Vec<(String, Matcher)>,
}

#[derive(Clone, Debug)]
enum Matcher {
    Equal(String),
    Unequal(String),
    Match(Regex),
    NoMatch(Regex),
}

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a selector of series: {problem}")]
pub struct SelectorError {
    text: String,
    problem: String,
}

impl Selector {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let fail = |problem: String| SelectorError { text: excerpt(text), problem };
        let trimmed = text.trim();
        let (name, rest) = word(trimmed);
        if name.is_empty() {
            return Err(fail("it begins with the name of a metric".into()));
        }
        let matchers = match rest.trim_start().strip_prefix('{') {
            Some(inside) => matchers(inside).map_err(fail)?,
            None if rest.trim().is_empty() => Vec::new(),
            None => return Err(fail("behind the name stands { or nothing".into())),
        };
        Ok(Self { name: name.to_owned(), text: trimmed.to_owned(), matchers })
    }

    /// The selector as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a series has what the selector looks at, its values apart: only then is none that fits a count of zero
    /// and not a selector that is wrong.
    pub(super) fn could_fit(&self, sample: &Sample<'_>) -> bool {
        let has = |label: &str| !sample.label(label).is_empty();
        sample.name == self.name && self.matchers.iter().all(|(label, _)| has(label))
    }

    /// Whether a series is meant whose name is the selector's with `suffix` added.
    pub fn fits(&self, sample: &Sample<'_>, suffix: &str) -> bool {
        sample.name.strip_prefix(self.name.as_str()) == Some(suffix)
            && self.matchers.iter().all(|(label, matcher)| matcher.holds(sample.label(label)))
    }
}

fn word(text: &str) -> (&str, &str) {
    let end =
        text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':')).unwrap_or(text.len());
    text.split_at(end)
}

fn matchers(mut rest: &str) -> Result<Vec<(String, Matcher)>, String> {
    let mut matchers = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return if behind.trim().is_empty() {
                Ok(matchers)
            } else {
                Err("there is more behind }".into())
            };
        }
        let (label, behind) = word(rest);
        if label.is_empty() {
            return Err("a label is expected, or }".into());
        }
        let behind = behind.trim_start();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| behind.starts_with(operator));
        let operator = operator.ok_or("behind a label stands =, !=, =~ or !~")?;
        let value = behind[operator.len()..].trim_start().strip_prefix('"');
        let (value, behind) = quoted(value.ok_or("a value stands in double quotes")?)?;
        matchers.push((label.to_owned(), matcher(operator, &value)?));
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(behind) => behind,
            None if behind.starts_with('}') => behind,
            None => return Err("behind a value stands , or }".into()),
        };
    }
}

fn matcher(operator: &str, value: &str) -> Result<Matcher, String> {
    // Anchored at both ends, as in Prometheus.
    let pattern = || Regex::new(&format!("^(?:{value})$")).map_err(|error| error.to_string());
    Ok(match operator {
        "=~" => Matcher::Match(pattern()?),
        "!~" => Matcher::NoMatch(pattern()?),
        "!=" => Matcher::Unequal(value.to_owned()),
        _ => Matcher::Equal(value.to_owned()),
    })
}

impl Matcher {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(text) => value == text,
            Self::Unequal(text) => value != text,
            Self::Match(pattern) => pattern.is_match(value),
            Self::NoMatch(pattern) => !pattern.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(selector: &str, name: &'static str, labels: &[(&'static str, &'static str)]) -> bool {
        let labels = labels.iter().map(|&(name, value)| (name, value.into())).collect();
        Selector::parse(selector).unwrap().fits(&Sample { name, labels, value: 1.0 }, "")
    }

    #[test]
    fn labels_are_matched_as_prometheus_does() {
        let labels = [("code", "503"), ("path", "/a\"b")];
        for selector in
            ["r", " r { } ", "r{code=\"503\"}", "r{code=~\"5..\",}", "r{absent=\"\"}", "r{path=\"/a\\\"b\"}"]
        {
            assert!(fits(selector, "r", &labels), "{selector}");
        }
        for selector in
            ["r_total", "r{code=\"50\"}", "r{code=~\"5\"}", "r{code!~\"5..\"}", "r{code!=\"503\"}"]
        {
            assert!(!fits(selector, "r", &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_reason() {
        let told = |text: &str| Selector::parse(text).unwrap_err().to_string();
        assert_eq!(told(""), "`` is not a selector of series: it begins with the name of a metric");
        assert_eq!(told("a{b"), "`a{b` is not a selector of series: behind a label stands =, !=, =~ or !~");
        for text in ["a b", "a{b=c}", "a{b=\"c\"", "a{b=\"c\"} d", "a{b=~\"(\"}", "a{b=\"c\" d=\"e\"}"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-c{}=!~\",\\\\() é]{0,40}") {
            let _ = Selector::parse(&text);
        }
    }
}
