//! Patterns on names: text in which `*` stands for any characters.

use std::fmt;

/// A pattern such as `probe api-*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern that fits everything.
    pub fn any() -> Self {
        Self::new("*")
    }

    /// The one name it fits, unless it has a `*`.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(self.0.as_str())
    }

    /// Whether it fits the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(text) = text.strip_prefix(head) else { return false };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut text) = text.strip_suffix(tail) else { return false };
        // The first place of each part is as good as any later one.
        for part in middle.split('*').filter(|part| !part.is_empty()) {
            let Some(at) = text.find(part) else { return false };
            text = &text[at + part.len()..];
        }
        true
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let check =
            |pattern, text, fits| assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        check("probe api", "probe api", true);
        check("probe api", "probe api2", false);
        check("probe *", "probe api", true);
        check("probe *", "probe", false);
        check("*", "", true);
        check("* /", "disk /", true);
        check("* /", "disk /srv", false);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("p*b*c", "pxbyc", true);
        check("p*b*c", "pxyc", false);
        check("*é*", "aéb", true);
        check("**", "x", true);
        check("[a-z]", "a", false);
    }

    /// The definition, one character at a time.
    fn plain(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => plain(rest, text) || (!text.is_empty() && plain(pattern, &text[1..])),
            (Some((p, rest)), Some((t, text))) => p == t && plain(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), plain(&chars(&pattern), &chars(&text)));
        }
    }
}
