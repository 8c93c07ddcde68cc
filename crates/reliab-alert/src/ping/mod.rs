//! The outbound ping: somebody elsewhere notices when it stops, which this machine cannot.
//!
//! It is the last thing that a run does, takes a few seconds at most, and changes nothing of how the run ends.

mod past;
mod plan;

use std::time::Duration;

use reliab_common::clock::Clock as _;
use reliab_common::config::{self, Channels};
use reliab_common::session::Job;
use reliab_common::state::{State, StateError};
use reliab_common::ui::Ui;
use rustix::fs::statvfs;
use serde::Serialize;

use crate::channel::{self, SendError};
use crate::history;
use crate::outbox::{Outbox, Waiting};

pub use past::Past;
use plan::{Plan, Room, Seen, decide};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What the run has done before.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// Whether the rules were evaluated.
    pub evaluated: bool,
    /// Whether what was due was delivered, or is being delivered by another process.
    pub delivered: bool,
    /// How many messages were sent that the state could not take note of.
    pub unrecorded: u32,
    /// The channels.
    pub channels: &'a Channels,
}

/// What came of the ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// It was sent, and taken.
    Sent,
    /// One was sent a moment ago.
    Recent,
    /// It was not sent.
    Withheld,
    /// It was not taken.
    Failed,
}

/// What came of the ping, with the reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pinged {
    /// What came of it.
    pub outcome: Came,
    /// In one line.
    pub summary: String,
    /// What the state is to know; nothing where one was sent a moment ago.
    #[serde(skip)]
    pub past: Option<Past>,
}

/// Sends a ping where one is configured and all is well; else the reasons are told, on stderr where they are news.
pub fn run(job: &Job<'_>, done: Done<'_>, ui: &mut Ui) -> Option<Pinged> {
    let config = job.session.config.ping.as_ref()?;
    let last = job.recorder.state().and_then(|state| Past::read(state).ok().flatten());
    let seen = look(job, done, last.as_ref());
    let (outcome, summary) = act(job, config, &decide(config, &seen));
    let sent = outcome == Came::Sent;
    let news = last.as_ref().is_none_or(|last| last.sent);
    if matches!(outcome, Came::Withheld | Came::Failed) && news {
        ui.warn(format_args!("ping {summary}"));
    }
    let last_sent = if sent { Some(seen.now) } else { last.and_then(|last| last.last_sent) };
    let past = Past { at: seen.now, sent, summary: summary.clone(), last_sent };
    Some(Pinged { outcome, summary, past: (outcome != Came::Recent).then_some(past) })
}

impl Pinged {
    /// As facts for the state.
    pub fn facts(&self) -> reliab_common::fact::Facts {
        let checks = self.past.iter().map(Past::fact).collect();
        reliab_common::fact::Facts { checks, samples: Vec::new() }
    }
}

/// Gathers what the decision stands on.
fn look(job: &Job<'_>, done: Done<'_>, last: Option<&Past>) -> Seen {
    let now = job.session.clock.now();
    let mut seen = Seen {
        now,
        trouble: trouble(done),
        checked: None,
        waiting: Vec::new(),
        reachable: false,
        room: Err("there is no state file".to_owned()),
        sent: last.filter(|last| last.sent).map(|last| last.at),
    };
    let Some(state) = job.recorder.state() else {
        seen.trouble = Some("the state file cannot be used".to_owned());
        return seen;
    };
    seen.room = room(state);
    let known = |state: &State| -> Result<_, StateError> {
        Ok((history::last_found(state, now)?, Outbox::new(state, &|_| {}).waiting(now)?))
    };
    match known(state) {
        Ok((checked, waiting)) => {
            seen.reachable = is_reachable(done.channels, &waiting);
            (seen.checked, seen.waiting) = (checked, waiting);
        }
        Err(_) => seen.trouble = Some("the state file cannot be read".to_owned()),
    }
    seen
}

fn trouble(done: Done<'_>) -> Option<String> {
    let reasons = [
        (!done.evaluated, "the rules were not evaluated"),
        (!done.delivered, "what is owed was not delivered"),
        (done.unrecorded > 0, "the state file could not be written"),
    ];
    let reasons: Vec<&str> = reasons.iter().filter(|(holds, _)| *holds).map(|(_, reason)| *reason).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn room(state: &State) -> Result<Room, String> {
    let folder = state.path().parent().unwrap_or(state.path());
    let found = statvfs(folder).map_err(|error| std::io::Error::from(error).to_string())?;
    // A file system that makes inodes as it needs them has none to count.
    let files = found.f_files == 0 || found.f_favail > 0;
    Ok(Room { free: found.f_bavail.saturating_mul(found.f_frsize), files })
}

/// Whether a channel has taken all that it was sent; the console counts where there is no other kind only.
fn is_reachable(channels: &Channels, waiting: &[Waiting]) -> bool {
    let is_console = |name: &String| matches!(channels.get(name), Some(config::Channel::Console(_)));
    let only_consoles = channels.keys().all(is_console);
    let fails = |name: &String| waiting.iter().any(|first| first.failed && first.channel == *name);
    channels.keys().filter(|name| only_consoles || !is_console(name)).any(|name| !fails(name))
}

fn act(job: &Job<'_>, config: &config::Ping, plan: &Plan) -> (Came, String) {
    match plan {
        Plan::Recent => (Came::Recent, "sent a moment ago".to_owned()),
        Plan::Send => match send(job, config, None) {
            Ok(()) => (Came::Sent, "sent".to_owned()),
            Err(error) => (Came::Failed, format!("could not be sent: {error}")),
        },
        Plan::Withhold(why) => {
            let told = if config.fail { send(job, config, Some(why)) } else { Ok(()) };
            let more = told.err().map_or(String::new(), |error| format!("; that could not be told: {error}"));
            (Came::Withheld, format!("not sent: {why}{more}"))
        }
    }
}

fn send(job: &Job<'_>, config: &config::Ping, failing: Option<&str>) -> Result<(), SendError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| SendError::passing(error.to_string()))?;
    let sent = runtime.block_on(async {
        tokio::time::timeout(LIMIT, channel::ping(config, &job.session.env, failing)).await
    });
    // A name that is still being looked up must not keep the process from ending.
    runtime.shutdown_background();
    sent.unwrap_or_else(|_| Err(SendError::late(LIMIT)))
}
