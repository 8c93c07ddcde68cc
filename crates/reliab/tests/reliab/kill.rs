//! kill -9 of the real binary at random moments: nothing that was reported is lost, and the next run just works.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reliab_testkit::generator::Generator;
use reliab_testkit::judge::rsync_differences;
use reliab_testkit::tree::Scratch;
use serde_json::Value;

const ROUNDS: u64 = 100;
const FILES: u64 = 300;

fn reliab(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(args).current_dir(place).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command
}

fn succeed(place: &Path, args: &[&str]) {
    let output = reliab(place, args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

/// Small files, and one large enough to be in several chunks.
fn plant(data: &Path, generator: &mut Generator) {
    fs::create_dir_all(data).unwrap();
    for number in 0..FILES {
        let len = usize::try_from(generator.below(60_000)).unwrap();
        fs::write(data.join(format!("file-{number}")), generator.text(len)).unwrap();
    }
    fs::write(data.join("large"), generator.bytes(9_000_000)).unwrap();
}

fn change(data: &Path, generator: &mut Generator) {
    for _ in 0..20 {
        let path = data.join(format!("file-{}", generator.below(FILES)));
        let len = usize::try_from(generator.below(60_000)).unwrap();
        fs::write(path, generator.text(len)).unwrap();
    }
    fs::write(data.join("large"), generator.bytes(2_000_000)).unwrap();
}

/// Kills the run after a random part of what a run takes; true if it was done before.
fn cut_off(mut run: Child, after: Duration) -> bool {
    std::thread::sleep(after);
    // It may have ended by itself, which is one of the moments.
    drop(run.kill());
    let output = run.wait_with_output().unwrap();
    let is_killed = output.status.signal() == Some(9);
    assert!(is_killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    !is_killed
}

/// Backs up, which must work; the snapshot's id, and a copy of what it holds.
fn keep(place: &Path, round: u64) -> (String, PathBuf) {
    let output = reliab(place, &["backup", "data", "--json"]).output().unwrap();
    assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let copy = place.join(format!("copy-{round}"));
    assert!(Command::new("cp").arg("-a").arg(place.join("data")).arg(&copy).status().unwrap().success());
    (report["snapshot"].as_str().unwrap().to_owned(), copy)
}

#[test]
fn a_killed_restore_is_completed_by_the_next() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let data = place.join("data");
    let mut generator = Generator::new(9);
    plant(&data, &mut generator);
    succeed(place, &["backup", "data", "--quiet"]);
    let started = std::time::Instant::now();
    succeed(place, &["restore", "--target", "out", "--quiet"]);
    let whole = u64::try_from(started.elapsed().as_micros()).unwrap();
    let mut done = 0;
    for round in 0..30 {
        // Over nothing, over what the last one left, and over files that are all to be replaced.
        if round % 3 == 0 {
            fs::remove_dir_all(place.join("out")).unwrap();
        }
        let over = if round % 2 == 0 { "if-changed" } else { "always" };
        let args = ["restore", "--target", "out", "--overwrite", over, "--quiet"];
        done += u64::from(cut_off(
            reliab(place, &args).spawn().unwrap(),
            Duration::from_micros(generator.below(whole)),
        ));
        succeed(place, &args);
        let found = rsync_differences(&data, &place.join("out/data"));
        assert_eq!(found, Vec::<String>::new(), "round {round}, {over}");
        let names: Vec<_> =
            fs::read_dir(place.join("out")).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert_eq!(names, ["data"], "round {round}: nothing is left over");
    }
    assert!(done < 30, "no run was cut off: the test shows nothing");
}

#[test]
fn a_hundred_kills_lose_no_snapshot_and_hinder_no_later_run() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let data = place.join("data");
    let mut generator = Generator::new(7);
    plant(&data, &mut generator);
    let started = std::time::Instant::now();
    succeed(place, &["backup", "data", "--quiet"]);
    let whole = u64::try_from(started.elapsed().as_micros()).unwrap();
    let mut done = 0;
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        change(&data, &mut generator);
        let after = Duration::from_micros(generator.below(whole));
        done += u64::from(cut_off(reliab(place, &["backup", "data", "--quiet"]).spawn().unwrap(), after));
        if round % 5 == 4 {
            kept.push(keep(place, round));
        }
    }
    assert!(done < ROUNDS, "no run was cut off: the test shows nothing");
    succeed(place, &["verify", "--level", "data", "--quiet"]);
    for (id, copy) in &kept {
        succeed(place, &["restore", id, "--target", "out", "--quiet"]);
        let restored = place.join("out/data");
        assert_eq!(rsync_differences(copy, &restored), Vec::<String>::new(), "{}", copy.display());
        fs::remove_dir_all(place.join("out")).unwrap();
    }
    let snapshots = fs::read_dir(place.join("backups/snapshots")).unwrap().count() as u64;
    // Killed after it had published and before it could say so, a run has left a snapshot that nobody heard of.
    assert!(snapshots >= 1 + done + ROUNDS / 5, "{snapshots} snapshots of {done} runs that were done");
}
