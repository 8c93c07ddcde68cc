//! One of the two output streams, and how text for it is dressed.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Stderr, Write};

use crate::journal::{self, Priority, is_journal};

/// One of the two output streams.
pub(super) struct Stream {
    pub(super) sink: Sink,
    pub(super) terminal: bool,
    colour: bool,
    pub(super) journal: bool,
}

pub(super) enum Sink {
    Out(BufWriter<Box<dyn Write + Send>>),
    Err(Stderr),
    Memory(Vec<u8>),
}

/// What text is, beside results.
#[derive(Clone, Copy)]
pub(super) enum Severity {
    Warning,
    Error,
}

impl Stream {
    pub(super) fn stdout() -> Self {
        let stdout = io::stdout();
        let (terminal, journal) = (stdout.is_terminal(), goes_to_journal(&stdout));
        Self { sink: Sink::Out(BufWriter::new(Box::new(stdout))), terminal, colour: false, journal }
    }

    pub(super) fn stderr() -> Self {
        let stderr = io::stderr();
        let (terminal, journal) = (stderr.is_terminal(), goes_to_journal(&stderr));
        Self { sink: Sink::Err(stderr), terminal, colour: terminal && colour_wanted(), journal }
    }

    /// One in memory, as if it were no terminal; `journal` as if it went there.
    pub(super) fn memory(journal: bool) -> Self {
        Self { sink: Sink::Memory(Vec::new()), terminal: false, colour: false, journal }
    }

    /// The text as whole lines, on each of which the journal finds its priority.
    pub(super) fn line(&self, priority: Priority, text: &str) -> String {
        let text = if self.terminal { printable(text) } else { Cow::Borrowed(text) };
        let mut line = if self.journal { priority.on_each_line(&text) } else { text.into_owned() };
        line.push('\n');
        line
    }

    /// A warning or an error as lines, the first of which says which it is.
    pub(super) fn trouble(&self, severity: Severity, text: &str) -> String {
        let (name, colour, priority) = match severity {
            Severity::Warning => ("warning", "33", Priority::Warning),
            Severity::Error => ("error", "31", Priority::Error),
        };
        if self.colour {
            return format!("\x1b[1;{colour}m{name}:\x1b[0m {}", self.line(priority, text));
        }
        self.line(priority, &format!("{name}: {text}"))
    }
}

impl Sink {
    pub(super) fn captured(&self) -> String {
        match self {
            Self::Memory(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Out(_) | Self::Err(_) => String::new(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Out(out) => out.write(bytes),
            Self::Err(err) => err.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Out(out) => out.flush(),
            Self::Err(err) => err.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

fn goes_to_journal(stream: impl std::os::fd::AsFd) -> bool {
    is_journal(stream, std::env::var_os(journal::VARIABLE).as_deref())
}

/// Colour is unwanted by anybody who set `NO_COLOR` (see no-color.org), and on a terminal that cannot show it.
fn colour_wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Text that cannot command the terminal: file names may hold any control character.
fn printable(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if commands(c) {
            let _ = write!(safe, "{}", c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_colour_and_no_control_characters() {
        let stream = Stream { terminal: true, colour: true, ..Stream::memory(false) };
        let line = stream.trouble(Severity::Error, "cannot read a\x1b[2Jb\tc");
        assert_eq!(line, "\x1b[1;31merror:\x1b[0m cannot read a\\u{1b}[2Jb\tc\n");
        assert_eq!(Stream::memory(false).line(Priority::Info, "a\x1bb"), "a\x1bb\n");
    }
}
