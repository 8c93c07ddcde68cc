//! `alert list`: incidents and silences.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::{self, Clock as _};
use reliab_common::exit::Exit;
use reliab_common::failure::ErrorTable;
use reliab_common::session::Session;
use reliab_common::table::{Narrowing, columns, fit, table, table_within};
use reliab_common::ui::Ui;
use reliab_common::units;
use serde::Serialize;

use crate::incident::{Incident, Life};
use crate::open::state;
use crate::ping::Past;
use crate::show::{View, between, view};
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
    /// What became of the last outbound ping; nothing where none was ever tried.
    ping: Option<&'a Past>,
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
        let (pings, ping) = (session.config.ping.is_some(), Past::read(&state)?);
        let found = Found { now, incidents, silences, pings, ping };
        if ui.is_json() {
            let incidents = found.incidents.iter().map(view).collect();
            let ping = found.ping.as_ref();
            let report = Report { incidents, silences: &found.silences, ping };
            ui.json(&document(Self::NAME, Exit::Done, report));
        } else {
            if found.incidents.is_empty() {
                ui.note("no incidents");
            }
            lines(&found, columns()).iter().for_each(|line| ui.out(line));
        }
        Ok(Exit::Done)
    }
}

/// What there is to list.
struct Found {
    now: DateTime<Utc>,
    incidents: Vec<Incident>,
    silences: Vec<Silence>,
    /// Whether a ping is configured.
    pings: bool,
    /// What became of the last one, if one was ever tried.
    ping: Option<Past>,
}

impl Found {
    fn ping_line(&self) -> Option<String> {
        if !self.pings {
            return None;
        }
        let Some(past) = &self.ping else {
            return Some("ping: never tried: run `reliab alert` from a timer".to_owned());
        };
        let ago = |at| format!("{} ago", between(at, self.now));
        Some(match past.last_sent {
            Some(at) if past.sent => format!("ping: sent {}", ago(at)),
            Some(at) => format!("ping: {}, last sent {}", past.summary, ago(at)),
            None => format!("ping: {}, never sent", past.summary),
        })
    }
}

/// On a narrow terminal the beginning, which `FOR` says too, gives way first, then what makes lines long.
const NARROWING: Narrowing<'_> =
    Narrowing { drop: &[4, 2, 5], shorten: &[(6, 20), (3, 12), (1, 8)], begin: &[1, 3, 6] };

/// The lines that fit a terminal of so many columns; without one they are as long as they are.
fn lines(found: &Found, columns: Option<usize>) -> Vec<String> {
    let time = if columns.is_some() { clock::local_short } else { clock::local };
    let rows: Vec<_> = found.incidents.iter().map(|incident| row(incident, found.now, time)).collect();
    let head = ["ID", "STATE", "LEVEL", "SUBJECT", "SINCE", "FOR", "SUMMARY"];
    let mut lines = match columns {
        _ if rows.is_empty() => Vec::new(),
        None => table(head, &rows),
        Some(columns) => table_within(head, &rows, columns, &NARROWING),
    };
    let silence = |silence: &Silence| {
        let Silence { id, matching, by, reason, .. } = silence;
        format!("silence {id}: {matching} until {}, by {by}: {reason}", time(silence.until))
    };
    let others = found.silences.iter().map(silence).chain(found.ping_line());
    lines.extend(others.map(|line| columns.map_or(line.clone(), |columns| fit(&line, columns))));
    lines
}

fn row(incident: &Incident, now: DateTime<Utc>, time: fn(DateTime<Utc>) -> String) -> [String; 7] {
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
        time(incident.began),
        between(incident.began, incident.closed.unwrap_or(now)),
        incident.summary.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::exit::Level;

    fn now() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn incident(id: i64, subject: &str, summary: &str) -> Incident {
        let began = now() - TimeDelta::minutes(59);
        Incident { life: Life::Open, ..Incident::new(id, "r", subject, Level::Critical, summary, began) }
    }

    fn found(incidents: Vec<Incident>) -> Found {
        let silence = Silence {
            id: 12,
            matching: "probe *".into(),
            since: now(),
            until: now() + TimeDelta::hours(2),
            reason: "we are moving to the new machine, which takes all day".into(),
            by: "anna".into(),
        };
        let summary = "not sent: no check found anything out for 3 h (limit 60 min)".into();
        let past = Past { at: now(), sent: false, summary, last_sent: Some(now() - TimeDelta::hours(3)) };
        Found { now: now(), incidents, silences: vec![silence], pings: true, ping: Some(past) }
    }

    #[test]
    fn the_list_fits_a_terminal_of_80_columns() {
        let long = "connection refused by everybody who was asked, which is a long text";
        let mut all = vec![
            incident(1, "disk /", "full"),
            incident(1234, "probe the-shop.example.org/checkout/pay", long),
            incident(7, "probe a\tb", "two\nlines"),
        ];
        all[1].acknowledged = Some("anna".into());
        all[1].cause = Some(1);
        let lines = lines(&found(all), Some(80));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
        assert_eq!(lines[0].split_whitespace().last(), Some("SUMMARY"));
        assert!(lines[1].starts_with("1     open") && lines[1].ends_with("full"), "{lines:#?}");
        assert!(lines[2].contains("probe the-s") && lines[2].contains("connection refused"), "{lines:#?}");
        assert!(
            lines[4].starts_with("silence 12: probe * until 20") && lines[4].ends_with('…'),
            "{lines:#?}"
        );
        assert!(lines[5].starts_with("ping: not sent: no check found anything out for 3 h"), "{lines:#?}");
    }

    #[test]
    fn what_fits_is_whole_and_nothing_is_cut_where_there_is_no_terminal() {
        let short = lines(&found(vec![incident(1, "disk /", "full")]), Some(80));
        assert!(short[0].contains("SINCE") && short[1].ends_with("full"), "{short:#?}");
        let whole = lines(&found(vec![incident(1, "disk /", &"long ".repeat(40))]), None);
        assert!(!whole.concat().contains('…'), "{whole:#?}");
        assert!(whole[3].ends_with("(limit 60 min), last sent 3 h 00 min ago"), "{whole:#?}");
    }
}
