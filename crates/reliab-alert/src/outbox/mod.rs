//! The outbox: messages that are owed, kept in the state file until a channel has taken them.
//!
//! Each step is one short transaction, and none is open while a message is sent. An attempt is written down before it
//! begins and again when it has ended: whoever is killed in between leaves a message that is still owed, and the next
//! attempt sends it with the same key.

mod backoff;
mod behind;
mod failing;
mod health;
mod progress;
mod reminder;
mod waiting;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::state::{State, StateError, nanos, time};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::message::Message;

pub use backoff::{ASTRAY, LONGEST_WAIT, last_wait, latest_due, wait};
pub use failing::Failing;
pub use progress::Progress;
pub use waiting::Waiting;

/// How long messages that are no longer owed are kept.
const KEPT: TimeDelta = TimeDelta::days(400);

/// A message that is owed.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Its number, which gives the order.
    pub id: i64,
    /// The name of the channel.
    pub channel: String,
    /// The idempotency key.
    pub key: String,
    /// What it says, or why that cannot be read.
    pub message: Result<Message, String>,
    /// Since when it is owed.
    pub owed: DateTime<Utc>,
    /// Not before this time.
    pub due: DateTime<Utc>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// How far the attempts came.
    pub progress: Progress,
    /// Why the last of them failed.
    pub error: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The channel took the message.
    Delivered {
        /// What it said.
        receipt: String,
    },
    /// It is tried again.
    Passing {
        /// What happened.
        error: String,
        /// Not before this time.
        due: DateTime<Utc>,
        /// How far it came.
        progress: Progress,
        /// The message that tells of it by another channel.
        report: Option<Report>,
    },
    /// It is not tried again.
    Refused {
        /// What happened.
        error: String,
        /// The message that tells of it by another channel.
        report: Option<Report>,
    },
}

/// A message about one that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The channel that is to deliver it.
    pub channel: String,
    /// Its key.
    pub key: String,
    /// What it says.
    pub message: Message,
}

impl Report {
    /// The key of a report by `channel` about the message with the key `about`, of which there is one at most.
    pub fn key(channel: &str, about: &str) -> String {
        format!("undeliverable:{channel}:{about}")
    }

    /// What a report on all that waits in a channel, up to a number, is about; without a number, the beginning of that.
    pub fn waiting(channel: &str, last: Option<i64>) -> String {
        // With all digits, so that keys stand in the order of their numbers.
        last.map_or_else(|| format!("waiting:{channel}:"), |last| format!("waiting:{channel}:{last:019}"))
    }

    /// The channel that a report on all that waits in one is about.
    pub fn waits_in(root: &str) -> Option<&str> {
        root.strip_prefix("waiting:")?.rsplit_once(':').map(|(channel, _)| channel)
    }

    /// The key of the message that a chain of reports began with.
    pub fn root<'a>(channel: &str, key: &'a str) -> &'a str {
        key.strip_prefix(&Self::key(channel, "")).unwrap_or(key)
    }
}

/// The messages in a state file.
#[derive(Clone, Copy)]
pub struct Outbox<'a> {
    state: &'a State,
    reached: &'a dyn Fn(Point),
}

/// A point in the delivery of a message, at which a test may end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The attempt is not written yet.
    Begin,
    /// It is written, but not durable.
    BeginWritten,
    /// It is durable; the message is sent next.
    Begun,
    /// The channel has answered, or failed.
    Sent,
    /// How it ended is written, but not durable.
    EndWritten,
    /// That is durable too.
    Ended,
}

impl Point {
    /// Every point, in the order in which they are reached.
    pub const ALL: [Self; 6] =
        [Self::Begin, Self::BeginWritten, Self::Begun, Self::Sent, Self::EndWritten, Self::Ended];
}

/// Since when a message waits as of `?1`: what a clock that was ahead dated into the future, at least since it was first
/// tried by a right one.
pub(crate) const SINCE: &str = "CASE WHEN owed <= ?1 THEN owed ELSE
    coalesce((SELECT min(at) FROM attempt WHERE notification = n.id AND at <= ?1), ?1) END";

const OWED: &str = "SELECT id, channel, key, message, owed, due, attempts, error,
    CASE WHEN json_valid(message) THEN json_extract(message, '$.progress') END
    FROM notification WHERE state = 'owed'";

impl<'a> Outbox<'a> {
    /// The outbox in `state`, which tells `reached` of every point that it passes.
    pub fn new(state: &'a State, reached: &'a dyn Fn(Point)) -> Self {
        Self { state, reached }
    }

    /// The channels that are owed a message, by name.
    pub fn channels(&self) -> Result<Vec<String>, StateError> {
        let sql = "SELECT DISTINCT channel FROM notification WHERE state = 'owed' ORDER BY channel";
        self.state.with(|db| db.prepare(sql)?.query_map([], |row| row.get(0))?.collect())
    }

    /// The message that a channel is owed next, after the one with the number `after`.
    pub fn head(&self, channel: &str, after: i64) -> Result<Option<Owed>, StateError> {
        let sql = format!("{OWED} AND channel = ?1 AND id > ?2 ORDER BY id LIMIT 1");
        self.state.with(|db| db.prepare_cached(&sql)?.query_row(params![channel, after], owed).optional())
    }

    /// Writes down that an attempt begins and gives its number; nobody else begins one before `until`.
    ///
    /// Gives nothing where somebody else was quicker.
    pub fn begin(
        &self,
        owed: &Owed,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<i64>, StateError> {
        (self.reached)(Point::Begin);
        let attempt = self.state.write(|db| {
            let claimed = db.execute(
                "UPDATE notification SET attempts = attempts + 1, due = ?3
                 WHERE id = ?1 AND state = 'owed' AND attempts = ?2",
                params![owed.id, owed.attempts, nanos(until)],
            )?;
            if claimed == 0 {
                return Ok(None);
            }
            db.execute(
                "INSERT INTO attempt (notification, at, outcome, detail) VALUES (?1, ?2, 'begun', '')",
                params![owed.id, nanos(now)],
            )?;
            let attempt = db.last_insert_rowid();
            (self.reached)(Point::BeginWritten);
            Ok(Some(attempt))
        })?;
        (self.reached)(Point::Begun);
        Ok(attempt)
    }

    /// Writes down how an attempt ended; with a report, both or neither.
    pub fn end(
        &self,
        owed: &Owed,
        attempt: i64,
        ended: &Ended,
        now: DateTime<Utc>,
    ) -> Result<(), StateError> {
        self.state.write(|db| {
            store_end(db, owed, attempt, ended, now)?;
            (self.reached)(Point::EndWritten);
            Ok(())
        })?;
        (self.reached)(Point::Ended);
        Ok(())
    }

    /// The number and the channel of the message with this key.
    pub fn known(&self, key: &str) -> Result<Option<(i64, String)>, StateError> {
        let sql = "SELECT id, channel FROM notification WHERE key = ?1";
        self.state.with(|db| db.query_row(sql, [key], |row| Ok((row.get(0)?, row.get(1)?))).optional())
    }

    /// Owes a report about the message with the number `about`.
    pub fn owe(&self, about: i64, report: &Report, now: DateTime<Utc>) -> Result<(), StateError> {
        self.state.write(|db| store_report(db, about, report, now).map(drop))
    }

    /// Drops messages that ended long ago.
    pub fn forget(&self, now: DateTime<Utc>) -> Result<(), StateError> {
        let old = nanos(now - KEPT);
        let gone = "SELECT id FROM notification WHERE state != 'owed' AND ended < ?1";
        let any = self.state.with(|db| db.prepare_cached(gone)?.exists([old]))?;
        if !any {
            return Ok(());
        }
        self.state.write(|db| {
            for table in ["attempt", "notification_incident"] {
                db.execute(&format!("DELETE FROM {table} WHERE notification IN ({gone})"), [old])?;
            }
            db.execute("DELETE FROM notification WHERE state != 'owed' AND ended < ?1", [old]).map(drop)
        })
    }
}

fn owed(row: &Row<'_>) -> rusqlite::Result<Owed> {
    let message: String = row.get(3)?;
    Ok(Owed {
        id: row.get(0)?,
        channel: row.get(1)?,
        key: row.get(2)?,
        message: serde_json::from_str(&message).map_err(|error| error.to_string()),
        owed: time(row.get(4)?),
        due: time(row.get(5)?),
        attempts: row.get(6)?,
        error: row.get(7)?,
        progress: Progress::of(row.get::<_, Option<String>>(8)?.as_deref()),
    })
}

fn store_end(
    db: &Connection,
    owed: &Owed,
    attempt: i64,
    ended: &Ended,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let (outcome, detail) = match ended {
        Ended::Delivered { receipt } => ("delivered", receipt),
        Ended::Passing { error, .. } => ("passing", error),
        Ended::Refused { error, .. } => ("permanent", error),
    };
    db.execute(
        "UPDATE attempt SET outcome = ?2, detail = ?3 WHERE id = ?1",
        params![attempt, outcome, detail],
    )?;
    match ended {
        Ended::Delivered { .. } => finish(db, owed.id, "delivered", now, None),
        Ended::Passing { error, due, progress, report } => {
            db.execute(
                "UPDATE notification SET due = ?2, error = ?3 WHERE id = ?1",
                params![owed.id, nanos(*due), error],
            )?;
            progress.store(db, owed.id)?;
            report.as_ref().map_or(Ok(()), |report| store_report(db, owed.id, report, now).map(drop))
        }
        Ended::Refused { error, report } => {
            finish(db, owed.id, "refused", now, Some(error))?;
            report.as_ref().map_or(Ok(()), |report| store_report(db, owed.id, report, now).map(drop))
        }
    }
}

fn finish(
    db: &Connection,
    id: i64,
    state: &str,
    now: DateTime<Utc>,
    error: Option<&String>,
) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE notification SET state = ?2, ended = ?3, error = ?4 WHERE id = ?1",
        params![id, state, nanos(now), error],
    )
    .map(drop)
}

/// Owes a report to its channel, about the same incidents; one that was owed before is not owed again, and gives false.
fn store_report(db: &Connection, about: i64, report: &Report, now: DateTime<Utc>) -> rusqlite::Result<bool> {
    let Ok(message) = serde_json::to_string(&report.message) else { return Ok(false) };
    let stored = db.execute(
        "INSERT OR IGNORE INTO notification (channel, kind, key, message, owed, due, state)
         VALUES (?1, 'undeliverable', ?2, ?3, ?4, ?4, 'owed')",
        params![report.channel, report.key, message, nanos(now)],
    )?;
    if stored == 0 {
        return Ok(false);
    }
    db.execute(
        "INSERT INTO notification_incident (notification, incident)
         SELECT ?1, incident FROM notification_incident WHERE notification = ?2",
        [db.last_insert_rowid(), about],
    )
    .map(|_| true)
}
