//! What an attempt found to be not as expected.

use reliab_common::exit::Level;
use serde::Serialize;

/// Text of a peer is cut to this many characters where it is shown.
const SHOWN: usize = 120;

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad that is.
    pub level: Level,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub got: String,
    /// Whether another attempt a second later cannot change it.
    #[serde(skip)]
    pub lasting: bool,
}

impl Finding {
    /// A finding that says that the target does not do its work.
    pub(crate) fn critical(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { level: Level::Critical, expected: expected.into(), got: got.into(), lasting: false }
    }

    /// A finding that says that nothing could be found out.
    pub(crate) fn unknown(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { level: Level::Unknown, ..Self::critical(expected, got) }
    }

    /// The same, not to be tried again.
    pub(crate) fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// The finding as part of a line.
    pub(crate) fn text(&self) -> String {
        format!("expected {}, got {}", self.expected, self.got)
    }
}

/// The graver of all levels; OK without any.
pub(crate) fn worst<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Level {
    findings.into_iter().fold(Level::Ok, |level, finding| level.worst(finding.level))
}

/// A peer's text, safe to show: of one line, without control characters, not long.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(SHOWN) {
        if is_plain(c) { shown.push(c) } else { shown.extend(c.escape_unicode()) }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Characters that neither control a terminal nor change the direction of a line.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sends_cannot_control_a_terminal() {
        assert_eq!(excerpt("ok é\n\x1b[2J\u{202e}x"), "ok é\\u{a}\\u{1b}[2J\\u{202e}x");
        assert_eq!(excerpt(&"x".repeat(500)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn the_gravest_finding_counts() {
        let critical = Finding::critical("a", "b");
        let warning = Finding { level: Level::Warning, ..critical.clone() };
        assert_eq!(worst([]), Level::Ok);
        assert_eq!(worst([&warning]), Level::Warning);
        assert_eq!(worst([&warning, &critical, &Finding::unknown("a", "b")]), Level::Critical);
    }
}
