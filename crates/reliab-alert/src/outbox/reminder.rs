//! Reminders that a later one makes needless.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use reliab_common::state::{StateError, nanos};
use rusqlite::params;

use super::{OWED, Outbox, Owed, owed};

impl Outbox<'_> {
    /// Ends the reminders on a channel for whose incidents a later one is owed there; what is being sent is left.
    pub fn replace_reminders(&self, channel: &str, now: DateTime<Utc>) -> Result<(), StateError> {
        let sql = format!("{OWED} AND channel = ?1 AND kind = 'reminder' ORDER BY id");
        let reminders: Vec<Owed> =
            self.state.with(|db| db.prepare_cached(&sql)?.query_map([channel], owed)?.collect())?;
        let replaced = replaced(&reminders);
        if replaced.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE notification SET state = 'replaced', ended = ?2
                   WHERE id = ?1 AND state = 'owed' AND due <= ?2";
        self.state
            .write(|db| replaced.iter().try_for_each(|id| db.execute(sql, params![id, nanos(now)]).map(drop)))
    }
}

/// The numbers of those whose incidents are all in a later one.
fn replaced(reminders: &[Owed]) -> Vec<i64> {
    let mut later: Vec<BTreeSet<i64>> = Vec::new();
    let mut replaced = Vec::new();
    for reminder in reminders.iter().rev() {
        let Ok(message) = &reminder.message else { continue };
        let incidents: BTreeSet<i64> = message.incidents.iter().map(|one| one.id).collect();
        if later.iter().any(|known| incidents.is_subset(known)) {
            replaced.push(reminder.id);
        } else {
            later.push(incidents);
        }
    }
    replaced
}
