//! ntfy (docs.ntfy.sh/publish, "publish as JSON").

use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use ring::digest::{SHA256, digest};
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

/// The key where ntfy allows it, else the SHA-256 of all of it: two keys must never share an id, as the later message
/// would take the place of another one.
fn sequence(key: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !key.is_empty() && key.len() <= SEQUENCE && key.bytes().all(allowed) {
        return key.to_owned();
    }
    let hash = digest(&SHA256, key.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn different_keys_have_different_ids_that_ntfy_allows() {
        let host = "a-host-with-a-very-long-name.in-some-department.of-a-company.example.org";
        let keys = [
            format!("{host}:7:opened"),
            format!("{host}:8:opened"),
            "web1:7".into(),
            "web1/7".into(),
            "web1_7".into(),
            String::new(),
            "w".repeat(64),
            "w".repeat(65),
        ];
        let ids: BTreeSet<String> = keys.iter().map(|key| sequence(key)).collect();
        assert_eq!(ids.len(), keys.len(), "{ids:?}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(
            ids.iter().all(|id| (1..=SEQUENCE).contains(&id.len()) && id.chars().all(allowed)),
            "{ids:?}"
        );
        assert!(ids.contains("web1_7") && ids.contains(&"w".repeat(64)));
    }
}
