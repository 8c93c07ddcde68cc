//! What a channel refuses for good is told by another.

use anyhow::Result;

use super::Run;
use crate::channel::SendError;
use crate::message::{Kind, Message};
use crate::outbox::{Owed, Report};

impl Run<'_> {
    /// The message that tells of a refused one, by a channel that was not tried with it yet.
    ///
    /// Each channel tells of a message once at most, so this comes to an end when all refuse.
    pub(super) fn report(&self, head: &Owed, error: &SendError) -> Result<Option<Report>> {
        let root = Report::root(&head.channel, &head.key);
        let first = self.outbox.channel_of(root)?;
        for name in self.candidates() {
            if *name == head.channel || first.as_ref() == Some(name) {
                continue;
            }
            let key = Report::key(name, root);
            if self.outbox.channel_of(&key)?.is_none() {
                return Ok(Some(Report { channel: name.clone(), key, message: about(head, error) }));
            }
        }
        Ok(None)
    }

    /// The configured channels, those for all rules first.
    fn candidates(&self) -> impl Iterator<Item = &String> {
        let (preferred, channels) = (self.deliverer.preferred, self.deliverer.channels);
        let known = preferred.iter().filter(|name| channels.contains_key(*name));
        known.chain(channels.keys().filter(|name| !preferred.contains(name)))
    }
}

/// What the other channel says: what was refused, why, and all that it was about.
fn about(head: &Owed, error: &SendError) -> Message {
    let refused = format!("channel {} refused a message: {}", head.channel, error.text);
    match &head.message {
        Ok(message) => {
            let said = if message.note.is_empty() { message.title() } else { message.note.clone() };
            Message {
                kind: Kind::Undeliverable,
                note: format!("{refused} (it was: {said})"),
                ..message.clone()
            }
        }
        Err(_) => Message {
            kind: Kind::Undeliverable,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            incidents: Vec::new(),
            owed: head.owed,
            note: refused,
        },
    }
}
