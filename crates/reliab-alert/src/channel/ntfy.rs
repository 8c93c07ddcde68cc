//! ntfy (docs.ntfy.sh/publish, "publish as JSON").

use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use serde_json::{Value, json};

use super::Outgoing;
use super::http::Request;
use super::text::cut_bytes;

/// A longer message becomes an attachment; in bytes.
const MESSAGE: usize = 4096;
const TITLE: usize = 250;
/// A sequence id has at most this many letters, digits, `-` and `_`.
const SEQUENCE: usize = 64;

pub(super) struct Ntfy {
    pub(super) url: String,
    pub(super) topic: Secret,
    pub(super) token: Option<Secret>,
}

impl Ntfy {
    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let url = Secret::new(format!("{}/", self.url));
        Request::json(url, out.key, &self.payload(out))
            .header("authorization", bearer)
            // Since version 2.16 a message with the same sequence id takes the place of the one before.
            .header("x-sequence-id", Some(sequence(out.key)))
            .accepting(|body| {
                serde_json::from_slice(body).is_ok_and(|answer: Value| answer["id"].is_string())
            })
    }

    fn payload(&self, out: &Outgoing<'_>) -> Value {
        let (priority, tag) = look(out.message.level());
        json!({
            "topic": self.topic.expose(),
            "title": cut_bytes(&out.message.title(), TITLE),
            "message": cut_bytes(&out.lines().join("\n"), MESSAGE),
            "priority": priority,
            "tags": [tag],
        })
    }
}

fn look(level: Level) -> (u8, &'static str) {
    match level {
        Level::Ok => (3, "white_check_mark"),
        Level::Warning => (4, "warning"),
        Level::Unknown => (4, "grey_question"),
        Level::Critical => (5, "rotating_light"),
    }
}

fn sequence(key: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    key.chars().map(safe).take(SEQUENCE).collect()
}
