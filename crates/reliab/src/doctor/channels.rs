//! Channels: would anybody be told?

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reliab_common::state::{State, StateError, time};
use reliab_common::units::rough;

use super::Patient;
use super::finding::Finding;
use super::state::told;

/// A message that waits for longer than this does not get through.
const WAITS_LONG: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// What the outbox knows of a channel.
#[derive(Debug, Default)]
struct Past {
    delivered: Option<DateTime<Utc>>,
    owed_since: Option<DateTime<Utc>>,
    error: Option<String>,
    /// The error of the newest message that ended, if it was refused.
    refused: Option<String>,
}

/// Asks each configured channel when it last delivered.
pub fn check(patient: &Patient, findings: &mut Vec<Finding>) {
    if patient.config.channel.is_empty() {
        let step = "add one, such as [channel.ops] with type = \"email\", then run: reliab alert test ops";
        findings.push(Finding::warning("channels", "none is configured: alerts reach nobody", step));
        return;
    }
    let past = match patient.state.as_ref().map(past) {
        None => return,
        Some(Ok(past)) => past,
        Some(Err(error)) => {
            findings.push(Finding::critical("channels", told(&error), "see the finding about the state"));
            return;
        }
    };
    let unknown = Past::default();
    for name in patient.config.channel.keys() {
        findings.push(finding(name, past.get(name.as_str()).unwrap_or(&unknown), patient.now));
    }
}

fn finding(name: &str, past: &Past, now: DateTime<Utc>) -> Finding {
    let subject = format!("channel {name}");
    let since = |then: DateTime<Utc>| (now - then).to_std().unwrap_or_default();
    let error = past.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
    if let Some(waits) = past.owed_since.map(since).filter(|&waits| waits > WAITS_LONG) {
        let text = format!("a message has waited for {}{error}", rough(waits));
        return Finding::critical(
            subject,
            text,
            format!("see what the channel says: reliab alert test {name}"),
        );
    }
    if let Some(error) = &past.refused {
        return Finding::critical(
            subject,
            format!("its newest message was refused: {error}"),
            format!("mend [channel.{name}], then try it: reliab alert test {name}"),
        );
    }
    match past.delivered {
        None => {
            let text = format!("it never delivered anything{error}");
            Finding::warning(
                subject,
                text,
                format!("try it, and see that it arrives: reliab alert test {name}"),
            )
        }
        Some(at) => Finding::well(subject, format!("last delivered {} ago", rough(since(at)))),
    }
}

fn past(state: &State) -> Result<BTreeMap<String, Past>, StateError> {
    let sql = "SELECT channel,
            max(CASE state WHEN 'delivered' THEN ended END),
            min(CASE state WHEN 'owed' THEN owed END),
            (SELECT error FROM notification latest WHERE latest.channel = notification.channel
                AND latest.state <> 'delivered' AND error IS NOT NULL ORDER BY id DESC LIMIT 1),
            (SELECT CASE state WHEN 'refused' THEN coalesce(error, 'no reason was given') END
                FROM notification latest WHERE latest.channel = notification.channel
                AND latest.state IN ('delivered', 'refused') ORDER BY ended DESC, id DESC LIMIT 1)
        FROM notification GROUP BY channel";
    state.with(|db| {
        let past = |row: &rusqlite::Row<'_>| {
            let at = |column: usize| row.get::<_, Option<i64>>(column).map(|at| at.map(time));
            let (delivered, owed_since) = (at(1)?, at(2)?);
            Ok((row.get(0)?, Past { delivered, owed_since, error: row.get(3)?, refused: row.get(4)? }))
        };
        db.prepare(sql)?.query_map([], past)?.collect()
    })
}
