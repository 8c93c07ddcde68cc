//! Evaluation of what is stored: read, evaluate, write in one transaction.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::state::{State, StateError};
use serde::Serialize;

use crate::evaluate::{Input, evaluate};
use crate::history::{self, Fact};
use crate::incident::Life;
use crate::rule::Rules;
use crate::silence::{self, Quiet};
use crate::store;

/// Facts that are taken in one go.
const BATCH: u32 = 50_000;
/// How far back the first evaluation looks.
const FIRST_LOOK: TimeDelta = TimeDelta::days(1);
/// How often an evaluation begins anew because another process was faster.
const ATTEMPTS: usize = 5;

/// What an evaluation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evaluated {
    /// Facts that were seen.
    pub facts: usize,
    /// Messages that are now owed.
    pub owed: usize,
    /// Incidents that are open.
    pub open: usize,
    /// Incidents that wait to be confirmed.
    pub pending: usize,
}

/// Evaluates the rules up to `now` and stores what follows; `None` if other processes always were faster.
pub fn run(
    state: &State,
    rules: &Rules,
    host: &str,
    now: DateTime<Utc>,
) -> Result<Option<Evaluated>, StateError> {
    for _ in 0..ATTEMPTS {
        if let Some(evaluated) = attempt(state, rules, host, now)? {
            return Ok(Some(evaluated));
        }
    }
    Ok(None)
}

fn attempt(
    state: &State,
    rules: &Rules,
    host: &str,
    now: DateTime<Utc>,
) -> Result<Option<Evaluated>, StateError> {
    let mut loaded = store::load(state, now)?;
    let world = &mut loaded.world;
    if world.memory.evaluated.is_none() && world.memory.fact == 0 {
        world.memory.fact = history::last_before(state, now - FIRST_LOOK)?;
    }
    let since = world.memory.evaluated.unwrap_or(now).min(now) - FIRST_LOOK;
    let silences = silence::since(state, since)?;
    let quiet = Quiet { silences: &silences, windows: &rules.windows };
    let mut seen = 0;
    let owed = loop {
        let facts = history::facts(state, world.memory.fact, BATCH)?;
        let more = facts.len() == BATCH as usize;
        let until = if more { last_of(&facts, now) } else { now };
        let input = Input { rules, facts: &facts, quiet, state, now: until, known: now, more, host };
        seen += facts.len();
        let owed = evaluate(world, &input)?;
        if !more {
            break owed;
        }
    };
    let count = |life| world.incidents.iter().filter(|incident| incident.life == life).count();
    let evaluated =
        Evaluated { facts: seen, owed: owed.len(), open: count(Life::Open), pending: count(Life::Pending) };
    Ok(store::save(state, &loaded, &owed)?.then_some(evaluated))
}

/// The latest time of these facts, none of which is taken to be in the future.
fn last_of(facts: &[Fact], now: DateTime<Utc>) -> DateTime<Utc> {
    facts.iter().map(|fact| fact.at.min(now)).max().unwrap_or(now)
}
