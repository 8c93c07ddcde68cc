//! Paths as text: bytes that would need a JSON escape, and those that are not UTF-8, become `%XX`.

use std::borrow::Cow;

use super::Malformed;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Writes a path (or link target, or attribute name) as text.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.iter().any(|&b| is_special(b)) => Cow::Borrowed(text),
        _ => Cow::Owned(escape_slowly(bytes)),
    }
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, 0x7f | b'"' | b'%' | b'\\')
}

fn escape_slowly(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match u8::try_from(c) {
                Ok(byte) if byte.is_ascii() && is_special(byte) => push_escaped(&mut text, byte),
                _ => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_escaped(&mut text, byte));
    }
    text
}

fn push_escaped(text: &mut String, byte: u8) {
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

/// The bytes that `escape` wrote; anything `escape` would not write is refused.
pub fn unescape(text: &str) -> Result<Vec<u8>, Malformed> {
    if !text.bytes().any(is_special) {
        return Ok(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) =
            rest.split_at_checked(2).ok_or_else(|| Malformed::new(format!("cut-off escape in {text:?}")))?;
        let digit = |d: u8| HEX.iter().position(|&h| h == d);
        let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
            return Err(Malformed::new(format!("bad escape in {text:?}")));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
        rest = tail;
    }
    if escape(&bytes) == text {
        Ok(bytes)
    } else {
        Err(Malformed::new(format!("path not in normal form: {text:?}")))
    }
}

/// The longest path that is stored, bytes.
const PATH_LIMIT: usize = 64 * 1024;
/// The longest text of a path, or of the target of a link, bytes.
pub(super) const ESCAPED_MAX: usize = 3 * PATH_LIMIT;

/// True if a decoded path may stand in a snapshot: relative, no empty, `.` or `..` component, no NUL.
pub fn is_well_formed(path: &[u8]) -> bool {
    path == b"."
        || (!path.is_empty()
            && path.len() <= PATH_LIMIT
            && !path.contains(&0)
            && path.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_is_reversible_and_needs_no_json_escape() {
        let check = |raw: &[u8], text: &str| {
            assert_eq!(escape(raw), text);
            assert_eq!(unescape(text).unwrap(), raw);
            assert_eq!(serde_json::to_string(&escape(raw)).unwrap(), format!("\"{text}\""));
        };
        check(b"data/app.log", "data/app.log");
        check("grün/ß".as_bytes(), "grün/ß");
        check(b"new\nline", "new%0Aline");
        check(b"100%", "100%25");
        check(b"q\"b\\", "q%22b%5C");
        check(b"\xff\xfe", "%FF%FE");
        check(b"a\xc3(", "a%C3(");
        check(b"", "");
    }

    #[test]
    fn text_that_escape_never_writes_is_refused() {
        for text in ["%", "%4", "%zz", "%0a", "%41", "a\nb", "%C3%BC"] {
            assert!(unescape(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_paths_are_not_well_formed() {
        for path in ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "./a", "a/.", "a\0b", ".."] {
            assert!(!is_well_formed(path.as_bytes()), "{path:?}");
        }
        for path in [".", "a", "a/b", "...", "a/..b", ".hidden"] {
            assert!(is_well_formed(path.as_bytes()), "{path:?}");
        }
    }
}
