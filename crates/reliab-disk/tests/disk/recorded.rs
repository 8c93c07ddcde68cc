//! The forecast on recorded histories: what real programs did to a disk, and what came of it in the same recording.
//!
//! The files in `recorded/` were made by scripts/record-disk-use. The table in docs/disk.md is what this test found;
//! `RELIAB_GOLDEN=write` writes it anew.

#![expect(clippy::cast_precision_loss, reason = "small numbers of steps and kibibytes")]

use std::fs;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::fact::Point;
use reliab_disk::forecast::forecast;

use crate::support::golden;

/// One step of a recording stands for half an hour.
const STEPS_A_DAY: f64 = 48.0;
/// Forecasts are asked for from this day on, and a warning is given for so many days.
const FROM: f64 = 5.0;
const WARNED: f64 = 7.0;
/// A warning is due when it is full in fewer days than this.
const DUE: f64 = 5.0;

/// What must be true of a recording.
enum Truth {
    /// It fills over days: there is a warning for at least this share of the time in which one is due.
    Fills(f64),
    /// It fills within hours, which nobody knows before: so many hours before there is a warning, and none is in vain.
    Suddenly(f64),
    /// It was full for a moment between two samples, of which none showed more than this use: no forecast can know.
    Unseen(f64),
    /// It never fills: there is no warning.
    Stays,
}

const RECORDINGS: &[(&str, Truth)] = &[
    ("logs-rotated", Truth::Stays),
    ("logs-bursts", Truth::Stays),
    ("queue", Truth::Stays),
    ("postgres-updates", Truth::Stays),
    ("cargo-builds", Truth::Stays),
    ("logs-kept", Truth::Fills(0.95)),
    ("postgres-inserts", Truth::Fills(0.95)),
    ("postgres-dumps", Truth::Fills(0.95)),
    ("git-commits", Truth::Unseen(0.63)),
    ("backups", Truth::Fills(0.95)),
    ("logs-flood", Truth::Suddenly(10.0)),
];

/// A recording: what it is of, the used part at each step, and whether the disk was full at the last.
struct Recording {
    about: String,
    used: Vec<f64>,
    is_full: bool,
}

fn read(name: &str) -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/disk/recorded/{name}.csv"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (head, values) = text.split_once("\nused_kib\n").unwrap();
    let mut head = head.lines().map(|line| line.strip_prefix("# ").unwrap());
    let (about, how) = (head.next().unwrap().to_owned(), head.next().unwrap());
    let usable: f64 = head.next().unwrap().strip_prefix("usable KiB: ").unwrap().parse().unwrap();
    let used = values.lines().map(|line| line.parse::<f64>().unwrap() / usable).collect();
    Recording { about, used, is_full: how.contains("; full on day ") }
}

/// What came of the forecasts of one recording, in steps and days.
#[derive(Default)]
struct Score {
    asked: usize,
    given: usize,
    near: usize,
    due: usize,
    warned: usize,
    alarms: usize,
    false_alarms: usize,
    /// How many days before it was full a warning began that stayed to the end.
    ahead: Option<f64>,
    /// How far off the forecasts of the last five days were, in days.
    errors: Vec<f64>,
}

fn at(step: usize) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-09-07T00:00:00Z".parse().unwrap();
    start + TimeDelta::minutes(30 * i64::try_from(step).unwrap())
}

fn score(recording: &Recording) -> Score {
    let points: Vec<Point> =
        recording.used.iter().enumerate().map(|(step, &value)| Point { at: at(step), value }).collect();
    let last = points.len() - 1;
    let mut score = Score::default();
    for now in 0..last {
        if (now as f64) < FROM * STEPS_A_DAY {
            continue;
        }
        let ahead = (last - now) as f64 / STEPS_A_DAY;
        let truth = recording.is_full.then_some(ahead);
        let found = forecast(&points[..=now], at(now)).map(|forecast| forecast.expected / 86_400.0);
        let is_warning = found.is_some_and(|found| found <= WARNED);
        score.asked += 1;
        score.given += usize::from(found.is_some());
        score.alarms += usize::from(is_warning);
        if let (Some(found), Some(truth)) = (found, truth) {
            score.near += usize::from((found - truth).abs() <= (truth / 3.0).max(1.0));
            score.false_alarms += usize::from(is_warning && truth > 3.0 * WARNED);
            if truth <= DUE {
                score.errors.push((found - truth).abs());
            }
        }
        score.false_alarms += usize::from(is_warning && truth.is_none());
        if truth.is_some_and(|truth| truth <= DUE) {
            score.due += 1;
            score.warned += usize::from(is_warning);
        }
        score.ahead = if is_warning { score.ahead.or(truth) } else { None };
    }
    score.errors.sort_by(f64::total_cmp);
    score
}

fn percent(part: usize, all: usize) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / all as f64) }
}

fn is_right(truth: &Truth, recording: &Recording, score: &Score) -> bool {
    match truth {
        Truth::Stays => !recording.is_full && score.alarms == 0,
        Truth::Fills(share) => {
            recording.is_full
                && score.warned as f64 >= share * score.due as f64
                && score.near as f64 >= 0.8 * score.given as f64
                && score.false_alarms == 0
        }
        Truth::Unseen(highest) => {
            let before = &recording.used[..recording.used.len() - 1];
            recording.is_full && before.iter().all(|used| used <= highest) && score.alarms == 0
        }
        Truth::Suddenly(hours) => {
            recording.is_full
                && score.ahead.is_some_and(|days| days * 24.0 >= *hours)
                && score.false_alarms == 0
        }
    }
}

fn row(name: &str, recording: &Recording, score: &Score) -> String {
    let day = |days: f64| if days < 1.0 { format!("{:.0} h", days * 24.0) } else { format!("{days:.1} d") };
    let days = recording.used.len() as f64 / STEPS_A_DAY;
    let ended = if recording.is_full { format!("full on day {days:.0}") } else { "not full".to_owned() };
    let top = recording.used.iter().copied().fold(0.0, f64::max) * 100.0;
    let error = score.errors.get(score.errors.len() / 2);
    let none = || "-".to_owned();
    format!(
        "| {name} | {} | {ended} | {top:.0} % | {} | {} | {} | {} | {} |\n",
        recording.about,
        score.ahead.map_or_else(none, day),
        percent(score.warned, score.due),
        error.map_or_else(none, |&error| day(error)),
        percent(score.given, score.asked),
        percent(score.false_alarms, score.asked),
    )
}

#[test]
fn forecasts_are_right_about_what_was_recorded() {
    let mut table = String::from(
        "| recording | what | ended | highest use | warned from then on | warned when due | off by, when due | given | false alarms |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut wrong = Vec::new();
    for (name, truth) in RECORDINGS {
        let recording = read(name);
        let score = score(&recording);
        table.push_str(&row(name, &recording, &score));
        if !is_right(truth, &recording, &score) {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}");
    golden("recorded", &table);
}
