//! The outbound ping: sent where all is well and nowhere else, never in the way, its URL shown to nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::receivers::{Answer, Receiver, incident, message, owe, refusing_port};
use chrono::{DateTime, TimeDelta, Utc};
use reliab_alert::message::Kind;
use reliab_alert::ping::Past;
use reliab_common::clock::SystemClock;
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult, Facts};
use reliab_common::lock::JobLock;
use reliab_common::state::{State, nanos};
use serde_json::Value;

const SECRET: &str = "planted-0b8f3c2e";

/// A machine on which all is well, with a ping to a receiver.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// With more of a configuration; keys of `[ping]` first.
    fn new(url: &str, more: &str) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(bench.path("ping-url"), format!("{url}/{SECRET}\n")).unwrap();
        bench.configure(more);
        bench.check(Level::Ok, TimeDelta::minutes(2));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, more: &str) {
        let config = format!("[ping]\nurl = {{ file = \"ping-url\" }}\n{more}\n");
        fs::write(self.path("reliab.toml"), config).unwrap();
    }

    fn state(&self) -> State {
        State::open(&self.path("state")).unwrap()
    }

    /// Records a result of a probe of `age` ago.
    fn check(&self, level: Level, age: TimeDelta) {
        let (source, target, summary) = ("probe".into(), "api".into(), "as told".into());
        let check = CheckResult { source, target, at: Utc::now() - age, level, summary, detail: Value::Null };
        let facts = Facts { checks: vec![check], samples: Vec::new() };
        self.state().write(|db| fact::store_all(db, None, &facts)).unwrap();
    }

    /// Owes a message since `age` ago.
    fn owe(&self, channel: &str, age: TimeDelta) {
        let one = message(Kind::Opened, vec![incident(7, "disk /")]);
        owe(&self.state(), channel, &format!("key-{channel}"), &one, Utc::now() - age);
    }

    /// The exit code and both streams.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_reliab-alert")))
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("RELIAB_STATE_DIR", self.path("state"))
            .env("RUNTIME_DIRECTORY", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn past(&self) -> Past {
        Past::read(&self.state()).unwrap().unwrap()
    }

    /// Makes the last ping one of `age` ago.
    fn pinged(&self, age: TimeDelta) {
        let at = Utc::now() - age;
        let detail = serde_json::json!({ "last_sent": at }).to_string();
        let sql = "UPDATE check_result SET at = ?1, detail = ?2 WHERE source = 'alert' AND target = 'ping'";
        self.state().write(|db| db.execute(sql, rusqlite::params![nanos(at), detail])).unwrap();
    }

    /// Runs, and gives the reasons for which no ping was sent.
    fn withheld(&self, receiver: &Receiver) -> String {
        let (code, out, err) = self.run(&[]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(receiver.got().len(), 0, "{out}");
        let past = self.past();
        assert!(!past.sent && out.ends_with(&format!(", ping {}\n", past.summary)), "{out}");
        past.summary.strip_prefix("not sent: ").unwrap().to_owned()
    }
}

fn webhook(name: &str, url: &str) -> String {
    format!("[channel.{name}]\ntype = \"webhook\"\nurl = \"{url}/{name}\"\n")
}

fn paths(receiver: &Receiver) -> Vec<String> {
    receiver.got().into_iter().map(|got| format!("{} {}", got.method, got.path)).collect()
}

#[test]
fn where_all_is_well_one_ping_is_sent_and_noted() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&receiver.url(), "");
    let (code, out, err) = bench.run(&[]);
    let summary = "0 incidents open, 0 new messages owed, 0 delivered, ping sent\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, summary, ""));
    assert_eq!(paths(&receiver), [format!("GET /{SECRET}")]);
    let past = bench.past();
    assert!(past.sent && past.last_sent == Some(past.at), "{past:?}");
    assert!((Utc::now() - past.at) < TimeDelta::minutes(1));
    // What was told a moment ago is not told again, and what was told then stands.
    let (code, out, _) = bench.run(&["--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["ping"]["outcome"]), (0, &"recent".into()));
    assert_eq!((receiver.got().len(), bench.past()), (1, past));
    bench.pinged(TimeDelta::minutes(1));
    let document: Value = serde_json::from_str(&bench.run(&["--json"]).1).unwrap();
    assert_eq!((&document["ping"]["outcome"], receiver.got().len()), (&"sent".into(), 2));
    let (_, out, _) = bench.run(&["list"]);
    assert!(out.starts_with("ping: sent ") && out.ends_with(" ago\n"), "{out}");
    let document: Value = serde_json::from_str(&bench.run(&["list", "--json"]).1).unwrap();
    assert_eq!(document["ping"]["sent"], true);
    let sent: DateTime<Utc> = document["ping"]["last_sent"].as_str().unwrap().parse().unwrap();
    assert_eq!(Some(sent), bench.past().last_sent);
}

#[test]
fn a_run_that_delivers_nothing_and_one_without_a_url_ping_nobody() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&receiver.url(), "");
    assert_eq!(bench.run(&["list"]).1, "ping: never tried: run `reliab alert` from a timer\n");
    bench.run(&["--no-delivery"]);
    fs::write(bench.path("reliab.toml"), "").unwrap();
    let (_, out, _) = bench.run(&[]);
    assert_eq!((out.contains("ping"), receiver.got().len()), (false, 0));
    assert_eq!(bench.run(&["list"]).1, "");
}

#[test]
fn without_checks_none_is_sent_and_that_is_told_once_where_only_news_is_told() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&receiver.url(), "checks_within = \"1m\"\n");
    // What nobody could find out is no check, and neither is what alerts say of themselves.
    bench.check(Level::Unknown, TimeDelta::zero());
    assert_eq!(bench.withheld(&receiver), "no check found anything out for 2 min (limit 60 s)");
    assert_eq!(bench.withheld(&receiver), "no check found anything out for 2 min (limit 60 s)");
    let bench = Bench::new(&receiver.url(), "checks_within = \"1m\"\n");
    let warning = "warning: ping not sent: no check found anything out for 2 min (limit 60 s)\n";
    assert_eq!(bench.run(&["--quiet"]), (0, String::new(), warning.to_owned()));
    assert_eq!(bench.run(&["--quiet"]), (0, String::new(), String::new()));
    bench.check(Level::Critical, TimeDelta::zero());
    assert_eq!(bench.run(&["--quiet"]).0, 0);
    assert_eq!(receiver.got().len(), 1);
    // When it was last sent outlasts that it is not.
    let sent = bench.past().last_sent;
    bench.state().write(|db| db.execute("DELETE FROM check_result WHERE source = 'probe'", [])).unwrap();
    let (_, _, err) = bench.run(&["--quiet"]);
    assert_eq!(err, "warning: ping not sent: no check ever found anything out\n");
    let past = bench.past();
    assert!(sent.is_some() && past.last_sent == sent && !past.sent, "{past:?}");
}

#[test]
fn a_message_that_nobody_tries_to_send_stops_the_ping() {
    let (receiver, channel) = (Receiver::willing(), Receiver::willing());
    let bench = Bench::new(&receiver.url(), &webhook("ops", &channel.url()));
    bench.owe("ops", TimeDelta::minutes(20));
    // As if another process were delivering, and hung.
    let lock = JobLock::acquire(&bench.path("state"), "deliver", &SystemClock).unwrap();
    let why = "a message to channel ops waits for 20 min (limit 15 min), and it is not being tried";
    assert_eq!(bench.withheld(&receiver), why);
    drop(lock);
    assert_eq!(bench.run(&[]).0, 0);
    // That it waited is an incident of its own.
    assert!(channel.keys().contains(&"key-ops".to_owned()));
    assert_eq!(receiver.got().len(), 1);
}

#[test]
fn a_channel_that_fails_stops_the_ping_where_no_other_one_could_tell() {
    let (receiver, other) = (Receiver::willing(), Receiver::willing());
    let broken = webhook("ops", &format!("http://127.0.0.1:{}", refusing_port()));
    let bench = Bench::new(&receiver.url(), &broken);
    bench.owe("ops", TimeDelta::minutes(20));
    // In the last minutes it was tried until its next attempt is a while away.
    let tried = "UPDATE notification SET attempts = 11, error = 'refused', due = ?1";
    let due = nanos(Utc::now() + TimeDelta::minutes(10));
    bench.state().write(|db| db.execute(tried, [due])).unwrap();
    let why = "a message to channel ops waits for 20 min (limit 15 min), and no channel takes anything";
    assert_eq!(bench.withheld(&receiver), why);
    // The console is nobody.
    bench.configure(&(broken.clone() + "[channel.log]\ntype = \"console\"\n"));
    assert_eq!(bench.withheld(&receiver), why);
    bench.configure(&(broken + &webhook("other", &other.url())));
    assert!(bench.run(&[]).1.ends_with("ping sent\n"));
    assert_eq!(receiver.got().len(), 1);
}

#[test]
fn a_disk_without_room_for_the_state_stops_the_ping() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&receiver.url(), "min_free = \"15EiB\"\n");
    let why = bench.withheld(&receiver);
    assert!(
        why.starts_with("the disk of the state has ") && why.ends_with(" left (limit 15.0 EiB)"),
        "{why}"
    );
}

#[test]
fn a_run_that_could_not_do_its_work_says_so_where_failures_are_told() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&receiver.url(), "fail = true\n");
    bench.check(Level::Critical, TimeDelta::zero());
    assert_eq!(bench.run(&["--no-delivery"]).0, 0);
    bench.check(Level::Critical, TimeDelta::zero());
    assert_eq!(bench.run(&["--no-delivery"]).0, 0);
    bench.state().write(|db| db.execute("UPDATE incident SET memory = 'broken'", [])).unwrap();
    let (code, _, err) = bench.run(&[]);
    assert_ne!(code, 0);
    assert!(err.contains("warning: ping not sent: the rules were not evaluated\n"), "{err}");
    assert_eq!(paths(&receiver), [format!("POST /{SECRET}/fail")]);
    assert_eq!(receiver.got()[0].body, b"the rules were not evaluated");
    assert_eq!(bench.past().summary, "not sent: the rules were not evaluated");
    // Without a state nothing is known of checks.
    fs::remove_dir_all(bench.path("state")).unwrap();
    fs::write(bench.path("state"), "no folder").unwrap();
    let (code, _, err) = bench.run(&[]);
    assert!(code != 0 && err.contains("ping not sent: the state file cannot be used"), "{err}");
    assert_eq!(receiver.got().len(), 2);
}

#[test]
fn a_server_that_hangs_or_refuses_neither_delays_nor_fails_what_is_delivered() {
    let channel = Receiver::willing();
    let check = |answer: Answer, expected: &str| {
        let receiver = Receiver::start(move |_, _| answer.clone());
        let bench = Bench::new(&receiver.url(), &webhook("ops", &channel.url()));
        bench.owe("ops", TimeDelta::zero());
        let (before, started) = (channel.got().len(), Instant::now());
        let (code, out, err) = bench.run(&[]);
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert_eq!((code, channel.got().len() - before), (0, 1), "{out}{err}");
        // It comes last.
        assert_eq!(receiver.got().len(), 1);
        let past = bench.past();
        assert_eq!((past.sent, past.last_sent, past.summary.as_str()), (false, None, expected));
        assert_eq!(err, format!("warning: ping {expected}\n"));
    };
    check(Answer::Hang, "could not be sent: no answer within 5.0 s");
    check(Answer::status(404), "could not be sent: answered 404: {\"message\":\"as told\"}");
    let say = |text: &str| Answer::Say(200, Vec::new(), text.into());
    // As Healthchecks answers for a URL that it does not know.
    let expected = "could not be sent: answered 200: OK (not found), which is not how this service says yes";
    check(say("OK (not found)"), expected);
}

/// Everything that the state folder holds.
fn stored(bench: &Bench) -> String {
    let files =
        fs::read_dir(bench.path("state")).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[test]
fn the_url_is_shown_nowhere_whatever_the_other_side_says() {
    let echo = Receiver::start(|number, got| {
        let status = if number % 2 == 0 { 500 } else { 200 };
        let location = ("location", format!("http://127.0.0.1:1{}", got.path));
        Answer::Say(status, vec![location], format!("OK ({} is not here)", got.path))
    });
    let mut shown = String::new();
    let mut run = |bench: &Bench| {
        for args in [&[][..], &["--json"], &["--quiet", "--json"], &["list"], &["list", "--json"]] {
            let (_, out, err) = bench.run(args);
            shown.push_str(&(out + &err));
        }
        shown.push_str(&stored(bench));
    };
    let bench = Bench::new(&echo.url(), "fail = true\n");
    run(&bench);
    assert!(echo.got().len() >= 2 && echo.got().iter().all(|got| got.path.contains(SECRET)));
    bench.configure("fail = true\nchecks_within = \"1s\"\n");
    run(&bench);
    assert!(paths(&echo).contains(&format!("POST /{SECRET}/fail")));
    // Nobody listens; it would go to another machine in clear text; it is no URL.
    for url in [format!("http://127.0.0.1:{}", refusing_port()), "http://192.0.2.1".into(), "none".into()] {
        fs::write(bench.path("ping-url"), format!("{url}/{SECRET}?key={SECRET}")).unwrap();
        bench.configure("");
        run(&bench);
    }
    for expected in ["[secret]", "Connection refused", "must begin with https://", "its URL is not one"] {
        assert!(shown.contains(expected), "{expected}");
    }
    assert!(!shown.contains(SECRET) && !shown.contains("planted"), "{shown}");
}
