//! `alert list`: incidents and silences.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::{self, Clock as _};
use reliab_common::exit::Exit;
use reliab_common::failure::ErrorTable;
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use reliab_common::units;
use serde::Serialize;

use crate::incident::{Incident, Life};
use crate::open::state;
use crate::show::{View, between, table, view};
use crate::silence::{self, Silence};
use crate::store;

const EXAMPLES: &str = "  \
  reliab alert list                      what is pending or open, and all silences
  reliab alert list --since 7d           also what was closed in the last week
  reliab alert list --json";

/// List incidents that are pending or open, and silences.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// Also those that were closed in this time.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    since: Option<Duration>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    incidents: Vec<View<'a>>,
    silences: &'a [Silence],
}

impl Tool for Args {
    const NAME: &'static str = "alert-list";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let (state, now) = (state(session)?, session.clock.now());
        let since = self.since.map(|since| now - TimeDelta::from_std(since).unwrap_or(TimeDelta::MAX));
        let incidents = store::incidents(&state, since)?;
        let silences = silence::since(&state, now)?;
        if ui.is_json() {
            let report = Report { incidents: incidents.iter().map(view).collect(), silences: &silences };
            ui.json(&document(Self::NAME, Exit::Done, report));
        } else {
            show(&incidents, &silences, now, ui);
        }
        Ok(Exit::Done)
    }
}

fn show(incidents: &[Incident], silences: &[Silence], now: DateTime<Utc>, ui: &mut Ui) {
    if incidents.is_empty() {
        ui.note("no incidents");
    } else {
        let rows: Vec<_> = incidents.iter().map(|incident| row(incident, now)).collect();
        let head = ["ID", "STATE", "LEVEL", "SUBJECT", "SINCE", "FOR", "SUMMARY"];
        table(head, &rows).iter().for_each(|line| ui.out(line));
    }
    for silence in silences {
        ui.out(format_args!(
            "silence {}: {} until {}, by {}: {}",
            silence.id,
            silence.matching,
            clock::local(silence.until),
            silence.by,
            silence.reason
        ));
    }
}

fn row(incident: &Incident, now: DateTime<Utc>) -> [String; 7] {
    let mut state = incident.life.name().to_owned();
    if let Some(cause) = incident.cause {
        state = format!("{state}, by {cause}");
    }
    if incident.acknowledged.is_some() && incident.life == Life::Open {
        state.push_str(", acknowledged");
    }
    [
        incident.id.to_string(),
        state,
        incident.level.name().to_owned(),
        incident.subject.clone(),
        clock::local(incident.began),
        between(incident.began, incident.closed.unwrap_or(now)),
        incident.summary.clone(),
    ]
}
