//! Killed at every point of delivery, for every kind of channel: nothing is lost, nothing overtakes, and what comes
//! twice comes with the same key.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::receivers::mail::MailServer;
use crate::receivers::{self, Answer, Bench, Got, Receiver, incident, message};
use chrono::TimeDelta;
use reliab_alert::message::Kind;
use reliab_alert::outbox::Point;
use reliab_common::clock::Clock as _;
use reliab_common::ui::Ui;
use rustix::process::{Signal, getpid, kill_process};

const FOLDER: &str = "RELIAB_TEST_FOLDER";
const KILL_AT: &str = "RELIAB_TEST_KILL_AT";
/// How many runs the other process does, an hour or less apart.
const RUNS: &str = "RELIAB_TEST_RUNS";
const KEYS: [&str; 3] = ["k1", "k2", "k3"];

const KINDS: [&str; 11] = [
    "email",
    "webhook",
    "slack",
    "discord",
    "telegram",
    "pagerduty",
    "ntfy",
    "alertmanager",
    "opsgenie",
    "command",
    "console",
];

/// Where messages of a kind of channel arrive.
enum Place {
    Http(Receiver),
    Mail(MailServer),
    /// A file to which a program appends.
    File,
    /// What processes wrote to stderr.
    Text(String),
}

impl Place {
    fn of(kind: &str, bench: &Bench) -> Self {
        match kind {
            "email" => Self::Mail(MailServer::start(bench.dir.path(), "starttls", None)),
            "command" => Self::File,
            "console" => Self::Text(String::new()),
            _ => Self::Http(Receiver::willing()),
        }
    }

    /// The configuration of the channel `a`, which sends there.
    fn config(&self, kind: &str, bench: &Bench) -> String {
        let head = format!("[channel.a]\ntype = \"{kind}\"\n");
        let url = if let Self::Http(receiver) = self { receiver.url() } else { String::new() };
        let secret = |text: &str| bench.secret("secret", text);
        head + &match (kind, self) {
            ("email", Self::Mail(server)) => format!(
                "from = \"a@example.org\"\nto = [\"ops@example.org\"]\n\
                 smtp = {{ host = \"localhost\", port = {}, ca = \"{}\" }}\n",
                server.port,
                bench.dir.path().join("ca.pem").display()
            ),
            ("slack", _) => {
                secret(&format!("{url}/services/x"));
                "url = { file = \"secret\" }\n".into()
            }
            ("discord", _) => {
                secret(&url);
                "url = { file = \"secret\" }\n".into()
            }
            ("telegram", _) => {
                secret("42:x");
                format!("token = {{ file = \"secret\" }}\nchat = \"1\"\nurl = \"{url}\"\n")
            }
            ("pagerduty", _) => {
                secret("x");
                format!("routing_key = {{ file = \"secret\" }}\nurl = \"{url}\"\n")
            }
            ("opsgenie", _) => {
                secret("x");
                format!("api_key = {{ file = \"secret\" }}\nurl = \"{url}\"\n")
            }
            ("ntfy", _) => format!("topic = \"t\"\nurl = \"{url}\"\n"),
            ("command", _) => {
                let script = bench.dir.path().join("script");
                fs::write(&script, "#!/bin/sh\necho \"$RELIAB_KEY\" >> \"$1\"\n").unwrap();
                fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
                let out = bench.dir.path().join("out");
                format!("command = [\"{}\", \"{}\"]\n", script.display(), out.display())
            }
            ("console", _) => String::new(),
            _ => format!("url = \"{url}/{kind}\"\n"),
        }
    }

    /// The keys that arrived, in order.
    fn keys(&self, bench: &Bench) -> Vec<String> {
        match self {
            Self::Http(receiver) => receiver.keys(),
            Self::Mail(server) => server.keys(),
            Self::File => {
                let text = fs::read_to_string(bench.dir.path().join("out")).unwrap_or_default();
                text.lines().map(str::to_owned).collect()
            }
            // The console has no place for a key; each message is about a subject of its own.
            Self::Text(text) => {
                let lines = text.lines().filter_map(|line| line.strip_prefix("[web1] CRITICAL probe "));
                lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
            }
        }
    }

    fn wrote(&mut self, stderr: &str) {
        if let Self::Text(text) = self {
            text.push_str(stderr);
        }
    }
}

#[test]
#[ignore = "the process that the tests below kill"]
fn delivers_until_killed() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let kill_at: u32 = std::env::var(KILL_AT).unwrap().parse().unwrap();
    let bench = Bench::at(folder.as_ref());
    let passed = Cell::new(0);
    let reached = |_: Point| {
        passed.set(passed.get() + 1);
        if passed.get() == kill_at {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    };
    let mut ui = Ui::new(reliab_common::ui::UiOptions::default());
    for _ in 0..std::env::var(RUNS).map_or(1, |runs| runs.parse().unwrap()) {
        bench.deliverer(&bench.state, &reached).deliver(&mut ui).unwrap();
        if !bench.states().contains(&"owed".to_owned()) {
            break;
        }
        bench.clock.advance(TimeDelta::minutes(1).max(bench.wait()));
    }
}

fn child(bench: &Bench, kill_at: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::delivers_until_killed", "--ignored", "--nocapture"])
        .env(FOLDER, bench.dir.path())
        .env(KILL_AT, kill_at.to_string())
        .stdout(Stdio::null());
    command
}

/// Lets a process deliver in a number of runs that is killed at its point number `kill_at`; whether it got there, and what it wrote.
fn deliver_and_kill(bench: &Bench, kill_at: u32, runs: u32) -> (bool, String) {
    let output = child(bench, kill_at).env(RUNS, runs.to_string()).stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || output.status.signal() == Some(9), "{text}");
    (!output.status.success(), text)
}

/// Delivers until nothing is owed, as the runs of the following hours do; gives what they wrote.
fn deliver_rest(bench: &Bench) -> String {
    let mut text = String::new();
    for _ in 0..20 {
        if !bench.states().contains(&"owed".to_owned()) {
            break;
        }
        bench.clock.advance(TimeDelta::minutes(1).max(bench.wait()));
        text += &bench.deliver().1;
    }
    text
}

/// What came of a matrix.
#[derive(Default)]
struct Figures {
    kills: u32,
    delivered: usize,
    duplicates: usize,
}

impl Figures {
    /// Counts what arrived, which must be every key, in order, whatever came twice.
    fn count(&mut self, arrived: &[String], expected: &[&str], what: &str) {
        let mut once = arrived.to_vec();
        once.dedup();
        assert_eq!(once, expected, "{what}: {arrived:?}");
        self.kills += 1;
        self.delivered += arrived.len();
        self.duplicates += arrived.len() - expected.len();
    }

    /// One line for docs/reliability.md, shown by `--nocapture`.
    fn tell(&self, what: &str) {
        use std::io::Write as _;
        let Self { kills, delivered, duplicates } = self;
        let line = format!(
            "{what}: killed {kills} times, {delivered} messages arrived, {duplicates} of them twice\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

fn owe_all(bench: &Bench, channel: &str) {
    for (key, id) in KEYS.iter().zip(1..) {
        bench.owe(channel, key, &message(Kind::Opened, vec![incident(id, &format!("probe {key}"))]));
    }
}

#[test]
fn killed_at_any_point_every_kind_of_channel_loses_nothing() {
    let mut all = Figures::default();
    for kind in KINDS {
        let mut figures = Figures::default();
        for kill_at in 1.. {
            let mut bench = Bench::new("");
            let mut place = Place::of(kind, &bench);
            let config = place.config(kind, &bench);
            bench.configure(&config);
            owe_all(&bench, "a");
            let (killed, wrote) = deliver_and_kill(&bench, kill_at, 1);
            place.wrote(&wrote);
            if !killed {
                break;
            }
            place.wrote(&deliver_rest(&bench));
            figures.count(&place.keys(&bench), &KEYS, &format!("{kind}, point {kill_at}"));
            assert_eq!(bench.states(), ["delivered"; 3], "{kind}, point {kill_at}");
        }
        // Three messages of six points each; of these, three lie between the sending and the record of it.
        assert_eq!(figures.kills, 3 * u32::try_from(Point::ALL.len()).unwrap(), "{kind}");
        assert_eq!(figures.duplicates, 3 * 2, "{kind}");
        figures.tell(kind);
        all.kills += figures.kills;
        all.delivered += figures.delivered;
        all.duplicates += figures.duplicates;
    }
    all.tell("all kinds");
}

#[test]
fn killed_while_the_other_side_has_the_message_and_has_not_answered() {
    let mut figures = Figures::default();
    for kind in KINDS.into_iter().filter(|kind| !matches!(*kind, "email" | "command" | "console")) {
        let mut bench = Bench::new("");
        let receiver =
            Receiver::start(|number, got| if number == 0 { Answer::Hang } else { Answer::yes(&got.path) });
        let place = Place::Http(receiver);
        let config = place.config(kind, &bench);
        bench.configure(&config);
        owe_all(&bench, "a");
        let mut process = receivers::Process(child(&bench, 0).stderr(Stdio::null()).spawn().unwrap());
        receivers::wait_until("the first request", || !place.keys(&bench).is_empty());
        process.0.kill().unwrap();
        process.0.wait().unwrap();
        deliver_rest(&bench);
        figures.count(&place.keys(&bench), &KEYS, kind);
        assert_eq!(place.keys(&bench), ["k1", "k1", "k2", "k3"], "{kind}");
    }
    figures.tell("killed during the request");
}

#[test]
fn a_mail_server_that_took_a_mail_from_one_who_was_killed_gets_it_again_with_the_same_message_id() {
    let mut bench = Bench::new("");
    let server = MailServer::start(bench.dir.path(), "starttls", None);
    let to = |reader: &str| {
        format!(
            "[channel.a]\ntype = \"email\"\nfrom = \"a@example.org\"\nto = [\"{reader}@example.org\"]\n\
             smtp = {{ host = \"localhost\", port = {}, ca = \"{}\" }}\n",
            server.port,
            bench.dir.path().join("ca.pem").display()
        )
    };
    let (hold, ops) = (to("hold"), to("ops"));
    bench.configure(&hold);
    owe_all(&bench, "a");
    let mut process = receivers::Process(child(&bench, 0).stderr(Stdio::null()).spawn().unwrap());
    receivers::wait_until("the first mail", || !server.keys().is_empty());
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    bench.configure(&ops);
    deliver_rest(&bench);
    let ids: Vec<_> = server.mails().iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!(ids, ["<k1@web1>", "<k1@web1>", "<k2@web1>", "<k3@web1>"]);
}

/// Kills at every point of `attempts` attempts that meet `answer`; every key arrives at `a`, and reports at `b`.
fn with_trouble(what: &str, answer: fn(usize, &Got) -> Answer, attempts: usize, at_b: &[&str]) {
    let mut figures = Figures::default();
    for kill_at in 1.. {
        let receiver = Receiver::start(answer);
        let url = receiver.url();
        let webhook = |name: &str| format!("[channel.{name}]\ntype = \"webhook\"\nurl = \"{url}/{name}\"\n");
        let bench = Bench::new(&(webhook("a") + &webhook("b")));
        owe_all(&bench, "a");
        if !deliver_and_kill(&bench, kill_at, 20).0 {
            break;
        }
        deliver_rest(&bench);
        let keys = |path: &str| -> Vec<String> {
            receiver.got().iter().filter(|got| got.path == path).map(Got::key).collect()
        };
        let mut reports = keys("/b");
        reports.dedup();
        assert_eq!(reports, at_b, "{what}, point {kill_at}");
        figures.count(&keys("/a"), &KEYS, &format!("{what}, point {kill_at}"));
        assert!(!bench.states().contains(&"owed".to_owned()));
    }
    assert_eq!(figures.kills as usize, attempts * Point::ALL.len(), "{what}");
    figures.tell(what);
}

#[test]
fn killed_around_a_refusal_the_report_of_it_is_not_lost() {
    let refuse = |_, got: &Got| if got.key() == "k1" { Answer::status(400) } else { Answer::yes(&got.path) };
    with_trouble("refused for good", refuse, 4, &["undeliverable:b:k1"]);
}

#[test]
fn killed_around_failures_that_pass_nothing_is_lost() {
    let busy =
        |number: usize, got: &Got| if number < 2 { Answer::status(503) } else { Answer::yes(&got.path) };
    with_trouble("busy twice", busy, 5, &[]);
    let cut = |number: usize, got: &Got| if number == 0 { Answer::Cut } else { Answer::yes(&got.path) };
    with_trouble("cut once", cut, 4, &[]);
}

#[test]
fn killed_again_and_again_it_still_arrives() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&format!("[channel.a]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url()));
    owe_all(&bench, "a");
    // Each process dies just before it would have written down that it sent.
    for minute in 1..=5 {
        bench.clock.set(receivers::noon() + TimeDelta::minutes(minute));
        fs::write(bench.dir.path().join("now"), bench.clock.now().to_rfc3339()).unwrap();
        assert!(deliver_and_kill(&bench, 5, 1).0);
    }
    deliver_rest(&bench);
    let keys = receiver.keys();
    assert_eq!(keys, ["k1", "k1", "k1", "k1", "k1", "k1", "k2", "k3"]);
    let cut = bench.attempts().into_iter().filter(|attempt| attempt.0 == "begun").count();
    assert_eq!(cut, 5);
}

#[test]
fn two_deliverers_at_once_send_once() {
    let receiver = Receiver::start(|_, got| {
        std::thread::sleep(Duration::from_millis(20));
        Answer::yes(&got.path)
    });
    let bench = Bench::new(&format!("[channel.a]\ntype = \"webhook\"\nurl = \"{}\"\n", receiver.url()));
    for number in 0..20 {
        bench.owe("a", &format!("k{number:02}"), &message(Kind::Opened, Vec::new()));
    }
    let mut running: Vec<_> =
        (0..4).map(|_| child(&bench, 0).stderr(Stdio::null()).spawn().unwrap()).collect();
    for process in &mut running {
        assert!(process.wait().unwrap().success());
    }
    deliver_rest(&bench);
    let keys = receiver.keys();
    let expected: Vec<_> = (0..20).map(|number| format!("k{number:02}")).collect();
    assert_eq!(keys, expected);
}
