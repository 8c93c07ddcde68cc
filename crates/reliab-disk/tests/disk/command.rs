//! The command line: what is printed, how it exits, what is stored.

use std::fs;
use std::path::Path;

use crate::support::{Bench, alone, run};
use chrono::{TimeDelta, Utc};
use reliab_common::exit::{Exit, Level};
use reliab_common::fact::{self, Facts, Sample};
use reliab_common::record::{self, Recorder, RunRecord};
use serde_json::json;

#[test]
fn the_table_the_line_and_quiet_say_the_same() {
    alone("command::the_table_the_line_and_quiet_say_the_same", |bench| {
        let (well, full) =
            (bench.mount_tmpfs("well", "size=10m"), bench.mount_tmpfs("full", "size=10m,nr_inodes=100"));
        fs::write(Path::new(&full).join("file"), vec![1; 9_500_000]).unwrap();
        let (code, out, err) = bench.disk(&[&well, &full]);
        assert_eq!((code, err.as_str()), (2, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "LEVEL         SIZE       FREE  USED  INODES  FULL IN  MOUNT");
        assert!(lines[1].starts_with("critical  10.0 MiB  960.0 KiB   91%      2%        -  "), "{out}");
        assert!(lines[2].starts_with("ok        10.0 MiB   10.0 MiB    0%"), "{out}");
        assert_eq!(
            lines[3],
            format!("CRITICAL: {full}: 91% used, 960.0 KiB free (critical at 1.0 MiB free)")
        );
        assert!(lines.iter().take(3).all(|line| line.chars().count() <= 80), "{out}");
        let (code, quiet, _) = bench.disk(&[&well, &full, "--quiet"]);
        assert_eq!((code, quiet.as_str()), (2, format!("{}\n", lines[3]).as_str()));
        assert_eq!(bench.disk(&[&well, "--quiet"]), (0, String::new(), String::new()));
        let (code, line, _) = bench.disk(&[&full, "--nagios"]);
        assert_eq!(code, 2);
        let text = format!("DISK CRITICAL - {full}: 91% used, 960.0 KiB free (critical at 1.0 MiB free) | ");
        assert_eq!(
            line,
            format!(
                "{text}'{full} free'=983040B;2097153:;1048577:;0;10485760 '{full} inodes'=2%;80;90;0;100\n"
            )
        );
    });
}

#[test]
fn bad_command_lines_and_configurations_are_unknown() {
    let bench = Bench::new();
    for args in [&["--nagios", "--json"][..], &["--depth", "2"], &["--quick-check"], &["--dirs", "/", "/srv"]]
    {
        let (code, _, err) = bench.disk(args);
        assert!(code == 3 && err.starts_with("error: "), "{args:?}: {code} {err}");
    }
    let (code, _, err) = bench.disk(&["--dirs", "absent"]);
    assert!(code == 3 && err.contains("cannot measure absent: No such file"), "{err}");
    bench.configure("[disk]\nwarn = { used = \"95%\" }\ncritical = { used = \"90%\" }\n");
    let (code, _, err) = bench.disk(&[]);
    assert!(
        code == 3 && err.contains("[disk]: the warning of `used` comes after its critical level"),
        "{err}"
    );
    let document = bench.json(&[]);
    assert_eq!(
        (document["schema"].as_str(), document["outcome"].as_str()),
        (Some("reliab.disk.v1"), Some("unknown"))
    );
}

#[test]
fn what_is_found_is_stored_and_the_forecast_is_made_of_it() {
    alone("command::what_is_found_is_stored_and_the_forecast_is_made_of_it", |bench| {
        let point = bench.mount_tmpfs("t", "size=100m");
        fs::write(Path::new(&point).join("file"), vec![1; 60 << 20]).unwrap();
        let now = Utc::now();
        let sample = |hour: i64| Sample {
            source: "disk".into(),
            target: point.clone(),
            figure: "used".into(),
            unit: "1",
            at: now - TimeDelta::hours(hour),
            value: 0.6 - 0.04 / 24.0 * f64::from(i32::try_from(hour).unwrap()),
        };
        let recorder = Recorder::open(&bench.path("state")).0;
        let facts = Facts { checks: Vec::new(), samples: (1..240).map(sample).collect() };
        recorder.state().unwrap().write(|db| fact::store_all(db, None, &facts)).unwrap();
        let ours = bench.mount(&point);
        let days = ours["full_in_seconds"]["expected"].as_f64().unwrap() / 86_400.0;
        assert!((days - 10.0).abs() < 1.5, "{ours}");
        assert_eq!(ours["level"], "ok");
        bench.configure("[disk]\nwarn = { full_in = \"14d\" }\n");
        let ours = bench.mount(&point);
        assert!(
            ours["level"] == "warning" && ours["summary"].as_str().unwrap().starts_with("full in "),
            "{ours}"
        );
        let state = recorder.state().unwrap();
        let figure = |name: &str| {
            let points = fact::samples(state, "disk", &point, name, now, now + TimeDelta::hours(1)).unwrap();
            points.last().unwrap().value
        };
        assert!((figure("used") - 0.6).abs() < 0.01 && (figure("free") - 40.0 * 1_048_576.0).abs() < 1e6);
        assert!(figure("inodes_used") < 0.1);
        let checks = fact::latest_checks(state, "disk").unwrap();
        let check = checks.iter().find(|stored| stored.check.target == point).unwrap();
        assert_eq!(check.check.level, Level::Warning);
        let run = &record::recent(state, "disk", 1).unwrap()[0];
        assert_eq!((run.job.as_str(), run.end.as_ref().unwrap().exit), ("mounts", 1));
    });
}

#[test]
fn a_state_that_cannot_be_used_costs_the_memory_only() {
    let bench = Bench::new();
    fs::write(bench.path("state"), "not a folder").unwrap();
    let (code, out, err) = bench.disk(&["/", "--nagios"]);
    assert!(code < 3 && out.starts_with("DISK "), "{code} {out}");
    assert!(err.contains("this run is not recorded"), "{err}");
}

#[test]
fn runs_at_the_same_time_wait_for_each_other_and_find_the_same() {
    let bench = Bench::new();
    let start = || bench.command(&["/", "--nagios"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let running: Vec<_> = (0..12).map(|_| start()).collect();
    for child in running {
        let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(out.contains("'/ free'=") && !out.contains("not answering"), "{out}");
    }
}

#[test]
fn whether_the_next_backup_and_a_drill_fit_is_told() {
    alone("command::whether_the_next_backup_and_a_drill_fit_is_told", |bench| {
        let repository = bench.mount_tmpfs("backups", "size=10m");
        let scratch = bench.mount_tmpfs("scratch", "size=10m");
        bench.configure("[schedule.drill]\nat = \"Sun 04:00\"\ncommand = [\"restore\", \"--verify\"]\n");
        let recorder = Recorder::open(&bench.path("state")).0;
        let backup = |added: u64, bytes: u64| {
            let stats =
                json!({ "bytes": bytes, "files": 9, "entries": 10, "new_files": 1, "added_bytes": added });
            let figures = json!({ "repository": format!("{repository}/r"), "stats": stats });
            let clock = reliab_common::clock::SystemClock;
            RunRecord::start(&recorder, "backup", "j", None, &clock)
                .finish(Exit::Done, &figures, &Facts::default())
                .unwrap();
        };
        let check = || {
            let output = bench.command(&["--json"]).env("TMPDIR", &scratch).output().unwrap();
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let level = |kind: &str| {
                let sizes = document["sizes"].as_array().unwrap();
                let found = sizes.iter().find(|size| size["kind"] == kind).unwrap();
                found["level"].as_str().unwrap().to_owned()
            };
            (level("backup"), level("drill"))
        };
        backup(1 << 20, 2 << 20);
        assert_eq!(check(), ("ok".into(), "ok".into()));
        backup(9 << 20, 20 << 20);
        assert_eq!(check(), ("critical".into(), "warning".into()));
        let (_, out, _) = bench.disk(&["--quiet"]);
        assert!(
            out.contains(&format!("CRITICAL: backup {repository}/r: needs about 10.8 MiB of 10.0 MiB")),
            "{out}"
        );
    });
}

#[test]
fn configured_directories_and_sqlite_files_are_watched() {
    let bench = Bench::new();
    crate::support::need("sqlite3", "sqlite3");
    bench.folder("logs");
    fs::write(bench.path("logs/log"), vec![1; 200_000]).unwrap();
    let db = bench.text("app.db");
    let sql =
        "CREATE TABLE t (x); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
               INSERT INTO t SELECT hex(randomblob(50)) FROM n; DELETE FROM t WHERE rowid > 100;";
    run("sqlite3", &[&db, sql]);
    bench.configure(
        "[disk]\nexclude = [\"/*\"]\n[[disk.directory]]\npath = \"logs\"\nwarn = \"100KiB\"\n\
         [[disk.sqlite]]\npath = \"app.db\"\n[[disk.sqlite]]\npath = \"absent.db\"\n",
    );
    let document = bench.json(&[]);
    let sizes = document["sizes"].as_array().unwrap();
    assert_eq!((sizes[0]["kind"].as_str(), sizes[0]["level"].as_str()), (Some("directory"), Some("warning")));
    let pragma =
        |name: &str| run("sqlite3", &[&db, &format!("PRAGMA {name}")]).trim().parse::<u64>().unwrap();
    assert_eq!(sizes[1]["bytes"], pragma("page_count") * pragma("page_size"));
    assert_eq!(sizes[1]["free"], pragma("freelist_count") * pragma("page_size"));
    assert_eq!(sizes[2]["level"], "unknown");
    let (code, out, _) = bench.disk(&["--sqlite", &db, "--quick-check"]);
    assert!(code == 0 && out.contains("free pages, whole"), "{out}");
    let mut bytes = fs::read(&db).unwrap();
    bytes[4096..4200].fill(0xff);
    fs::write(&db, bytes).unwrap();
    let (code, _, err) = bench.disk(&["--sqlite", &db, "--quick-check"]);
    assert!(code == 2 && err.starts_with(&format!("error: {db}: ")), "{err}");
}

#[test]
fn directories_are_shown_the_largest_first() {
    let bench = Bench::new();
    for (name, bytes) in [("small", 10_000), ("large", 900_000), ("middle/inner", 100_000)] {
        bench.folder(&format!("data/{name}"));
        fs::write(bench.path(&format!("data/{name}/file")), vec![1; bytes]).unwrap();
    }
    let (code, out, _) = bench.disk(&["--dirs", "data", "--depth", "2", "--top", "3"]);
    assert_eq!(code, 0);
    let names: Vec<&str> = out.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert!(names[0].ends_with("DIRECTORY"), "{out}");
    assert_eq!(names[1..], ["large", "middle", "inner", "data"]);
}
