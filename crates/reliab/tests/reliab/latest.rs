//! Which snapshot is the latest: by reliab and by `recover.sh`, whatever clocks said, and past one that is damaged.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::Bench;

/// A repository of one snapshot of `data/file`, whose content is "1".
fn backed_up(args: &[&str]) -> Bench {
    let bench = Bench::new();
    bench.write("data/file", "1");
    bench.write("data/other", "the same all the time");
    back_up(&bench, args);
    bench
}

fn back_up(bench: &Bench, args: &[&str]) -> Value {
    let output = bench.run(&[&["backup", "data", "--json"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn snapshots(bench: &Bench) -> Vec<PathBuf> {
    fs::read_dir(bench.path("backups/snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Gives the only snapshot another time, and the name that belongs to what it says then.
fn dated(bench: &Bench, year: &str) {
    let [path] = &snapshots(bench)[..] else { panic!() };
    let text = fs::read_to_string(path).unwrap();
    let (before, time) = text.split_once("\"time\":\"").unwrap();
    let text = format!("{before}\"time\":\"{year}{}", &time[4..]);
    fs::remove_file(path).unwrap();
    fs::write(path.with_file_name(hex::encode(Sha256::digest(&text))), text).unwrap();
}

fn damage(path: &PathBuf) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("data", "dada", 1)).unwrap();
}

fn by_script(bench: &Bench, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg("backups/recover.sh").args(args).current_dir(bench.path("")).output().unwrap()
}

/// The latest is whole, and its `data/file` has this content, by both ways.
fn latest_is(bench: &Bench, content: &str) {
    let output = bench.run(&["restore", "--target", "out", "--verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let script = by_script(bench, &["restore", "latest", "out2"]);
    assert_eq!(script.status.code(), Some(0), "{}", String::from_utf8_lossy(&script.stderr));
    for out in ["out", "out2"] {
        assert_eq!(fs::read_to_string(bench.path(out).join("data/file")).unwrap(), content, "{out}");
        fs::remove_dir_all(bench.path(out)).unwrap();
    }
}

#[test]
fn a_snapshot_from_the_future_is_older_than_what_came_after_it() {
    // Of the same host, which becomes the parent; and of another.
    for host in [&["--host", "web1"][..], &["--host", "web2"]] {
        let bench = backed_up(host);
        dated(&bench, "2131");
        bench.write("data/file", "2");
        let report = back_up(&bench, &["--host", "web1"]);
        let stats = &report["stats"];
        if host[1] == "web1" {
            assert_eq!(
                (&stats["changed_files"], &stats["unmodified_files"]),
                (&1.into(), &1.into()),
                "{report}"
            );
        }
        latest_is(&bench, "2");
        bench.write("data/file", "3");
        back_up(&bench, &["--host", "web1"]);
        latest_is(&bench, "3");
        let told = String::from_utf8(bench.run(&["ls"]).stderr).unwrap();
        assert!(told.contains("carries the time 2131-"), "{told}");
    }
}

#[test]
fn a_damaged_snapshot_stands_in_the_way_until_the_next_backup() {
    for host in ["web1", "web2"] {
        let bench = backed_up(&["--host", "web1"]);
        let first = snapshots(&bench);
        bench.write("data/file", "2");
        back_up(&bench, &["--host", host]);
        let newest = snapshots(&bench).into_iter().find(|path| !first.contains(path)).unwrap();
        damage(&newest);
        assert_eq!(bench.run(&["restore", "--target", "out"]).status.code(), Some(4));
        assert_eq!(by_script(&bench, &["restore", "latest", "out"]).status.code(), Some(4));
        bench.write("data/file", "3");
        back_up(&bench, &["--host", "web1"]);
        latest_is(&bench, "3");
        assert_eq!(bench.run(&["verify"]).status.code(), Some(4));
    }
}

#[test]
fn a_file_that_is_no_snapshot_stands_in_nobodys_way() {
    let bench = backed_up(&[]);
    bench.write("backups/snapshots/.nfs0001", "");
    bench.write("backups/snapshots/README", "");
    latest_is(&bench, "1");
    let told = String::from_utf8(bench.run(&["ls"]).stderr).unwrap();
    assert!(told.contains("snapshots/README does not belong into the repository"), "{told}");
}

#[test]
fn the_latest_of_a_host_is_restored() {
    let bench = backed_up(&["--host", "web1"]);
    bench.write("data/file", "2");
    back_up(&bench, &["--host", "web2"]);
    for (host, content) in [("web1", "1"), ("web2", "2")] {
        let output = bench.run(&["restore", "--host", host, "--target", host]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read_to_string(bench.path(host).join("data/file")).unwrap(), content);
    }
    let unknown = bench.run(&["restore", "--host", "web3", "--target", "out"]);
    assert_eq!(unknown.status.code(), Some(2));
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(told.contains("none is of host \"web3\""), "{told}");
    assert_eq!(bench.run(&["restore", "abcd", "--host", "web1", "--target", "out"]).status.code(), Some(2));
}
