//! A channel's turn: its messages one after the other, until one is not due or fails.

use std::fs::File;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::config;
use reliab_common::failure::plain;
use reliab_common::state::StateError;

use super::Run;
use crate::channel::{Channel, Class, Outgoing, SendError};
use crate::outbox::{Ended, Owed, wait};
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
    /// Nothing in this run.
    Leave,
}

impl Run<'_> {
    /// Sends what a channel is owed, in order.
    pub(super) async fn turn(&self, name: &str) -> anyhow::Result<Turn> {
        let mut channel = None;
        let mut after = 0;
        while !self.is_over() {
            let Some(head) = self.outbox.head(name, after)? else {
                return Ok(if after == 0 { Turn::Drained } else { Turn::Left });
            };
            if !self.wait_for(&head).await {
                break;
            }
            match self.attempt(&head, &mut channel).await? {
                Next::Head => {}
                Next::Behind => after = head.id,
                Next::Leave => break,
            }
        }
        Ok(Turn::Left)
    }

    /// Waits until a message is due, if that is soon.
    async fn wait_for(&self, head: &Owed) -> bool {
        let clock = self.deliverer.clock;
        // What is due already has a wait below zero, which is none.
        let Ok(wait) = (head.due - clock.now()).to_std() else { return true };
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
        let limit =
            opened.as_ref().ok().and_then(|channel| channel.timeout()).unwrap_or(deliverer.limits.attempt);
        let limit = limit.min(self.time_left(deliverer.limits.run));
        let attempt = match self.outbox.begin(head, now, lease(now, limit)) {
            Ok(Some(attempt)) => Some(attempt),
            Ok(None) => return Ok(Next::Leave),
            Err(error) if self.may_repeat() => {
                self.warn(head, "sent without being written down", &error);
                None
            }
            Err(error) => return Err(error).context("cannot write down that a message is being sent"),
        };
        let result = match opened {
            Ok(channel) => self.send(head, channel, limit).await,
            Err(error) => Err(error),
        };
        (deliverer.reached)(crate::outbox::Point::Sent);
        let ended = self.judge(head, result)?;
        self.tell(head, &ended);
        Ok(self.write_down(head, attempt, &ended))
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
                config.ok_or_else(|| lasting(Class::Channel, "no channel of this name is configured"))?;
            *channel = Some(Channel::open(config, self.deliverer.env)?);
        }
        channel.as_ref().ok_or_else(|| SendError::passing("it is not ready"))
    }

    async fn send(&self, head: &Owed, channel: &Channel, limit: Duration) -> Result<String, SendError> {
        let unreadable = |error: &String| SendError {
            class: Class::Message,
            text: format!("the message in the outbox cannot be read: {error}"),
            retry_after: None,
        };
        let message = head.message.as_ref().map_err(unreadable)?;
        let out = Outgoing { key: &head.key, message, now: self.deliverer.clock.now() };
        let late =
            || SendError::passing(format!("no answer within {}", reliab_common::units::duration(limit)));
        tokio::time::timeout(limit, channel.send(&out, &self.ui)).await.unwrap_or_else(|_| Err(late()))
    }

    /// What is to be done about an attempt that ended so.
    fn judge(&self, head: &Owed, result: Result<String, SendError>) -> anyhow::Result<Ended> {
        let error = match result {
            Ok(receipt) => return Ok(Ended::Delivered { receipt }),
            Err(error) => error,
        };
        if error.class != Class::Passing {
            let report = self.report(head, &error)?;
            // What is wrong with the channel can be mended; with nobody to tell of it, the message waits for that.
            if report.is_some() || error.class == Class::Message {
                return Ok(Ended::Refused { error: error.text, report });
            }
        }
        let wait = wait(self.deliverer.seed, head.id, head.attempts + 1, error.retry_after);
        let due = self.deliverer.clock.now() + TimeDelta::from_std(wait).unwrap_or(MARGIN);
        Ok(Ended::Passing { error: error.text, due })
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

    fn tell(&self, head: &Owed, ended: &Ended) {
        let (key, channel) = (&head.key, &head.channel);
        match ended {
            Ended::Delivered { .. } => {}
            Ended::Passing { error, .. } => {
                self.ui
                    .borrow_mut()
                    .warn(format_args!("channel {channel}: {error}; it is tried again (message {key})"));
            }
            Ended::Refused { error, report: Some(report) } => {
                let by = &report.channel;
                let text =
                    format_args!("channel {channel}: {error}; this is told by channel {by} (message {key})");
                self.ui.borrow_mut().warn(text);
            }
            Ended::Refused { error, report: None } => {
                let text = format_args!(
                    "channel {channel}: {error}; there is no other channel to tell of it (message {key})"
                );
                self.ui.borrow_mut().error(text);
            }
        }
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

fn lease(now: DateTime<Utc>, limit: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(limit).unwrap_or(MARGIN) + MARGIN
}
