//! Golden command lines: what is printed on both streams, and the exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::{Bench, is_root};
use sha2::{Digest as _, Sha256};

/// A bench with `data` and one snapshot of it.
fn backed_up() -> Bench {
    let bench = Bench::new();
    bench.write("data/app.log", "started\n");
    bench.write("data/etc/app.conf", "port = 80\n");
    assert!(bench.run(&["backup", "--host", "web1"]).status.success());
    bench
}

#[test]
fn help_of_every_command() {
    let mut bench = Bench::new();
    bench.show(&["--help"]);
    for command in [
        "backup",
        "restore",
        "verify",
        "snapshots",
        "ls",
        "find",
        "diff",
        "manifest",
        "export",
        "probe",
        "disk",
        "heartbeat",
        "status",
        "install",
        "alert",
        "doctor",
        "config",
        "completions",
        "man",
    ] {
        bench.show(&[command, "-h"]);
    }
    bench.compare("help.txt");
}

#[test]
fn the_main_commands_print_their_results() {
    let mut bench = Bench::new();
    bench.write("data/app.log", "started\n");
    bench.write("data/etc/app.conf", "port = 80\n");
    bench.show(&["backup", "--host", "web1", "--dry-run"]);
    bench.show(&["backup", "--host", "web1"]);
    bench.show(&["backup", "--host", "web1", "--quiet"]);
    bench.write("data/new", "");
    bench.show(&["backup", "--host", "web1", "--tag", "nightly"]);
    bench.show(&["restore", "--verify"]);
    bench.show(&["restore", "latest:data/etc", "--target", "out"]);
    bench.show(&["verify"]);
    bench.show(&["verify", "--sample", "100%"]);
    bench.show(&["verify", "--level", "structure"]);
    assert_eq!(fs::read_to_string(bench.path("out/data/etc/app.conf")).unwrap(), "port = 80\n");
    bench.compare("main.txt");
}

#[test]
fn commands_that_look_into_a_repository() {
    let mut bench = backed_up();
    bench.write("data/app.log", "started\nstopped\n");
    bench.write("data/new", "");
    fs::remove_dir_all(bench.path("data/etc")).unwrap();
    assert!(bench.run(&["backup", "--host", "web1", "--tag", "nightly"]).status.success());
    bench.show(&["snapshots", "--tag", "none"]);
    let listed = bench.run(&["snapshots", "--tag", "nightly", "--latest", "5", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(listed["snapshots"][0]["stats"]["gone"], 2);
    bench.show(&["ls"]);
    bench.show(&["ls", "latest:data/app.log"]);
    bench.show(&["find", "*.conf"]);
    bench.show(&["find", "nothing-like-it"]);
    let first = first_snapshot(&bench);
    bench.show(&["diff", &first, "latest"]);
    bench.show(&["diff", &first, "latest", "--json"]);
    let sums = bench.run(&["manifest", &first]);
    let text = String::from_utf8(sums.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    bench.show(&["manifest", &first, "--format", "b3sums"]);
    bench.compare("look.txt");
}

fn first_snapshot(bench: &Bench) -> String {
    let names = fs::read_dir(bench.path("backups/snapshots")).unwrap();
    let oldest = names.map(Result::unwrap).min_by_key(|file| file.metadata().unwrap().modified().unwrap());
    oldest.unwrap().file_name().into_string().unwrap()[..12].to_owned()
}

#[test]
fn bad_command_lines() {
    let mut bench = backed_up();
    bench.show(&["restore", "latest"]);
    bench.show(&["bakcup"]);
    bench.show(&["backup", "--compression", "20"]);
    bench.show(&["backup", "--exclude-larger-than", "much"]);
    bench.show(&["verify", "--sample", "lots"]);
    bench.show(&["verify", "--sample", "0"]);
    bench.show(&["verify", "--sample", "5%", "--level", "structure"]);
    bench.show(&["export", "-o", "data.zip"]);
    bench.write("data.tar", "somebody's");
    bench.show(&["export", "-o", "data.tar"]);
    bench.show(&["export", "--force"]);
    bench.show(&["export", "-o", "data", "--force"]);
    bench.show(&["restore", "--target", "data", "--dry-run"]);
    bench.show(&["backup", "--repo", "s3://bucket/x"]);
    bench.show(&["backup", "--exclude", "[z-a]"]);
    bench.show(&["restore", "--target", "out", "--include", "[z-a]"]);
    bench.show(&["find", "[z-a]"]);
    bench.show(&["backup", "--exclude-from", "absent"]);
    bench.show(&["backup", "--json", "--compression", "20"]);
    assert_eq!(fs::read_to_string(bench.path("data.tar")).unwrap(), "somebody's");
    assert!(bench.run(&["export", "-o", "data.tar", "--force"]).status.success());
    assert!(fs::metadata(bench.path("data.tar")).unwrap().len() > 1000);
    bench.compare("usage.txt");
}

#[test]
fn bad_repositories() {
    let mut bench = backed_up();
    bench.write("file", "not a folder");
    bench.write("foreign/photo.jpg", "");
    bench.show(&["snapshots", "--repo", "absent"]);
    bench.show(&["backup", "--repo", "file"]);
    bench.show(&["ls", "--repo", "file"]);
    bench.show(&["backup", "--repo", "foreign"]);
    let config = fs::read_to_string(bench.path("backups/repository.json")).unwrap();
    let (text, _) = config.split_once(",\"sha256\"").unwrap();
    let newer = text.replace("\"version\":1", "\"version\":2");
    let sum = hex::encode(Sha256::digest(&newer));
    bench.write("backups/repository.json", &format!("{newer},\"sha256\":\"{sum}\"}}\n"));
    bench.show(&["backup"]);
    bench.show(&["ls", "--json"]);
    bench.write("backups/repository.json", "{}");
    bench.show(&["backup"]);
    fs::remove_file(bench.path("backups/repository.json")).unwrap();
    bench.show(&["backup"]);
    bench.compare("repositories.txt");
}

#[test]
fn bad_sources_targets_and_snapshots() {
    let mut bench = backed_up();
    bench.show(&["backup", "absent"]);
    bench.show(&["backup", "absent", "--repo", "never-made"]);
    assert!(!bench.path("never-made").exists());
    bench.write("full/file", "");
    bench.show(&["restore", "--target", "full"]);
    bench.show(&["restore", "--target", "full/file"]);
    bench.show(&["restore", "0000", "--target", "out"]);
    bench.show(&["ls", "yesterday"]);
    bench.show(&["ls", "latst"]);
    bench.show(&["ls", "abc"]);
    bench.show(&["ls", "1999-12-31"]);
    bench.show(&["restore", "--target", "out", "--include", "absent"]);
    bench.show(&["restore", "--target", "out", "--include", "absent", "--dry-run"]);
    bench.show(&["restore", "--target", "out", "--exclude", "data"]);
    let several = ["restore", "--include", "app.log", "--include", "data/lgs", "--include", "!absent"];
    bench.show(&[&several[..], &["--target", "out", "--dry-run"]].concat());
    bench.show(&[&several[..], &["--verify"]].concat());
    bench.show(&["restore", "latest:data/absent", "--target", "out", "--dry-run"]);
    bench.show(&["ls", "latest:data/absent"]);
    bench.show(&["ls", "latest:/etc/"]);
    bench.show(&["restore", "--json", "0000", "--target", "out"]);
    fs::remove_dir_all(bench.path("data")).unwrap();
    fs::create_dir(bench.path("data")).unwrap();
    bench.show(&["backup", "--host", "web1"]);
    bench.show(&["backup", "--host", "web1", "--allow-empty"]);
    bench.write("one/file", "");
    bench.write("other/file", "");
    assert!(bench.run(&["backup", "--host", "web1", "one", "other"]).status.success());
    fs::remove_file(bench.path("other/file")).unwrap();
    bench.show(&["backup", "--host", "web1", "one", "other"]);
    bench.compare("sources.txt");
}

#[test]
fn a_bad_configuration_is_told_with_line_and_column() {
    let mut bench = Bench::new();
    bench.write("reliab.toml", "[backup]\nsource = [\"data\"]\n");
    bench.show(&["backup"]);
    bench.show(&["backup", "--config", "absent.toml"]);
    bench.compare("configuration.txt");
}

#[test]
fn damage_is_told_and_exits_with_4() {
    let mut bench = backed_up();
    let packs = fs::read_dir(bench.path("backups/packs")).unwrap().next().unwrap().unwrap().path();
    let pack = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    // The magic number of the first frame: what zstd says of other bytes depends on times in the content.
    bytes[0] ^= 1;
    fs::write(&pack, bytes).unwrap();
    for args in [&["verify"][..], &["restore", "--verify"], &["restore", "--target", "out"]] {
        let output = bench.show(args);
        assert_eq!(output.status.code(), Some(4), "{args:?}");
    }
    fs::remove_file(&pack).unwrap();
    bench.show(&["verify"]);
    bench.show(&["ls"]);
    bench.compare("damage.txt");
}

#[test]
fn what_may_not_be_read_or_written_is_told() {
    let mut bench = backed_up();
    bench.write("data/secret", "x");
    let work = bench.path("");
    let set_mode =
        |path: &str, mode| fs::set_permissions(work.join(path), fs::Permissions::from_mode(mode)).unwrap();
    set_mode("data/secret", 0o000);
    fs::create_dir(bench.path("theirs")).unwrap();
    set_mode("theirs", 0o777);
    set_mode("backups", if is_root() { 0o700 } else { 0o000 });
    let partial = bench.show_as_nobody(&["backup", "--host", "web1", "--repo", "theirs/backups"]).unwrap();
    assert_eq!(partial.status.code(), Some(3));
    bench.show_as_nobody(&["restore", "--repo", "theirs/backups", "--target", "theirs/out"]);
    bench.show_as_nobody(&["backup"]);
    bench.show_as_nobody(&["snapshots"]);
    // A folder that cannot be listed, or whose files cannot be looked at, is not taken for an empty one.
    bench.write("closed/file", "x");
    assert!(bench.show_as_nobody(&["backup", "closed", "--repo", "theirs/b"]).unwrap().status.success());
    let closed = if is_root() { [0o700, 0o744] } else { [0o000, 0o444] };
    for mode in closed {
        set_mode("closed", mode);
        let refused = bench.show_as_nobody(&["backup", "closed", "--repo", "theirs/b"]).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        bench.show_as_nobody(&["backup", "closed", "--repo", "theirs/b", "--allow-empty"]).unwrap();
    }
    set_mode("closed", 0o755);
    bench.compare("permission.txt");
}

#[test]
fn a_second_run_of_a_job_is_refused() {
    let mut bench = backed_up();
    let state = fs::read_dir(bench.path("../state")).unwrap().map(|item| item.unwrap().path());
    let lock = state.into_iter().find(|path| path.extension().is_some_and(|end| end == "lock")).unwrap();
    let held = fs::File::open(lock).unwrap();
    held.lock().unwrap();
    let output = bench.show(&["backup", "--host", "web1"]);
    assert_eq!(output.status.code(), Some(5));
    // By any other name it is the same job.
    std::os::unix::fs::symlink("backups", bench.path("link")).unwrap();
    let whole = bench.path("data");
    for (repository, source) in
        [("./backups/", "data/"), ("link", "./data"), ("backups", whole.to_str().unwrap())]
    {
        let output = bench.run(&["backup", "--repo", repository, source]);
        assert_eq!(output.status.code(), Some(5), "{repository} {source}");
    }
    held.unlock().unwrap();
    assert!(bench.run(&["backup", "--host", "web1"]).status.success());
    bench.compare("locked.txt");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let mut bench = backed_up();
    let small = bench.path("small");
    fs::create_dir(&small).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&small).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    }
    let unmount = Unmount(small);
    assert!(bench.run(&["backup", "--repo", "small/b"]).status.success());
    let noise: Vec<u8> =
        (0..20_000u32).flat_map(|n| <[u8; 32]>::from(Sha256::digest(n.to_le_bytes()))).collect();
    fs::write(bench.path("data/noise"), noise).unwrap();
    bench.show(&["backup", "--repo", "small/b"]);
    bench.show(&["verify", "--repo", "small/b"]);
    bench.show(&["restore", "--verify", "--repo", "small/b"]);
    bench.show(&["restore", "--verify", "--repo", "backups", "--scratch", "small"]);
    assert!(bench.run(&["backup"]).status.success());
    bench.show(&["restore", "--verify", "--scratch", "small"]);
    assert!(fs::read_dir(bench.path("small")).unwrap().count() == 1, "the scratch folder is removed");
    bench.show(&["restore", "--target", "small/out"]);
    bench.show(&["restore", "--target", "small/out", "--overwrite", "if-changed"]);
    drop(unmount);
    bench.compare("full-disk.txt");
}

/// Unmounts a folder when dropped.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_closed_pipe_is_quiet() {
    let bench = Bench::new();
    for number in 0..5000 {
        bench.write(&format!("data/a-name-that-is-long-enough-to-fill-a-pipe-{number}"), "");
    }
    assert!(bench.run(&["backup"]).status.success());
    for args in [&["ls"][..], &["ls", "--json"], &["find", "*"], &["manifest"], &["export"]] {
        let mut child = bench.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn every_json_document_parses_and_names_its_schema() {
    let bench = backed_up();
    for (args, exit) in [
        (&["backup", "--json"][..], 0),
        (&["restore", "--verify", "--json"], 0),
        (&["verify", "--json"], 0),
        (&["snapshots", "--json"], 0),
        (&["ls", "--json"], 0),
        (&["find", "*", "--json"], 0),
        (&["diff", "latest", "latest", "--json"], 0),
        (&["manifest", "--json"], 0),
        (&["export", "--json", "-o", "x.tar"], 0),
        (&["completions", "bash", "--json"], 0),
        (&["man", "--json"], 0),
        (&["man", "pages", "--json"], 0),
        (&["man", "data/app.log/pages", "--json"], 1),
        (&["restore", "--target", "data", "--dry-run", "--json"], 2),
        (&["backup", "absent", "--json"], 1),
        (&["restore", "--json"], 2),
        (&["export", "--json"], 2),
    ] {
        let output = bench.run(args);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], format!("reliab.{}.v1", args[0]), "{args:?}");
        assert_eq!(document["exit"], exit, "{args:?}");
        assert_eq!(output.status.code(), Some(exit), "{args:?}");
        assert_eq!(document["error"].is_string(), exit != 0, "{args:?}");
    }
}

#[test]
fn attributes_that_a_target_does_not_take_are_told_and_the_exit_is_3() {
    let bench = Bench::new();
    bench.write("data/file", "with an attribute");
    let file = bench.path("data/file");
    let set = Command::new("setfattr").args(["-n", "user.note", "-v", "kept"]).arg(&file).output();
    let small = bench.path("small");
    fs::create_dir(&small).unwrap();
    // A file system that knows no attributes.
    let mounted = Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&small).output();
    let is_done = |output: std::io::Result<std::process::Output>| output.is_ok_and(|o| o.status.success());
    if !is_done(mounted) {
        eprintln!("skipped: no ramfs can be mounted here");
        return;
    }
    let _unmount = Unmount(small);
    if !is_done(set) {
        eprintln!("skipped: no attribute can be set here");
        return;
    }
    assert!(bench.run(&["backup"]).status.success());
    for over in [&[][..], &["--overwrite", "always"]] {
        let args = [&["restore", "--target", "small/out"][..], over].concat();
        let output = bench.run(&args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains("restored in part: data/file: its attribute user.note was not set"), "{told}");
        assert_eq!(fs::read_to_string(bench.path("small/out/data/file")).unwrap(), "with an attribute");
    }
}

#[test]
fn completions_and_manual_pages_are_made_from_the_same_definitions() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = bench.run(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("exclude-caches"), "{shell}");
    }
    assert!(bench.run(&["man", "pages"]).status.success());
    let page = fs::read_to_string(bench.path("pages/reliab-restore.1")).unwrap();
    assert!(page.contains("scratch"), "{page}");
    assert_eq!(fs::read_dir(bench.path("pages")).unwrap().count(), 31);
}
