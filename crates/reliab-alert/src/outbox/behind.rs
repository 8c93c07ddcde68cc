//! What waits behind the message that a channel is owed first, and how far another channel has told of it.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::state::{StateError, nanos};
use rusqlite::{OptionalExtension as _, params};

use super::{OWED, Outbox, Owed, Report, owed, store_report};

/// From this age of its first attempt on a message that fails no longer keeps those behind it from being tried.
const HELD: TimeDelta = TimeDelta::hours(24);
/// As many attempts take more than an hour: a machine that was off for a day has not tried.
const TRIED: u32 = 12;
/// So many messages one report tells of at most; the next report goes on behind them.
const AT_ONCE: i64 = 20_000;

impl Outbox<'_> {
    /// The messages behind number `after`, but for reports on what others did not take.
    pub fn behind(&self, channel: &str, after: i64) -> Result<Vec<Owed>, StateError> {
        let sql = format!(
            "{OWED} AND channel = ?1 AND id > ?2 AND kind != 'undeliverable' ORDER BY id LIMIT {AT_ONCE}"
        );
        self.state.with(|db| db.prepare_cached(&sql)?.query_map(params![channel, after], owed)?.collect())
    }

    /// The report on what another channel did not take that stands next behind number `after`.
    pub fn report_behind(&self, channel: &str, after: i64) -> Result<Option<Owed>, StateError> {
        let sql =
            format!("{OWED} AND channel = ?1 AND id > ?2 AND kind = 'undeliverable' ORDER BY id LIMIT 1");
        self.state.with(|db| db.prepare_cached(&sql)?.query_row(params![channel, after], owed).optional())
    }

    /// Up to which number `teller` has told of what waits in `channel`.
    pub fn told_up_to(&self, teller: &str, channel: &str) -> Result<i64, StateError> {
        let prefix = Report::key(teller, &Report::waiting(channel, None));
        let sql = "SELECT max(key) FROM notification WHERE key >= ?1 AND key < ?1 || ':'";
        let key: Option<String> = self.state.with(|db| db.query_row(sql, [&prefix], |row| row.get(0)))?;
        Ok(key.and_then(|key| key.strip_prefix(&prefix)?.parse().ok()).unwrap_or_default())
    }

    /// Owes a report about all messages of a channel from `first` to `last`.
    pub fn owe_about(
        &self,
        channel: &str,
        (first, last): (i64, i64),
        report: &Report,
        now: DateTime<Utc>,
    ) -> Result<(), StateError> {
        self.state.write(|db| {
            if !store_report(db, first, report, now)? {
                return Ok(());
            }
            db.execute(
                "INSERT OR IGNORE INTO notification_incident (notification, incident)
                 SELECT (SELECT id FROM notification WHERE key = ?1), link.incident
                 FROM notification AS n JOIN notification_incident AS link ON link.notification = n.id
                 WHERE n.state = 'owed' AND n.channel = ?2 AND n.id BETWEEN ?3 AND ?4",
                params![report.key, channel, first, last],
            )
            .map(drop)
        })
    }

    /// Whether a message was tried again and again for a day, and was not taken.
    pub fn is_held(&self, head: &Owed, now: DateTime<Utc>) -> Result<bool, StateError> {
        if head.error.is_none() || head.attempts < TRIED {
            return Ok(false);
        }
        let sql = "SELECT min(at) FROM attempt WHERE notification = ?1 AND at <= ?2";
        let first: Option<i64> =
            self.state.with(|db| db.query_row(sql, params![head.id, nanos(now)], |row| row.get(0)))?;
        Ok(first.is_some_and(|first| first <= nanos(now - HELD)))
    }

    /// Whether its channel has taken a later message than this one: then not the channel is at fault.
    pub fn is_overtaken(&self, head: &Owed) -> Result<bool, StateError> {
        let sql = "SELECT 1 FROM notification
                   WHERE state = 'delivered' AND channel = ?1 AND id > ?2 AND kind != 'test'";
        self.state.with(|db| db.prepare_cached(sql)?.exists(params![head.channel, head.id]))
    }
}
