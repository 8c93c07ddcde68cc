//! The section `[schedule]`: which jobs timers start, and when one is late.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{NaiveTime, Timelike, Weekday};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};

use super::values::{DurationText, Optional};
use crate::units;

/// The section `[schedule]`: jobs by name, as in `[schedule.backup]`.
pub type Schedule = BTreeMap<String, ScheduledJob>;

/// A job that a timer starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Keys")]
pub struct ScheduledJob {
    /// The command line after `reliab`; empty: the job's name is the command.
    command: Vec<String>,
    /// When it starts.
    pub start: Start,
    /// How long after its last run the job is late, where that is said.
    late_after: Option<Duration>,
    /// After how long a run is stopped, where that is said.
    timeout: Option<Duration>,
}

/// Shows each job with what follows from its name and its rhythm.
pub(super) fn shown<S: Serializer>(schedule: &Schedule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(schedule.iter().map(|(name, job)| (name, job.keys(name))))
}

/// When a job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Again and again, with this much time between two starts.
    Every(Duration),
    /// At a time of day, in the machine's time zone.
    At(TimeOfDay),
}

/// A time of day, on one day of the week or on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// The day of the week; `None` is each day.
    pub weekday: Option<Weekday>,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
}

/// The keys of a job, as the file has them.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a job such as [schedule.backup]")]
#[schemars(extend("oneOf" = [{ "required": ["every"] }, { "required": ["at"] }]))]
struct Keys {
    /// The command line after `reliab`; its first word is the tool. Without it, the job's name.
    #[serde(default)]
    command: Vec<String>,
    /// The time between two starts.
    #[serde(default, with = "Optional::<DurationText>")]
    every: Option<Duration>,
    /// The time of day of a start, such as `"02:30"` or `"Sun 04:00"`, in the machine's time zone.
    at: Option<String>,
    /// How long after its last run the job is late; without it, found from the rhythm.
    #[serde(default, with = "Optional::<DurationText>")]
    late_after: Option<Duration>,
    /// After how long a run is stopped; without it, found from the rhythm.
    #[serde(default, with = "Optional::<DurationText>")]
    timeout: Option<Duration>,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl ScheduledJob {
    /// The command line after `reliab` of the job called `name`.
    pub fn command(&self, name: &str) -> Vec<String> {
        if self.command.is_empty() { vec![name.to_owned()] } else { self.command.clone() }
    }

    /// All keys of the job called `name`, as the file could have them.
    fn keys(&self, name: &str) -> Keys {
        let (every, at) = match self.start {
            Start::Every(period) => (Some(period), None),
            Start::At(time) => (None, Some(time.to_string())),
        };
        Keys {
            command: self.command(name),
            every,
            at,
            late_after: Some(self.late_after()),
            timeout: Some(self.timeout()),
        }
    }

    /// The tool that the job called `name` runs: the first word of its command line that is no option.
    pub fn tool(&self, name: &str) -> String {
        let words = self.command(name);
        let tool = words.iter().find(|word| !word.starts_with('-'));
        tool.cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The time between two starts.
    pub fn period(&self) -> Duration {
        match self.start {
            Start::Every(period) => period,
            Start::At(TimeOfDay { weekday: None, .. }) => DAY,
            Start::At(TimeOfDay { weekday: Some(_), .. }) => 7 * DAY,
        }
    }

    /// How much later than expected a run may be: a twelfth of the period, 5 minutes to 12 hours, so 2 hours a day.
    pub fn grace(&self) -> Duration {
        match self.late_after {
            Some(late) => late.saturating_sub(self.period()),
            None => (self.period() / 12).clamp(5 * MINUTE, 12 * HOUR),
        }
    }

    /// How long after the start of its last good run the job is late.
    pub fn late_after(&self) -> Duration {
        self.late_after.unwrap_or_else(|| self.period() + self.grace())
    }

    /// After how long a run is stopped: the period, but at least 10 minutes and at most a day.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.period().clamp(10 * MINUTE, DAY))
    }
}

impl JsonSchema for ScheduledJob {
    fn schema_name() -> Cow<'static, str> {
        "ScheduledJob".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Keys::json_schema(generator)
    }
}

impl TryFrom<Keys> for ScheduledJob {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let start = match (keys.every, keys.at) {
            (Some(period), None) if period < Duration::from_secs(1) => {
                return Err("`every` must be at least one second".into());
            }
            (Some(period), None) => Start::Every(period),
            (None, Some(at)) => Start::At(at.parse()?),
            (Some(_), Some(_)) => return Err("`every` and `at` cannot both say when the job starts".into()),
            (None, None) => {
                return Err("when does it start? give `every = \"1h\"` or `at = \"02:30\"`".into());
            }
        };
        let job = Self { command: keys.command, start, late_after: keys.late_after, timeout: keys.timeout };
        if job.late_after.is_some_and(|late| late < job.period()) {
            let period = units::rough(job.period());
            return Err(format!("`late_after` must be at least the {period} between two starts"));
        }
        Ok(job)
    }
}

impl std::str::FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is not a time of day: write hours and minutes, such as \"02:30\" or \"Sun 04:00\""
            )
        };
        let (weekday, time) = match text.trim().rsplit_once(' ') {
            Some((day, time)) => (Some(day.trim().parse().map_err(|_| bad())?), time),
            None => (None, text.trim()),
        };
        let time = NaiveTime::parse_from_str(time, "%H:%M").map_err(|_| bad())?;
        Ok(Self { weekday, hour: time.hour(), minute: time.minute() })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(day) = self.weekday {
            write!(f, "{day} ")?;
        }
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(period) => write!(f, "every {}", units::rough(*period)),
            Self::At(time) => write!(f, "at {time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> ScheduledJob {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn when_a_job_is_late_follows_from_its_rhythm() {
        let check = |text, period, late| {
            let job = job(text);
            assert_eq!((job.period(), job.late_after()), (period, late), "{text}");
        };
        check("at = \"02:30\"", DAY, 26 * HOUR);
        check("at = \"Sun 04:00\"", 7 * DAY, 7 * DAY + 12 * HOUR);
        check("every = \"1m\"", MINUTE, 6 * MINUTE);
        check("every = \"1h\"", HOUR, 65 * MINUTE);
        check("every = \"1h\"\nlate_after = \"3h\"", HOUR, 3 * HOUR);
    }

    #[test]
    fn a_run_is_stopped_after_its_period_within_bounds() {
        let check = |text, expected| assert_eq!(job(text).timeout(), expected, "{text}");
        check("every = \"1m\"", 10 * MINUTE);
        check("at = \"Mon 02:30\"", DAY);
        check("every = \"6h\"", 6 * HOUR);
        check("every = \"6h\"\ntimeout = \"5m\"", 5 * MINUTE);
    }

    #[test]
    fn the_tool_is_the_first_word_that_is_no_option() {
        assert_eq!(job("every = \"1h\"").tool("verify"), "verify");
        let job = job("every = \"1h\"\ncommand = [\"--verbose\", \"verify\", \"--sample\", \"5%\"]");
        assert_eq!(job.tool("nightly"), "verify");
        assert_eq!(job.command("nightly").len(), 4);
    }

    #[test]
    fn times_of_day_read_back_as_they_are_shown() {
        for text in ["02:30", "Sun 04:00", "Wed 23:59", "00:00"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        for text in ["", "24:00", "2", "02:60", "Someday 02:30", "02:30 Sun", "02:30:01"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_scheduled_is_refused_with_a_reason() {
        let check = |text, reason: &str| {
            let error = toml::from_str::<ScheduledJob>(text).unwrap_err().message().to_owned();
            assert!(error.contains(reason), "{text}: {error}");
        };
        check("", "when does it start?");
        check("every = \"1h\"\nat = \"02:30\"", "cannot both");
        check("every = \"10ms\"", "at least one second");
        check("at = \"noon\"", "`noon` is not a time of day");
        check("at = \"02:30\"\nlate_after = \"5h\"", "at least the 24 h");
        check("at = \"02:30\"\nevry = 1", "unknown field `evry`");
    }
}
