//! How the outbox is: the length of its queues and the age of what waits in them.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::fact::{CheckResult, Facts, Sample};
use reliab_common::state::{StateError, nanos, time};
use reliab_common::units;
use rusqlite::Row;
use serde_json::{Map, json};

use super::{Outbox, SINCE};

/// From this age of the oldest message the outbox is no longer healthy.
const SLOW: TimeDelta = TimeDelta::minutes(10);
/// And from this age it is stuck.
const STUCK: TimeDelta = TimeDelta::hours(1);
/// For so long a message that was refused, and that no other channel reports, is told by the check.
const REFUSED_SHOWN: TimeDelta = TimeDelta::days(1);

impl Outbox<'_> {
    /// The length of the queue and the age of its oldest message, as facts for rules and status.
    pub fn facts(&self, now: DateTime<Utc>) -> Result<Facts, StateError> {
        let queues = self.queues(now)?;
        let refused = self.refused_unreported(now - REFUSED_SHOWN)?;
        let length: u32 = queues.iter().map(|queue| queue.length).sum();
        let oldest =
            queues.iter().map(|queue| now - queue.oldest).max().unwrap_or_default().max(TimeDelta::zero());
        let level = if oldest >= STUCK || refused > 0 {
            Level::Critical
        } else if oldest >= SLOW {
            Level::Warning
        } else {
            Level::Ok
        };
        let check = CheckResult {
            source: "alert".into(),
            target: "outbox".into(),
            at: now,
            level,
            summary: summary(length, oldest, refused),
            detail: detail(&queues, now, refused),
        };
        let sample = |figure: &str, unit, value| {
            let (source, target, figure) = ("alert".into(), "outbox".into(), figure.into());
            Sample { source, target, figure, unit, at: now, value }
        };
        let samples = vec![
            sample("queue", "1", f64::from(length)),
            sample("oldest_seconds", "s", oldest.to_std().unwrap_or_default().as_secs_f64()),
        ];
        Ok(Facts { checks: vec![check], samples })
    }

    fn queues(&self, now: DateTime<Utc>) -> Result<Vec<Queue>, StateError> {
        // Beside a single min() SQLite gives the other columns of the row that has it.
        let sql = format!(
            "SELECT channel, count(*), min(since), error FROM
             (SELECT channel, error, {SINCE} AS since FROM notification AS n WHERE state = 'owed')
             GROUP BY channel ORDER BY channel"
        );
        self.state.with(|db| db.prepare(&sql)?.query_map([nanos(now)], queue)?.collect())
    }

    /// How many messages were refused since then of which no other channel tells.
    fn refused_unreported(&self, since: DateTime<Utc>) -> Result<u32, StateError> {
        let sql = "SELECT count(*) FROM notification AS n
                   WHERE state = 'refused' AND kind NOT IN ('test', 'undeliverable') AND ended >= ?1
                   AND NOT EXISTS (SELECT 1 FROM notification AS report WHERE report.state != 'refused'
                       AND report.key = 'undeliverable:' || report.channel || ':' || n.key)";
        self.state.with(|db| db.query_row(sql, [nanos(since)], |row| row.get(0)))
    }
}

/// What a channel is owed.
struct Queue {
    channel: String,
    length: u32,
    oldest: DateTime<Utc>,
    error: Option<String>,
}

fn queue(row: &Row<'_>) -> rusqlite::Result<Queue> {
    Ok(Queue { channel: row.get(0)?, length: row.get(1)?, oldest: time(row.get(2)?), error: row.get(3)? })
}

fn summary(length: u32, oldest: TimeDelta, refused: u32) -> String {
    let mut parts = Vec::new();
    if length > 0 {
        let messages = if length == 1 { "message" } else { "messages" };
        let age = units::duration(oldest.to_std().unwrap_or_default());
        parts.push(format!("{length} {messages} owed, the oldest for {age}"));
    }
    if refused > 0 {
        let messages = if refused == 1 { "message" } else { "messages" };
        parts.push(format!("{refused} {messages} refused that no other channel tells of"));
    }
    if parts.is_empty() { "nothing owed".into() } else { parts.join(", ") }
}

fn detail(queues: &[Queue], now: DateTime<Utc>, refused: u32) -> serde_json::Value {
    let of = |queue: &Queue| {
        let oldest = (now - queue.oldest).to_std().unwrap_or_default().as_secs_f64();
        json!({ "queue": queue.length, "oldest_seconds": oldest, "error": queue.error })
    };
    let channels: Map<_, _> = queues.iter().map(|queue| (queue.channel.clone(), of(queue))).collect();
    json!({ "channels": channels, "refused": refused })
}
