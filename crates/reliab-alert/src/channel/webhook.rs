//! A JSON document, posted to any URL, with a signature.

use chrono::{DateTime, Utc};
use reliab_common::app::schema;
use reliab_common::secret::Secret;
use ring::hmac;
use serde::Serialize;

use super::Outgoing;
use super::http::Request;
use crate::message::{IncidentLine, Kind};

pub(super) struct Webhook {
    pub(super) url: Secret,
    pub(super) secret: Option<Secret>,
    pub(super) token: Option<Secret>,
}

/// A message as a program reads it; also what the channel `command` gives on standard input.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: String,
    key: &'a str,
    kind: Kind,
    host: &'a str,
    level: &'static str,
    title: String,
    text: String,
    owed: DateTime<Utc>,
    sent: DateTime<Utc>,
    late: Option<String>,
    note: &'a str,
    incidents: &'a [IncidentLine],
}

impl<'a> Document<'a> {
    pub(super) fn of(out: &Outgoing<'a>) -> Self {
        let message = out.message;
        Self {
            schema: schema("notification"),
            key: out.key,
            kind: message.kind,
            host: &message.host,
            level: message.level().name(),
            title: message.title(),
            text: out.lines().join("\n"),
            owed: message.owed,
            sent: out.now,
            late: message.late(out.now),
            note: &message.note,
            incidents: &message.incidents,
        }
    }
}

impl Webhook {
    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        let request = Request::json(self.url.clone(), out.key, &Document::of(out));
        let signature = self.secret.as_ref().map(|secret| signature(secret, &request.body));
        let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        request.header("x-reliab-signature", signature).header("authorization", bearer)
    }
}

/// `sha256=` and the HMAC-SHA256 (RFC 2104) of the body, in hexadecimal.
fn signature(secret: &Secret, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, body);
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_4231_test_case_2() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(&Secret::new("Jefe"), b"what do ya want for nothing?"), expected);
    }
}
