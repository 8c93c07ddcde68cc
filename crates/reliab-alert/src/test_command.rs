//! `alert test`: does a message reach somebody by this channel?

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::Clock as _;
use reliab_common::config::Channel as Config;
use reliab_common::exit::Exit;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::{Job, Outcome, Session};
use reliab_common::state::nanos;
use reliab_common::ui::Ui;
use reliab_common::units;
use rusqlite::params;
use serde::Serialize;
use serde_json::json;

use crate::channel::{Channel, Outgoing, Pace, SendError};
use crate::deliver::Limits;
use crate::message::{Kind, Message};
use crate::outbox::Progress;

const EXAMPLES: &str = "  \
  reliab alert test ops                      send a real message by the channel `ops`
  reliab alert test ops --json               the answer of the channel as a document";

/// Send a real message by a channel, now and once, and say what became of it.
///
/// It passes by the outbox: what is held back there stays where it is. That it was sent is recorded.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// The channel, as in [channel.NAME].
    #[arg(value_name = "CHANNEL")]
    channel: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    channel: &'a str,
    kind: &'static str,
    key: &'a str,
    delivered: bool,
    answer: &'a str,
    seconds: f64,
}

impl Tool for Args {
    const NAME: &'static str = "alert-test";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let Some(config) = session.config.channel.get(&self.channel) else {
            return Err(unknown(&self.channel, session).into());
        };
        session.record(&self.channel, ui, |job, ui| self.test(config, job, ui))
    }
}

impl Args {
    fn test(&self, config: &Config, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Exit>> {
        let (now, started) = (job.session.clock.now(), Instant::now());
        let message = test_message(now);
        let key = format!("test:{}:{}:{}", message.host, self.channel, nanos(now));
        let result = send(config, &Outgoing { key: &key, message: &message, now }, job, ui)?;
        let took = started.elapsed();
        self.keep(job, &message, &key, &result, ui);
        let exit = if result.is_ok() { Exit::Done } else { Exit::Failed };
        let delivered = result.is_ok();
        let answer = match &result {
            Ok(receipt) => receipt.as_str(),
            Err(error) => error.text.as_str(),
        };
        if !delivered {
            ui.error(format_args!("channel {}: {answer}", self.channel));
        }
        let (channel, kind, seconds) = (self.channel.as_str(), config.type_name(), took.as_secs_f64());
        if ui.is_json() {
            ui.json(&document(
                Self::NAME,
                exit,
                Report { channel, kind, key: &key, delivered, answer, seconds },
            ));
        }
        if delivered {
            ui.summary(format_args!("{channel} ({kind}): taken in {}: {answer}", units::duration(took)));
        }
        Ok(Outcome::new(exit, json!({ "channel": channel, "delivered": delivered, "seconds": seconds })))
    }

    /// Keeps the message as one that has ended, so that it is seen when the channel last worked.
    fn keep(
        &self,
        job: &Job<'_>,
        message: &Message,
        key: &str,
        result: &Result<String, SendError>,
        ui: &mut Ui,
    ) {
        let Some(state) = job.recorder.state() else { return };
        let (end, outcome, detail) = match result {
            Ok(receipt) => ("delivered", "delivered", receipt),
            Err(error) => ("refused", "permanent", &error.text),
        };
        let error = result.as_ref().err().map(|error| &error.text);
        let (text, owed, ended) = (
            serde_json::to_string(message).unwrap_or_default(),
            nanos(message.owed),
            nanos(job.session.clock.now()),
        );
        let stored = state.write(|db| {
            db.execute(
                "INSERT INTO notification (channel, kind, key, message, owed, due, state, attempts, ended, error)
                 VALUES (?1, 'test', ?2, ?3, ?4, ?4, ?5, 1, ?6, ?7)",
                params![self.channel, key, text, owed, end, ended, error],
            )?;
            db.execute(
                "INSERT INTO attempt (notification, at, outcome, detail) VALUES (?1, ?2, ?3, ?4)",
                params![db.last_insert_rowid(), owed, outcome, detail],
            )
        });
        if let Err(error) = stored {
            ui.warn(format_args!("the test is not kept: {error}"));
        }
    }
}

fn send(
    config: &Config,
    out: &Outgoing<'_>,
    job: &Job<'_>,
    ui: &mut Ui,
) -> anyhow::Result<Result<String, SendError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start to deliver")?;
    let ui = RefCell::new(ui);
    let sent = async {
        let channel = Channel::open(config, &job.session.env)?;
        let limit: Duration = channel.timeout().unwrap_or(Limits::default().attempt);
        let pace = Pace::after(Progress::default(), limit);
        let sent = tokio::time::timeout(limit, channel.send(out, &pace, &ui)).await;
        sent.unwrap_or_else(|_| Err(SendError::late(limit)))
    };
    let result = runtime.block_on(sent);
    runtime.shutdown_background();
    Ok(result)
}

fn test_message(now: DateTime<Utc>) -> Message {
    Message {
        kind: Kind::Test,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        incidents: Vec::new(),
        owed: now,
        note: "Somebody ran `reliab alert test`: this channel works.".into(),
    }
}

fn unknown(name: &str, session: &Session) -> UsageError {
    let names: Vec<&str> = session.config.channel.keys().map(String::as_str).collect();
    let known = if names.is_empty() {
        "none is configured: add a section such as [channel.ops]".to_owned()
    } else {
        format!("there is {}", names.join(", "))
    };
    UsageError(format!("no channel `{name}`: {known}"))
}
