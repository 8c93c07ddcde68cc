//! The dry run of a restore as a user meets it: the paths, the totals, and the refusals of the run itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::support::{Bench, is_root};

fn told(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// A snapshot, restored into `out`, of which one file is kept, one was changed, one is gone and one became a folder.
fn bench() -> Bench {
    let bench = Bench::new();
    for name in ["kept", "changed", "gone", "now a folder", "inner/file"] {
        bench.write(&format!("data/{name}"), name);
    }
    assert!(bench.run(&["backup", "--quiet"]).status.success());
    assert!(bench.run(&["restore", "--target", "out", "--quiet"]).status.success());
    bench.write("out/data/changed", "by somebody");
    fs::remove_file(bench.path("out/data/gone")).unwrap();
    fs::remove_file(bench.path("out/data/now a folder")).unwrap();
    bench.write("out/data/now a folder/of somebody", "");
    bench
}

const OVER: [&str; 5] = ["restore", "--target", "out", "--overwrite", "if-changed"];

#[test]
fn what_would_become_of_each_path_is_told_in_lines_and_in_a_document() {
    let bench = bench();
    let output = bench.run(&[&OVER[..], &["--dry-run", "--verbose"]].concat());
    let text = told(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    let lines = [
        "keep       data/",
        "overwrite  data/changed",
        "create     data/gone",
        "keep       data/inner/",
        "keep       data/inner/file",
        "keep       data/kept",
        "refuse     data/now a folder",
    ];
    assert!(text.starts_with(&(lines.join("\n") + "\n")), "{text}");
    assert!(
        text.contains("error: would not be restored: data/now a folder: Directory not empty\n"),
        "{text}"
    );
    let summary = "\n  1 new, 1 overwritten, 2 folders there already; 2 files kept; 1 entry not restored\n";
    assert!(text.contains("dry run: would restore snapshot ") && text.contains(summary), "{text}");
    let output = bench.run(&[&OVER[..], &["--dry-run", "--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(["created", "overwritten", "existing_dirs", "kept", "entries"].map(of), [1, 1, 2, 2, 4]);
    let paths = report["paths"].as_array().unwrap();
    let shown =
        |path: &Value| format!("{:<11}{}", path["action"].as_str().unwrap(), path["path"].as_str().unwrap());
    let expected = lines.map(|line| line.trim_end_matches('/').to_owned());
    assert_eq!(paths.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(report["skipped"][0]["path"], "data/now a folder");
    assert_eq!(paths[1]["type"], "file");
    assert_eq!(fs::read_to_string(bench.path("out/data/changed")).unwrap(), "by somebody");
    // The run itself says the same, and has no list.
    let output = bench.run(&[&OVER[..], &["--json"]].concat());
    let real: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["entries", "files", "dirs", "bytes", "kept", "skipped", "exit"] {
        assert_eq!(real[key], report[key], "{key}");
    }
    assert!(real.get("paths").is_none() && real.get("created").is_none(), "{real}");
}

#[test]
fn a_dry_run_is_refused_as_the_run_would_be() {
    let bench = bench();
    bench.write("file", "");
    let refused = |args: &[&str], code: i32| {
        let dry = bench.run(&[&["restore", "--dry-run"], args].concat());
        let real = bench.run(&[&["restore"], args].concat());
        assert_eq!((dry.status.code(), told(&dry)), (real.status.code(), told(&real)), "{args:?}");
        assert_eq!(dry.status.code(), Some(code), "{}", told(&dry));
    };
    refused(&["--target", "out"], 2);
    refused(&["--target", "file"], 2);
    refused(&["--target", "file/below"], 1);
    refused(&["--target", "backups/below"], 2);
    refused(&["--target", ""], 2);
    let held = fs::File::open(bench.path("out")).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(&["--target", "out", "--overwrite", "always"], 5);
}

#[test]
fn a_dry_run_knows_where_this_user_may_not_write() {
    assert!(is_root(), "this test must be run as root");
    let mut bench = bench();
    let set_mode = |path: &str, mode| {
        fs::set_permissions(bench.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    // Theirs is the target alone.
    let readable = Command::new("chmod").args(["-R", "a+rX"]).arg(bench.path("backups")).status().unwrap();
    assert!(readable.success());
    for (path, mode) in [("out", 0o777), ("out/data", 0o755), ("out/data/inner", 0o777)] {
        set_mode(path, mode);
    }
    fs::remove_file(bench.path("out/data/inner/file")).unwrap();
    let mut same = |args: &[&str], code: i32| {
        let dry = bench.show_as_nobody(&[args, &["--dry-run", "--json"]].concat()).unwrap();
        let real = bench.show_as_nobody(&[args, &["--json"]].concat()).unwrap();
        assert_eq!((dry.status.code(), real.status.code()), (Some(code), Some(code)), "{}", told(&real));
        let [dry, real] = [dry, real].map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap());
        for key in ["error", "entries", "files", "bytes", "kept", "skipped"] {
            assert_eq!(dry[key], real[key], "{key}: {dry:#} {real:#}");
        }
        dry
    };
    let dry = same(&["restore", "--target", "out", "--overwrite", "never"], 3);
    assert_eq!((&dry["skipped"][0]["path"], &dry["created"]), (&"data/gone".into(), &1.into()), "{dry:#}");
    assert_eq!(dry["skipped"][0]["reason"], "Permission denied");
    same(&["restore", "--target", "new"], 1);
    same(&["restore", "--target", "data", "--overwrite", "always"], 1);
}

/// A dry run has neither done a job's work nor failed to do it.
#[test]
fn dry_runs_are_not_recorded() {
    let bench = Bench::new();
    bench.write("data/file", "x");
    let jobs = || {
        let report: Value = serde_json::from_slice(&bench.run(&["status", "--json"]).stdout).unwrap();
        let jobs = report["jobs"].as_array().unwrap().clone();
        jobs.iter()
            .map(|job| [&job["tool"], &job["outcome"]].map(|value| value.as_str().unwrap().to_owned()))
            .collect()
    };
    let done = |args: &[&str], code: i32| {
        let output = bench.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", told(&output));
    };
    done(&["backup", "absent"], 1);
    done(&["backup", "--dry-run"], 0);
    let recorded: Vec<[String; 2]> = jobs();
    assert_eq!(recorded, [["backup", "failed"]], "a dry run makes nothing good");
    done(&["backup"], 0);
    done(&["backup", "absent", "--dry-run"], 1);
    done(&["restore", "--target", "data", "--dry-run"], 2);
    done(&["restore", "--target", "out", "--dry-run"], 0);
    let recorded: Vec<[String; 2]> = jobs();
    assert_eq!(recorded, [["backup", "done"]]);
    assert!(!bench.path("out").exists());
}
