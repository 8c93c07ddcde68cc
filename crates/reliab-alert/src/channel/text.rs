//! Text as the services take it: bounded, escaped, without secrets.

use std::error::Error;

use reliab_common::failure::without_number;
use reliab_common::secret::Secret;

/// No text of an error or a receipt is longer, in characters.
pub(super) const EXCERPT: usize = 300;

/// The text without control characters and at most `limit` characters long.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    cut(text.trim().chars().map(clean).map(String::from), limit, |c| c.chars().count())
}

/// The text, at most `limit` characters long.
pub(super) fn cut_chars(text: &str, limit: usize) -> String {
    cut(text.chars().map(String::from), limit, |c| c.chars().count())
}

/// The text, at most `limit` bytes long.
pub(super) fn cut_bytes(text: &str, limit: usize) -> String {
    cut(text.chars().map(String::from), limit, str::len)
}

/// The text, at most `limit` UTF-16 units long.
pub(super) fn cut_utf16(text: &str, limit: usize) -> String {
    cut(text.chars().map(String::from), limit, |c| c.encode_utf16().count())
}

/// The text with characters replaced, at most `limit` characters long, and no replacement cut in two.
pub(super) fn cut_escaped(text: &str, limit: usize, escape: impl Fn(char) -> String) -> String {
    cut(text.chars().map(escape), limit, |c| c.chars().count())
}

/// As many pieces as fit; where not all do, three dots at the end.
fn cut(pieces: impl Iterator<Item = String>, limit: usize, size: impl Fn(&str) -> usize) -> String {
    const DOTS: &str = "…";
    let room = limit.saturating_sub(size(DOTS));
    let (mut text, mut used, mut fits) = (String::new(), 0, 0);
    for piece in pieces {
        used += size(&piece);
        if used > limit {
            text.truncate(fits);
            return text + DOTS;
        }
        text.push_str(&piece);
        if used <= room {
            fits = text.len();
        }
    }
    text
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut link = Some(error);
    while let Some(error) = link {
        let part = error.to_string();
        let part = without_number(&part);
        // Some errors repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(part)) {
            parts.push(part.to_owned());
        }
        link = error.source();
    }
    parts.join(": ")
}

/// The text with every secret, and every part of one that names a path, replaced.
pub(super) fn redacted(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        for part in revealing(secret.expose()) {
            text = text.replace(&part, "[secret]");
        }
    }
    text
}

/// The secret and what of it gives it away, the longest first: a URL is one by the segments of its path.
fn revealing(secret: &str) -> Vec<String> {
    const SHORTEST_SEGMENT: usize = 6;
    let mut parts = vec![secret.to_owned()];
    if let Ok(url) = reqwest::Url::parse(secret) {
        parts.push(url.to_string());
        parts.push(match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        });
        let segments = url.path().split('/').chain(url.query());
        parts.extend(segments.filter(|part| part.len() >= SHORTEST_SEGMENT).map(str::to_owned));
    }
    let encoded: Vec<String> = parts.iter().map(|part| encoded(part)).collect();
    parts.extend(encoded);
    parts.retain(|part| part.len() > 1);
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts
}

/// The text as it stands in the query of a URL.
fn encoded(text: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse("http://localhost/") else { return text.to_owned() };
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_stays_as_it_is_and_what_does_not_ends_in_dots() {
        assert_eq!(cut_chars("abcdef", 6), "abcdef");
        assert_eq!(cut_chars("abcdefg", 6), "abcde…");
        assert_eq!(cut_bytes("äöü", 6), "äöü");
        assert_eq!(cut_bytes("äöüx", 6), "ä…");
        assert_eq!(cut_utf16("😀😀", 4), "😀😀");
        assert_eq!(cut_utf16("😀😀x", 4), "😀…");
        let amp = |c: char| if c == '&' { "&amp;".into() } else { c.to_string() };
        assert_eq!(cut_escaped("a&b", 7, amp), "a&amp;b");
        assert_eq!(cut_escaped("a&&b", 7, amp), "a&amp;…");
        assert_eq!(one_line(" a\r\nb\x1b[31m ", 99), "a  b [31m");
    }

    #[test]
    fn parts_of_a_secret_url_are_secret_too() {
        let secrets =
            [Secret::new("https://hooks.example.org/services/T0001/plantedtoken"), Secret::new("p w")];
        let check = |text, expected: &str| assert_eq!(redacted(text, &secrets), expected);
        check("POST https://hooks.example.org/services/T0001/plantedtoken failed", "POST [secret] failed");
        check("no /services/T0001/plantedtoken here", "no [secret] here");
        check("invalid token plantedtoken", "invalid token [secret]");
        check("password p w or p+w", "password [secret] or [secret]");
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::from_raw_os_error(2);
        let outer = reliab_common::secret::SecretError::Read { path: "/x".into(), source: inner };
        assert_eq!(chain(&outer), "cannot read the secret in /x: No such file or directory");
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_its_limit(text in "\\PC{0,60}", limit in 3usize..40) {
            prop_assert!(cut_chars(&text, limit).chars().count() <= limit);
            prop_assert!(cut_bytes(&text, limit).len() <= limit);
            prop_assert!(cut_utf16(&text, limit).encode_utf16().count() <= limit);
        }
    }
}
