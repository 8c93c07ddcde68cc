//! `alert simulate`: what the rules of today would have done on stored history.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::{self, Clock as _};
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::fact::RAW_DAYS;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::Session;
use reliab_common::state::{State, StateError};
use reliab_common::table::table;
use reliab_common::ui::Ui;
use reliab_common::units;
use serde::Serialize;

use crate::evaluate::{Input, Memory, Notification, World, evaluate};
use crate::history::{self, Fact};
use crate::incident::Incident;
use crate::open::{host, sound_rules, state};
use crate::rule::condition::Condition;
use crate::rule::{Rule, Rules, builtin};
use crate::show::{View, between, view};
use crate::silence::{self, Quiet};

const EXAMPLES: &str = "  \
  reliab alert simulate --since 7d
  reliab alert simulate --since 24h --config new.toml      what a changed rule would have told
  reliab alert simulate --since 7d --json";

/// Show what the configured rules would have told on stored history.
///
/// Nothing is stored and nothing is sent. Rules are evaluated as by a timer that runs each minute.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// How far back to begin, at most where stored history does; measured values are kept one by one for 14 days.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, default_value = "7d")]
    since: Duration,
}

/// What a simulation found.
#[derive(Debug)]
pub struct Simulated {
    /// All incidents that were confirmed, and those that still wait to be.
    pub incidents: Vec<Incident>,
    /// The messages that would have been made, in their order.
    pub messages: Vec<Notification>,
}

/// Evaluates the rules each minute from `since` to `until`, beginning without any incident.
pub fn simulate(
    state: &State,
    rules: &Rules,
    host: &str,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Simulated, StateError> {
    let minute = TimeDelta::minutes(1);
    let mut now = since.duration_trunc(minute).unwrap_or(since);
    let mut world = World::new(Vec::new(), Memory { next: 1, ..Memory::default() });
    let all = facts(state, now, until)?;
    let silences = silence::since(state, now - TimeDelta::days(1))?;
    let quiet = Quiet { silences: &silences, windows: &rules.windows };
    let (mut rest, mut messages) = (all.as_slice(), Vec::new());
    while now <= until {
        let ready = rest.iter().take_while(|fact| fact.at <= now).count();
        let (facts, later) = rest.split_at(ready);
        rest = later;
        messages.extend(evaluate(
            &mut world,
            &Input { rules, facts, quiet, state, now, known: until, more: false, host },
        )?);
        now += minute;
    }
    let mut incidents = world.past;
    incidents.extend(world.incidents);
    incidents.sort_by_key(|incident| incident.id);
    Ok(Simulated { incidents, messages })
}

/// The facts from `since` to `until`, in the order of their numbers; none comes before one that was stored earlier, and
/// what a clock that was ahead dated after `until` comes right after that.
fn facts(state: &State, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<Fact>, StateError> {
    let first = history::last_before(state, since)?;
    let mut facts = history::facts(state, first, u32::MAX)?;
    let is_within = |fact: &Fact| since <= fact.at && fact.at <= until;
    let Some(last) = facts.iter().rposition(is_within) else { return Ok(Vec::new()) };
    facts.truncate(last + 1);
    let within = facts.iter().position(is_within).unwrap_or(last);
    let before = facts[..within].iter().rposition(|fact| fact.at < since).map_or(0, |at| at + 1);
    facts.drain(..before);
    let mut latest = since;
    for fact in &mut facts {
        latest = if fact.at > until { latest } else { latest.max(fact.at) };
        fact.at = latest;
    }
    Ok(facts)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    rules: Vec<PerRule<'a>>,
    incidents: Vec<View<'a>>,
    messages: Vec<Told>,
}

#[derive(Serialize)]
struct PerRule<'a> {
    rule: &'a str,
    incidents: usize,
    messages: usize,
}

#[derive(Serialize)]
struct Told {
    at: DateTime<Utc>,
    channel: String,
    kind: crate::message::Kind,
    title: String,
}

impl Tool for Args {
    const NAME: &'static str = "alert-simulate";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let until = session.clock.now();
        let since = TimeDelta::from_std(self.since).unwrap_or(TimeDelta::MAX);
        if since > TimeDelta::days(RAW_DAYS) {
            let text =
                format!("cannot simulate more than {RAW_DAYS} d: older values are kept by the hour only");
            return Err(UsageError(text).into());
        }
        let (rules, state) = (sound_rules(session)?, state(session)?);
        let since = begin(&state, until - since, until, ui)?;
        let simulated = simulate(&state, &rules, &host(), since, until)?;
        if ui.is_json() {
            let report = report(&rules, &simulated, since, until);
            ui.json(&document(Self::NAME, Exit::Done, report));
        } else {
            show(&rules, &simulated, until, ui);
        }
        Ok(Exit::Done)
    }
}

/// Where to begin: before anything was stored, rules would miss what nobody recorded yet.
fn begin(
    state: &State,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    ui: &mut Ui,
) -> Result<DateTime<Utc>, StateError> {
    let first = history::first(state)?.unwrap_or(until).min(until);
    if first > since {
        ui.summary(format_args!("nothing is stored before {}", clock::local(first)));
    }
    Ok(first.max(since))
}

fn per_rule<'a>(rules: &'a Rules, simulated: &Simulated) -> Vec<PerRule<'a>> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for incident in simulated.incidents.iter().filter(|incident| incident.opened.is_some()) {
        counts.entry(&incident.rule).or_default().0 += 1;
    }
    for message in &simulated.messages {
        let mut names: Vec<&str> = message.message.incidents.iter().map(|line| line.rule.as_str()).collect();
        names.dedup();
        names.into_iter().for_each(|name| counts.entry(name).or_default().1 += 1);
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    // Rules that hold beside those of the file are worth a line where they found something.
    let beside = |rule: &Rule| rule.when == Condition::Configuration || builtin::stays(&rule.name);
    let shown = |rule: &&Rule| !beside(rule) || counts.contains_key(rule.name.as_str());
    rules
        .rules
        .iter()
        .filter(shown)
        .map(|rule| {
            let (incidents, messages) = count(&rule.name);
            PerRule { rule: &rule.name, incidents, messages }
        })
        .collect()
}

fn report<'a>(
    rules: &'a Rules,
    simulated: &'a Simulated,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Report<'a> {
    let told = |notification: &Notification| Told {
        at: notification.message.owed,
        channel: notification.channel.clone(),
        kind: notification.message.kind,
        title: notification.message.title(),
    };
    Report {
        since,
        until,
        rules: per_rule(rules, simulated),
        incidents: simulated.incidents.iter().map(view).collect(),
        messages: simulated.messages.iter().map(told).collect(),
    }
}

fn show(rules: &Rules, simulated: &Simulated, until: DateTime<Utc>, ui: &mut Ui) {
    for told in &simulated.messages {
        let at = clock::local(told.message.owed);
        ui.out(format_args!("{at}  {}  {}", told.channel, told.message.title()));
    }
    let row =
        |rule: &PerRule<'_>| [rule.rule.to_owned(), rule.incidents.to_string(), rule.messages.to_string()];
    let rows: Vec<_> = per_rule(rules, simulated).iter().map(row).collect();
    table(["RULE", "INCIDENTS", "MESSAGES"], &rows).iter().for_each(|line| ui.out(line));
    for incident in simulated.incidents.iter().filter(|incident| incident.is_active()) {
        let lasts = between(incident.began, until);
        ui.out(format_args!("still {}: {}, for {lasts}", incident.life.name(), incident.subject));
    }
    ui.summary(counted(simulated.messages.len() as u64, "message", "messages"));
}
