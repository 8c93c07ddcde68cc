//! How far a message came that takes many requests.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// What of a message needs not be sent again; kept in the message, so that the next attempt goes on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many of its requests were answered for good.
    pub sent: usize,
    /// How many of these the service refused.
    pub refused: usize,
    /// What it said to the first that it refused.
    pub error: String,
}

impl Progress {
    /// The progress as it was stored; none where that cannot be read, so that all is sent.
    pub(super) fn of(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub(super) fn store(&self, db: &Connection, id: i64) -> rusqlite::Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let text = serde_json::to_string(self).unwrap_or_default();
        let sql = "UPDATE notification SET message = json_set(message, '$.progress', json(?2))
                   WHERE id = ?1 AND json_valid(message)";
        db.execute(sql, params![id, text]).map(drop)
    }
}
