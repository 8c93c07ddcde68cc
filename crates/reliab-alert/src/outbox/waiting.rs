//! What each channel waits to be sent first.

use chrono::{DateTime, Utc};
use reliab_common::state::{StateError, nanos, time};

use super::{Outbox, SINCE, latest_due};

/// The message that a channel is owed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The channel.
    pub channel: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// Not before this time it is tried again.
    pub due: DateTime<Utc>,
    /// Whether the channel did not take it when it was tried last.
    pub failed: bool,
}

impl Waiting {
    /// Whether it was tried and waits for the time of its next attempt.
    pub fn is_tried(&self, now: DateTime<Utc>) -> bool {
        self.failed && self.due > now && self.due <= latest_due(now)
    }
}

impl Outbox<'_> {
    /// The first message of each channel that is owed one, by name.
    pub fn waiting(&self, now: DateTime<Utc>) -> Result<Vec<Waiting>, StateError> {
        let sql = format!(
            "SELECT channel, {SINCE}, due, error IS NOT NULL FROM notification AS n WHERE id IN
             (SELECT min(id) FROM notification WHERE state = 'owed' GROUP BY channel) ORDER BY channel"
        );
        self.state.with(|db| {
            let waiting = |row: &rusqlite::Row<'_>| {
                let (since, due) = (time(row.get(1)?), time(row.get(2)?));
                Ok(Waiting { channel: row.get(0)?, since, due, failed: row.get(3)? })
            };
            db.prepare(&sql)?.query_map([nanos(now)], waiting)?.collect()
        })
    }
}
