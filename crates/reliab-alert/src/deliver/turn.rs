//! A channel's turn: its messages one after the other, until one is not due or fails.

use std::fs::File;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::config;
use reliab_common::failure::plain;
use reliab_common::state::StateError;

use super::Run;
use crate::channel::{Channel, Class, Outgoing, Pace, SendError};
use crate::outbox::{ASTRAY, Ended, Owed, latest_due};
use crate::rule::CONSOLE;

/// How much longer than its attempt nobody else begins one with the same message.
const MARGIN: TimeDelta = TimeDelta::seconds(5);
/// A file whose time tells when messages were last sent that could not be written down.
const UNRECORDED: &str = "deliver.unrecorded";
/// So long none of them is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(15 * 60);

/// How a channel's turn ended.
pub(super) enum Turn {
    /// It is owed nothing more.
    Drained,
    /// What it is owed must wait for the next run.
    Left,
}

/// What follows an attempt.
enum Next {
    /// The next message.
    Head,
    /// The one behind this, which is still owed by the state.
    Behind,
    /// This again, if it is due soon; the one behind it, if it has been failing for a day.
    Failed,
    /// Nothing in this run.
    Leave,
}

impl Run<'_> {
    /// Sends what a channel is owed, in order.
    pub(super) async fn turn(&self, name: &str) -> anyhow::Result<Turn> {
        // A state that cannot be written costs a needless reminder; what is owed goes out all the same.
        let _ = self.outbox.replace_reminders(name, self.deliverer.clock.now());
        let mut channel = None;
        let mut after = 0;
        while !self.is_over() {
            let Some(head) = self.outbox.head(name, after)? else {
                if after == 0 {
                    return Ok(Turn::Drained);
                }
                break;
            };
            if !self.wait_for(&head).await {
                if !self.is_passed_by(&head)? {
                    break;
                }
                after = head.id;
                continue;
            }
            match self.attempt(&head, &mut channel).await? {
                Next::Behind => after = head.id,
                Next::Failed if self.holds_up(&head)? => after = head.id,
                Next::Head | Next::Failed => {}
                Next::Leave => break,
            }
        }
        if let Err(error) = self.report_waiting(name) {
            self.ui
                .borrow_mut()
                .warn(format_args!("channel {name}: what waits is not told elsewhere: {error:#}"));
        }
        Ok(Turn::Left)
    }

    /// Whether a message that failed has been failing for so long that what is behind it is tried too.
    fn holds_up(&self, head: &Owed) -> Result<bool, StateError> {
        self.outbox.is_held(head, self.deliverer.clock.now())
    }

    /// Whether what is behind a message that waits for its next attempt does not wait with it: once its channel has taken
    /// a later one.
    fn is_passed_by(&self, head: &Owed) -> Result<bool, StateError> {
        Ok(self.holds_up(head)? && self.outbox.is_overtaken(head)?)
    }

    /// Waits until a message is due, if that is soon.
    async fn wait_for(&self, head: &Owed) -> bool {
        let clock = self.deliverer.clock;
        let now = clock.now();
        // What is due already has a wait below zero, which is none.
        let Ok(wait) = (due(head, now) - now).to_std() else { return true };
        if wait.is_zero() {
            return true;
        }
        let wait = wait + Duration::from_millis(1);
        if wait > self.time_left(self.deliverer.limits.retry_within) {
            return false;
        }
        tokio::time::sleep(wait).await;
        clock.now() >= head.due
    }

    /// Sends a message once, and writes that down before and after.
    async fn attempt(&self, head: &Owed, channel: &mut Option<Channel>) -> anyhow::Result<Next> {
        let deliverer = self.deliverer;
        let now = deliverer.clock.now();
        let opened = self.open(head, channel);
        let Some((each, limit)) = self.limits(opened.as_ref().ok().copied()) else { return Ok(Next::Leave) };
        let attempt = match self.outbox.begin(head, now, lease(now, limit)) {
            Ok(Some(attempt)) => Some(attempt),
            Ok(None) => return Ok(Next::Leave),
            Err(error) if self.may_repeat() => {
                self.warn(head, "sent without being written down", &error);
                None
            }
            Err(error) => return Err(error).context("cannot write down that a message is being sent"),
        };
        let pace = Pace::after(head.progress.clone(), each);
        let result = match opened {
            Ok(channel) => self.send(head, channel, &pace, limit).await,
            Err(error) => Err(error),
        };
        (deliverer.reached)(crate::outbox::Point::Sent);
        let (ended, by) = self.judge(head, result, pace.progress.into_inner())?;
        self.tell(head, &ended, by.as_deref());
        Ok(self.write_down(head, attempt, &ended))
    }

    /// How long one request may take, and all of the attempt; none where a program would be cut off before its time.
    fn limits(&self, channel: Option<&Channel>) -> Option<(Duration, Duration)> {
        let limits = self.deliverer.limits;
        let left = self.time_left(limits.run);
        let own = channel.and_then(Channel::timeout);
        if own.is_some_and(|own| own < limits.run && own > left) {
            return None;
        }
        let each = own.unwrap_or(limits.attempt).min(left);
        Some((each, if channel.is_some_and(Channel::sends_many) { left } else { each }))
    }

    /// Makes the channel ready, once.
    fn open<'c>(&self, head: &Owed, channel: &'c mut Option<Channel>) -> Result<&'c Channel, SendError> {
        if channel.is_none() {
            let lasting = |class, text: &str| SendError { class, text: text.into(), retry_after: None };
            // Where no channel is configured, rules tell the console.
            let console = config::Channel::Console(config::channel::Console::default());
            let console = (head.channel == CONSOLE).then_some(&console);
            let config = self.deliverer.channels.get(&head.channel).or(console);
            let config =
                config.ok_or_else(|| lasting(Class::Absent, "no channel of this name is configured"))?;
            *channel = Some(Channel::open(config, self.deliverer.env)?);
        }
        channel.as_ref().ok_or_else(|| SendError::passing("it is not ready"))
    }

    async fn send(
        &self,
        head: &Owed,
        channel: &Channel,
        pace: &Pace,
        limit: Duration,
    ) -> Result<String, SendError> {
        let unreadable = |error: &String| SendError {
            class: Class::Message,
            text: format!("the message in the outbox cannot be read: {error}"),
            retry_after: None,
        };
        let message = head.message.as_ref().map_err(unreadable)?;
        let out = Outgoing { key: &head.key, message, now: self.deliverer.clock.now() };
        let sent = tokio::time::timeout(limit, channel.send(&out, pace, &self.ui)).await;
        sent.unwrap_or_else(|_| Err(SendError::late(limit)))
    }

    fn write_down(&self, head: &Owed, attempt: Option<i64>, ended: &Ended) -> Next {
        let unwritten = match ended {
            Ended::Delivered { .. } | Ended::Refused { .. } => Next::Behind,
            Ended::Passing { .. } => Next::Leave,
        };
        let now = self.deliverer.clock.now();
        let written = attempt.map(|attempt| self.outbox.end(head, attempt, ended, now));
        let mut tally = self.tally.borrow_mut();
        match ended {
            Ended::Delivered { .. } => tally.delivered += 1,
            Ended::Passing { .. } => tally.failed += 1,
            Ended::Refused { .. } => tally.refused += 1,
        }
        match written {
            Some(Ok(())) if matches!(ended, Ended::Passing { .. }) => return Next::Failed,
            Some(Ok(())) => return Next::Head,
            Some(Err(error)) => self.warn(head, "sent, and will be sent again", &error),
            None => {}
        }
        if matches!(ended, Ended::Delivered { .. }) {
            tally.unrecorded += 1;
        }
        unwritten
    }

    /// Whether what cannot be written down is sent all the same: to be told twice is better than not at all, but not
    /// every minute.
    fn may_repeat(&self) -> bool {
        *self.repeat.get_or_init(|| {
            let path = self.deliverer.state.path().with_file_name(UNRECORDED);
            let age = || SystemTime::now().duration_since(path.metadata().ok()?.modified().ok()?).ok();
            if age().is_some_and(|age| age < REPEAT_AFTER) {
                return false;
            }
            // Needs no room on a full disk; where it fails all the same, nothing holds the next run back.
            let file = File::options().append(true).create(true).open(&path);
            drop(file.and_then(|file| file.set_modified(SystemTime::now())));
            true
        })
    }

    fn warn(&self, head: &Owed, consequence: &str, error: &StateError) {
        let mut text = format!("message {} is {consequence}: {}", head.key, plain(error));
        if let Some(cause) = std::error::Error::source(error) {
            text.push_str(": ");
            text.push_str(&plain(cause));
        }
        self.ui.borrow_mut().warn(text);
    }
}

/// When a message is due: what a clock that was ahead has put off is due now.
fn due(head: &Owed, now: DateTime<Utc>) -> DateTime<Utc> {
    // After an attempt `due` is not before that, so only a message that was never tried goes by when it was owed.
    let untried = head.attempts == 0 && head.owed > now + ASTRAY;
    if head.due > latest_due(now) || untried { now } else { head.due }
}

fn lease(now: DateTime<Utc>, limit: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(limit).unwrap_or(MARGIN) + MARGIN
}
