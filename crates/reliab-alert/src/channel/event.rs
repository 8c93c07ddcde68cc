//! Messages as services of incidents know them: one event an incident, by a key that stays the same over its life.

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;

use super::Outgoing;
use crate::message::{IncidentLine, Kind, Message};

/// What happens to the service's incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is opened, or told again.
    Trigger,
    /// It is over.
    Resolve,
}

/// An event about one incident, or about the outbox itself.
pub(super) struct Event {
    /// The key of the service's incident.
    pub(super) key: String,
    pub(super) action: Action,
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) level: Level,
    pub(super) rule: String,
    pub(super) subject: String,
    pub(super) began: DateTime<Utc>,
    pub(super) closed: Option<DateTime<Utc>>,
}

/// The events of a message, in the order in which they are sent.
///
/// What came and went while nobody could be told is opened and closed again, so that the service shows it. A test is
/// closed at once, so that nothing stays open.
pub(super) fn events(out: &Outgoing<'_>) -> Vec<Event> {
    let message = out.message;
    match message.kind {
        Kind::Opened | Kind::Reminder | Kind::Escalated | Kind::Flapping => {
            message.incidents.iter().map(|one| Event::of(one, out, Action::Trigger)).collect()
        }
        Kind::Closed => message.incidents.iter().map(|one| Event::of(one, out, Action::Resolve)).collect(),
        Kind::Passed => {
            let both = |one| [Action::Trigger, Action::Resolve].map(|action| Event::of(one, out, action));
            message.incidents.iter().flat_map(both).collect()
        }
        Kind::Undeliverable => {
            let whole = |action| Event::whole(out, action, message.level());
            // Nothing else ends it, so only what is open may stay open there, until somebody has seen to it.
            if message.is_over() {
                [Action::Trigger, Action::Resolve].map(whole).into()
            } else {
                vec![whole(Action::Trigger)]
            }
        }
        Kind::Test => {
            [Action::Trigger, Action::Resolve].map(|action| Event::whole(out, action, Level::Ok)).into()
        }
    }
}

impl Event {
    fn of(one: &IncidentLine, out: &Outgoing<'_>, action: Action) -> Self {
        let message = Message { incidents: vec![one.clone()], ..out.message.clone() };
        let single = Outgoing { message: &message, ..*out };
        Self {
            // With the time, as numbers begin anew with a new state file.
            key: format!("reliab-{}-{}-{}", message.host, one.id, one.key_time()),
            action,
            title: message.title(),
            lines: single.lines(),
            level: one.level,
            rule: one.rule.clone(),
            subject: one.subject.clone(),
            began: one.began,
            closed: one.closed,
        }
    }

    /// An event about the message as a whole.
    fn whole(out: &Outgoing<'_>, action: Action, level: Level) -> Self {
        Self {
            key: out.key.to_owned(),
            action,
            title: out.message.title(),
            lines: out.lines(),
            level,
            rule: out.message.kind.name().to_owned(),
            subject: "reliab alert".to_owned(),
            began: out.message.owed,
            closed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(began: &str, first: Option<&str>) -> String {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let one = IncidentLine {
            id: 7,
            rule: "api".into(),
            subject: "probe api".into(),
            level: Level::Critical,
            summary: "no answer".into(),
            began: at(began),
            first: first.map(at),
            opened: None,
            closed: None,
        };
        let (host, owed) = ("web1".to_owned(), at("2026-11-22T13:00:00Z"));
        let message = Message { kind: Kind::Closed, host, incidents: vec![one], owed, note: String::new() };
        let out = Outgoing { message: &message, key: "k", now: owed };
        events(&out)[0].key.clone()
    }

    #[test]
    fn a_key_stays_when_a_wrong_clock_changes_the_beginning() {
        let (noon, before) = ("2026-11-22T12:00:00Z", "2026-11-22T11:00:00Z");
        assert_eq!(key(noon, None), "reliab-web1-7-1795348800");
        assert_eq!(key(before, Some(noon)), key(noon, None));
        assert_ne!(key(before, None), key(noon, None));
    }
}
