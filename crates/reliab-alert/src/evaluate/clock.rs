//! A clock that goes far back: either it was ahead until then, or it is behind for a while, as after a boot without a
//! battery. What its time would change is kept, and comes back with the clock.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{BACK, World};
use crate::incident::Incident;

/// A clock that goes back further may be behind.
const FAR: TimeDelta = TimeDelta::hours(1);
/// A time that has held for so long is right.
const HELD: TimeDelta = TimeDelta::hours(1);

/// What stood before a clock went far back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The first time after it.
    at: DateTime<Utc>,
    /// The last time before it.
    last: DateTime<Utc>,
    /// The last tick before it.
    tick: Option<DateTime<Utc>>,
    /// Since when each rule was evaluated.
    rules: BTreeMap<String, DateTime<Utc>>,
    /// The number of the first incident that begins after it.
    next: i64,
}

/// Keeps what stood when the clock goes far back, and brings it back where the clock was behind for a while.
pub(super) fn follow(world: &mut World, now: DateTime<Utc>) {
    match &mut world.memory.step {
        Some(step) if now >= step.last - BACK => comes_back(world),
        Some(step) if now < step.at - FAR => step.at = now,
        Some(step) if now - step.at >= HELD => {
            world.memory.step = None;
            world.incidents.iter_mut().for_each(|incident| incident.memory.kept = None);
        }
        Some(_) => {}
        None => goes_back(world, now),
    }
}

fn goes_back(world: &mut World, now: DateTime<Utc>) {
    let memory = &mut world.memory;
    let Some(last) = memory.evaluated.filter(|&last| last - now > FAR) else { return };
    let (tick, rules, next) = (memory.tick, memory.rules.clone(), memory.next);
    memory.step = Some(Step { at: now, last, tick, rules, next });
    world.incidents.iter_mut().for_each(Incident::keep_times);
}

/// The clock was behind: what it dated happened after the last time before that.
fn comes_back(world: &mut World) {
    let Some(step) = world.memory.step.take() else { return };
    world.memory.tick = step.tick;
    for (name, since) in &mut world.memory.rules {
        *since = step.rules.get(name).copied().unwrap_or((*since).max(step.last));
    }
    for incident in &mut world.incidents {
        incident.restore_times(step.at, step.last, incident.id >= step.next);
    }
}
