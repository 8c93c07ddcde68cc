//! Servers that are slow, endless, broken or malicious: each gives a verdict in time, and says why.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::{self, Bench, hostile, redirect_target_urls};

fn probe(name: &str, url: &str, more: &str) -> String {
    format!("[[probe]]\nname = \"{name}\"\nhttp = \"{url}\"\ntimeout = \"1s\"\nretries = 0\n{more}\n")
}

#[test]
fn every_hostile_server_gets_its_verdict_in_time() {
    let url = |address: std::net::SocketAddr| format!("http://{address}/");
    let body = "expect.body = \"x\"";
    // Name, server, more of the configuration, expected, got.
    let cases = [
        ("slow-headers", hostile::slow_headers(), "", "the whole answer within 1.0 s", "only a part of it"),
        ("slow-body", hostile::slow_body(), "", "the whole answer within 1.0 s", "only a part of it"),
        ("endless", hostile::endless_body(), "", "a body of at most 1.0 MiB", "more"),
        ("bomb", hostile::gzip(1 << 30), body, "a body of at most 1.0 MiB", "more"),
        ("chunks", hostile::bad_chunking(), "", "the whole answer", "error reading a body from connection"),
        ("cut", hostile::cut_body(), "", "the whole answer", "connection"),
        (
            "headers",
            hostile::many_headers(),
            "",
            "an HTTP answer",
            "a head of more than 256 headers or 64 KiB",
        ),
        ("header", hostile::huge_header(), "", "an HTTP answer", "a head of more than 256 headers or 64 KiB"),
        ("silent", hostile::silent(), "", "a first byte within 1.0 s", "none"),
        ("hangs-up", hostile::hangs_up(), "", "an HTTP answer", "a connection that closed"),
        ("ssh", hostile::not_http(), "", "an HTTP answer", "what is not HTTP"),
        ("loop", hostile::redirect_to("/"), "", "an answer", "a redirect back to http://127.0.0.1"),
        ("hops", hostile::endless_redirects(), "", "at most 10 redirects", "one more"),
        (
            "file",
            hostile::redirect_to("file:///etc/passwd"),
            "",
            "a redirect to http: or https:",
            "one to file:",
        ),
    ];
    let config: String =
        cases.iter().map(|(name, address, more, ..)| probe(name, &url(*address), more)).collect();
    let started = Instant::now();
    let results = Bench::new().results(&config);
    let took = started.elapsed();
    assert_eq!(results.exit, 2);
    for (name, _, _, expected, got) in cases {
        assert_eq!(results.level(name), "critical", "{name}");
        let finding = results.finding(name);
        assert_eq!(finding.0, expected, "{name}");
        assert!(finding.1.contains(got), "{name}: {}", finding.1);
    }
    assert!(took < Duration::from_secs(3), "they are asked at the same time, yet it took {took:?}");
    // Where the time went: the silent server is waited for, the slow ones are being read.
    assert!(results.phase("silent", "first_byte").unwrap() > 0.9);
    assert_eq!(results.phase("silent", "transfer"), None);
    for slow in ["slow-headers", "slow-body"] {
        assert!(results.phase(slow, "first_byte").unwrap() < 0.5, "{slow}");
        assert!(results.phase(slow, "transfer").unwrap() > 0.4, "{slow}");
    }
}

#[test]
fn a_packed_body_is_looked_into() {
    let address = hostile::gzip(1000);
    let config = probe("packed", &format!("http://{address}/"), "expect.regex = \"^x{1000}$\"");
    let results = Bench::new().results(&config);
    assert_eq!(results.level("packed"), "ok", "{}", results.probe("packed"));
    assert!(results.probe("packed")["bytes"].as_u64().unwrap() < 100);
}

#[test]
fn private_addresses_are_refused_directly_by_name_and_by_redirect() {
    let bait = support::answers(support::answer("200 OK", "", "inside"));
    let mut config = String::new();
    for (name, url) in
        [("address", format!("http://{bait}/")), ("name", format!("http://localhost:{}/", bait.port()))]
    {
        config += &probe(name, &url, "deny_private = true");
    }
    for (index, url) in redirect_target_urls(bait.port()).iter().enumerate() {
        config += &probe(&format!("disguise-{index}"), url, "deny_private = true");
    }
    writeln!(config, "{}", probe("allowed", &format!("http://{bait}/"), "")).unwrap();
    let results = Bench::new().results(&config);
    for probe in results.document["probes"].as_array().unwrap() {
        let name = probe["name"].as_str().unwrap();
        if name == "allowed" {
            assert_eq!(results.level(name), "ok");
            continue;
        }
        assert_eq!(results.level(name), "critical", "{name}");
        assert!(
            results.finding(name).1.contains("which deny_private refuses"),
            "{name}: {:?}",
            results.finding(name)
        );
        assert_eq!(results.phase(name, "connect"), None, "{name} was connected to");
    }
}

#[test]
fn secrets_stay_with_the_origin_they_are_for() {
    use std::io::Write as _;
    use std::sync::mpsc::channel;
    let (heard, heads) = channel();
    let catcher = heard.clone();
    let other = support::serve(move |mut stream| {
        let _ = catcher.send(("other", support::request(&stream)));
        let _ = stream.write_all(support::answer("200 OK", "", "ok").as_bytes());
    });
    let home = support::serve(move |mut stream| {
        let _ = heard.send(("home", support::request(&stream)));
        let location = format!("Location: http://{other}/\r\n");
        let _ = stream.write_all(support::answer("302 Found", &location, "").as_bytes());
    });
    let bench = Bench::new();
    bench.write("token", "planted-token\n");
    bench.write("key", "planted-key\n");
    let more =
        "bearer = { file = \"token\" }\nheaders = { X-Api-Key = { file = \"key\" }, X-Plain = \"plain\" }";
    let run =
        bench.with(&probe("api", &format!("http://{home}/?q=planted-query"), more), &["--json", "--verbose"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    let heads: Vec<_> = heads.try_iter().collect();
    let head = |of: &str| heads.iter().find(|(who, _)| *who == of).unwrap().1.to_ascii_lowercase();
    assert!(head("home").contains("authorization: bearer planted-token"));
    assert!(head("home").contains("x-api-key: planted-key"));
    for absent in ["planted", "authorization", "x-api-key"] {
        assert!(!head("other").contains(absent), "{}", head("other"));
    }
    assert!(head("other").contains("x-plain: plain"));
    // Nothing secret is printed or stored.
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("planted"));
    for file in std::fs::read_dir(bench.path("state")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("planted"));
    }
}
