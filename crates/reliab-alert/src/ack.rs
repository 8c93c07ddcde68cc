//! `alert ack`: somebody knows.

use reliab_common::app::{Tool, after_help, document};
use reliab_common::exit::Exit;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use serde::Serialize;

use crate::open::{number, person, state};
use crate::store;

const EXAMPLES: &str = "  \
  reliab alert ack 7
  reliab alert ack 7 8 9 --by anna";

/// Acknowledge incidents: no more reminders and no escalation, but a message when they are worse or over.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// The numbers of the incidents, as `alert list` and messages show them.
    #[arg(required = true, value_name = "ID", value_parser = number)]
    ids: Vec<i64>,
    /// Who knows [default: your user name].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    acknowledged: &'a [i64],
    by: &'a str,
}

impl Tool for Args {
    const NAME: &'static str = "alert-ack";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let state = state(session)?;
        let by = self.by.unwrap_or_else(|| person(&session.env));
        for &id in &self.ids {
            if !store::acknowledge(&state, id, &by)? {
                let text = format!("no incident {id} is pending or open: see `reliab alert list`");
                return Err(UsageError(text).into());
            }
        }
        if ui.is_json() {
            ui.json(&document(Self::NAME, Exit::Done, Report { acknowledged: &self.ids, by: &by }));
        }
        let ids: Vec<String> = self.ids.iter().map(i64::to_string).collect();
        ui.summary(format_args!("acknowledged by {by}: {}", ids.join(", ")));
        Ok(Exit::Done)
    }
}
