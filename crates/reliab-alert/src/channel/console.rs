//! Standard error: a terminal, cron's mail or the journal.

use reliab_common::exit::Level;
use reliab_common::ui::{Priority, Ui};

use super::{Outgoing, SendError, text};

pub(super) fn send(out: &Outgoing<'_>, ui: &mut Ui) -> Result<String, SendError> {
    let lines: Vec<String> = std::iter::once(out.message.title()).chain(out.lines()).collect();
    let failed = |error| SendError::passing(format!("cannot write to stderr: {}", text::chain(&error)));
    ui.deliver(priority(out.message.level()), lines.join("\n")).map_err(failed)?;
    Ok("written to stderr".into())
}

/// Under which priority the journal files a message.
fn priority(level: Level) -> Priority {
    match level {
        Level::Critical => Priority::Critical,
        Level::Unknown => Priority::Error,
        Level::Warning => Priority::Warning,
        Level::Ok => Priority::Notice,
    }
}
