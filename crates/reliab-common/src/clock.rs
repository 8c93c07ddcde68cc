//! Time, passed in so that tests control it.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Local, TimeDelta, TimeZone, Utc};

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock for tests, which moves only when told to.
#[derive(Debug)]
pub struct FixedClock(Mutex<DateTime<Utc>>);

impl FixedClock {
    /// A clock that stands at `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock to `now`, forward or back.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the clock by `step`.
    pub fn advance(&self, step: TimeDelta) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += step;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as people read it: local, to the second, with the offset.
pub fn local(time: DateTime<Utc>) -> String {
    shown(&time.with_timezone(&Local))
}

/// The same without the offset, for a terminal, where there is little room.
pub fn local_short(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The local time of day, to the second.
pub fn time_of_day(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%H:%M:%S").to_string()
}

fn shown<Z: TimeZone<Offset: Display>>(time: &DateTime<Z>) -> String {
    time.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    fn check(offset_minutes: i32, expected: &str) {
        let time = Utc.with_ymd_and_hms(2026, 11, 22, 20, 57, 10).unwrap();
        let zone = FixedOffset::east_opt(offset_minutes * 60).unwrap();
        assert_eq!(shown(&time.with_timezone(&zone)), expected);
    }

    #[test]
    fn times_are_shown_with_their_offset() {
        check(0, "2026-11-22 20:57:10 +00:00");
        check(330, "2026-11-23 02:27:10 +05:30");
        check(-480, "2026-11-22 12:57:10 -08:00");
    }

    #[test]
    fn local_time_reads_back_as_the_same_moment() {
        let time = Utc.with_ymd_and_hms(2026, 7, 1, 12, 0, 0).unwrap();
        let back = DateTime::parse_from_str(&local(time), "%Y-%m-%d %H:%M:%S %:z").unwrap();
        assert_eq!(back, time);
    }

    #[test]
    fn a_fixed_clock_moves_only_when_told() {
        let start = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
        let clock = FixedClock::new(start);
        assert_eq!(clock.now(), start);
        clock.advance(TimeDelta::hours(2));
        assert_eq!(clock.now(), start + TimeDelta::hours(2));
        clock.set(start);
        assert_eq!(clock.now(), start);
    }
}
