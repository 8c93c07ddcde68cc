//! Runs as a whole: attempts, sockets, the uplink, state, output, signals.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::nginx::Nginx;
use crate::support::{Bench, answer, answers, free_port, request, serve};
use reliab_common::exit::Level;
use reliab_common::fact;
use reliab_common::state::State;

fn probe(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[probe]]\nname = \"{name}\"\nhttp = \"{url}\"\nretry_pause = \"100ms\"\ntimeout = \"2s\"\n{more}\n"
    )
}

/// A server that fails a number of times before it is well.
fn fails_first(times: usize) -> String {
    let count = Arc::new(AtomicUsize::new(0));
    let address = serve(move |mut stream| {
        request(&stream);
        let status = if count.fetch_add(1, Ordering::SeqCst) < times { "503 Unavailable" } else { "200 OK" };
        let _ = stream.write_all(answer(status, "", "x").as_bytes());
    });
    format!("http://{address}/")
}

#[test]
fn a_failure_counts_only_after_its_retries() {
    let config = [
        probe("lucky", &fails_first(2), ""),
        probe("unlucky", &fails_first(3), ""),
        probe("once", &fails_first(1), "retries = 0"),
    ];
    let results = Bench::new().results(&config.concat());
    assert_eq!(["lucky", "unlucky", "once"].map(|name| results.level(name)), ["ok", "critical", "critical"]);
    assert_eq!(results.probe("lucky")["attempts"], 3);
    assert_eq!(results.probe("lucky")["earlier"].as_array().unwrap().len(), 2);
    assert_eq!(results.probe("once")["attempts"], 1);
    assert!(results.probe("lucky")["summary"].as_str().unwrap().contains("at attempt 3"));
}

#[test]
fn there_are_never_more_sockets_than_allowed() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let address = serve(move |mut stream| {
        let now = open.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(now, Ordering::SeqCst);
        request(&stream);
        thread::sleep(Duration::from_millis(20));
        let location = "Location: /again\r\n";
        // Counted as closed before it is: the client may be quicker to open the next than this thread to go on.
        open.fetch_sub(1, Ordering::SeqCst);
        let _ = stream.write_all(answer("302 Found", location, "").as_bytes());
    });
    let mut config = String::new();
    for number in 0..60 {
        write!(
            config,
            "{}",
            probe(&format!("p{number}"), &format!("http://{address}/{number}"), "redirects = 1\nretries = 1")
        )
        .unwrap();
    }
    let bench = Bench::new();
    let run = bench.with(&config, &["--max-sockets", "7", "--quiet"]);
    assert_eq!(run.exit, 2);
    let most = most.load(Ordering::SeqCst);
    assert!((5..=7).contains(&most), "{most} were open at a time");
}

#[test]
fn when_all_fail_and_the_references_too_it_is_our_uplink() {
    // Neither is loopback by its address, though both are this machine.
    let dead = format!("http://0.0.0.0:{}/", free_port());
    let alive = format!("http://0.0.0.0:{}/", answers(answer("200 OK", "", "x")).port());
    let references = |list: &str| format!("[uplink]\nreferences = [{list}]\n");
    let two = [probe("a", &dead, ""), probe("b", &dead, "")].concat();
    let closed = format!("\"127.0.0.1:{}\", \"{dead}\"", free_port());
    let bench = Bench::new();

    let results = bench.results(&(two.clone() + &references(&closed)));
    assert_eq!((results.exit, results.level("a"), results.level("b")), (3, "unknown", "unknown"));
    assert!(results.finding("a").1.contains("our own uplink is down"), "{:?}", results.finding("a"));
    // Nothing is said about a target of which nothing is known.
    let state = State::open(&bench.path("state")).unwrap();
    let now = chrono::Utc::now();
    let up = fact::samples(&state, "probe", "a", "up", now - chrono::TimeDelta::hours(1), now).unwrap();
    assert_eq!(up, []);

    let results = bench.results(&(two.clone() + &references(&format!("{closed}, \"{alive}\""))));
    assert_eq!((results.exit, results.level("a")), (2, "critical"));
    let results = bench.results(&(two + &probe("c", &alive, "") + &references(&closed)));
    assert_eq!((results.exit, results.level("a"), results.level("c")), (2, "critical", "ok"));
}

#[test]
fn a_bad_answer_of_the_target_itself_is_no_fault_of_the_uplink() {
    let nginx = Nginx::start();
    let url = format!("https://0.0.0.0:{}/500", nginx.port("good"));
    let dead = format!("http://0.0.0.0:{}/", free_port());
    let references = format!("[uplink]\nreferences = [\"{dead}\"]\n");
    let of = |more: &str| {
        let more = format!("retries = 0\nserver_name = \"localhost\"\n{more}");
        Bench::new().results(&(probe("shop", &url, &more) + &references))
    };
    let results = of(&format!("ca = \"{}\"", nginx.certificates.ca()));
    assert_eq!((results.exit, results.level("shop")), (2, "critical"));
    // Whoever else may have answered that: a gateway on this side.
    let results = of("verify = false");
    assert_eq!((results.exit, results.level("shop")), (3, "unknown"));
}

#[test]
fn what_says_nothing_about_the_uplink_does_not_vouch_for_it() {
    let dead = format!("http://0.0.0.0:{}/", free_port());
    let here = format!("http://{}/", answers(answer("200 OK", "", "x")));
    let here_dead = format!("http://127.0.0.1:{}/", free_port());
    let references = format!("[uplink]\nreferences = [\"{dead}\"]\n");
    let config = [
        probe("far", &dead, "retries = 0"),
        probe("here", &here, ""),
        probe("here-dead", &here_dead, "retries = 0"),
        probe("secret", &here, "bearer = { env = \"ABSENT\" }"),
    ];
    let results = Bench::new().results(&(config.concat() + &references));
    let levels = ["far", "here", "here-dead", "secret"].map(|name| results.level(name));
    assert_eq!(levels, ["unknown", "ok", "critical", "unknown"]);
    assert!(results.finding("far").1.contains("our own uplink is down"), "{:?}", results.finding("far"));
    assert!(
        results.finding("secret").1.starts_with("cannot find a secret"),
        "{:?}",
        results.finding("secret")
    );
}

#[test]
fn facts_of_a_run_are_in_the_state() {
    let bench = Bench::new();
    let good = format!("http://{}/", answers(answer("200 OK", "", "x")));
    let config =
        [probe("good", &good, ""), probe("bad", &format!("{good}x"), "expect.body = \"y\"\nretries = 0")];
    let run = bench.with(&config.concat(), &[]);
    assert_eq!(run.exit, 2, "{}", run.stdout);
    let state = State::open(&bench.path("state")).unwrap();
    let checks = fact::checks_after(&state, 0).unwrap();
    let check = |name: &str| &checks.iter().find(|stored| stored.check.target == name).unwrap().check;
    assert_eq!((check("good").level, check("bad").level), (Level::Ok, Level::Critical));
    assert_eq!(check("good").source, "probe");
    assert!(check("bad").summary.starts_with("expected a body with \"y\", got 1 bytes without it; "));
    assert_eq!(check("bad").detail["findings"][0]["expected"], "a body with \"y\"");
    let now = chrono::Utc::now();
    let value = |name: &str, figure: &str| {
        let points =
            fact::samples(&state, "probe", name, figure, now - chrono::TimeDelta::hours(1), now).unwrap();
        points.first().map(|point| point.value)
    };
    assert_eq!((value("good", "up"), value("bad", "up")), (Some(1.0), Some(0.0)));
    let parts = ["seconds.connect", "seconds.first_byte", "seconds.transfer"]
        .map(|figure| value("good", figure).unwrap());
    let total = value("good", "seconds").unwrap();
    assert!(parts.iter().sum::<f64>() <= total && total < 2.0, "{parts:?} {total}");
    assert_eq!(value("good", "seconds.tls"), None);
}

#[test]
fn a_state_that_cannot_be_written_does_not_stop_probes() {
    let bench = Bench::new();
    bench.write("state", "a file where the folder should be");
    let url = format!("http://{}/", answers(answer("200 OK", "", "x")));
    let run = bench.run(&[&url]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert!(run.stderr.contains("this run is not recorded"), "{}", run.stderr);
}

/// A text without what differs between runs.
fn comparable(text: &str, port: u16) -> String {
    let text = text.replace(&port.to_string(), "[PORT]");
    let number = regex::Regex::new(r"\d+(\.\d+)? (ms|s)\b").unwrap();
    let data = regex::Regex::new(r"=0\.\d+s").unwrap();
    data.replace_all(&number.replace_all(&text, "[TIME]"), "=[S]").into_owned()
}

#[test]
fn lines_are_as_documented() {
    let bench = Bench::new();
    let address = answers(answer("200 OK", "", "x"));
    let (good, bad) = (format!("http://{address}/"), "expect.body = \"y\"\nretries = 1");
    bench.write(
        "reliab.toml",
        &[probe("good", &good, "expect.latency = \"1s\""), probe("bad", &good, bad)].concat(),
    );
    let told = |args: &[&str]| {
        let run = bench.run(args);
        (run.exit, comparable(&(run.stdout + &run.stderr), address.port()))
    };
    let times = "[TIME] (connect [TIME], first byte [TIME], transfer [TIME])";
    let failed =
        format!("expected a body with \"y\", got 1 bytes without it; in each of 2 attempts; {times}");
    let well = format!("OK        good  status 200; {times}\n");
    let unwell = format!("CRITICAL  bad  {failed}\n");
    assert_eq!(told(&["good"]), (0, well.clone()));
    assert_eq!(told(&["good", "--quiet"]), (0, String::new()));
    assert_eq!(told(&["bad", "--quiet"]), (2, unwell.clone()));
    let count = "2 targets: 1 OK, 1 CRITICAL in [TIME]\n";
    assert_eq!(told(&[]), (2, format!("{unwell}{count}")));
    assert_eq!(told(&["--verbose"]), (2, format!("{well}{unwell}{count}")));
    assert_eq!(
        told(&["good", "--nagios"]),
        (
            0,
            format!(
                "PROBE OK - good: status 200; {times} | 'time'=[S];1;;0 'connect'=[S] 'first_byte'=[S] 'transfer'=[S]\n"
            )
        )
    );
    assert_eq!(
        told(&["--nagios"]),
        (
            2,
            format!(
                "PROBE CRITICAL - 2 targets: 1 OK, 1 CRITICAL; bad CRITICAL: {failed} | 'good'=[S];1;;0 'bad'=[S];;;0\n"
            )
        )
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    let bench = Bench::new();
    let told = |config: &str, args: &[&str]| {
        let run = bench.with(config, args);
        assert_eq!(run.exit, 3, "{config}");
        run.stderr.trim_start_matches("error: ").trim_end().to_owned()
    };
    let probe = |more: &str| format!("[[probe]]\nname = \"a\"\n{more}\n");
    let http = |more: &str| probe(&format!("http = \"http://127.0.0.1:1/\"\n{more}"));
    let both = "probe a: it needs one of `http`, `tcp`, `tls` and `dns`, and no second";
    assert_eq!(told(&probe(""), &[]), both);
    assert_eq!(told(&http("tcp = \"a:1\""), &[]), both);
    assert_eq!(
        told(&probe("tcp = \"a:1\"\nexpect.status = 200"), &[]),
        "probe a: `expect.status` belongs to probes of kind http, and this is one of kind tcp"
    );
    assert_eq!(
        told(&http("client_key = \"k\""), &[]),
        "probe a: `client_cert` and `client_key` belong together"
    );
    for key in ["expect.cert_days = 20", "expect.phases.tls = \"1s\""] {
        let problem = told(&http(key), &[]);
        assert!(problem.ends_with("needs an https: URL, and this one begins with http:"), "{problem}");
    }
    let problem = told(&probe("dns = \"a.test\"\nserver = \"127.0.0.1\"\nexpect.rcode = \"NXDOMIAN\""), &[]);
    assert!(
        problem.starts_with("probe a: `expect.rcode`: `NXDOMIAN` is none; there are NOERROR"),
        "{problem}"
    );
    assert!(
        told(&http("expect.json = \"status\""), &[]).starts_with("probe a: `expect.json`: `status` is not")
    );
    assert!(told(&http("expect.regex = \"(\""), &[]).contains("`expect.regex`: regex parse error"));
    assert_eq!(
        told(&http("proxy = \"http://p:1\"\ndeny_private = true"), &[]),
        "probe a: `deny_private` cannot be kept through a `proxy`, which resolves the name by itself"
    );
    assert_eq!(told(&[http(""), http("")].concat(), &[]), "two probes are named `a`");
    assert_eq!(
        told(&http(""), &["b"]),
        "no probe, and no service with metrics, is named `b` in the configuration"
    );
    let problem = told(&http(""), &["127.0.0.1:9"]);
    assert!(problem.ends_with("in the configuration: give a URL such as tcp://127.0.0.1:9"), "{problem}");
    assert_eq!(
        told(&http(""), &["a", "--timeout", "1s"]),
        "--timeout is for URLs; what has a name has its settings in the configuration"
    );
    assert_eq!(
        told("", &[]),
        "there is nothing to probe: give a URL, or write [[probe]] sections in the configuration"
    );
    assert_eq!(
        told("", &["http://u:hunter2@127.0.0.1/"]),
        "the URL has a user or a password: give them by `basic_auth`"
    );
}

#[test]
fn a_missing_secret_makes_one_probe_unknown_and_stops_no_other() {
    let good = format!("http://{}/", answers(answer("200 OK", "", "x")));
    let config = [probe("secret", &good, "bearer = { env = \"ABSENT\" }"), probe("good", &good, "")];
    let results = Bench::new().results(&config.concat());
    assert_eq!((results.exit, results.level("secret"), results.level("good")), (3, "unknown", "ok"));
    assert_eq!(results.finding("secret").1, "cannot find a secret: $ABSENT is not set");
}

#[test]
fn a_run_that_is_told_to_stop_stops() {
    let bench = Bench::new();
    let (asked, was_asked) = std::sync::mpsc::channel();
    let silent = serve(move |stream| {
        request(&stream);
        asked.send(()).unwrap();
        thread::sleep(Duration::from_secs(60));
    });
    let config = format!("[[probe]]\nname = \"silent\"\nhttp = \"http://{silent}/\"\ntimeout = \"60s\"\n");
    bench.write("reliab.toml", &config);
    let mut child = bench.command(&[]).spawn().unwrap();
    was_asked.recv_timeout(Duration::from_secs(20)).unwrap();
    let started = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(2));
}
