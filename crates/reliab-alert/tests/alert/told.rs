//! What is told of an incident: what explains it and what does not, and what is no longer so.

use std::time::Duration;

use crate::history::{History, config, minute, sample, start};
use reliab_alert::message::Kind;
use reliab_alert::rule::Rules;
use reliab_common::config::{Channel, Config, Slo};
use reliab_common::exit::Level;
use reliab_common::fact::Facts;

const OK: Level = Level::Ok;
const CRITICAL: Level = Level::Critical;

fn told(minute: i64, title: &str) -> (i64, String) {
    (minute, format!("[web1] {title}"))
}

/// A gateway that explains what the api does, each with its own condition.
fn behind_gateway(gateway: &str, api: &str) -> History {
    let mut config = config(&[&format!("probe gateway is {gateway}"), &format!("probe api is {api}")]);
    config.rule[1].because = vec!["probe gateway".into()];
    let history = History::new(&config);
    history.evaluate(start());
    history
}

/// Each minute up to `last` both are probed and evaluated: critical up to a minute of their own, then OK.
fn probed(history: &History, last: i64, gateway: i64, api: i64) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for at in 1..=last {
        for (target, until) in [("gateway", gateway), ("api", api)] {
            history.check(minute(at), "probe", target, if at <= until { CRITICAL } else { OK });
        }
        all.extend(history.evaluate_minutes(at, at));
    }
    all
}

#[test]
fn what_is_never_confirmed_explains_nothing_for_long() {
    let history = behind_gateway("critical for 30m", "critical for 2 runs");
    let expected =
        [told(7, "CRITICAL probe api: api is critical"), told(27, "resolved: probe api after 25 min 00 s")];
    assert_eq!(probed(&history, 60, 25, 25), expected);
}

#[test]
fn what_is_over_before_its_cause_was_confirmed_is_told() {
    let history = behind_gateway("critical for 30m", "critical for 2 runs");
    let expected = [told(5, "passed: probe api was CRITICAL for 3 min 00 s")];
    assert_eq!(probed(&history, 20, 15, 3), expected);
}

#[test]
fn what_waits_for_its_cause_to_be_confirmed_is_explained_by_it() {
    let history = behind_gateway("critical for 3 runs", "critical");
    assert_eq!(probed(&history, 12, 12, 12), [told(3, "CRITICAL probe gateway: gateway is critical")]);
    assert_eq!(history.messages()[0].1.note, "explains probe api");
}

#[test]
fn what_nobody_is_told_of_explains_nothing() {
    let mut config = config(&["disk * is warning", "job * is failed"]);
    config.rule[0].channels = Some(vec![]);
    let history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "disk", "/media", CRITICAL);
    assert_eq!(history.evaluate(minute(1)), [""; 0]);
    history.run(minute(2), "backup", 1, "failed: wrong password", CRITICAL);
    assert_eq!(history.evaluate(minute(2)), ["[web1] CRITICAL backup data: failed: wrong password"]);
}

/// Requests and errors of the service `checkout`, one scrape a minute.
fn scraped(history: &History, minutes: std::ops::Range<i64>, requests: f64, errors: f64) {
    let figures = [("requests", requests), ("errors", errors)];
    let samples = minutes.flat_map(|at| {
        figures.map(|(figure, value)| sample(minute(at), "service", "checkout", figure, value))
    });
    history.record(&Facts { checks: Vec::new(), samples: samples.collect() });
}

fn kinds(history: &History) -> Vec<Kind> {
    history.messages().into_iter().map(|(_, message)| message.kind).collect()
}

#[test]
fn a_budget_is_not_well_because_the_metrics_stopped() {
    let slo = Slo { name: "checkout".into(), service: None, objective: 99.9, window: None };
    let history = History::new(&Config { slo: vec![slo], ..config(&["burn(checkout)"]) });
    scraped(&history, -3 * 24 * 60..0, 100.0, 0.0);
    scraped(&history, 0..60, 100.0, 2.0);
    history.evaluate_minutes(50, 180);
    assert_eq!(kinds(&history), [Kind::Opened]);
    scraped(&history, 180..200, 100.0, 0.0);
    history.evaluate_minutes(181, 200);
    assert_eq!(kinds(&history), [Kind::Opened, Kind::Closed]);
}

#[test]
fn that_it_flaps_is_told_once_however_much_was_noted_since() {
    let mut config = config(&["probe * is critical"]);
    config.alert.clear_for = Some(Duration::from_secs(600));
    let history = History::new(&config);
    history.evaluate(start());
    for change in 0..150 {
        let level = if change % 2 == 0 { CRITICAL } else { OK };
        let at = minute(1 + change * 5);
        history.check(at, "probe", "a", level);
        history.evaluate(at);
    }
    assert_eq!(kinds(&history).iter().filter(|&&kind| kind == Kind::Flapping).count(), 1);
}

#[test]
fn a_channel_that_was_removed_hears_of_the_end_and_of_nothing_else() {
    let mut config = config(&["probe * is critical"]);
    let console: Channel = serde_json::from_value(serde_json::json!({"type": "console"})).unwrap();
    config.channel = ["ops", "old"].map(|name| (name.to_owned(), console.clone())).into_iter().collect();
    config.alert.remind = Some(Duration::from_secs(3600));
    let mut history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    history.evaluate(minute(1));
    config.channel.remove("old");
    history.rules = Rules::read(&config);
    history.evaluate(minute(70));
    history.check(minute(71), "probe", "a", OK);
    history.evaluate_minutes(71, 75);
    let messages: Vec<_> =
        history.messages().into_iter().map(|(channel, message)| (channel, message.kind)).collect();
    let expected = [
        ("old", Kind::Opened),
        ("ops", Kind::Opened),
        ("ops", Kind::Reminder),
        ("old", Kind::Closed),
        ("ops", Kind::Closed),
    ];
    assert_eq!(messages, expected.map(|(channel, kind)| (channel.to_owned(), kind)));
}

#[test]
fn nobody_is_reminded_of_what_does_not_hold_any_more() {
    let mut config = config(&["probe * is critical"]);
    config.alert.clear_for = Some(Duration::from_secs(3600));
    config.alert.remind = Some(Duration::from_secs(1200));
    config.alert.escalate_after = Some(Duration::from_secs(1200));
    config.alert.escalate_to = vec!["console".into()];
    let history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    history.evaluate(minute(1));
    history.check(minute(2), "probe", "a", OK);
    assert_eq!(history.evaluate_minutes(2, 70), [told(62, "resolved: probe a after 1 min 00 s")]);
}
