//! The overview as lines of at most 80 columns, and as the one line of a monitoring plugin.

use reliab_common::exit::Level;
use reliab_common::units::{self, rough};

use crate::overview::{JobView, Overview};

const WIDTH: usize = 80;
const NAME: usize = 28;
const AGE: usize = 10;

/// The lines.
pub(crate) fn lines(overview: &Overview) -> Vec<String> {
    let mut lines = vec![headline(overview)];
    let incidents = overview.incidents.iter().map(|incident| {
        let by =
            incident.acknowledged.as_deref().map_or(String::new(), |by| format!("acknowledged by {by}: "));
        let name = format!("{} {}", incident.id, incident.subject);
        line(incident.level, &name, &overview.ago(incident.opened), &(by + &incident.summary))
    });
    section(&mut lines, "incidents", incidents.collect());
    let jobs = overview.jobs.iter().map(|job| {
        let name = format!("{} {}", job.tool, job.job);
        line(job.level, &name, &overview.ago(job.started), &ending(job, overview))
    });
    section(&mut lines, "jobs", jobs.collect());
    let mut sources: Vec<&str> = overview.checks.iter().map(|check| check.source.as_str()).collect();
    sources.dedup();
    for source in sources {
        let of_source = overview.checks.iter().filter(|check| check.source == source);
        let checks =
            of_source.map(|check| line(check.level, &check.target, &overview.ago(check.at), &check.summary));
        section(&mut lines, source, checks.collect());
    }
    let beats = overview.heartbeats.iter().map(|beat| {
        // Whether it is late is decided by a rule, not here.
        line(Level::Ok, &beat.name, &overview.ago(beat.at), "reported in")
    });
    section(&mut lines, "heartbeats", beats.collect());
    lines
}

fn section(lines: &mut Vec<String>, title: &str, rows: Vec<String>) {
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(title.to_owned());
        lines.extend(rows);
    }
}

fn headline(overview: &Overview) -> String {
    let counts = [
        counted(overview.incidents.len() as u64, "open incident", "open incidents"),
        messages(overview),
        format!("state file {}", units::bytes(overview.state.bytes)),
    ];
    fit(&format!("{}: {}", shown(overview.level), counts.join(", ")), WIDTH)
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

/// One line: level, name, age, text.
fn line(level: Level, name: &str, age: &str, text: &str) -> String {
    let name = fit(name, NAME);
    let start = format!("  {:<8}  {name:<NAME$}  {age:>AGE$}  ", shown(level));
    let room = WIDTH.saturating_sub(start.chars().count());
    format!("{start}{}", fit(text, room)).trim_end().to_owned()
}

fn shown(level: Level) -> String {
    if level == Level::Ok { "ok".into() } else { level.name().to_uppercase() }
}

/// The text on one line, cut to so many characters.
fn fit(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
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
        let lines = lines(&example());
        for line in &lines {
            assert!(line.chars().count() <= WIDTH, "{line}");
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
    fn one_line_names_the_worst_first() {
        let line = one_line(&example());
        let start = "STATUS CRITICAL - backup backups: failed; disk /: 93% used";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(" | incidents=1 owed=1 oldest=2520s state="), "{line}");
        assert!(!line.contains('\n'));
    }
}
