//! TCP and TLS connections, and what is said on them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::dial::{Net, told};
use crate::finding::{Finding, excerpt};
use crate::socket::{Permit, Stream};
use crate::target::{DialRules, Said, TcpTarget};
use crate::tls::TlsSettings;
use crate::trace::{Phase, Trace};

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
    let mut more = Trace::limited(Phase::FirstByte, Phase::FirstByte.limit(limits), first).await??;
    trace.answer_began();
    let rest = async {
        while more && !expected.is_in(&heard) {
            more = hear(&mut stream, &mut heard, target.limit).await?;
        }
        Ok(())
    };
    Trace::limited(Phase::Transfer, Phase::Transfer.limit(limits), rest).await??;
    trace.end();
    trace.seen.bytes = Some(heard.len() as u64);
    if expected.is_in(&heard) {
        return Ok(());
    }
    let got = format!("\"{}\"", excerpt(&String::from_utf8_lossy(&heard)));
    Err(Finding::critical(expected.text(), got))
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

impl Said {
    fn is_in(&self, heard: &[u8]) -> bool {
        match self {
            Self::Text(text) => contains(heard, text.as_bytes()),
            Self::Pattern(pattern) => pattern.is_match(heard),
        }
    }

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
