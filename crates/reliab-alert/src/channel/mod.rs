//! Channels: the places where messages are sent, a module a kind.

mod alertmanager;
mod command;
mod console;
mod discord;
mod email;
mod event;
mod http;
mod ntfy;
mod opsgenie;
mod pagerduty;
mod ping;
mod slack;
mod telegram;
mod text;
mod tls;
mod webhook;

use std::cell::RefCell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reliab_common::config;
use reliab_common::paths::Env;
use reliab_common::secret::{Secret, SecretSource};
use reliab_common::ui::Ui;
use reliab_common::units;
use thiserror::Error;

use crate::message::Message;
use crate::outbox::Progress;

pub(crate) use ping::ping;

/// A message on its way to a channel.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The idempotency key: the same for every attempt.
    pub key: &'a str,
    /// What it says.
    pub message: &'a Message,
    /// The time now.
    pub now: DateTime<Utc>,
}

impl Outgoing<'_> {
    /// The lines of the message, after one that says how late it is.
    fn lines(&self) -> Vec<String> {
        self.message.late(self.now).into_iter().chain(self.message.lines()).collect()
    }
}

/// How lasting a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may work later.
    Passing,
    /// The channel will never take this message.
    Message,
    /// The channel takes nothing as it is configured: its key, its address or its user is wrong.
    Channel,
    /// There is no such channel.
    Absent,
}

/// How an attempt goes on: from where, and how long one request of it may take.
#[derive(Debug)]
pub struct Pace {
    /// How long one request may take.
    pub each: Duration,
    /// What was sent; kept here, as an attempt may be cut off.
    pub progress: RefCell<Progress>,
}

impl Pace {
    /// An attempt that goes on where an earlier one ended.
    pub fn after(progress: Progress, each: Duration) -> Self {
        Self { each, progress: RefCell::new(progress) }
    }
}

/// A message was not taken; the text is free of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct SendError {
    /// How lasting it is.
    pub class: Class,
    /// What happened, in one line.
    pub text: String,
    /// How long the other side asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl SendError {
    fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into(), retry_after: None }
    }

    /// No answer came in time.
    pub fn late(limit: Duration) -> Self {
        Self::passing(format!("no answer within {}", units::duration(limit)))
    }

    /// A failure that may pass.
    pub fn passing(text: impl Into<String>) -> Self {
        Self::new(Class::Passing, text)
    }
}

/// A channel that is ready to send.
pub struct Channel {
    kind: Kind,
    /// What must not appear in a text.
    secrets: Vec<Secret>,
    timeout: Option<Duration>,
}

enum Kind {
    Http(http::Client, Service),
    Email(Box<email::Email>),
    Command(command::Command),
    Console,
}

/// A service that is spoken to by HTTP.
enum Service {
    Webhook(webhook::Webhook),
    Slack(slack::Slack),
    Discord(discord::Discord),
    Telegram(telegram::Telegram),
    PagerDuty(pagerduty::PagerDuty),
    Ntfy(ntfy::Ntfy),
    Alertmanager(alertmanager::Alertmanager),
    Opsgenie(opsgenie::Opsgenie),
}

impl Service {
    fn requests(&self, out: &Outgoing<'_>) -> Result<Vec<http::Request>, SendError> {
        Ok(match self {
            Self::Webhook(webhook) => vec![webhook.request(out)],
            Self::Slack(slack) => vec![slack.request(out)],
            Self::Discord(discord) => vec![discord.request(out)],
            Self::Telegram(telegram) => vec![telegram.request(out)],
            Self::PagerDuty(pagerduty) => pagerduty.requests(out),
            Self::Ntfy(ntfy) => vec![ntfy.request(out)],
            Self::Alertmanager(manager) => vec![manager.request(out)],
            Self::Opsgenie(opsgenie) => opsgenie.requests(out)?,
        })
    }
}

impl Channel {
    /// Reads the secrets of a channel and makes it ready; what fails may be mended later, and so is passing.
    pub fn open(config: &config::Channel, env: &Env) -> Result<Self, SendError> {
        let mut keys = Keys { env, secrets: Vec::new() };
        let (kind, timeout) = open(config, &mut keys)?;
        Ok(Self { kind, secrets: keys.secrets, timeout })
    }

    /// How long one attempt may take, where the configuration says so.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether a message takes a request for each of its incidents.
    pub fn sends_many(&self) -> bool {
        matches!(self.kind, Kind::Http(_, Service::PagerDuty(_) | Service::Opsgenie(_)))
    }

    /// Sends a message and gives what the other side said to it.
    pub async fn send(
        &self,
        out: &Outgoing<'_>,
        pace: &Pace,
        ui: &RefCell<&mut Ui>,
    ) -> Result<String, SendError> {
        let result = match &self.kind {
            Kind::Http(client, service) => self.send_all(client, &service.requests(out)?, pace).await,
            Kind::Email(email) => email.send(out).await,
            Kind::Command(command) => command.send(out).await,
            Kind::Console => console::send(out, &mut ui.borrow_mut()),
        };
        let clean = |text: String| self.clean(&text);
        result.map(clean).map_err(|error| SendError { text: clean(error.text), ..error })
    }

    /// Sends the requests that are left and gives the last answer; one that is refused for good holds up no other.
    async fn send_all(
        &self,
        client: &http::Client,
        requests: &[http::Request],
        pace: &Pace,
    ) -> Result<String, SendError> {
        let (mut last, sent) = (String::new(), pace.progress.borrow().sent);
        for request in requests.iter().skip(sent) {
            let late = || Err(SendError::late(pace.each));
            let answer = tokio::time::timeout(pace.each, http::send(client, request)).await;
            let mut progress = pace.progress.borrow_mut();
            match answer.unwrap_or_else(|_| late()) {
                Ok(said) => last = said,
                Err(error) if error.class == Class::Message && requests.len() > 1 => {
                    if progress.refused == 0 {
                        progress.error = self.clean(&error.text);
                    }
                    progress.refused += 1;
                }
                Err(error) => return Err(error),
            }
            progress.sent += 1;
        }
        let Progress { refused, error, .. } = &*pace.progress.borrow();
        if *refused == 0 {
            return Ok(last);
        }
        let text = format!("{refused} of {} events were refused, the first: {error}", requests.len());
        Err(SendError::new(Class::Message, text))
    }

    fn clean(&self, text: &str) -> String {
        clean(text, &self.secrets)
    }
}

/// One line of bounded length that shows none of the secrets.
fn clean(text: &str, secrets: &[Secret]) -> String {
    text::one_line(&text::redacted(text, secrets), text::EXCERPT)
}

/// Reads secrets and remembers them, so that no text shows them.
struct Keys<'a> {
    env: &'a Env,
    secrets: Vec<Secret>,
}

impl Keys<'_> {
    fn read(&mut self, source: &SecretSource) -> Result<Secret, SendError> {
        let secret = source.read(self.env).map_err(|error| SendError::passing(text::chain(&error)))?;
        self.secrets.push(secret.clone());
        Ok(secret)
    }

    /// Remembers other forms of a secret, which no text may show either.
    fn hide(&mut self, forms: impl IntoIterator<Item = Secret>) {
        self.secrets.extend(forms);
    }

    fn read_some(&mut self, source: Option<&SecretSource>) -> Result<Option<Secret>, SendError> {
        source.map(|source| self.read(source)).transpose()
    }

    fn read_maybe(&mut self, text: &config::channel::MaybeSecret) -> Result<Secret, SendError> {
        match text {
            config::channel::MaybeSecret::Plain(text) => Ok(Secret::new(text.as_str())),
            config::channel::MaybeSecret::Secret(source) => self.read(source),
        }
    }
}

fn open(config: &config::Channel, keys: &mut Keys<'_>) -> Result<(Kind, Option<Duration>), SendError> {
    use config::Channel as C;
    let mut ca = None;
    let service = match config {
        C::Email(email) => {
            let password = keys.read_some(email.smtp.password.as_ref())?;
            keys.hide(password.iter().flat_map(|password| email::shown_as(&email.smtp, password)));
            return Ok((Kind::Email(Box::new(email::Email::new(email, password)?)), None));
        }
        C::Command(command) => {
            return Ok((Kind::Command(command::Command::new(command, keys.env)?), command.timeout));
        }
        C::Console(_) => return Ok((Kind::Console, None)),
        C::Webhook(hook) => {
            ca = hook.ca.as_deref();
            let url = keys.read_maybe(&hook.url)?;
            let (secret, token) =
                (keys.read_some(hook.secret.as_ref())?, keys.read_some(hook.token.as_ref())?);
            let url = if token.is_some() || hook.url.secret().is_some() { safe_url(url)? } else { url };
            Service::Webhook(webhook::Webhook { url, secret, token })
        }
        C::Slack(hook) => Service::Slack(slack::Slack { url: safe_url(keys.read(&hook.url)?)? }),
        C::Discord(hook) => Service::Discord(discord::Discord { url: safe_url(keys.read(&hook.url)?)? }),
        C::Telegram(bot) => {
            let token = keys.read(&bot.token)?;
            let url = format!("{}/bot{}/sendMessage", base(&bot.url), token.expose());
            Service::Telegram(telegram::Telegram { url: safe_url(Secret::new(url))?, chat: bot.chat.clone() })
        }
        C::PagerDuty(pagerduty) => {
            let url = safe_url(Secret::new(format!("{}/v2/enqueue", base(&pagerduty.url))))?;
            Service::PagerDuty(pagerduty::PagerDuty { url, key: keys.read(&pagerduty.routing_key)? })
        }
        C::Ntfy(ntfy) => {
            ca = ntfy.ca.as_deref();
            let (topic, token) = (keys.read_maybe(&ntfy.topic)?, keys.read_some(ntfy.token.as_ref())?);
            if token.is_some() || ntfy.topic.secret().is_some() {
                safe_url(Secret::new(ntfy.url.as_str()))?;
            }
            Service::Ntfy(ntfy::Ntfy { url: base(&ntfy.url).to_owned(), topic, token })
        }
        C::Alertmanager(manager) => {
            ca = manager.ca.as_deref();
            let token = keys.read_some(manager.token.as_ref())?;
            let password = keys.read_some(manager.password.as_ref())?;
            let basic = password.map(|password| alertmanager::basic(manager, &password));
            keys.hide(basic.clone());
            if token.is_some() || basic.is_some() {
                safe_url(Secret::new(manager.url.as_str()))?;
            }
            Service::Alertmanager(alertmanager::Alertmanager::new(manager, token, basic))
        }
        C::Opsgenie(opsgenie) => {
            let key = keys.read(&opsgenie.api_key)?;
            let url = safe_url(Secret::new(base(&opsgenie.url)))?;
            Service::Opsgenie(opsgenie::Opsgenie { url: url.expose().to_owned(), key })
        }
    };
    Ok((Kind::Http(http::Client::new(ca)?, service), None))
}

/// A base URL without the slash at its end.
fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// A URL that a secret may be sent to: encrypted, or on this machine.
fn safe_url(url: Secret) -> Result<Secret, SendError> {
    let parsed = http::parsed(&url)?;
    if parsed.scheme() == "https" || (parsed.scheme() == "http" && http::is_loopback(&parsed)) {
        Ok(url)
    } else {
        Err(SendError::passing("its URL must begin with https://, as a secret is sent to it"))
    }
}
