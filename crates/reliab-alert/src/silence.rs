//! Silences: a time in which somebody asked not to be told.

use chrono::{DateTime, Utc};
use reliab_common::state::{State, StateError, nanos, time};
use rusqlite::{Row, params};
use serde::Serialize;

use crate::pattern::Pattern;
use crate::zone::Window;

/// A silence as the state has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Its number.
    pub id: i64,
    /// A pattern on subjects and names of rules.
    pub matching: String,
    /// When it begins.
    pub since: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: String,
}

/// Everything that may hold messages back.
#[derive(Clone, Copy, Debug)]
pub struct Quiet<'a> {
    /// What people asked for.
    pub silences: &'a [Silence],
    /// What the configuration says.
    pub windows: &'a [Window],
}

impl Quiet<'_> {
    /// What holds back messages on this at `time`.
    pub fn over(&self, rule: &str, subject: &str, time: DateTime<Utc>) -> Option<String> {
        let fits = |pattern: &Pattern| pattern.matches(subject) || pattern.matches(rule);
        let silence = self.silences.iter().find(|silence| {
            silence.since <= time && time < silence.until && fits(&Pattern::new(&silence.matching))
        });
        if let Some(silence) = silence {
            return Some(format!("silence {} by {}: {}", silence.id, silence.by, silence.reason));
        }
        let window = self.windows.iter().find(|window| fits(&window.matching) && window.is_open(time));
        window.map(|window| format!("maintenance {}", window.name))
    }
}

/// All silences that end after `time`, in the order of their numbers.
pub fn since(state: &State, time: DateTime<Utc>) -> Result<Vec<Silence>, StateError> {
    let sql = "SELECT id, matching, since, until, reason, by FROM silence WHERE until > ?1 ORDER BY id";
    state.with(|db| db.prepare(sql)?.query_map([nanos(time)], silence)?.collect())
}

fn silence(row: &Row<'_>) -> rusqlite::Result<Silence> {
    Ok(Silence {
        id: row.get(0)?,
        matching: row.get(1)?,
        since: time(row.get(2)?),
        until: time(row.get(3)?),
        reason: row.get(4)?,
        by: row.get(5)?,
    })
}

/// Stores a silence, whose number is given back.
pub fn add(state: &State, silence: &Silence) -> Result<i64, StateError> {
    let sql = "INSERT INTO silence (matching, since, until, reason, by) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Silence { matching, since, until, reason, by, .. } = silence;
    state.write(|db| {
        db.execute(sql, params![matching, nanos(*since), nanos(*until), reason, by])?;
        Ok(db.last_insert_rowid())
    })
}

/// Ends a silence; `false` if there is none of this number that has not ended.
pub fn end(state: &State, id: i64, now: DateTime<Utc>) -> Result<bool, StateError> {
    let sql = "UPDATE silence SET until = ?2 WHERE id = ?1 AND until > ?2";
    state.write(|db| db.execute(sql, params![id, nanos(now)])).map(|changed| changed > 0)
}
