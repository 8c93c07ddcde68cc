//! The life of an incident: pending, open, closed; and when it comes and goes too often.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;

use super::measure::span;
use super::{FLAP_MEMORY, Finding, STALE, World};
use crate::incident::{Incident, Life};
use crate::rule::condition::{Condition, Confirm};
use crate::rule::{Rule, Rules};

/// The clear delay from which doubling begins where none was asked for, and the longest one.
const FIRST_DELAY: TimeDelta = TimeDelta::minutes(1);
const LONGEST_DELAY: TimeDelta = TimeDelta::hours(1);

/// Takes in what was found of a subject at `at`, perhaps by a fact.
pub(super) fn observe(
    world: &mut World,
    rules: &Rules,
    rule: &Rule,
    subject: &str,
    at: DateTime<Utc>,
    finding: Finding,
    fact: Option<i64>,
) {
    let active = world.active(&rule.name, subject);
    match (active, finding) {
        (_, Finding::Nothing) | (None, Finding::Good) => {}
        (Some(active), Finding::Good) => {
            let incident = &mut world.incidents[active];
            incident.memory.seen = at;
            goes(incident, at);
            clear(incident, rule, at);
            if incident.life == Life::Pending {
                end(incident, at, "gone before it was confirmed");
                world.drop_unconfirmed();
            }
        }
        (active, Finding::Bad(level, summary)) => {
            let active = active.unwrap_or_else(|| begin(world, rule, subject, level, &summary, at));
            let incident = &mut world.incidents[active];
            incident.memory.runs = incident.memory.runs.saturating_add(1);
            incident.memory.seen = at;
            comes_back(incident, at);
            worsen(incident, level, summary);
            fact.into_iter().for_each(|fact| incident.stands_on(fact));
            confirm(incident, rule, at);
            if incident.memory.flaps >= rules.flap_budget && !incident.memory.flapping {
                incident.memory.flapping = true;
                incident.note(at, "flapping: single changes are no longer told");
            }
        }
    }
}

/// Lets time pass up to `now` for everything that waits for it.
pub(super) fn pass(world: &mut World, rules: &Rules, now: DateTime<Utc>) {
    for incident in world.incidents.iter_mut().filter(|incident| incident.is_active()) {
        let Some(rule) = rules.named(&incident.rule) else { continue };
        if incident.memory.holds {
            confirm(incident, rule, now);
        } else {
            clear(incident, rule, now);
        }
        if incident.is_active() && now - incident.memory.seen > STALE {
            end(incident, now, &format!("nothing was heard of it for {}", span(STALE)));
        }
    }
    world.drop_unconfirmed();
}

/// Ends an incident for a reason other than that it got well.
pub(super) fn end(incident: &mut Incident, at: DateTime<Utc>, why: &str) {
    incident.summary = format!("{} ({why})", incident.summary);
    incident.note(at, format!("closed: {why}"));
    incident.closed = Some(at);
    incident.life = Life::Closed;
}

/// A new incident, which inherits how often the subject flapped if it was open not long ago.
fn begin(
    world: &mut World,
    rule: &Rule,
    subject: &str,
    level: Level,
    summary: &str,
    at: DateTime<Utc>,
) -> usize {
    let mut incident = Incident::new(world.memory.next, &rule.name, subject, level, summary, at);
    world.memory.next += 1;
    let before = world.incidents.iter().rev().find(|before| {
        let recent = before.closed.is_some_and(|closed| at - closed < FLAP_MEMORY);
        recent && before.subject == subject && before.rule == rule.name
    });
    if let Some(before) = before {
        incident.memory.flaps = before.memory.flaps + 1;
        incident.memory.changes = before.memory.changes + 1;
        incident.note(at, format!("incident {} came back", before.id));
    }
    world.push(incident)
}

/// The condition no longer holds.
fn goes(incident: &mut Incident, at: DateTime<Utc>) {
    if incident.memory.holds && incident.life == Life::Open {
        incident.memory.holds = false;
        incident.memory.since = at;
        incident.memory.changes += 1;
        incident.note(at, "the condition no longer holds");
    }
}

/// The condition holds again before the incident was closed.
fn comes_back(incident: &mut Incident, at: DateTime<Utc>) {
    if !incident.memory.holds {
        incident.memory.holds = true;
        incident.memory.since = at;
        incident.memory.changes += 1;
        incident.memory.flaps += 1;
        incident.note(at, "the condition holds again");
    }
}

fn worsen(incident: &mut Incident, level: Level, summary: String) {
    incident.level = level;
    incident.memory.worst = incident.memory.worst.worst(level);
    incident.summary = summary;
}

/// Opens a pending incident whose time has come, or whose results in a row are enough.
fn confirm(incident: &mut Incident, rule: &Rule, at: DateTime<Utc>) {
    if incident.life != Life::Pending {
        return;
    }
    let confirm = match &rule.when {
        Condition::State { confirm, .. } => *confirm,
        // Time is part of these conditions.
        _ => Confirm::Runs(1),
    };
    let (enough, what) = match confirm {
        Confirm::Runs(runs) => {
            (incident.memory.runs >= runs, format!("{} of {runs} runs", incident.memory.runs))
        }
        Confirm::For(time) => (at - incident.began >= time, span(time)),
    };
    if enough {
        incident.note(at, format!("opened after {what}"));
        incident.life = Life::Open;
        incident.opened = Some(at);
    } else {
        incident.note(at, format!("pending: {what}"));
    }
}

/// Closes an incident whose condition has gone for long enough; it was over when the condition went.
fn clear(incident: &mut Incident, rule: &Rule, now: DateTime<Utc>) {
    if incident.life != Life::Open || incident.memory.holds {
        return;
    }
    let gone = now - incident.memory.since;
    if gone >= delay(rule.clear_for, incident.memory.flaps) {
        incident.closed = Some(incident.memory.since);
        incident.life = Life::Closed;
        incident.note(now, format!("closed: gone for {}", span(gone)));
    }
}

/// How long a condition must have gone: each time it came back doubles that.
pub(super) fn delay(usual: TimeDelta, flaps: u32) -> TimeDelta {
    if flaps == 0 {
        return usual;
    }
    let doubled = usual.max(FIRST_DELAY) * (1 << flaps.min(16));
    doubled.min(LONGEST_DELAY.max(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_return_doubles_the_clear_delay_up_to_an_hour() {
        let minutes = |usual, flaps| delay(TimeDelta::minutes(usual), flaps).num_minutes();
        assert_eq!([0, 1, 2, 3, 5, 6, 1000].map(|flaps| minutes(1, flaps)), [1, 2, 4, 8, 32, 60, 60]);
        assert_eq!([0, 1, 2].map(|flaps| minutes(0, flaps)), [0, 2, 4]);
        assert_eq!([0, 1].map(|flaps| minutes(90, flaps)), [90, 90]);
    }
}
