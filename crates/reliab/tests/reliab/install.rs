//! `reliab install`: units that systemd itself finds good, a crontab, and nothing of others touched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Bench;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../backup")
}

/// A bench with the shipped configuration as `etc/reliab.toml`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("etc/reliab.toml", &fs::read_to_string(shipped().join("reliab.toml")).unwrap());
    bench
}

/// `reliab install` with the shipped configuration in its place, /etc/reliab: what stands in /tmp gets other units.
fn install_shipped(bench: &Bench, args: &[&str]) -> String {
    let script =
        "mount -t tmpfs tmpfs /etc && mkdir /etc/reliab && cp \"$0\" /etc/reliab/reliab.toml && exec \"$@\"";
    let command = bench.command(&["install", "--config", "/etc/reliab/reliab.toml"]);
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh", "-c", script]).arg(shipped().join("reliab.toml"));
    unshared.arg(command.get_program()).args(command.get_args()).args(args).current_dir(bench.path(""));
    text(&unshared.output().unwrap())
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Puts a program into the bench's `bin`; it writes its arguments into `calls` first.
fn fake(bench: &Bench, name: &str, script: &str) {
    let calls = bench.path("calls");
    bench.write(
        &format!("bin/{name}"),
        &format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{script}\n", calls.display()),
    );
    fs::set_permissions(bench.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
}

fn with_fakes(bench: &Bench, args: &[&str]) -> Output {
    bench
        .command(args)
        .env("PATH", format!("{}:/usr/bin:/bin", bench.path("bin").display()))
        .output()
        .unwrap()
}

fn calls(bench: &Bench) -> String {
    let calls = fs::read_to_string(bench.path("calls")).unwrap_or_default();
    drop(fs::remove_file(bench.path("calls")));
    calls
}

#[test]
fn shipped_units_and_crontab_are_those_that_install_writes() {
    let bench = Bench::new();
    let program = "/usr/local/bin/reliab";
    let install = |more: &[&str]| install_shipped(&bench, &[&["--program", program], more].concat());
    install(&["--dir", "units"]);
    let folder = shipped().join("units");
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    if std::env::var_os("RELIAB_GOLDEN").is_some_and(|value| value == "write") {
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        for name in names(&bench.path("units")) {
            fs::copy(bench.path("units").join(&name), folder.join(&name)).unwrap();
        }
        fs::write(shipped().join("crontab"), install(&["--crontab", "--print"])).unwrap();
    }
    assert_eq!(names(&folder), names(&bench.path("units")));
    for name in names(&folder) {
        let made = fs::read_to_string(bench.path("units").join(&name)).unwrap();
        assert_eq!(made, fs::read_to_string(folder.join(&name)).unwrap(), "{}", name.display());
    }
    let crontab = fs::read_to_string(shipped().join("crontab")).unwrap();
    assert_eq!(install(&["--crontab", "--print"]), crontab);
}

#[test]
fn printing_and_json_are_not_asked_for_together() {
    let bench = bench();
    for form in [&["install", "--print", "--json"][..], &["install", "--crontab", "--print", "--json"]] {
        let output = bench.run(&[&["--config", "etc/reliab.toml"][..], form].concat());
        assert_eq!(output.status.code(), Some(2), "{form:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["outcome"], "usage", "{form:?}");
    }
}

/// systemd as the judge: units are valid, and expose little.
#[test]
fn systemd_finds_the_units_good() {
    let bench = Bench::new();
    install_shipped(&bench, &["--dir", "units"]);
    let units: Vec<PathBuf> =
        fs::read_dir(bench.path("units")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(units.len(), 16);
    let analyze = |args: &[&str], units: &[PathBuf]| {
        let mut command = Command::new("systemd-analyze");
        command.args(args).args(units).env("LC_ALL", "C");
        command.output().expect("systemd-analyze is in the package systemd")
    };
    let verified = analyze(&["verify"], &units);
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("reliab-")).collect();
    assert!(verified.status.success() && about_ours.is_empty(), "{said}");
    let services: Vec<_> =
        units.iter().filter(|unit| unit.extension().is_some_and(|e| e == "service")).collect();
    for service in services {
        let report = analyze(&["security", "--offline=yes", "--no-pager"], std::slice::from_ref(service));
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        let overall = report.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let exposure: f64 = overall.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(exposure < 3.0, "{overall}");
    }
}

/// What systemd mounts again, read-only or not at all, would look like a broken disk.
#[test]
fn the_disk_check_sees_the_mounts_of_the_machine() {
    let bench = bench();
    assert!(bench.run(&["install", "--config", "etc/reliab.toml", "--dir", "units"]).status.success());
    let unit = fs::read_to_string(bench.path("units/reliab-disk.service")).unwrap();
    assert!(unit.contains("\nProtectSystem=no\nProtectHome=no\n"), "{unit}");
    for hides in [
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "RootDirectory",
    ] {
        assert!(!unit.contains(hides), "{hides} in\n{unit}");
    }
}

/// Both were seen under a booted systemd: without openat2(2) and chown(2) there was neither a backup nor a rehearsal.
#[test]
fn backups_and_rehearsals_have_the_calls_that_they_make() {
    let bench = bench();
    for more in [&[][..], &["--user"]] {
        let printed =
            text(&bench.run(&[&["install", "--config", "etc/reliab.toml", "--print"], more].concat()));
        let unit = |job: &str| {
            let begins = format!("{job}.service\n");
            printed.split("# reliab-").find(|unit| unit.starts_with(&begins)).unwrap()
        };
        for job in ["backup", "rehearsal"] {
            assert!(!unit(job).contains("RestrictSUIDSGID="), "{}", unit(job));
        }
        assert!(unit("probe").contains("\nRestrictSUIDSGID=yes\n"), "{}", unit("probe"));
        // The last line about a call counts.
        let taken = unit("rehearsal").rfind("\nSystemCallFilter=~");
        let given = unit("rehearsal").find("\nSystemCallFilter=@chown\n");
        assert!(taken.is_none_or(|taken| given.is_some_and(|given| given > taken)), "{}", unit("rehearsal"));
    }
}

/// Root without `CAP_DAC_OVERRIDE` cannot write into a folder of another user; no other check needs it.
#[test]
fn only_who_writes_a_file_of_metrics_may_write_into_folders_of_others() {
    let bench = bench();
    assert!(bench.run(&["install", "--config", "etc/reliab.toml", "--dir", "units"]).status.success());
    let may = |job: &str| {
        let unit = fs::read_to_string(bench.path(&format!("units/reliab-{job}.service"))).unwrap();
        unit.contains("\nCapabilityBoundingSet=CAP_DAC_OVERRIDE ")
    };
    assert!(may("metrics") && may("backup"));
    assert!(!may("probe") && !may("doctor") && !may("disk"));
}

/// What is not there cannot be made writable for a job.
#[test]
fn a_state_folder_of_its_own_is_made_before_the_job_starts() {
    let bench = Bench::new();
    bench.write("reliab.toml", "[schedule.probe]\nevery = \"1m\"\n");
    let printed = text(&bench.run(&["install", "--print", "--state-dir", "/srv/reliab/state"]));
    assert!(printed.contains("\nExecStartPre=+/bin/mkdir -p /srv/reliab/state\n"), "{printed}");
    assert!(printed.contains("\nReadWritePaths=-/srv/reliab/state\n"), "{printed}");
}

#[test]
fn a_second_configuration_leaves_the_timers_of_the_first_alone() {
    let bench = Bench::new();
    fake(&bench, "systemctl", "case \"$*\" in *is-system-running) echo running;; esac");
    bench.write("a.toml", "[schedule.backup]\nat = \"02:30\"\n[schedule.disk]\nevery = \"5m\"\n");
    bench.write("b.toml", "[schedule.probe]\nevery = \"1m\"\n");
    let install = |args: &[&str]| with_fakes(&bench, &[&["install", "--user"], args].concat());
    text(&install(&["--config", "a.toml"]));
    let units = || fs::read_dir(bench.path("home/.config/systemd/user")).unwrap().count();
    calls(&bench);
    text(&install(&["--config", "./b.toml"]));
    assert_eq!(units(), 6);
    assert!(!calls(&bench).contains("disable"));
    bench.write("b.toml", "[schedule.backup]\nevery = \"1m\"\n");
    let refused = install(&["--config", "b.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("belongs to the configuration ") && said.contains("a.toml: give the job another name")
    );
    text(&install(&["--config", "b.toml", "--remove"]));
    assert_eq!(units(), 4);
    let nameless = install(&["--remove"]);
    assert_eq!((nameless.status.code(), units()), (Some(2), 4));
}

#[test]
fn files_of_others_are_never_replaced() {
    let bench = bench();
    bench.write("units/reliab-probe.timer", "[Timer]\nOnCalendar=daily\n");
    let refused = bench.run(&["install", "--config", "etc/reliab.toml", "--dir", "units"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("reliab did not write units/reliab-probe.timer"), "{said}");
    assert_eq!(fs::read_dir(bench.path("units")).unwrap().count(), 1);
}

#[test]
fn timers_are_started_changed_and_stopped() {
    let bench = Bench::new();
    fake(&bench, "systemctl", "case \"$*\" in *is-system-running) echo running;; esac");
    let config = |jobs: &str| bench.write("reliab.toml", jobs);
    let install = |args: &[&str]| text(&with_fakes(&bench, args));
    config("[schedule.backup]\nat = \"02:30\"\n[schedule.disk]\nevery = \"5m\"\n");
    let shown = install(&["install", "--user", "--dry-run"]);
    assert_eq!(shown.matches("would write").count(), 4, "{shown}");
    calls(&bench);
    install(&["install", "--user"]);
    let both = "reliab-backup.timer reliab-disk.timer";
    let expected = format!(
        "systemctl --user is-system-running\nsystemctl --user daemon-reload\nsystemctl --user enable --now {both}\n"
    );
    assert_eq!(calls(&bench), expected);
    config("[schedule.backup]\nat = \"03:30\"\n");
    let shown = install(&["install", "--user"]);
    assert!(shown.contains("replaced home/.config/systemd/user/reliab-backup.timer"), "{shown}");
    assert!(shown.contains("removed home/.config/systemd/user/reliab-disk.timer"), "{shown}");
    let called = calls(&bench);
    for expected in [
        "disable --now reliab-disk.timer\n",
        "clean --what=state reliab-disk.timer\n",
        "enable --now reliab-backup.timer\n",
        "restart reliab-backup.timer\n",
    ] {
        assert!(called.contains(expected), "{called}");
    }
    install(&["install", "--user", "--remove"]);
    assert!(calls(&bench).contains("disable --now reliab-backup.timer\n"));
    assert_eq!(fs::read_dir(bench.path("home/.config/systemd/user")).unwrap().count(), 0);
}

/// Where systemd does not run, what it would have to be told is said, if there is anything.
#[test]
fn without_systemd_only_what_is_left_to_do_is_said() {
    let bench = Bench::new();
    fake(&bench, "systemctl", "echo offline; exit 1");
    bench.write("reliab.toml", "[schedule.disk]\nevery = \"5m\"\n");
    let said = |args: &[&str]| {
        let output = with_fakes(&bench, args);
        text(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    let installed = said(&["install", "--user"]);
    assert!(installed.contains("systemctl --user enable --now reliab-disk.timer"), "{installed}");
    assert_eq!(said(&["install", "--user", "--remove"]), "");
}

#[test]
fn a_crontab_keeps_what_others_wrote() {
    let bench = Bench::new();
    let table = bench.path("table");
    let script = format!(
        "case $1 in -l) cat {0} 2>/dev/null || {{ echo 'no crontab for me' >&2; exit 1; }};; -) cat >{0};; esac",
        table.display()
    );
    fake(&bench, "crontab", &script);
    bench.write(
        "reliab.toml",
        "[schedule.verify]\ncommand = [\"verify\", \"--sample\", \"5%\"]\nat = \"Sun 04:00\"\n",
    );
    text(&with_fakes(&bench, &["install", "--crontab"]));
    let first = fs::read_to_string(&table).unwrap();
    let line = first.lines().nth(2).unwrap();
    assert!(line.starts_with("0 4 * * 0 cd ") && line.ends_with(" verify --sample 5\\%"), "{line}");
    fs::write(&table, format!("MAILTO=me\n{first}1 1 * * * true\n")).unwrap();
    bench.write("reliab.toml", "[schedule.backup]\nevery = \"6h\"\n");
    text(&with_fakes(&bench, &["install", "--crontab"]));
    let second = fs::read_to_string(&table).unwrap();
    assert!(
        second.starts_with("MAILTO=me\n# BEGIN reliab") && second.ends_with("# END reliab\n1 1 * * * true\n")
    );
    assert!(second.contains("\n0 */6 * * * cd ") && !second.contains("verify"), "{second}");
    text(&with_fakes(&bench, &["install", "--crontab", "--remove"]));
    assert_eq!(fs::read_to_string(&table).unwrap(), "MAILTO=me\n1 1 * * * true\n");
}

/// The line that cron would give to the shell does the job.
#[test]
fn a_line_of_the_crontab_runs() {
    let bench = Bench::new();
    bench.write("data/a file", "x");
    let config = "[backup]\nsources = [\"data\"]\n[schedule.nightly]\ncommand = [\"backup\", \"--tag\", \"it's 5%\"]\nat = \"02:30\"\n";
    bench.write("reliab.toml", config);
    let printed = text(&bench.run(&["install", "--crontab", "--print"]));
    let line = printed.lines().nth(2).unwrap().strip_prefix("30 2 * * * ").unwrap().replace("\\%", "%");
    let state = bench.path("state");
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
    shell.env("RELIAB_STATE_DIR", &state).env("RELIAB_CACHE_DIR", bench.path("cache"));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty(), "cron would send a mail each night");
    let listed = text(&bench.run(&["snapshots", "--tag", "it's 5%", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    let status = text(&bench.run(&["status", "--json", "--state-dir", state.to_str().unwrap()]));
    assert!(status.contains("last ran 0 s ago, expected every 24 h"), "{status}");
}

/// systemd does not start a unit at all for which a credential is missing.
#[test]
fn systemd_hands_each_job_the_secrets_that_it_uses_and_that_are_there() {
    let bench = Bench::new();
    let config = "[channel.ops]\ntype = \"slack\"\nurl = { file = \"slack-url\" }\n\
        [channel.chat]\ntype = \"discord\"\nurl = { file = \"absent-url\" }\n\
        [[probe]]\nname = \"api\"\nhttp = \"https://example.org\"\nbearer = { file = \"token\" }\n\
        [schedule.probe]\nevery = \"1m\"\n[schedule.backup]\nevery = \"1h\"\n[schedule.alert]\nevery = \"1m\"\n\
        [schedule.doctor]\nevery = \"1h\"\n[schedule.silent]\nevery = \"1h\"\ncommand = [\"disk\", \"--no-alert\"]\n";
    bench.write("reliab.toml", config);
    bench.write("slack-url", "https://hooks.example.org/x\n");
    bench.write("token", "t\n");
    let installed = bench.run(&["install", "--dir", "units"]);
    text(&installed);
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    assert_eq!(said.matches("/absent-url is not there").count(), 1, "{said}");
    let handed = |job: &str| {
        let unit = fs::read_to_string(bench.path(&format!("units/reliab-{job}.service"))).unwrap();
        let lines = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential="));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let line = |name: &str| format!("{name}:{}", bench.path(name).display());
    assert_eq!(handed("probe"), [line("slack-url"), line("token")]);
    assert_eq!(handed("backup"), [line("slack-url")]);
    assert_eq!(handed("alert"), [line("slack-url")]);
    assert!(handed("doctor").is_empty() && handed("silent").is_empty());
}

#[test]
fn what_cannot_be_scheduled_is_refused_by_name() {
    let bench = Bench::new();
    let check = |config: &str, args: &[&str], expected: &str| {
        bench.write("reliab.toml", config);
        let output = bench.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    let print = &["install", "--print"][..];
    check("", print, "nothing is scheduled");
    check(
        "[schedule.backup]\nevery = \"45m\"\n",
        print,
        "[schedule.backup]: timers cannot start a job every 45 min",
    );
    check(
        "[schedule.bakcup]\nevery = \"1h\"\n",
        print,
        "[schedule.bakcup]: `reliab bakcup`: unrecognized subcommand",
    );
    check("[schedule.\"a b\"]\ncommand = [\"disk\"]\nevery = \"1h\"\n", print, "can be a timer's");
    let cron = &["install", "--crontab", "--print"][..];
    check("[schedule.probe]\nevery = \"10s\"\n", cron, "its shortest step is a minute");
}
