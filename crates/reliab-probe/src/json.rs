//! Conditions on JSON: a `JSONPath` (RFC 9535) and a comparison.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::Value;
use serde_json_path::JsonPath;
use thiserror::Error;

use crate::finding::excerpt;

/// A condition such as `$.status == "ok"`, `$.queue.length < 100`, `$.version =~ "^2"`, or a path alone.
///
/// The path must lead to something, and all it leads to must fit.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    path: JsonPath,
    test: Option<Test>,
}

#[derive(Clone, Debug)]
enum Test {
    Compare(Operator, Value),
    Match(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a condition on JSON: {problem}")]
pub struct ConditionError {
    text: String,
    problem: String,
}

/// The operators; those of two characters come before their beginnings.
const OPERATORS: [(&str, Option<Operator>); 7] = [
    ("==", Some(Operator::Equal)),
    ("!=", Some(Operator::Unequal)),
    ("<=", Some(Operator::LessOrEqual)),
    (">=", Some(Operator::GreaterOrEqual)),
    ("=~", None),
    ("<", Some(Operator::Less)),
    (">", Some(Operator::Greater)),
];

impl Condition {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let fail = |problem: String| ConditionError { text: excerpt(text), problem };
        let (path, test) = match split(text).map_err(fail)? {
            None => (text, None),
            Some((path, operator, value)) => {
                let value: Value = serde_json::from_str(value.trim()).map_err(|_| {
                    fail(format!("`{}` is not JSON; text stands in double quotes", excerpt(value.trim())))
                })?;
                (path, Some(test(operator, value).map_err(fail)?))
            }
        };
        let path = JsonPath::parse(path.trim()).map_err(|error| fail(error.to_string()))?;
        Ok(Self { text: text.trim().to_owned(), path, test })
    }

    /// The condition as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tests a document; an error says what is there instead.
    pub fn check(&self, document: &Value) -> Result<(), String> {
        let found = self.path.query(document);
        if found.is_empty() {
            return Err("nothing there".into());
        }
        let fits = |value: &&Value| self.test.as_ref().is_none_or(|test| test.holds(value));
        match found.iter().find(|value| !fits(value)) {
            None => Ok(()),
            Some(value) => Err(excerpt(&value.to_string())),
        }
    }
}

fn test(operator: Option<Operator>, value: Value) -> Result<Test, String> {
    match (operator, value) {
        (Some(operator), value) => Ok(Test::Compare(operator, value)),
        (None, Value::String(pattern)) => {
            Regex::new(&pattern).map(Test::Match).map_err(|error| error.to_string())
        }
        (None, _) => Err("a pattern is text in double quotes".into()),
    }
}

/// A path, and the operator and the value where there are any.
type Split<'a> = Option<(&'a str, Option<Operator>, &'a str)>;

/// The path, the operator and the value; only what stands outside of brackets and quotes is an operator.
///
/// A quote that stays open is refused here: the parser of paths panics where a text ends within `\u` of a string.
fn split(text: &str) -> Result<Split<'_>, String> {
    let mut depth = 0usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '[' | '(' => depth += 1,
                ']' | ')' => depth = depth.saturating_sub(1),
                _ if depth == 0 => {
                    let found = OPERATORS.iter().find(|(sign, _)| text[at..].starts_with(sign));
                    if let Some(&(sign, operator)) = found {
                        return Ok(Some((&text[..at], operator, &text[at + sign.len()..])));
                    }
                }
                _ => {}
            },
        }
    }
    match quote {
        Some(open) => Err(format!("a string that {open} begins does not end")),
        None => Ok(None),
    }
}

impl Test {
    fn holds(&self, found: &Value) -> bool {
        match self {
            Self::Match(pattern) => found.as_str().is_some_and(|text| pattern.is_match(text)),
            Self::Compare(operator, value) => operator.holds(found, value),
        }
    }
}

impl Operator {
    fn holds(self, found: &Value, value: &Value) -> bool {
        let order = order(found, value);
        match self {
            Self::Equal => order == Some(Ordering::Equal) || found == value,
            Self::Unequal => order != Some(Ordering::Equal) && found != value,
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The order of two numbers or two texts; other values have none.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(condition: &str) -> Result<(), String> {
        let document = json!({
            "status": "ok", "queue": {"length": 12, "ratio": 0.5}, "version": "2.14.0", "none": null,
            "parts": [{"name": "db", "up": true, "lag": 1}, {"name": "cache", "up": true, "lag": 40}],
            "a<b": 1,
        });
        Condition::parse(condition).unwrap().check(&document)
    }

    #[test]
    fn conditions_that_hold() {
        for condition in [
            "$.status == \"ok\"",
            "$.status",
            "$.none",
            "$.queue.length < 100",
            "$.queue.length<=12",
            "$.queue.length >= 12",
            "$.queue.length != 13",
            "$.queue.length == 12.0",
            "$.queue.ratio > 0.4",
            "$.version =~ \"^2\\\\.\"",
            "$.version > \"2\"",
            "$.parts[*].up == true",
            "$.parts[?@.name == 'db'].lag < 5",
            "$['a<b'] == 1",
            "$.parts[0] == {\"name\": \"db\", \"up\": true, \"lag\": 1}",
            "$.none == null",
        ] {
            assert_eq!(check(condition), Ok(()), "{condition}");
        }
    }

    #[test]
    fn what_is_there_instead_is_told() {
        let told = |condition: &str| check(condition).unwrap_err();
        assert_eq!(told("$.status == \"down\""), "\"ok\"");
        assert_eq!(told("$.absent == 1"), "nothing there");
        assert_eq!(told("$.parts[*].lag < 5"), "40");
        assert_eq!(told("$.status < 5"), "\"ok\"");
        assert_eq!(told("$.queue.length =~ \"1\""), "12");
        assert_eq!(told("$.none != null"), "null");
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_reason() {
        for (text, problem) in [
            ("$.status == ok", "`ok` is not JSON; text stands in double quotes"),
            ("$.status =~ 5", "a pattern is text in double quotes"),
            ("$.status ==", "`` is not JSON; text stands in double quotes"),
            ("$['a", "a string that ' begins does not end"),
            ("$[\"\\u", "a string that \" begins does not end"),
            ("$[?@.a == '\\uD83D\\u", "a string that ' begins does not end"),
        ] {
            let error = Condition::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a condition on JSON: {problem}"));
        }
        for text in ["", "status == 1", "$.[", "$.a =~ \"(\""] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[$.au\\[\\]?@'\"=<>!~ 0-9\\\\(){}é]{0,40}") {
            if let Ok(condition) = Condition::parse(&text) {
                let _ = condition.check(&json!({"a": [1, "x", {"a": null}]}));
            }
        }
    }
}
