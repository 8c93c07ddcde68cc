//! What reliab does not take on trust: a configuration that others could have written, and an empty folder where a
//! repository was.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Output;

use crate::support::{Bench, is_root};
use serde_json::Value;

/// The user and group `nobody`.
const NOBODY: Option<u32> = Some(65_534);

/// A bench whose configuration runs a command as soon as `reliab alert` sees it.
fn with_command() -> Bench {
    let bench = Bench::new();
    let config = "[backup]\nhost = \"h\"\n[channel.c]\ntype = \"command\"\ncommand = [\"touch\", \"ran\"]\n\
                  [[rule]]\nname = \"r\"\nwhen = \"heartbeat h missing 30m\"\n";
    bench.write("reliab.toml", config);
    bench
}

fn set_mode(bench: &Bench, path: &str, mode: u32) {
    fs::set_permissions(bench.path(path), Permissions::from_mode(mode)).unwrap();
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every kind of command refuses the file, names it, the reason and the next step, and runs nothing of it.
fn assert_refused(bench: &Bench, reason: &str, mend: &str) {
    let file = bench.path("reliab.toml").display().to_string();
    for (args, code) in [
        (&["config", "check"][..], 2),
        (&["backup", "absent"], 2),
        (&["alert"], 2),
        (&["alert", "test", "c"], 2),
        (&["status"], 3),
        (&["disk"], 3),
    ] {
        let output = bench.run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let expected = format!(
            "error: cannot use the configuration {file}, which was found, not named: {reason}; if you trust what it says, \
             name it with --config, or {mend}
"
        );
        assert!(said.ends_with(&expected), "{args:?}: {said}");
    }
    let doctor = bench.run(&["doctor"]);
    assert!(String::from_utf8(doctor.stdout).unwrap().contains(reason));
    assert!(!bench.path("ran").exists());
}

/// Who names the file vouches for it.
fn assert_taken_when_named(bench: &Bench) {
    let shown = bench.run(&["config", "show", "--config", "reliab.toml"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    assert!(String::from_utf8(shown.stdout).unwrap().contains("host = \"h\"\n"));
    let by_variable =
        bench.command(&["config", "show"]).env("RELIAB_CONFIG", "reliab.toml").output().unwrap();
    assert!(by_variable.status.success(), "{}", stderr(&by_variable));
}

#[test]
fn a_configuration_that_all_may_write_is_used_only_when_it_is_named() {
    let bench = with_command();
    assert!(bench.run(&["config", "show"]).status.success());
    set_mode(&bench, "reliab.toml", 0o666);
    assert_refused(&bench, "others may write it (mode 666)", "`chmod go-w` it");
    assert_taken_when_named(&bench);
    assert!(bench.run(&["alert", "test", "c", "--config", "reliab.toml"]).status.success());
    assert!(bench.path("ran").exists());
    set_mode(&bench, "reliab.toml", 0o664);
    assert!(bench.run(&["config", "show"]).status.success());
}

#[test]
fn a_configuration_that_others_can_replace_is_used_only_when_it_is_named() {
    let bench = with_command();
    set_mode(&bench, "", 0o777);
    assert_refused(&bench, "others can replace it in its folder (mode 777)", "`chmod o-w` the folder");
    assert_taken_when_named(&bench);
    set_mode(&bench, "", 0o1777);
    assert!(bench.run(&["config", "show"]).status.success());
}

#[test]
fn a_configuration_of_another_user_is_used_only_when_it_is_named() {
    if !is_root() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    let bench = with_command();
    let file = bench.path("reliab.toml");
    let (reason, mend) = ("it belongs to user 65534", "`chown -h 0` it");
    chown(&file, NOBODY, NOBODY).unwrap();
    assert_refused(&bench, reason, mend);
    assert_taken_when_named(&bench);
    // A link of theirs to a file of root's.
    fs::rename(&file, bench.path("other.toml")).unwrap();
    chown(bench.path("other.toml"), Some(0), Some(0)).unwrap();
    std::os::unix::fs::symlink("other.toml", &file).unwrap();
    assert!(bench.run(&["config", "show"]).status.success());
    std::os::unix::fs::lchown(&file, NOBODY, NOBODY).unwrap();
    assert_refused(&bench, reason, mend);
    // A pipe of theirs is refused too, and not waited for.
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    chown(&file, NOBODY, NOBODY).unwrap();
    assert_refused(&bench, reason, mend);
    fs::remove_file(&file).unwrap();
    fs::rename(bench.path("other.toml"), &file).unwrap();
    chown(bench.path(""), NOBODY, NOBODY).unwrap();
    let reason = "its folder belongs to user 65534, who can replace it";
    assert_refused(&bench, reason, "`chown 0` the folder");
    assert_taken_when_named(&bench);
}

/// A bench with `data` and one snapshot of it in `van`, which then is as a mount point without its disk.
fn vanished() -> Bench {
    let bench = Bench::new();
    bench.write("data/file", "x");
    assert!(bench.run(&["backup", "--repo", "van"]).status.success());
    unmount(&bench);
    bench
}

fn unmount(bench: &Bench) {
    fs::remove_dir_all(bench.path("van")).unwrap();
    fs::create_dir(bench.path("van")).unwrap();
}

fn is_empty(bench: &Bench) -> bool {
    fs::read_dir(bench.path("van")).unwrap().next().is_none()
}

#[test]
fn a_repository_that_vanished_is_not_begun_anew() {
    let bench = vanished();
    let whole = bench.path("van").display().to_string();
    for repo in ["van", "./van", &whole] {
        for more in [&[][..], &["--dry-run"]] {
            let output = bench.run(&[&["backup", "--repo", repo], more].concat());
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{repo}: {said}");
            assert!(said.contains(&format!("{whole}: a backup went there on 2")), "{said}");
            assert!(
                said.ends_with("is its disk mounted? To begin a new repository there: --new-repository\n"),
                "{said}"
            );
            assert!(is_empty(&bench));
        }
    }
    fs::remove_dir(bench.path("van")).unwrap();
    assert_eq!(bench.run(&["backup", "--repo", "van"]).status.code(), Some(1));
    assert!(!bench.path("van").exists());
}

#[test]
fn a_new_repository_is_begun_in_its_place_if_that_is_wanted() {
    let bench = vanished();
    let output = bench.run(&["backup", "--repo", "van", "--new-repository"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let created = format!("created the repository {}\n", bench.path("van").display());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&created));
    assert!(bench.run(&["backup", "--repo", "van"]).status.success());
}

#[test]
fn without_a_record_of_a_backup_there_a_repository_is_begun() {
    let bench = vanished();
    let created =
        |state: &str| bench.command(&["backup", "--repo", "van"]).env("RELIAB_STATE_DIR", state).output();
    assert!(created("../other-state").unwrap().status.success());
    unmount(&bench);
    bench.write("../broken/state.db", &"not a database, and longer than any header of one ".repeat(9));
    assert!(created("../broken").unwrap().status.success());
    // Of the same name in another folder is another repository, and a dry run left none behind.
    bench.write("elsewhere/data/file", "x");
    let elsewhere =
        |args: &[&str]| bench.command(args).current_dir(bench.path("elsewhere")).output().unwrap();
    for args in [&["backup", "--repo", "van", "--dry-run"][..], &["backup", "--repo", "van"]] {
        let output = elsewhere(args);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn the_creation_of_a_repository_is_told() {
    let bench = Bench::new();
    bench.write("data/file", "x");
    let text = |args: &[&str]| String::from_utf8(bench.run(args).stdout).unwrap();
    let json = |args: &[&str]| {
        let document: Value = serde_json::from_slice(&bench.run(args).stdout).unwrap();
        document["created_repository"].as_bool()
    };
    let whole = bench.path("backups").display().to_string();
    let said = text(&["backup", "--dry-run"]);
    assert!(said.starts_with(&format!("would create the repository {whole}\ndry run: ")), "{said}");
    assert_eq!(json(&["backup", "--dry-run", "--json"]), Some(true));
    assert!(!bench.path("backups").exists());
    let said = text(&["backup"]);
    assert!(said.starts_with(&format!("created the repository {whole}\nsnapshot ")), "{said}");
    assert!(text(&["backup"]).starts_with("snapshot "));
    assert_eq!(json(&["backup", "--json", "--repo", "b"]), Some(true));
    assert_eq!(json(&["backup", "--json", "--repo", "b"]), Some(false));
}
