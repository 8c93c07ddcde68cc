//! A state with made-up history, evaluated by a clock of its own.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_alert::live;
use reliab_alert::message::Message;
use reliab_alert::rule::Rules;
use reliab_common::config::{Alert, Config, Rule};
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult, Facts, Sample};
use reliab_common::state::{State, nanos};
use rusqlite::params;
use serde_json::Value;

/// The moment at which every history begins.
pub fn start() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// So many minutes after the beginning.
pub fn minute(minutes: i64) -> DateTime<Utc> {
    start() + TimeDelta::minutes(minutes)
}

/// A rule with nothing but its condition.
pub fn rule(when: &str) -> Rule {
    Rule {
        name: None,
        when: when.to_owned(),
        channels: None,
        level: None,
        because: Vec::new(),
        clear_for: None,
        remind: None,
        escalate_after: None,
        escalate_to: None,
        min_events: None,
    }
}

/// A configuration with these rules.
pub fn config(rules: &[&str]) -> Config {
    let alert = Alert { builtin: Some(false), ..Alert::default() };
    Config { alert, rule: rules.iter().map(|when| rule(when)).collect(), ..Config::default() }
}

/// A measured value.
pub fn sample(at: DateTime<Utc>, source: &str, target: &str, figure: &str, value: f64) -> Sample {
    let (source, target, figure) = (source.to_owned(), target.to_owned(), figure.to_owned());
    Sample { source, target, figure, unit: "1", at, value }
}

/// A state in a folder of its own.
pub struct History {
    _dir: tempfile::TempDir,
    pub state: State,
    pub rules: Rules,
}

impl History {
    pub fn new(config: &Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        Self { _dir: dir, state, rules: Rules::read(config) }
    }

    pub fn of(rules: &[&str]) -> Self {
        Self::new(&config(rules))
    }

    /// Records a check result.
    pub fn check(&self, at: DateTime<Utc>, source: &str, target: &str, level: Level) {
        let (source, target) = (source.to_owned(), target.to_owned());
        let summary = format!("{target} is {}", level.name());
        let check = CheckResult { source, target, at, level, summary, detail: Value::Null };
        self.record(&Facts { checks: vec![check], samples: Vec::new() });
    }

    /// Records a measured value.
    pub fn sample(&self, at: DateTime<Utc>, source: &str, target: &str, figure: &str, value: f64) {
        self.record(&Facts { checks: Vec::new(), samples: vec![sample(at, source, target, figure, value)] });
    }

    /// Records what was found, in one transaction.
    pub fn record(&self, facts: &Facts) {
        self.state.write(|db| fact::store_all(db, None, facts)).unwrap();
    }

    /// Records a run of a job with its own check result.
    pub fn run(&self, at: DateTime<Utc>, tool: &str, exit: u8, summary: &str, level: Level) {
        let check = CheckResult {
            source: tool.to_owned(),
            target: "data".to_owned(),
            at,
            level,
            summary: summary.to_owned(),
            detail: Value::Null,
        };
        let sql = "INSERT INTO run (tool, job, started, ended, outcome, exit, figures, pid, host)
                   VALUES (?1, 'data', ?2, ?2, ?3, ?4, '{}', 1, 'web1')";
        self.state
            .write(|db| {
                db.execute(sql, params![tool, nanos(at), summary, exit])?;
                fact::store(db, Some(db.last_insert_rowid()), &check)
            })
            .unwrap();
    }

    /// Evaluates at `now`, and gives the titles of what is owed since, with channel and kind.
    pub fn evaluate(&self, now: DateTime<Utc>) -> Vec<String> {
        let before = self.messages().len();
        live::run(&self.state, &self.rules, "web1", now).unwrap().unwrap();
        self.messages().split_off(before).into_iter().map(|(_, message)| message.title()).collect()
    }

    /// Evaluates each minute from `first` up to `last`, and gives the titles with the minute at which they were owed.
    pub fn evaluate_minutes(&self, first: i64, last: i64) -> Vec<(i64, String)> {
        let titles = |at| self.evaluate(minute(at)).into_iter().map(move |title| (at, title));
        (first..=last).flat_map(titles).collect()
    }

    /// All messages by channel, in their order.
    pub fn messages(&self) -> Vec<(String, Message)> {
        let sql = "SELECT channel, message FROM notification ORDER BY id";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
        let rows: Vec<(String, String)> =
            self.state.with(|db| db.prepare(sql)?.query_map([], read)?.collect()).unwrap();
        rows.into_iter().map(|(channel, text)| (channel, serde_json::from_str(&text).unwrap())).collect()
    }

    /// State, subject and number of all incidents.
    pub fn incidents(&self) -> Vec<(i64, String, String)> {
        let sql = "SELECT id, state, subject FROM incident ORDER BY id";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        self.state.with(|db| db.prepare(sql)?.query_map([], read)?.collect()).unwrap()
    }

    /// Marks everything that is owed as delivered.
    pub fn deliver(&self, now: DateTime<Utc>) {
        let sql = "UPDATE notification SET state = 'delivered', ended = ?1 WHERE state = 'owed'";
        self.state.write(|db| db.execute(sql, [nanos(now)])).unwrap();
    }
}
