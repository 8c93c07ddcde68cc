//! A repository that a verification found damaged: what the next backup says, and how it is mended by hand.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::support::Bench;

const WARNING: &str = "warning: `reliab verify` found damage in this repository on ";

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must end so.
fn ends(bench: &Bench, args: &[&str], code: i32) -> String {
    let output = bench.run(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", told(&output));
    told(&output)
}

fn packs(bench: &Bench) -> Vec<PathBuf> {
    let folders = fs::read_dir(bench.path("backups/packs")).unwrap();
    let packs = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    packs.map(|pack| pack.unwrap().path()).collect()
}

/// A repository whose packs are all damaged, which a verification has found.
fn found_damaged() -> Bench {
    let bench = Bench::new();
    bench.write("data/file", "content");
    ends(&bench, &["backup", "data"], 0);
    for pack in packs(&bench) {
        let mut content = fs::read(&pack).unwrap();
        content[8] ^= 1;
        fs::write(pack, content).unwrap();
    }
    ends(&bench, &["verify"], 4);
    bench
}

#[test]
fn a_backup_warns_of_damage_until_a_verification_that_reads_as_much_finds_none() {
    let bench = found_damaged();
    // It reads less, and proves nothing.
    ends(&bench, &["verify", "--level", "structure"], 0);
    for repository in ["backups", "./backups", bench.path("backups").to_str().unwrap()] {
        let told = ends(&bench, &["backup", "data", "--quiet", "--repo", repository], 0);
        assert!(told.contains(WARNING), "{repository}: {told}");
    }
    // Another repository is none of its business.
    let told = ends(&bench, &["backup", "data", "--repo", "other"], 0);
    assert!(!told.contains(WARNING), "{told}");
}

/// What the README tells to do by hand.
fn take_away(bench: &Bench) {
    fs::create_dir(bench.path("aside")).unwrap();
    for pack in packs(bench) {
        fs::rename(&pack, bench.path("aside").join(pack.file_name().unwrap())).unwrap();
    }
    for index in fs::read_dir(bench.path("backups/index")).unwrap() {
        fs::remove_file(index.unwrap().path()).unwrap();
    }
}

#[test]
fn packs_that_are_taken_away_are_stored_anew_by_the_next_backup() {
    let bench = found_damaged();
    take_away(&bench);
    ends(&bench, &["backup", "data"], 0);
    ends(&bench, &["restore", "--target", "out", "--verify"], 0);
    assert_eq!(fs::read_to_string(bench.path("out/data/file")).unwrap(), "content");
    // Everything was still there to be stored again.
    ends(&bench, &["verify"], 0);
    let told = ends(&bench, &["backup", "data", "--quiet"], 0);
    assert!(!told.contains(WARNING), "{told}");
}

#[test]
fn what_is_gone_for_good_stays_named() {
    let bench = found_damaged();
    take_away(&bench);
    bench.write("data/file", "other content");
    ends(&bench, &["backup", "data"], 0);
    ends(&bench, &["restore", "--target", "out", "--verify"], 0);
    let told = ends(&bench, &["verify"], 4);
    assert!(told.contains("  hits 1 snapshot: "), "{told}");
    assert!(ends(&bench, &["backup", "data", "--quiet"], 0).contains(WARNING));
}
