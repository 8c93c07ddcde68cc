//! What explains what: an incident that another open one explains is attached to it and not told by itself.

use std::collections::BTreeMap;

use super::measure::span;
use super::{Input, World};
use crate::incident::{Incident, Life};
use crate::rule::{Rule, builtin};

/// After its cause is over an incident has this long to go, too, before it is told; and a pending cause has this long to
/// be confirmed.
pub(super) const GRACE: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// Nothing that begins so long after an incident is usually explained by it.
const FRESH: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// Attaches each pending or open incident to the open one that explains it, and frees those whose cause is over. What
/// only a pending one explains waits a while for that, and no longer: that may never be told.
pub(super) fn attach(world: &mut World, input: &Input<'_>) {
    let mut causes: BTreeMap<i64, i64> = BTreeMap::new();
    let mut awaited: BTreeMap<i64, i64> = BTreeMap::new();
    let active: Vec<usize> =
        (0..world.incidents.len()).filter(|&at| world.incidents[at].is_active()).collect();
    // Only what can explain something is compared with everything: one broken switch, thousands of probes.
    let possible: Vec<&Incident> =
        active.iter().map(|&at| &world.incidents[at]).filter(|cause| is_possible(cause, input)).collect();
    for &effect in &active {
        let effect = &world.incidents[effect];
        let Some(rule) = input.rules.named(&effect.rule) else { continue };
        let explains = |cause: &&&Incident| {
            let explained =
                builtin::named(&rule.because, &cause.rule, &cause.subject) || usually(cause, effect);
            explained && cause.subject != effect.subject && !leads_to(&causes, cause.id, effect.id)
        };
        let find =
            |life| possible.iter().filter(|cause| cause.life == life).find(explains).map(|cause| cause.id);
        if let Some(cause) = find(Life::Open) {
            causes.insert(effect.id, cause);
        } else if let Some(cause) = find(Life::Pending) {
            awaited.insert(effect.id, cause);
        }
    }
    for at in active {
        let incident = &mut world.incidents[at];
        let cause = causes.get(&incident.id).copied();
        change(incident, cause, input);
        incident.memory.awaited = awaited.get(&incident.id).copied();
        if incident.life == Life::Open && incident.memory.awaited.is_some() {
            incident.memory.awaits.get_or_insert(input.now);
        }
    }
}

/// Whether it may explain anything. What nobody is reminded of any more does not: a backup that fails must not hide for
/// weeks behind a full disk that somebody acknowledged. Nor does what nobody is told of at all.
fn is_possible(cause: &Incident, input: &Input<'_>) -> bool {
    let named = |rule: &Rule| builtin::named(&rule.because, &cause.rule, &cause.subject);
    (builtin::may_explain(&cause.subject) || input.rules.rules.iter().any(named))
        && cause.acknowledged.is_none()
        && is_told(cause, input)
        && input.quiet.over(&cause.rule, &cause.subject, input.now).is_none()
}

/// Whether it was told, or will be.
fn is_told(cause: &Incident, input: &Input<'_>) -> bool {
    let told = |rule: &Rule| !rule.channels.is_empty();
    !cause.memory.told_on.is_empty() || input.rules.named(&cause.rule).is_some_and(told)
}

/// Whether it usually explains the other.
fn usually(cause: &Incident, effect: &Incident) -> bool {
    builtin::explains(&cause.subject, cause.level, &effect.subject) && effect.began - cause.began < FRESH
}

/// Whether the chain of causes from `from` on meets `to`.
fn leads_to(causes: &BTreeMap<i64, i64>, from: i64, to: i64) -> bool {
    let mut at = from;
    while at != to {
        let Some(&next) = causes.get(&at) else { return false };
        at = next;
    }
    true
}

fn change(incident: &mut Incident, cause: Option<i64>, input: &Input<'_>) {
    if incident.cause == cause {
        return;
    }
    if let Some(cause) = cause {
        incident.note(input.now, format!("explained by incident {cause}"));
    } else {
        incident.note(input.now, format!("its cause is over: told unless it goes within {}", span(GRACE)));
        incident.memory.freed = Some(input.now);
    }
    incident.cause = cause;
}
