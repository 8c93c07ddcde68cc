//! Starts of jobs in the words of systemd.time(7) and of crontab(5).

use std::time::Duration;

use chrono::Weekday;
use reliab_common::config::schedule::{Start, TimeOfDay};
use reliab_common::units::rough;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;

/// A period that calendars can say exactly.
enum Step {
    Seconds(u64),
    Minutes(u64),
    Hours(u64),
    Day,
    Week,
}

/// The value of `OnCalendar=`.
pub fn on_calendar(start: Start) -> Result<String, String> {
    Ok(match start {
        Start::At(TimeOfDay { weekday, hour, minute }) => {
            let day = weekday.map_or(String::new(), |day| format!("{day} "));
            format!("{day}*-*-* {hour:02}:{minute:02}:00")
        }
        Start::Every(period) => match step(period)? {
            Step::Seconds(n) => format!("*-*-* *:*:0/{n}"),
            Step::Minutes(1) => "*-*-* *:*:00".into(),
            Step::Minutes(n) => format!("*-*-* *:0/{n}:00"),
            Step::Hours(1) => "*-*-* *:00:00".into(),
            Step::Hours(n) => format!("*-*-* 0/{n}:00:00"),
            Step::Day => "*-*-* 00:00:00".into(),
            Step::Week => "Sun *-*-* 00:00:00".into(),
        },
    })
}

/// The first five fields of a line in a crontab.
pub fn cron(start: Start) -> Result<String, String> {
    Ok(match start {
        Start::At(TimeOfDay { weekday, hour, minute }) => {
            format!("{minute} {hour} * * {}", weekday.map_or("*".into(), sunday_is_0))
        }
        Start::Every(period) => match step(period)? {
            Step::Seconds(_) => {
                let text = rough(period);
                return Err(format!("cron cannot start a job every {text}: its shortest step is a minute"));
            }
            Step::Minutes(1) => "* * * * *".into(),
            Step::Minutes(n) => format!("*/{n} * * * *"),
            Step::Hours(1) => "0 * * * *".into(),
            Step::Hours(n) => format!("0 */{n} * * *"),
            Step::Day => "0 0 * * *".into(),
            Step::Week => "0 0 * * 0".into(),
        },
    })
}

fn sunday_is_0(day: Weekday) -> String {
    day.num_days_from_sunday().to_string()
}

/// How long a start may be put off so that machines and jobs do not all begin at once: a twentieth of the period.
pub fn spread(period: Duration) -> Duration {
    Duration::from_secs((period.as_secs() / 20).min(300))
}

/// Calendars count from the full minute, hour and day, so a period must divide them.
fn step(period: Duration) -> Result<Step, String> {
    let seconds = period.as_secs();
    let divides = |unit: u64, whole: u64| {
        seconds.is_multiple_of(unit) && seconds < whole && whole.is_multiple_of(seconds)
    };
    if period.subsec_nanos() == 0 && seconds > 0 {
        if divides(1, MINUTE) {
            return Ok(Step::Seconds(seconds));
        } else if divides(MINUTE, HOUR) {
            return Ok(Step::Minutes(seconds / MINUTE));
        } else if divides(HOUR, DAY) {
            return Ok(Step::Hours(seconds / HOUR));
        } else if seconds == DAY {
            return Ok(Step::Day);
        } else if seconds == WEEK {
            return Ok(Step::Week);
        }
    }
    Err(format!(
        "timers cannot start a job every {}: take a part of a minute, an hour or a day, such as 15m or 6h, \
         or 1d or 7d",
        reliab_common::units::duration(period)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn every(text: &str) -> Start {
        Start::Every(reliab_common::units::parse_duration(text).unwrap())
    }

    fn at(text: &str) -> Start {
        Start::At(text.parse().unwrap())
    }

    #[test]
    fn starts_in_the_words_of_systemd_and_cron() {
        let check = |start, calendar: &str, fields: &str| {
            assert_eq!(on_calendar(start).unwrap(), calendar);
            assert_eq!(cron(start).unwrap(), fields);
        };
        check(every("1m"), "*-*-* *:*:00", "* * * * *");
        check(every("5m"), "*-*-* *:0/5:00", "*/5 * * * *");
        check(every("60m"), "*-*-* *:00:00", "0 * * * *");
        check(every("6h"), "*-*-* 0/6:00:00", "0 */6 * * *");
        check(every("24h"), "*-*-* 00:00:00", "0 0 * * *");
        check(every("7d"), "Sun *-*-* 00:00:00", "0 0 * * 0");
        check(at("02:30"), "*-*-* 02:30:00", "30 2 * * *");
        check(at("Sun 04:05"), "Sun *-*-* 04:05:00", "5 4 * * 0");
        check(at("Sat 23:59"), "Sat *-*-* 23:59:00", "59 23 * * 6");
    }

    #[test]
    fn periods_that_no_calendar_has_are_refused() {
        for text in ["7m", "45m", "90m", "5h", "36h", "2d", "1500ms", "90s"] {
            assert!(on_calendar(every(text)).is_err() && cron(every(text)).is_err(), "{text}");
        }
        assert_eq!(on_calendar(every("10s")).unwrap(), "*-*-* *:*:0/10");
        assert!(cron(every("10s")).unwrap_err().contains("its shortest step is a minute"));
    }

    /// systemd itself says when the next starts are.
    #[test]
    fn systemd_agrees_on_the_time_between_two_starts() {
        for text in ["1s", "10s", "1m", "5m", "30m", "1h", "4h", "12h", "1d", "7d"] {
            let period = reliab_common::units::parse_duration(text).unwrap();
            let calendar = on_calendar(Start::Every(period)).unwrap();
            let starts = next_starts(&calendar);
            assert!(starts.len() >= 3, "{text}: {starts:?}");
            let is_step = |two: &[i64]| u64::try_from(two[1] - two[0]).unwrap() == period.as_secs();
            assert!(starts.windows(2).all(is_step), "{text}: {starts:?}");
        }
        assert!(next_starts("Sun *-*-* 04:05:00").iter().all(|start| start % 86_400 == 4 * 3600 + 300));
    }

    fn next_starts(calendar: &str) -> Vec<i64> {
        let output = Command::new("systemd-analyze")
            .args(["calendar", "--iterations=4", calendar])
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .output()
            .expect("systemd-analyze is in the package systemd");
        let text = String::from_utf8(output.stdout).unwrap();
        let times = text.lines().filter(|line| line.contains(" UTC"));
        times
            .map(|line| {
                let at = line.split_once(": ").unwrap().1.trim();
                let (_, at) = at.split_once(' ').unwrap();
                let time = chrono::NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S UTC").unwrap();
                time.and_utc().timestamp()
            })
            .collect()
    }
}
