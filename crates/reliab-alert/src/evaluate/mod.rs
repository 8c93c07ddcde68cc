//! From facts to incidents and the messages owed for them, as a function of what is stored.
//!
//! Time passes in ticks of a minute, whenever the function is called: what was true between two calls is seen all the
//! same, and calling it rarely finds the incidents that calling it each minute would have found. The state is only
//! read, as of the moment that is looked at, so the same function tells what other rules would have done.

mod burn;
mod cause;
mod clock;
mod life;
mod measure;
mod notify;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::state::{State, StateError};
use serde::{Deserialize, Serialize};

use crate::history::{self, Fact};
use crate::incident::{Incident, Life};
use crate::message::{Kind, Message, UNWATCHED};
use crate::rule::condition::Condition;
use crate::rule::{Rule, Rules};
use crate::silence::Quiet;
pub use clock::Step;
use measure::{Found, Moment};

/// The time between two looks at what time decides.
const TICK: TimeDelta = TimeDelta::minutes(1);
/// After a longer pause than so many ticks the looks are further apart.
const MOST_TICKS: i32 = 1440;
/// A clock that went back further than this is believed.
const BACK: TimeDelta = TimeDelta::minutes(5);
/// An open incident of which nothing was heard for so long is closed; a new rule looks at results as old as this.
const STALE: TimeDelta = TimeDelta::days(7);
/// So many facts that a rule could not see are shown to it one by one; of more only the last of each target.
const MOST_MISSED: i64 = 50_000;
/// A quiet time after which an incident that begins again does not count as flapping; also how long a closed
/// incident is kept in mind.
pub const FLAP_MEMORY: TimeDelta = TimeDelta::hours(6);

/// What is known of a subject at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// The condition holds: how bad it is, and in words.
    Bad(Level, String),
    /// It does not hold.
    Good,
    /// Nothing is known.
    Nothing,
}

/// What an evaluation leaves to the next one.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Incidents that are not done, and those that closed not long ago.
    pub incidents: Vec<Incident>,
    /// Incidents that fell out of mind since the world was loaded.
    pub past: Vec<Incident>,
    /// Numbers of incidents that were never confirmed, and are to be forgotten.
    pub dropped: Vec<i64>,
    /// The rest.
    pub memory: Memory,
    /// Where the incidents of a rule about a subject stand, the newest last.
    index: HashMap<String, HashMap<String, Vec<usize>>>,
}

/// What an evaluation remembers beside incidents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The number of the last fact that was seen.
    pub fact: i64,
    /// The number of the next incident: none is used twice, not even one that was forgotten.
    pub next: i64,
    /// The last tick.
    pub tick: Option<DateTime<Utc>>,
    /// When rules were last evaluated.
    pub evaluated: Option<DateTime<Utc>>,
    /// How often they were.
    pub count: u64,
    /// How many seconds passed by then; a clock that jumps adds a day at most.
    #[serde(default)]
    pub lived: i64,
    /// Since when each rule is evaluated.
    pub rules: BTreeMap<String, DateTime<Utc>>,
    /// The number of the last fact that each rule saw that cannot be read since.
    #[serde(default)]
    pub unread: BTreeMap<String, i64>,
    /// What stood before the clock went far back, until it is known which time is right.
    #[serde(default)]
    pub step: Option<Step>,
    /// When a message was last made, by channel and kind.
    pub sent: BTreeMap<String, BTreeMap<String, DateTime<Utc>>>,
}

/// What is evaluated.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// Facts that were not seen yet, in the order of their numbers.
    pub facts: &'a [Fact],
    /// What holds messages back.
    pub quiet: Quiet<'a>,
    /// The state, read as of the moments that are looked at.
    pub state: &'a State,
    /// Up to when.
    pub now: DateTime<Utc>,
    /// By when all that the state has had happened: what carries a later time was dated by a clock that was ahead.
    pub known: DateTime<Utc>,
    /// More facts are to come before this moment: nothing is told yet.
    pub more: bool,
    /// The machine that tells.
    pub host: &'a str,
}

/// A message that is owed on a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The channel.
    pub channel: String,
    /// The same for each attempt to deliver it, and for nothing else.
    pub key: String,
    /// What it says.
    pub message: Message,
}

impl World {
    /// A world with these incidents.
    pub fn new(incidents: Vec<Incident>, memory: Memory) -> Self {
        let mut world = Self { incidents, memory, ..Self::default() };
        world.reindex();
        world
    }

    /// The pending or open incident of a rule about a subject.
    fn active(&self, rule: &str, subject: &str) -> Option<usize> {
        let at = *self.index.get(rule)?.get(subject)?.last()?;
        self.incidents[at].is_active().then_some(at)
    }

    /// The newest incident of a rule about a subject that was confirmed.
    fn confirmed(&self, rule: &str, subject: &str) -> Option<&Incident> {
        let all = self.index.get(rule)?.get(subject)?;
        all.iter().rev().map(|&at| &self.incidents[at]).find(|incident| incident.opened.is_some())
    }

    /// What is good as it is not found any more: the subjects of pending or open incidents of a rule that are not in
    /// `found`.
    fn not_found(&self, rule: &str, found: &[Found]) -> Vec<Found> {
        let subjects = self.index.get(rule).into_iter().flat_map(HashMap::keys);
        let gone = |subject: &&String| {
            self.active(rule, subject).is_some() && !found.iter().any(|(known, _)| known == *subject)
        };
        let mut good: Vec<Found> =
            subjects.filter(gone).map(|subject| (subject.clone(), Finding::Good)).collect();
        good.sort_by(|one, other| one.0.cmp(&other.0));
        good
    }

    /// Adds an incident, which is now the newest of its rule about its subject.
    fn push(&mut self, incident: Incident) -> usize {
        let at = self.incidents.len();
        self.index(at, &incident);
        self.incidents.push(incident);
        at
    }

    /// Takes out what `keep` refuses.
    fn retain(&mut self, keep: impl Fn(&Incident) -> bool) -> Vec<Incident> {
        let (kept, out): (Vec<_>, Vec<_>) = std::mem::take(&mut self.incidents).into_iter().partition(keep);
        self.incidents = kept;
        if !out.is_empty() {
            self.reindex();
        }
        out
    }

    fn reindex(&mut self) {
        self.index.clear();
        let incidents = std::mem::take(&mut self.incidents);
        incidents.iter().enumerate().for_each(|(at, incident)| self.index(at, incident));
        self.incidents = incidents;
    }

    fn index(&mut self, at: usize, incident: &Incident) {
        let of_rule = self.index.entry(incident.rule.clone()).or_default();
        of_rule.entry(incident.subject.clone()).or_default().push(at);
    }

    /// Forgets incidents that ended before they were confirmed, and that they explained anything.
    fn drop_unconfirmed(&mut self) {
        let dropped = self.retain(|incident| incident.is_active() || incident.opened.is_some());
        if dropped.is_empty() {
            return;
        }
        let gone: HashSet<i64> = dropped.iter().map(|incident| incident.id).collect();
        for incident in &mut self.incidents {
            incident.cause = incident.cause.filter(|cause| !gone.contains(cause));
        }
        self.dropped.extend(dropped.iter().map(|incident| incident.id));
    }
}

/// Moves the world on to `input.now`, and tells what is owed for it.
pub fn evaluate(world: &mut World, input: &Input<'_>) -> Result<Vec<Notification>, StateError> {
    let first = world.memory.evaluated.is_none();
    clock::follow(world, input.now);
    let new = prepare(world, input);
    if !first {
        catch_up(world, input, &new)?;
    }
    let step = step(world, input.now);
    for fact in input.facts {
        ticks(world, input, fact.at.min(input.now), step)?;
        see(world, input, fact);
        world.memory.fact = world.memory.fact.max(fact.id);
    }
    ticks(world, input, input.now, step)?;
    world.drop_unconfirmed();
    let mut owed = Vec::new();
    if !input.more {
        life::grow_old(world, input.rules, input.now);
        cause::attach(world, input);
        owed = notify::owed(world, input, first);
        world.memory.evaluated = Some(input.now);
        world.memory.count += 1;
        forget(world, input.now);
    }
    Ok(owed)
}

/// Fits what is remembered to the rules and the clock of today; the rules that are new or can be read again, each with the
/// number of the last fact that it saw.
fn prepare(world: &mut World, input: &Input<'_>) -> BTreeMap<String, i64> {
    let now = input.now;
    let memory = &mut world.memory;
    if memory.tick.is_none_or(|tick| tick > now + BACK) {
        memory.tick = Some(minute(now) - TICK);
    }
    memory.rules.retain(|name, _| input.rules.knows(name));
    let mut new = BTreeMap::new();
    for rule in &input.rules.rules {
        let unread = memory.unread.remove(&rule.name);
        if !memory.rules.contains_key(&rule.name) {
            new.insert(rule.name.clone(), 0);
        } else if let Some(fact) = unread {
            new.insert(rule.name.clone(), fact);
        }
        let since = memory.rules.entry(rule.name.clone()).or_insert(now);
        *since = (*since).min(now);
    }
    memory.unread.retain(|name, _| input.rules.knows(name));
    for name in input.rules.unreadable() {
        memory.unread.entry(name.to_owned()).or_insert(memory.fact);
    }
    memory.sent.values_mut().flat_map(BTreeMap::values_mut).for_each(|at| *at = (*at).min(now));
    for incident in &mut world.incidents {
        incident.not_after(now);
        if !incident.is_active() {
            continue;
        }
        match input.rules.named(&incident.rule) {
            Some(rule) if !input.rules.may_be_about(rule, &incident.subject) => {
                life::end(incident, now, UNWATCHED, "its rule is about something else now");
            }
            None if !input.rules.knows(&incident.rule) => {
                life::end(incident, now, UNWATCHED, "its rule is gone");
            }
            _ => {}
        }
    }
    world.drop_unconfirmed();
    new
}

/// Shows rules what was found last that they did not see: a rule with another name finds what the old one had found, and one
/// that could not be read what was found meanwhile.
fn catch_up(world: &mut World, input: &Input<'_>, new: &BTreeMap<String, i64>) -> Result<(), StateError> {
    if new.is_empty() {
        return Ok(());
    }
    let latest = history::latest(input.state, world.memory.fact, input.now - STALE)?;
    for rule in &input.rules.rules {
        let Some(&seen) = new.get(&rule.name) else { continue };
        if seen > 0 && world.memory.fact - seen <= MOST_MISSED {
            missed(world, input, rule, seen)?;
        } else {
            latest.iter().filter(|fact| fact.id > seen).for_each(|fact| show(world, input, rule, fact));
        }
    }
    Ok(())
}

/// Shows a rule all that was found after number `seen`, so that it also finds what came and went.
fn missed(world: &mut World, input: &Input<'_>, rule: &Rule, seen: i64) -> Result<(), StateError> {
    let most = u32::try_from(world.memory.fact - seen).unwrap_or(u32::MAX);
    let (last, oldest) = (world.memory.fact, input.now - STALE);
    let facts = history::facts(input.state, seen, most)?;
    for fact in facts.into_iter().filter(|fact| fact.id <= last && fact.at >= oldest) {
        fact.seen().iter().for_each(|fact| show(world, input, rule, fact));
    }
    Ok(())
}

fn minute(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TICK).unwrap_or(time)
}

/// The time between ticks up to `now`: a minute, and more only after a long pause.
fn step(world: &World, now: DateTime<Utc>) -> TimeDelta {
    let pause = now - world.memory.tick.unwrap_or(now);
    let ticks = pause.num_minutes() / i64::from(MOST_TICKS) + 1;
    TICK * i32::try_from(ticks).unwrap_or(i32::MAX)
}

fn ticks(
    world: &mut World,
    input: &Input<'_>,
    until: DateTime<Utc>,
    step: TimeDelta,
) -> Result<(), StateError> {
    while let Some(tick) = world.memory.tick.map(|tick| tick + step).filter(|&tick| tick <= until) {
        world.memory.tick = Some(tick);
        for rule in &input.rules.rules {
            look(world, input, rule, tick)?;
        }
        life::pass(world, input.rules, tick);
    }
    Ok(())
}

/// Looks at what time decides of a rule.
fn look(world: &mut World, input: &Input<'_>, rule: &Rule, now: DateTime<Utc>) -> Result<(), StateError> {
    let known_since = world.memory.rules.get(&rule.name).copied().unwrap_or(now);
    let moment = Moment { state: input.state, rules: input.rules, now, known: input.known, known_since };
    let mut found = moment.look(rule, &|subject| {
        let active = world.active(&rule.name, subject).map(|at| &world.incidents[at]);
        active.is_some_and(|incident| incident.life == Life::Open && incident.memory.holds)
    })?;
    if rule.when == Condition::Configuration {
        found.extend(world.not_found(&rule.name, &found));
    }
    for (subject, finding) in found {
        life::observe(world, input.rules, rule, &subject, now, finding, None);
    }
    Ok(())
}

/// Lets every rule see a fact.
fn see(world: &mut World, input: &Input<'_>, fact: &Fact) {
    let Some(fact) = fact.clone().seen() else { return };
    input.rules.rules.iter().for_each(|rule| show(world, input, rule, &fact));
}

/// Lets a rule see a fact.
fn show(world: &mut World, input: &Input<'_>, rule: &Rule, fact: &Fact) {
    let Condition::State { is, .. } = &rule.when else { return };
    if !input.rules.is_about(rule, fact) {
        return;
    }
    let finding = if is.fits(fact.level) {
        Finding::Bad(rule.level.unwrap_or(fact.level), fact.summary.clone())
    } else if fact.level == Level::Unknown {
        // What could not be found out ends nothing.
        Finding::Nothing
    } else {
        Finding::Good
    };
    life::observe(world, input.rules, rule, &fact.subject(), fact.at.min(input.now), finding, Some(fact.id));
}

/// Puts away what is done and long over.
fn forget(world: &mut World, now: DateTime<Utc>) {
    let past = world.retain(|incident| {
        !incident.memory.done || incident.closed.is_none_or(|closed| closed >= now - FLAP_MEMORY)
    });
    world.past.extend(past);
}

/// When a message of a kind was last made on a channel.
fn sent(memory: &Memory, channel: &str, kind: Kind) -> Option<DateTime<Utc>> {
    memory.sent.get(channel)?.get(kind.name()).copied()
}
