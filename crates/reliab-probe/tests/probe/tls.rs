//! nginx with good and bad certificates, and with old and new protocols.

use crate::support::nginx::Nginx;
use crate::support::{self, Bench};

fn probe(nginx: &Nginx, name: &str, kind: &str, target: &str, more: &str) -> String {
    let ca = nginx.certificates.ca();
    format!(
        "[[probe]]\nname = \"{name}\"\n{kind} = \"{target}\"\nretries = 0\ntimeout = \"5s\"\nca = \"{ca}\"\n{more}\n"
    )
}

fn https(nginx: &Nginx, name: &str, server: &str, more: &str) -> String {
    probe(nginx, name, "http", &nginx.url(server, "/"), more)
}

#[test]
fn certificates_good_and_bad_are_told_apart() {
    let nginx = Nginx::start();
    let mut config = String::new();
    for server in ["good", "late", "expired", "other", "self", "incomplete", "tls12"] {
        config += &https(&nginx, server, server, "");
        let target = format!("localhost:{}", nginx.port(server));
        config += &probe(&nginx, &format!("{server}-tls"), "tls", &target, "");
    }
    config += &https(&nginx, "foreign", "good", "").replace("ca = ", "#");
    let results = Bench::new().results(&config);
    let cases = [
        ("expired", "a valid certificate", "one that expired 3 days ago"),
        ("other", "a certificate for localhost", "one for other.test"),
        ("self", "a certificate from a trusted issuer", "one that is its own issuer"),
        (
            "incomplete",
            "a certificate from a trusted issuer",
            "one from `Test Intermediate` alone: the server sent no intermediate certificate",
        ),
    ];
    for (server, expected, got) in cases {
        for name in [server.to_owned(), format!("{server}-tls")] {
            assert_eq!(results.level(&name), "critical", "{name}");
            let finding = results.finding(&name);
            assert_eq!(finding.0, expected, "{name}");
            assert!(finding.1.starts_with(got), "{name}: {}", finding.1);
            // The certificate is shown although it was refused.
            assert!(results.probe(&name)["certificate"]["not_after"].is_string(), "{name}");
        }
    }
    let foreign = results.finding("foreign");
    assert_eq!(foreign.1, "one from `Test Intermediate`, which leads to none that is trusted here");
    for name in ["good", "good-tls", "tls12", "tls12-tls"] {
        assert_eq!(results.level(name), "ok", "{}", results.probe(name));
        assert!(results.phase(name, "tls").unwrap() > 0.0);
    }
    for name in ["late", "late-tls"] {
        assert_eq!(results.level(name), "warning", "{}", results.probe(name));
        assert_eq!(results.finding(name).0, "a certificate renewed before 27 days are left");
    }
    assert_eq!(results.probe("tls12")["tls"], "TLS 1.2");
    assert_eq!(results.probe("good")["tls"], "TLS 1.3");
    assert_eq!(results.exit, 2);
}

#[test]
fn days_and_verification_can_be_configured() {
    let nginx = Nginx::start();
    let config = [
        https(&nginx, "few", "late", "expect.cert_days = 10"),
        https(&nginx, "many", "late", "expect.cert_days = { warn = 40, critical = 30 }"),
        https(&nginx, "self", "self", "verify = false"),
        https(&nginx, "other", "other", "verify = false"),
        https(&nginx, "named", "other", "server_name = \"other.test\""),
        https(&nginx, "expired", "expired", "verify = false"),
        https(&nginx, "trusted", "self", "").replace("ca.pem", "self.pem"),
    ]
    .concat();
    let results = Bench::new().results(&config);
    let levels =
        ["few", "many", "self", "other", "named", "expired", "trusted"].map(|name| results.level(name));
    assert_eq!(levels, ["ok", "critical", "ok", "ok", "ok", "critical", "ok"], "{}", results.document);
    assert_eq!(results.finding("many").0, "a certificate valid for 30 days");
}

#[test]
fn protocols_are_agreed_on_or_asked_for() {
    let nginx = Nginx::start();
    let protocol = |server: &str| nginx.url(server, "/protocol");
    let expect = |text: &str| format!("expect.body = \"{text}\"");
    let config = [
        probe(&nginx, "agreed", "http", &protocol("http2"), &expect("HTTP/2.0")),
        probe(
            &nginx,
            "old",
            "http",
            &protocol("http2"),
            &format!("version = \"1.1\"\n{}", expect("HTTP/1.1")),
        ),
        probe(&nginx, "absent", "http", &protocol("good"), "version = \"2\""),
        probe(&nginx, "many", "http", &nginx.url("h2c", "/many"), "version = \"2\""),
        probe(&nginx, "h2c", "http", &protocol("h2c"), &format!("version = \"2\"\n{}", expect("HTTP/2.0"))),
        probe(
            &nginx,
            "posted",
            "http",
            &protocol("http2"),
            &format!("method = \"POST\"\nbody = \"x\"\n{}", expect("POST")),
        ),
        probe(&nginx, "http-to-tls", "http", &protocol("good").replace("https", "http"), ""),
        probe(&nginx, "tls-to-http", "http", &protocol("plain").replace("http", "https"), ""),
    ]
    .concat();
    let results = Bench::new().results(&config);
    for name in ["agreed", "old", "h2c", "posted"] {
        assert_eq!(results.level(name), "ok", "{}", results.probe(name));
    }
    assert_eq!(results.probe("agreed")["protocol"], "HTTP/2.0");
    assert!(results.phase("agreed", "first_byte").is_some() && results.phase("agreed", "transfer").is_some());
    assert_eq!(results.finding("absent").0, "a TLS handshake");
    assert_eq!(results.finding("many"), ("an HTTP answer", "a head of more than 256 headers or 64 KiB"));
    assert_eq!(results.finding("http-to-tls"), ("status 200-299", "400 Bad Request"));
    assert_eq!(results.finding("tls-to-http"), ("a TLS handshake", "what is not TLS"));
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let nginx = Nginx::start();
    let certificates = &nginx.certificates;
    let files = format!(
        "client_cert = \"{}\"\nclient_key = \"{}\"",
        certificates.file("client.pem"),
        certificates.file("client.key")
    );
    let absent = files.replace("client.key", "absent.key");
    let config = [
        https(&nginx, "with", "client", &files),
        https(&nginx, "without", "client", ""),
        https(&nginx, "absent", "client", &absent),
    ];
    let results = Bench::new().results(&config.concat());
    assert_eq!(results.level("with"), "ok", "{}", results.probe("with"));
    assert_eq!(results.finding("without").1, "400 Bad Request");
    // What is missing here says nothing about the service.
    assert_eq!(results.level("absent"), "unknown");
    assert!(results.finding("absent").1.contains("absent.key"));
}

#[test]
fn redirects_to_others_get_neither_the_server_name_nor_the_certificate() {
    let nginx = Nginx::start();
    let certificates = &nginx.certificates;
    let files = format!(
        "client_cert = \"{}\"\nclient_key = \"{}\"",
        certificates.file("client.pem"),
        certificates.file("client.key")
    );
    let to = |server: &str| format!("http://{}/", support::hostile::redirect_to(&nginx.url(server, "/")));
    let config = [
        probe(&nginx, "certificate", "http", &to("client"), &files),
        probe(&nginx, "name", "http", &to("good"), "server_name = \"other.test\""),
    ];
    let results = Bench::new().results(&config.concat());
    assert_eq!(results.finding("certificate"), ("status 200-299", "400 Bad Request"));
    assert_eq!(results.level("name"), "ok", "{}", results.probe("name"));
}

#[test]
fn a_proxy_carries_both_schemes_and_gets_its_password() {
    let nginx = Nginx::start();
    let bench = Bench::new();
    bench.write("password", "hunter2\n");
    let proxy = support::proxy("Basic dXNlcjpodW50ZXIy");
    let auth = "proxy_auth = { user = \"user\", password = { file = \"password\" } }";
    let through = format!("proxy = \"http://{proxy}\"");
    let config = [
        probe(&nginx, "plain", "http", &nginx.url("plain", "/"), &format!("{through}\n{auth}")),
        probe(&nginx, "secure", "http", &nginx.url("good", "/"), &format!("{through}\n{auth}")),
        probe(&nginx, "refused", "http", &nginx.url("good", "/"), &through),
    ];
    let results = bench.results(&config.concat());
    assert_eq!(results.level("plain"), "ok", "{}", results.probe("plain"));
    assert_eq!(results.level("secure"), "ok", "{}", results.probe("secure"));
    assert!(results.phase("secure", "tls").is_some());
    let refused = results.finding("refused");
    assert_eq!(refused, ("a tunnel from the proxy", "status 407 Proxy Authentication Required"));
}

#[test]
fn answers_are_compared_with_what_is_expected() {
    let nginx = Nginx::start();
    let at = |path: &str| nginx.url("plain", path);
    let config = [
        probe(&nginx, "json", "http", &at("/json"), "expect.json = ['$.status == \"ok\"', '$.queue < 10']"),
        probe(&nginx, "queue", "http", &at("/json"), "expect.json = '$.queue < 5'"),
        probe(&nginx, "header", "http", &at("/tagged"), "expect.header = { x-version = \"^v2\" }"),
        probe(&nginx, "status", "http", &at("/500"), "expect.status = [200, \"5xx\"]"),
        probe(&nginx, "failed", "http", &at("/500"), ""),
        probe(&nginx, "moved", "http", &at("/moved"), "redirects = 0\nexpect.status = 301"),
        probe(&nginx, "followed", "http", &at("/moved"), "expect.body = \"ready\""),
        probe(&nginx, "head", "http", &at("/"), "method = \"HEAD\""),
        probe(&nginx, "slow", "http", &at("/"), "expect.latency = { warn = \"0ms\", critical = \"9s\" }"),
        probe(&nginx, "slower", "http", &at("/"), "expect.phases.first_byte = { critical = \"0ms\" }"),
    ];
    let results = Bench::new().results(&config.concat());
    for name in ["json", "header", "status", "moved", "followed", "head"] {
        assert_eq!(results.level(name), "ok", "{}", results.probe(name));
    }
    assert_eq!(results.finding("queue"), ("$.queue < 5", "7"));
    assert_eq!(results.finding("failed"), ("status 200-299", "500 Internal Server Error"));
    assert_eq!((results.level("slow"), results.finding("slow").0), ("warning", "an answer within 0.0 ms"));
    assert_eq!(
        (results.level("slower"), results.finding("slower").0),
        ("critical", "first byte within 0.0 ms")
    );
}
