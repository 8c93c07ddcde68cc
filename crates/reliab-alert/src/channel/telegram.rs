//! A Telegram bot's `sendMessage` (core.telegram.org/bots/api#sendmessage), as plain text.

use reliab_common::secret::Secret;
use serde_json::{Value, json};

use super::Outgoing;
use super::http::Request;
use super::text::cut_utf16;

/// The bound of a message, in UTF-16 units, as Telegram counts.
const TEXT: usize = 4096;

pub(super) struct Telegram {
    /// With the token in it.
    pub(super) url: Secret,
    pub(super) chat: String,
}

impl Telegram {
    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        let accepts = |body: &[u8]| {
            serde_json::from_slice(body).is_ok_and(|answer: Value| answer["ok"] == Value::Bool(true))
        };
        let reference = format!("\nref {}", out.key);
        let text = format!("{}\n{}", out.message.title(), out.lines().join("\n"));
        let room = TEXT - reference.encode_utf16().count().min(TEXT / 2);
        let text = cut_utf16(&text, room) + &cut_utf16(&reference, TEXT / 2);
        // Without `parse_mode` no character has a meaning.
        let payload =
            json!({ "chat_id": self.chat, "text": text, "link_preview_options": { "is_disabled": true } });
        Request::json(self.url.clone(), out.key, &payload).accepting(accepts)
    }
}
