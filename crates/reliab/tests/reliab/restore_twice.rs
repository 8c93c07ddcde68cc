//! Two restores into one target, and what a user who may not read everything is told of a restore.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use reliab_testkit::tree::{Scratch, set_mode};
use rustix::fs::{FlockOperation, flock};

use crate::support::is_root;

/// A user without rights, whatever it is called.
const USER: u32 = 65534;

fn reliab(program: &Path, place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(place);
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command
}

fn run(place: &Path, args: &[&str]) -> Output {
    reliab(Path::new(env!("CARGO_BIN_EXE_reliab")), place, args).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_restore_into_a_target_that_another_one_writes_into_is_refused_with_exit_5() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    fs::write(place.join("data/file"), "content").unwrap();
    assert!(run(place, &["backup", "data", "--quiet"]).status.success());
    let restore = ["restore", "--target", "out", "--overwrite", "always", "--quiet"];
    fs::create_dir(place.join("out")).unwrap();
    let held = fs::File::open(place.join("out")).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = run(place, &restore);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    assert!(told(&refused).contains("out: another restore is writing into it; wait for it to end"));
    assert_eq!(fs::read_dir(place.join("out")).unwrap().count(), 0);
    drop(held);
    let done = run(place, &restore);
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(fs::read_to_string(place.join("out/data/file")).unwrap(), "content");
}

#[test]
fn of_restores_at_the_same_time_each_is_whole_or_refused() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    let contents = [vec![1; 6_000_000], vec![2; 6_000_000]];
    let mut ids = Vec::new();
    for content in &contents {
        fs::write(place.join("data/large"), content).unwrap();
        let made = run(place, &["backup", "data", "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        ids.push(report["snapshot"].as_str().unwrap().to_owned());
    }
    for _ in 0..5 {
        let runs: Vec<_> = ids
            .iter()
            .map(|id| {
                let args = ["restore", id, "--target", "out", "--overwrite", "always", "--quiet"];
                let mut run = reliab(Path::new(env!("CARGO_BIN_EXE_reliab")), place, &args);
                run.stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        let codes: Vec<_> = runs.into_iter().map(|mut run| run.wait().unwrap().code().unwrap()).collect();
        let now = fs::read(place.join("out/data/large")).unwrap();
        assert!(codes.contains(&0) && codes.iter().all(|code| [0, 5].contains(code)), "{codes:?}");
        // Of both, if they came one after the other, either was the last.
        let done = |number: usize| codes[number] == 0 && now == contents[number];
        assert!(done(0) || done(1), "{codes:?}: neither of what was restored");
    }
}

#[test]
fn what_may_not_be_read_back_is_not_verified_and_no_damage() {
    // Nobody else can make such a snapshot.
    assert!(is_root(), "this test must be run as root");
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let data = place.join("data");
    fs::create_dir_all(data.join("closed/inner")).unwrap();
    for name in ["closed/inner/file", "closed/other", "open", "unreadable"] {
        fs::write(data.join(name), name).unwrap();
    }
    for (name, mode) in [("", 0o755), ("data", 0o755), ("data/closed", 0o000), ("data/unreadable", 0o000)] {
        set_mode(&place.join(name), mode).unwrap();
    }
    let changed = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(place).status().unwrap();
    assert!(changed.success());
    assert!(run(place, &["backup", "data", "--quiet"]).status.success());
    let changed = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(place).status().unwrap();
    assert!(changed.success());
    // Where that user may run it.
    let program = place.join("reliab");
    fs::copy(env!("CARGO_BIN_EXE_reliab"), &program).unwrap();
    let run = |args: &[&str]| {
        let mut command = reliab(&program, place, args);
        command.env("HOME", place).env_remove("XDG_CONFIG_HOME").uid(USER).gid(USER).output().unwrap()
    };
    let restored = run(&["restore", "--target", "out", "--verify"]);
    let rehearsed = run(&["restore", "--verify", "--scratch", "."]);
    for done in [restored, rehearsed] {
        let said = told(&done) + &String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(3), "{said}");
        for path in ["data/closed", "data/unreadable"] {
            let line = format!("not verified: {path}: cannot be read back: Permission denied");
            assert!(said.contains(&line), "{said}");
        }
        assert!(said.contains("2 entries not verified, the rest is as it was"), "{said}");
        assert!(!said.contains("wrong") && !said.contains("missing"), "{said}");
    }
    assert_eq!(fs::metadata(place.join("out/data/closed")).unwrap().permissions().mode() & 0o7777, 0);
    let mut left = fs::read_dir(place).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    assert!(!left.any(|name| name.starts_with("reliab-rehearsal-")), "the scratch folder is gone");
}

#[test]
fn a_target_made_for_nothing_is_gone_again() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    fs::write(place.join("data/file"), "content").unwrap();
    assert!(run(place, &["backup", "data", "--quiet"]).status.success());
    let output = run(place, &["restore", "--target", "out", "--include", "absent"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(!place.join("out").exists());
}
