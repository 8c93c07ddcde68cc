//! What a notification says, the same for all kinds of channels; kept as JSON in the outbox.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::clock;
use reliab_common::exit::Level;
use reliab_common::units;
use serde::{Deserialize, Serialize};

/// No title is longer, in characters.
pub const TITLE_LIMIT: usize = 200;
/// No line of the body is longer, in characters.
pub const LINE_LIMIT: usize = 500;
/// No body has more lines.
pub const LINES_LIMIT: usize = 60;
/// A message delivered later than this says so.
const LATE: TimeDelta = TimeDelta::minutes(5);
/// The note on incidents whose rule is gone; they did not get well.
pub const UNWATCHED: &str = "no longer watched";
/// The note on those of which nothing was heard any more.
pub const UNHEARD: &str = "no longer heard of";
/// How many subjects a title names.
const SUBJECTS_IN_TITLE: usize = 3;

/// Why a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Incidents opened.
    Opened,
    /// They are still open.
    Reminder,
    /// They are still open, and nobody acknowledged them: further channels are told.
    Escalated,
    /// They are over.
    Closed,
    /// They began and ended between two evaluations.
    Passed,
    /// They come and go.
    Flapping,
    /// A channel refused messages for good.
    Undeliverable,
    /// Somebody tries a channel out.
    Test,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Opened,
        Self::Reminder,
        Self::Escalated,
        Self::Closed,
        Self::Passed,
        Self::Flapping,
        Self::Undeliverable,
        Self::Test,
    ];

    /// The name used in JSON and in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reminder => "reminder",
            Self::Escalated => "escalated",
            Self::Closed => "closed",
            Self::Passed => "passed",
            Self::Flapping => "flapping",
            Self::Undeliverable => "undeliverable",
            Self::Test => "test",
        }
    }

    /// Whether what the message tells of is over.
    pub fn is_resolved(self) -> bool {
        matches!(self, Self::Closed | Self::Passed)
    }
}

/// An incident as a message tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentLine {
    /// Its number in the state.
    pub id: i64,
    /// The name of its rule.
    pub rule: String,
    /// What it is about, such as `probe api`.
    pub subject: String,
    /// The worst it has been since it opened.
    pub level: Level,
    /// One line on what was found.
    pub summary: String,
    /// The first fact that fits the rule.
    pub began: DateTime<Utc>,
    /// When it began as it was first told, where a wrong clock changed that since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<DateTime<Utc>>,
    /// When it was confirmed.
    pub opened: Option<DateTime<Utc>>,
    /// When it was over.
    pub closed: Option<DateTime<Utc>>,
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Why it is sent.
    pub kind: Kind,
    /// The machine that tells.
    pub host: String,
    /// What it is about.
    pub incidents: Vec<IncidentLine>,
    /// Since when it is owed.
    pub owed: DateTime<Utc>,
    /// What else is to be said, such as `flapping, 14 changes`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Message {
    /// The gravest level of its incidents; OK when they are over, and a warning where only the telling failed.
    pub fn level(&self) -> Level {
        if self.kind.is_resolved() {
            return Level::Ok;
        }
        let telling = self.kind == Kind::Undeliverable;
        let floor = if telling { Level::Warning } else { Level::Ok };
        let counted = self.incidents.iter().filter(|one| !telling || one.closed.is_none());
        counted.fold(floor, |worst, incident| worst.worst(incident.level))
    }

    /// Whether all that it tells of is over.
    pub fn is_over(&self) -> bool {
        self.kind.is_resolved() || self.incidents.iter().all(|one| one.closed.is_some())
    }

    /// One line without control characters, at most [`TITLE_LIMIT`] characters.
    pub fn title(&self) -> String {
        let text = match (self.kind, self.incidents.as_slice()) {
            (Kind::Test, _) => "test message".to_owned(),
            (Kind::Undeliverable, _) => format!("undeliverable: {}", self.note),
            (kind, [one]) => one.title(kind, self.owed, &self.note),
            (kind, several) => title_of(kind, several, &self.note),
        };
        bounded(&format!("[{}] {text}", self.host), TITLE_LIMIT)
    }

    /// The body: lines of plain text without control characters, at most [`LINES_LIMIT`] of [`LINE_LIMIT`] characters.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.incidents.iter().flat_map(|incident| incident.lines(self.kind, self.owed)).collect();
        lines.extend((!self.note.is_empty()).then(|| self.note.clone()));
        let more = lines.len().saturating_sub(LINES_LIMIT);
        if more > 0 {
            lines.truncate(LINES_LIMIT - 1);
            lines.push(format!("and {} more lines: see `reliab alert list`", more + 1));
        }
        lines.iter().map(|line| bounded(line, LINE_LIMIT)).collect()
    }

    /// What a message says that is delivered at `now`, well after it was owed: `delivered 42 min 00 s late`.
    pub fn late(&self, now: DateTime<Utc>) -> Option<String> {
        let late = now - self.owed;
        (late > LATE).then(|| format!("delivered {} late", span(late)))
    }
}

impl IncidentLine {
    /// The time by which others know it, in seconds: the same in all its messages.
    pub fn key_time(&self) -> i64 {
        self.first.unwrap_or(self.began).timestamp()
    }

    fn title(&self, kind: Kind, now: DateTime<Utc>, note: &str) -> String {
        let what = format!("{} {}: {}", shout(self.level), self.subject, self.summary);
        let lasted = span(self.closed.unwrap_or(now) - self.began);
        match kind {
            Kind::Reminder => format!("still {what} (for {lasted})"),
            Kind::Escalated => format!("escalated: {what} (for {lasted})"),
            Kind::Closed => format!("{}: {} after {lasted}", over(note), self.subject),
            Kind::Passed => format!("passed: {} was {} for {lasted}", self.subject, shout(self.level)),
            Kind::Flapping => format!("{}: {note}", self.subject),
            Kind::Opened | Kind::Undeliverable | Kind::Test => what,
        }
    }

    fn lines(&self, kind: Kind, now: DateTime<Utc>) -> [String; 2] {
        let first = format!("{} {}: {}", shout(self.level), self.subject, self.summary);
        let mut second =
            format!("  incident {} of rule {}, since {}", self.id, self.rule, clock::local(self.began));
        if let Some(closed) = self.closed {
            let _ = write!(second, " until {} ({})", clock::local(closed), span(closed - self.began));
        } else if matches!(kind, Kind::Reminder | Kind::Escalated) {
            let _ = write!(second, " ({})", span(now - self.began));
        }
        [first, second]
    }
}

/// The title of a message about several incidents, or about none.
fn title_of(kind: Kind, incidents: &[IncidentLine], note: &str) -> String {
    let verb = match kind {
        Kind::Opened | Kind::Undeliverable | Kind::Test => "opened",
        Kind::Reminder => "still open",
        Kind::Escalated => "escalated",
        Kind::Closed => over(note),
        Kind::Passed => "passed",
        Kind::Flapping => "flapping",
    };
    let worst = incidents.iter().fold(Level::Ok, |worst, incident| worst.worst(incident.level));
    let level = if kind.is_resolved() { String::new() } else { format!("{} ", shout(worst)) };
    let mut names: Vec<&str> = incidents.iter().map(|incident| incident.subject.as_str()).collect();
    names.dedup();
    let more = names.len().saturating_sub(SUBJECTS_IN_TITLE);
    names.truncate(SUBJECTS_IN_TITLE);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{level}{} incidents {verb}: {}{tail}", incidents.len(), names.join(", "))
}

/// What is said of what is over: not everything got well.
fn over(note: &str) -> &str {
    if matches!(note, UNWATCHED | UNHEARD) { note } else { "resolved" }
}

fn shout(level: Level) -> String {
    level.name().to_uppercase()
}

/// A span of time as people read it; none for what goes backwards.
fn span(time: TimeDelta) -> String {
    units::duration(time.to_std().unwrap_or_default())
}

/// Text of one line and at most `limit` characters: what is measured may hold anything.
fn bounded(text: &str, limit: usize) -> String {
    let clean: String = text.chars().take(limit + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= limit {
        return clean;
    }
    let mut cut: String = clean.chars().take(limit - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn incident(subject: &str) -> IncidentLine {
        IncidentLine {
            id: 7,
            rule: "api-down".into(),
            subject: subject.into(),
            level: Level::Critical,
            summary: "connection refused".into(),
            began: at("2026-11-22T12:00:00Z"),
            first: None,
            opened: Some(at("2026-11-22T12:01:00Z")),
            closed: None,
        }
    }

    fn message(kind: Kind, incidents: Vec<IncidentLine>) -> Message {
        let note = if kind == Kind::Flapping { "flapping, 14 changes" } else { "" };
        Message { kind, host: "web1".into(), incidents, owed: at("2026-11-22T12:03:00Z"), note: note.into() }
    }

    #[test]
    fn titles_say_what_and_how_long() {
        let check = |kind, expected: &str| {
            let closed = matches!(kind, Kind::Closed | Kind::Passed).then(|| at("2026-11-22T12:02:00Z"));
            let one = IncidentLine { closed, ..incident("probe api") };
            assert_eq!(message(kind, vec![one]).title(), expected);
        };
        check(Kind::Opened, "[web1] CRITICAL probe api: connection refused");
        check(Kind::Reminder, "[web1] still CRITICAL probe api: connection refused (for 3 min 00 s)");
        check(Kind::Escalated, "[web1] escalated: CRITICAL probe api: connection refused (for 3 min 00 s)");
        check(Kind::Closed, "[web1] resolved: probe api after 2 min 00 s");
        check(Kind::Passed, "[web1] passed: probe api was CRITICAL for 2 min 00 s");
        check(Kind::Flapping, "[web1] probe api: flapping, 14 changes");
        check(Kind::Test, "[web1] test message");
    }

    #[test]
    fn a_title_of_many_names_three() {
        let incidents = ["probe a", "probe b", "disk /", "disk /srv"].map(incident).to_vec();
        let opened = message(Kind::Opened, incidents.clone());
        assert_eq!(opened.title(), "[web1] CRITICAL 4 incidents opened: probe a, probe b, disk / and 1 more");
        assert_eq!(opened.level(), Level::Critical);
        let closed = message(Kind::Closed, incidents[..2].to_vec());
        assert_eq!(closed.title(), "[web1] 2 incidents resolved: probe a, probe b");
        assert_eq!(closed.level(), Level::Ok);
    }

    #[test]
    fn what_did_not_get_well_is_not_called_resolved() {
        let closed = IncidentLine { closed: Some(at("2026-11-22T12:02:00Z")), ..incident("probe api") };
        let of = |incidents| Message { note: UNHEARD.into(), ..message(Kind::Closed, incidents) }.title();
        assert_eq!(of(vec![closed.clone()]), "[web1] no longer heard of: probe api after 2 min 00 s");
        let two = vec![closed.clone(), closed];
        assert_eq!(of(two), "[web1] 2 incidents no longer heard of: probe api");
    }

    #[test]
    fn a_body_names_each_incident_with_its_rule_and_times() {
        let lines = message(Kind::Reminder, vec![incident("probe api")]).lines();
        assert_eq!(lines[0], "CRITICAL probe api: connection refused");
        let since = clock::local(at("2026-11-22T12:00:00Z"));
        assert_eq!(lines[1], format!("  incident 7 of rule api-down, since {since} (3 min 00 s)"));
        let many = message(Kind::Opened, vec![incident("probe api"); 1000]).lines();
        assert_eq!(many.len(), LINES_LIMIT);
        assert_eq!(many[LINES_LIMIT - 1], "and 1941 more lines: see `reliab alert list`");
    }

    #[test]
    fn only_late_messages_say_so() {
        let message = message(Kind::Opened, vec![]);
        assert_eq!(message.late(message.owed + TimeDelta::minutes(5)), None);
        let late = message.late(message.owed + TimeDelta::minutes(42));
        assert_eq!(late.as_deref(), Some("delivered 42 min 00 s late"));
        assert_eq!(message.late(message.owed - TimeDelta::days(1)), None);
    }

    #[test]
    fn kinds_have_one_name_in_json_and_state() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    proptest! {
        #[test]
        fn nothing_that_was_measured_breaks_a_line_or_its_bound(summary in "\\PC{0,40}|(.|\n|\r|\x1b){0,700}") {
            let one = IncidentLine { summary, ..incident("probe api") };
            for &kind in Kind::ALL {
                let message = message(kind, vec![one.clone()]);
                let text = serde_json::to_string(&message).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Message>(&text).unwrap(), &message);
                prop_assert!(message.title().chars().count() <= TITLE_LIMIT);
                for line in message.lines().iter().chain([&message.title()]) {
                    prop_assert!(line.chars().count() <= LINE_LIMIT && !line.contains(char::is_control));
                }
            }
        }
    }
}
