//! The section `[channel]`: where alerts are sent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::values::{DurationText, Optional};
use crate::secret::SecretSource;

/// The section `[channel]`: channels by name, as in `[channel.ops]`.
pub type Channels = BTreeMap<String, Channel>;

/// No program may take longer, as all of a run of deliveries takes 50 s.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(45);

/// A place that alerts are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    remote = "Self",
    tag = "type",
    rename_all = "lowercase",
    expecting = "a channel with its type, such as [channel.ops] with type = \"email\""
)]
#[schemars(rename = "Channel")]
pub enum Channel {
    /// Mail.
    Email(Email),
    /// A JSON document, posted to any URL.
    Webhook(Webhook),
    /// Slack, or what understands its incoming webhooks, such as Mattermost.
    Slack(Hook),
    /// Discord.
    Discord(Hook),
    /// A Telegram bot.
    Telegram(Telegram),
    /// `PagerDuty`, Events API v2.
    PagerDuty(PagerDuty),
    /// ntfy.sh, or a server of one's own.
    Ntfy(Ntfy),
    /// Prometheus Alertmanager, API v2.
    Alertmanager(Alertmanager),
    /// Opsgenie, or Jira Service Management with its API.
    Opsgenie(Opsgenie),
    /// A program.
    Command(Command),
    /// Standard error: the terminal, cron's mail or the journal.
    Console(Console),
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived one, which knows nothing of keys that belong together.
        let channel = Self::deserialize(deserializer)?;
        channel.check().map_err(D::Error::custom)?;
        Ok(channel)
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived one, which is beside the trait because of the other direction.
        Self::serialize(self, serializer)
    }
}

impl Channel {
    /// Whether its keys belong together, and no secret goes to another machine in clear text.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Email(email) => email.smtp.check(),
            Self::Webhook(hook) => match &hook.url {
                MaybeSecret::Plain(url) if hook.token.is_some() => encrypted(url),
                _ => Ok(()),
            },
            Self::Ntfy(ntfy) if ntfy.token.is_some() || ntfy.topic.secret().is_some() => encrypted(&ntfy.url),
            Self::Alertmanager(manager) => manager.check(),
            Self::Command(command) => command.check(),
            _ => Ok(()),
        }
    }

    /// Reads the keys that belong to a type, for the place of a mistake in them.
    fn try_keys(kind: &str, keys: ValueDeserializer<'_>) -> Result<(), toml::de::Error> {
        match kind {
            "email" => Email::deserialize(keys).map(drop),
            "webhook" => Webhook::deserialize(keys).map(drop),
            "slack" | "discord" => Hook::deserialize(keys).map(drop),
            "telegram" => Telegram::deserialize(keys).map(drop),
            "pagerduty" => PagerDuty::deserialize(keys).map(drop),
            "ntfy" => Ntfy::deserialize(keys).map(drop),
            "alertmanager" => Alertmanager::deserialize(keys).map(drop),
            "opsgenie" => Opsgenie::deserialize(keys).map(drop),
            "command" => Command::deserialize(keys).map(drop),
            "console" => Console::deserialize(keys).map(drop),
            _ => Ok(()),
        }
    }

    /// The name of its type, as the configuration has it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Discord(_) => "discord",
            Self::Telegram(_) => "telegram",
            Self::PagerDuty(_) => "pagerduty",
            Self::Ntfy(_) => "ntfy",
            Self::Alertmanager(_) => "alertmanager",
            Self::Opsgenie(_) => "opsgenie",
            Self::Command(_) => "command",
            Self::Console(_) => "console",
        }
    }

    /// The secrets that it needs, for a check that they can be read by nobody else.
    pub fn secrets(&self) -> Vec<&SecretSource> {
        match self {
            Self::Email(email) => email.smtp.password.iter().collect(),
            Self::Webhook(hook) => {
                hook.url.secret().into_iter().chain(&hook.secret).chain(&hook.token).collect()
            }
            Self::Slack(hook) | Self::Discord(hook) => vec![&hook.url],
            Self::Telegram(telegram) => vec![&telegram.token],
            Self::PagerDuty(pagerduty) => vec![&pagerduty.routing_key],
            Self::Ntfy(ntfy) => ntfy.topic.secret().into_iter().chain(&ntfy.token).collect(),
            Self::Alertmanager(manager) => manager.token.iter().chain(&manager.password).collect(),
            Self::Opsgenie(opsgenie) => vec![&opsgenie.api_key],
            Self::Command(_) | Self::Console(_) => Vec::new(),
        }
    }
}

/// The first mistake in the keys of a channel, with its place; none where the text is no TOML.
pub(super) fn mistake(text: &str) -> Option<toml::de::Error> {
    let document = DeTable::parse(text).ok()?.into_inner();
    let channels = document.get("channel")?.get_ref().as_table()?;
    channels.iter().find_map(|(_, channel)| {
        let mut keys = channel.clone();
        let DeValue::Table(table) = keys.get_mut() else { return None };
        let kind = table.remove("type")?;
        Channel::try_keys(kind.get_ref().as_str()?, ValueDeserializer::from(keys)).err()
    })
}

/// Mail, sent through a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The sender, such as `reliab@example.org` or `Reliab <reliab@example.org>`.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The server.
    pub smtp: Smtp,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mail server: { host = \"…\" }")]
pub struct Smtp {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port; without it 587, with TLS from the start 465, without TLS 25.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: SmtpTls,
    /// The user, for servers that ask for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretSource>,
    /// Certificates (PEM) that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// STARTTLS, and nothing is sent where the server does not offer it.
    #[default]
    StartTls,
    /// TLS from the start.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

impl Smtp {
    fn check(&self) -> Result<(), String> {
        match (&self.user, &self.password) {
            (Some(_), None) => {
                Err("`user` without `password` does nothing: add it, or leave out both".into())
            }
            (None, Some(_)) => {
                Err("`password` without `user` does nothing: add it, or leave out both".into())
            }
            _ => Ok(()),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::StartTls => 587,
            SmtpTls::Tls => 465,
            SmtpTls::None => 25,
        })
    }
}

/// A JSON document, posted to a URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to; a secret where knowing it is all one needs to post there.
    pub url: MaybeSecret,
    /// The key of the signature in `X-Reliab-Signature`; without it, none.
    pub secret: Option<SecretSource>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretSource>,
    /// Certificates (PEM) that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
}

/// An incoming webhook of a chat, whose URL is itself the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Where its URL is.
    pub url: SecretSource,
}

/// A Telegram bot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    /// The bot's token.
    pub token: SecretSource,
    /// Where it writes: a number such as `-1001234567890`, or `@name` of a public channel.
    pub chat: String,
    /// The service.
    #[serde(default = "telegram")]
    pub url: String,
}

/// A `PagerDuty` service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// The integration key of an Events API v2 integration.
    pub routing_key: SecretSource,
    /// The service; `https://events.eu.pagerduty.com` in Europe.
    #[serde(default = "pagerduty")]
    pub url: String,
}

/// A topic of ntfy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ntfy {
    /// The topic; a secret where knowing it is all one needs to read it.
    pub topic: MaybeSecret,
    /// The server.
    #[serde(default = "ntfy")]
    pub url: String,
    /// An access token.
    pub token: Option<SecretSource>,
    /// Certificates (PEM) that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
}

/// A Prometheus Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Its address, such as `http://localhost:9093`.
    pub url: String,
    /// Further labels of every alert.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretSource>,
    /// The user, where a password is asked for.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretSource>,
    /// Certificates (PEM) that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
}

impl Alertmanager {
    fn check(&self) -> Result<(), String> {
        if self.user.is_some() != self.password.is_some() {
            return Err("`user` and `password` go together: give both, or neither".into());
        }
        if self.token.is_some() && self.password.is_some() {
            return Err("`token` and `password` are two ways to say who asks: give one".into());
        }
        if self.token.is_some() || self.password.is_some() { encrypted(&self.url) } else { Ok(()) }
    }
}

/// An Opsgenie integration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opsgenie {
    /// The key of an API integration.
    pub api_key: SecretSource,
    /// The service; `https://api.eu.opsgenie.com` in Europe.
    #[serde(default = "opsgenie")]
    pub url: String,
}

/// A program that is told of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// How long it may take; without it, as long as any channel.
    #[serde(default, with = "Optional::<DurationText>")]
    pub timeout: Option<Duration>,
}

impl Command {
    fn check(&self) -> Result<(), String> {
        match self.timeout {
            Some(timeout) if timeout.is_zero() => Err("`timeout` must be more than 0s".into()),
            Some(timeout) if timeout > LONGEST_TIMEOUT => Err(format!(
                "`timeout` can be {} s at most: a run of deliveries ends before the next one begins",
                LONGEST_TIMEOUT.as_secs()
            )),
            _ => Ok(()),
        }
    }
}

/// Standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {}

fn telegram() -> String {
    "https://api.telegram.org".into()
}

fn pagerduty() -> String {
    "https://events.pagerduty.com".into()
}

fn ntfy() -> String {
    "https://ntfy.sh".into()
}

fn opsgenie() -> String {
    "https://api.opsgenie.com".into()
}

/// Refuses a URL to which a secret would go in clear text, unless that is this machine.
fn encrypted(url: &str) -> Result<(), String> {
    let Some(rest) = url.get(..7).filter(|start| start.eq_ignore_ascii_case("http://")).map(|_| &url[7..])
    else {
        return Ok(());
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    if host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback()) {
        return Ok(());
    }
    Err(format!("a secret would go to {host} in clear text: its URL must begin with https://"))
}

/// A text that may be written down, or be a secret that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum MaybeSecret {
    /// The text.
    Plain(String),
    /// Where the secret is.
    Secret(SecretSource),
}

impl MaybeSecret {
    /// Where the secret is, if it is one.
    pub fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(source) => Some(source),
        }
    }
}

impl<'de> Deserialize<'de> for MaybeSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MaybeSecretVisitor)
    }
}

struct MaybeSecretVisitor;

impl<'de> Visitor<'de> for MaybeSecretVisitor {
    type Value = MaybeSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or where the secret is: { file = \"…\" } or { env = \"…\" }")
    }

    fn visit_str<E>(self, text: &str) -> Result<MaybeSecret, E> {
        Ok(MaybeSecret::Plain(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MaybeSecret, A::Error> {
        SecretSource::deserialize(MapAccessDeserializer::new(map)).map(MaybeSecret::Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Channels, String> {
        let config = Config::parse(Path::new("reliab.toml"), text.as_bytes());
        config.map(|config| config.channel).map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_is_read_with_its_defaults() {
        let text = r#"
            [channel.a]
            type = "email"
            from = "reliab@example.org"
            to = ["ops@example.org"]
            smtp = { host = "mail.example.org", user = "reliab", password = { file = "/etc/reliab/smtp" } }
            [channel.b]
            type = "webhook"
            url = "https://example.org/alerts"
            secret = { env = "HOOK_SECRET" }
            [channel.c]
            type = "slack"
            url = { env = "SLACK_URL" }
            [channel.d]
            type = "discord"
            url = { file = "discord" }
            [channel.e]
            type = "telegram"
            token = { file = "telegram" }
            chat = "-100"
            [channel.f]
            type = "pagerduty"
            routing_key = { env = "PD" }
            [channel.g]
            type = "ntfy"
            topic = { env = "TOPIC" }
            [channel.h]
            type = "alertmanager"
            url = "http://localhost:9093"
            labels = { team = "ops" }
            [channel.i]
            type = "opsgenie"
            api_key = { env = "OG" }
            [channel.j]
            type = "command"
            command = ["/usr/local/bin/page", "ops"]
            timeout = "5s"
            [channel.k]
            type = "console"
        "#;
        let channels = parse(text).unwrap();
        let types: Vec<_> = channels.values().map(Channel::type_name).collect();
        let expected = [
            "email",
            "webhook",
            "slack",
            "discord",
            "telegram",
            "pagerduty",
            "ntfy",
            "alertmanager",
            "opsgenie",
            "command",
            "console",
        ];
        assert_eq!(types, expected);
        let secrets: Vec<_> = channels.values().map(|channel| channel.secrets().len()).collect();
        assert_eq!(secrets, [1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0]);
        let Channel::Email(email) = &channels["a"] else { panic!() };
        assert_eq!((email.smtp.tls, email.smtp.port()), (SmtpTls::StartTls, 587));
        let Channel::Telegram(telegram) = &channels["e"] else { panic!() };
        assert_eq!(telegram.url, "https://api.telegram.org");
        let Channel::Command(command) = &channels["j"] else { panic!() };
        assert_eq!(command.timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_without_secrets() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err(), expected);
        check(
            "[channel.a]\ntype = \"fax\"\n",
            "reliab.toml:2:8: unknown variant `fax`, expected one of `email`, `webhook`, `slack`, `discord`, \
             `telegram`, `pagerduty`, `ntfy`, `alertmanager`, `opsgenie`, `command`, `console`",
        );
        check("[channel.a]\nurl = \"x\"\n", "reliab.toml:1:1: missing field `type`");
        check("[channel.a]\ntype = \"slack\"\n", "reliab.toml:1:1: missing field `url`");
        check(
            "[channel.a]\ntype = \"slack\"\nurl = \"https://hooks.slack.com/planted\"\n",
            "reliab.toml:3:7: a secret is not written here: say where it is, { file = \"…\" } or { env = \"…\" }",
        );
        check(
            "[channel.a]\ntype = \"console\"\ncolour = true\n",
            "reliab.toml:3:1: unknown key `colour`, there are no fields",
        );
        check(
            "[channel.a]\ntype = \"console\"\n[channel.b]\nto = [\"a@b.c\"]\nfrom = \"a@b.c\"\ntype = \"email\"\n\
             [channel.b.smtp]\nhost = \"h\"\nprot = 25\n",
            "reliab.toml:9:1: unknown key `prot`, expected one of `host`, `port`, `tls`, `user`, `password`, `ca`",
        );
        check(
            "channel.a = { timeout = 5, command = [\"page\"], type = \"command\" }\n",
            "reliab.toml:1:25: invalid type: integer `5`, expected a string",
        );
    }

    #[test]
    fn keys_that_do_nothing_alone_are_refused() {
        let check = |text: &str, expected: &str| {
            let error = parse(&format!("[channel.a]\n{text}\n")).unwrap_err();
            assert_eq!(error, format!("reliab.toml:1:1: {expected}"), "{text}");
        };
        let smtp = "type = \"email\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nsmtp = { host = \"h\", ";
        let text = "`user` without `password` does nothing: add it, or leave out both";
        check(&format!("{smtp}user = \"u\" }}"), text);
        let text = "`password` without `user` does nothing: add it, or leave out both";
        check(&format!("{smtp}password = {{ env = \"P\" }} }}"), text);
        let manager = "type = \"alertmanager\"\nurl = \"https://am\"\n";
        let text = "`user` and `password` go together: give both, or neither";
        check(&format!("{manager}user = \"u\""), text);
        check(&format!("{manager}password = {{ env = \"P\" }}"), text);
        let both = "user = \"u\"\npassword = { env = \"P\" }\ntoken = { env = \"T\" }";
        check(&format!("{manager}{both}"), "`token` and `password` are two ways to say who asks: give one");
        let command = "type = \"command\"\ncommand = [\"page\"]\ntimeout = ";
        check(&format!("{command}\"0s\""), "`timeout` must be more than 0s");
        let text = "`timeout` can be 45 s at most: a run of deliveries ends before the next one begins";
        check(&format!("{command}\"46s\""), text);
        assert!(parse(&format!("[channel.a]\n{command}\"45s\"\n")).is_ok());
    }

    #[test]
    fn a_secret_goes_to_other_machines_encrypted_only() {
        let check = |url: &str, expected: Option<&str>| {
            let expected = expected.map(|host| {
                format!(
                    "reliab.toml:1:1: a secret would go to {host} in clear text: its URL must begin with https://"
                )
            });
            for text in [
                "type = \"webhook\"\ntoken = { env = \"T\" }",
                "type = \"ntfy\"\ntopic = \"t\"\ntoken = { env = \"T\" }",
                "type = \"ntfy\"\ntopic = { env = \"T\" }",
                "type = \"alertmanager\"\ntoken = { env = \"T\" }",
                "type = \"alertmanager\"\nuser = \"u\"\npassword = { env = \"P\" }",
            ] {
                let found = parse(&format!("[channel.a]\n{text}\nurl = \"{url}\"\n")).err();
                assert_eq!(found, expected, "{text} {url}");
            }
        };
        check("http://example.org/x", Some("example.org"));
        check("HTTP://192.0.2.1:9093", Some("192.0.2.1"));
        check("http://localhost@example.org/", Some("example.org"));
        check("http://localhost.example.org", Some("localhost.example.org"));
        check("http://[2001:db8::1]:80/", Some("2001:db8::1"));
        for url in ["https://example.org", "http://localhost:9093/x", "http://127.0.0.1", "http://[::1]:9093"]
        {
            check(url, None);
        }
        // Without a secret, anything goes.
        for text in ["webhook", "alertmanager"] {
            let text = format!("[channel.a]\ntype = \"{text}\"\nurl = \"http://example.org\"\n");
            assert!(parse(&text).is_ok());
        }
    }
}
