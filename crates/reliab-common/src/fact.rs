//! Facts: what tools find out, kept in the state for status, alerts and forecasts.
//!
//! | source | target | figures of samples |
//! | --- | --- | --- |
//! | a tool that is a job (`backup`, `verify`, …) | the job | none: the check result says how the run ended |
//! | `probe` | name of the probe | `up` (1 or 0), `seconds`, `seconds.dns`, `.connect`, `.tls`, `.first_byte`, `.transfer`, `certificate_days` |
//! | `service` | name of a service that is scraped | `requests`, `errors` (counts since the last scrape), `p50`, `p95`, `p99` (seconds) |
//! | `schedule` | job of `[schedule]` | none: the check result says whether it is overdue |
//! | `alert` | `outbox` | `queue` (messages owed), `oldest_seconds` (age of the oldest of them) |
//! | `alert` | `ping` | none: the check result says whether the outbound ping was sent, and its `last_sent` when that was last so |
//! | `disk` | mount point | `used` (0 to 1), `free` (bytes), `inodes_used` (0 to 1) |
//! | `disk` | `directory PATH`, `database SERVER/NAME` | `bytes` |
//! | `disk` | `sqlite PATH` | `bytes`, `free` (bytes of free pages), `wal` (bytes of the write-ahead log) |
//! | `disk` | `backup REPOSITORY`, `drill FOLDER` | `need`, `free` (bytes) |

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use crate::exit::Level;
use crate::state::{State, StateError, nanos, time};

mod compaction;
#[cfg(test)]
mod fixture;

pub use compaction::compact;

/// How long samples are kept one by one, and all check results.
pub const RAW_DAYS: i64 = 14;
/// How long the hourly summaries of samples, and the check results that changed something, are kept.
pub const HOURLY_DAYS: i64 = 400;

/// What one check of one target found.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResult {
    /// The tool, such as `probe`.
    pub source: String,
    /// What it looked at, such as the name of a probe or a mount point.
    pub target: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What it found.
    pub level: Level,
    /// One line for people.
    pub summary: String,
    /// More, as JSON.
    pub detail: Value,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The tool.
    pub source: String,
    /// What it looked at.
    pub target: String,
    /// What was measured, such as `seconds`.
    pub figure: String,
    /// The unit, such as `s`, `bytes` or `1`.
    pub unit: &'static str,
    /// When.
    pub at: DateTime<Utc>,
    /// The value; what is not finite is not stored.
    pub value: f64,
}

/// What a run found out, stored in one transaction with the record of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Results of checks.
    pub checks: Vec<CheckResult>,
    /// Measured values.
    pub samples: Vec<Sample>,
}

/// A check result with its number, which only grows.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCheck {
    /// The number.
    pub id: i64,
    /// The result.
    pub check: CheckResult,
}

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: DateTime<Utc>,
    /// The value, in the unit of its series.
    pub value: f64,
}

/// Stores facts, all of them within the caller's transaction.
pub fn store_all(db: &Connection, run: Option<i64>, facts: &Facts) -> rusqlite::Result<()> {
    facts.checks.iter().try_for_each(|check| store(db, run, check))?;
    facts
        .samples
        .iter()
        .filter(|sample| sample.value.is_finite())
        .try_for_each(|sample| store_sample(db, sample))
}

/// Stores one check result.
pub fn store(db: &Connection, run: Option<i64>, check: &CheckResult) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO check_result (run, source, target, at, level, summary, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        run,
        check.source,
        check.target,
        nanos(check.at),
        check.level.code(),
        check.summary,
        check.detail.to_string()
    ])
    .map(drop)
}

fn store_sample(db: &Connection, sample: &Sample) -> rusqlite::Result<()> {
    let series = series(db, sample)?;
    db.prepare_cached("INSERT OR REPLACE INTO sample (series, at, value) VALUES (?1, ?2, ?3)")?
        .execute(params![series, nanos(sample.at), sample.value])
        .map(drop)
}

/// The number of the sample's series, which is made if it is new.
fn series(db: &Connection, sample: &Sample) -> rusqlite::Result<i64> {
    let key = params![sample.source, sample.target, sample.figure];
    let known = db
        .prepare_cached("SELECT id FROM series WHERE source = ?1 AND target = ?2 AND figure = ?3")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    db.execute(
        "INSERT INTO series (source, target, figure, unit) VALUES (?1, ?2, ?3, ?4)",
        params![sample.source, sample.target, sample.figure, sample.unit],
    )?;
    Ok(db.last_insert_rowid())
}

/// Records that something reported in.
pub fn beat(state: &State, name: &str, at: DateTime<Utc>) -> Result<(), StateError> {
    let sql = "INSERT INTO heartbeat (name, at) VALUES (?1, ?2)";
    state.write(|db| db.execute(sql, params![name, nanos(at)])).map(drop)
}

/// When something last reported in.
pub fn last_beat(state: &State, name: &str) -> Result<Option<DateTime<Utc>>, StateError> {
    let sql = "SELECT max(at) FROM heartbeat WHERE name = ?1";
    state.with(|db| db.query_row(sql, [name], |row| row.get::<_, Option<i64>>(0))).map(|at| at.map(time))
}

/// The check results after number `cursor`, in the order they were stored.
pub fn checks_after(state: &State, cursor: i64) -> Result<Vec<StoredCheck>, StateError> {
    let sql =
        "SELECT id, source, target, at, level, summary, detail FROM check_result WHERE id > ?1 ORDER BY id";
    state.with(|db| db.prepare(sql)?.query_map([cursor], stored_check)?.collect())
}

/// The latest result of each target of a source, by target.
pub fn latest_checks(state: &State, source: &str) -> Result<Vec<StoredCheck>, StateError> {
    let sql = "SELECT id, source, target, at, level, summary, detail FROM check_result
               WHERE id IN (SELECT max(id) FROM check_result WHERE source = ?1 GROUP BY target) ORDER BY target";
    state.with(|db| db.prepare(sql)?.query_map([source], stored_check)?.collect())
}

fn stored_check(row: &Row<'_>) -> rusqlite::Result<StoredCheck> {
    let detail: String = row.get(6)?;
    let check = CheckResult {
        source: row.get(1)?,
        target: row.get(2)?,
        at: time(row.get(3)?),
        level: Level::from_code(row.get(4)?).unwrap_or(Level::Unknown),
        summary: row.get(5)?,
        detail: serde_json::from_str(&detail).unwrap_or(Value::Null),
    };
    Ok(StoredCheck { id: row.get(0)?, check })
}

/// The stored values of a figure from `since` on and before `until`, in order of time.
pub fn samples(
    state: &State,
    source: &str,
    target: &str,
    figure: &str,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Point>, StateError> {
    points(state, "sample", "value", (source, target, figure), (since, until))
}

/// The hourly means of a figure from `since` on and before `until`, in order of time.
pub fn hourly(
    state: &State,
    source: &str,
    target: &str,
    figure: &str,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Point>, StateError> {
    points(state, "sample_hour", "mean", (source, target, figure), (since, until))
}

fn points(
    state: &State,
    table: &str,
    column: &str,
    (source, target, figure): (&str, &str, &str),
    (since, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<Point>, StateError> {
    let sql = format!(
        "SELECT at, {column} FROM {table} WHERE series =
             (SELECT id FROM series WHERE source = ?1 AND target = ?2 AND figure = ?3)
         AND at >= ?4 AND at < ?5 ORDER BY at"
    );
    state.with(|db| {
        db.prepare_cached(&sql)?
            .query_map(params![source, target, figure, nanos(since), nanos(until)], |row| {
                Ok(Point { at: time(row.get(0)?), value: row.get(1)? })
            })?
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::fixture::{at, check, put, sample, state};
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn facts_are_read_back_whole_and_from_a_cursor_on() {
        let (_dir, state) = state();
        let now = at("2026-11-22T12:00:00.5Z");
        let checks = vec![
            check("a", now, Level::Ok),
            check("b", now, Level::Unknown),
            check("a", now, Level::Critical),
        ];
        put(&state, checks.clone(), vec![sample(now, 0.25)]);
        let stored = checks_after(&state, 0).unwrap();
        assert_eq!(stored.iter().map(|stored| stored.check.clone()).collect::<Vec<_>>(), checks);
        assert_eq!(checks_after(&state, stored[1].id).unwrap(), stored[2..]);
        let latest = latest_checks(&state, "probe").unwrap();
        assert_eq!(latest, [stored[2].clone(), stored[1].clone()]);
        let points = samples(&state, "disk", "/", "used", now, now + TimeDelta::nanoseconds(1)).unwrap();
        assert_eq!(points, [Point { at: now, value: 0.25 }]);
        assert_eq!(samples(&state, "disk", "/", "used", now - TimeDelta::days(1), now).unwrap(), []);
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let (_dir, state) = state();
        let now = at("2026-11-22T12:00:00Z");
        let later = now + TimeDelta::seconds(1);
        put(&state, vec![], vec![sample(now, f64::NAN), sample(later, 1.0)]);
        let points = samples(&state, "disk", "/", "used", now, later + TimeDelta::seconds(1)).unwrap();
        assert_eq!(points, [Point { at: later, value: 1.0 }]);
    }

    #[test]
    fn the_last_heartbeat_of_a_name_is_found() {
        let (_dir, state) = state();
        let now = at("2026-11-22T12:00:00Z");
        assert_eq!(last_beat(&state, "nightly").unwrap(), None);
        beat(&state, "nightly", now).unwrap();
        beat(&state, "nightly", now + TimeDelta::hours(1)).unwrap();
        beat(&state, "other", now + TimeDelta::hours(2)).unwrap();
        assert_eq!(last_beat(&state, "nightly").unwrap(), Some(now + TimeDelta::hours(1)));
    }
}
