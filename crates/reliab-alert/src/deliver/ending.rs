//! What an attempt comes to: taken, tried again or refused, and who tells of it.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

use super::Run;
use super::report::Told;
use crate::channel::{Class, SendError};
use crate::outbox::{Ended, Owed, Progress, last_wait, wait};

impl Run<'_> {
    /// What is to be done about an attempt that ended so; with the channel that told of it before.
    pub(super) fn judge(
        &self,
        head: &Owed,
        result: Result<String, SendError>,
        progress: Progress,
    ) -> anyhow::Result<(Ended, Option<String>)> {
        let error = match result {
            Ok(receipt) => return Ok((Ended::Delivered { receipt }, None)),
            Err(error) => error,
        };
        // What its channel refuses day after day, while it takes others, is told elsewhere and makes way.
        let now = self.deliverer.clock.now();
        let poisoned = error.class != Class::Message
            && self.outbox.is_held(head, now)?
            && self.outbox.is_overtaken(head)?;
        if error.class == Class::Passing && !poisoned {
            let due = self.later(self.backoff(head, &error, &progress));
            return Ok((Ended::Passing { error: error.text, due, progress, report: None }, None));
        }
        let (report, by) = match self.report(head, &error.text)? {
            Told::New(report) => (Some(report), None),
            Told::Already(by) => (None, Some(by)),
            Told::Nobody => (None, None),
        };
        let told = report.is_some() || by.is_some();
        // What is wrong with a channel can be mended, and a wrong answer of its service passes: the message waits.
        let waits = match error.class {
            Class::Message => false,
            Class::Absent => !told,
            _ if poisoned => !told,
            Class::Channel | Class::Passing => true,
        };
        if !waits {
            return Ok((Ended::Refused { error: error.text, report }, by));
        }
        let long = told.then(|| last_wait(self.deliverer.seed, head.id));
        let due = self.later(long.unwrap_or_else(|| self.backoff(head, &error, &progress)));
        Ok((Ended::Passing { error: error.text, due, progress, report }, by))
    }

    /// The wait before the next attempt; one that came further than those before it starts anew.
    fn backoff(&self, head: &Owed, error: &SendError, progress: &Progress) -> Duration {
        let attempt = if progress.sent > head.progress.sent { 1 } else { head.attempts + 1 };
        wait(self.deliverer.seed, head.id, attempt, error.retry_after)
    }

    fn later(&self, wait: Duration) -> DateTime<Utc> {
        self.deliverer.clock.now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(1))
    }

    /// Says on stderr how an attempt ended, if that was not well.
    pub(super) fn tell(&self, head: &Owed, ended: &Ended, by: Option<&str>) {
        let (key, channel) = (&head.key, &head.channel);
        let (error, report, again) = match ended {
            Ended::Delivered { .. } => return,
            Ended::Passing { error, report, .. } => (error, report, true),
            Ended::Refused { error, report } => (error, report, false),
        };
        let by = report.as_ref().map(|report| report.channel.as_str()).or(by);
        let then = match (by, again) {
            (Some(by), true) => format!("it is tried again, and told by channel {by}"),
            (None, true) => "it is tried again".to_owned(),
            (Some(by), false) => format!("this is told by channel {by}"),
            (None, false) => "there is no other channel to tell of it".to_owned(),
        };
        let text = format!("channel {channel}: {error}; {then} (message {key})");
        let mut ui = self.ui.borrow_mut();
        if by.is_none() && !again { ui.error(text) } else { ui.warn(text) }
    }
}
