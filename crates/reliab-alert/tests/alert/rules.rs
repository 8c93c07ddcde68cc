//! Rules that change, that cannot be read for a while, and what each is about.

use crate::history::{History, config, minute, start};
use chrono::TimeDelta;
use reliab_alert::message::Kind;
use reliab_alert::rule::Rules;
use reliab_alert::store;
use reliab_common::config::Config;
use reliab_common::exit::Level;

const OK: Level = Level::Ok;
const CRITICAL: Level = Level::Critical;

fn told(minute: i64, title: &str) -> (i64, String) {
    (minute, format!("[web1] {title}"))
}

/// Rules of these names and conditions.
fn named(rules: &[(&str, &str)]) -> Config {
    let mut config = config(&rules.iter().map(|(_, when)| *when).collect::<Vec<_>>());
    for (rule, (name, _)) in config.rule.iter_mut().zip(rules) {
        rule.name = Some((*name).to_owned());
    }
    config
}

fn use_rules(history: &mut History, rules: &[(&str, &str)]) {
    history.rules = Rules::read(&named(rules));
}

const GOOD: &[(&str, &str)] = &[("jobs", "job * is failed")];
const BROKEN: &[(&str, &str)] = &[("jobs", "job * is faled")];

#[test]
fn what_failed_while_its_rule_could_not_be_read_is_told_once_it_can() {
    let mut history = History::new(&named(GOOD));
    history.evaluate(start());
    use_rules(&mut history, BROKEN);
    history.evaluate_minutes(2, 3);
    history.run(minute(4), "backup", 1, "failed: no space", CRITICAL);
    assert_eq!(history.evaluate_minutes(4, 6), []);
    use_rules(&mut history, GOOD);
    let expected = [
        told(7, "CRITICAL backup data: failed: no space"),
        told(8, "resolved: configuration jobs after 6 min 00 s"),
    ];
    assert_eq!(history.evaluate_minutes(7, 30), expected);
}

#[test]
fn what_got_well_while_its_rule_could_not_be_read_is_closed() {
    let mut history = History::new(&named(GOOD));
    history.evaluate(start());
    history.run(minute(1), "backup", 1, "failed: no space", CRITICAL);
    assert_eq!(history.evaluate(minute(1)).len(), 1);
    use_rules(&mut history, BROKEN);
    history.evaluate_minutes(2, 3);
    history.run(minute(4), "backup", 0, "done", OK);
    assert_eq!(history.evaluate_minutes(4, 6), []);
    use_rules(&mut history, GOOD);
    assert_eq!(history.evaluate_minutes(7, 7), [told(7, "resolved: backup data after 3 min 00 s")]);
}

#[test]
fn what_came_and_went_while_its_rule_could_not_be_read_is_told() {
    let mut history = History::new(&named(GOOD));
    history.run(minute(-1), "backup", 0, "done", OK);
    history.evaluate(start());
    use_rules(&mut history, BROKEN);
    history.evaluate_minutes(2, 3);
    history.run(minute(4), "backup", 1, "failed: no space", CRITICAL);
    history.run(minute(5), "backup", 0, "done", OK);
    assert_eq!(history.evaluate_minutes(4, 6), []);
    use_rules(&mut history, GOOD);
    let expected = [told(7, "passed: backup data was CRITICAL for 1 min 00 s")];
    assert_eq!(history.evaluate_minutes(7, 7), expected);
}

#[test]
fn no_result_counts_twice_for_a_rule_that_could_not_be_read() {
    let good = &[("api", "probe api is critical for 2 runs")];
    let mut history = History::new(&named(good));
    history.evaluate(start());
    history.check(minute(1), "probe", "api", CRITICAL);
    history.evaluate(minute(1));
    use_rules(&mut history, &[("api", "probe api is")]);
    history.evaluate_minutes(2, 3);
    use_rules(&mut history, good);
    assert_eq!(history.evaluate_minutes(4, 9), [told(5, "resolved: configuration api after 2 min 00 s")]);
    history.check(minute(10), "probe", "api", CRITICAL);
    assert_eq!(history.evaluate_minutes(10, 10), [told(10, "CRITICAL probe api: api is critical")]);
}

#[test]
fn a_check_that_failed_is_one_incident_until_it_ends_as_a_check() {
    for ending in ["ok", "warning", "critical"] {
        let history = History::of(&["job * is failed", "disk * is warning"]);
        history.evaluate(start());
        history.run(minute(1), "disk", 1, "failed: no such folder", CRITICAL);
        assert_eq!(history.evaluate(minute(1)), ["[web1] CRITICAL job disk data: failed: no such folder"]);
        history.run(minute(2), "disk", 2, ending, CRITICAL);
        let expected = [told(3, "resolved: job disk data after 1 min 00 s")];
        assert_eq!(history.evaluate_minutes(2, 9), expected, "{ending}");
        history.run(minute(10), "disk", 2, ending, CRITICAL);
        assert_eq!(history.evaluate_minutes(10, 12), [], "{ending}");
    }
}

#[test]
fn a_check_that_failed_is_told_by_its_own_rule_where_there_is_none_on_jobs() {
    let history = History::of(&["disk * is warning", "job backup is failed"]);
    history.evaluate(start());
    history.run(minute(1), "disk", 1, "failed: no such folder", CRITICAL);
    assert_eq!(history.evaluate(minute(1)), ["[web1] CRITICAL job disk data: failed: no such folder"]);
    history.run(minute(2), "disk", 0, "ok", OK);
    assert_eq!(history.evaluate_minutes(2, 5), [told(3, "resolved: job disk data after 1 min 00 s")]);
}

#[test]
fn a_rule_that_is_about_something_else_now_watches_its_old_incident_no_more() {
    let mut history = History::new(&named(GOOD));
    history.evaluate(start());
    history.run(minute(1), "restore", 1, "failed: typo", CRITICAL);
    assert_eq!(history.evaluate(minute(1)).len(), 1);
    // Another text that is about it still.
    use_rules(&mut history, &[("jobs", "restore is not ok")]);
    assert_eq!(history.evaluate_minutes(2, 5), []);
    use_rules(&mut history, &[("jobs", "job backup is failed")]);
    assert_eq!(history.evaluate_minutes(6, 9).len(), 1);
    let last = history.messages().pop().unwrap().1;
    assert_eq!((last.kind, last.note.as_str()), (Kind::Closed, "no longer watched"));
}

#[test]
fn what_each_rule_finds_it_may_be_about() {
    let mut config = config(&[
        "job * is failed",
        "disk /srv/* is warning",
        "* data is failed",
        "backup older than 1h",
        "backup d* older than 1h",
        "heartbeat n* missing 1h",
        "errors(api) > 1%",
        "burn(api)",
        "outbox older than 1h",
    ]);
    config.slo =
        vec![reliab_common::config::Slo { name: "api".into(), service: None, objective: 99.0, window: None }];
    let rules = Rules::of(&config).unwrap();
    let check = |when: &str, about: &[&str], not: &[&str]| {
        let rule = rules.named(when).unwrap();
        about.iter().for_each(|subject| assert!(rules.may_be_about(rule, subject), "{when}: {subject}"));
        not.iter().for_each(|subject| assert!(!rules.may_be_about(rule, subject), "{when}: {subject}"));
    };
    check("job * is failed", &["backup data", "job disk mounts"], &["disk /", "probe api"]);
    check("disk /srv/* is warning", &["disk /srv/a"], &["disk /", "job disk /srv/a"]);
    check("* data is failed", &["backup data", "job disk data"], &["backup other"]);
    check("backup older than 1h", &["backup"], &["backup data", "drill"]);
    check("backup d* older than 1h", &["backup data"], &["backup", "backup other"]);
    check("heartbeat n* missing 1h", &["heartbeat nightly"], &["heartbeat weekly"]);
    check("errors(api) > 1%", &["service api", "probe api"], &["slo api", "service other"]);
    check("burn(api)", &["slo api"], &["slo other", "service api"]);
    check("outbox older than 1h", &["outbox"], &["backup"]);
    check("configuration", &["configuration", "configuration api"], &["outbox"]);
}

#[test]
fn a_mistake_that_somebody_knows_of_hides_no_other() {
    let both = |a, b| [("a", a), ("b", b)];
    let (well_a, well_b) = ("probe a is critical", "probe b is critical");
    let mut history = History::new(&named(&both(well_a, well_b)));
    history.evaluate(start());
    use_rules(&mut history, &both("probe a is", well_b));
    history.evaluate_minutes(1, 2);
    assert!(store::acknowledge(&history.state, 1, "anna").unwrap());
    use_rules(&mut history, &both("probe a is", "probe b is"));
    let found = history.evaluate_minutes(3, 9);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].1.starts_with("[web1] CRITICAL configuration b: rule `b`, at character 11"),
        "{found:?}"
    );
    use_rules(&mut history, &both(well_a, "probe b is"));
    assert_eq!(history.evaluate_minutes(10, 15), [told(11, "resolved: configuration a after 9 min 00 s")]);
    let open: Vec<_> = store::incidents(&history.state, Some(start() + TimeDelta::minutes(12))).unwrap();
    assert_eq!(open.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>(), ["configuration b"]);
}
