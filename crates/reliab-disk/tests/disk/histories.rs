//! The forecast on generated histories: it warns when it should and is silent when it should.
//!
//! The table in docs/disk.md is what this test found; `RELIAB_GOLDEN=write` writes it anew.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers of days and samples"
)]

use std::f64::consts::TAU;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::fact::Point;
use reliab_disk::forecast::forecast;

use crate::support::golden;

const HOUR: f64 = 1.0 / 24.0;
/// Histories of each kind.
const SEEDS: u64 = 40;
/// Days of a history.
const DAYS: f64 = 45.0;
/// Forecasts are asked for from this day on.
const FROM: f64 = 15.0;
/// A warning is given for this many days.
const WARNED: f64 = 7.0;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 32).unwrap();
        f64::from(high ^ (high >> 15)) / f64::from(u32::MAX)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.part()
    }

    /// About normal, of this deviation.
    fn noise(&mut self, deviation: f64) -> f64 {
        ((0..6).map(|_| self.part()).sum::<f64>() - 3.0) * 2f64.sqrt() * deviation
    }
}

/// How the used part develops by the day, without noise.
type Course = Box<dyn Fn(f64) -> f64>;

struct Kind {
    name: &'static str,
    /// Whether it will be full one day.
    grows: bool,
    make: fn(&mut Random) -> Course,
    /// The deviation of the noise on it.
    noise: f64,
}

/// Between two times of the day, rising from 0 to 1.
fn nightly(day: f64) -> f64 {
    let hour = day.fract() * 24.0;
    if (2.0..5.0).contains(&hour) { (hour - 2.0) / 3.0 } else { 0.0 }
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn kinds() -> Vec<Kind> {
    let growth: fn(&mut Random) -> Course = |random| {
        let (pace, wave) = (random.between(0.008, 0.03), random.between(0.0, 0.004));
        let start = 0.98 - pace * random.between(25.0, DAYS);
        Box::new(move |day| start + pace * day + wave * (TAU * day).sin())
    };
    vec![
        Kind { name: "growth", grows: true, make: growth, noise: 0.001 },
        Kind { name: "growth, much noise", grows: true, make: growth, noise: 0.008 },
        Kind {
            name: "growth with nightly temporary files",
            grows: true,
            make: |random| {
                let (pace, height) = (random.between(0.008, 0.02), random.between(0.05, 0.2));
                let start = 0.98 - height - pace * random.between(25.0, DAYS);
                Box::new(move |day| start + pace * day + height * nightly(day))
            },
            noise: 0.001,
        },
        Kind {
            name: "runs full within hours",
            grows: true,
            make: |random| {
                let (base, begin, hours) =
                    (random.between(0.2, 0.7), random.between(20.0, 40.0), random.between(8.0, 24.0));
                Box::new(move |day| base + (1.0 - base) * (day - begin).max(0.0) / (hours * HOUR))
            },
            noise: 0.001,
        },
        Kind {
            name: "nightly temporary files",
            grows: false,
            make: |random| {
                let (base, height) = (random.between(0.3, 0.6), random.between(0.05, 0.35));
                Box::new(move |day| base + height * nightly(day))
            },
            noise: 0.001,
        },
        Kind {
            name: "sawtooth, logs rotated daily",
            grows: false,
            make: |random| {
                let (base, height, phase) =
                    (random.between(0.3, 0.6), random.between(0.05, 0.35), random.part());
                Box::new(move |day| base + height * (day + phase).fract())
            },
            noise: 0.002,
        },
        Kind {
            name: "sawtooth, logs rotated weekly",
            grows: false,
            make: |random| {
                let (base, height, phase) =
                    (random.between(0.3, 0.6), random.between(0.05, 0.35), random.part());
                Box::new(move |day| base + height * (day / 7.0 + phase).fract())
            },
            noise: 0.002,
        },
        Kind {
            name: "one step",
            grows: false,
            make: |random| {
                let (base, height, when) =
                    (random.between(0.2, 0.6), random.between(0.05, 0.35), random.between(5.0, DAYS));
                Box::new(move |day| if day < when { base } else { base + height })
            },
            noise: 0.001,
        },
        Kind {
            name: "flat",
            grows: false,
            make: |random| {
                let base = random.between(0.1, 0.95);
                Box::new(move |_| base)
            },
            noise: 0.0005,
        },
        Kind {
            name: "noise",
            grows: false,
            make: |random| {
                let base = random.between(0.3, 0.7);
                Box::new(move |_| base)
            },
            noise: 0.03,
        },
        Kind {
            name: "slow waves",
            grows: false,
            make: |random| {
                let (base, height, phase) =
                    (random.between(0.3, 0.6), random.between(0.02, 0.2), random.part());
                let length = random.between(3.0, 12.0);
                Box::new(move |day| base + height * (TAU * (day / length + phase)).sin())
            },
            noise: 0.002,
        },
    ]
}

/// What came of all forecasts for one kind of history.
#[derive(Default)]
struct Score {
    /// Full within five days, and a warning given.
    warned: usize,
    /// Full within five days.
    due: usize,
    /// Forecasts that name the time to a day or a third.
    right: usize,
    /// Forecasts given, at all.
    given: usize,
    /// Warnings where it will not be full within three times that time.
    false_alarms: usize,
    asked: usize,
}

fn start() -> DateTime<Utc> {
    "2026-09-01T00:00:00Z".parse().unwrap()
}

fn at(day: f64) -> DateTime<Utc> {
    start() + TimeDelta::seconds((day * 86_400.0).round() as i64)
}

/// A history of one sample every so many minutes.
fn history(course: &Course, kind: &Kind, minutes: f64, random: &mut Random) -> Vec<Point> {
    let count = (DAYS * 24.0 * 60.0 / minutes) as usize;
    let day = |number: usize| number as f64 * minutes / 60.0 * HOUR;
    let point = |number| {
        let value = (course(day(number)) + random.noise(kind.noise)).clamp(0.0, 1.0);
        Point { at: at(day(number)), value }
    };
    (0..count).map(point).collect()
}

/// The first time from a day on at which the course is full, in days from then.
fn full_in(course: &Course, from: f64) -> Option<f64> {
    let steps = (60.0 / HOUR * 4.0) as usize;
    (0..steps).map(|step| step as f64 * HOUR / 4.0).find(|ahead| course(from + ahead) >= 1.0)
}

fn score(kind: &Kind, minutes: f64) -> Score {
    let mut score = Score::default();
    for seed in 0..SEEDS {
        let mut random = Random(seed * 7919 + 17);
        let course = (kind.make)(&mut random);
        let points = history(&course, kind, minutes, &mut random);
        let mut day = FROM + random.part() / 8.0;
        while day < DAYS {
            let known = points.partition_point(|point| point.at <= at(day));
            let truth = full_in(&course, day);
            if points[known - 1].value >= 1.0 || truth == Some(0.0) {
                break;
            }
            // Nobody can tell before it has begun: it must have lasted four hours.
            let before = day - 4.0 * HOUR;
            let has_begun = kind.grows && course(before) > course(before - WARNED);
            ask(&points[..known], day, truth, has_begun, &mut score);
            day += HOUR * 5.0 / 2.0;
        }
    }
    score
}

fn ask(known: &[Point], day: f64, truth: Option<f64>, has_begun: bool, score: &mut Score) {
    let found = forecast(known, at(day)).map(|forecast| forecast.expected / 86_400.0);
    score.asked += 1;
    if let Some(found) = found {
        score.given += 1;
        let right = |truth: f64| (found - truth).abs() <= (truth / 3.0).max(1.0);
        score.right += usize::from(truth.is_some_and(right));
        let is_far = truth.is_none_or(|truth| truth > 3.0 * WARNED);
        score.false_alarms += usize::from(found <= WARNED && is_far);
    }
    if has_begun && truth.is_some_and(|truth| truth <= 5.0) {
        score.due += 1;
        score.warned += usize::from(found.is_some_and(|found| found <= WARNED));
    }
}

fn percent(part: usize, all: usize) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / all as f64) }
}

#[test]
fn forecasts_warn_when_they_should_and_are_silent_when_they_should() {
    let mut table = String::from(
        "| history | every | asked | warned when due | given | near the truth | false alarms |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut wrong = Vec::new();
    for kind in kinds() {
        for minutes in [10.0, 60.0] {
            let score = score(&kind, minutes);
            table.push_str(&format!(
                "| {} | {minutes:.0} min | {} | {} | {} | {} | {} |\n",
                kind.name,
                score.asked,
                percent(score.warned, score.due),
                percent(score.given, score.asked),
                percent(score.right, score.given),
                percent(score.false_alarms, score.asked),
            ));
            let is_right = if kind.grows {
                score.warned as f64 >= 0.95 * score.due as f64
                    && score.right as f64 >= 0.8 * score.given as f64
            } else {
                score.false_alarms == 0
            };
            if !is_right {
                wrong.push(format!("{} every {minutes} min", kind.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}");
    golden("forecast", &table);
}
