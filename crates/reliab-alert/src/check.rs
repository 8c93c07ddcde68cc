//! `alert check`: how bad is what is open?

use std::time::Duration;

use chrono::{DateTime, Utc};
use reliab_common::app::{Tool, after_help_of, document};
use reliab_common::clock::Clock as _;
use reliab_common::count::counted;
use reliab_common::exit::Level;
use reliab_common::failure::ErrorTable;
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use reliab_common::units;
use serde::Serialize;

use crate::history;
use crate::incident::{Incident, Life};
use crate::open::{sound_rules, state};
use crate::show::{View, between, view};
use crate::silence::{self, Quiet};
use crate::store;

const EXAMPLES: &str = "  \
  reliab alert check
  reliab alert check --nagios            one line for Nagios, Icinga and the like
  reliab alert check --max-age 1h        rules may be evaluated each half hour only";

/// Tell by the exit code how bad the open incidents are.
///
/// Incidents that are acknowledged, silenced or explained by another are shown and do not count. Rules that were not
/// evaluated lately make it UNKNOWN.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help_of::<Level>(EXAMPLES))]
pub struct Args {
    /// Print one line with performance data, as monitoring plugins do.
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
    /// After how long without an evaluation nothing is known.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, default_value = "15m")]
    max_age: Duration,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    evaluated: Option<DateTime<Utc>>,
    /// Why nothing is known.
    unknown: Option<&'a str>,
    incidents: Vec<Counted<'a>>,
    /// Messages that are owed, and since when the oldest is.
    owed: i64,
    owed_since: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    incident: View<'a>,
    /// Why it does not count.
    excused: Option<&'a str>,
}

/// What was found.
struct Found {
    now: DateTime<Utc>,
    evaluated: Option<DateTime<Utc>>,
    unknown: Option<String>,
    incidents: Vec<(Incident, Option<String>)>,
    owed: i64,
    owed_since: Option<DateTime<Utc>>,
}

impl Tool for Args {
    const NAME: &'static str = "alert-check";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Level;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Level> {
        let found = self.find(session)?;
        let level = found.level();
        if ui.is_json() {
            ui.json(&document(Self::NAME, level, found.report()));
        } else if self.nagios {
            ui.out(found.line(level));
        } else {
            found.show(level, ui);
        }
        Ok(level)
    }
}

impl Args {
    fn find(&self, session: &Session) -> anyhow::Result<Found> {
        let (rules, state, now) = (sound_rules(session)?, state(session)?, session.clock.now());
        let evaluated = store::memory(&state)?.evaluated;
        let silences = silence::since(&state, now)?;
        let quiet = Quiet { silences: &silences, windows: &rules.windows };
        let mut incidents = Vec::new();
        for incident in store::incidents(&state, None)? {
            if incident.life == Life::Open {
                let excused = excuse(&incident, &quiet, now);
                incidents.push((incident, excused));
            }
        }
        let (owed_since, owed) =
            history::owed(&state, now, now)?.map_or((None, 0), |(at, count)| (Some(at), count));
        Ok(Found { now, evaluated, unknown: self.unknown(evaluated, now), incidents, owed, owed_since })
    }

    fn unknown(&self, evaluated: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<String> {
        let Some(at) = evaluated else {
            return Some("rules were never evaluated: run `reliab alert` from a timer".to_owned());
        };
        let old = (now - at).to_std().is_ok_and(|age| age > self.max_age);
        old.then(|| {
            format!("rules were last evaluated {} ago: look at the timer of `reliab alert`", between(at, now))
        })
    }
}

/// Why an open incident does not count.
fn excuse(incident: &Incident, quiet: &Quiet<'_>, now: DateTime<Utc>) -> Option<String> {
    let acknowledged = incident.acknowledged.as_ref().map(|by| format!("acknowledged by {by}"));
    let explained = || incident.cause.map(|cause| format!("explained by incident {cause}"));
    acknowledged.or_else(explained).or_else(|| quiet.over(&incident.rule, &incident.subject, now))
}

impl Found {
    fn level(&self) -> Level {
        let unknown = if self.unknown.is_some() { Level::Unknown } else { Level::Ok };
        let counted = self.incidents.iter().filter(|(_, excuse)| excuse.is_none());
        counted.fold(unknown, |worst, (incident, _)| worst.worst(incident.level))
    }

    fn report(&self) -> Report<'_> {
        Report {
            evaluated: self.evaluated,
            unknown: self.unknown.as_deref(),
            incidents: self
                .incidents
                .iter()
                .map(|(incident, excuse)| Counted { incident: view(incident), excused: excuse.as_deref() })
                .collect(),
            owed: self.owed,
            owed_since: self.owed_since,
        }
    }

    fn open(&self) -> String {
        let excused = self.incidents.iter().filter(|(_, excuse)| excuse.is_some()).count();
        let open = counted(self.incidents.len() as u64, "incident", "incidents");
        if excused == 0 { format!("{open} open") } else { format!("{open} open, {excused} of them excused") }
    }

    /// The line of a monitoring plugin.
    fn line(&self, level: Level) -> String {
        let mut parts = vec![self.open()];
        parts.extend(self.unknown.clone());
        let counted = self.incidents.iter().filter(|(_, excuse)| excuse.is_none());
        parts.extend(counted.map(|(incident, _)| format!("{}: {}", incident.subject, incident.summary)));
        // `|` begins the performance data, and the line must be one.
        let text: String = parts
            .join("; ")
            .chars()
            .map(|c| if c.is_control() || c == '|' { ' ' } else { c })
            .take(1000)
            .collect();
        let age = self.owed_since.map_or(0, |since| (self.now - since).num_seconds().max(0));
        let figures = format!("open={} owed={} owed_age={age}s", self.incidents.len(), self.owed);
        format!("ALERT {} - {text} | {figures}", level.name().to_uppercase())
    }

    fn show(&self, level: Level, ui: &mut Ui) {
        if let Some(unknown) = &self.unknown {
            ui.warn(unknown);
        }
        for (incident, excuse) in &self.incidents {
            let excuse = excuse.as_ref().map_or_else(String::new, |excuse| format!(" ({excuse})"));
            let lasts = between(incident.began, self.now);
            ui.out(format_args!(
                "{} {}: {}, for {lasts}{excuse}",
                incident.level.name().to_uppercase(),
                incident.subject,
                incident.summary
            ));
        }
        ui.summary(format_args!("{}: {}", level.name().to_uppercase(), self.open()));
    }
}
