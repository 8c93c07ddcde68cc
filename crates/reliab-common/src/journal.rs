//! The journal: which stream goes there, and the priority that a line of it carries (sd-daemon(3)).

use std::ffi::OsStr;
use std::os::fd::AsFd;

/// The environment variable by which systemd names the stream that goes to the journal (systemd.exec(5)).
pub const VARIABLE: &str = "JOURNAL_STREAM";

/// The priority of a line, as syslog(3) numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Priority {
    /// Something that was watched is broken.
    Critical = 2,
    /// The tool could not do what it was asked for.
    Error = 3,
    /// It could, but not all is well.
    Warning = 4,
    /// What a run came to, or that something is well again.
    Notice = 5,
    /// Everything else.
    Info = 6,
}

impl Priority {
    /// The text with the priority at the beginning of each line, so that the journal files none under another one.
    pub(crate) fn on_each_line(self, text: &str) -> String {
        let lines: Vec<String> = text.split('\n').map(|line| format!("<{}>{line}", self as u8)).collect();
        lines.join("\n")
    }
}

/// Whether a stream is the one that `named`, the value of [`VARIABLE`], says is connected to the journal.
///
/// The variable alone says nothing: whoever redirects the output of a service leaves it set.
pub(crate) fn is_journal(stream: impl AsFd, named: Option<&OsStr>) -> bool {
    let Some(named) = named else { return false };
    rustix::fs::fstat(stream)
        .is_ok_and(|stat| named == OsStr::new(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn each_line_carries_the_priority() {
        assert_eq!(Priority::Error.on_each_line("one"), "<3>one");
        assert_eq!(Priority::Critical.on_each_line("one\n<0>two\n"), "<2>one\n<2><0>two\n<2>");
    }

    #[test]
    fn only_the_stream_that_is_named_goes_to_the_journal() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let metadata = one.metadata().unwrap();
        let named = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_journal(&one, Some(OsStr::new(&named))));
        assert!(!is_journal(&other, Some(OsStr::new(&named))));
        for unusable in [None, Some(""), Some("1"), Some("1:1"), Some("journal")] {
            assert!(!is_journal(&one, unusable.map(OsStr::new)), "{unusable:?}");
        }
    }
}
