//! Discord's webhooks: one embed (discord.com/developers/docs/resources/webhook#execute-webhook).

use reliab_common::exit::Level;
use reliab_common::secret::Secret;
use serde_json::{Value, json};

use super::Outgoing;
use super::http::Request;
use super::text::cut_escaped;

/// The bounds of an embed, in characters.
const TITLE: usize = 256;
const DESCRIPTION: usize = 4096;
const FOOTER: usize = 1024;

pub(super) struct Discord {
    pub(super) url: Secret,
}

impl Discord {
    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        Request::json(self.url.clone(), out.key, &payload(out))
    }
}

fn payload(out: &Outgoing<'_>) -> Value {
    json!({
        "embeds": [{
            "title": cut_escaped(&out.message.title(), TITLE, escape),
            "description": cut_escaped(&out.lines().join("\n"), DESCRIPTION, escape),
            "color": colour(out.message.level()),
            "timestamp": out.message.owed,
            "footer": { "text": cut_escaped(&format!("ref {}", out.key), FOOTER, String::from) },
        }],
        // What was measured may hold `@everyone`.
        "allowed_mentions": { "parse": [] },
    })
}

fn colour(level: Level) -> u32 {
    match level {
        Level::Ok => 0x2e_a0_43,
        Level::Warning => 0xd2_99_22,
        Level::Critical => 0xda_36_33,
        Level::Unknown => 0x8b_94_9e,
    }
}

/// A backslash before what Markdown would take for its own.
fn escape(c: char) -> String {
    if "\\*_~`|<>[]()#@:".contains(c) { format!("\\{c}") } else { c.into() }
}
