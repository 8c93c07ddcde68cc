//! Times by the clock on the wall: windows of maintenance and ends of silences, right over changes of the clock.
//!
//! A beginning that comes twice is the first of the two, an end the second; one that the clock leaves out is the moment
//! at which it jumps. So a window covers all of what its two times name.

use std::str::FromStr as _;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc, Weekday};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use reliab_common::config::Maintenance;

use crate::pattern::Pattern;

/// A time zone: the machine's, or one of the IANA database, of which the machine's copy comes before the one in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Which of two moments a time is that comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first: something begins.
    Start,
    /// The second: something ends.
    End,
}

impl Zone {
    /// The machine's.
    pub fn local() -> Self {
        Self(TimeZone::system())
    }

    /// The zone of this name.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// The moment at which a clock in the zone shows `time`.
    pub fn moment(&self, time: NaiveDateTime, edge: Edge) -> DateTime<Utc> {
        self.found(time, edge).unwrap_or_else(|| time.and_utc())
    }

    /// None where a year has more than four digits.
    fn found(&self, time: NaiveDateTime, edge: Edge) -> Option<DateTime<Utc>> {
        let time = civil_of(time)?;
        let at = |offset: Offset| offset.to_timestamp(time).ok();
        let moment = match self.0.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } if edge == Edge::Start => at(before),
            AmbiguousOffset::Fold { after, .. } => at(after),
            // By the clock as it is after the jump, the time was just before it.
            AmbiguousOffset::Gap { after, .. } => {
                self.0.following(at(after)?).next().map(|jump| jump.timestamp())
            }
        };
        DateTime::from_timestamp(moment?.as_second(), 0)
    }

    /// What a clock in the zone shows.
    pub fn shown(&self, time: DateTime<Utc>) -> NaiveDateTime {
        let offset = Timestamp::from_second(time.timestamp()).map(|moment| self.0.to_offset(moment));
        let seconds = offset.map_or(0, |offset| i64::from(offset.seconds()));
        time.naive_utc() + chrono::TimeDelta::seconds(seconds)
    }
}

/// The same time in the other library's words, which end with the year 9999.
fn civil_of(time: NaiveDateTime) -> Option<civil::DateTime> {
    let year = i16::try_from(time.year()).ok()?;
    let part = |value: u32| i8::try_from(value).ok();
    let (month, day) = (part(time.month())?, part(time.day())?);
    let (hour, minute, second) = (part(time.hour())?, part(time.minute())?, part(time.second())?);
    civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()
}

/// A window of maintenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// What it is called.
    pub name: String,
    /// Which subjects or rules it is about.
    pub matching: Pattern,
    zone: Zone,
    times: Times,
}

#[derive(Clone, Debug, PartialEq)]
enum Times {
    Once {
        from: NaiveDateTime,
        until: NaiveDateTime,
    },
    /// On these days; an end that is not after the start is on the next day.
    Weekly {
        days: Vec<Weekday>,
        start: NaiveTime,
        end: NaiveTime,
    },
}

impl Window {
    /// Whether it is open at `time`.
    pub fn is_open(&self, time: DateTime<Utc>) -> bool {
        match &self.times {
            Times::Once { from, until } => self.covers(*from, *until, time),
            Times::Weekly { days, start, end } => {
                let today = self.zone.shown(time).date();
                let begins = [today.pred_opt(), Some(today), today.succ_opt()];
                begins.into_iter().flatten().any(|day| {
                    let wanted = days.is_empty() || days.contains(&day.weekday());
                    wanted && self.covers(day.and_time(*start), ends(day, *start, *end), time)
                })
            }
        }
    }

    fn covers(&self, from: NaiveDateTime, until: NaiveDateTime, time: DateTime<Utc>) -> bool {
        self.zone.moment(from, Edge::Start) <= time && time < self.zone.moment(until, Edge::End)
    }
}

fn ends(day: NaiveDate, start: NaiveTime, end: NaiveTime) -> NaiveDateTime {
    let day = if end <= start { day.succ_opt().unwrap_or(day) } else { day };
    day.and_time(end)
}

/// Reads a window of the configuration; an error is a sentence that names it.
pub fn window(config: &Maintenance) -> Result<Window, String> {
    let name = config.name.clone().unwrap_or_else(|| "maintenance".to_owned());
    let fail = |what: String| format!("maintenance `{name}`: {what}");
    let zone = match &config.zone {
        None => Zone::local(),
        Some(zone) => Zone::named(zone).ok_or_else(|| {
            fail(format!("`{zone}` is not a time zone: write one such as Europe/Berlin or UTC"))
        })?,
    };
    let times = times(config).map_err(fail)?;
    let matching = config.matching.as_ref().map_or_else(Pattern::any, Pattern::new);
    Ok(Window { name, matching, zone, times })
}

fn times(config: &Maintenance) -> Result<Times, String> {
    match (&config.from, &config.until, &config.start, &config.end) {
        (Some(from), Some(until), None, None) if config.days.is_empty() => {
            let (from, until) = (date_time(from)?, date_time(until)?);
            if from < until {
                Ok(Times::Once { from, until })
            } else {
                Err("`until` is not after `from`".into())
            }
        }
        (None, None, Some(start), Some(end)) => {
            let days = config.days.iter().map(|day| weekday(day)).collect::<Result<_, _>>()?;
            Ok(Times::Weekly { days, start: time_of_day(start)?, end: time_of_day(end)? })
        }
        _ => Err("give `from` and `until`, or `start` and `end` and perhaps `days`".into()),
    }
}

fn weekday(text: &str) -> Result<Weekday, String> {
    Weekday::from_str(text).map_err(|_| format!("`{text}` is not a day: write one such as mon or sunday"))
}

fn time_of_day(text: &str) -> Result<NaiveTime, String> {
    let parsed = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    parsed.ok_or_else(|| format!("`{text}` is not a time of day: write one such as 02:30"))
}

fn date_time(text: &str) -> Result<NaiveDateTime, String> {
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let parsed = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    parsed.ok_or_else(|| format!("`{text}` is not a time: write one such as 2026-11-22 02:30"))
}

/// Reads the end of something that begins `now`: a time with or without its date, or with its offset from UTC.
pub fn until(text: &str, zone: &Zone, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(time) = time_of_day(text) {
        let today = zone.shown(now).date();
        let days = [Some(today), today.succ_opt()];
        let mut moments = days.into_iter().flatten().map(|day| zone.moment(day.and_time(time), Edge::End));
        return moments.find(|&moment| moment > now).ok_or_else(|| format!("`{text}` is no time to come"));
    }
    date_time(text)
        .map(|time| zone.moment(time, Edge::End))
        .map_err(|_| format!("`{text}` is not a time: write one such as 18:00 or 2026-11-22 18:00"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn berlin() -> Maintenance {
        Maintenance { zone: Some("Europe/Berlin".into()), ..Maintenance::default() }
    }

    fn weekly(days: &[&str], start: &str, end: &str) -> Window {
        let days = days.iter().map(|&day| day.to_owned()).collect();
        window(&Maintenance { days, start: Some(start.into()), end: Some(end.into()), ..berlin() }).unwrap()
    }

    fn once(from: &str, until: &str) -> Window {
        window(&Maintenance { from: Some(from.into()), until: Some(until.into()), ..berlin() }).unwrap()
    }

    /// The window is open from `first` up to `last`, and not right outside.
    fn check(window: &Window, first: &str, last: &str) {
        let (first, last): (DateTime<Utc>, DateTime<Utc>) = (first.parse().unwrap(), last.parse().unwrap());
        let second = TimeDelta::seconds(1);
        assert!(!window.is_open(first - second), "before {first}");
        assert!(window.is_open(first), "{first}");
        assert!(window.is_open(first + (last - first) / 2));
        assert!(window.is_open(last - second), "before {last}");
        assert!(!window.is_open(last), "{last}");
    }

    #[test]
    fn windows_go_by_the_wall_clock() {
        check(&weekly(&["sun"], "02:00", "04:00"), "2026-11-22T01:00:00Z", "2026-11-22T03:00:00Z");
        check(&weekly(&["Sunday"], "02:00", "04:00"), "2026-07-05T00:00:00Z", "2026-07-05T02:00:00Z");
        check(&weekly(&["sat"], "23:00", "01:00"), "2026-11-21T22:00:00Z", "2026-11-22T00:00:00Z");
        check(&weekly(&[], "23:00", "01:00"), "2026-11-24T22:00:00Z", "2026-11-25T00:00:00Z");
        check(&once("2026-11-22 02:00", "2026-11-22 02:30"), "2026-11-22T01:00:00Z", "2026-11-22T01:30:00Z");
    }

    /// On 2026-03-29 clocks in Berlin go from 02:00 to 03:00, at 01:00 UTC.
    #[test]
    fn windows_are_right_where_the_clock_goes_forward() {
        check(&weekly(&["sun"], "01:00", "04:00"), "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        check(&weekly(&["sun"], "02:30", "04:00"), "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z");
        check(&weekly(&["sun"], "01:30", "02:30"), "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z");
        check(&once("2026-03-28 22:00", "2026-03-29 06:00"), "2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z");
        let left_out = weekly(&["sun"], "02:10", "02:50");
        let all_day = (0..24 * 60).map(|minute| TimeDelta::minutes(minute));
        let start: DateTime<Utc> = "2026-03-29T00:00:00Z".parse().unwrap();
        assert!(!all_day.into_iter().any(|minute| left_out.is_open(start + minute)));
    }

    /// On 2026-10-25 clocks in Berlin go from 03:00 back to 02:00, at 01:00 UTC.
    #[test]
    fn windows_are_right_where_the_clock_goes_back() {
        check(&weekly(&["sun"], "01:00", "04:00"), "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        check(&weekly(&["sun"], "02:30", "04:00"), "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z");
        check(&weekly(&["sun"], "01:30", "02:30"), "2026-10-24T23:30:00Z", "2026-10-25T01:30:00Z");
        check(&once("2026-10-25 02:00", "2026-10-25 03:00"), "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
    }

    #[test]
    fn windows_are_right_where_clocks_change_otherwise() {
        let at = |zone: &str, start: &str, end: &str| {
            let (zone, start, end) = (Some(zone.into()), Some(start.into()), Some(end.into()));
            window(&Maintenance { zone, start, end, days: vec!["fri".into()], ..Maintenance::default() })
                .unwrap()
        };
        // Samoa left out all of Friday, 2011-12-30.
        let samoa = at("Pacific/Apia", "02:00", "04:00");
        assert!(!samoa.is_open("2011-12-30T10:00:00Z".parse().unwrap()));
        // Clocks in New York went forward at 02:00 on a Sunday; its Friday is an ordinary day.
        check(&at("America/New_York", "02:00", "04:00"), "2026-03-06T07:00:00Z", "2026-03-06T09:00:00Z");
    }

    #[test]
    fn silences_end_by_the_wall_clock_too() {
        let check = |text, now: &str, expected: &str| {
            let found = until(text, &Zone::named("Europe/Berlin").unwrap(), now.parse().unwrap());
            assert_eq!(found, Ok(expected.parse().unwrap()), "{text}");
        };
        check("18:00", "2026-11-22T12:00:00Z", "2026-11-22T17:00:00Z");
        check("18:00", "2026-11-22T17:00:00Z", "2026-11-23T17:00:00Z");
        check("18:00", "2026-03-28T18:00:00Z", "2026-03-29T16:00:00Z");
        check("18:00", "2026-10-24T18:00:00Z", "2026-10-25T17:00:00Z");
        check("02:30", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
        check("02:30", "2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z");
        check("2026-11-23 18:00", "2026-11-22T12:00:00Z", "2026-11-23T17:00:00Z");
        check("2026-11-23T18:00:00+09:00", "2026-11-22T12:00:00Z", "2026-11-23T09:00:00Z");
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let error = until("tomorrow", &Zone::local(), now).unwrap_err();
        assert_eq!(error, "`tomorrow` is not a time: write one such as 18:00 or 2026-11-22 18:00");
    }

    #[test]
    fn a_window_that_cannot_be_is_named() {
        let check = |config: Maintenance, expected: &str| assert_eq!(window(&config).unwrap_err(), expected);
        let named = |name: &str| Maintenance { name: Some(name.into()), ..Maintenance::default() };
        check(
            Maintenance { zone: Some("Berlin".into()), ..named("a") },
            "maintenance `a`: `Berlin` is not a time zone: write one such as Europe/Berlin or UTC",
        );
        let both = "give `from` and `until`, or `start` and `end` and perhaps `days`";
        check(named("a"), &format!("maintenance `a`: {both}"));
        let times = |start: &str, day: &str| Maintenance {
            start: Some(start.into()),
            end: Some("03:00".into()),
            days: vec![day.into()],
            ..named("a")
        };
        check(times("2", "sun"), "maintenance `a`: `2` is not a time of day: write one such as 02:30");
        check(times("02:00", "so"), "maintenance `a`: `so` is not a day: write one such as mon or sunday");
        let back = Maintenance {
            from: Some("2026-11-22 02:00".into()),
            until: Some("2026-11-22 02:00".into()),
            ..named("a")
        };
        check(back, "maintenance `a`: `until` is not after `from`");
    }
}
