//! Standard error: a terminal, cron's mail or the journal.

use reliab_common::exit::Level;
use reliab_common::paths::Env;
use reliab_common::ui::Ui;

use super::{Outgoing, SendError, text};

pub(super) struct Console {
    journal: bool,
}

impl Console {
    pub(super) fn new(env: &Env) -> Self {
        Self { journal: goes_to_the_journal(env) }
    }

    pub(super) fn send(&self, out: &Outgoing<'_>, ui: &mut Ui) -> Result<String, SendError> {
        let prefix = if self.journal { priority(out.message.level()) } else { "" };
        let lines = std::iter::once(out.message.title()).chain(out.lines());
        let text: Vec<String> = lines.map(|line| format!("{prefix}{line}")).collect();
        let failed = |error| SendError::passing(format!("cannot write to stderr: {}", text::chain(&error)));
        ui.stderr_line(text.join("\n")).map_err(failed)?;
        Ok("written to stderr".into())
    }
}

/// Whether stderr is the stream that systemd says is connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn goes_to_the_journal(env: &Env) -> bool {
    let Some(stream) = env.var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

/// The prefix of a line that tells the journal its priority (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "<2>",
        Level::Unknown => "<3>",
        Level::Warning => "<4>",
        Level::Ok => "<5>",
    }
}
