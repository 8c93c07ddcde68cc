//! How incidents and spans look in text.

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use reliab_common::units;
use serde::Serialize;

use crate::incident::{Incident, Life};

/// An incident as documents show it.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    id: i64,
    rule: &'a str,
    subject: &'a str,
    state: Life,
    level: Level,
    summary: &'a str,
    began: DateTime<Utc>,
    opened: Option<DateTime<Utc>>,
    closed: Option<DateTime<Utc>>,
    acknowledged: Option<&'a str>,
    cause: Option<i64>,
    told: &'a [String],
    changes: u32,
}

/// An incident as documents show it.
pub(crate) fn view(incident: &Incident) -> View<'_> {
    View {
        id: incident.id,
        rule: &incident.rule,
        subject: &incident.subject,
        state: incident.life,
        level: incident.level,
        summary: &incident.summary,
        began: incident.began,
        opened: incident.opened,
        closed: incident.closed,
        acknowledged: incident.acknowledged.as_deref(),
        cause: incident.cause,
        told: &incident.memory.told_on,
        changes: incident.memory.changes,
    }
}

/// The time between two moments, as people read it; none for what goes backwards.
pub(crate) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    units::duration((to - from).to_std().unwrap_or_default())
}
