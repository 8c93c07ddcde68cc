//! What is kept of old facts: values by the hour, check results that changed something, and the last of everything.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};

use super::{HOURLY_DAYS, RAW_DAYS};
use crate::state::{State, StateError, nanos};

const HOUR: i64 = 3_600_000_000_000;
/// No transaction looks at more check results: other tools wait for it.
const BATCH: usize = 5000;

/// What alerts have not evaluated is not theirs to lose; without alerts nobody waits for anything.
const EVALUATED: &str =
    "coalesce((SELECT json_extract(value, '$.fact') FROM cursor WHERE name = 'alert'), c.id)";
/// A later result of the same target: the last one is what is known of it.
const SUPERSEDED: &str =
    "EXISTS (SELECT 1 FROM check_result n WHERE n.source = c.source AND n.target = c.target
    AND n.at >= c.at AND n.id > c.id)";
/// The result before was the same: nothing changed.
const UNCHANGED: &str = "c.level IS (SELECT p.level FROM check_result p WHERE p.source = c.source
    AND p.target = c.target AND (p.at, p.id) < (c.at, c.id) ORDER BY p.at DESC, p.id DESC LIMIT 1)";

/// Turns samples older than [`RAW_DAYS`] into hourly summaries, keeps of check results as old only those with another
/// level than the one before, and drops what is older than [`HOURLY_DAYS`].
///
/// The last result of each target, the last heartbeat of each name and the last runs of each job stay.
pub fn compact(state: &State, now: DateTime<Utc>) -> Result<(), StateError> {
    // Whole hours only: a summary is written once, when nothing can join its hour any more.
    let raw = nanos(now - TimeDelta::days(RAW_DAYS)) / HOUR * HOUR;
    let old = nanos(now - TimeDelta::days(HOURLY_DAYS));
    state.write(|db| sum_up(db, raw, old))?;
    thin(state, raw)?;
    while state.write(|db| drop_checks(db, old))? == BATCH {}
    state.write(|db| {
        let last = "SELECT id FROM (SELECT id, max(at) FROM heartbeat GROUP BY name)";
        db.execute(&format!("DELETE FROM heartbeat WHERE at < ?1 AND id NOT IN ({last})"), [old])?;
        // The last good run of a job as well as the last one of all.
        let last = "SELECT max(id) FROM run GROUP BY tool, job, exit IN (0, 3)";
        db.execute(&format!("DELETE FROM run WHERE started < ?1 AND id NOT IN ({last})"), [old]).map(drop)
    })
}

fn sum_up(db: &Connection, raw: i64, old: i64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO sample_hour (series, at, count, mean, low, high)
         SELECT series, at / ?1 * ?1, count(*), avg(value), min(value), max(value) FROM sample
         WHERE at < ?2 GROUP BY series, at / ?1",
        [HOUR, raw],
    )?;
    db.execute("DELETE FROM sample WHERE at < ?1", [raw])?;
    db.execute("DELETE FROM sample_hour WHERE at < ?1", [old]).map(drop)
}

/// Drops check results before `raw` that changed nothing, a bounded number in one go.
fn thin(state: &State, raw: i64) -> Result<(), StateError> {
    let mut from = (i64::MIN, i64::MIN);
    let page = format!(
        "SELECT c.at, c.id, {SUPERSEDED} AND {UNCHANGED} AND c.id <= {EVALUATED} FROM check_result c
         WHERE (c.at, c.id) > (?1, ?2) AND c.at < ?3 ORDER BY c.at, c.id LIMIT ?4"
    );
    loop {
        let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let rows: Vec<(i64, i64, bool)> = state.with(|db| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            db.prepare_cached(&page)?.query_map(params![from.0, from.1, raw, batch], row)?.collect()
        })?;
        let Some(&(at, id, _)) = rows.last() else { return Ok(()) };
        from = (at, id);
        let gone: Vec<i64> = rows.iter().filter(|(.., gone)| *gone).map(|&(_, id, _)| id).collect();
        if !gone.is_empty() {
            state.write(|db| {
                let mut delete = db.prepare_cached("DELETE FROM check_result WHERE id = ?1")?;
                gone.iter().try_for_each(|id| delete.execute([id]).map(drop))
            })?;
        }
    }
}

/// Drops some of the check results before `old`; how many.
fn drop_checks(db: &Connection, old: i64) -> rusqlite::Result<usize> {
    let sql = format!(
        "DELETE FROM check_result WHERE id IN (SELECT c.id FROM check_result c
             WHERE c.at < ?1 AND {SUPERSEDED} AND c.id <= {EVALUATED} LIMIT ?2)"
    );
    db.execute(&sql, params![old, i64::try_from(BATCH).unwrap_or(i64::MAX)])
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{at, check, put, sample, state};
    use super::super::*;
    use super::*;
    use crate::exit::Level;
    use serde_json::json;

    const NOW: &str = "2026-11-22T12:34:00Z";

    /// The numbers of all check results.
    fn left(state: &State) -> Vec<i64> {
        checks_after(state, 0).unwrap().iter().map(|stored| stored.id).collect()
    }

    fn evaluated(state: &State, fact: i64) {
        state.set_cursor("alert", &json!({ "fact": fact }).to_string()).unwrap();
    }

    #[test]
    fn old_samples_become_hours_once_and_very_old_ones_go() {
        let (_dir, state) = state();
        let now = at(NOW);
        let old = at("2026-11-01T10:00:00Z");
        let ancient = at("2025-01-01T00:00:00Z");
        let values = [(old, 1.0), (old + TimeDelta::minutes(59), 4.0), (old + TimeDelta::minutes(60), 7.0)];
        let mut all: Vec<_> = values.iter().map(|&(at, value)| sample(at, value)).collect();
        all.extend([sample(ancient, 9.0), sample(now, 2.0)]);
        put(&state, vec![], all);
        for _ in 0..2 {
            compact(&state, now).unwrap();
            let hours = hourly(&state, "disk", "/", "used", ancient, now).unwrap();
            let expected =
                [Point { at: old, value: 2.5 }, Point { at: old + TimeDelta::hours(1), value: 7.0 }];
            assert_eq!(hours, expected);
            let raw = samples(&state, "disk", "/", "used", ancient, now + TimeDelta::seconds(1));
            assert_eq!(raw.unwrap(), [Point { at: now, value: 2.0 }]);
        }
    }

    #[test]
    fn numbers_of_check_results_do_not_come_back() {
        let (_dir, state) = state();
        let old = at("2020-01-01T00:00:00Z");
        put(&state, vec![check("a", old, Level::Ok), check("a", old, Level::Ok)], vec![]);
        state.write(|db| db.execute("DELETE FROM check_result", [])).unwrap();
        put(&state, vec![check("a", old, Level::Ok)], vec![]);
        assert_eq!(left(&state), [3]);
    }

    #[test]
    fn the_last_result_heartbeat_and_runs_of_each_stay_however_old() {
        let (_dir, state) = state();
        let (old, later) = (at("2020-01-01T00:00:00Z"), at("2020-01-02T00:00:00Z"));
        for time in [old, later] {
            put(&state, vec![check("a", time, Level::Ok), check("b", time, Level::Critical)], vec![]);
            beat(&state, "nightly", time).unwrap();
            for exit in [0, 1] {
                let sql = "INSERT INTO run (tool, job, started, exit, pid, host) VALUES ('backup', 'data', ?1, ?2, 1, 'h')";
                state.write(|db| db.execute(sql, params![nanos(time), exit])).unwrap();
            }
        }
        compact(&state, at(NOW)).unwrap();
        assert_eq!(left(&state), [3, 4]);
        assert_eq!(last_beat(&state, "nightly").unwrap(), Some(later));
        let count = |table| {
            let sql = format!("SELECT count(*) FROM {table}");
            state.with(|db| db.query_row(&sql, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        assert_eq!((count("heartbeat"), count("run")), (1, 2));
    }

    #[test]
    fn what_alerts_have_not_evaluated_stays() {
        let (_dir, state) = state();
        let old = at("2020-01-01T00:00:00Z");
        put(
            &state,
            (0..5).map(|minute| check("a", old + TimeDelta::minutes(minute), Level::Ok)).collect(),
            vec![],
        );
        evaluated(&state, 2);
        compact(&state, at(NOW)).unwrap();
        assert_eq!(left(&state), [3, 4, 5]);
    }

    #[test]
    fn after_two_weeks_only_changes_of_level_stay() {
        let (_dir, state) = state();
        let old = at("2026-11-01T00:00:00Z");
        let levels =
            [Level::Ok, Level::Ok, Level::Ok, Level::Critical, Level::Critical, Level::Ok, Level::Ok];
        let mut checks = Vec::new();
        for (minute, level) in (0..).zip(levels) {
            checks.push(check("a", old + TimeDelta::minutes(minute), level));
        }
        // More than one batch, about another target.
        let many = i64::try_from(BATCH).unwrap() * 2;
        checks.extend((0..many).map(|second| check("b", old + TimeDelta::seconds(second), Level::Warning)));
        checks.extend([check("c", at(NOW), Level::Ok), check("c", at(NOW), Level::Ok)]);
        put(&state, checks, vec![]);
        compact(&state, at(NOW)).unwrap();
        assert_eq!(left(&state), [1, 4, 6, 7, 8, 7 + many, 8 + many, 9 + many]);
    }
}
