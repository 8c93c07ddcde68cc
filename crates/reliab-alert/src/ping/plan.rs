//! Whether somebody elsewhere is told that this machine still watches: a decision as a value.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::config;
use reliab_common::units;

use crate::outbox::Waiting;

/// Runs that follow each other closer than this send one ping: services that count them take a few a minute only.
const CLOSE: TimeDelta = TimeDelta::seconds(30);

/// What is known at the end of a run.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub now: DateTime<Utc>,
    /// Why the run itself did not do all of its work.
    pub trouble: Option<String>,
    /// When any check last found something out.
    pub checked: Option<DateTime<Utc>>,
    /// What each channel is owed first.
    pub waiting: Vec<Waiting>,
    /// Whether there is a channel for people that takes what it is sent, as far as is known.
    pub reachable: bool,
    /// The room that is left beside the state, or why that is not known.
    pub room: Result<Room, String>,
    /// When the last ping was sent, if the last run that tried sent one.
    pub sent: Option<DateTime<Utc>>,
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// In bytes, for users without privileges.
    pub free: u64,
    /// Whether one more file can be made.
    pub files: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// All is well.
    Send,
    /// All is well, and was told a moment ago.
    Recent,
    /// It is not, for these reasons.
    Withhold(String),
}

/// Decides by the limits of the configuration.
pub(super) fn decide(limits: &config::Ping, seen: &Seen) -> Plan {
    let reasons = [seen.trouble.clone(), unchecked(limits, seen), stuck(limits, seen), full(limits, seen)];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if !reasons.is_empty() {
        return Plan::Withhold(reasons.join("; "));
    }
    let recent = |sent: DateTime<Utc>| (TimeDelta::zero()..CLOSE).contains(&(seen.now - sent));
    if seen.sent.is_some_and(recent) { Plan::Recent } else { Plan::Send }
}

fn unchecked(limits: &config::Ping, seen: &Seen) -> Option<String> {
    let Some(checked) = seen.checked else { return Some("no check ever found anything out".to_owned()) };
    let age = age(seen.now, checked);
    let limit = limits.checks_within;
    (age > limit).then(|| {
        let (age, limit) = (units::rough(age), units::rough(limit));
        format!("no check found anything out for {age} (limit {limit})")
    })
}

/// A message that waits for its next attempt holds nothing up while another channel can tell of it.
fn stuck(limits: &config::Ping, seen: &Seen) -> Option<String> {
    let late = |waiting: &&Waiting| age(seen.now, waiting.since) > limits.owed_within;
    let stuck =
        seen.waiting.iter().filter(late).find(|first| !first.is_tried(seen.now) || !seen.reachable)?;
    let (age, limit) = (units::rough(age(seen.now, stuck.since)), units::rough(limits.owed_within));
    let why = if stuck.is_tried(seen.now) { "no channel takes anything" } else { "it is not being tried" };
    Some(format!("a message to channel {} waits for {age} (limit {limit}), and {why}", stuck.channel))
}

fn full(limits: &config::Ping, seen: &Seen) -> Option<String> {
    let room = match &seen.room {
        Ok(room) => room,
        Err(error) => return Some(format!("the room that is left for the state is not known: {error}")),
    };
    if room.free < limits.min_free {
        let (free, limit) = (units::bytes(room.free), units::bytes(limits.min_free));
        return Some(format!("the disk of the state has {free} left (limit {limit})"));
    }
    (!room.files).then(|| "the disk of the state has no inode left".to_owned())
}

/// None for what a clock that was ahead dated into the future.
fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> Duration {
    (now - then).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::secret::SecretSource;

    fn limits() -> config::Ping {
        config::Ping {
            url: SecretSource::Env("PING".into()),
            ca: None,
            fail: false,
            checks_within: Duration::from_secs(3600),
            owed_within: Duration::from_secs(900),
            min_free: 16 << 20,
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn before(minutes: i64) -> DateTime<Utc> {
        now() - TimeDelta::minutes(minutes)
    }

    fn well() -> Seen {
        let room = Ok(Room { free: 1 << 30, files: true });
        let (now, checked) = (now(), Some(before(1)));
        Seen { now, trouble: None, checked, waiting: Vec::new(), reachable: true, room, sent: None }
    }

    fn waiting(minutes: i64, due: i64, failed: bool) -> Vec<Waiting> {
        let due = now() + TimeDelta::minutes(due);
        vec![Waiting { channel: "ops".into(), since: before(minutes), due, failed }]
    }

    fn withheld(seen: &Seen) -> String {
        match decide(&limits(), seen) {
            Plan::Withhold(why) => why,
            plan => panic!("{plan:?}"),
        }
    }

    #[test]
    fn it_is_sent_where_all_is_well_and_once_where_runs_are_close() {
        let sent = |seconds| Seen { sent: Some(now() - TimeDelta::seconds(seconds)), ..well() };
        assert_eq!(decide(&limits(), &well()), Plan::Send);
        assert_eq!(decide(&limits(), &sent(29)), Plan::Recent);
        assert_eq!(decide(&limits(), &sent(30)), Plan::Send);
        // A clock that was ahead.
        assert_eq!(decide(&limits(), &sent(-3600)), Plan::Send);
        let broken = Seen { trouble: Some("broken".into()), ..sent(5) };
        assert_eq!(withheld(&broken), "broken");
    }

    #[test]
    fn it_is_not_sent_where_no_check_ran_lately() {
        let checked = |checked| Seen { checked, ..well() };
        assert_eq!(decide(&limits(), &checked(Some(before(60)))), Plan::Send);
        assert_eq!(
            withheld(&checked(Some(before(180)))),
            "no check found anything out for 3 h (limit 60 min)"
        );
        assert_eq!(withheld(&checked(None)), "no check ever found anything out");
    }

    #[test]
    fn it_is_not_sent_where_the_outbox_stands_still() {
        let seen = |waiting, reachable| Seen { waiting, reachable, ..well() };
        let is_sent = |seen: &Seen| assert_eq!(decide(&limits(), seen), Plan::Send, "{seen:?}");
        is_sent(&seen(waiting(15, -15, false), true));
        // Tried, and waiting for its next attempt.
        is_sent(&seen(waiting(300, 40, true), true));
        is_sent(&seen(waiting(10, 5, true), false));
        assert_eq!(
            withheld(&seen(waiting(300, 40, true), false)),
            "a message to channel ops waits for 5 h (limit 15 min), and no channel takes anything"
        );
        let stands = "a message to channel ops waits for 16 min (limit 15 min), and it is not being tried";
        for (due, failed) in [(-16, false), (-1, true), (5, false), (600, true)] {
            assert_eq!(withheld(&seen(waiting(16, due, failed), true)), stands, "{due} {failed}");
        }
    }

    #[test]
    fn it_is_not_sent_where_the_disk_is_full() {
        let seen = |room| Seen { room, ..well() };
        let room = |free, files| seen(Ok(Room { free, files }));
        assert_eq!(decide(&limits(), &room(16 << 20, true)), Plan::Send);
        assert_eq!(withheld(&room(1 << 20, true)), "the disk of the state has 1.0 MiB left (limit 16.0 MiB)");
        assert_eq!(withheld(&room(1 << 30, false)), "the disk of the state has no inode left");
        let unknown = withheld(&seen(Err("no such folder".into())));
        assert_eq!(unknown, "the room that is left for the state is not known: no such folder");
    }

    #[test]
    fn all_reasons_are_told() {
        let seen = Seen { trouble: Some("broken".into()), checked: None, ..well() };
        assert_eq!(withheld(&seen), "broken; no check ever found anything out");
    }
}
