//! Golden command lines: what is printed, and how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::fact::{self, CheckResult, Facts};
use reliab_common::state::State;
use serde_json::Value;

const CONFIG: &str = r#"
[channel.log]
type = "console"

[[rule]]
name = "api-down"
when = "probe api is critical for 2 runs"

[[rule]]
name = "disk"
when = "disk * is warning"
"#;

/// A folder with a configuration and a state.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        bench.configure(CONFIG);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("reliab.toml"), text).unwrap();
    }

    /// Records a result of `age` ago.
    fn check(&self, source: &str, target: &str, level: Level, age: TimeDelta) {
        let state = State::open(&self.path("state")).unwrap();
        let (source, target, summary) = (source.into(), target.into(), "connection refused | now".into());
        let check = CheckResult { source, target, at: Utc::now() - age, level, summary, detail: Value::Null };
        let facts = Facts { checks: vec![check], samples: Vec::new() };
        state.write(|db| fact::store_all(db, None, &facts)).unwrap();
    }

    /// The exit code and both streams, with what differs from run to run made the same.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_with(&self.path("state"), args)
    }

    /// The same with the state in another folder.
    fn run_with(&self, state: &Path, args: &[&str]) -> (i32, String, String) {
        self.run_as(&[("USER", "anna")], state, args)
    }

    /// The same by somebody whom the environment names otherwise.
    fn run_as(&self, names: &[(&str, &str)], state: &Path, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_reliab-alert")))
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("RELIAB_STATE_DIR", state)
            .env("RUNTIME_DIRECTORY", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .envs(names.iter().copied())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, args: &[&str]) -> Value {
        let (_, out, err) = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }

    /// A bench with one open incident on a disk, which was evaluated and not delivered.
    fn with_incident() -> Self {
        let bench = Self::new();
        assert_eq!(bench.run(&["--no-delivery", "--quiet"]), (0, String::new(), String::new()));
        bench.check("disk", "/", Level::Warning, TimeDelta::zero());
        let summary = "1 incident open, 1 new message owed\n";
        assert_eq!(bench.run(&["--no-delivery"]), (0, summary.to_owned(), String::new()));
        bench
    }
}

#[test]
fn a_run_evaluates_and_delivers() {
    let bench = Bench::with_incident();
    let (code, out, err) = bench.run(&[]);
    assert_eq!((code, out.as_str()), (0, "1 incident open, 0 new messages owed, 1 delivered\n"), "{err}");
    assert!(err.contains("WARNING disk /: connection refused"), "{err}");
    let document = bench.json(&[]);
    assert_eq!(document["schema"], "reliab.alert.v1");
    assert_eq!((&document["open"], &document["owed"]), (&1.into(), &0.into()));
    let why = bench.json(&["why", "1"]);
    assert_eq!(why["messages"][0]["state"], "delivered");
}

#[test]
fn without_any_configuration_the_console_is_told() {
    let bench = Bench::new();
    bench.configure("");
    assert_eq!(bench.run(&["--quiet"]), (0, String::new(), String::new()));
    bench.check("disk", "/", Level::Critical, TimeDelta::zero());
    let (code, _, err) = bench.run(&["--quiet"]);
    assert_eq!(code, 0);
    assert!(err.contains("CRITICAL disk /: connection refused"), "{err}");
}

#[test]
fn a_check_ends_by_the_level_of_what_is_open() {
    let bench = Bench::new();
    let never = "warning: rules were never evaluated: run `reliab alert` from a timer\n";
    let unknown = "UNKNOWN: 0 incidents open\n";
    assert_eq!(bench.run(&["check"]), (3, unknown.to_owned(), never.to_owned()));
    let bench = Bench::with_incident();
    let (code, out, _) = bench.run(&["check", "--nagios"]);
    let line = "ALERT WARNING - 1 incident open; disk /: connection refused   now | open=1 owed=1 owed_age=";
    assert_eq!((code, &out[..line.len()]), (1, line));
    assert_eq!(out.lines().count(), 1);
    let (code, out, _) = bench.run(&["check", "--quiet"]);
    assert_eq!((code, out.lines().count()), (1, 1));
    assert_eq!(bench.run(&["ack", "1"]), (0, "acknowledged by anna: 1\n".into(), String::new()));
    let document = bench.json(&["check"]);
    assert_eq!((&document["schema"], &document["exit"]), (&"reliab.alert-check.v1".into(), &0.into()));
    assert_eq!(document["incidents"][0]["excused"], "acknowledged by anna");
    let (code, _, err) = bench.run(&["check", "--max-age", "0s"]);
    assert_eq!(code, 3, "{err}");
}

#[test]
fn incidents_are_listed_and_explained() {
    let bench = Bench::with_incident();
    let (code, out, err) = bench.run(&["list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, err.as_str(), lines.len()), (0, "", 2));
    assert!(lines[0].starts_with("ID  STATE  LEVEL    SUBJECT  SINCE"), "{out}");
    assert!(lines[1].starts_with("1   open   warning  disk /   20"), "{out}");
    let (code, out, _) = bench.run(&["why", "1"]);
    assert_eq!(code, 0);
    let parts = [
        "incident 1 of rule disk: disk /\n",
        "  open, WARNING: connection refused | now\n",
        "results it stands on:\n",
        "  WARNING: connection refused | now\n",
        "what became of it:\n",
        "  opened after 1 of 1 runs\n",
        "  told: opened on log\n",
        "messages:\n",
        "  opened on log: owed\n",
    ];
    let places: Vec<_> = parts.iter().map(|part| out.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{out}");
    assert_eq!(bench.run(&["why", "7"]).2, "error: there is no incident 7: see `reliab alert list`\n");
}

#[test]
fn a_message_that_waits_for_the_group_is_explained() {
    let bench = Bench::with_incident();
    bench.check("disk", "/srv", Level::Warning, TimeDelta::zero());
    assert_eq!(bench.run(&["--no-delivery"]).1, "2 incidents open, 0 new messages owed\n");
    let (_, out, _) = bench.run(&["why", "2"]);
    let until = bench.json(&["why", "2"])["waits_until"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert!(until > Utc::now() && until < Utc::now() + TimeDelta::minutes(1), "{until}");
    let expected = format!("messages:\n  waits for the group until {}\n", until.format("%H:%M:%S"));
    assert!(out.ends_with(&expected), "{out}");
    // The one whose message was made waits for nobody.
    assert_eq!(bench.json(&["why", "1"])["waits_until"], Value::Null);
    // A minute later nobody has evaluated.
    let state = State::open(&bench.path("state")).unwrap();
    let earlier =
        "UPDATE incident SET memory = json_set(memory, '$.waits', '2026-01-01T12:00:00Z') WHERE id = 2";
    state.write(|db| db.execute(earlier, [])).unwrap();
    let (_, out, _) = bench.run(&["why", "2"]);
    let expected =
        "  waited for the group until 12:00:00; the next run of `reliab alert` makes the message\n";
    assert!(out.ends_with(expected), "{out}");
}

#[test]
fn whoever_acknowledges_or_silences_has_a_name_also_where_the_environment_has_none() {
    let id = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(id.stdout).unwrap().trim().to_owned();
    let (bench, by) = (Bench::with_incident(), |names: &[(&str, &str)], bench: &Bench| {
        bench.run_as(names, &bench.path("state"), &["ack", "1"]).1
    });
    assert_eq!(by(&[], &bench), format!("acknowledged by {user}: 1\n"));
    assert_eq!(by(&[("LOGNAME", "carla")], &bench), "acknowledged by carla: 1\n");
    assert_eq!(by(&[("SUDO_USER", "bob"), ("USER", "root")], &bench), "acknowledged by bob: 1\n");
    let silence = ["silence", "*", "--for", "1h", "--reason", "x", "--json"];
    let (_, out, _) = bench.run_as(&[], &bench.path("state"), &silence);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["silence"]["by"], user);
}

#[test]
fn silences_are_made_listed_and_ended() {
    let bench = Bench::with_incident();
    let made = bench.json(&["silence", "disk *", "--for", "2h", "--reason", "moving", "--by", "bob"]);
    assert_eq!(made["schema"], "reliab.alert-silence.v1");
    assert_eq!(made["matches"], serde_json::json!(["disk /"]));
    assert_eq!(made["silence"]["by"], "bob");
    let until: DateTime<Utc> = made["silence"]["until"].as_str().unwrap().parse().unwrap();
    assert!((until - Utc::now() - TimeDelta::hours(2)).abs() < TimeDelta::minutes(1));
    let (_, out, _) = bench.run(&["list"]);
    assert!(out.contains("silence 1: disk * until 20") && out.contains("by bob: moving"), "{out}");
    assert_eq!(bench.run(&["check", "-q"]).0, 0);
    assert_eq!(bench.run(&["unsilence", "1"]), (0, "silence 1 ended\n".into(), String::new()));
    let again = "error: no silence 1 is in force: see `reliab alert list`\n";
    assert_eq!(bench.run(&["unsilence", "1"]), (2, String::new(), again.into()));
    let (code, _, err) = bench.run(&["silence", "*", "--until", "soon", "--reason", "x"]);
    let text = "error: `soon` is not a time: write one such as 18:00 or 2026-11-22 18:00\n";
    assert_eq!((code, err.as_str()), (2, text));
    assert_eq!(bench.run(&["silence", "*", "--reason", "x"]).0, 2);
    assert_eq!(bench.run(&["silence", "*", "--for", "0s", "--reason", "x"]).0, 2);
}

#[test]
fn a_simulation_says_what_other_rules_would_have_told() {
    let bench = Bench::with_incident();
    bench.check("probe", "api", Level::Critical, TimeDelta::zero());
    bench.configure("[[rule]]\nname = \"any\"\nwhen = \"probe * is critical\"\n");
    bench.check("probe", "api", Level::Critical, TimeDelta::minutes(-1));
    let document = bench.json(&["simulate", "--since", "1h"]);
    assert_eq!(document["schema"], "reliab.alert-simulate.v1");
    assert_eq!(document["rules"][0]["rule"], "any");
    let (code, out, _) = bench.run(&["simulate", "--since", "1h"]);
    assert_eq!(code, 0);
    assert!(out.contains("RULE  INCIDENTS  MESSAGES\nany   "), "{out}");
    // Nothing was stored.
    assert_eq!(bench.json(&["list"])["incidents"].as_array().unwrap().len(), 1);
    let (code, _, err) = bench.run(&["simulate", "--since", "30d"]);
    let text = "error: cannot simulate more than 14 d: older values are kept by the hour only\n";
    assert_eq!((code, err.as_str()), (2, text));
}

#[test]
fn a_simulation_begins_where_stored_history_does() {
    let bench = Bench::new();
    bench.configure("[[rule]]\nname = \"old\"\nwhen = \"backup older than 26h\"\n");
    let (_, out, _) = bench.run(&["simulate"]);
    assert!(out.starts_with("nothing is stored before 20") && out.ends_with("\n0 messages\n"), "{out}");
    bench.check("disk", "/", Level::Ok, TimeDelta::hours(20));
    bench.check("disk", "/", Level::Ok, TimeDelta::zero());
    let (_, out, _) = bench.run(&["simulate"]);
    assert!(out.starts_with("nothing is stored before 20") && out.ends_with("\n0 messages\n"), "{out}");
    let (_, out, _) = bench.run(&["simulate", "--since", "1h"]);
    assert!(out.starts_with("RULE "), "{out}");
    // What is stored of more than 26 hours without a backup is told of.
    bench.check("disk", "/", Level::Ok, TimeDelta::hours(50));
    let (_, out, _) = bench.run(&["simulate"]);
    assert!(!out.ends_with("\n0 messages\n"), "{out}");
}

#[test]
fn a_rule_that_cannot_be_read_is_shown_with_its_place() {
    let bench = Bench::new();
    bench.configure("[[rule]]\nname = \"api\"\nwhen = \"probe api critical\"\n");
    let expected =
        "error: configuration: rule `api`, at character 11: expected `is` or `older than`, found `critical`
  probe api critical
            ^\n";
    assert_eq!(bench.run(&["check"]), (3, String::new(), expected.to_owned()));
    let (code, _, err) = bench.run(&[]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("CRITICAL configuration api: rule `api`, at character 11"), "{err}");
    bench.configure("[[rule]]\nwhen = \"disk * is warning\"\nchannel = [\"ops\"]\n");
    let (code, _, err) = bench.run(&[]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with("error: reliab.toml:3:1: unknown key `channel`, expected one of `name`, `when`"),
        "{err}"
    );
}

#[test]
fn what_is_owed_is_delivered_also_where_rules_cannot_be_read() {
    let bench = Bench::with_incident();
    bench.configure("[channel.log]\ntype = \"console\"\n[[rule]]\nname = \"disk\"\nwhen = \"disk * is\"\n");
    let (code, _, err) = bench.run(&[]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("WARNING disk /: connection refused") && !err.contains("no longer"), "{err}");
    bench.configure(CONFIG);
    assert_eq!(bench.json(&["why", "1"])["messages"][0]["state"], "delivered");
}

#[test]
fn what_is_owed_is_delivered_also_where_the_evaluation_fails_or_the_state_is_locked() {
    let bench = Bench::with_incident();
    let state = State::open(&bench.path("state")).unwrap();
    state.write(|db| db.execute("UPDATE incident SET memory = 'broken'", [])).unwrap();
    let (code, _, err) = bench.run(&[]);
    assert_ne!(code, 0);
    assert!(err.contains("WARNING disk /: connection refused"), "{err}");
    let bench = Bench::with_incident();
    let other = rusqlite::Connection::open(bench.path("state/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (code, _, err) = bench.run(&[]);
    assert_ne!(code, 0);
    assert!(
        err.contains("WARNING disk /: connection refused") && err.contains("database is locked"),
        "{err}"
    );
}

/// A script that notes what it is told of.
fn page(bench: &Bench) {
    let out = bench.path("told");
    let text = format!(
        "[channel.page]\ntype = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo $RELIAB_TITLE >> {}\"]\n",
        out.display()
    );
    bench.configure(&text);
}

#[test]
fn a_state_that_cannot_be_opened_is_told_directly_and_not_by_each_run() {
    let bench = Bench::new();
    page(&bench);
    fs::write(bench.path("state"), "no folder").unwrap();
    let told = || fs::read_to_string(bench.path("told")).unwrap_or_default();
    assert_ne!(bench.run(&["--no-delivery"]).0, 0);
    assert_eq!(told(), "");
    for _ in 0..3 {
        let (code, out, err) = bench.run(&[]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert_eq!(told().lines().count(), 1, "{err}");
    }
    assert!(told().contains("rules are not evaluated and what is owed is not delivered"), "{}", told());
    // A quarter of an hour later.
    let marker = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let marker = marker.into_iter().find(|path| path.to_string_lossy().contains("reliab-unusable-")).unwrap();
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(16 * 60);
    fs::File::options().append(true).open(&marker).unwrap().set_modified(past).unwrap();
    bench.run(&[]);
    assert_eq!(told().lines().count(), 2);
}

/// A file system in memory, while the value lives.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&folder).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(folder)
    }

    /// Takes the last byte that is free.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_disk_that_is_full_to_the_last_byte_somebody_is_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root may mount a file system");
        return;
    }
    let bench = Bench::new();
    page(&bench);
    let tiny = Tiny::mount(bench.path("tiny"));
    let state = tiny.0.join("state");
    assert_eq!(bench.run_with(&state, &["--quiet"]).0, 0);
    let known = State::open(&state).unwrap();
    let check = CheckResult {
        source: "disk".into(),
        target: "/".into(),
        at: Utc::now(),
        level: Level::Critical,
        summary: "full".into(),
        detail: Value::Null,
    };
    known.write(|db| fact::store_all(db, None, &Facts { checks: vec![check], samples: Vec::new() })).unwrap();
    drop(known);
    assert_eq!(bench.run_with(&state, &["--no-delivery", "--quiet"]).0, 0);
    tiny.fill();
    let told = || fs::read_to_string(bench.path("told")).unwrap_or_default();
    let mut texts = String::new();
    for _ in 0..3 {
        let (code, _, err) = bench.run_with(&state, &[]);
        assert_ne!(code, 0, "{err}");
        texts += &err;
    }
    assert_eq!(told().lines().count(), 1, "{}{texts}", told());
    // With room again the message itself arrives.
    fs::remove_file(tiny.0.join("filler")).unwrap();
    assert_eq!(bench.run_with(&state, &["--quiet"]).0, 0);
    assert!(told().lines().any(|line| line.contains("CRITICAL disk /: full")), "{}", told());
}

#[test]
fn command_lines_that_cannot_be_understood_end_as_their_command_does() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["why"]).0, 2);
    assert_eq!(bench.run(&["check", "--maximum"]).0, 3);
    assert_eq!(
        bench.run(&["ack", "7"]).2,
        "error: no incident 7 is pending or open: see `reliab alert list`\n"
    );
    let (code, out, _) = bench.run(&["check", "--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("3  UNKNOWN") && out.contains("reliab alert check --nagios"), "{out}");
    for command in ["list", "why", "ack", "silence", "unsilence", "simulate"] {
        let (code, out, _) = bench.run(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("Examples:\n  reliab alert ") && out.contains("Exit codes:"), "{out}");
    }
}
