//! A finding: what was looked at, how it is, what to do.

use std::borrow::Cow;

use reliab_common::exit::Level;
use serde::Serialize;
use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};

/// Columns of which less makes no sense of sentences.
const NARROWEST: usize = 40;

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

    /// The lines for people, in so many columns; without them, one for the text and one for the step.
    pub fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let level = if self.level == Level::Ok { "ok".into() } else { self.level.name().to_uppercase() };
        let text = format!("{}: {}", self.subject, self.text);
        let mut lines = wrapped(&text, &format!("{level:<8}  "), columns);
        lines.extend(self.step.iter().flat_map(|step| wrapped(step, "          -> ", columns)));
        lines
    }
}

/// The text behind `head`, broken between words; what is longer than a line, such as a path, stays whole.
fn wrapped(text: &str, head: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else { return vec![format!("{head}{text}")] };
    let indent = " ".repeat(head.len());
    let options = textwrap::Options::new(columns.max(NARROWEST))
        .initial_indent(head)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_only_where_they_have_to_fit() {
        let step =
            "write the secret into /etc/reliab/smtp-password and chmod 600 it, then run: reliab config check";
        let finding =
            Finding::critical("secret channel.ops.smtp.password", "cannot read it: no such file", step);
        let whole = finding.lines(None);
        assert_eq!(whole.len(), 2);
        assert_eq!(
            finding.lines(Some(60)),
            [
                "CRITICAL  secret channel.ops.smtp.password: cannot read it:",
                "          no such file",
                "          -> write the secret into /etc/reliab/smtp-password",
                "             and chmod 600 it, then run: reliab config check",
            ]
        );
        // Nothing is lost, and a path that fits no line is not cut.
        for columns in [0, 1, 40, 80, 300] {
            let lines = finding.lines(Some(columns)).join(" ");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&lines), words(&whole.join(" ")), "{columns}");
        }
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(
            Finding::well("state", &long).lines(Some(80)),
            ["ok        state:".to_owned(), format!("          {long}")]
        );
    }
}
