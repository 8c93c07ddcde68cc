//! Since when a channel has taken nothing.

use chrono::{DateTime, Utc};
use reliab_common::state::{StateError, nanos, time};
use rusqlite::params;

use super::{Outbox, Owed};

/// A time in which a channel takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The first attempt that failed.
    pub since: DateTime<Utc>,
    /// When a message was last delivered before that, in nanoseconds since 1970: this names the failing time.
    pub after: i64,
}

impl Outbox<'_> {
    /// Since when the channel of `head` has taken nothing; attempts of a clock that was ahead do not count.
    pub fn failing(&self, head: &Owed, now: DateTime<Utc>) -> Result<Option<Failing>, StateError> {
        let delivered =
            "SELECT coalesce(max(ended), 0) FROM notification WHERE channel = ?1 AND state = 'delivered'";
        let first = "SELECT min(a.at) FROM attempt AS a JOIN notification AS n ON n.id = a.notification
                     WHERE n.channel = ?1 AND n.kind != 'test' AND a.outcome IN ('begun', 'passing')
                     AND a.at <= ?2 AND (a.at > ?3 OR n.id = ?4)";
        self.state.with(|db| {
            let after: i64 = db.query_row(delivered, [&head.channel], |row| row.get(0))?;
            let found = params![head.channel, nanos(now), after, head.id];
            let since: Option<i64> = db.query_row(first, found, |row| row.get(0))?;
            Ok(since.map(|since| Failing { since: time(since), after }))
        })
    }

    /// Whether a channel is owed a message that it did not take when it was tried last.
    pub fn has_failed(&self, channel: &str) -> Result<bool, StateError> {
        let sql = "SELECT 1 FROM notification WHERE channel = ?1 AND state = 'owed' AND error IS NOT NULL";
        self.state.with(|db| db.prepare_cached(sql)?.exists([channel]))
    }
}
