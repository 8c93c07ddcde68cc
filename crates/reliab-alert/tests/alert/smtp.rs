//! Mail through a real server: STARTTLS, TLS, a password, and all that such servers say no with.

use std::time::Duration;

use crate::receivers::mail::MailServer;
use crate::receivers::{Bench, incident, message};
use chrono::TimeDelta;
use reliab_alert::message::{IncidentLine, Kind};

const PASSWORD: &str = "planted-password";

fn config(port: u16, to: &str, tls: &str) -> String {
    let ca = if tls == "none" { "" } else { ", ca = \"CA\"" };
    format!(
        "[channel.mail]\ntype = \"email\"\nfrom = \"Reliab <reliab@web1.example.org>\"\nto = [{to}]\n\
         smtp = {{ host = \"localhost\", port = {port}, tls = \"{tls}\", user = \"reliab\", \
         password = {{ file = \"smtp\" }}{ca} }}\n"
    )
}

/// A bench and a server that know each other's secrets.
fn bench(mode: &str, to: &str) -> (Bench, MailServer) {
    let mut bench = Bench::new("");
    bench.secret("smtp", PASSWORD);
    let server = MailServer::start(bench.dir.path(), mode, Some(PASSWORD));
    let ca = bench.dir.path().join("ca.pem");
    let tls = if mode == "plain" { "none" } else { mode };
    let tls = if matches!(tls, "silent" | "busy") { "starttls" } else { tls };
    bench.configure(&config(server.port, to, tls).replace("CA", ca.to_str().unwrap()));
    (bench, server)
}

#[test]
fn mail_goes_out_encrypted_and_reads_as_it_was_meant() {
    for mode in ["starttls", "tls"] {
        let (bench, server) = bench(mode, "\"ops@example.org\", \"Ö Über <dev@example.org>\"");
        let one = IncidentLine { summary: "Größe: 97 % voll, „data“".into(), ..incident(7, "disk /") };
        bench.owe("mail", "web1/7:opened", &message(Kind::Opened, vec![one]));
        bench.clock.advance(TimeDelta::minutes(42));
        let (delivered, told) = bench.deliver();
        assert_eq!((delivered.delivered, told.as_str()), (1, ""));
        let mails = server.mails();
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].to, ["ops@example.org", "dev@example.org"]);
        assert!(mails[0].tls);
        assert_eq!(mails[0].user.as_deref(), Some("reliab"));
        assert_eq!(mails[0].header("Message-ID").as_deref(), Some("<web1.2f7.3aopened@web1>"));
        assert_eq!(mails[0].header("Auto-Submitted").as_deref(), Some("auto-generated"));
        assert_eq!(mails[0].header("From").as_deref(), Some("Reliab <reliab@web1.example.org>"));
        let body = mails[0].body();
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(lines[0], "[web1] CRITICAL disk /: Größe: 97 % voll, „data“");
        assert_eq!(lines[1..3], ["delivered 42 min 00 s late", "CRITICAL disk /: Größe: 97 % voll, „data“"]);
        assert!(bench.attempts()[0].1.starts_with("250 OK: taken as 42"), "{:?}", bench.attempts());
    }
}

#[test]
fn nothing_measured_adds_a_header_or_ends_the_mail() {
    let (bench, server) = bench("starttls", "\"ops@example.org\"");
    let summary = "x\r\n.\r\nBcc: evil@example.org\r\n\r\n.\r\nQUIT\r\n".to_owned();
    let one = IncidentLine { summary, subject: "a\r\nBcc: evil@example.org".into(), ..incident(7, "") };
    bench.owe("mail", "k\r\nBcc: evil@example.org", &message(Kind::Opened, vec![one]));
    bench.deliver();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ops@example.org"]);
    assert_eq!(mails[0].header("Bcc"), None, "{}", mails[0].text);
}

#[test]
fn without_tls_nothing_is_sent_unless_the_configuration_says_so() {
    let (mut bench, server) = bench("plain", "\"ops@example.org\"");
    bench.owe("mail", "k", &message(Kind::Opened, vec![incident(7, "probe api")]));
    let plain = config(server.port, "\"ops@example.org\"", "none");
    let ca = bench.dir.path().join("ca.pem");
    bench.configure(
        &config(server.port, "\"ops@example.org\"", "starttls").replace("CA", ca.to_str().unwrap()),
    );
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, server.mails().len()), (0, 0));
    assert!(told.contains("STARTTLS is not supported on this server"), "{told}");
    bench.configure(&plain);
    bench.clock.advance(bench.wait());
    assert_eq!((bench.deliver().0.delivered, server.mails().len()), (1, 1));
    // A password goes to another machine by TLS only.
    bench.configure(&plain.replace("\"localhost\"", "\"mail.example.org\""));
    bench.owe("mail", "k2", &message(Kind::Opened, vec![]));
    assert!(bench.deliver().1.contains("a password is not sent without TLS"));
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_for_now() {
    let (mut bench, server) = bench("starttls", "\"ops@example.org\"");
    bench.configure(&config(server.port, "\"ops@example.org\"", "starttls").replace(", ca = \"CA\"", ""));
    bench.owe("mail", "k", &message(Kind::Opened, vec![]));
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.failed, server.mails().len()), (1, 0));
    assert!(told.contains("invalid peer certificate"), "{told}");
}

#[test]
fn answers_are_passing_or_lasting() {
    let check = |mode: &str, to: &str, state: &str, error: &str| {
        let (mut bench, _server) = bench(mode, to);
        bench.limits.attempt = Duration::from_secs(2);
        bench.owe("mail", "k", &message(Kind::Opened, vec![]));
        let (_, told) = bench.deliver();
        assert_eq!(bench.states(), [state], "{to}: {told}");
        assert!(told.contains(error), "{to}: {told}");
    };
    check("starttls", "\"nobody@example.org\"", "refused", "permanent error (550): 5.1.1 no such user");
    check("starttls", "\"spam@example.org\"", "refused", "permanent error (554): 5.7.1 looks like spam");
    check("starttls", "\"later@example.org\"", "owed", "transient error (450): 4.2.0 greylisted, come back");
    check("starttls", "\"full@example.org\"", "owed", "transient error (452): 4.3.1 no room");
    check("starttls", "\"cut@example.org\"", "owed", "error");
    check("busy", "\"ops@example.org\"", "owed", "transient error (421): 4.3.2 too many connections");
    check("silent", "\"ops@example.org\"", "owed", "no answer within 2.0 s");
    check("starttls", "\"ops@\"", "owed", "`ops@` is not a mail address");
}

#[test]
fn one_wrong_address_costs_the_other_readers_nothing() {
    let (bench, server) =
        bench("starttls", "\"nobody@example.org\", \"ops@example.org\", \"nobody@example.net\"");
    bench.owe("mail", "k", &message(Kind::Opened, vec![]));
    assert_eq!(bench.deliver().0.delivered, 1);
    assert_eq!(server.mails()[0].to, ["ops@example.org"]);
    let receipt = &bench.attempts()[0].1;
    assert!(receipt.contains("not to nobody@example.org: permanent error (550)"), "{receipt}");
    assert!(receipt.contains("not to nobody@example.net"), "{receipt}");
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let (bench, server) = bench("starttls", "\"ops@example.org\"");
    bench.secret("smtp", "planted-wrong-password");
    bench.owe("mail", "k", &message(Kind::Opened, vec![]));
    let (delivered, told) = bench.deliver();
    // There is no other channel to tell of it, so the mail waits for the right password.
    assert_eq!((delivered.failed, server.mails().len()), (1, 0));
    assert!(told.contains("535"), "{told}");
    assert!(!told.contains("planted"), "{told}");
    bench.secret("smtp", PASSWORD);
    bench.clock.advance(bench.wait());
    assert_eq!(bench.deliver().0.delivered, 1);
}

#[test]
fn a_mail_whose_receipt_was_lost_comes_again_with_the_same_message_id() {
    let (mut bench, server) = bench("starttls", "\"cut@example.org\"");
    bench.owe("mail", "k", &message(Kind::Opened, vec![]));
    assert_eq!(bench.deliver().0.failed, 1);
    let ca = bench.dir.path().join("ca.pem");
    bench.configure(
        &config(server.port, "\"ops@example.org\"", "starttls").replace("CA", ca.to_str().unwrap()),
    );
    bench.clock.advance(bench.wait());
    assert_eq!(bench.deliver().0.delivered, 1);
    let ids: Vec<_> = server.mails().iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!(ids, ["<k@web1>", "<k@web1>"]);
    assert_eq!(server.keys(), ["k", "k"]);
}
