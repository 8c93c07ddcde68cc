//! How incidents, spans and tables look in text.

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

/// A count and its noun, in the plural where it needs to be.
pub(crate) fn counted(number: usize, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

/// Lines of a table, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let head = head.map(str::to_owned);
    let all: Vec<&[String; N]> = [&head].into_iter().chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &&[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cells() {
        let rows = [["7".to_owned(), "é".to_owned(), String::new()]];
        assert_eq!(table(["ID", "A", "B"], &rows), ["ID  A  B", "7   é"]);
        assert_eq!(counted(1, "incident", "incidents"), "1 incident");
        assert_eq!(counted(0, "incident", "incidents"), "0 incidents");
    }
}
