//! TCP, DNS, address families, and resolvers that do not answer.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{self, Bench, dns, free_port, hostile, need, ran, serve_on};

fn probe(name: &str, kind: &str, target: &str, more: &str) -> String {
    format!("[[probe]]\nname = \"{name}\"\n{kind} = \"{target}\"\ntimeout = \"1s\"\nretries = 0\n{more}\n")
}

#[test]
fn connections_and_what_is_said_on_them() {
    let greets = hostile::greets().to_string();
    let config = [
        probe("open", "tcp", &greets, ""),
        probe("closed", "tcp", &format!("127.0.0.1:{}", free_port()), ""),
        probe("greeting", "tcp", &greets, "expect.regex = \"^220 .* ESMTP\""),
        probe("text", "tcp", &greets, "expect.body = \"mail.test\""),
        probe("wrong", "tcp", &greets, "expect.body = \"+OK\""),
        probe(
            "silent",
            "tcp",
            &hostile::silent().to_string(),
            "send = \"hello\\r\\n\"\nexpect.body = \"hello\"",
        ),
        probe("not-tls", "tls", &greets, "verify = false"),
    ];
    let results = Bench::new().results(&config.concat());
    for name in ["open", "greeting", "text"] {
        assert_eq!(results.level(name), "ok", "{}", results.probe(name));
    }
    assert!(results.finding("closed").1.starts_with("connection refused by 127.0.0.1:"));
    assert_eq!(results.finding("wrong"), ("the whole answer within 1.0 s", "only a part of it"));
    assert_eq!(results.finding("silent"), ("a first byte within 1.0 s", "none"));
    assert_eq!(results.finding("not-tls"), ("a TLS handshake", "what is not TLS"));
}

#[test]
fn dns_answers_are_compared() {
    let server = dns::start("127.0.0.1:0");
    let (_socket, silent) = dns::silent("127.0.0.1:0");
    let dns = |name: &str, host: &str, more: &str| {
        probe(name, "dns", &format!("{host}.test"), &format!("server = \"{server}\"\n{more}"))
    };
    let config = [
        dns("good", "good", "expect.answer = \"192.0.2.8\""),
        dns("case", "GOOD", ""),
        dns("tcp", "good", "transport = \"tcp\""),
        dns("big", "big", "expect.answer = \"192.0.2.9\""),
        dns("spoofed", "spoofed", "expect.answer = \"192.0.2.7\""),
        dns("wrong", "good", "expect.answer = [\"192.0.2.7\", \"192.0.2.1\"]"),
        dns("many", "many", "expect.answer = \"192.0.2.60\""),
        dns("too-few", "many", "expect.answer = \"192.0.2.61\""),
        dns("long", "long", &format!("record = \"TXT\"\nexpect.answer = \"{}\"", "x".repeat(200))),
        dns("nx", "nx", ""),
        dns("nx-wanted", "nx", "expect.rcode = \"NXDOMAIN\""),
        dns("fail", "fail", ""),
        dns("none", "none", ""),
        dns("mx", "good", "record = \"MX\""),
        dns("garbage", "garbage", ""),
        probe("silent", "dns", "good.test", &format!("server = \"{silent}\"")),
        probe("closed", "dns", "good.test", &format!("server = \"127.0.0.1:{}\"", free_port())),
    ];
    let results = Bench::new().results(&config.concat());
    for name in ["good", "case", "tcp", "big", "many", "long", "spoofed", "nx-wanted"] {
        assert_eq!(results.level(name), "ok", "{}", results.probe(name));
    }
    assert_eq!(results.finding("wrong"), ("A 192.0.2.1", "192.0.2.7, 192.0.2.8"));
    assert!(
        results.finding("too-few").1.ends_with("192.0.2.50 and 10 more"),
        "{:?}",
        results.finding("too-few")
    );
    assert_eq!(results.finding("nx"), ("NOERROR", "NXDOMAIN"));
    assert_eq!(results.finding("fail"), ("NOERROR", "SERVFAIL"));
    assert_eq!(results.finding("none"), ("a record of type A", "none"));
    assert_eq!(results.finding("mx"), ("a record of type MX", "none"));
    assert!(
        results.finding("garbage").1.starts_with("what is not a DNS message"),
        "{:?}",
        results.finding("garbage")
    );
    assert_eq!(results.finding("silent"), ("an answer from DNS within 1.0 s", "none"));
    assert!(results.finding("closed").1.contains("refused"), "{:?}", results.finding("closed"));
    assert!(results.phase("good", "dns").unwrap() > 0.0);
}

#[test]
fn a_server_on_ipv6_alone_is_reached_by_it() {
    let answer = support::answer("200 OK", "", "six");
    let six = serve_on("[::1]:0", move |mut stream| {
        use std::io::Write as _;
        support::request(&stream);
        let _ = stream.write_all(answer.as_bytes());
    });
    let port = six.port();
    let config = [
        probe("literal", "http", &format!("http://[::1]:{port}/"), "expect.body = \"six\""),
        probe("four", "http", &format!("http://[::1]:{port}/"), "ip = 4"),
        probe("six", "tcp", &format!("[::1]:{port}"), "ip = 6"),
        probe("no-six", "tcp", &format!("127.0.0.1:{port}"), "ip = 6"),
    ];
    let results = Bench::new().results(&config.concat());
    assert_eq!(results.level("literal"), "ok", "{}", results.probe("literal"));
    assert_eq!(results.level("six"), "ok");
    assert_eq!(results.finding("four"), ("an IPv4 address of ::1", "none"));
    assert_eq!(results.finding("no-six"), ("an IPv6 address of 127.0.0.1", "none"));
}

/// Runs the binary with another `/etc/resolv.conf`, in a mount namespace of its own.
fn with_resolver(bench: &Bench, server: &str, args: &[&str]) -> support::Run {
    let unshare = need("unshare", "util-linux");
    let resolv = bench.write("resolv.conf", &format!("nameserver {server}\noptions timeout:30 attempts:1\n"));
    let plain = bench.command(args);
    let mut command = Command::new(unshare);
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    command
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(resolv)
        .arg(plain.get_program());
    command.args(args).current_dir(bench.path("")).env("RELIAB_STATE_DIR", bench.path("state"));
    ran(command.output().unwrap())
}

#[test]
fn a_resolver_that_does_not_answer_costs_no_more_than_the_limit() {
    let (_socket, address) = dns::silent("127.0.0.153:53");
    let url = "http://silent.test/";
    let started = Instant::now();
    let server = address.ip().to_string();
    let run =
        with_resolver(&Bench::new(), &server, &["--timeout", "500ms", "--retries", "0", "--verbose", url]);
    assert_eq!(run.exit, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("expected an answer from DNS within 500 ms, got none"), "{}", run.stdout);
    // The thread in which the system still waits must not hold the process.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn names_are_resolved_by_the_system_and_the_time_is_told() {
    let address = dns::start("127.0.0.154:53");
    let server = support::answers(support::answer("200 OK", "", "ok"));
    let url = format!("http://slow.test:{}/", server.port());
    let run = with_resolver(&Bench::new(), &address.ip().to_string(), &["--json", &url]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let phases = &document["probes"][0]["phases"];
    assert_eq!(run.exit, 0, "{document}");
    let dns = phases["dns"].as_f64().unwrap();
    assert!((0.3..0.9).contains(&dns), "{phases}");
    assert!(phases["connect"].as_f64().unwrap() < 0.1);
}

#[test]
fn every_address_of_a_name_is_tried() {
    let resolver = dns::start("127.0.0.156:53").ip().to_string();
    let answer = support::answer("200 OK", "", "ok");
    let handle = move |mut stream: std::net::TcpStream| {
        use std::io::Write as _;
        support::request(&stream);
        let _ = stream.write_all(answer.as_bytes());
    };
    // One address of the two refuses, whichever the resolver puts first.
    for address in ["127.0.0.2:0", "127.0.0.3:0"] {
        let port = serve_on(address, handle.clone()).port();
        let run = with_resolver(&Bench::new(), &resolver, &[&format!("http://pair.test:{port}/")]);
        assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    }
    let closed = format!("tcp://pair.test:{}", free_port());
    let run = with_resolver(&Bench::new(), &resolver, &["--retries", "0", &closed]);
    assert_eq!(run.exit, 2);
    for address in ["127.0.0.2:", "127.0.0.3:"] {
        assert!(run.stdout.contains(&format!("connection refused by {address}")), "{}", run.stdout);
    }
}

#[test]
fn who_gets_no_thread_to_resolve_a_name_is_not_called_down() {
    let (_socket, address) = dns::silent("127.0.0.157:53");
    let bench = Bench::new();
    let config: String = (0..70)
        .map(|number| probe(&format!("p{number}"), "http", &format!("http://n{number}.test/"), ""))
        .collect();
    bench.write("reliab.toml", &config);
    let run = with_resolver(&bench, &address.ip().to_string(), &["--json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let levels: Vec<_> = document["probes"].as_array().unwrap().iter().map(|probe| &probe["level"]).collect();
    let count = |level: &str| levels.iter().filter(|&&found| found == level).count();
    // The system's resolver blocks, and has 64 threads here.
    assert_eq!((count("critical"), count("unknown")), (64, 6), "{levels:?}");
}
