//! Which messages are owed: what opened, is still open or is over, grouped into one message a channel and kind.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;

use super::cause::GRACE;
use super::{Input, Notification, World, sent};
use crate::incident::{Incident, Life};
use crate::message::{Kind, Message};
use crate::rule::Rule;

/// A message about more incidents is cut into several.
const MOST_INCIDENTS: usize = 500;

/// Something that is to be told of an incident.
struct Telling {
    /// Where the incident stands in the world.
    at: usize,
    kind: Kind,
    channels: Vec<String>,
}

/// What is owed at `input.now`; the incidents remember that they were told.
pub(super) fn owed(world: &mut World, input: &Input<'_>, first: bool) -> Vec<Notification> {
    let mut tellings = Vec::new();
    for at in 0..world.incidents.len() {
        let incident = &mut world.incidents[at];
        incident.memory.waits = None;
        let telling = match incident.life {
            Life::Pending => None,
            Life::Open => open(incident, input),
            Life::Closed => closed(incident, input, first),
        };
        tellings.extend(telling.map(|(kind, channels)| Telling { at, kind, channels }));
    }
    tellings.retain(|telling| {
        let until = waits_until(world, input, telling);
        world.incidents[telling.at].memory.waits = until;
        until.is_none()
    });
    for telling in &tellings {
        told(&mut world.incidents[telling.at], telling, input.now);
    }
    messages(world, input, &tellings)
}

/// What is to be told of an open incident, and to whom.
fn open(incident: &mut Incident, input: &Input<'_>) -> Option<(Kind, Vec<String>)> {
    let rule = input.rules.named(&incident.rule)?;
    let kind = open_kind(incident, rule, input.now)?;
    if let Some(why) = held_back(incident, input) {
        incident.note(input.now, format!("not told: {why}"));
        return None;
    }
    let mut channels = match kind {
        Kind::Escalated => rule.escalate_to.clone(),
        _ => rule.channels.clone(),
    };
    if kind != Kind::Escalated {
        let more =
            incident.memory.told_on.iter().filter(|&channel| {
                !rule.channels.contains(channel) && input.rules.channels.contains(channel)
            });
        channels.extend(more.cloned().collect::<Vec<_>>());
    }
    Some((kind, channels))
}

fn open_kind(incident: &Incident, rule: &Rule, now: DateTime<Utc>) -> Option<Kind> {
    let memory = &incident.memory;
    let (Some(told), Some(told_last)) = (memory.told, memory.told_last) else {
        return Some(if memory.flapping { Kind::Flapping } else { Kind::Opened });
    };
    let digest = memory.flapping && !memory.flapping_told;
    let worse =
        incident.level != memory.told_level && incident.level.worst(memory.told_level) == incident.level;
    let acknowledged = incident.acknowledged.is_some();
    let due = |after: Option<chrono::TimeDelta>| after.is_some_and(|after| now - told >= after);
    if digest {
        Some(Kind::Flapping)
    } else if worse && (!memory.flapping || incident.level == Level::Critical) {
        Some(Kind::Opened)
    } else if acknowledged || !memory.holds {
        // Nobody is told that it still is what it is no more.
        None
    } else if !memory.escalated && !rule.escalate_to.is_empty() && due(rule.escalate_after) {
        Some(Kind::Escalated)
    } else if rule.remind > chrono::TimeDelta::zero() && now - told_last >= rule.remind {
        Some(Kind::Reminder)
    } else {
        None
    }
}

/// Why nothing is told of an open incident.
fn held_back(incident: &Incident, input: &Input<'_>) -> Option<String> {
    if let Some(cause) = incident.cause {
        return Some(format!("incident {cause} explains it"));
    }
    let waits = incident.memory.awaits.is_some_and(|since| input.now - since < GRACE);
    if let Some(cause) = incident.memory.awaited.filter(|_| waits) {
        return Some(format!("incident {cause} explains it, if that is confirmed"));
    }
    if incident.memory.freed.is_some_and(|freed| input.now - freed < GRACE) {
        return Some("its cause was over only now".to_owned());
    }
    input.quiet.over(&incident.rule, &incident.subject, input.now)
}

/// What is to be told of a closed incident, once; whoever was told that it opened is told that it is over.
fn closed(incident: &mut Incident, input: &Input<'_>, first: bool) -> Option<(Kind, Vec<String>)> {
    if incident.memory.done {
        return None;
    }
    if incident.memory.told.is_some() {
        return Some((Kind::Closed, incident.memory.told_on.clone()));
    }
    let quiet = |time: Option<DateTime<Utc>>| {
        time.and_then(|time| input.quiet.over(&incident.rule, &incident.subject, time))
    };
    let why = match incident.cause {
        Some(cause) => Some(format!("incident {cause} explained it")),
        None if first => Some("it was over before the first evaluation".to_owned()),
        None if went_with_its_cause(incident) => Some("it went with its cause".to_owned()),
        None => quiet(incident.opened).and(quiet(incident.closed)),
    };
    let channels = input.rules.named(&incident.rule).map(|rule| rule.channels.clone());
    match (why, channels) {
        (None, Some(channels)) => Some((Kind::Passed, channels)),
        (why, _) => {
            let why = why.unwrap_or_else(|| "its rule is gone".to_owned());
            incident.note(input.now, format!("not told: {why}"));
            incident.memory.done = true;
            None
        }
    }
}

/// Whether it was over soon after what had explained it.
fn went_with_its_cause(incident: &Incident) -> bool {
    incident.memory.freed.zip(incident.closed).is_some_and(|(freed, closed)| closed < freed + GRACE)
}

/// Until when it waits for others, where a message of the kind was made on one of the channels only a moment ago.
/// None waits for longer than that, however often others are told.
fn waits_until(world: &mut World, input: &Input<'_>, telling: &Telling) -> Option<DateTime<Utc>> {
    let ready = *world.incidents[telling.at].memory.ready.get_or_insert(input.now);
    if !matches!(telling.kind, Kind::Opened | Kind::Closed | Kind::Passed) {
        return None;
    }
    let made = telling.channels.iter().filter_map(|channel| sent(&world.memory, channel, telling.kind));
    let until = ready.min(made.max()?) + input.rules.group;
    (until > input.now).then_some(until)
}

/// The incident remembers what was told of it.
fn told(incident: &mut Incident, telling: &Telling, now: DateTime<Utc>) {
    let memory = &mut incident.memory;
    memory.done = telling.kind.is_resolved();
    memory.escalated |= telling.kind == Kind::Escalated;
    memory.flapping_told |= telling.kind == Kind::Flapping;
    memory.told.get_or_insert(now);
    memory.told_last = Some(now);
    memory.freed = None;
    memory.ready = None;
    if incident.level != memory.told_level && incident.level.worst(memory.told_level) == incident.level {
        memory.told_level = incident.level;
    }
    let new = telling.channels.iter().filter(|&channel| !memory.told_on.contains(channel));
    let new: Vec<String> = new.cloned().collect();
    memory.told_on.extend(new);
    let on = telling.channels.join(", ");
    let what = match telling.kind {
        Kind::Flapping => "told: flapping".to_owned(),
        Kind::Reminder => format!("reminder {} on {on}", clock_of(now)),
        kind => format!("told: {} on {on}", kind.name()),
    };
    incident.note(now, what);
}

fn clock_of(now: DateTime<Utc>) -> String {
    now.format("%H:%M UTC").to_string()
}

/// What shares a message: the channel, the name of the kind, the incident that stands alone, and why it is over.
type Group = (String, &'static str, Option<i64>, Option<String>);

/// One message a channel and kind, but for each flapping incident its own.
fn messages(world: &mut World, input: &Input<'_>, tellings: &[Telling]) -> Vec<Notification> {
    let mut groups: BTreeMap<Group, (Kind, Vec<usize>)> = BTreeMap::new();
    for telling in tellings {
        let incident = &world.incidents[telling.at];
        let alone = has_note(incident, telling.kind).then_some(incident.id);
        for channel in &telling.channels {
            let key = (channel.clone(), telling.kind.name(), alone, incident.memory.ended.clone());
            groups.entry(key).or_insert((telling.kind, Vec::new())).1.push(telling.at);
        }
    }
    let mut owed = Vec::new();
    for ((channel, ..), (kind, members)) in groups {
        for part in members.chunks(MOST_INCIDENTS) {
            owed.push(message(world, input, &channel, kind, part));
        }
        world.memory.sent.entry(channel).or_default().insert(kind.name().to_owned(), input.now);
    }
    owed
}

/// Whether something is to be said that holds for this incident alone.
fn has_note(incident: &Incident, kind: Kind) -> bool {
    kind == Kind::Flapping || incident.memory.flapping && kind == Kind::Closed
}

fn message(world: &World, input: &Input<'_>, channel: &str, kind: Kind, members: &[usize]) -> Notification {
    let incidents: Vec<&Incident> = members.iter().map(|&at| &world.incidents[at]).collect();
    let first = incidents.first().map_or(0, |incident| incident.id);
    let key = format!(
        "{}/{channel}/{}/{first}/{}-{}",
        input.host,
        kind.name(),
        input.now.timestamp_millis(),
        world.memory.count
    );
    let message = Message {
        kind,
        host: input.host.to_owned(),
        incidents: incidents.iter().map(|incident| incident.line()).collect(),
        owed: input.now,
        note: note(world, kind, &incidents),
    };
    Notification { channel: channel.to_owned(), key, message }
}

/// What is said beside the incidents: that they flap, and what they explain.
fn note(world: &World, kind: Kind, incidents: &[&Incident]) -> String {
    let changes = incidents.first().map_or(0, |incident| incident.memory.changes);
    match kind {
        Kind::Flapping => return format!("flapping, {changes} changes; told again when it is over"),
        Kind::Closed if incidents.iter().any(|incident| incident.memory.ended.is_some()) => {
            return incidents.first().and_then(|incident| incident.memory.ended.clone()).unwrap_or_default();
        }
        Kind::Closed if incidents.iter().any(|incident| incident.memory.flapping) => {
            return format!("flapped, {changes} changes");
        }
        kind if kind.is_resolved() => return String::new(),
        _ => {}
    }
    let explained: Vec<&str> = world
        .incidents
        .iter()
        .filter(|other| other.is_active() && other.opened.is_some())
        .filter(|other| incidents.iter().any(|incident| other.cause == Some(incident.id)))
        .map(|other| other.subject.as_str())
        .collect();
    match explained.len() {
        0 => String::new(),
        more @ 11.. => format!("explains {} and {} more", explained[..10].join(", "), more - 10),
        _ => format!("explains {}", explained.join(", ")),
    }
}
