//! Slack's incoming webhooks: `{"text", "blocks"}` (api.slack.com/messaging/webhooks, …/reference/block-kit).

use reliab_common::secret::Secret;
use serde_json::{Value, json};

use super::Outgoing;
use super::http::Request;
use super::text::cut_escaped;

/// The bounds of Block Kit, in characters.
const HEADER: usize = 150;
const SECTION: usize = 3000;
const CONTEXT: usize = 2000;
/// A message has at most 50 blocks.
const SECTIONS: usize = 45;
const FALLBACK: usize = 1000;

pub(super) struct Slack {
    pub(super) url: Secret,
}

impl Slack {
    pub(super) fn request(&self, out: &Outgoing<'_>) -> Request {
        // Slack, and Mattermost after it, say yes by this word alone.
        let said_ok = |body: &[u8]| body.trim_ascii() == b"ok";
        Request::json(self.url.clone(), out.key, &payload(out)).accepting(said_ok)
    }
}

fn payload(out: &Outgoing<'_>) -> Value {
    let title = out.message.title();
    let mut blocks = vec![json!({ "type": "header", "text": plain(&cut_escaped(&title, HEADER, escape)) })];
    blocks
        .extend(sections(&out.lines()).iter().map(|text| json!({ "type": "section", "text": plain(text) })));
    let reference = cut_escaped(&format!("ref {}", out.key), CONTEXT, escape);
    blocks.push(json!({ "type": "context", "elements": [plain(&reference)] }));
    json!({ "text": cut_escaped(&title, FALLBACK, escape), "blocks": blocks })
}

/// Text that is shown as it stands: `*` and `_` mean nothing in it.
fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// The lines, as few sections as they fit in.
fn sections(lines: &[String]) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in lines {
        let line = cut_escaped(line, SECTION, escape);
        match sections.last_mut() {
            Some(last) if last.chars().count() + 1 + line.chars().count() <= SECTION => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => sections.push(line),
        }
    }
    sections.retain(|text| !text.is_empty());
    sections.truncate(SECTIONS);
    sections
}

/// The three characters that control Slack's text, as its documents ask.
fn escape(c: char) -> String {
    match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        c => c.into(),
    }
}
