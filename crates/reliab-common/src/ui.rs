//! The one door for output: results on stdout, everything said about them on stderr.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal, Stderr, Write};

use serde::Serialize;

pub use crate::progress::Progress;

/// What the user asked of the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct UiOptions {
    /// One JSON document on stdout in place of text.
    pub json: bool,
    /// Nothing but results asked for, warnings and errors.
    pub quiet: bool,
    /// Whether to show progress on a terminal; `None` means unless quiet or JSON.
    pub progress: Option<bool>,
    /// Notes also when stderr is not a terminal.
    pub verbose: bool,
}

/// Writes everything a tool has to say.
///
/// Write errors on stdout are kept for [`Ui::finish`]; after the first one nothing more is written.
pub struct Ui {
    options: UiOptions,
    out: Stream,
    err: Stream,
    progress: Progress,
    failure: Option<io::Error>,
    pipe_closed: bool,
}

/// One of the two output streams, and how text for it is dressed.
struct Stream {
    sink: Sink,
    terminal: bool,
    colour: bool,
}

enum Sink {
    Out(BufWriter<Box<dyn Write + Send>>),
    Err(Stderr),
    Memory(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Severity {
    Warning,
    Error,
}

impl Ui {
    /// Output on this process's stdout and stderr.
    pub fn new(options: UiOptions) -> Self {
        let out = Sink::Out(BufWriter::new(Box::new(io::stdout())));
        let out = Stream { sink: out, terminal: io::stdout().is_terminal(), colour: false };
        let terminal = io::stderr().is_terminal();
        let err = Stream { sink: Sink::Err(io::stderr()), terminal, colour: terminal && colour_wanted() };
        let wanted = options.progress.unwrap_or(!options.quiet && !options.json);
        let progress = if terminal && wanted { Progress::on_stderr() } else { Progress::default() };
        Self { options, out, err, progress, failure: None, pipe_closed: false }
    }

    /// Output kept in memory, for tests, as if neither stream were a terminal.
    pub fn captured() -> Self {
        Self::captured_with(UiOptions::default())
    }

    /// Output kept in memory, for tests, with these options.
    pub fn captured_with(options: UiOptions) -> Self {
        let memory = || Stream { sink: Sink::Memory(Vec::new()), terminal: false, colour: false };
        let progress = Progress::default();
        Self { options, out: memory(), err: memory(), progress, failure: None, pipe_closed: false }
    }

    /// What was written so far to (stdout, stderr) of a captured output.
    pub fn captured_output(&self) -> (String, String) {
        (self.out.sink.captured(), self.err.sink.captured())
    }

    /// Whether the user asked for JSON.
    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// Whether the user asked for silence.
    pub fn is_quiet(&self) -> bool {
        self.options.quiet
    }

    /// Whether the reader of stdout has gone away, so that going on is pointless.
    pub fn pipe_closed(&self) -> bool {
        self.pipe_closed
    }

    /// Whether everything is told, also what is well: to a person at a terminal, or one who asked for more.
    pub fn for_person(&self) -> bool {
        self.out.terminal || self.options.verbose
    }

    /// A handle for engines to report progress to.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// One line on stdout.
    pub fn out(&mut self, text: impl Display) {
        let line = self.out.line(&text.to_string());
        self.raw_out(line.as_bytes());
    }

    /// Bytes on stdout, as they are.
    pub fn raw_out(&mut self, bytes: &[u8]) {
        let result = self.out_writer().write_all(bytes);
        self.keep(result);
    }

    /// Stdout as a writer; its errors go to whoever writes.
    pub fn out_writer(&mut self) -> impl Write + '_ {
        OutWriter(self)
    }

    /// One pretty JSON document on stdout.
    pub fn json<T: Serialize>(&mut self, value: &T) {
        let result = serde_json::to_writer_pretty(self.out_writer(), value).map_err(io::Error::from);
        self.keep(result);
        self.raw_out(b"\n");
    }

    /// The line that tells a result, left out when quiet or when the result is JSON.
    pub fn summary(&mut self, text: impl Display) {
        if !self.options.quiet && !self.options.json {
            self.out(text);
        }
    }

    /// A warning on stderr.
    pub fn warn(&mut self, text: impl Display) {
        self.say(Some(Severity::Warning), &text.to_string());
    }

    /// An error on stderr.
    pub fn error(&mut self, text: impl Display) {
        self.say(Some(Severity::Error), &text.to_string());
    }

    /// Lines on stderr as they are, for a message that is delivered there; whoever delivers it is told of errors.
    pub fn stderr_line(&mut self, text: impl Display) -> io::Result<()> {
        self.flush();
        let line = self.err.line(&text.to_string());
        let err = &mut self.err.sink;
        self.progress.suspend(|| err.write_all(line.as_bytes()).and_then(|()| err.flush()))
    }

    /// An aside on stderr, for a person at a terminal or one who asked for more.
    pub fn note(&mut self, text: impl Display) {
        if !self.options.quiet && (self.err.terminal || self.options.verbose) {
            self.say(None, &text.to_string());
        }
    }

    /// Ends the output: clears the progress, flushes stdout, and tells the first error of writing to it.
    ///
    /// A closed pipe is no error.
    pub fn finish(&mut self) -> io::Result<()> {
        self.progress.finish();
        self.flush();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// One line on stderr, after what stdout has so far; there is nobody to tell when stderr fails.
    fn say(&mut self, severity: Option<Severity>, text: &str) {
        self.flush();
        let line = self.err.dressed(severity, text);
        let err = &mut self.err.sink;
        let _ = self.progress.suspend(|| err.write_all(line.as_bytes()));
    }

    fn flush(&mut self) {
        let result = self.out_writer().flush();
        self.keep(result);
    }

    /// Keeps the first error; a closed pipe was noted where it was met.
    fn keep(&mut self, result: io::Result<()>) {
        match result {
            Err(error) if !self.pipe_closed && self.failure.is_none() => self.failure = Some(error),
            _ => {}
        }
    }
}

/// Stdout of a [`Ui`], written around the progress bar.
struct OutWriter<'a>(&'a mut Ui);

impl OutWriter<'_> {
    fn attempt<T>(&mut self, act: impl FnOnce(&mut Stream) -> io::Result<T>) -> io::Result<T> {
        if self.0.pipe_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(failure) = &self.0.failure {
            return Err(failure.kind().into());
        }
        let out = &mut self.0.out;
        let result = self.0.progress.suspend(|| act(out));
        let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        self.0.pipe_closed = result.as_ref().is_err_and(closed);
        result
    }
}

impl Write for OutWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|out| {
            let written = out.sink.write(bytes)?;
            if out.terminal {
                out.sink.flush()?;
            }
            Ok(written)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(|out| out.sink.flush())
    }
}

impl Stream {
    fn line(&self, text: &str) -> String {
        self.dressed(None, text)
    }

    fn dressed(&self, severity: Option<Severity>, text: &str) -> String {
        let mut line = severity.map_or(String::new(), |severity| severity.prefix(self.colour));
        line.push_str(&if self.terminal { printable(text) } else { Cow::Borrowed(text) });
        line.push('\n');
        line
    }
}

impl Severity {
    fn prefix(self, colour: bool) -> String {
        let (name, code) = match self {
            Self::Warning => ("warning", "33"),
            Self::Error => ("error", "31"),
        };
        if colour { format!("\x1b[1;{code}m{name}:\x1b[0m ") } else { format!("{name}: ") }
    }
}

impl Sink {
    fn captured(&self) -> String {
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

    fn everything(options: UiOptions) -> (String, String) {
        let mut ui = Ui::captured_with(options);
        ui.out("line");
        ui.raw_out(b"raw\n");
        ui.summary("summary");
        ui.warn("careful");
        ui.error("broken");
        ui.note("aside");
        ui.finish().unwrap();
        ui.captured_output()
    }

    #[test]
    fn each_kind_of_text_goes_to_its_stream() {
        let check = |options, out: &str, err: &str| {
            assert_eq!(everything(options), (out.to_owned(), err.to_owned()));
        };
        let plain = UiOptions::default();
        check(plain, "line\nraw\nsummary\n", "warning: careful\nerror: broken\n");
        check(UiOptions { quiet: true, ..plain }, "line\nraw\n", "warning: careful\nerror: broken\n");
        check(UiOptions { json: true, ..plain }, "line\nraw\n", "warning: careful\nerror: broken\n");
        check(
            UiOptions { verbose: true, ..plain },
            "line\nraw\nsummary\n",
            "warning: careful\nerror: broken\naside\n",
        );
    }

    #[test]
    fn json_is_one_document_and_a_newline() {
        let mut ui = Ui::captured();
        ui.json(&serde_json::json!({"schema": "reliab.test.v1"}));
        assert_eq!(ui.captured_output().0, "{\n  \"schema\": \"reliab.test.v1\"\n}\n");
    }

    #[test]
    fn a_terminal_gets_colour_and_no_control_characters() {
        let stream = Stream { sink: Sink::Memory(Vec::new()), terminal: true, colour: true };
        let line = stream.dressed(Some(Severity::Error), "cannot read a\x1b[2Jb\tc");
        assert_eq!(line, "\x1b[1;31merror:\x1b[0m cannot read a\\u{1b}[2Jb\tc\n");
        let plain = Stream { terminal: false, colour: false, ..stream };
        assert_eq!(plain.dressed(None, "a\x1bb"), "a\x1bb\n");
    }

    fn writing_to(stdout: impl Write + Send + 'static) -> Ui {
        let mut ui = Ui::captured();
        ui.out.sink = Sink::Out(BufWriter::new(Box::new(stdout)));
        ui
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_stops_the_writing() {
        let (reader, writer) = io::pipe().unwrap();
        let mut ui = writing_to(writer);
        drop(reader);
        let lines = (0..1_000_000).take_while(|line| {
            ui.out(line);
            !ui.pipe_closed()
        });
        assert!(lines.count() < 10_000);
        assert_eq!(ui.out_writer().write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        ui.json(&1);
        ui.warn("still heard");
        ui.finish().unwrap();
        assert_eq!(ui.captured_output().1, "warning: still heard\n");
    }

    #[test]
    fn a_full_disk_under_stdout_is_told_at_the_end() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut ui = writing_to(full);
        ui.out("lost");
        let error = ui.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!ui.pipe_closed());
    }

    #[test]
    fn a_text_written_to_a_pipe_arrives_whole_and_in_order() {
        use std::io::Read;
        let (mut reader, writer) = io::pipe().unwrap();
        let mut ui = writing_to(writer);
        ui.out("one");
        ui.raw_out(b"two\n");
        ui.json(&["three"]);
        ui.out_writer().write_all(b"four").unwrap();
        ui.finish().unwrap();
        drop(ui);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n[\n  \"three\"\n]\nfour");
    }
}
