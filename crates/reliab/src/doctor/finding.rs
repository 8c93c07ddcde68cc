//! A finding: what was looked at, how it is, what to do.

use reliab_common::exit::Level;
use serde::Serialize;

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `timer backup`.
    pub subject: String,
    /// How it is.
    pub level: Level,
    /// One line for people.
    pub text: String,
    /// What to do about it; nothing where all is well.
    #[serde(rename = "do")]
    pub step: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn well(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), level: Level::Ok, text: text.into(), step: None }
    }

    /// Something should be better.
    pub fn warning(subject: impl Into<String>, text: impl Into<String>, step: impl Into<String>) -> Self {
        let step = Some(step.into());
        Self { subject: subject.into(), level: Level::Warning, text: text.into(), step }
    }

    /// Something does not work.
    pub fn critical(subject: impl Into<String>, text: impl Into<String>, step: impl Into<String>) -> Self {
        Self { level: Level::Critical, ..Self::warning(subject, text, step) }
    }

    /// It cannot be found out.
    pub fn unknown(subject: impl Into<String>, text: impl Into<String>, step: impl Into<String>) -> Self {
        Self { level: Level::Unknown, ..Self::warning(subject, text, step) }
    }

    /// The lines for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let level = if self.level == Level::Ok { "ok".into() } else { self.level.name().to_uppercase() };
        let mut lines = vec![format!("{level:<8}  {}: {}", self.subject, self.text)];
        lines.extend(self.step.as_ref().map(|step| format!("          -> {step}")));
        lines
    }
}
