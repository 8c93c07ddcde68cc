//! `alert why`: what an incident stands on, what became of it, and how its messages were delivered.

use chrono::{DateTime, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::{self, Clock as _};
use reliab_common::exit::{Exit, Level};
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::Session;
use reliab_common::state::{State, StateError, time};
use reliab_common::ui::Ui;
use rusqlite::Row;
use serde::Serialize;

use crate::incident::{Incident, Note};
use crate::open::{number, state};
use crate::show::{View, view};
use crate::store;

const EXAMPLES: &str = "  \
  reliab alert why 7
  reliab alert why 7 --json";

/// Show why an incident was told, or was not: results, confirmations, what held messages back, each delivery.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// The number of the incident, as `alert list` and messages show it.
    #[arg(value_parser = number)]
    id: i64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    incident: View<'a>,
    results: &'a [Found],
    events: &'a [Note],
    messages: &'a [Sent],
    /// Until when a message that is not made yet waits for others to share it.
    waits_until: Option<DateTime<Utc>>,
}

/// A check result that the incident stands on.
#[derive(Serialize)]
struct Found {
    id: i64,
    at: DateTime<Utc>,
    level: Level,
    summary: String,
}

/// A message about the incident.
#[derive(Serialize)]
struct Sent {
    id: i64,
    channel: String,
    kind: String,
    owed: DateTime<Utc>,
    state: String,
    ended: Option<DateTime<Utc>>,
    attempts: Vec<Attempt>,
}

/// An attempt to deliver it.
#[derive(Serialize)]
struct Attempt {
    at: DateTime<Utc>,
    outcome: String,
    detail: String,
}

impl Tool for Args {
    const NAME: &'static str = "alert-why";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let state = state(session)?;
        let Some(incident) = store::one(&state, self.id)? else {
            return Err(
                UsageError(format!("there is no incident {}: see `reliab alert list`", self.id)).into()
            );
        };
        let results = results(&state, &incident.memory.facts)?;
        let messages = messages(&state, self.id)?;
        if ui.is_json() {
            let events = &incident.memory.log;
            let waits_until = incident.memory.waits;
            let incident = view(&incident);
            let report = Report { incident, results: &results, events, messages: &messages, waits_until };
            ui.json(&document(Self::NAME, Exit::Done, report));
        } else {
            show(&incident, &results, ui);
            show_messages(&messages, incident.memory.waits, session.clock.now(), ui);
        }
        Ok(Exit::Done)
    }
}

fn results(state: &State, facts: &[i64]) -> Result<Vec<Found>, StateError> {
    let sql = "SELECT id, at, level, summary FROM check_result WHERE id = ?1";
    let found = |row: &Row<'_>| {
        let level = Level::from_code(row.get(2)?).unwrap_or(Level::Unknown);
        Ok(Found { id: row.get(0)?, at: time(row.get(1)?), level, summary: row.get(3)? })
    };
    state.with(|db| {
        let mut query = db.prepare(sql)?;
        let mut all = Vec::new();
        for fact in facts {
            all.extend(query.query_map([fact], found)?.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(all)
    })
}

fn messages(state: &State, incident: i64) -> Result<Vec<Sent>, StateError> {
    let sql = "SELECT n.id, n.channel, n.kind, n.owed, n.state, n.ended FROM notification n
               JOIN notification_incident i ON i.notification = n.id WHERE i.incident = ?1 ORDER BY n.id";
    let sent = |row: &Row<'_>| {
        Ok(Sent {
            id: row.get(0)?,
            channel: row.get(1)?,
            kind: row.get(2)?,
            owed: time(row.get(3)?),
            state: row.get(4)?,
            ended: row.get::<_, Option<i64>>(5)?.map(time),
            attempts: Vec::new(),
        })
    };
    let attempts = "SELECT at, outcome, detail FROM attempt WHERE notification = ?1 ORDER BY id";
    let attempt =
        |row: &Row<'_>| Ok(Attempt { at: time(row.get(0)?), outcome: row.get(1)?, detail: row.get(2)? });
    state.with(|db| {
        let mut all: Vec<Sent> = db.prepare(sql)?.query_map([incident], sent)?.collect::<Result<_, _>>()?;
        let mut query = db.prepare(attempts)?;
        for sent in &mut all {
            sent.attempts = query.query_map([sent.id], attempt)?.collect::<Result<_, _>>()?;
        }
        Ok(all)
    })
}

fn show(incident: &Incident, results: &[Found], ui: &mut Ui) {
    ui.out(format_args!("incident {} of rule {}: {}", incident.id, incident.rule, incident.subject));
    let level = incident.level.name().to_uppercase();
    ui.out(format_args!("  {}, {level}: {}", incident.life.name(), incident.summary));
    ui.out(format_args!("  began {}", clock::local(incident.began)));
    if let Some(by) = &incident.acknowledged {
        ui.out(format_args!("  acknowledged by {by}"));
    }
    if let Some(cause) = incident.cause {
        ui.out(format_args!("  explained by incident {cause}"));
    }
    heading("results it stands on", results.is_empty(), ui);
    for found in results {
        let level = found.level.name().to_uppercase();
        ui.out(format_args!("  {}  {level}: {}", clock::local(found.at), found.summary));
    }
    heading("what became of it", incident.memory.log.is_empty(), ui);
    for note in &incident.memory.log {
        ui.out(format_args!("  {}  {}", clock::local(note.at), note.what));
    }
}

/// The messages that were made, and until when the next one waits for others to share it.
fn show_messages(messages: &[Sent], waits: Option<DateTime<Utc>>, now: DateTime<Utc>, ui: &mut Ui) {
    heading("messages", messages.is_empty() && waits.is_none(), ui);
    for sent in messages {
        ui.out(format_args!(
            "  {}  {} on {}: {}",
            clock::local(sent.owed),
            sent.kind,
            sent.channel,
            sent.state
        ));
        for attempt in &sent.attempts {
            ui.out(format_args!("    {}  {}: {}", clock::local(attempt.at), attempt.outcome, attempt.detail));
        }
    }
    if let Some(until) = waits {
        let time = clock::time_of_day(until);
        ui.out(if until > now {
            format!("  waits for the group until {time}")
        } else {
            format!("  waited for the group until {time}; the next run of `reliab alert` makes the message")
        });
    }
}

fn heading(text: &str, empty: bool, ui: &mut Ui) {
    ui.out(format_args!("{text}:{}", if empty { " none" } else { "" }));
}
