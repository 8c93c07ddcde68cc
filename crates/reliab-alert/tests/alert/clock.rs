//! Clocks that were wrong for a while.

use std::time::Duration;

use crate::history::{History, config, minute, start};
use chrono::TimeDelta;
use reliab_alert::message::Message;
use reliab_alert::simulate::simulate;
use reliab_alert::store;
use reliab_common::config::Channel;
use reliab_common::exit::Level;

const OK: Level = Level::Ok;
const CRITICAL: Level = Level::Critical;

#[test]
fn an_incident_keeps_the_time_by_which_others_know_it() {
    let history = History::of(&["probe * is critical"]);
    history.evaluate(start());
    history.check(minute(30), "probe", "a", CRITICAL);
    history.evaluate(minute(30));
    // The clock was ahead, and is set right.
    history.check(minute(10), "probe", "a", CRITICAL);
    history.evaluate(minute(10));
    history.check(minute(11), "probe", "a", OK);
    history.evaluate_minutes(11, 14);
    let lines: Vec<_> =
        history.messages().into_iter().map(|(_, message)| message.incidents[0].clone()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].began, lines[1].began), (minute(30), minute(10)));
    assert_eq!(lines[0].key_time(), lines[1].key_time());
}

/// A probe that failed an hour after the beginning, with a second channel an hour later.
fn failed_probe() -> History {
    let mut config =
        config(&["probe * is critical", "heartbeat weekly missing 26h", "backup older than 26h"]);
    let console: Channel = serde_json::from_value(serde_json::json!({"type": "console"})).unwrap();
    config.channel = ["ops", "boss"].map(|name| (name.to_owned(), console.clone())).into_iter().collect();
    config.alert.channels = Some(vec!["ops".into()]);
    config.alert.group = Some(Duration::ZERO);
    config.alert.escalate_after = Some(Duration::from_secs(3600));
    config.alert.escalate_to = vec!["boss".into()];
    let history = History::new(&config);
    history.evaluate(start());
    history.run(minute(0), "backup", 0, "done", OK);
    history.evaluate(minute(1));
    history.check(minute(60), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate(minute(60)), ["[web1] CRITICAL probe a: a is critical"]);
    history
}

#[test]
fn a_clock_that_was_behind_for_one_evaluation_changes_nothing() {
    let history = failed_probe();
    // A boot without a battery, until the time is known.
    assert_eq!(history.evaluate(start() - TimeDelta::days(730)), [""; 0]);
    assert_eq!(history.evaluate_minutes(63, 119), []);
    let escalated = "[web1] escalated: CRITICAL probe a: a is critical (for 1 h 00 min)".to_owned();
    assert_eq!(history.evaluate_minutes(120, 125), [(120, escalated)]);
}

#[test]
fn what_began_by_a_clock_that_was_behind_counts_from_when_it_was_right_last() {
    let history = failed_probe();
    let behind = start() - TimeDelta::days(730);
    history.check(behind, "probe", "b", CRITICAL);
    assert_eq!(history.evaluate(behind), ["[web1] CRITICAL probe b: b is critical"]);
    assert_eq!(history.evaluate_minutes(63, 119), []);
    let incident = store::one(&history.state, 2).unwrap().unwrap();
    assert_eq!((incident.began, incident.opened, incident.memory.told), {
        let last = minute(60);
        (last, Some(last), Some(last))
    });
}

#[test]
fn a_time_that_has_held_for_an_hour_is_right() {
    let history = failed_probe();
    let (back, hour) = (start() - TimeDelta::days(1), TimeDelta::hours(1));
    let kept = || {
        let incident = store::one(&history.state, 1).unwrap().unwrap();
        (store::memory(&history.state).unwrap().step.is_some(), incident.memory.kept.is_some())
    };
    history.evaluate(back);
    history.evaluate(back + hour - TimeDelta::minutes(1));
    assert_eq!(kept(), (true, true));
    history.evaluate(back + hour);
    assert_eq!(kept(), (false, false));
    let incident = store::one(&history.state, 1).unwrap().unwrap();
    assert_eq!(incident.began, back);
}

/// What a simulation up to minute 30 tells, and what live evaluation told.
fn both(history: &History) -> [Vec<(String, Message)>; 2] {
    let simulated = simulate(&history.state, &history.rules, "web1", start(), minute(30)).unwrap();
    let simulated = simulated.messages.into_iter().map(|told| (told.channel, told.message)).collect();
    [simulated, history.messages()]
}

#[test]
fn a_result_of_a_clock_that_was_ahead_hides_no_other_from_a_simulation() {
    let history = History::of(&["probe * is critical"]);
    history.evaluate(start());
    history.check(minute(0) + TimeDelta::days(365), "probe", "b", OK);
    for at in 1..5 {
        history.check(minute(at), "probe", "a", CRITICAL);
        history.evaluate(minute(at));
    }
    let [simulated, live] = both(&history);
    assert_eq!(live.len(), 1);
    assert_eq!(simulated, live);
}

#[test]
fn a_result_of_a_clock_that_was_behind_hides_no_other_from_a_simulation() {
    let history = History::of(&["probe * is critical"]);
    history.check(minute(-24 * 60 * 2), "probe", "a", OK);
    history.evaluate(start());
    for at in 1..9 {
        history.check(minute(at), "probe", "a", if at < 5 { CRITICAL } else { OK });
        history.evaluate(minute(at));
    }
    history.check(minute(0) - TimeDelta::days(700), "probe", "a", OK);
    history.evaluate_minutes(9, 30);
    let [simulated, live] = both(&history);
    assert_eq!(live.len(), 2);
    assert_eq!(simulated, live);
}
