//! The evaluation's world in the state: read as it stands, written in one transaction with all that follows from it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use reliab_common::state::{State, StateError, nanos, time};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::evaluate::{FLAP_MEMORY, Memory, Notification, World};
use crate::history;
use crate::incident::{Incident, Life};

/// The name of the evaluation's cursor.
const CURSOR: &str = "alert";

const COLUMNS: &str =
    "id, rule, subject, state, level, summary, began, opened, closed, acknowledged, cause, memory";

/// The world as it stands, and the cursor by which a change by another process is found out.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The world.
    pub world: World,
    before: BTreeMap<i64, Incident>,
    cursor: Option<String>,
}

/// Reads the world as of `now`.
pub fn load(state: &State, now: DateTime<Utc>) -> Result<Loaded, StateError> {
    state.with(|db| {
        // One transaction, so that cursor and incidents belong together.
        let reading = db.unchecked_transaction()?;
        let cursor = history::cursor(&reading, CURSOR)?;
        let mut memory: Memory = cursor.as_deref().map(json).transpose()?.unwrap_or_default();
        let mind = memory.evaluated.unwrap_or(now).min(now) - FLAP_MEMORY;
        let sql = format!(
            "SELECT {COLUMNS} FROM incident WHERE state != 'closed' OR closed >= ?1
             OR json_extract(memory, '$.done') = 0 ORDER BY id"
        );
        let incidents: Vec<Incident> =
            reading.prepare(&sql)?.query_map([nanos(mind)], incident)?.collect::<Result<_, _>>()?;
        let before = incidents.iter().map(|incident| (incident.id, incident.clone())).collect();
        let last = "SELECT seq FROM sqlite_sequence WHERE name = 'incident'";
        let last: Option<i64> = reading.query_row(last, [], |row| row.get(0)).optional()?;
        memory.next = memory.next.max(last.unwrap_or(0) + 1);
        Ok(Loaded { world: World::new(incidents, memory), before, cursor })
    })
}

/// Writes the world and what is owed, all or nothing; `false` if another process evaluated meanwhile.
pub fn save(state: &State, loaded: &Loaded, owed: &[Notification]) -> Result<bool, StateError> {
    let Loaded { world, before, cursor } = loaded;
    state.write(|db| {
        if history::cursor(db, CURSOR)? != *cursor {
            return Ok(false);
        }
        // An incident may stand before the one that explains it; what counts is that both are there in the end.
        db.pragma_update(None, "defer_foreign_keys", true)?;
        let changed = |incident: &&Incident| before.get(&incident.id) != Some(*incident);
        world
            .incidents
            .iter()
            .chain(&world.past)
            .filter(changed)
            .try_for_each(|incident| put(db, incident))?;
        world.dropped.iter().try_for_each(|&id| forget(db, id))?;
        owed.iter().try_for_each(|notification| owe(db, notification))?;
        let text = serde_json::to_string(&world.memory).map_err(not_json)?;
        let sql =
            "INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        db.execute(sql, params![CURSOR, text])?;
        Ok(true)
    })
}

/// Adds an incident, or changes all of it but who acknowledged it: that is for people to say.
fn put(db: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO incident ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, level = excluded.level, summary = excluded.summary,
             began = excluded.began, opened = excluded.opened, closed = excluded.closed, cause = excluded.cause, memory = excluded.memory"
    );
    db.prepare_cached(&sql)?
        .execute(params![
            incident.id,
            incident.rule,
            incident.subject,
            incident.life.name(),
            incident.level.code(),
            incident.summary,
            nanos(incident.began),
            incident.opened.map(nanos),
            incident.closed.map(nanos),
            incident.acknowledged,
            incident.cause,
            serde_json::to_string(&incident.memory).map_err(not_json)?
        ])
        .map(drop)
}

/// Forgets an incident that was never confirmed.
fn forget(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.execute("UPDATE incident SET cause = NULL WHERE cause = ?1", [id])?;
    db.execute("DELETE FROM incident WHERE id = ?1", [id]).map(drop)
}

fn owe(db: &Connection, notification: &Notification) -> rusqlite::Result<()> {
    let message = &notification.message;
    let text = serde_json::to_string(message).map_err(not_json)?;
    db.prepare_cached(
        "INSERT INTO notification (channel, kind, key, message, owed, due, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, 'owed')",
    )?
    .execute(params![
        notification.channel,
        message.kind.name(),
        notification.key,
        text,
        nanos(message.owed)
    ])?;
    let id = db.last_insert_rowid();
    let mut link = db.prepare_cached("INSERT INTO notification_incident VALUES (?1, ?2)")?;
    message.incidents.iter().try_for_each(|incident| link.execute(params![id, incident.id]).map(drop))
}

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let life: String = row.get(3)?;
    let memory: String = row.get(11)?;
    Ok(Incident {
        id: row.get(0)?,
        rule: row.get(1)?,
        subject: row.get(2)?,
        life: Life::named(&life).unwrap_or(Life::Closed),
        level: Level::from_code(row.get(4)?).unwrap_or(Level::Unknown),
        summary: row.get(5)?,
        began: time(row.get(6)?),
        opened: row.get::<_, Option<i64>>(7)?.map(time),
        closed: row.get::<_, Option<i64>>(8)?.map(time),
        acknowledged: row.get(9)?,
        cause: row.get(10)?,
        memory: json(&memory)?,
    })
}

/// The incidents that are pending or open, and those that were open at or after `since`, in the order of their numbers.
pub fn incidents(state: &State, since: Option<DateTime<Utc>>) -> Result<Vec<Incident>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM incident WHERE state != 'closed' OR closed >= ?1 ORDER BY id");
    state.with(|db| db.prepare(&sql)?.query_map([since.map(nanos)], incident)?.collect())
}

/// The incident of this number.
pub fn one(state: &State, id: i64) -> Result<Option<Incident>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM incident WHERE id = ?1");
    state.with(|db| db.query_row(&sql, [id], incident).optional())
}

/// Notes that an incident is known to somebody; `false` if there is none of this number that is not over.
pub fn acknowledge(state: &State, id: i64, by: &str) -> Result<bool, StateError> {
    let sql = "UPDATE incident SET acknowledged = ?2 WHERE id = ?1 AND state != 'closed'";
    state.write(|db| db.execute(sql, params![id, by])).map(|changed| changed > 0)
}

/// Forgets incidents and silences that were over before `old` and that no message tells of.
pub fn forget_before(state: &State, old: DateTime<Utc>) -> Result<(), StateError> {
    let gone = "SELECT id FROM incident WHERE state = 'closed' AND closed < ?1
                AND id NOT IN (SELECT incident FROM notification_incident)";
    state.write(|db| {
        db.execute(&format!("UPDATE incident SET cause = NULL WHERE cause IN ({gone})"), [nanos(old)])?;
        db.execute(&format!("DELETE FROM incident WHERE id IN ({gone})"), [nanos(old)])?;
        db.execute("DELETE FROM silence WHERE until < ?1", [nanos(old)]).map(drop)
    })
}

/// What the last evaluation left.
pub fn memory(state: &State) -> Result<Memory, StateError> {
    state.with(|db| Ok(history::cursor(db, CURSOR)?.as_deref().map(json).transpose()?.unwrap_or_default()))
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

fn not_json(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
