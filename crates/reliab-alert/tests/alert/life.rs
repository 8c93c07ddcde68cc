//! The life of incidents: what is told, when, and what is not.

use std::time::Duration;

use crate::history::{History, config, minute, rule, sample, start};
use chrono::TimeDelta;
use reliab_alert::message::{Kind, Message};
use reliab_alert::silence::{self, Silence};
use reliab_alert::simulate::simulate;
use reliab_alert::store;
use reliab_common::config::{Alert, Channel, Config, Maintenance, Slo};
use reliab_common::exit::Level;
use reliab_common::fact::{self, Facts};
use reliab_common::state::nanos;

const OK: Level = Level::Ok;
const WARNING: Level = Level::Warning;
const CRITICAL: Level = Level::Critical;
const UNKNOWN: Level = Level::Unknown;

/// Results of the probe `api`, one a minute from minute 1 on.
fn probed(history: &History, levels: &[Level]) {
    for (at, &level) in (1..).zip(levels) {
        history.check(minute(at), "probe", "api", level);
    }
}

fn told(at: i64, title: &str) -> (i64, String) {
    (at, format!("[web1] {title}"))
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Evaluates each minute with results that come in minute by minute.
fn live(history: &History, source: &str, target: &str, levels: &[Level]) -> Vec<(i64, String)> {
    let mut all = history.evaluate_minutes(0, 0);
    for (at, &level) in (1..).zip(levels) {
        history.check(minute(at), source, target, level);
        all.extend(history.evaluate_minutes(at, at));
    }
    all
}

#[test]
fn an_incident_opens_when_it_is_confirmed_and_closes_when_it_stays_well() {
    let history = History::of(&["probe api is critical for 2 runs"]);
    let found = live(&history, "probe", "api", &[OK, CRITICAL, OK, CRITICAL, CRITICAL, CRITICAL, OK, OK, OK]);
    let expected =
        [told(5, "CRITICAL probe api: api is critical"), told(8, "resolved: probe api after 3 min 00 s")];
    assert_eq!(found, expected);
    assert_eq!(history.incidents(), [(2, "closed".to_owned(), "probe api".to_owned())]);
}

#[test]
fn what_began_and_ended_between_two_evaluations_is_told_as_passed() {
    let history = History::of(&["probe api is critical for 2 runs"]);
    history.evaluate(start());
    probed(&history, &[OK, CRITICAL, CRITICAL, CRITICAL, OK, OK, OK]);
    assert_eq!(history.evaluate(minute(30)), ["[web1] passed: probe api was CRITICAL for 3 min 00 s"]);
    assert_eq!(history.evaluate(minute(31)), [""; 0]);
}

#[test]
fn what_lies_before_the_first_evaluation_is_told_only_if_it_lasts() {
    let history = History::of(&["probe * is critical"]);
    probed(&history, &[CRITICAL, OK, OK, OK]);
    history.check(minute(1), "probe", "web", CRITICAL);
    assert_eq!(history.evaluate(minute(30)), ["[web1] CRITICAL probe web: web is critical"]);
}

#[test]
fn what_must_hold_for_a_time_opens_then_and_not_before() {
    let history = History::of(&["probe api is critical for 5m"]);
    let found = live(&history, "probe", "api", &[CRITICAL, CRITICAL, CRITICAL, OK, CRITICAL, CRITICAL]);
    assert_eq!(found, []);
    assert_eq!(history.evaluate_minutes(7, 12), [told(10, "CRITICAL probe api: api is critical")]);
}

#[test]
fn a_worse_level_is_told_again_and_a_better_one_is_not() {
    let history = History::of(&["disk / is warning"]);
    let found = live(&history, "disk", "/", &[WARNING, CRITICAL, WARNING, WARNING, OK, OK, OK]);
    let expected = [
        told(1, "WARNING disk /: / is warning"),
        told(2, "CRITICAL disk /: / is critical"),
        told(6, "resolved: disk / after 4 min 00 s"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_was_less_bad_for_a_while_and_gets_worse_again_is_told_again() {
    let history = History::of(&["disk / is warning"]);
    let found = live(&history, "disk", "/", &[WARNING, CRITICAL, WARNING, WARNING, CRITICAL]);
    let expected = [
        told(1, "WARNING disk /: / is warning"),
        told(2, "CRITICAL disk /: / is critical"),
        told(5, "CRITICAL disk /: / is critical"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_flapping_warning_that_becomes_critical_is_told() {
    let mut config = config(&["disk / is warning"]);
    config.alert.flap_budget = Some(1);
    config.alert.clear_for = Some(minutes(5));
    let history = History::new(&config);
    let found =
        live(&history, "disk", "/", &[WARNING, OK, WARNING, OK, WARNING, CRITICAL, WARNING, CRITICAL]);
    let expected = [
        told(1, "WARNING disk /: / is warning"),
        told(3, "disk /: flapping, 3 changes; told again when it is over"),
        told(6, "CRITICAL disk /: / is critical"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_result_that_is_unknown_is_neither_good_nor_bad() {
    let history = History::of(&["probe api is critical for 2 runs"]);
    let levels = [CRITICAL, UNKNOWN, CRITICAL, UNKNOWN, UNKNOWN, UNKNOWN, OK, OK];
    let expected =
        [told(3, "CRITICAL probe api: api is critical"), told(8, "resolved: probe api after 6 min 00 s")];
    assert_eq!(live(&history, "probe", "api", &levels), expected);
    let unknown = History::of(&["probe api is unknown"]);
    let found = live(&unknown, "probe", "api", &[CRITICAL, UNKNOWN, CRITICAL, OK]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn what_comes_back_is_confirmed_as_at_the_beginning() {
    let mut config = config(&["probe api is critical for 2 runs"]);
    config.alert.clear_for = Some(minutes(3));
    let history = History::new(&config);
    let levels = [CRITICAL, CRITICAL, OK, CRITICAL, OK, OK, OK];
    let expected =
        [told(2, "CRITICAL probe api: api is critical"), told(6, "resolved: probe api after 2 min 00 s")];
    assert_eq!(live(&history, "probe", "api", &levels), expected);
    let (history, levels) = (History::new(&config), [CRITICAL, CRITICAL, OK]);
    live(&history, "probe", "api", &levels);
    for at in [4, 5] {
        history.check(minute(at), "probe", "api", CRITICAL);
    }
    assert_eq!(history.evaluate_minutes(4, 20), []);
    assert_eq!(history.incidents().len(), 1);
}

#[test]
fn what_opens_together_or_soon_after_shares_a_message() {
    let mut config = config(&["probe * is critical"]);
    config.alert.group = Some(minutes(5));
    let history = History::new(&config);
    history.evaluate(start());
    for target in ["a", "b", "c"] {
        history.check(minute(1), "probe", target, CRITICAL);
    }
    assert_eq!(
        history.evaluate(minute(1)),
        ["[web1] CRITICAL 3 incidents opened: probe a, probe b, probe c"]
    );
    history.check(minute(2), "probe", "d", CRITICAL);
    assert_eq!(history.evaluate(minute(2)), [""; 0]);
    history.check(minute(3), "probe", "e", CRITICAL);
    let expected = [told(6, "CRITICAL 2 incidents opened: probe d, probe e")];
    assert_eq!(history.evaluate_minutes(3, 8), expected);
}

#[test]
fn reminders_come_until_somebody_acknowledges() {
    let mut config = config(&["disk / is warning"]);
    config.alert.remind = Some(minutes(10));
    let history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "disk", "/", WARNING);
    let found = history.evaluate_minutes(1, 25);
    let expected = [
        told(1, "WARNING disk /: / is warning"),
        told(11, "still WARNING disk /: / is warning (for 10 min 00 s)"),
        told(21, "still WARNING disk /: / is warning (for 20 min 00 s)"),
    ];
    assert_eq!(found, expected);
    assert!(store::acknowledge(&history.state, 1, "anna").unwrap());
    assert_eq!(history.evaluate_minutes(26, 60), []);
    history.check(minute(61), "disk", "/", OK);
    assert_eq!(history.evaluate_minutes(61, 63), [told(62, "resolved: disk / after 1 h 00 min")]);
    assert!(!store::acknowledge(&history.state, 1, "anna").unwrap());
}

/// A configuration with the console under further names.
fn channels(rules: &[&str], names: &[&str]) -> Config {
    let console: Channel = serde_json::from_value(serde_json::json!({"type": "console"})).unwrap();
    let channel = names.iter().map(|&name| (name.to_owned(), console.clone())).collect();
    Config { channel, ..config(rules) }
}

#[test]
fn what_nobody_acknowledges_goes_to_further_channels_which_also_hear_of_its_end() {
    let mut config = channels(&["disk / is warning"], &["mail", "pager"]);
    config.alert = Alert {
        channels: Some(vec!["mail".into()]),
        escalate_after: Some(minutes(30)),
        escalate_to: vec!["pager".into()],
        remind: Some(minutes(0)),
        builtin: Some(false),
        ..Alert::default()
    };
    let history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "disk", "/", WARNING);
    history.evaluate_minutes(1, 40);
    history.check(minute(41), "disk", "/", OK);
    history.evaluate_minutes(41, 43);
    let messages: Vec<_> =
        history.messages().into_iter().map(|(channel, message)| (channel, message.kind)).collect();
    let expected =
        [("mail", Kind::Opened), ("pager", Kind::Escalated), ("mail", Kind::Closed), ("pager", Kind::Closed)];
    assert_eq!(messages, expected.map(|(channel, kind)| (channel.to_owned(), kind)));
}

#[test]
fn what_comes_and_goes_is_told_once_as_flapping_and_once_as_over() {
    let mut config = config(&["probe api is critical"]);
    config.alert.flap_budget = Some(3);
    config.alert.remind = Some(minutes(0));
    let history = History::new(&config);
    let mut levels = vec![];
    for _ in 0..30 {
        levels.extend([CRITICAL, OK, OK]);
    }
    let found = live(&history, "probe", "api", &levels);
    let expected = [
        told(1, "CRITICAL probe api: api is critical"),
        told(3, "resolved: probe api after 1 min 00 s"),
        told(4, "CRITICAL probe api: api is critical"),
        told(7, "resolved: probe api after 1 min 00 s"),
        told(7, "CRITICAL probe api: api is critical"),
        told(10, "probe api: flapping, 7 changes; told again when it is over"),
    ];
    assert_eq!(found, expected);
    for at in 91..=160 {
        history.check(minute(at), "probe", "api", OK);
    }
    let over = history.evaluate_minutes(91, 160);
    assert_eq!(over, [told(149, "resolved: probe api after 1 h 22 min")]);
    let note = history.messages().pop().unwrap().1.note;
    assert_eq!(note, "flapped, 60 changes");
}

#[test]
fn what_another_incident_explains_is_not_told_by_itself() {
    let mut config = config(&["probe * is critical", "disk * is warning", "job * is failed"]);
    config.rule[0].because = vec!["probe gateway".into()];
    let history = History::new(&config);
    history.evaluate(start());
    for target in ["a", "b", "gateway"] {
        history.check(minute(1), "probe", target, CRITICAL);
    }
    history.check(minute(1), "disk", "/", CRITICAL);
    history.run(minute(1), "backup", 1, "failed: no space", CRITICAL);
    assert_eq!(history.evaluate(minute(1)), ["[web1] CRITICAL 2 incidents opened: probe gateway, disk /"]);
    let note = history.messages().pop().unwrap().1.note;
    assert_eq!(note, "explains probe a, probe b, backup data");
    for target in ["a", "gateway"] {
        history.check(minute(2), "probe", target, OK);
    }
    let found = history.evaluate_minutes(2, 20);
    let expected =
        [told(3, "resolved: probe gateway after 1 min 00 s"), told(8, "CRITICAL probe b: b is critical")];
    assert_eq!(found, expected);
}

#[test]
fn a_full_disk_that_is_acknowledged_silenced_or_old_hides_no_failed_backup() {
    let check = |quiet: &dyn Fn(&History), at: i64, expected: usize| {
        let mut config = config(&["disk * is warning", "job * is failed"]);
        config.alert.remind = Some(Duration::ZERO);
        let history = History::new(&config);
        history.evaluate(start());
        history.check(minute(1), "disk", "/", CRITICAL);
        assert_eq!(history.evaluate(minute(1)).len(), 1);
        quiet(&history);
        history.check(minute(at), "disk", "/", CRITICAL);
        history.run(minute(at), "backup", 1, "failed: no space", CRITICAL);
        assert_eq!(history.evaluate(minute(at)).len(), expected);
    };
    check(&|_| {}, 10, 0);
    check(&|_| {}, 24 * 60 + 1, 1);
    check(&|history| assert!(store::acknowledge(&history.state, 1, "anna").unwrap()), 10, 1);
    check(&|history| assert_eq!(silence::add(&history.state, &silence("disk *", 0, 60)).unwrap(), 1), 10, 1);
}

fn silence(matching: &str, from: i64, until: i64) -> Silence {
    let (since, until) = (minute(from), minute(until));
    let (reason, by) = ("moving".to_owned(), "anna".to_owned());
    Silence { id: 0, matching: matching.to_owned(), since, until, reason, by }
}

#[test]
fn a_silence_holds_back_what_opens_and_tells_what_is_left_at_its_end() {
    let history = History::of(&["probe * is critical"]);
    history.evaluate(start());
    silence::add(&history.state, &silence("probe *", 0, 10)).unwrap();
    history.check(minute(1), "probe", "a", CRITICAL);
    history.check(minute(1), "probe", "b", CRITICAL);
    history.check(minute(3), "probe", "b", OK);
    assert_eq!(history.evaluate_minutes(1, 15), [told(10, "CRITICAL probe a: a is critical")]);
    let incident = store::one(&history.state, 1).unwrap().unwrap();
    let log: Vec<_> = incident.memory.log.iter().map(|note| note.what.as_str()).collect();
    let held = "not told: silence 1 by anna: moving";
    assert_eq!(log, ["opened after 1 of 1 runs", held, "told: opened on console"]);
}

#[test]
fn a_silence_that_was_ended_holds_nothing_back() {
    let history = History::of(&["probe * is critical"]);
    history.evaluate(start());
    let id = silence::add(&history.state, &silence("*", 0, 100)).unwrap();
    history.check(minute(1), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate_minutes(1, 5), []);
    assert!(silence::end(&history.state, id, minute(5)).unwrap());
    assert!(!silence::end(&history.state, id, minute(5)).unwrap());
    assert_eq!(history.evaluate_minutes(6, 6), [told(6, "CRITICAL probe a: a is critical")]);
}

#[test]
fn maintenance_holds_back_what_lay_within_it_also_when_that_is_seen_late() {
    let maintenance = Maintenance {
        zone: Some("UTC".into()),
        start: Some("12:00".into()),
        end: Some("13:00".into()),
        ..Maintenance::default()
    };
    let history =
        History::new(&Config { maintenance: vec![maintenance], ..config(&["probe * is critical"]) });
    history.evaluate(start());
    probed(&history, &[CRITICAL, CRITICAL, OK, OK, OK]);
    history.check(minute(70), "probe", "b", CRITICAL);
    history.check(minute(75), "probe", "b", OK);
    assert_eq!(history.evaluate(minute(80)), ["[web1] passed: probe b was CRITICAL for 5 min 00 s"]);
}

#[test]
fn jobs_that_failed_are_told_and_checks_only_by_what_they_found() {
    let history = History::of(&["job * is failed", "backup older than 26h"]);
    history.evaluate(start());
    history.run(minute(1), "backup", 1, "failed: no space", CRITICAL);
    history.run(minute(1), "verify", 5, "locked", WARNING);
    history.run(minute(1), "probe", 2, "critical", CRITICAL);
    history.run(minute(1), "disk", 3, "unknown: no such folder", Level::Unknown);
    let expected = ["[web1] CRITICAL 2 incidents opened: backup data, job disk data"];
    assert_eq!(history.evaluate(minute(1)), expected);
}

#[test]
fn ages_count_from_the_last_good_run_or_from_the_first_evaluation() {
    let history = History::of(&["backup older than 2h"]);
    assert_eq!(history.evaluate_minutes(0, 120), []);
    let never = "CRITICAL backup: never done, watched for 2 h 01 min (limit 2 h 00 min)";
    assert_eq!(history.evaluate_minutes(121, 125), [told(121, never)]);
    history.run(minute(126), "backup", 3, "partial", WARNING);
    assert_eq!(history.evaluate_minutes(126, 130).len(), 1);
    history.run(minute(140), "backup", 1, "failed", CRITICAL);
    let late = "CRITICAL backup: last done 2 h 01 min ago (limit 2 h 00 min)";
    assert_eq!(history.evaluate_minutes(131, 250), [told(247, late)]);
}

#[test]
fn a_heartbeat_that_stays_away_is_told() {
    let history = History::of(&["heartbeat nightly missing 30m"]);
    fact::beat(&history.state, "nightly", minute(10)).unwrap();
    let found = history.evaluate_minutes(0, 60);
    let missing = "CRITICAL heartbeat nightly: last heard of 31 min 00 s ago (limit 30 min 00 s)";
    assert_eq!(found, [told(41, missing)]);
    fact::beat(&history.state, "nightly", minute(60)).unwrap();
    assert_eq!(history.evaluate_minutes(61, 70).len(), 1);
}

#[test]
fn an_outbox_that_is_stuck_is_told() {
    let history = History::of(&["probe * is critical", "outbox older than 15m"]);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    let found = history.evaluate_minutes(1, 20);
    let stuck = "CRITICAL outbox: 1 messages not delivered, the oldest for 16 min 00 s (limit 15 min 00 s)";
    assert_eq!(found, [told(1, "CRITICAL probe a: a is critical"), told(17, stuck)]);
    history.deliver(minute(20));
    assert_eq!(history.evaluate_minutes(21, 30), [told(22, "resolved: outbox after 4 min 00 s")]);
}

/// A message of the console since `minute(owed)`, tried at these minutes, and delivered at `ended` if it was.
fn notification(history: &History, owed: i64, tried: &[i64], ended: Option<i64>) {
    let sql = "INSERT INTO notification (channel, kind, key, message, owed, due, state, ended)
               SELECT 'console', 'opened', 'k' || count(*), ?4, ?1, ?1, ?2, ?3 FROM notification";
    let (host, note) = ("web1".to_owned(), String::new());
    let message = Message { kind: Kind::Opened, host, incidents: Vec::new(), owed: minute(owed), note };
    let message = serde_json::to_string(&message).unwrap();
    let state = if ended.is_some() { "delivered" } else { "owed" };
    let times = rusqlite::params![nanos(minute(owed)), state, ended.map(|at| nanos(minute(at))), message];
    history
        .state
        .write(|db| {
            db.execute(sql, times)?;
            let id = db.last_insert_rowid();
            let sql =
                "INSERT INTO attempt (notification, at, outcome, detail) VALUES (?1, ?2, 'passing', '')";
            tried.iter().try_for_each(|&at| db.execute(sql, [id, nanos(minute(at))]).map(drop))
        })
        .unwrap();
}

const DAY: i64 = 24 * 60;

#[test]
fn a_message_that_a_clock_that_was_ahead_dated_into_the_future_is_owed_since_it_was_tried() {
    let history = History::of(&["outbox older than 15m"]);
    history.evaluate(start());
    // Tried by the clock that was ahead, then by one that is right; the other one waits behind it.
    notification(&history, DAY, &[DAY, 3, 4], None);
    notification(&history, DAY, &[], None);
    let stuck = "CRITICAL outbox: 2 messages not delivered, the oldest for 16 min 00 s (limit 15 min 00 s)";
    assert_eq!(history.evaluate_minutes(1, 30), [told(19, stuck)]);
    let simulated = simulate(&history.state, &history.rules, "web1", start(), minute(30)).unwrap();
    let owed: Vec<_> = simulated.messages.iter().map(|told| told.message.owed).collect();
    assert_eq!(owed, [minute(19)]);
}

#[test]
fn a_message_that_a_clock_that_was_ahead_delivered_is_not_owed() {
    let history = History::of(&["outbox older than 15m"]);
    history.evaluate(start());
    notification(&history, 1, &[DAY], Some(DAY));
    notification(&history, DAY, &[DAY], Some(DAY));
    assert_eq!(history.evaluate_minutes(1, 60), []);
}

/// Requests and errors of the service `checkout`, one scrape a minute.
fn scraped(history: &History, minutes: std::ops::Range<i64>, requests: f64, errors: f64) {
    let figures = [("requests", requests), ("errors", errors)];
    let samples = minutes.flat_map(|at| {
        figures.map(|(figure, value)| sample(minute(at), "service", "checkout", figure, value))
    });
    history.record(&Facts { checks: Vec::new(), samples: samples.collect() });
}

#[test]
fn errors_are_told_when_they_last_and_closed_on_the_good_side_of_the_limit() {
    let history = History::of(&["errors(checkout) > 5% for 10m until < 3%"]);
    scraped(&history, 0..30, 100.0, 0.0);
    scraped(&history, 30..32, 100.0, 60.0);
    scraped(&history, 32..60, 100.0, 0.0);
    scraped(&history, 60..80, 100.0, 10.0);
    scraped(&history, 80..100, 100.0, 4.0);
    scraped(&history, 100..120, 100.0, 1.0);
    let found = history.evaluate_minutes(0, 120);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], told(69, "CRITICAL service checkout: errors 9.0 %, above 5.0 % for 10 min 00 s"));
    assert_eq!(found[1].0, 102, "{found:?}");
}

#[test]
fn errors_and_latency_of_a_probe_are_its_own_where_no_service_tells() {
    let history = History::of(&["errors(*) > 50% for 6m", "p95(*) > 200ms for 10m"]);
    for at in 0..30 {
        let slow = if at < 10 { 0.1 } else { 0.5 };
        history.sample(minute(at), "probe", "api", "up", f64::from(u8::from(at < 20)));
        history.sample(minute(at), "probe", "api", "seconds", slow);
        history.sample(minute(at), "probe", "checkout", "up", 0.0);
        history.sample(minute(at), "service", "checkout", "requests", 10.0);
        history.sample(minute(at), "service", "checkout", "errors", 0.0);
    }
    let found = history.evaluate_minutes(0, 30);
    let expected = [
        told(17, "CRITICAL probe api: p95 500 ms, above 200 ms for 10 min 00 s"),
        told(26, "CRITICAL probe api: errors 100.0 %, above 50.0 % for 6 min 00 s"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn without_values_nothing_opens_and_nothing_closes() {
    let history = History::of(&["errors(checkout) > 5% for 4m"]);
    scraped(&history, 0..10, 100.0, 10.0);
    assert_eq!(history.evaluate_minutes(0, 60).len(), 1);
    scraped(&history, 60..65, 100.0, 0.0);
    assert_eq!(history.evaluate_minutes(61, 70).len(), 1);
}

fn burning() -> History {
    let slo = Slo { name: "checkout".into(), service: None, objective: 99.0, window: None };
    History::new(&Config { slo: vec![slo], ..config(&["burn(checkout)"]) })
}

#[test]
fn a_budget_that_burns_fast_is_critical_and_one_that_burns_slowly_a_warning() {
    let fast = burning();
    scraped(&fast, -3 * 24 * 60..0, 100.0, 0.0);
    scraped(&fast, 0..60, 100.0, 30.0);
    let found = fast.evaluate_minutes(0, 60);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 29);
    assert!(found[0].1.starts_with("[web1] CRITICAL slo checkout: 14.5 % errors over 1 h"), "{found:?}");
    let slow = burning();
    scraped(&slow, 0..24 * 60, 100.0, 4.0);
    let found = slow.evaluate_minutes(24 * 60 - 5, 24 * 60);
    assert!(found[0].1.starts_with("[web1] WARNING slo checkout: 4.0 % errors over 24"), "{found:?}");
    let within = burning();
    scraped(&within, 0..24 * 60, 100.0, 0.5);
    assert_eq!(within.evaluate_minutes(24 * 60 - 5, 24 * 60), []);
}

#[test]
fn one_error_of_few_requests_burns_no_budget_and_five_are_told() {
    let history = burning();
    scraped(&history, 0..1, 1.0, 1.0);
    scraped(&history, 60..61, 1.0, 0.0);
    assert_eq!(history.evaluate_minutes(0, 70), []);
    for hour in 2..6 {
        scraped(&history, hour * 60..hour * 60 + 1, 2.0, 1.0);
    }
    let found = history.evaluate_minutes(71, 6 * 60);
    assert_eq!(found, [told(301, "WARNING slo checkout: 5 of 10 requests failed over 3 d 00 h")]);
}

#[test]
fn a_mistake_in_one_rule_is_told_and_the_others_are_evaluated() {
    let well = config(&["probe a is critical", "probe b is critical"]);
    let mut broken = well.clone();
    broken.rule[0].name = Some("a".into());
    let mut history = History::new(&broken);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    history.evaluate(minute(1));
    broken.rule[0].when = "probe a critical".into();
    history.rules = reliab_alert::rule::Rules::read(&broken);
    history.check(minute(2), "probe", "b", CRITICAL);
    let found = history.evaluate_minutes(2, 5);
    let what = "rule `a`, at character 9: expected `is` or `older than`, found `critical`: see `reliab config check`";
    // The one that cannot be read is neither over nor no longer watched.
    let expected = [told(2, "CRITICAL 2 incidents opened: configuration a, probe b")];
    assert_eq!(found, expected);
    assert_eq!(history.messages().pop().unwrap().1.incidents[0].summary, what);
    broken.rule[0].when = "probe a is critical".into();
    history.rules = reliab_alert::rule::Rules::read(&broken);
    assert_eq!(history.evaluate_minutes(6, 9), [told(7, "resolved: configuration a after 4 min 00 s")]);
}

#[test]
fn an_incident_whose_rule_is_gone_is_closed() {
    let mut history = History::of(&["probe * is critical", "disk * is warning"]);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate_minutes(1, 2).len(), 1);
    history.rules = reliab_alert::rule::Rules::of(&config(&["disk * is warning"])).unwrap();
    assert_eq!(history.evaluate_minutes(3, 5).len(), 1);
    let last = history.messages().pop().unwrap().1;
    assert_eq!((last.kind, last.note.as_str()), (Kind::Closed, "no longer watched"));
}

#[test]
fn a_rule_with_another_name_finds_what_the_old_one_had_found() {
    let mut config = config(&["probe * is critical"]);
    let mut history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate_minutes(1, 2).len(), 1);
    config.rule[0].name = Some("down".into());
    history.rules = reliab_alert::rule::Rules::of(&config).unwrap();
    let found = history.evaluate_minutes(3, 5);
    assert_eq!(found[1..], [told(3, "CRITICAL probe a: a is critical")]);
}

/// Evaluates once a day; the kinds of what is owed and what is said beside it, with the day.
fn days(history: &History, days: std::ops::RangeInclusive<i64>) -> Vec<(i64, Kind, String)> {
    let mut all = Vec::new();
    for day in days {
        let before = history.messages().len();
        history.evaluate(start() + TimeDelta::days(day));
        let new = history.messages().split_off(before);
        all.extend(new.into_iter().map(|(_, message)| (day, message.kind, message.note)));
    }
    all
}

#[test]
fn what_is_not_heard_of_any_more_is_closed_and_not_called_resolved() {
    let mut config = config(&["probe * is critical", "job * is failed"]);
    config.alert.remind = Some(Duration::ZERO);
    let history = History::new(&config);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate_minutes(1, 1).len(), 1);
    assert_eq!(days(&history, 1..=9), [(8, Kind::Closed, "no longer heard of".to_owned())]);
}

#[test]
fn a_weekly_job_that_failed_is_not_over_before_it_runs_again() {
    let mut config = config(&["job * is failed"]);
    config.alert.remind = Some(Duration::ZERO);
    let history = History::new(&config);
    history.evaluate(start());
    history.run(minute(1), "backup", 1, "failed: no space", CRITICAL);
    assert_eq!(history.evaluate_minutes(1, 1).len(), 1);
    assert_eq!(days(&history, 1..=20), []);
}

#[test]
fn a_clock_that_was_wrong_for_a_while_stops_nothing() {
    let history = History::of(&["probe * is critical for 3m"]);
    history.evaluate(start());
    history.check(minute(1), "probe", "a", CRITICAL);
    let ahead = start() + TimeDelta::days(3650);
    assert_eq!(history.evaluate(ahead), ["[web1] CRITICAL probe a: a is critical"]);
    assert_eq!(history.evaluate(ahead + TimeDelta::minutes(2)), [""; 0]);
    for (at, level) in [(2, CRITICAL), (3, OK), (5, OK)] {
        history.check(minute(at), "probe", "a", level);
    }
    assert_eq!(history.evaluate_minutes(2, 10), [told(3, "resolved: probe a after 1 min 00 s")]);
}

#[test]
fn what_began_by_a_clock_that_was_ahead_opens() {
    let history = History::of(&["probe * is critical for 3m"]);
    history.evaluate(start());
    let ahead = start() + TimeDelta::days(3650);
    history.check(ahead, "probe", "a", CRITICAL);
    history.evaluate(ahead);
    history.check(minute(2), "probe", "a", CRITICAL);
    assert_eq!(history.evaluate_minutes(2, 10), [told(5, "CRITICAL probe a: a is critical")]);
}

#[test]
fn nothing_is_explained_by_what_somebody_acknowledged_or_silenced() {
    let check = |quiet: &dyn Fn(&History), expected: usize| {
        let mut config = config(&["probe * is critical"]);
        config.rule[0].because = vec!["probe gateway".into()];
        let history = History::new(&config);
        history.evaluate(start());
        history.check(minute(1), "probe", "gateway", CRITICAL);
        assert_eq!(history.evaluate(minute(1)).len(), 1);
        quiet(&history);
        history.check(minute(5), "probe", "a", CRITICAL);
        assert_eq!(history.evaluate(minute(5)).len(), expected);
    };
    check(&|_| {}, 0);
    check(&|history| assert!(store::acknowledge(&history.state, 1, "anna").unwrap()), 1);
    check(&|history| assert!(silence::add(&history.state, &silence("probe gateway", 0, 60)).is_ok()), 1);
}

#[test]
fn what_outlived_its_cause_is_told_also_when_that_is_seen_late() {
    let mut config = config(&["probe * is critical"]);
    config.rule[0].because = vec!["probe gateway".into()];
    let history = History::new(&config);
    history.evaluate(start());
    for target in ["a", "gateway"] {
        history.check(minute(1), "probe", target, CRITICAL);
    }
    history.evaluate(minute(1));
    history.check(minute(2), "probe", "gateway", OK);
    assert_eq!(history.evaluate_minutes(2, 4).len(), 1);
    history.check(minute(20), "probe", "a", OK);
    assert_eq!(history.evaluate(minute(30)), ["[web1] passed: probe a was CRITICAL for 19 min 00 s"]);
}

#[test]
fn nothing_waits_for_ever_to_share_a_message() {
    let mut config = channels(&["probe m* is critical", "probe c* is critical", "disk * is critical"], &[]);
    let console: Channel = serde_json::from_value(serde_json::json!({"type": "console"})).unwrap();
    config.channel = ["mail", "chat"].map(|name| (name.to_owned(), console.clone())).into_iter().collect();
    config.rule[0].channels = Some(vec!["mail".into()]);
    config.rule[1].channels = Some(vec!["chat".into()]);
    config.alert.group = Some(minutes(4));
    let history = History::new(&config);
    history.evaluate(start());
    for at in 1..20 {
        if at % 2 == 1 {
            let target = format!("{}{at}", if at % 4 == 1 { "m" } else { "c" });
            history.check(minute(at), "probe", &target, CRITICAL);
        }
        if at == 4 {
            history.check(minute(at), "disk", "/", CRITICAL);
        }
        history.evaluate(minute(at));
    }
    let messages = history.messages();
    let told =
        messages.iter().find(|(_, message)| message.incidents.iter().any(|one| one.subject == "disk /"));
    assert_eq!(told.unwrap().1.owed, minute(8));
}

#[test]
fn a_service_that_is_gone_hides_no_probe_of_its_name() {
    let slo = Slo { name: "api".into(), service: None, objective: 99.0, window: None };
    let rules = config(&["errors(api) > 50% for 6m", "burn(api)"]);
    let history = History::new(&Config { slo: vec![slo], ..rules });
    history.sample(minute(-2 * 24 * 60), "service", "api", "requests", 10.0);
    for at in 0..30 {
        history.sample(minute(at), "probe", "api", "up", 0.0);
    }
    let found = history.evaluate_minutes(25, 30);
    assert_eq!(found, [told(25, "CRITICAL 2 incidents opened: probe api, slo api")][..1].to_vec());
}

#[test]
fn thousands_of_results_that_are_not_confirmed_take_no_time() {
    let history = History::of(&["probe * is critical for 2 runs"]);
    history.evaluate(start());
    for level in [CRITICAL, OK] {
        let check = |target: i32| fact::CheckResult {
            source: "probe".into(),
            target: format!("p{target}"),
            at: minute(1),
            level,
            summary: "as told".into(),
            detail: serde_json::Value::Null,
        };
        history.record(&Facts { checks: (0..5000).map(check).collect(), samples: Vec::new() });
    }
    let began = std::time::Instant::now();
    assert_eq!(history.evaluate(minute(1)), [""; 0]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(history.incidents(), []);
}

#[test]
fn a_rule_may_have_its_own_level_channels_and_times() {
    let mut config = channels(&[], &["mail", "chat"]);
    let mut own = rule("disk * is warning");
    own.level = Some(CRITICAL);
    own.channels = Some(vec!["chat".into()]);
    own.clear_for = Some(minutes(10));
    config.rule = vec![own];
    let history = History::new(&config);
    let levels = [WARNING, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK];
    let found = live(&history, "disk", "/", &levels);
    let expected = [told(1, "CRITICAL disk /: / is warning"), told(12, "resolved: disk / after 1 min 00 s")];
    assert_eq!(found, expected);
    assert!(history.messages().iter().all(|(channel, _)| channel == "chat"));
}
