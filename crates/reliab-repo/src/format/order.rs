//! The order of paths: component by component, so a folder comes right before what is in it.

use std::cmp::Ordering;

/// Compares two paths as if `/` were smaller than every other byte; `.` comes first.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (top(a), top(b));
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    match common {
        None => a.len().cmp(&b.len()),
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
    }
}

/// The top folder is the empty list of components.
fn top(path: &[u8]) -> &[u8] {
    if path == b"." { b"" } else { path }
}

fn rank(byte: u8) -> u16 {
    if byte == b'/' { 0 } else { u16::from(byte) + 1 }
}

/// True if `path` is `folder` or lies below it.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder == b"." || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_right_before_its_content() {
        let sorted: [&[u8]; 8] = [b".", b"a", b"a/b", b"a/b/c", b"a/b!", b"a!", b"a-b", b"b"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare(b"a/b", b"a/b"), Ordering::Equal);
    }

    #[test]
    fn within_means_the_folder_or_below_it() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"x", b"."));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
    }
}
