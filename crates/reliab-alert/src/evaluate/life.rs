//! The life of an incident: pending, open, closed; and when it comes and goes too often.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;

use super::measure::span;
use super::{FLAP_MEMORY, Finding, STALE, World};
use crate::incident::{Incident, Life};
use crate::message::UNHEARD;
use crate::rule::condition::{Condition, Confirm, JOB, JOBS};
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
        (None, Finding::Nothing | Finding::Good) => {}
        (Some(active), Finding::Nothing) => {
            if fact.is_some() {
                heard(&mut world.incidents[active], world.memory.lived, at);
            }
        }
        (Some(active), Finding::Good) => {
            let incident = &mut world.incidents[active];
            heard(incident, world.memory.lived, at);
            incident.memory.back = None;
            incident.memory.runs = 0;
            goes(incident, at);
            clear(incident, rule, at);
            // It is dropped with all others of the tick.
            if incident.life == Life::Pending {
                incident.note(at, "gone before it was confirmed");
                incident.closed = Some(at);
                incident.life = Life::Closed;
            }
        }
        (active, Finding::Bad(level, summary)) => {
            let active = active.unwrap_or_else(|| begin(world, rule, subject, level, &summary, at));
            let incident = &mut world.incidents[active];
            incident.memory.runs = incident.memory.runs.saturating_add(1);
            heard(incident, world.memory.lived, at);
            fact.into_iter().for_each(|fact| incident.stands_on(fact));
            incident.memory.back.get_or_insert(at);
            comes_back(incident, rule, at);
            if !incident.memory.holds {
                return;
            }
            worsen(incident, rule, (level, summary), at);
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
            comes_back(incident, rule, now);
            clear(incident, rule, now);
        }
    }
    world.drop_unconfirmed();
}

/// Closes what is not heard of any more. Jobs are not expected to be: a weekly one that failed is failed until it runs.
///
/// What counts is the time in which rules were evaluated, so that no jump of the clock closes anything.
pub(super) fn grow_old(world: &mut World, rules: &Rules, now: DateTime<Utc>) {
    let passed = world.memory.evaluated.map_or(TimeDelta::zero(), |last| now - last);
    world.memory.lived += passed.clamp(TimeDelta::zero(), TimeDelta::days(1)).num_seconds();
    let lived = world.memory.lived;
    for incident in world.incidents.iter_mut().filter(|incident| incident.is_active()) {
        let silent = lived - incident.memory.heard > STALE.num_seconds();
        if silent && rules.named(&incident.rule).is_some() && !is_job(&incident.subject) {
            end(incident, now, UNHEARD, &format!("nothing was heard of it for {}", span(STALE)));
        }
    }
    world.drop_unconfirmed();
}

fn is_job(subject: &str) -> bool {
    let source = subject.split(' ').next().unwrap_or_default();
    source == JOB || JOBS.contains(&source)
}

/// It was heard of.
fn heard(incident: &mut Incident, lived: i64, at: DateTime<Utc>) {
    incident.memory.seen = at;
    incident.memory.heard = lived;
}

/// Ends an incident for a reason other than that it got well; `what` is said in place of `resolved`.
pub(super) fn end(incident: &mut Incident, at: DateTime<Utc>, what: &str, why: &str) {
    incident.memory.ended = Some(what.to_owned());
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
    incident.memory.heard = world.memory.lived;
    world.memory.next += 1;
    let before = world.confirmed(&rule.name, subject);
    if let Some(before) =
        before.filter(|before| before.closed.is_some_and(|closed| at - closed < FLAP_MEMORY))
    {
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

/// The condition holds again before the incident was closed, once that is confirmed as at the beginning.
fn comes_back(incident: &mut Incident, rule: &Rule, at: DateTime<Utc>) {
    let Some(back) = incident.memory.back.filter(|_| !incident.memory.holds) else { return };
    let enough = match needed(rule) {
        Confirm::Runs(runs) => incident.memory.runs >= runs,
        Confirm::For(time) => at - back >= time,
    };
    if enough {
        incident.memory.holds = true;
        incident.memory.since = at;
        incident.memory.changes += 1;
        incident.memory.flaps += 1;
        incident.note(at, "the condition holds again");
    }
}

/// Takes in the level that was found. What was less bad for as long as it takes to be over may be told again.
fn worsen(incident: &mut Incident, rule: &Rule, (level, summary): (Level, String), at: DateTime<Utc>) {
    let memory = &mut incident.memory;
    let stayed = memory.lower.is_some_and(|since| at - since >= rule.clear_for);
    if stayed && !memory.flapping {
        memory.told_level = incident.level;
    }
    let lower = level != memory.told_level && memory.told_level.worst(level) == memory.told_level;
    memory.lower = if lower && memory.told.is_some() { memory.lower.or(Some(at)) } else { None };
    incident.level = level;
    incident.memory.worst = incident.memory.worst.worst(level);
    incident.summary = summary;
}

/// What it takes to believe that the condition holds.
fn needed(rule: &Rule) -> Confirm {
    match &rule.when {
        Condition::State { confirm, .. } => *confirm,
        // Time is part of these conditions.
        _ => Confirm::Runs(1),
    }
}

/// Opens a pending incident whose time has come, or whose results in a row are enough.
fn confirm(incident: &mut Incident, rule: &Rule, at: DateTime<Utc>) {
    if incident.life != Life::Pending {
        return;
    }
    let (enough, what) = match needed(rule) {
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
    // A result that waits to be confirmed keeps it open.
    if incident.life != Life::Open || incident.memory.holds || incident.memory.back.is_some() {
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
