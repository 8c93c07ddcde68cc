//! The one door for output: results on stdout, everything said about them on stderr.

mod stream;

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use stream::{Severity, Stream};

pub use crate::journal::Priority;
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

impl Ui {
    /// Output on this process's stdout and stderr.
    pub fn new(options: UiOptions) -> Self {
        let (out, err) = (Stream::stdout(), Stream::stderr());
        let wanted = options.progress.unwrap_or(!options.quiet && !options.json);
        let progress = if err.terminal && wanted { Progress::on_stderr() } else { Progress::default() };
        Self { options, out, err, progress, failure: None, pipe_closed: false }
    }

    /// Output kept in memory, for tests, as if neither stream were a terminal.
    pub fn captured() -> Self {
        Self::captured_with(UiOptions::default())
    }

    /// Output kept in memory, for tests, with these options.
    pub fn captured_with(options: UiOptions) -> Self {
        Self::in_memory(options, false)
    }

    /// Output kept in memory, for tests, as if both streams went to the journal.
    pub fn captured_for_journal(options: UiOptions) -> Self {
        Self::in_memory(options, true)
    }

    fn in_memory(options: UiOptions, journal: bool) -> Self {
        let (out, err) = (Stream::memory(journal), Stream::memory(journal));
        Self { options, out, err, progress: Progress::default(), failure: None, pipe_closed: false }
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

    /// Whether the user asked for more.
    pub fn is_verbose(&self) -> bool {
        self.options.verbose
    }

    /// Whether the reader of stdout has gone away, so that going on is pointless.
    pub fn pipe_closed(&self) -> bool {
        self.pipe_closed
    }

    /// Whether stderr goes to the journal.
    pub fn tells_journal(&self) -> bool {
        self.err.journal
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
        self.line_out(Priority::Info, &text.to_string());
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
            self.line_out(Priority::Notice, &text.to_string());
        }
    }

    /// A warning on stderr.
    pub fn warn(&mut self, text: impl Display) {
        let lines = self.err.trouble(Severity::Warning, &text.to_string());
        self.say(&lines);
    }

    /// An error on stderr.
    pub fn error(&mut self, text: impl Display) {
        let lines = self.err.trouble(Severity::Error, &text.to_string());
        self.say(&lines);
    }

    /// Lines on stderr as they are, for a message that is delivered there; whoever delivers it is told of errors.
    ///
    /// The priority is for the journal only.
    pub fn deliver(&mut self, priority: Priority, text: impl Display) -> io::Result<()> {
        self.flush();
        let lines = self.err.line(priority, &text.to_string());
        let err = &mut self.err.sink;
        self.progress.suspend(|| err.write_all(lines.as_bytes()).and_then(|()| err.flush()))
    }

    /// An aside on stderr, for a person at a terminal or one who asked for more.
    pub fn note(&mut self, text: impl Display) {
        if !self.options.quiet && (self.err.terminal || self.options.verbose) {
            let lines = self.err.line(Priority::Info, &text.to_string());
            self.say(&lines);
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

    fn line_out(&mut self, priority: Priority, text: &str) {
        let line = self.out.line(priority, text);
        self.raw_out(line.as_bytes());
    }

    /// Lines on stderr, after what stdout has so far; there is nobody to tell when stderr fails.
    fn say(&mut self, lines: &str) {
        self.flush();
        let err = &mut self.err.sink;
        let _ = self.progress.suspend(|| err.write_all(lines.as_bytes()));
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

#[cfg(test)]
mod tests {
    use std::io::BufWriter;

    use super::stream::Sink;
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
    fn the_journal_gets_a_priority_on_each_line_and_documents_as_they_are() {
        let mut ui = Ui::captured_for_journal(UiOptions { verbose: true, ..UiOptions::default() });
        ui.out("line\nand one more");
        ui.raw_out(b"raw\n");
        ui.json(&[1]);
        ui.summary("summary");
        ui.warn("careful");
        ui.error("broken\n<0>in two");
        ui.note("aside");
        ui.deliver(Priority::Critical, "title\ntext").unwrap();
        let (out, err) = ui.captured_output();
        assert_eq!(out, "<6>line\n<6>and one more\nraw\n[\n  1\n]\n<5>summary\n");
        assert_eq!(err, "<4>warning: careful\n<3>error: broken\n<3><0>in two\n<6>aside\n<2>title\n<2>text\n");
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
