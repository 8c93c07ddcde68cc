//! What the state knows, as of any time.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::fact;
use reliab_common::state::{State, StateError, nanos, time};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::outbox::SINCE;
use crate::pattern::Pattern;
use crate::rule::condition::CHECKS;

/// A check result as rules see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its number.
    pub id: i64,
    /// The tool.
    pub source: String,
    /// What it looked at.
    pub target: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What it found.
    pub level: Level,
    /// The same in one line.
    pub summary: String,
    /// Whether it says how a run went.
    pub job: bool,
}

/// How often something happened, and the sum of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// How often.
    pub count: u32,
    /// The sum.
    pub total: f64,
}

/// The facts with numbers above `after`, at most `most`, in the order they were stored.
pub fn facts(state: &State, after: i64, most: u32) -> Result<Vec<Fact>, StateError> {
    let sql = "SELECT c.id, c.source, c.target, c.at, c.level, c.summary,
                      coalesce(r.tool = c.source AND r.job = c.target, 0)
               FROM check_result c LEFT JOIN run r ON r.id = c.run WHERE c.id > ?1 ORDER BY c.id LIMIT ?2";
    state.with(|db| db.prepare_cached(sql)?.query_map(params![after, most], fact)?.collect())
}

fn fact(row: &Row<'_>) -> rusqlite::Result<Fact> {
    Ok(Fact {
        id: row.get(0)?,
        source: row.get(1)?,
        target: row.get(2)?,
        at: time(row.get(3)?),
        level: Level::from_code(row.get(4)?).unwrap_or(Level::Unknown),
        summary: row.get(5)?,
        job: row.get(6)?,
    })
}

impl Fact {
    /// The fact as rules see it: a check that failed itself is a job that failed, one that ended as a check is a job that
    /// went well, whatever it found, and evaluations are nobody's subject.
    pub fn seen(mut self) -> Option<Self> {
        if self.source.split('-').next() == Some("alert") {
            return None;
        }
        if self.job {
            match self.summary.split(':').next().unwrap_or_default() {
                "ok" | "warning" | "critical" => self.level = Level::Ok,
                "unknown" if self.summary == "unknown" => return None,
                "unknown" => self.level = Level::Critical,
                _ => {}
            }
        }
        Some(self)
    }

    /// Whether it says how a run of a check went.
    pub fn is_run_of_check(&self) -> bool {
        self.job && CHECKS.contains(&self.source.as_str())
    }

    /// What an incident about it is about: a check that failed as a job is not what it looks at.
    pub fn subject(&self) -> String {
        if self.is_run_of_check() {
            return format!("job {} {}", self.source, self.target);
        }
        format!("{} {}", self.source, self.target)
    }
}

/// The last result of each target that is not above number `until`, from `since` on, in the order they were stored.
pub fn latest(state: &State, until: i64, since: DateTime<Utc>) -> Result<Vec<Fact>, StateError> {
    let sql = "SELECT c.id, c.source, c.target, c.at, c.level, c.summary,
                      coalesce(r.tool = c.source AND r.job = c.target, 0)
               FROM check_result c LEFT JOIN run r ON r.id = c.run
               WHERE c.id IN (SELECT max(id) FROM check_result WHERE id <= ?1 AND at >= ?2
                              GROUP BY source, target) ORDER BY c.id";
    let all: Vec<Fact> =
        state.with(|db| db.prepare_cached(sql)?.query_map(params![until, nanos(since)], fact)?.collect())?;
    Ok(all.into_iter().filter_map(Fact::seen).collect())
}

/// The number before that of the first fact from `from` on: what is stored later is looked at, whenever it happened.
pub fn last_before(state: &State, from: DateTime<Utc>) -> Result<i64, StateError> {
    let sql = "SELECT coalesce((SELECT min(id) FROM check_result WHERE at >= ?1) - 1,
                               (SELECT max(id) FROM check_result), 0)";
    state.with(|db| db.query_row(sql, [nanos(from)], |row| row.get(0)))
}

/// When the first of all that is stored happened; `None`: nothing is stored.
pub fn first(state: &State) -> Result<Option<DateTime<Utc>>, StateError> {
    let sql = "SELECT min(at) FROM (SELECT min(at) AS at FROM check_result UNION ALL
               SELECT min(started) FROM run UNION ALL SELECT min(at) FROM heartbeat)";
    state.with(|db| db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))).map(|at| at.map(time))
}

/// When something was last done, as of `now`: for a check its last result, for a job its last run that did its work.
pub fn last_done(
    state: &State,
    source: &str,
    target: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StateError> {
    let check = "SELECT max(at) FROM check_result INDEXED BY check_by_target
                 WHERE source = ?1 AND at <= ?2 AND (?3 IS NULL OR target = ?3)";
    // Done, or done in part: the rest is safe.
    let job = "SELECT max(ended) FROM run WHERE tool = ?1 AND ended <= ?2 AND exit IN (0, 3)
               AND (?3 IS NULL OR job = ?3)";
    let sql = if CHECKS.contains(&source) { check } else { job };
    let last = |db: &Connection| {
        let mut query = db.prepare_cached(sql)?;
        query.query_row(params![source, nanos(now), target], |row| row.get::<_, Option<i64>>(0))
    };
    state.with(last).map(|at| at.map(time))
}

/// When any tool but alerts themselves last found something out, as of `now`; what could not be found out is nothing.
pub fn last_found(state: &State, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StateError> {
    let sql =
        "SELECT at FROM check_result WHERE at <= ?1 AND level != ?2 AND source NOT IN ('alert', 'schedule')
               AND source NOT LIKE 'alert-%' ORDER BY at DESC LIMIT 1";
    let last = |db: &Connection| {
        db.query_row(sql, params![nanos(now), Level::Unknown.code()], |row| row.get(0)).optional()
    };
    state.with(last).map(|at: Option<i64>| at.map(time))
}

/// The targets of a source that fit, as of `now`.
pub fn targets(
    state: &State,
    source: &str,
    fits: &Pattern,
    now: DateTime<Utc>,
) -> Result<Vec<String>, StateError> {
    let check = "SELECT DISTINCT target FROM check_result WHERE source = ?1 AND at <= ?2 ORDER BY target";
    let job = "SELECT DISTINCT job FROM run WHERE tool = ?1 AND started <= ?2 ORDER BY job";
    let sql = if CHECKS.contains(&source) { check } else { job };
    names(state, sql, params![source, nanos(now)], fits)
}

/// The names that ever reported in and fit, as of `now`.
pub fn heartbeats(state: &State, fits: &Pattern, now: DateTime<Utc>) -> Result<Vec<String>, StateError> {
    let sql = "SELECT DISTINCT name FROM heartbeat WHERE at <= ?1 ORDER BY name";
    names(state, sql, params![nanos(now)], fits)
}

/// When `name` last reported in, as of `now`.
pub fn last_beat(state: &State, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StateError> {
    let sql = "SELECT max(at) FROM heartbeat WHERE name = ?1 AND at <= ?2";
    let last = |db: &Connection| {
        let mut query = db.prepare_cached(sql)?;
        query.query_row(params![name, nanos(now)], |row| row.get::<_, Option<i64>>(0))
    };
    state.with(last).map(|at| at.map(time))
}

/// The targets of a source that fit and have a value of a figure over the time `span` before `until`.
pub fn measured(
    state: &State,
    source: &str,
    figure: &str,
    fits: &Pattern,
    span: TimeDelta,
    until: DateTime<Utc>,
) -> Result<Vec<String>, StateError> {
    let sql = "SELECT target FROM series WHERE source = ?1 AND figure = ?2 AND EXISTS
                   (SELECT 1 FROM sample WHERE series = series.id AND at >= ?3 AND at < ?4) ORDER BY target";
    names(state, sql, params![source, figure, nanos(until - span), nanos(until)], fits)
}

fn names(
    state: &State,
    sql: &str,
    values: &[&dyn rusqlite::ToSql],
    fits: &Pattern,
) -> Result<Vec<String>, StateError> {
    let all: Vec<String> =
        state.with(|db| db.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect())?;
    Ok(all.into_iter().filter(|name| fits.matches(name)).collect())
}

/// Since when the oldest message is owed that was not delivered as of `now`, and how many there are.
///
/// All that the state has happened by `known`, so a later time is that of a clock that was ahead: what is owed since then
/// waits at least since it was first tried, and what ended then has ended.
pub fn owed(
    state: &State,
    now: DateTime<Utc>,
    known: DateTime<Utc>,
) -> Result<Option<(DateTime<Utc>, i64)>, StateError> {
    let sql = format!(
        "SELECT min(since), count(*) FROM (SELECT {SINCE} AS since FROM notification AS n
         WHERE (owed <= ?1 OR owed > ?2) AND (state = 'owed' OR (ended > ?1 AND ended <= ?2)))"
    );
    let oldest = |db: &Connection| {
        let mut query = db.prepare_cached(&sql)?;
        let times = [nanos(now), nanos(known)];
        query.query_row(times, |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))
    };
    state.with(oldest).map(|(owed, count)| owed.map(|owed| (time(owed), count)))
}

/// Count and sum of a figure's values over the time `span` before `until`.
pub fn sum(
    state: &State,
    (source, target, figure): (&str, &str, &str),
    span: TimeDelta,
    until: DateTime<Utc>,
) -> Result<Sum, StateError> {
    let sql = "SELECT count(*), total(value) FROM sample WHERE series =
                   (SELECT id FROM series WHERE source = ?1 AND target = ?2 AND figure = ?3)
               AND at >= ?4 AND at < ?5";
    state.with(|db| {
        db.prepare_cached(sql)?
            .query_row(params![source, target, figure, nanos(until - span), nanos(until)], |row| {
                Ok(Sum { count: row.get(0)?, total: row.get(1)? })
            })
    })
}

/// The values of a figure over the time `span` before `until`, smallest first.
pub fn values(
    state: &State,
    (source, target, figure): (&str, &str, &str),
    span: TimeDelta,
    until: DateTime<Utc>,
) -> Result<Vec<f64>, StateError> {
    let points = fact::samples(state, source, target, figure, until - span, until)?;
    let mut values: Vec<f64> = points.into_iter().map(|point| point.value).collect();
    values.sort_by(f64::total_cmp);
    Ok(values)
}

/// Where a cursor of `reliab` stands.
pub fn cursor(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM cursor WHERE name = ?1", [name], |row| row.get(0)).optional()
}
