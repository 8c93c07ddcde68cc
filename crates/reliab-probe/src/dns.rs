//! DNS queries, to one server or to the system's in turn.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use reliab_common::config::probe::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::dial::told;
use crate::finding::{Finding, excerpt};
use crate::target::{DialRules, DnsTarget};
use crate::trace::{Phase, Trace};

/// The largest UDP answer that is asked for; the recommendation of DNS Flag Day 2020.
const PAYLOAD: u16 = 1232;
/// Response codes, as they can be expected.
pub(crate) const CODES: [&str; 20] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "BADVERS",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];
/// More records than this are not shown.
const RECORDS: usize = 50;

/// Asks, and compares the answer. The caller's permit covers the one socket that is open at a time.
pub(crate) async fn attempt(target: &DnsTarget, rules: &DialRules, trace: &mut Trace) -> Result<(), Finding> {
    trace.begin(Phase::Dns);
    let limit = Phase::Dns.limit(&rules.limits);
    let answer = Trace::limited(Phase::Dns, limit, ask_in_turn(target, limit, trace)).await??;
    trace.end();
    let code = name_of(answer.metadata.response_code);
    trace.seen.rcode = Some(code.clone());
    let of_type = |record: &&hickory_proto::rr::Record| record.record_type() == target.record;
    let values = answer.answers.iter().filter(of_type).map(|record| record.data.to_string());
    let values: Vec<String> = values.collect();
    trace.seen.answers = values.iter().take(RECORDS).map(|value| excerpt(value)).collect();
    judge(target, &code, &values, &trace.seen.answers)
}

/// Compares the values; those that are shown are shortened and not all.
fn judge(target: &DnsTarget, code: &str, values: &[String], shown: &[String]) -> Result<(), Finding> {
    if !code.eq_ignore_ascii_case(&target.rcode) {
        return Err(Finding::critical(target.rcode.to_ascii_uppercase(), code));
    }
    let mut got = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
    if values.len() > shown.len() {
        got.push_str(&format!(" and {} more", values.len() - shown.len()));
    }
    let same = if has_names(target.record) { is_same_name } else { is_same_text };
    let absent = |value: &&String| !values.iter().any(|answer| same(answer, value));
    let missing: Vec<&str> = target.answer.iter().filter(absent).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(Finding::critical(format!("{} {}", target.record, missing.join(", ")), got));
    }
    if values.is_empty() && code == "NOERROR" {
        return Err(Finding::critical(format!("a record of type {}", target.record), got));
    }
    Ok(())
}

/// Whether the value of a record is an address, or names, and numbers at most.
fn has_names(record: RecordType) -> bool {
    use RecordType::{A, AAAA, ANAME, CNAME, MX, NS, PTR, SOA, SRV};
    matches!(record, A | AAAA | ANAME | CNAME | MX | NS | PTR | SOA | SRV)
}

/// Names do not differ by case, nor by the dot at their end.
fn is_same_name(a: &str, b: &str) -> bool {
    a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'))
}

/// Of texts each letter counts, as in the key of a DKIM record; quotes around the whole do not.
fn is_same_text(a: &str, b: &str) -> bool {
    a.trim_matches('"') == b.trim_matches('"')
}

/// The mnemonic of a response code, as in dig.
fn name_of(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("{other:?}").to_ascii_uppercase(),
    }
}

/// The first answer, each server having its share of the time that is left.
async fn ask_in_turn(
    target: &DnsTarget,
    limit: Option<std::time::Duration>,
    trace: &mut Trace,
) -> Result<Message, Finding> {
    let now = Instant::now();
    let until = limit.map_or(trace.deadline(), |limit| trace.deadline().min(now + limit));
    let mut failures = Vec::new();
    for (tried, &server) in target.servers.iter().enumerate() {
        trace.seen.address = Some(server);
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(target.servers.len() - tried - 1).unwrap_or(u32::MAX);
        let share = if others == 0 { left + std::time::Duration::from_secs(1) } else { left / (others + 1) };
        match tokio::time::timeout(share, ask(target, server)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failures.push(format!("{} from {server}", told(&error))),
            Err(_) => failures.push(format!("nothing from {server}")),
        }
    }
    Err(Finding::critical("an answer from DNS", failures.join(", ")))
}

async fn ask(target: &DnsTarget, server: SocketAddr) -> io::Result<Message> {
    if target.transport == Transport::Udp {
        let answer = ask_udp(target, server).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
    }
    ask_tcp(target, server).await
}

fn question(target: &DnsTarget) -> io::Result<(Message, Vec<u8>)> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(target.name.clone(), target.record));
    query.edns.get_or_insert_default().set_max_payload(PAYLOAD);
    let bytes = query.to_vec().map_err(io::Error::other)?;
    Ok((query, bytes))
}

/// The answer in these bytes, if it is one to that question.
fn answer_to(query: &Message, bytes: &[u8]) -> Option<io::Result<Message>> {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(_) if bytes.starts_with(&query.metadata.id.to_be_bytes()) => {
            return Some(Err(io::Error::other("what is not a DNS message")));
        }
        Err(_) => return None,
    };
    let fits = message.metadata.id == query.metadata.id
        && message.metadata.message_type == hickory_proto::op::MessageType::Response
        && (message.queries == query.queries || message.queries.is_empty());
    fits.then_some(Ok(message))
}

async fn ask_udp(target: &DnsTarget, server: SocketAddr) -> io::Result<Message> {
    let (query, bytes) = question(target)?;
    let here: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD)];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // What does not fit the question is somebody's guess; the answer may still come.
        if let Some(answer) = answer_to(&query, &buffer[..count]) {
            return answer;
        }
    }
}

async fn ask_tcp(target: &DnsTarget, server: SocketAddr) -> io::Result<Message> {
    let (query, bytes) = question(target)?;
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer_to(&query, &buffer).unwrap_or_else(|| Err(io::Error::other("an answer to another question")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_differ_by_case_and_texts_do() {
        let found = |record, answer: &str, expected: &str| {
            let target = DnsTarget {
                name: hickory_proto::rr::Name::root(),
                record,
                servers: Vec::new(),
                transport: Transport::Udp,
                rcode: "NOERROR".into(),
                answer: vec![expected.to_owned()],
            };
            let values = [answer.to_owned()];
            judge(&target, "NOERROR", &values, &values).is_ok()
        };
        assert!(found(RecordType::MX, "10 Mail.A.test.", "10 mail.a.test"));
        assert!(!found(RecordType::MX, "10 mail.a.test.", "20 mail.a.test"));
        assert!(found(RecordType::TXT, "v=DKIM1; p=AbC", "\"v=DKIM1; p=AbC\""));
        assert!(!found(RecordType::TXT, "v=DKIM1; p=AbC", "v=DKIM1; p=abc"));
        assert!(!found(RecordType::TXT, "an end.", "an end"));
    }
}
