//! Prometheus Alertmanager's API v2: `POST /api/v2/alerts`.
//!
//! An alert is known by its labels, so these are the same from the first message to the last. The severity is one of
//! them, as routes ask for it; when it changes, the alerts of the other severities are ended in the same request.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::config::channel::Alertmanager as Config;
use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use serde::Serialize;

use super::event::{Action, Event, events};
use super::http::Request;
use super::{Outgoing, base};
use crate::message::Kind;

/// How long an alert lasts that nobody ends: long, as it is told once and not every minute.
const OPEN_FOR: TimeDelta = TimeDelta::days(7);
/// How long what is over already is shown.
const SHOWN_FOR: TimeDelta = TimeDelta::minutes(5);

pub(super) struct Alertmanager {
    url: Secret,
    labels: BTreeMap<String, String>,
    authorization: Option<String>,
}

#[derive(Serialize)]
struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "startsAt")]
    starts_at: DateTime<Utc>,
    #[serde(rename = "endsAt")]
    ends_at: DateTime<Utc>,
}

/// User and password as HTTP sends them (RFC 7617): as secret as the password itself.
pub(super) fn basic(config: &Config, password: &Secret) -> Secret {
    let user = config.user.as_deref().unwrap_or_default();
    Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())))
}

impl Alertmanager {
    pub(super) fn new(config: &Config, token: Option<Secret>, basic: Option<Secret>) -> Self {
        let bearer = token.map(|token| format!("Bearer {}", token.expose()));
        let basic = basic.map(|basic| format!("Basic {}", basic.expose()));
        Self {
            url: Secret::new(format!("{}/api/v2/alerts", base(&config.url))),
            labels: config.labels.clone(),
            authorization: bearer.or(basic),
        }
    }

    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        let alerts: Vec<Alert> = events(out).iter().flat_map(|event| self.alerts(event, out)).collect();
        Request::json(self.url.clone(), out.key, &alerts).header("authorization", self.authorization.clone())
    }

    /// The alerts of an event: one for each severity whose state it changes.
    fn alerts(&self, event: &Event, out: &Outgoing<'_>) -> Vec<Alert> {
        let ends: Vec<(Level, DateTime<Utc>)> = match (out.message.kind, event.action) {
            (Kind::Opened | Kind::Reminder | Kind::Escalated | Kind::Flapping, _) => {
                let end = |level| if level == event.level { out.now + OPEN_FOR } else { out.now };
                Level::ALL.iter().map(|&level| (level, end(level))).collect()
            }
            (Kind::Closed, _) => {
                Level::ALL.iter().map(|&level| (level, event.closed.unwrap_or(out.now))).collect()
            }
            // An end at once would hide what nobody has seen yet.
            (_, Action::Trigger) => vec![(event.level, out.now + SHOWN_FOR)],
            (_, Action::Resolve) => Vec::new(),
        };
        ends.into_iter().map(|(level, end)| self.alert(event, level, out, end.max(event.began))).collect()
    }

    fn alert(&self, event: &Event, level: Level, out: &Outgoing<'_>, ends_at: DateTime<Utc>) -> Alert {
        let mut labels = self.labels.clone();
        let own = [
            ("alertname", event.rule.clone()),
            ("instance", out.message.host.clone()),
            ("subject", event.subject.clone()),
            ("severity", level.name().to_owned()),
            ("incident", event.key.clone()),
        ];
        labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let annotations = [
            ("summary", event.title.clone()),
            ("description", event.lines.join("\n")),
            ("notification", out.key.to_owned()),
        ];
        Alert { labels, annotations: annotations.into(), starts_at: event.began, ends_at }
    }
}
