//! Evaluation may be cut off anywhere: what was stored stands, and the next one comes to what it would have come to.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::history::{History, config, minute, start};
use chrono::{DateTime, Utc};
use reliab_alert::live;
use reliab_alert::message::{Kind, Message};
use reliab_alert::rule::Rules;
use reliab_common::config::Config;
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult, Facts};
use reliab_common::state::State;

const FOLDER: &str = "RELIAB_TEST_STATE_DIR";
const FIRST: &str = "RELIAB_TEST_FIRST";
/// What evaluation writes.
const TABLES: [&str; 4] = ["incident", "notification", "notification_incident", "cursor"];

fn rules() -> Config {
    let mut config = config(&["probe * is critical for 2 runs", "disk * is warning", "job * is failed"]);
    config.alert.group = Some(std::time::Duration::ZERO);
    config
}

/// A state in which the next evaluation, at minute 4, opens, closes, passes, explains, drops and begins something.
fn eventful() -> History {
    let history = History::new(&rules());
    history.evaluate(start());
    for target in ["a", "b", "a", "b", "gone"] {
        history.check(minute(1), "probe", target, Level::Critical);
    }
    assert_eq!(history.evaluate(minute(1)).len(), 1);
    for target in ["a", "gone"] {
        history.check(minute(2), "probe", target, Level::Ok);
    }
    history.check(minute(2), "probe", "new", Level::Critical);
    history.check(minute(2), "disk", "/", Level::Critical);
    history.check(minute(2), "disk", "/srv", Level::Critical);
    history.check(minute(2), "disk", "/srv", Level::Ok);
    history.run(minute(2), "backup", 1, "failed: no space", Level::Critical);
    history
}

/// Everything that evaluation writes, as text.
fn dump(state: &State) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES {
        let row = |row: &rusqlite::Row<'_>| {
            let cells = (0..row.as_ref().column_count()).map(|column| row.get(column));
            let cells: Vec<rusqlite::types::Value> = cells.collect::<Result<_, _>>()?;
            Ok(format!("{table} {cells:?}"))
        };
        let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
        let all: Vec<String> = state.with(|db| db.prepare(&sql)?.query_map([], row)?.collect()).unwrap();
        rows.extend(all);
    }
    rows
}

/// From now on the write of number `fails`, from 1, fails; 0 for none.
fn fail_at(state: &State, fails: u32) {
    let mut sql = String::from(
        "CREATE TEMP TABLE IF NOT EXISTS writes (n INTEGER); DELETE FROM writes; INSERT INTO writes VALUES (0);",
    );
    for table in TABLES {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            sql.push_str(&format!(
                "DROP TRIGGER IF EXISTS temp.{table}_{event};
                 CREATE TEMP TRIGGER {table}_{event} BEFORE {event} ON main.{table} BEGIN
                     UPDATE writes SET n = n + 1;
                     SELECT RAISE(ABORT, 'cut off') FROM writes WHERE n = {fails};
                 END;"
            ));
        }
    }
    state.with(|db| db.execute_batch(&sql)).unwrap();
}

fn evaluate(history: &History) -> Result<Option<live::Evaluated>, reliab_common::state::StateError> {
    live::run(&history.state, &history.rules, "web1", minute(4))
}

#[test]
fn an_evaluation_cut_off_at_any_write_changes_nothing_and_the_next_loses_and_doubles_nothing() {
    let whole = eventful();
    fail_at(&whole.state, 0);
    evaluate(&whole).unwrap();
    let expected = dump(&whole.state);
    let kinds: Vec<Kind> = whole.messages().iter().map(|(_, message)| message.kind).collect();
    assert_eq!(kinds, [Kind::Opened, Kind::Closed, Kind::Opened, Kind::Passed]);
    let writes: u32 =
        whole.state.with(|db| db.query_row("SELECT n FROM writes", [], |row| row.get(0))).unwrap();
    assert!(writes > 12, "{writes} writes");
    for fails in 1..=writes {
        let history = eventful();
        let before = dump(&history.state);
        fail_at(&history.state, fails);
        let error = evaluate(&history).unwrap_err();
        assert!(format!("{error:?}").contains("cut off"), "{error:?}");
        assert_eq!(dump(&history.state), before, "write {fails}");
        fail_at(&history.state, 0);
        evaluate(&history).unwrap();
        assert_eq!(dump(&history.state), expected, "write {fails}");
    }
}

/// Results of 200 probes, all of which change together every four minutes.
fn minute_of_change(state: &State, at: i64) {
    let level = if at % 8 < 4 { Level::Critical } else { Level::Ok };
    let checks = (0..200).map(|target| CheckResult {
        source: "probe".into(),
        target: format!("p{target}"),
        at: minute(at),
        level,
        summary: "as told ".repeat(20),
        detail: serde_json::Value::Null,
    });
    let facts = Facts { checks: checks.collect(), samples: Vec::new() };
    state.write(|db| fact::store_all(db, None, &facts)).unwrap();
}

#[test]
fn a_full_disk_stops_an_evaluation_whole() {
    let full = || {
        let history = History::new(&rules());
        history.evaluate(start());
        minute_of_change(&history.state, 1);
        minute_of_change(&history.state, 2);
        history
    };
    let (history, whole) = (full(), full());
    evaluate(&whole).unwrap();
    let before = dump(&history.state);
    let limit = |pages: i64| {
        let set = |db: &rusqlite::Connection| {
            db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
        };
        history.state.with(set).unwrap();
    };
    limit(1);
    let error = evaluate(&history).unwrap_err();
    assert!(format!("{error:?}").contains("DiskFull"), "{error:?}");
    assert_eq!(dump(&history.state), before);
    limit(1_000_000);
    evaluate(&history).unwrap();
    assert_eq!(dump(&history.state), dump(&whole.state));
}

#[test]
fn evaluations_at_the_same_time_tell_everything_once() {
    let (history, whole) = (eventful(), eventful());
    let (dir, rules) = (history.state.path().parent().unwrap().to_owned(), history.rules.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| live::run(&State::open(&dir).unwrap(), &rules, "web1", minute(4)).unwrap());
        }
    });
    evaluate(&whole).unwrap();
    assert_eq!(history.messages(), whole.messages());
}

#[test]
#[ignore = "the other process of the test below"]
fn evaluates_until_it_is_killed() {
    let dir = std::env::var_os(FOLDER).unwrap();
    let state = State::open(Path::new(&dir)).unwrap();
    let rules = Rules::of(&rules()).unwrap();
    let mut out = std::io::stdout();
    for at in std::env::var(FIRST).unwrap().parse().unwrap()..40 {
        let stored = "SELECT count(*) FROM check_result";
        let stored: i64 = state.with(|db| db.query_row(stored, [], |row| row.get(0))).unwrap();
        if stored < at * 200 {
            minute_of_change(&state, at);
        }
        writeln!(out, "\nminute {at}").unwrap();
        out.flush().unwrap();
        live::run(&state, &rules, "web1", minute(at)).unwrap();
    }
    writeln!(out, "\ndone").unwrap();
}

/// Runs the other process from a minute on and kills it once it evaluates minute `until`; whether it came to its end.
fn run_and_kill(dir: &Path, first: i64, until: i64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cutoff::evaluates_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        done |= line == "done";
        if line.strip_prefix("minute ").is_some_and(|at| at.parse::<i64>().unwrap() >= until) {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    done
}

/// What was told, by subject, beginning and kind.
fn told(history: &History) -> Vec<(String, DateTime<Utc>, Kind)> {
    let lines = |message: Message| {
        let kind = message.kind;
        message.incidents.into_iter().map(move |line| (line.subject, line.began, kind))
    };
    history.messages().into_iter().flat_map(|(_, message)| lines(message)).collect()
}

#[test]
fn killed_again_and_again_it_tells_every_incident_exactly_once() {
    let (undisturbed, history) = (History::new(&rules()), History::new(&rules()));
    undisturbed.evaluate(start());
    history.evaluate(start());
    for at in 1..40 {
        minute_of_change(&undisturbed.state, at);
        undisturbed.evaluate(minute(at));
    }
    let dir = history.state.path().parent().unwrap().to_owned();
    let (mut at, mut kills) = (1, 0);
    while at < 40 {
        // Some minutes are evaluated whole before the one in which it is killed, wherever it is in that.
        let until = at + kills % 3;
        run_and_kill(&dir, at, until);
        (at, kills) = (until + 1, kills + 1);
    }
    assert!(run_and_kill(&dir, 39, i64::MAX));
    let mut all = told(&history);
    let count = all.len();
    all.sort_by_key(|(subject, began, kind)| (subject.clone(), *began, kind.name()));
    all.dedup();
    assert_eq!(all.len(), count, "something was told twice");
    let begun = |told: Vec<(String, DateTime<Utc>, Kind)>| {
        let begun = told.into_iter().map(|(subject, began, _)| (subject, began));
        begun.collect::<BTreeSet<_>>()
    };
    assert!(begun(all.clone()).len() >= 800);
    assert_eq!(begun(all), begun(told(&undisturbed)));
}
