//! `heartbeat`: something else reports in.

use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::Clock as _;
use reliab_common::exit::Exit;
use reliab_common::fact;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::paths;
use reliab_common::session::Session;
use reliab_common::state::State;
use reliab_common::ui::Ui;
use serde::Serialize;

/// Names longer than this are a mistake in a script.
const LONGEST: usize = 200;

const EXAMPLES: &str = "  \
  pg_dump app > app.sql && reliab heartbeat pg-dump    report in only if it went well";

/// Report that something went well; a rule alerts when such reports stop.
///
/// A rule for it in the configuration: `when = "heartbeat pg-dump missing 26h"`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// Who reports.
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    at: chrono::DateTime<chrono::Utc>,
}

impl Tool for Args {
    const NAME: &'static str = "heartbeat";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let folder = paths::state_dir(session.global.state_dir.as_deref(), &session.env)?;
        let at = session.clock.now();
        fact::beat(&State::open(&folder)?, &self.name, at)?;
        if ui.is_json() {
            ui.json(&document(Self::NAME, Exit::Done, Report { name: &self.name, at }));
        }
        Ok(Exit::Done)
    }
}

fn name(text: &str) -> Result<String, UsageError> {
    let problem = if text.trim().is_empty() {
        "it is empty"
    } else if text.len() > LONGEST {
        "it is longer than 200 bytes"
    } else if text.contains(char::is_control) {
        "it has control characters in it"
    } else {
        return Ok(text.to_owned());
    };
    Err(UsageError(format!("not a name: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_lines() {
        assert!(name("nightly dump").is_ok());
        for bad in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
