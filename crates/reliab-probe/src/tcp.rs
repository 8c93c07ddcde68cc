//! TCP and TLS connections, and what is said on them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::dial::{Net, told};
use crate::finding::{Finding, excerpt};
use crate::socket::{Permit, Stream};
use crate::target::{DialRules, Said, TcpTarget};
use crate::tls::TlsSettings;
use crate::trace::{Phase, Trace};

/// Most reads of one answer: a peer that sends byte by byte is to cost no more than others.
const READS: u32 = 20_000;
/// A pattern is looked for in all that was heard each time that grew by this share, so that the work stays in proportion…
const SHARE: usize = 8;
/// … and when nothing more came for this long, as the peer may be done.
const LULL: Duration = Duration::from_millis(10);

/// Connects, and over TLS if asked to; then what is to be said is said.
pub(crate) async fn attempt(
    net: &Net,
    target: &TcpTarget,
    tls: Option<&TlsSettings>,
    rules: &DialRules,
    permit: &Permit,
    trace: &mut Trace,
) -> Result<(), Finding> {
    let socket = net.dial(&target.endpoint, rules, permit, trace).await?;
    let Some(tls) = tls else { return talk(socket, target, rules, trace).await };
    let stream = tls.handshake(socket, &target.endpoint.host, &[], &rules.limits, trace).await?;
    talk(stream, target, rules, trace).await
}

async fn talk(
    mut stream: impl Stream,
    target: &TcpTarget,
    rules: &DialRules,
    trace: &mut Trace,
) -> Result<(), Finding> {
    if target.send.is_none() && target.expect.is_none() {
        return Ok(());
    }
    trace.await_first_byte(None);
    if let Some(text) = &target.send {
        let sent = async {
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| Finding::critical("to send", told(&error)))?;
    }
    let Some(expected) = &target.expect else {
        trace.end();
        return Ok(());
    };
    let mut heard = Vec::new();
    let limits = &rules.limits;
    let first = hear(&mut stream, &mut heard, target.limit);
    let more = Trace::limited(Phase::FirstByte, Phase::FirstByte.limit(limits), first).await??;
    trace.answer_began();
    let rest = listen(&mut stream, &mut heard, target.limit, more, expected);
    let found = Trace::limited(Phase::Transfer, Phase::Transfer.limit(limits), rest).await??;
    trace.end();
    trace.seen.bytes = Some(heard.len() as u64);
    if found {
        return Ok(());
    }
    let got = format!("\"{}\"", excerpt(&String::from_utf8_lossy(&heard)));
    Err(Finding::critical(expected.text(), got))
}

/// Reads on until what is expected was said, or no more comes; whether it was said.
async fn listen(
    stream: &mut impl Stream,
    heard: &mut Vec<u8>,
    limit: usize,
    mut more: bool,
    expected: &Said,
) -> Result<bool, Finding> {
    let mut search = Search::of(expected);
    let mut found = search.is_in(heard);
    for _ in 0..READS {
        if found || !more {
            return Ok(found);
        }
        let next = hear(stream, heard, limit);
        // A read that is given up has taken nothing.
        let next = if search.lags { timeout(LULL, next).await } else { Ok(next.await) };
        let is_lull = next.is_err();
        more = next.unwrap_or(Ok(true))?;
        found = if more && !is_lull { search.is_in_by_now(heard) } else { search.is_in(heard) };
    }
    Ok(found || search.is_in(heard))
}

/// Reads more; false when there is no more, or enough.
async fn hear(stream: &mut impl Stream, heard: &mut Vec<u8>, limit: usize) -> Result<bool, Finding> {
    let mut buffer = [0; 4096];
    let room = buffer.len().min(limit - heard.len());
    let count = stream.read(&mut buffer[..room]).await;
    let count = count.map_err(|error| Finding::critical("an answer", told(&error)))?;
    heard.extend_from_slice(&buffer[..count]);
    Ok(count > 0 && heard.len() < limit)
}

/// Looks for what is expected in an answer that grows.
struct Search<'a> {
    said: &'a Said,
    /// How much was looked through.
    seen: usize,
    /// Whether something came since that was not looked through.
    lags: bool,
}

impl<'a> Search<'a> {
    fn of(said: &'a Said) -> Self {
        Self { said, seen: 0, lags: false }
    }

    /// Looks, if that is cheap or much has come since the last time.
    fn is_in_by_now(&mut self, heard: &[u8]) -> bool {
        let is_due = matches!(self.said, Said::Text(_)) || heard.len() - self.seen > self.seen / SHARE;
        self.lags = !is_due;
        is_due && self.is_in(heard)
    }

    fn is_in(&mut self, heard: &[u8]) -> bool {
        let seen = std::mem::replace(&mut self.seen, heard.len());
        self.lags = false;
        match self.said {
            // It may have begun in what was looked through.
            Said::Text(text) => {
                contains(&heard[(seen + 1).saturating_sub(text.len().max(1))..], text.as_bytes())
            }
            Said::Pattern(pattern) => pattern.is_match(heard),
        }
    }
}

impl Said {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{}\"", excerpt(text)),
            Self::Pattern(pattern) => format!("a match of {}", pattern.as_str()),
        }
    }
}

/// Whether bytes are in others.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn text_is_found_wherever_an_answer_is_cut() {
        let said = Said::Text("ready".into());
        let heard = b"not rea, but ready";
        for cut in 0..heard.len() {
            let mut search = Search::of(&said);
            assert!(!search.is_in(&heard[..cut]));
            assert!(search.is_in_by_now(heard), "{cut}");
        }
    }

    #[test]
    fn a_long_answer_in_small_pieces_is_not_looked_through_each_time() {
        let heard = vec![b'x'; 1 << 20];
        let pattern = regex::bytes::Regex::new("x+[yz]$").unwrap();
        for said in [Said::Text("y".repeat(100)), Said::Pattern(pattern)] {
            let mut search = Search::of(&said);
            let started = Instant::now();
            let mut looks = 0;
            for end in (0..heard.len()).step_by(16) {
                assert!(!search.is_in_by_now(&heard[..end]));
                looks += usize::from(matches!(said, Said::Pattern(_)) && search.seen == end);
            }
            assert!(looks < 200, "{looks}");
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        }
    }
}
