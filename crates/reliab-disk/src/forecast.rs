//! When a file system will be full, from how its use grew.
//!
//! Two looks at the history: days (up to thirty) for slow growth, and the last hours for a disk that runs full tonight.
//! Both fit a Theil-Sen slope and stay silent where a straight line is a poor picture of what happened.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::fact::Point;
use serde::{Deserialize, Serialize};

use crate::theil_sen::{Slope, slope};

/// How far back the history is of use.
pub const HISTORY_DAYS: i64 = 30;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Later than this is no forecast but a guess.
const FARTHEST: f64 = 365.0 * DAY;
/// The fewest days that show slow growth.
const FEWEST_DAYS: usize = 5;
/// How long the short look is, how many points it needs, and how far ahead it may tell.
const SHORT: f64 = 6.0 * HOUR;
const FEWEST_POINTS: usize = 6;
const SHORT_REACH: f64 = 48.0 * HOUR;
/// More points than these are thinned out: a slope costs the square of their number.
const MOST_POINTS: usize = 120;

/// When a file system is expected to be full, in seconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// At the steepest growth that fits the history.
    pub earliest: f64,
    /// At the most likely growth.
    pub expected: f64,
    /// At the slowest growth that fits the history.
    pub latest: f64,
}

impl Forecast {
    /// The expected time until it is full.
    pub fn full_in(&self) -> Duration {
        Duration::from_secs_f64(self.expected.clamp(0.0, FARTHEST))
    }

    /// The range in words, such as `3 to 9 days`.
    pub fn words(&self) -> String {
        let (from, to, unit) = self.rounded();
        let unit = if unit == 'd' { "days" } else { "hours" };
        if from == to { format!("about {from} {unit}") } else { format!("{from} to {to} {unit}") }
    }

    /// The range as a cell of a table, such as `3-9 d`.
    pub fn cell(&self) -> String {
        let (from, to, unit) = self.rounded();
        if from == to { format!("{from} {unit}") } else { format!("{from}-{to} {unit}") }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hours or days")]
    fn rounded(&self) -> (u64, u64, char) {
        let (unit, name) = if self.latest < 3.0 * DAY { (HOUR, 'h') } else { (DAY, 'd') };
        ((self.earliest / unit).floor().max(0.0) as u64, (self.latest / unit).ceil() as u64, name)
    }

    fn of(slope: Slope, room: f64) -> Option<Self> {
        let room = room.max(0.0);
        let forecast =
            Self { earliest: room / slope.high, expected: room / slope.middle, latest: room / slope.low };
        (forecast.expected <= FARTHEST).then_some(forecast)
    }
}

/// When the used part, whose history is given in order of time, reaches 1; `None` where nothing can be told.
pub fn forecast(history: &[Point], now: DateTime<Utc>) -> Option<Forecast> {
    let from = now - TimeDelta::days(HISTORY_DAYS);
    let points: Vec<(f64, f64)> = history
        .iter()
        .filter(|point| point.at > from && point.at <= now && point.value.is_finite())
        .map(|point| ((point.at - now).as_seconds_f64(), point.value))
        .collect();
    let both = [by_days(&points), by_hours(&points)];
    both.into_iter().flatten().min_by(|a, b| a.expected.total_cmp(&b.expected))
}

/// The lowest and highest use of one day.
#[derive(Clone, Copy)]
struct Day {
    x: f64,
    low: f64,
    high: f64,
}

/// Slow growth: what is never given back. The lowest use of each day rises; how high the days' peaks stand above it
/// (temporary files of the night) says when the first peak no longer fits.
fn by_days(points: &[(f64, f64)]) -> Option<Forecast> {
    let days = days(points);
    let lows: Vec<(f64, f64)> = days.iter().map(|day| (day.x, day.low)).collect();
    if lows.len() < FEWEST_DAYS {
        return None;
    }
    let slope = steady(&lows)?;
    // The peaks may grow faster: a dump of what grows is itself larger each night. Of the first day only a part may be known.
    let highs: Vec<(f64, f64)> = days.iter().skip(1).map(|day| (day.x, day.high)).collect();
    let slope = steady(&highs).filter(|of_peaks| of_peaks.middle > slope.middle).unwrap_or(slope);
    // The peaks of a week: a weekly dump counts, too.
    let week = days.iter().rev().take(7);
    let peak = week.map(|day| day.high - day.low).fold(0.0, f64::max);
    let last = points.last()?.1;
    let base = days.last()?.low;
    let top = (base + peak).max(last);
    Forecast::of(slope, 1.0 - top)
}

/// The days counted back from now, without those that nothing is known of.
fn days(points: &[(f64, f64)]) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for &(x, y) in points {
        // The middle of the day that the point is in: -0.5 for the last 24 hours.
        let middle = ((x / DAY).ceil() - 0.5) * DAY;
        match days.last_mut() {
            #[expect(clippy::float_cmp, reason = "both were made by the same sum")]
            Some(day) if day.x == middle => {
                day.low = day.low.min(y);
                day.high = day.high.max(y);
            }
            _ => days.push(Day { x: middle, low: y, high: y }),
        }
    }
    days
}

/// Fast growth in the last hours, if it is faster than any before and leads where the disk has not been: what rose like
/// this on other days stopped or fell again. The last day is no other day: what began yesterday may go on.
fn by_hours(points: &[(f64, f64)]) -> Option<Forecast> {
    let recent = &points[points.partition_point(|&(x, _)| x < -SHORT)..];
    let before = &points[..points.partition_point(|&(x, _)| x < -DAY)];
    let is_known = before.first().is_some_and(|&(x, _)| x <= -2.0 * DAY);
    if !is_known || recent.len() < FEWEST_POINTS {
        return None;
    }
    let usual = largest_rise(before);
    let recent = thinned(recent);
    let slope = steady(&recent)?;
    let (first, last) = (recent.first()?, recent.last()?);
    let peak = before.iter().map(|&(_, y)| y).fold(f64::MIN, f64::max);
    let rise = slope.middle * (last.0 - first.0);
    if last.1 - peak < 0.25 * rise || largest_rise(&recent) < 1.25 * usual {
        return None;
    }
    Forecast::of(slope, 1.0 - last.1).filter(|forecast| forecast.expected <= SHORT_REACH)
}

/// How much it ever rose within the time of the short look.
fn largest_rise(points: &[(f64, f64)]) -> f64 {
    // Those that may be the lowest of the time up to a later point: each lower than all before it.
    let mut lowest: VecDeque<(f64, f64)> = VecDeque::new();
    let mut rise: f64 = 0.0;
    for &(x, y) in points {
        while lowest.back().is_some_and(|back| back.1 >= y) {
            lowest.pop_back();
        }
        lowest.push_back((x, y));
        while lowest.front().is_some_and(|front| front.0 < x - SHORT) {
            lowest.pop_front();
        }
        rise = rise.max(y - lowest.front().map_or(y, |front| front.1));
    }
    rise
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(MOST_POINTS);
    // From the end, so that the last is kept.
    let mut kept: Vec<(f64, f64)> = points.iter().rev().step_by(step).copied().collect();
    kept.reverse();
    kept
}

/// The slope of points that rise steadily: surely up, without falling back far, not in one step, and still going on.
fn steady(points: &[(f64, f64)]) -> Option<Slope> {
    let slope = slope(points)?;
    let span = points.last()?.0 - points.first()?.0;
    let rise = slope.middle * span;
    if slope.low <= 0.0 || slope.high > 5.0 * slope.low || rise <= 0.0 {
        return None;
    }
    let steps = points.windows(2).map(|pair| pair[1].1 - pair[0].1);
    let largest_step = steps.fold(0.0, f64::max);
    let is_steady = fall(points) <= 0.3 * rise && largest_step <= 0.5 * rise;
    let third = points.partition_point(|&(x, _)| x < points[points.len() - 1].0 - span / 3.0);
    (is_steady && still_rises(&points[third..], slope)).then_some(slope)
}

/// How far it ever fell below what it had reached.
fn fall(points: &[(f64, f64)]) -> f64 {
    let mut top = f64::MIN;
    let mut fall: f64 = 0.0;
    for &(_, y) in points {
        top = top.max(y);
        fall = fall.max(top - y);
    }
    fall
}

/// Whether the last part rises at a third of the pace of the whole or faster.
fn still_rises(last: &[(f64, f64)], whole: Slope) -> bool {
    let (Some(first), Some(end)) = (last.first(), last.last()) else { return false };
    let pace = slope(last).map_or((end.1 - first.1) / (end.0 - first.0), |slope| slope.middle);
    pace >= whole.middle / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A history every half hour, of `use(days before now)`, which is negative.
    fn history(days: i32, used: impl Fn(f64) -> f64) -> Vec<Point> {
        let steps = days * 48;
        (-steps..=0)
            .map(|step| {
                let at = now() + TimeDelta::minutes(30 * i64::from(step));
                Point { at, value: used(f64::from(step) / 48.0) }
            })
            .collect()
    }

    fn days_of(forecast: Option<Forecast>) -> f64 {
        forecast.expect("a forecast").expected / DAY
    }

    #[test]
    fn a_steady_growth_is_told_to_the_day() {
        let history = history(20, |day| 0.8 + 0.02 * day);
        let forecast = forecast(&history, now());
        assert!((days_of(forecast) - 10.0).abs() < 0.5, "{forecast:?}");
    }

    #[test]
    fn a_disk_that_runs_full_tonight_is_told_to_the_hour() {
        let history = history(5, |day| 0.5 + (day + 0.25).max(0.0) * 0.8);
        let forecast = forecast(&history, now()).expect("a forecast");
        let hours = forecast.expected / HOUR;
        assert!((hours - 9.0).abs() < 1.0, "{forecast:?}");
        assert_eq!(forecast.cell().chars().last(), Some('h'));
    }

    #[test]
    fn what_rose_like_this_on_another_day_is_no_news() {
        // Twelve hours of a tenth, each week; what stays of it makes each week's peak the highest so far.
        let burst = |day: f64| {
            let since = (day + 0.25).rem_euclid(7.0);
            0.4 + 0.005 * day + if since < 0.5 { since * 0.4 } else { 0.0 }
        };
        assert_eq!(forecast(&history(20, burst), now()).filter(|found| found.expected < 7.0 * DAY), None);
        // The first of its kind is news, and so is one that is larger by half.
        let first = |day: f64| if day < -3.0 { 0.4 + 0.005 * day } else { burst(day) };
        assert!(days_of(forecast(&history(20, first), now())) < 2.0);
        let larger = |day: f64| burst(day) + if day > -0.25 { (day + 0.25) * 0.6 } else { 0.0 };
        assert!(days_of(forecast(&history(20, larger), now())) < 2.0);
    }

    #[test]
    fn what_fell_yesterday_and_rises_again_is_news() {
        // It runs full for a day and a half; at midnight what was written by then is packed.
        let flood = |day: f64| 0.2 + 0.8 * (day + 1.0).max(0.0) - if day >= -0.5 { 0.35 } else { 0.0 };
        let hours = forecast(&history(20, flood), now()).expect("a forecast").expected / HOUR;
        assert!((hours - 10.5).abs() < 1.0, "{hours}");
    }

    #[test]
    fn peaks_that_grow_faster_than_what_is_kept_are_followed() {
        // A dump of two thirds of the data lies there for some hours of each night.
        let data = |day: f64| 0.4 + 0.01 * (day + 20.0);
        let night =
            |day: f64| if (0.1..0.3).contains(&day.rem_euclid(1.0)) { data(day) * 2.0 / 3.0 } else { 0.0 };
        let found = days_of(forecast(&history(20, |day| data(day) + night(day)), now()));
        // 0.6 and 0.4 at the peak of last night, and each day a sixtieth more.
        assert!(found < 1.5, "{found}");
        let early = forecast(&history(20, |day| f64::midpoint(data(day), night(day))), now());
        assert!((days_of(early) - 60.0).abs() < 3.0, "{early:?}");
    }

    #[test]
    fn nothing_is_told_of_too_little() {
        assert_eq!(forecast(&[], now()), None);
        assert_eq!(forecast(&history(1, |day| 0.9 + day / 100.0)[..3], now()), None);
        assert_eq!(forecast(&history(3, |day| 0.9 + day / 100.0), now()), None);
        assert_eq!(forecast(&history(20, |_| f64::NAN), now()), None);
    }

    #[test]
    fn what_lies_far_ahead_is_not_told() {
        assert_eq!(forecast(&history(20, |day| 0.1 + day / 1000.0), now()), None);
    }

    #[test]
    fn ranges_are_said_in_hours_or_days() {
        let of = |earliest: f64, latest: f64| Forecast { earliest, expected: earliest, latest };
        assert_eq!(of(3.2 * DAY, 8.9 * DAY).words(), "3 to 9 days");
        assert_eq!(of(3.2 * DAY, 8.9 * DAY).cell(), "3-9 d");
        assert_eq!(of(5.0 * HOUR, 8.5 * HOUR).words(), "5 to 9 hours");
        assert_eq!(of(4.0 * DAY, 4.0 * DAY).words(), "about 4 days");
        assert_eq!(of(4.0 * DAY, 4.0 * DAY).cell(), "4 d");
    }
}
