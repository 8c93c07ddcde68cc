//! Where the state file or the configuration cannot be used nothing can be owed; so each channel is told that, at once and
//! directly.

use std::cell::RefCell;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use reliab_common::app::{Global, Tool as _};
use reliab_common::clock::{Clock as _, SystemClock};
use reliab_common::config::{self, Config, ConfigError, ConfigFile};
use reliab_common::exit::Level;
use reliab_common::paths::{self, Env};
use reliab_common::session::Session;
use reliab_common::state::State;
use reliab_common::ui::Ui;
use rustix::fs::OFlags;

use super::Limits;
use crate::alert;
use crate::channel::{Channel, Outgoing, Pace, SendError};
use crate::message::{IncidentLine, Kind, Message};
use crate::outbox::Progress;

/// So long nobody is told again.
const REPEAT_AFTER: Duration = Duration::from_secs(15 * 60);

/// Tells all channels that the state cannot be opened, unless it can be by now, or they were told a moment ago.
pub(crate) fn tell(session: &Session, ui: &mut Ui) -> anyhow::Result<()> {
    let trouble = match paths::state_dir(session.global.state_dir.as_deref(), &session.env) {
        Ok(dir) => match State::open(&dir).and_then(|state| state.with(readable)) {
            Ok(()) => return Ok(()),
            Err(error) => with_causes(&error),
        },
        Err(error) => with_causes(&error),
    };
    if !session.config.channel.is_empty() && begins(&marker(session, "unusable")) {
        send_all(session, &STATE, &trouble, ui)?;
    }
    Ok(())
}

/// Tells the channels that can still be read that the configuration as a whole cannot, unless they were told a moment ago.
pub(crate) fn tell_unread(global: &Global, error: &ConfigError, ui: &mut Ui) -> anyhow::Result<()> {
    let env = Env::of_process();
    let cwd = std::env::current_dir().context("cannot tell the working folder")?;
    let Some(file) = ConfigFile::find(global.config.as_deref(), &env, &cwd)? else { return Ok(()) };
    let config = Config { channel: file.channels(), ..Config::default() };
    let config_path = Some(cwd.join(file.path));
    let (name, errors) = (alert::Args::NAME, alert::Args::ERRORS);
    let session =
        Session { name, errors, config, config_path, env, global: global.clone(), clock: SystemClock };
    if !session.config.channel.is_empty() && begins(&marker(&session, "unread")) {
        send_all(&session, &CONFIGURATION, &with_causes(error), ui)?;
    }
    Ok(())
}

/// What cannot be used.
struct Thing {
    rule: &'static str,
    subject: &'static str,
    told: &'static str,
    note: &'static str,
}

const STATE: Thing = Thing {
    rule: "state",
    subject: "state file",
    told: "the state cannot be used",
    note: "rules are not evaluated and what is owed is not delivered",
};

const CONFIGURATION: Thing = Thing {
    rule: "configuration",
    subject: "configuration",
    told: "the configuration cannot be read",
    note: "nothing is watched, rules are not evaluated and what is owed is not delivered",
};

fn readable(db: &rusqlite::Connection) -> rusqlite::Result<()> {
    db.prepare("SELECT 1 FROM notification LIMIT 1")?.exists([]).map(drop)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn send_all(session: &Session, thing: &Thing, trouble: &str, ui: &mut Ui) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start to deliver")?;
    let now = session.clock.now();
    let message = message(thing, trouble, now);
    // Services that keep incidents have one a day of it.
    let key = format!("{}:{}:{}", thing.rule, message.host, now.format("%Y-%m-%d"));
    let out = Outgoing { key: &key, message: &message, now };
    let ui = RefCell::new(ui);
    let (outgoing, shared) = (&out, &ui);
    let sent = session
        .config
        .channel
        .iter()
        .map(|(name, config)| async move { (name, send(session, config, outgoing, shared).await) });
    let sent = runtime.block_on(join_all(sent));
    runtime.shutdown_background();
    let mut ui = ui.borrow_mut();
    for (name, result) in sent {
        match result {
            Ok(_) => ui.note(format_args!("channel {name} was told that {}", thing.told)),
            Err(error) => ui.warn(format_args!("channel {name}: {error}")),
        }
    }
    Ok(())
}

async fn send(
    session: &Session,
    config: &config::Channel,
    out: &Outgoing<'_>,
    ui: &RefCell<&mut Ui>,
) -> Result<String, SendError> {
    let channel = Channel::open(config, &session.env)?;
    let limit = channel.timeout().unwrap_or(Limits::default().attempt);
    let pace = Pace::after(Progress::default(), limit);
    tokio::time::timeout(limit, channel.send(out, &pace, ui))
        .await
        .unwrap_or_else(|_| Err(SendError::late(limit)))
}

/// An incident that no state knows.
fn message(thing: &Thing, trouble: &str, now: DateTime<Utc>) -> Message {
    let one = IncidentLine {
        id: 0,
        rule: thing.rule.into(),
        subject: thing.subject.into(),
        level: Level::Critical,
        summary: trouble.to_owned(),
        began: now,
        first: None,
        opened: Some(now),
        closed: None,
    };
    Message {
        kind: Kind::Undeliverable,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        incidents: vec![one],
        owed: now,
        note: format!("{}: {trouble}", thing.note),
    }
}

/// A file whose time tells when the channels were told; not beside the state, where there may be no room for it.
fn marker(session: &Session, what: &str) -> PathBuf {
    let folder = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].iter().find_map(|name| session.env.var(name));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let mut hasher = DefaultHasher::new();
    paths::state_dir(session.global.state_dir.as_deref(), &session.env).ok().hash(&mut hasher);
    folder.join(format!("reliab-{what}-{:016x}", hasher.finish()))
}

/// Whether it is time to tell, which is noted. Where that cannot be noted it is always time.
fn begins(marker: &Path) -> bool {
    // A file that somebody else put there would keep everybody from being told.
    let own = fs::symlink_metadata(marker)
        .ok()
        .filter(|file| file.is_file() && file.uid() == rustix::process::geteuid().as_raw());
    let age = own.and_then(|file| SystemTime::now().duration_since(file.modified().ok()?).ok());
    if age.is_some_and(|age| age < REPEAT_AFTER) {
        return false;
    }
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(no_link).open(marker);
    // Nothing holds the next run back where this fails.
    drop(file.and_then(|file| file.set_modified(SystemTime::now())));
    true
}
