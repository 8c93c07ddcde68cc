//! The overview as lines that fit a terminal, and as the one line of a monitoring plugin.

use reliab_common::count::counted;
use reliab_common::exit::Level;
use reliab_common::table::fit;
use reliab_common::units::{self, rough};

use crate::overview::{CheckView, Heartbeat, IncidentView, JobView, Overview};

/// Names are at least this wide where there is room, so that one view looks like the next.
const NAME: usize = 28;
/// Longer names push only their own line aside.
const LONG_NAME: usize = 60;
const AGE: usize = 10;

/// One line: how it is, what it is, for how long, and a text.
struct Row {
    level: Level,
    name: String,
    age: String,
    text: String,
}

/// The lines, cut to so many columns.
pub(crate) fn lines(overview: &Overview, columns: Option<usize>) -> Vec<String> {
    let columns = columns.unwrap_or(usize::MAX);
    let sections = sections(overview);
    let names = sections.iter().flat_map(|(_, rows)| rows).map(|row| row.name.chars().count());
    let width = names.max().unwrap_or_default().clamp(NAME, LONG_NAME);
    let mut lines = vec![fit(&headline(overview), columns)];
    for (title, rows) in sections.iter().filter(|(_, rows)| !rows.is_empty()) {
        lines.extend([String::new(), (*title).to_owned()]);
        lines.extend(rows.iter().map(|row| line(row, width, columns)));
    }
    lines
}

fn sections(overview: &Overview) -> Vec<(&str, Vec<Row>)> {
    let mut sections = vec![("incidents", incidents(overview)), ("jobs", jobs(overview))];
    let mut sources: Vec<&str> = overview.checks.iter().map(|check| check.source.as_str()).collect();
    sources.dedup();
    sections.extend(sources.into_iter().map(|source| (source, checks(overview, source))));
    sections.push(("heartbeats", heartbeats(overview)));
    sections
}

fn incidents(overview: &Overview) -> Vec<Row> {
    let row = |incident: &IncidentView| {
        let by =
            incident.acknowledged.as_deref().map_or(String::new(), |by| format!("acknowledged by {by}: "));
        Row {
            level: incident.level,
            name: format!("{} {}", incident.id, incident.subject),
            age: overview.ago(incident.opened),
            text: by + &incident.summary,
        }
    };
    overview.incidents.iter().map(row).collect()
}

fn jobs(overview: &Overview) -> Vec<Row> {
    let row = |job: &JobView| Row {
        level: job.level,
        name: job.name(),
        age: overview.ago(job.started),
        text: ending(job, overview),
    };
    overview.jobs.iter().map(row).collect()
}

fn checks(overview: &Overview, source: &str) -> Vec<Row> {
    let row = |check: &CheckView| Row {
        level: check.level,
        name: check.target.clone(),
        age: overview.ago(check.at),
        text: check.summary.clone(),
    };
    overview.checks.iter().filter(|check| check.source == source).map(row).collect()
}

fn heartbeats(overview: &Overview) -> Vec<Row> {
    let row = |beat: &Heartbeat| Row {
        // Whether it is late is decided by a rule, not here.
        level: Level::Ok,
        name: beat.name.clone(),
        age: overview.ago(beat.at),
        text: "reported in".to_owned(),
    };
    overview.heartbeats.iter().map(row).collect()
}

fn headline(overview: &Overview) -> String {
    let counts = [
        counted(overview.incidents.len() as u64, "open incident", "open incidents"),
        messages(overview),
        format!("state file {}", units::bytes(overview.state.bytes)),
    ];
    format!("{}: {}", shown(overview.level), counts.join(", "))
}

fn messages(overview: &Overview) -> String {
    let mut text = counted(overview.outbox.owed, "message waits", "messages wait");
    if let Some(wait) = overview.oldest_wait() {
        text.push_str(&format!(" (for {})", rough(wait)));
    }
    if overview.outbox.refused > 0 {
        text.push_str(&format!(", {} refused", overview.outbox.refused));
    }
    text
}

fn ending(job: &JobView, overview: &Overview) -> String {
    let Some((outcome, ended)) = job.outcome.as_ref().zip(job.ended) else {
        return if job.running { "running".into() } else { "ended without a word (killed?)".into() };
    };
    let took = units::duration((ended - job.started).to_std().unwrap_or_default());
    match job.last_good.filter(|&good| good < job.started) {
        Some(good) => format!("{outcome} after {took}; last good {}", overview.ago(good)),
        None => format!("{outcome} after {took}"),
    }
}

fn line(row: &Row, width: usize, columns: usize) -> String {
    // About a third of the line is for the name.
    let most = columns.saturating_mul(7) / 20;
    let (level, name, age, width) = (shown(row.level), fit(&row.name, most), &row.age, width.min(most));
    let line = format!("  {level:<8}  {name:<width$}  {age:>AGE$}  {}", row.text);
    fit(&line, columns).trim_end().to_owned()
}

fn shown(level: Level) -> String {
    if level == Level::Ok { "ok".into() } else { level.name().to_uppercase() }
}

/// The one line of a monitoring plugin: what is worst, then performance data.
pub(crate) fn one_line(overview: &Overview) -> String {
    let troubles = troubles(overview);
    let text = if troubles.is_empty() { "nothing is wrong".to_owned() } else { troubles.join("; ") };
    // `|` begins the performance data.
    let text = fit(&text, 400).replace('|', "/");
    let oldest = overview.oldest_wait().unwrap_or_default().as_secs();
    format!(
        "STATUS {} - {text} | incidents={} owed={} oldest={oldest}s state={}B",
        overview.level.name().to_uppercase(),
        overview.incidents.len(),
        overview.outbox.owed,
        overview.state.bytes
    )
}

/// What is wrong, the worst first.
fn troubles(overview: &Overview) -> Vec<String> {
    let jobs = overview.jobs.iter().map(|job| {
        let outcome = job.outcome.as_deref().unwrap_or("killed");
        (job.level, format!("{} {}: {outcome}", job.tool, job.job))
    });
    let checks = overview
        .checks
        .iter()
        .map(|check| (check.level, format!("{} {}: {}", check.source, check.target, check.summary)));
    let waits = overview.waits_long().then(|| (Level::Warning, messages(overview)));
    let all: Vec<_> = jobs.chain(checks).chain(waits).collect();
    let of = |level| all.iter().filter(move |trouble| trouble.0 == level).map(|trouble| trouble.1.clone());
    [Level::Critical, Level::Unknown, Level::Warning].into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::example;

    #[test]
    fn the_view_fits_a_terminal_of_80_columns() {
        let lines = lines(&example(), Some(80));
        for line in &lines {
            assert!(line.chars().count() <= 80, "{line}");
            assert!(!line.contains('\n'), "{line:?}");
        }
        let text = lines.join("\n");
        for expected in [
            "CRITICAL: 1 open incident, 1 message waits (for 42 min), state file ",
            "  CRITICAL  backup backups                52 min ago  failed after 5.0 s; last …",
            "  ok        verify backups                52 min ago  done after 10 min 00 s",
            "  CRITICAL  /                             42 min ago  93% used, full in 3 to 9 …",
            "  WARNING   a name that goes on and on …  42 min ago  slow",
            "  CRITICAL  1 disk /                      42 min ago  93% used",
            "  ok        nightly                       42 min ago  reported in",
        ] {
            assert!(text.contains(expected), "{expected}\nin\n{text}");
        }
    }

    #[test]
    fn a_wide_terminal_shows_more_and_nothing_is_cut_where_there_is_none() {
        for columns in [Some(150), None] {
            let text = lines(&example(), columns).join("\n");
            for expected in [
                "42 min ago  93% used, full in 3 to 9 days, which is a long text",
                "  WARNING   a name that goes on and on \"quoted\"  42 min ago  slow",
            ] {
                assert!(text.contains(expected), "{expected}\nin\n{text}");
            }
            assert!(!text.contains('…'), "{text}");
        }
        for columns in [0, 1, 20, 40] {
            assert!(
                lines(&example(), Some(columns)).iter().all(|line| line.chars().count() <= columns.max(10))
            );
        }
    }

    #[test]
    fn one_line_names_the_worst_first() {
        let line = one_line(&example());
        let start = "STATUS CRITICAL - backup backups: failed; disk /: 93% used";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(" | incidents=1 owed=1 oldest=2520s state="), "{line}");
        assert!(!line.contains('\n'));
    }
}
