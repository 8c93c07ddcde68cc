//! The check of everything that is watched.

use std::path::PathBuf;
use std::time::Instant;

use reliab_common::app::document;
use reliab_common::clock::Clock as _;
use reliab_common::config::disk::{DiskDirectory, DiskFile};
use reliab_common::exit::Level;
use reliab_common::session::{Job, Outcome};
use reliab_common::ui::Ui;
use reliab_common::units;
use serde_json::json;

use crate::answer::{Answer, Measure};
use crate::command::NAME;
use crate::limits::{check_config, of_size};
use crate::question::{NoAnswer, Question, absolute, ask};
use crate::report::{Figures, Report, SizeReport, name_of};
use crate::sqlite::SqliteSize;
use crate::{database, disks, fit, nagios, table};

/// What to look at and how to tell it.
pub(crate) struct CheckOptions {
    /// Only the file systems of these paths.
    pub paths: Vec<PathBuf>,
    /// Whether to print the line of a monitoring plugin.
    pub nagios: bool,
}

/// Looks at everything, tells it, and gives what is to be recorded.
pub(crate) fn run(options: &CheckOptions, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Level>> {
    let started = Instant::now();
    check_config(&job.session.config)?;
    let (mounts, mut sizes) = disks::look(&options.paths, job, ui)?;
    if options.paths.is_empty() {
        sizes.extend(watched(job)?);
        sizes.extend(database::measure(job)?);
        sizes.extend(fit::check(job, ui)?);
    }
    let report = Report { mounts, sizes };
    let level = report.level();
    let seconds = started.elapsed().as_secs_f64();
    if ui.is_json() {
        let mounts: Vec<_> = report.mounts.iter().map(crate::report::MountReport::json).collect();
        let body = json!({ "mounts": mounts, "sizes": report.sizes, "seconds": seconds });
        ui.json(&document(NAME, level, body));
    } else if options.nagios {
        ui.out(nagios::line(&report));
    } else {
        table::print(&report, ui);
    }
    let figures = json!({
        "mounts": report.mounts.len(), "sizes": report.sizes.len(), "troubles": report.troubles().len(),
        "seconds": seconds,
    });
    Ok(Outcome { exit: level, figures, facts: report.facts(job.session.clock.now()) })
}

/// The directories and `SQLite` files of the configuration.
fn watched(job: &Job<'_>) -> anyhow::Result<Vec<SizeReport>> {
    let config = &job.session.config.disk;
    let directory = |entry: &DiskDirectory| Question {
        what: Measure::Directory,
        path: absolute(&entry.path),
        deadline: entry.deadline,
    };
    let file = |entry: &DiskFile| Question {
        what: Measure::Sqlite,
        path: absolute(&entry.path),
        deadline: config.deadline,
    };
    let questions: Vec<Question> =
        config.directory.iter().map(directory).chain(config.sqlite.iter().map(file)).collect();
    let limits = config.directory.iter().map(|entry| (entry.warn, entry.critical));
    let limits = limits.chain(config.sqlite.iter().map(|entry| (entry.warn, entry.critical)));
    let answers = ask(&questions, job)?;
    Ok(questions
        .iter()
        .zip(answers)
        .zip(limits)
        .map(|((question, answer), limits)| size(question, answer, limits))
        .collect())
}

fn size(
    question: &Question,
    answer: Result<Answer, NoAnswer>,
    limits: (Option<u64>, Option<u64>),
) -> SizeReport {
    let name = name_of(&question.path);
    let kind = question.what.name();
    let (bytes, mut summary, figures) = match answer {
        Ok(Answer::Directory { bytes, unread: 0 }) => (bytes, units::bytes(bytes), vec![("bytes", bytes)]),
        Ok(Answer::Directory { bytes, unread }) => return part(name, bytes, unread, limits),
        Ok(Answer::Sqlite(found)) => {
            let figures = vec![("bytes", found.bytes), ("free", found.free), ("wal", found.wal)];
            (found.total(), sqlite_words(&found), figures)
        }
        Ok(_) | Err(_) => {
            let silent = matches!(answer, Err(NoAnswer::Silent(_)));
            let level = if silent { Level::Critical } else { Level::Unknown };
            let summary = answer
                .err()
                .map_or_else(|| "it was not measured".to_owned(), |error| error.text().to_owned());
            return SizeReport { kind, name, level, summary, figures: Figures::default() };
        }
    };
    let (level, limit) = of_size(bytes, limits.0, limits.1);
    if let Some(limit) = limit {
        summary.push_str(&format!(" ({} at {})", level.name(), units::bytes(limit)));
    }
    SizeReport { kind, name, level, summary, figures: Figures(figures) }
}

/// A directory that was read in part: it is that large at least, which may be enough for a level, and is no figure.
fn part(name: String, bytes: u64, unread: u64, limits: (Option<u64>, Option<u64>)) -> SizeReport {
    let (level, limit) = of_size(bytes, limits.0, limits.1);
    let at =
        limit.map_or_else(String::new, |limit| format!(" ({} at {})", level.name(), units::bytes(limit)));
    let summary = format!("at least {}{at}: {unread} in it cannot be read", units::bytes(bytes));
    let level = if level == Level::Ok { Level::Unknown } else { level };
    SizeReport { kind: Measure::Directory.name(), name, level, summary, figures: Figures::default() }
}

/// The size of a `SQLite` file in words.
pub(crate) fn sqlite_words(size: &SqliteSize) -> String {
    let mut text = units::bytes(size.bytes);
    if size.free > 0 {
        text.push_str(&format!(", {} of it free pages", units::bytes(size.free)));
    }
    if size.wal > 0 {
        text.push_str(&format!(", write-ahead log {}", units::bytes(size.wal)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn question(what: Measure) -> Question {
        Question { what, path: "/x".into(), deadline: Duration::from_secs(1) }
    }

    #[test]
    fn sizes_are_compared_with_their_limits() {
        let of = |bytes| {
            let answer = Ok(Answer::Directory { bytes, unread: 0 });
            size(&question(Measure::Directory), answer, (Some(10), Some(20)))
        };
        assert_eq!((of(9).level, of(9).summary.as_str()), (Level::Ok, "9 B"));
        assert_eq!((of(20).level, of(20).summary.as_str()), (Level::Critical, "20 B (critical at 20 B)"));
        let found = SqliteSize { bytes: 8192, free: 4096, wal: 4096, page: 4096 };
        let report = size(&question(Measure::Sqlite), Ok(Answer::Sqlite(found)), (Some(12_288), None));
        assert_eq!(report.level, Level::Warning);
        assert_eq!(
            report.summary,
            "8.0 KiB, 4.0 KiB of it free pages, write-ahead log 4.0 KiB (warning at 12.0 KiB)"
        );
    }

    #[test]
    fn a_directory_that_is_read_in_part_is_not_known() {
        let of = |bytes| {
            let answer = Ok(Answer::Directory { bytes, unread: 3 });
            let report = size(&question(Measure::Directory), answer, (Some(10), Some(20)));
            assert_eq!((report.kind, report.figures), ("directory", Figures::default()));
            (report.level, report.summary)
        };
        assert_eq!(of(9), (Level::Unknown, "at least 9 B: 3 in it cannot be read".to_owned()));
        let text = "at least 10 B (warning at 10 B): 3 in it cannot be read";
        assert_eq!(of(10), (Level::Warning, text.to_owned()));
        assert_eq!(of(20).0, Level::Critical);
    }

    #[test]
    fn what_is_not_measured_has_a_level_too() {
        let of = |answer| size(&question(Measure::Sqlite), answer, (None, None)).level;
        assert_eq!(of(Err(NoAnswer::Silent("so".into()))), Level::Critical);
        assert_eq!(of(Err(NoAnswer::Failed("so".into()))), Level::Unknown);
    }
}
