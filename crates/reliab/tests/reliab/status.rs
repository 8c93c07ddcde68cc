//! `reliab status`, `reliab heartbeat` and `reliab config check` as a user meets them.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::Bench;
use serde_json::Value;

/// A bench on which a backup went well and something reported in.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("data/file", "x");
    bench.write("reliab.toml", "[schedule.backup]\nat = \"02:30\"\n");
    assert!(bench.run(&["backup"]).status.success());
    let beat = bench.run(&["heartbeat", "nightly dump"]);
    assert!(beat.status.success() && beat.stdout.is_empty() && beat.stderr.is_empty());
    bench
}

#[test]
fn the_rule_in_the_help_of_heartbeat_can_be_pasted() {
    let help = String::from_utf8(Bench::new().run(&["heartbeat", "--help"]).stdout).unwrap();
    assert!(help.contains("`when = \"heartbeat pg-dump missing 26h\"`"), "{help}");
}

#[test]
fn what_ran_and_what_is_due_is_shown() {
    let bench = bench();
    let output = bench.run(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("ok: 0 open incidents, 0 messages wait, state file "), "{text}");
    for part in [
        "\njobs\n  ok        backup ",
        "\nschedule\n  ok        backup ",
        "\nheartbeats\n  ok        nightly dump ",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // Nothing is cut where there is no terminal.
    assert!(text.contains(", expected every 24 h\n") && !text.contains('…'), "{text}");
    let quiet = bench.run(&["status", "--quiet"]);
    assert!(quiet.stdout.is_empty());
    let line = String::from_utf8(bench.run(&["status", "--nagios"]).stdout).unwrap();
    assert!(line.starts_with("STATUS OK - nothing is wrong | incidents=0 owed=0 oldest=0s state="), "{line}");
}

/// Status records no runs, but its timer must not look dead for that.
#[test]
fn a_scheduled_status_is_seen_to_have_run() {
    let bench = bench();
    bench.write("reliab.toml", "[schedule.metrics]\ncommand = [\"status\"]\nevery = \"1m\"\n");
    let run = |variable: &str| {
        let done = bench.command(&["status"]).env(variable, "metrics").output().unwrap();
        assert!(done.status.success());
        assert!(bench.run(&["backup"]).status.success());
        String::from_utf8(bench.run(&["status"]).stdout).unwrap()
    };
    assert!(run("UNRELATED").contains("has not run yet"));
    let seen = run("RELIAB_SCHEDULE");
    assert!(seen.contains("last ran 0 s ago"), "{seen}");
}

/// UNKNOWN is the end of a check that failed as well as a verdict; only the second is work that was done.
#[test]
fn a_scheduled_check_that_fails_is_not_seen_to_have_run() {
    let bench = bench();
    bench.write("reliab.toml", "[schedule.probe]\nevery = \"1m\"\n");
    let run = || {
        let done = bench.command(&["probe"]).env("RELIAB_SCHEDULE", "probe").output().unwrap();
        assert_eq!(done.status.code(), Some(3));
        let report = bench.run(&["status", "--json"]);
        String::from_utf8(report.stdout).unwrap()
    };
    let failed = run();
    assert!(failed.contains("has not run yet, expected every 60 s"), "{failed}");
    let secret = "bearer = { file = \"absent\" }\n[schedule.probe]\nevery = \"1m\"\n";
    bench.write("reliab.toml", &format!("[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1:9\"\n{secret}"));
    let unknown = run();
    assert!(unknown.contains("last ran 0 s ago, expected every 60 s"), "{unknown}");
}

#[test]
fn a_backup_that_fails_makes_the_status_critical() {
    let bench = bench();
    assert!(!bench.run(&["backup", "absent"]).status.success());
    let output = bench.run(&["status", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{report:#}");
    assert_eq!((&report["schema"], &report["outcome"]), (&"reliab.status.v1".into(), &"critical".into()));
    assert_eq!(report["heartbeats"][0]["name"], "nightly dump");
}

/// What a person mistyped is no job, unless it is one that somebody waits for.
#[test]
fn what_was_mistyped_is_not_watched_and_what_was_tried_can_be_forgotten() {
    let bench = bench();
    bench.write("file", "no repository");
    let status = || {
        let output = bench.run(&["status"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let usage = |args: &[&str]| assert_eq!(bench.run(args).status.code(), Some(2), "{args:?}");
    usage(&["backup", "--repo", "file"]);
    usage(&["restore", "--target", "data"]);
    usage(&["verify", "--repo", "mistyped"]);
    assert_eq!(status().0, Some(0), "{}", status().1);
    // A timer mistypes nothing: what it runs is to work.
    let scheduled = |args: &[&str]| bench.command(args).env("RELIAB_SCHEDULE", "backup").output().unwrap();
    assert_eq!(scheduled(&["backup", "--repo", "file"]).status.code(), Some(2));
    let (code, text) = status();
    assert_eq!(code, Some(2), "{text}");
    let forget = |job: &str| bench.run(&["status", "--forget", job]);
    let name = |path: &str| format!("backup {}", bench.path(path).display());
    let refused = forget(&name("file"));
    assert_eq!(refused.status.code(), Some(3));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("[schedule.backup] runs it; put right what fails"), "{told}");
    usage(&["backup", "--repo", "file"]);
    assert_eq!(status().0, Some(2), "the timer's failure stays");
    fs::remove_file(bench.path("file")).unwrap();
    assert!(scheduled(&["backup", "--repo", "file"]).status.success());
    assert_eq!(status().0, Some(0), "{}", status().1);
    // Tried and failed is no mistake of typing; it is shown until it is forgotten.
    assert_eq!(bench.run(&["backup", "absent", "--repo", "it's tried"]).status.code(), Some(1));
    let (code, text) = status();
    assert_eq!(code, Some(2), "{text}");
    let advised = bench.run(&["status", "--verbose"]);
    let advised = String::from_utf8(advised.stderr).unwrap();
    let command = advised.split('`').nth(1).unwrap_or_else(|| panic!("no command in {advised}"));
    let line = command.replacen("reliab", "../reliab", 1);
    let mut typed = Command::new("sh");
    typed.args(["-c", &line]).current_dir(bench.path("")).env("RELIAB_STATE_DIR", "../state");
    assert!(typed.status().unwrap().success(), "{command}");
    assert_eq!(status().0, Some(0), "{}", status().1);
    assert_eq!(forget(&name("it's tried")).status.code(), Some(3), "it is not shown");
}

/// Every job of a repository is called alike, whatever it was named by.
#[test]
fn a_failed_export_is_recorded_under_the_whole_path() {
    let bench = bench();
    assert_eq!(bench.run(&["export", "-o", "absent/x.tar"]).status.code(), Some(1));
    let report: Value = serde_json::from_slice(&bench.run(&["status", "--json"]).stdout).unwrap();
    let jobs = report["jobs"].as_array().unwrap();
    let export = jobs.iter().find(|job| job["tool"] == "export").unwrap();
    assert_eq!(export["job"].as_str(), bench.path("backups").to_str(), "{report:#}");
}

/// What is open about a job that is forgotten closes with the next evaluation.
#[test]
fn an_incident_about_a_forgotten_job_is_closed() {
    let bench = Bench::new();
    let rule = "[channel.here]\ntype = \"console\"\n[[rule]]\nwhen = \"job * is failed\"\nchannels = [\"here\"]\nclear_for = \"0s\"\n";
    bench.write("reliab.toml", rule);
    let open = || {
        assert!(bench.run(&["alert"]).status.success());
        let report = bench.run(&["alert", "list", "--json"]);
        String::from_utf8(report.stdout).unwrap().contains("\"open\"")
    };
    assert_eq!(bench.run(&["backup", "absent"]).status.code(), Some(1));
    assert!(open());
    let name = format!("backup {}", bench.path("backups").display());
    let forgotten = bench.run(&["status", "--forget", &name, "--json"]);
    let report: Value = serde_json::from_slice(&forgotten.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["forgotten"]["tool"]), (&"ok".into(), &"backup".into()));
    assert!(!open());
    assert_eq!(bench.run(&["status"]).status.code(), Some(0));
}

#[test]
fn metrics_are_written_whole_and_promtool_finds_nothing_wrong() {
    let bench = bench();
    bench.write("textfile/README", "");
    let output = bench.run(&["status", "--prometheus", "--output", "textfile/reliab.prom"]);
    assert!(output.status.success() && output.stdout.is_empty());
    let text = fs::read_to_string(bench.path("textfile/reliab.prom")).unwrap();
    assert!(text.contains("reliab_job_exit_code{tool=\"backup\""), "{text}");
    assert_eq!(fs::read_dir(bench.path("textfile")).unwrap().count(), 2);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in the package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    assert!(
        judged.status.success() && judged.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&judged.stderr)
    );
}

#[test]
fn without_a_record_the_status_is_unknown() {
    let bench = Bench::new();
    let output = bench.run(&["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was recorded yet"));
    assert!(!bench.path("../state").exists());
    assert_eq!(bench.run(&["status", "--nonsense"]).status.code(), Some(3));
}

#[test]
fn a_heartbeat_needs_a_name_and_a_state() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["heartbeat"]).status.code(), Some(2));
    assert_eq!(bench.run(&["heartbeat", ""]).status.code(), Some(2));
    bench.write("file", "");
    let output = bench.run(&["heartbeat", "x", "--state-dir", "file/state"]);
    assert_eq!(output.status.code(), Some(1));
    let output = bench.run(&["heartbeat", "x", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["schema"], &report["name"]), (&"reliab.heartbeat.v1".into(), &"x".into()));
}

#[test]
fn a_configuration_is_checked_without_running_anything() {
    let bench = Bench::new();
    let check = |config: &str, code, expected: &str| {
        bench.write("reliab.toml", config);
        let output = bench.run(&["config", "check"]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    check("[schedule.backup]\nat = \"02:30\"\n", 0, "reliab.toml is well\n");
    check("[schedul]\n", 2, "error: reliab.toml:1:2: unknown key `schedul`");
    check("[schedule.backup]\nat = \"2:3x\"\n", 2, "is not a time of day");
    check(
        "[schedule.bakcup]\nevery = \"1h\"\n",
        2,
        "error: reliab.toml: [schedule.bakcup]: `reliab bakcup`: unrecognized",
    );
    check("[[probe]]\nname = \"api\"\nhttp = \"not a url\"\n", 2, "api");
    fs::remove_file(bench.path("reliab.toml")).unwrap();
    let none = bench.run(&["config", "check", "--json"]);
    let report: Value = serde_json::from_slice(&none.stdout).unwrap();
    assert_eq!((&report["file"], &report["exit"]), (&Value::Null, &0.into()));
}

/// A rule is evaluated right after the run that breaks it, unless that is left to the timer.
#[test]
fn alerts_are_evaluated_after_a_run() {
    let bench = Bench::new();
    bench.write("data/file", "x");
    bench.write(
        "reliab.toml",
        "[channel.here]\ntype = \"console\"\n[[rule]]\nwhen = \"backup is failed\"\nchannels = [\"here\"]\n",
    );
    let open = || {
        let report = bench.run(&["alert", "list", "--json"]);
        String::from_utf8(report.stdout).unwrap().contains("\"open\"")
    };
    let left = bench.run(&["backup", "absent", "--no-alert"]);
    assert_eq!((left.status.code(), open()), (Some(1), false));
    let told = bench.run(&["backup", "absent"]);
    assert_eq!((told.status.code(), open()), (Some(1), true), "{}", String::from_utf8_lossy(&told.stderr));
}
