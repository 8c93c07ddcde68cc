//! `alert silence` and `alert unsilence`: not to be told of something for a time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::{self, Clock as _};
use reliab_common::exit::Exit;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use reliab_common::units;
use serde::Serialize;

use crate::open::{person, state};
use crate::pattern::Pattern;
use crate::silence::{self, Silence};
use crate::store;
use crate::zone::{self, Zone};

const EXAMPLES: &str = "  \
  reliab alert silence 'probe api*' --for 2h --reason 'moving to the new host'
  reliab alert silence 'disk /srv' --until 18:00 --reason 'copying'
  reliab alert silence '*' --until '2026-12-27 08:00' --reason 'nobody is there'";

const UNSILENCE_EXAMPLES: &str = "  \
  reliab alert unsilence 3";

/// Hold back messages on what matches a pattern.
///
/// Incidents go on as ever. What is still open when the silence ends is told then; what was told before is told to be
/// over when it is.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES), group = clap::ArgGroup::new("end").required(true))]
pub struct Args {
    /// A pattern on subjects such as `probe api`, or on names of rules; `*` stands for any characters.
    pattern: String,
    /// When it ends: a time, with a date or without, by the clock of this machine.
    #[arg(long, value_name = "TIME", group = "end")]
    until: Option<String>,
    /// How long it lasts.
    #[arg(long = "for", value_name = "DURATION", value_parser = units::parse_duration, group = "end")]
    lasts: Option<Duration>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks for it [default: your user name].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    silence: &'a Silence,
    /// Subjects of incidents that it matches now.
    matches: &'a [String],
}

impl Tool for Args {
    const NAME: &'static str = "alert-silence";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let now = session.clock.now();
        let until = self.ends(now)?;
        let state = state(session)?;
        let by = self.by.unwrap_or_else(|| person(&session.env));
        let mut silence =
            Silence { id: 0, matching: self.pattern, since: now, until, reason: self.reason, by };
        silence.id = silence::add(&state, &silence)?;
        let pattern = Pattern::new(&silence.matching);
        let open = store::incidents(&state, None)?.into_iter();
        let matches: Vec<String> = open
            .filter(|incident| pattern.matches(&incident.subject) || pattern.matches(&incident.rule))
            .map(|incident| incident.subject)
            .collect();
        if ui.is_json() {
            ui.json(&document(Self::NAME, Exit::Done, Report { silence: &silence, matches: &matches }));
        }
        let (id, pattern, until) = (silence.id, &silence.matching, clock::local(until));
        ui.summary(format_args!("silence {id}: {pattern} until {until}"));
        for subject in matches {
            ui.note(format_args!("it matches the open incident on {subject}"));
        }
        Ok(Exit::Done)
    }
}

impl Args {
    fn ends(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, UsageError> {
        let until = match (&self.until, self.lasts) {
            (Some(until), _) => zone::until(until, &Zone::local(), now).map_err(UsageError)?,
            (None, lasts) => now + TimeDelta::from_std(lasts.unwrap_or_default()).unwrap_or(TimeDelta::MAX),
        };
        if until > now { Ok(until) } else { Err(UsageError(format!("{} is over", clock::local(until)))) }
    }
}

/// End a silence before its time.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(UNSILENCE_EXAMPLES))]
pub struct Unsilence {
    /// The number of the silence, as `alert list` shows it.
    id: i64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Ended {
    ended: i64,
}

impl Tool for Unsilence {
    const NAME: &'static str = "alert-unsilence";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let state = state(session)?;
        if !silence::end(&state, self.id, session.clock.now())? {
            let text = format!("no silence {} is in force: see `reliab alert list`", self.id);
            return Err(UsageError(text).into());
        }
        if ui.is_json() {
            ui.json(&document(Self::NAME, Exit::Done, Ended { ended: self.id }));
        }
        ui.summary(format_args!("silence {} ended", self.id));
        Ok(Exit::Done)
    }
}
