//! An incident: something that fits a rule, from the first fact on until it is told to be over.

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use serde::{Deserialize, Serialize};

use crate::message::IncidentLine;

/// How many notes on its life an incident keeps.
const LOG: usize = 60;
/// How many numbers of facts it keeps, the first ones and the last ones.
const FACTS: usize = 20;

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Seen, not confirmed.
    Pending,
    /// Confirmed.
    Open,
    /// Over.
    Closed,
}

impl Life {
    /// The name in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Pending, Self::Open, Self::Closed].into_iter().find(|life| life.name() == name)
    }
}

/// An incident as the state has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// The name of its rule.
    pub rule: String,
    /// What it is about, such as `probe api`.
    pub subject: String,
    /// How far it has come.
    pub life: Life,
    /// What was found last.
    pub level: Level,
    /// The same in one line.
    pub summary: String,
    /// The first fact that fits the rule.
    pub began: DateTime<Utc>,
    /// When it was confirmed.
    pub opened: Option<DateTime<Utc>>,
    /// When it was over.
    pub closed: Option<DateTime<Utc>>,
    /// By whom it was acknowledged.
    pub acknowledged: Option<String>,
    /// The incident that explains it.
    pub cause: Option<i64>,
    /// What the evaluation remembers of it.
    pub memory: Memory,
}

/// What the evaluation remembers of an incident.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// How many results in a row fitted the rule.
    pub runs: u32,
    /// Whether the condition holds.
    pub holds: bool,
    /// Since when it does, or does not.
    pub since: DateTime<Utc>,
    /// When the condition was last known to hold or not.
    pub seen: DateTime<Utc>,
    /// The worst level since it began.
    pub worst: Level,
    /// How often it came back, also as a new incident, without a long quiet time between.
    pub flaps: u32,
    /// How often the condition came or went over all those.
    pub changes: u32,
    /// When it was told first.
    pub told: Option<DateTime<Utc>>,
    /// When it was told last.
    pub told_last: Option<DateTime<Utc>>,
    /// The worst level that was told.
    pub told_level: Level,
    /// Which channels were told.
    pub told_on: Vec<String>,
    /// That it flaps was told, and single changes are not.
    pub flapping: bool,
    /// Further channels were told.
    pub escalated: bool,
    /// It is closed, and nothing more is to be told of it.
    pub done: bool,
    /// When the incident that explained it was over.
    pub freed: Option<DateTime<Utc>>,
    /// When it first waited for a pending incident that may explain it.
    #[serde(default)]
    pub awaits: Option<DateTime<Utc>>,
    /// That pending incident.
    #[serde(default)]
    pub awaited: Option<i64>,
    /// When it began, as it was first known: messages are known by it, so it stays also where a clock was wrong.
    #[serde(default)]
    pub first: Option<DateTime<Utc>>,
    /// That it flaps was told.
    #[serde(default)]
    pub flapping_told: bool,
    /// Since when the condition would hold again, were that confirmed.
    #[serde(default)]
    pub back: Option<DateTime<Utc>>,
    /// Since when its level is lower than the one that was told.
    #[serde(default)]
    pub lower: Option<DateTime<Utc>>,
    /// Since when a message on it waits to be shared.
    #[serde(default)]
    pub ready: Option<DateTime<Utc>>,
    /// Until when that message waits, as the last evaluation left it.
    #[serde(default)]
    pub waits: Option<DateTime<Utc>>,
    /// What of the time that evaluations passed was gone when it was heard of last, in seconds.
    #[serde(default)]
    pub heard: i64,
    /// What is said in place of `resolved` where it did not get well.
    #[serde(default)]
    pub ended: Option<String>,
    /// Its times before the clock went far back, until it is known which time is right.
    #[serde(default)]
    pub kept: Option<Times>,
    /// Numbers of facts that it stands on.
    pub facts: Vec<i64>,
    /// What became of it, for people.
    pub log: Vec<Note>,
}

/// The times of an incident, as they stood at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    fixed: [DateTime<Utc>; 3],
    perhaps: [Option<DateTime<Utc>>; 9],
    holds: bool,
}

/// A note on an incident's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: String,
}

impl Incident {
    /// An incident that begins.
    pub fn new(id: i64, rule: &str, subject: &str, level: Level, summary: &str, at: DateTime<Utc>) -> Self {
        let memory = Memory {
            runs: 0,
            holds: true,
            since: at,
            seen: at,
            worst: level,
            flaps: 0,
            changes: 1,
            told: None,
            told_last: None,
            told_level: Level::Ok,
            told_on: Vec::new(),
            flapping: false,
            escalated: false,
            done: false,
            freed: None,
            awaits: None,
            awaited: None,
            first: Some(at),
            flapping_told: false,
            back: None,
            lower: None,
            ready: None,
            waits: None,
            heard: 0,
            ended: None,
            kept: None,
            facts: Vec::new(),
            log: Vec::new(),
        };
        Self {
            id,
            rule: rule.to_owned(),
            subject: subject.to_owned(),
            life: Life::Pending,
            level,
            summary: summary.to_owned(),
            began: at,
            opened: None,
            closed: None,
            acknowledged: None,
            cause: None,
            memory,
        }
    }

    /// Whether it is pending or open.
    pub fn is_active(&self) -> bool {
        self.life != Life::Closed
    }

    /// Nothing of it happened after `now`: a clock that was ahead is not believed.
    pub fn not_after(&mut self, now: DateTime<Utc>) {
        self.memory.first.get_or_insert(self.began);
        self.fixed().into_iter().for_each(|at| *at = (*at).min(now));
        self.perhaps().into_iter().for_each(|at| *at = at.map(|at| at.min(now)));
    }

    /// Keeps its times, as the clock may be wrong from now on.
    pub fn keep_times(&mut self) {
        let fixed = self.fixed().map(|at| *at);
        let perhaps = self.perhaps().map(|at| *at);
        self.memory.kept = Some(Times { fixed, perhaps, holds: self.memory.holds });
    }

    /// Takes back its times from before a clock was behind, which was so from `behind` on and after `last`; what changed
    /// since then, and all of what is `new` since then, happened after `last`.
    pub fn restore_times(&mut self, behind: DateTime<Utc>, last: DateTime<Utc>, new: bool) {
        let kept = self.memory.kept.take();
        if kept.is_none() && !new {
            return;
        }
        let is_kept = |at: DateTime<Utc>, kept: DateTime<Utc>| at <= kept.min(behind);
        let right = |at: DateTime<Utc>, kept: Option<DateTime<Utc>>| {
            kept.filter(|&kept| is_kept(at, kept)).unwrap_or(at.max(last))
        };
        for (place, at) in self.fixed().into_iter().enumerate() {
            *at = right(*at, kept.as_ref().map(|kept| kept.fixed[place]));
        }
        for (place, at) in self.perhaps().into_iter().enumerate() {
            let kept = kept.as_ref().and_then(|kept| kept.perhaps[place]);
            *at = at.map(|at| right(at, kept));
        }
        if kept.is_some_and(|kept| kept.holds != self.memory.holds) {
            self.memory.since = last;
        }
    }

    fn fixed(&mut self) -> [&mut DateTime<Utc>; 3] {
        [&mut self.began, &mut self.memory.since, &mut self.memory.seen]
    }

    fn perhaps(&mut self) -> [&mut Option<DateTime<Utc>>; 9] {
        let memory = &mut self.memory;
        [
            &mut self.opened,
            &mut self.closed,
            &mut memory.told,
            &mut memory.told_last,
            &mut memory.freed,
            &mut memory.awaits,
            &mut memory.back,
            &mut memory.lower,
            &mut memory.ready,
        ]
    }

    /// Notes what became of it, unless that is what was noted last; of many notes those in the middle go.
    pub fn note(&mut self, at: DateTime<Utc>, what: impl Into<String>) {
        let what = what.into();
        let log = &mut self.memory.log;
        if log.last().is_some_and(|last| last.what == what) {
            return;
        }
        log.push(Note { at, what });
        if log.len() > LOG {
            log.remove(LOG / 2);
        }
    }

    /// Keeps the number of a fact; of many those in the middle go.
    pub fn stands_on(&mut self, fact: i64) {
        let facts = &mut self.memory.facts;
        facts.push(fact);
        if facts.len() > FACTS {
            facts.remove(FACTS / 2);
        }
    }

    /// As a message tells it.
    pub fn line(&self) -> IncidentLine {
        let over = self.life == Life::Closed;
        IncidentLine {
            id: self.id,
            rule: self.rule.clone(),
            subject: self.subject.clone(),
            level: if over { self.memory.worst } else { self.level },
            summary: self.summary.clone(),
            began: self.began,
            first: self.memory.first.filter(|&first| first != self.began),
            opened: self.opened,
            closed: self.closed,
        }
    }
}
