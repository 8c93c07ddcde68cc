//! A repository that a verification found damaged: what the next backup says, and how it is mended by hand.

use std::fs;
use std::path::{Path, PathBuf};
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

fn flip(pack: &Path) {
    let mut content = fs::read(pack).unwrap();
    // In the first frame, which holds files.
    content[8] ^= 1;
    fs::write(pack, content).unwrap();
}

/// A repository of two snapshots, the second of which needs a pack that is damaged, as a verification has found.
fn found_damaged() -> (Bench, PathBuf) {
    let bench = Bench::new();
    bench.write("data/gone", "only in the first");
    ends(&bench, &["backup", "data"], 0);
    let first = packs(&bench);
    fs::remove_file(bench.path("data/gone")).unwrap();
    bench.write("data/file", "content");
    ends(&bench, &["backup", "data"], 0);
    let damaged = packs(&bench).into_iter().find(|pack| !first.contains(pack)).unwrap();
    flip(&damaged);
    let told = ends(&bench, &["verify"], 4);
    assert!(told.contains("  hits data/file"), "{told}");
    (bench, damaged)
}

#[test]
fn a_backup_warns_of_damage_until_a_verification_that_reads_as_much_finds_none() {
    let (bench, _) = found_damaged();
    // It reads less, and proves nothing.
    ends(&bench, &["verify", "--level", "structure"], 0);
    for repository in ["backups", "./backups", bench.path("backups").to_str().unwrap()] {
        let told = ends(&bench, &["backup", "data", "--quiet", "--repo", repository], 0);
        assert!(told.contains(WARNING), "{repository}: {told}");
        assert!(told.contains(&format!("`reliab verify --repo {repository}` names what is hit")), "{told}");
    }
    // Another repository is none of its business.
    let told = ends(&bench, &["backup", "data", "--repo", "other"], 0);
    assert!(!told.contains(WARNING), "{told}");
}

/// What the README tells to do by hand: the pack out, a backup, the pack back.
fn mend(bench: &Bench, pack: &Path) {
    let aside = bench.path("aside");
    fs::rename(pack, &aside).unwrap();
    ends(bench, &["backup", "data"], 0);
    // The same pieces make the same pack, which is there again then.
    if !pack.exists() {
        fs::rename(&aside, pack).unwrap();
    }
}

#[test]
fn a_backup_while_a_damaged_pack_is_away_is_whole_and_costs_older_ones_nothing_more() {
    let (bench, pack) = found_damaged();
    bench.write("data/other", "so that small files are bundled in another way");
    mend(&bench, &pack);
    let listed = bench.run(&["snapshots", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let ids: Vec<&str> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|snapshot| snapshot["id"].as_str().unwrap())
        .collect();
    ends(&bench, &["restore", ids[0], "--target", "first", "--verify"], 0);
    let told = ends(&bench, &["restore", ids[1], "--target", "second", "--verify"], 4);
    let next_step = "warning: the repository is damaged: `reliab verify --repo backups` lists what is damaged and what it hits";
    let (last, lines) = told.lines().collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert_eq!(last, next_step);
    assert!(lines.iter().all(|line| line.starts_with("error: not restored: data/file: ")), "{told}");
    ends(&bench, &["restore", ids[2], "--target", "third", "--verify"], 0);
    assert_eq!(fs::read_to_string(bench.path("third/data/file")).unwrap(), "content");
}

#[test]
fn a_backup_that_makes_the_same_pieces_again_mends_older_snapshots_too() {
    let (bench, pack) = found_damaged();
    mend(&bench, &pack);
    let told = ends(&bench, &["verify"], 4);
    assert!(told.contains("(nothing is lost by it)") && !told.contains("  hits "), "{told}");
    assert!(!told.contains("Repair"), "{told}");
    assert!(!ends(&bench, &["backup", "data", "--quiet"], 0).contains(WARNING));
}

#[test]
fn what_is_gone_for_good_stays_named() {
    let (bench, pack) = found_damaged();
    bench.write("data/file", "other content");
    mend(&bench, &pack);
    ends(&bench, &["restore", "--target", "out", "--verify"], 0);
    let told = ends(&bench, &["verify"], 4);
    assert!(told.contains("  hits data/file"), "{told}");
    assert!(ends(&bench, &["backup", "data", "--quiet"], 0).contains(WARNING));
}
