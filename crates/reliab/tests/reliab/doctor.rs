//! `reliab doctor` finds what is wrong, one thing at a time, and says what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use crate::support::Bench;
use serde_json::Value;

/// Nothing about a repository: it would be on the disk of its source.
const CONFIG: &str = "[schedule.backup]\nat = \"02:30\"\ncommand = [\"probe\"]\n";

/// What `systemctl show` printed of a timer and its service: see systemctl/README.
fn recorded(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemctl");
    fs::read_to_string(folder.join(name).with_extension("txt")).unwrap()
}

/// A bench on which the timer and its service are well, and the clock is kept right.
fn bench(config: &str) -> Bench {
    bench_of(config, &recorded("well"))
}

/// A bench on which a fake systemd says `shown` of the units.
fn bench_of(config: &str, shown: &str) -> Bench {
    let bench = Bench::new();
    bench.write("reliab.toml", config);
    bench.write("data/file", "x");
    bench.write("shown", shown);
    let script = "case \"$*\" in *is-system-running) echo running;; *show*) cat shown;; esac";
    fake(&bench, "systemctl", script);
    fake(&bench, "timedatectl", "echo yes");
    fake(&bench, "crontab", "exit 1");
    bench
}

fn fake(bench: &Bench, name: &str, script: &str) {
    bench.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(bench.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
}

fn doctor(bench: &Bench, args: &[&str]) -> Output {
    let args = [&["doctor"], args].concat();
    bench
        .command(&args)
        .env("PATH", format!("{}:/usr/bin:/bin", bench.path("bin").display()))
        .output()
        .unwrap()
}

/// What is found of a subject: level, text and step.
fn found(bench: &Bench, subject: &str) -> (String, String, String) {
    let output = doctor(bench, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "reliab.doctor.v1");
    let of = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap();
    let worst = |finding: &&Value| i32::from(of(finding, "level") != "ok");
    let of_subject = findings.iter().filter(|finding| of(finding, "subject") == subject);
    let finding = of_subject.max_by_key(worst).unwrap_or_else(|| panic!("{subject} is not in {report:#}"));
    (of(finding, "level"), of(finding, "text"), of(finding, "do"))
}

#[track_caller]
fn check(bench: &Bench, subject: &str, level: &str, text: &str, step: &str) {
    let found = found(bench, subject);
    assert_eq!(found.0, level, "{found:?}");
    assert!(found.1.contains(text), "{found:?}");
    assert!(found.2.contains(step), "{found:?}");
}

#[test]
fn timers_that_will_not_start_their_job_are_found() {
    for (name, text, step) in [
        ("disabled", "it is disabled", "systemctl enable --now reliab-backup.timer"),
        ("stopped", "it is inactive", "systemctl start reliab-backup.timer"),
        (
            "without-next-start",
            "NextElapse=infinity",
            "systemctl cat reliab-backup.timer; then: reliab install",
        ),
        ("bad-timer", "systemd cannot load it (bad-setting)", "systemctl status reliab-backup.timer"),
        ("masked", "it is masked", "systemctl unmask reliab-backup.timer"),
        ("absent", "there is none", "reliab install"),
    ] {
        check(&bench_of(CONFIG, &recorded(name)), "timer backup", "critical", text, step);
    }
}

/// While a job runs, systemd does not tell when its timer starts it next: doctor would complain about its own timer.
#[test]
fn timers_that_start_their_job_are_well() {
    for (name, text) in
        [("well", "next start in"), ("running", "its job runs now"), ("monotonic", "it has a next start")]
    {
        check(&bench_of(CONFIG, &recorded(name)), "timer backup", "ok", text, "");
    }
    let ahead = recorded("well").replace("Thu 2026-11-26 02:30:48", "Fri 2100-01-01 02:30:48");
    check(&bench_of(CONFIG, &ahead), "timer backup", "ok", " d", "");
}

/// Local time could not be told from another's, and `--timestamp=` is not known to every systemd in use.
#[test]
fn systemd_is_asked_for_times_in_utc() {
    let bench = bench(CONFIG);
    let script = "case \"$*\" in *is-system-running) echo running;; *--timestamp*) exit 1;; \
         *show*) [ \"$TZ\" = UTC ] && [ \"$LC_ALL\" = C ] && cat shown;; esac";
    fake(&bench, "systemctl", script);
    check(&bench, "timer backup", "ok", "next start in", "");
}

#[test]
fn services_that_hang_or_failed_or_cannot_be_started_are_found() {
    for (name, level, text, step) in [
        ("running", "critical", "it has run for", "systemctl kill --signal=KILL reliab-backup.service"),
        ("failed-timeout", "warning", "(timeout)", "journalctl -u reliab-backup.service"),
        ("without-service", "critical", "there is none for the timer to start", "reliab install"),
        ("bad-service", "critical", "cannot load it (bad-setting)", "systemctl status reliab-backup.service"),
    ] {
        // As `running` was recorded, it has run for longer than the job's timeout of a day, but on the first of them.
        let shown = recorded(name).replace("Wed 2026-11-25", "Mon 2026-11-02");
        check(&bench_of(CONFIG, &shown), "service backup", level, text, step);
    }
    let now = chrono::Utc::now().format("%a %Y-%m-%d %H:%M:%S").to_string();
    let running = bench_of(CONFIG, &recorded("running").replace("Wed 2026-11-25 22:38:35", &now));
    let report = doctor(&running, &["--json"]);
    assert!(!String::from_utf8_lossy(&report.stdout).contains("service backup"));
}

#[test]
fn without_systemd_a_line_in_the_crontab_will_do() {
    let bench = bench(CONFIG);
    fake(&bench, "systemctl", "echo offline; exit 1");
    check(&bench, "timer backup", "critical", "there is none", "reliab install --crontab");
    fake(&bench, "crontab", "echo '30 2 * * * cd / && RELIAB_SCHEDULE=backup reliab backup'");
    check(&bench, "timer backup", "ok", "a line in the crontab", "");
}

#[test]
fn a_configuration_with_an_unknown_key_is_found_and_all_else_is_looked_at() {
    let bench = bench("[backup]\nsource = [\"data\"]\n");
    check(
        &bench,
        "configuration",
        "critical",
        "reliab.toml:2:1: unknown key `source`",
        "reliab config check",
    );
    check(&bench, "clock", "ok", "", "");
    let absent = doctor(&bench, &["--config", "absent.toml"]);
    assert_eq!(absent.status.code(), Some(2));
}

#[test]
fn a_command_that_reliab_would_refuse_is_found() {
    let config = "[schedule.nightly]\ncommand = [\"backup\", \"--compresion\", \"3\"]\nat = \"02:30\"\n";
    check(&bench(config), "job nightly", "critical", "unexpected argument '--compresion'", "reliab install");
}

#[test]
fn a_state_that_cannot_be_written_or_is_damaged_is_found() {
    let bench = bench(CONFIG);
    check(&bench, "state", "ok", "state.db, ", "");
    let folder = bench.path("../state");
    fs::write(folder.join("state.db"), "not a database, and longer than any header of one ".repeat(9))
        .unwrap();
    check(&bench, "state", "critical", "cannot use the state file", "check owner, mode and free space");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    check(&bench, "state", "critical", "cannot make the state file", "check owner, mode and free space");
}

#[test]
fn a_clock_that_is_far_off_is_found() {
    let bench = bench(CONFIG);
    let ahead = SystemTime::now() + Duration::from_secs(40 * 86_400);
    fs::File::options().write(true).open(bench.path("reliab.toml")).unwrap().set_modified(ahead).unwrap();
    check(&bench, "clock", "critical", "the configuration is from ", "set the clock");
    fs::File::options()
        .write(true)
        .open(bench.path("reliab.toml"))
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    fake(&bench, "timedatectl", "echo no");
    check(&bench, "clock", "warning", "not kept right", "timedatectl set-ntp true");
    assert!(bench.run(&["backup", "--repo", "backups"]).status.success());
    let database = bench.path("../state/state.db");
    let moved = std::process::Command::new("sqlite3")
        .arg(database)
        .arg("UPDATE run SET started = started + 86400000000000 * 30")
        .status()
        .expect("sqlite3 is in the package sqlite3");
    assert!(moved.success());
    check(&bench, "clock", "critical", "the last recorded run is from", "set the clock");
}

#[test]
fn a_repository_on_the_disk_of_its_source_is_found() {
    let with = |source: &str, repository: &str| {
        bench(&format!("[backup]\nsources = [\"{source}\"]\nrepository = \"{repository}\"\n"))
    };
    let same = with("data", "copies");
    check(&same, "repository", "warning", "on the same disk as its source", "another disk or machine");
    // Nobody knows what is beneath it.
    check(&with("data", "/proc/self/fd"), "repository", "unknown", "cannot be told whether", "findmnt");
    check(&with("absent", "copies"), "repository", "critical", "absent is not there", "mend `sources`");
}

#[test]
fn a_repository_that_was_compared_with_nothing_is_not_called_apart() {
    for sources in ["[\"absent\"]", "[]"] {
        let config = format!("[backup]\nsources = {sources}\nrepository = \"copies\"\n");
        let output = doctor(&bench(&config), &["--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("reliab.doctor.v1") && !text.contains("disk of its own"), "{text}");
    }
}

#[test]
fn what_a_tool_would_refuse_is_found_before_it_runs() {
    for (config, expected) in [
        ("[schedule.backup]\nevery = \"45m\"\n", "[schedule.backup]: timers cannot start a job every 45 min"),
        ("[[rule]]\nname = \"a\"\nwhen = \"nonsense nonsense\"\n", "rule"),
        ("[[probe]]\nname = \"a\"\ntcp = \"nowhere\"\n", "nowhere"),
    ] {
        let bench = bench(config);
        check(&bench, "configuration", "critical", expected, "reliab config check");
        let checked = bench.run(&["config", "check"]);
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_state_that_is_too_large_to_look_through_is_not_called_whole() {
    let bench = bench(CONFIG);
    check(&bench, "state", "ok", "state.db, ", "");
    let file = fs::File::options().append(true).open(bench.path("../state/state.db")).unwrap();
    file.set_len(300 << 20).unwrap();
    check(&bench, "state", "ok", "too large to be checked", "");
}

#[test]
fn secrets_that_others_can_read_are_found_and_not_shown() {
    let config = "[channel.ops]\ntype = \"slack\"\nurl = { file = \"slack-url\" }\n";
    let bench = bench(config);
    let subject = "secret channel.ops.url";
    check(&bench, subject, "critical", "slack-url: No such file", "chmod 600");
    bench.write("slack-url", "https://hooks.example.org/planted\n");
    let mode = |mode| fs::set_permissions(bench.path("slack-url"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    check(&bench, subject, "critical", "can be read by everybody (mode 644)", "chmod 600");
    mode(0o640);
    check(&bench, subject, "warning", "can be read by its group (mode 640)", "chmod 600");
    mode(0o600);
    check(&bench, subject, "ok", "slack-url", "");
    let all = doctor(&bench, &[]);
    assert!(!String::from_utf8_lossy(&all.stdout).contains("planted"));
}

#[test]
fn a_ping_that_is_not_sent_is_found() {
    let bench = bench("[ping]\nurl = { file = \"ping-url\" }\n");
    bench.write("ping-url", "http://127.0.0.1:1/");
    check(&bench, "ping", "warning", "it was never sent", "reliab alert");
    let put = |age: &str, summary: &str| {
        let sql = format!(
            "INSERT INTO check_result (source, target, at, level, summary, detail)
             SELECT 'alert', 'ping', CAST(strftime('%s') AS INTEGER) * 1000000000, 1, '{summary}',
             json_object('last_sent', strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '{age}'))"
        );
        let done =
            std::process::Command::new("sqlite3").arg(bench.path("../state/state.db")).arg(sql).status();
        assert!(done.expect("sqlite3 is in the package sqlite3").success());
    };
    put("-50 minutes", "not sent: too little is free");
    check(&bench, "ping", "ok", "last sent 50 min ago", "");
    put("-3 hours", "not sent: too little is free");
    check(
        &bench,
        "ping",
        "warning",
        "last sent 3 h ago; the last run that tried: not sent: too",
        "reliab alert",
    );
}

#[test]
fn a_channel_that_never_delivered_is_found() {
    let bench = bench("[channel.ops]\ntype = \"console\"\n");
    check(&bench, "channel ops", "warning", "it never delivered anything", "reliab alert test ops");
    let put = |sql: &str| {
        let done =
            std::process::Command::new("sqlite3").arg(bench.path("../state/state.db")).arg(sql).status();
        assert!(done.expect("sqlite3 is in the package sqlite3").success());
    };
    let now = "CAST(strftime('%s') AS INTEGER) * 1000000000";
    put(&format!(
        "INSERT INTO notification (channel, kind, key, message, owed, due, state, ended)
         VALUES ('ops', 'test', 'a', '{{}}', {now}, {now}, 'delivered', {now})"
    ));
    check(&bench, "channel ops", "ok", "last delivered", "");
    put(&format!(
        "INSERT INTO notification (channel, kind, key, message, owed, due, state, error)
         VALUES ('ops', 'opened', 'b', '{{}}', {now} - 3600000000000, {now}, 'owed', 'connection refused')"
    ));
    check(
        &bench,
        "channel ops",
        "critical",
        "has waited for 60 min: connection refused",
        "reliab alert test ops",
    );
    put(&format!(
        "DELETE FROM notification WHERE key = 'b';
         INSERT INTO notification (channel, kind, key, message, owed, due, state, ended, error)
         VALUES ('ops', 'opened', 'c', '{{}}', {now}, {now}, 'refused', {now} + 1, 'HTTP 404: no such hook')"
    ));
    check(&bench, "channel ops", "critical", "was refused: HTTP 404: no such hook", "reliab alert test ops");
    check(&self::bench(""), "channels", "warning", "alerts reach nobody", "reliab alert test");
}

#[test]
fn the_worst_finding_is_the_exit_code_and_quiet_shows_no_good_news() {
    let bench = bench(&format!("{CONFIG}[channel.ops]\ntype = \"console\"\n"));
    let all = doctor(&bench, &[]);
    assert_eq!(all.status.code(), Some(1), "{}", String::from_utf8_lossy(&all.stdout));
    assert!(String::from_utf8_lossy(&all.stdout).contains("ok        timer backup: next start in"));
    let quiet = doctor(&bench, &["--quiet"]);
    let quiet = String::from_utf8_lossy(&quiet.stdout).into_owned();
    assert_eq!(
        quiet,
        "WARNING   channel ops: it never delivered anything\n          \
         -> try it, and see that it arrives: reliab alert test ops\n"
    );
    let line = doctor(&bench, &["--nagios"]);
    let line = String::from_utf8_lossy(&line.stdout).into_owned();
    assert_eq!(line, "DOCTOR WARNING - channel ops: it never delivered anything | findings=1\n");
    assert_eq!(doctor(&bench, &["--nonsense"]).status.code(), Some(3));
}

/// A folder in which nobody may make files, root included.
#[test]
fn a_folder_that_may_not_be_written_is_found() {
    let bench = bench(CONFIG);
    symlink("/proc/sys/kernel", bench.path("sealed")).unwrap();
    let output = bench.command(&["doctor", "--json", "--state-dir", "sealed"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("cannot make the state file sealed/state.db"), "{said}");
}
