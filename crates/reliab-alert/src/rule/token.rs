//! The words and signs of a rule's text, each with its place.

/// A piece of a rule's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// The text, without quotes.
    pub(super) text: &'a str,
    /// The first character, from 0.
    pub(super) at: usize,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, a number, a path, a pattern.
    Word,
    /// Text in double quotes, in which anything but a double quote may stand.
    Quoted,
    /// `(`, `)`, `<` or `>`.
    Sign,
    /// A double quote that nothing closes.
    Unclosed,
    /// Behind the last piece.
    End,
}

impl Token<'_> {
    /// How an error names it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::End => "the end".to_owned(),
            Kind::Unclosed => "a quote that is not closed".to_owned(),
            Kind::Quoted => format!("\"{}\"", self.text),
            Kind::Word | Kind::Sign => format!("`{}`", self.text),
        }
    }
}

/// Cuts a rule's text into pieces; the last is [`Kind::End`].
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, 0);
    loop {
        let trimmed = rest.trim_start();
        at += rest[..rest.len() - trimmed.len()].chars().count();
        let (token, length) = first(trimmed, at);
        let end = token.kind == Kind::End;
        tokens.push(token);
        if end {
            return tokens;
        }
        at += trimmed[..length].chars().count();
        rest = &trimmed[length..];
    }
}

/// The first piece of text that does not begin with a space, and its length in bytes.
fn first(text: &str, at: usize) -> (Token<'_>, usize) {
    let token = |kind, text, length| (Token { kind, text, at }, length);
    let Some(c) = text.chars().next() else { return token(Kind::End, "", 0) };
    if is_sign(c) {
        return token(Kind::Sign, &text[..1], 1);
    }
    if c == '"' {
        return match text[1..].find('"') {
            Some(end) => token(Kind::Quoted, &text[1..=end], end + 2),
            None => token(Kind::Unclosed, &text[1..], text.len()),
        };
    }
    let ends = |c: char| c.is_whitespace() || is_sign(c) || c == '"';
    let end = text.find(ends).unwrap_or(text.len());
    token(Kind::Word, &text[..end], end)
}

fn is_sign(c: char) -> bool {
    matches!(c, '(' | ')' | '<' | '>')
}
