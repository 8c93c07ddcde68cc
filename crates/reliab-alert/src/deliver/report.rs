//! What a channel does not take is told by another.

use anyhow::Result;
use chrono::TimeDelta;
use reliab_common::config;
use reliab_common::units;

use super::Run;
use crate::message::{Kind, Message};
use crate::outbox::{Owed, Report};

/// A channel that has taken nothing for so long is told of by another.
const FAILING: TimeDelta = TimeDelta::hours(1);

/// Whether another channel tells of a message.
pub(super) enum Told {
    /// By this message, which is not owed yet.
    New(Report),
    /// By this channel, to which it is owed already, or was.
    Already(String),
    /// There is no other channel.
    Nobody,
}

impl Run<'_> {
    /// Who tells of a message that its channel does not take: a channel that was not tried with it yet.
    ///
    /// Each channel tells of a message once at most, so this comes to an end when all refuse.
    pub(super) fn report(&self, head: &Owed, error: &str) -> Result<Told> {
        let root = Report::root(&head.channel, &head.key);
        let first = match Report::waits_in(root) {
            Some(channel) => Some(channel.to_owned()),
            None => self.outbox.known(root)?.map(|known| known.1),
        };
        let mut told = Told::Nobody;
        for name in self.reporters() {
            if *name == head.channel || first.as_ref() == Some(name) {
                continue;
            }
            let key = Report::key(name, root);
            match self.outbox.known(&key)? {
                // What tells of a message was owed after it.
                Some((id, _)) if id > head.id => return Ok(Told::Already(name.clone())),
                None if matches!(told, Told::Nobody) => {
                    let note = format!("channel {} refused a message: {error}", head.channel);
                    told = Told::New(Report { channel: name.clone(), key, message: about(head, &note) });
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// Tells of what a channel is still owed at the end of its turn: of the channel itself, where it has taken nothing for
    /// long, and of what is behind a message of which another channel has told, or that holds it up for a day, as who reads
    /// that must not miss the rest.
    pub(super) fn report_waiting(&self, channel: &str) -> Result<()> {
        let Some(head) = self.outbox.head(channel, 0)? else { return Ok(()) };
        let Some(error) = &head.error else { return Ok(()) };
        let now = self.deliverer.clock.now();
        let told = matches!(self.report(&head, error)?, Told::Already(_));
        let overtaken = self.outbox.is_overtaken(&head)?;
        if !told
            && !overtaken
            && let Some(report) = self.report_failing(&head, error)?
        {
            self.outbox.owe(head.id, &report, now)?;
        }
        if told || (self.outbox.is_held(&head, now)? && self.may_hear(channel)?) {
            self.report_behind(&head, error)?;
        }
        Ok(())
    }

    /// Whether the channel that would be told works; where the whole network is down, none need be.
    fn may_hear(&self, channel: &str) -> Result<bool> {
        let first = self.reporters().find(|name| *name != channel);
        first.map_or(Ok(false), |name| Ok(!self.outbox.has_failed(name)?))
    }

    /// The message that tells of a channel which has taken nothing for long, by one that works; once for each such time.
    fn report_failing(&self, head: &Owed, error: &str) -> Result<Option<Report>> {
        let now = self.deliverer.clock.now();
        let Some(failing) = self.outbox.failing(head, now)? else { return Ok(None) };
        let lasted = now - failing.since;
        if lasted < FAILING {
            return Ok(None);
        }
        let about_channel = format!("channel:{}:{}", head.channel, failing.after);
        let mut report = None;
        for name in self.reporters().filter(|name| **name != head.channel) {
            let key = Report::key(name, &about_channel);
            if self.outbox.known(&key)?.is_some() {
                return Ok(None);
            }
            // Where the whole network is down, no channel need tell of another.
            if report.is_none() && !self.outbox.has_failed(name)? {
                let lasted = units::duration(lasted.to_std().unwrap_or_default());
                let note = format!("channel {} has taken nothing for {lasted}: {error}", head.channel);
                report = Some(Report { channel: name.clone(), key, message: about(head, &note) });
            }
        }
        Ok(report)
    }

    /// The channels that may tell of others, those for all rules first.
    ///
    /// The console is none of them beside other kinds: what it writes may be read by nobody.
    pub(super) fn reporters(&self) -> impl Iterator<Item = &String> {
        let (preferred, channels) = (self.deliverer.preferred, self.deliverer.channels);
        let is_console = |name: &String| matches!(channels.get(name), Some(config::Channel::Console(_)));
        let only_consoles = channels.keys().all(is_console);
        let known = preferred.iter().filter(|name| channels.contains_key(*name));
        known
            .chain(channels.keys().filter(|name| !preferred.contains(name)))
            .filter(move |name| only_consoles || !is_console(name))
    }
}

/// What the other channel says: what was not taken, why, and all that it was about.
pub(super) fn about(head: &Owed, why: &str) -> Message {
    match &head.message {
        Ok(message) => {
            let said = if message.note.is_empty() { message.title() } else { message.note.clone() };
            let note = format!("{why} (it was: {said})");
            Message { kind: Kind::Undeliverable, note, ..message.clone() }
        }
        Err(_) => Message {
            kind: Kind::Undeliverable,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            incidents: Vec::new(),
            owed: head.owed,
            note: why.to_owned(),
        },
    }
}
