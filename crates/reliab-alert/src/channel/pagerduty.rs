//! `PagerDuty`'s Events API v2 (developer.pagerduty.com/docs/events-api-v2): an event an incident.

use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use serde_json::{Value, json};

use super::Outgoing;
use super::event::{Action, Event, events};
use super::http::Request;
use super::text::cut_chars;

/// The bounds of the API, in characters.
const DEDUP_KEY: usize = 255;
const SUMMARY: usize = 1024;

pub(super) struct PagerDuty {
    pub(super) url: Secret,
    pub(super) key: Secret,
}

impl PagerDuty {
    pub(super) fn requests(&self, out: &Outgoing<'_>) -> Vec<Request> {
        let request = |event: &Event| Request::json(self.url.clone(), out.key, &self.payload(event, out));
        events(out).iter().map(request).collect()
    }

    fn payload(&self, event: &Event, out: &Outgoing<'_>) -> Value {
        let dedup_key = cut_chars(&event.key, DEDUP_KEY);
        let routing_key = self.key.expose();
        if event.action == Action::Resolve {
            return json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key });
        }
        json!({
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": dedup_key,
            "client": "reliab",
            "payload": {
                "summary": cut_chars(&event.title, SUMMARY),
                "source": out.message.host,
                "severity": severity(event.level),
                "timestamp": event.began,
                "component": event.subject,
                "class": event.rule,
                "custom_details": { "text": event.lines.join("\n"), "notification": out.key },
            },
        })
    }
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Ok => "info",
        Level::Warning => "warning",
        Level::Unknown => "error",
        Level::Critical => "critical",
    }
}
