//! Opsgenie's alert API (docs.opsgenie.com/docs/alert-api): an alert an incident, by its alias.

use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use reqwest::Url;
use serde_json::{Value, json};

use super::event::{Action, Event, events};
use super::http::Request;
use super::text::cut_chars;
use super::{Outgoing, SendError};

/// The bounds of the API, in characters.
const MESSAGE: usize = 130;
const ALIAS: usize = 512;
const DESCRIPTION: usize = 15_000;
const ENTITY: usize = 512;
const SOURCE: usize = 100;
const TAG: usize = 50;

pub(super) struct Opsgenie {
    pub(super) url: String,
    pub(super) key: Secret,
}

impl Opsgenie {
    pub(super) fn requests(&self, out: &Outgoing<'_>) -> Result<Vec<Request>, SendError> {
        events(out).iter().map(|event| self.request(event, out)).collect()
    }

    fn request(&self, event: &Event, out: &Outgoing<'_>) -> Result<Request, SendError> {
        let alias = cut_chars(&event.key, ALIAS);
        let (url, body) = match event.action {
            Action::Trigger => (format!("{}/v2/alerts", self.url), created(event, &alias, out)),
            Action::Resolve => (self.close_url(&alias)?, closed(event, out)),
        };
        let authorization = Some(format!("GenieKey {}", self.key.expose()));
        Ok(Request::json(Secret::new(url), out.key, &body).header("authorization", authorization))
    }

    fn close_url(&self, alias: &str) -> Result<String, SendError> {
        let bad = |error| SendError::passing(format!("its URL is not one: {error}"));
        let mut url = Url::parse(&format!("{}/v2/alerts/", self.url)).map_err(bad)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend([alias, "close"]);
        }
        url.set_query(Some("identifierType=alias"));
        Ok(url.into())
    }
}

fn created(event: &Event, alias: &str, out: &Outgoing<'_>) -> Value {
    json!({
        "message": cut_chars(&event.title, MESSAGE),
        "alias": alias,
        "description": cut_chars(&event.lines.join("\n"), DESCRIPTION),
        "entity": cut_chars(&event.subject, ENTITY),
        "source": cut_chars(&out.message.host, SOURCE),
        "priority": priority(event.level),
        "tags": ["reliab", cut_chars(&event.rule, TAG)],
        "details": { "notification": out.key },
    })
}

fn closed(event: &Event, out: &Outgoing<'_>) -> Value {
    json!({
        "source": cut_chars(&out.message.host, SOURCE),
        "note": cut_chars(&event.title, DESCRIPTION),
    })
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "P1",
        Level::Unknown => "P2",
        Level::Warning => "P3",
        Level::Ok => "P5",
    }
}
