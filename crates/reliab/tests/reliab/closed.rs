//! What may not be read or written, and is nobody's damage.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use reliab_testkit::tree::{Scratch, set_mode};

use crate::support::is_root;

/// A user without rights, whatever it is called.
const USER: u32 = 65534;

fn run(program: &Path, place: &Path, args: &[&str], user: Option<u32>) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.args(args).current_dir(place).env("HOME", place).env_remove("XDG_CONFIG_HOME");
    command.env("RELIAB_STATE_DIR", "state").env("RELIAB_CACHE_DIR", "cache");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[test]
fn a_snapshot_of_somebody_else_is_no_damage_and_the_others_are_used() {
    assert!(is_root(), "this test must be run as root");
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    set_mode(place, 0o755).unwrap();
    let program = place.join("program");
    fs::copy(env!("CARGO_BIN_EXE_reliab"), &program).unwrap();
    fs::create_dir(place.join("data")).unwrap();
    fs::write(place.join("data/file"), "content").unwrap();
    let mut ids = Vec::new();
    for host in ["one", "two"] {
        let (code, said) = run(&program, place, &["backup", "data", "--host", host, "--json"], None);
        assert_eq!(code, Some(0), "{said}");
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        ids.push(report["snapshot"].as_str().unwrap().to_owned());
    }
    let chown = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(place).status().unwrap();
    assert!(chown.success());
    let closed = place.join("backups/snapshots").join(&ids[1]);
    std::os::unix::fs::chown(&closed, Some(0), Some(0)).unwrap();
    set_mode(&closed, 0o600).unwrap();
    let run = |args: &[&str]| run(&program, place, args, Some(USER));
    for (args, expected) in [
        (&["snapshots"][..], 3),
        (&["ls", "latest"], 1),
        (&["ls", &ids[1]], 1),
        (&["verify"], 1),
        (&["restore", &ids[0], "--target", "out"], 0),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, Some(expected), "{args:?}: {said}");
        assert!(said.contains("Permission denied") && !said.contains("damaged"), "{args:?}: {said}");
    }
    assert_eq!(fs::read_to_string(place.join("out/data/file")).unwrap(), "content");
}

#[test]
fn a_cache_that_is_named_from_here_may_fail_as_any_other() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let program = Path::new(env!("CARGO_BIN_EXE_reliab"));
    fs::create_dir(place.join("data")).unwrap();
    fs::write(place.join("data/file"), "content").unwrap();
    let backup = || run(program, place, &["backup", "data"], None);
    assert_eq!(backup().0, Some(0));
    // A folder in the place of the file, as it cannot be replaced by anything but a hand.
    let found = Command::new("find").args(["cache", "-name", "entries"]).current_dir(place).output().unwrap();
    let entries = place.join(String::from_utf8(found.stdout).unwrap().trim_end());
    fs::remove_file(&entries).unwrap();
    fs::create_dir_all(entries.join("in the way")).unwrap();
    fs::write(place.join("data/file"), "the second").unwrap();
    let (code, said) = backup();
    assert_eq!(code, Some(0), "{said}");
}
