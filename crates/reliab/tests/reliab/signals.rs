//! SIGINT and SIGTERM: a run ends soon, says why, leaves nothing behind, and the next one works.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use reliab_testkit::generator::Generator;
use reliab_testkit::tree::Scratch;

fn reliab(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(args).current_dir(place).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command
}

/// Starts a run, and sends it a signal as soon as something shows that it is at work.
fn stopped(place: &Path, args: &[&str], signal: &str, at_work: impl Fn() -> bool) -> Output {
    let child = reliab(place, args).spawn().unwrap();
    let started = Instant::now();
    while !at_work() {
        assert!(started.elapsed() < Duration::from_secs(60), "{args:?} never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{args:?} ended before it could be stopped");
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "{args:?} did not end");
    output
}

fn has_files(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}

#[test]
fn a_run_that_is_told_to_stop_ends_says_so_and_leaves_nothing_behind() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    let mut generator = Generator::new(3);
    for number in 0..60 {
        fs::write(place.join(format!("data/{number}")), generator.bytes(2_000_000)).unwrap();
    }
    let tmp = place.join("backups/tmp");
    for signal in ["-INT", "-TERM"] {
        // At the slowest level there is time enough.
        let backup = ["backup", "data", "--compression", "19"];
        let output = stopped(place, &backup, signal, || has_files(&tmp));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stopped by a signal"), "{said}");
        assert!(!has_files(&place.join("backups/snapshots")), "an unfinished run has no snapshot");
        assert!(!has_files(&tmp), "what it began to write is published or gone");
    }
    assert!(reliab(place, &["backup", "data", "--quiet"]).status().unwrap().success());
    assert!(reliab(place, &["verify", "--quiet"]).status().unwrap().success());

    let rehearsals = place.join("rehearsals");
    fs::create_dir(&rehearsals).unwrap();
    let rehearse = ["restore", "--verify", "--scratch", "rehearsals"];
    let output = stopped(place, &rehearse, "-TERM", || has_files(&rehearsals));
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!has_files(&rehearsals), "the scratch folder is removed");
}

/// The names in a folder that do not hold what they should.
fn half_files(data: &Path, restored: &Path) -> Vec<String> {
    let names = fs::read_dir(restored).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let is_half = |name: &String| fs::read(data.join(name)).ok() != fs::read(restored.join(name)).ok();
    names.filter(is_half).collect()
}

#[test]
fn a_restore_that_is_told_to_stop_leaves_whole_files_and_the_next_one_does_the_rest() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let data = place.join("data");
    fs::create_dir(&data).unwrap();
    let mut generator = Generator::new(4);
    for number in 0..40 {
        fs::write(data.join(format!("large-{number}")), generator.bytes(3_000_000)).unwrap();
        fs::write(data.join(format!("small-{number}")), generator.bytes(3_000)).unwrap();
    }
    assert!(reliab(place, &["backup", "data", "--quiet"]).status().unwrap().success());
    let restored = place.join("out/data");
    for signal in ["-INT", "-TERM"] {
        // A run that was done before the signal came shows nothing, so it is tried again.
        let output = (0..50).find_map(|_| {
            drop(fs::remove_dir_all(place.join("out")));
            let args = ["restore", "--target", "out", "--threads", "1"];
            let output = stopped(place, &args, signal, || has_files(&restored));
            (output.status.code() != Some(0)).then_some(output)
        });
        let output = output.expect("no restore was stopped in the middle");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stopped by a signal"), "{said}");
        assert!(
            said.contains("; run it again with --overwrite if-changed: what is there is whole"),
            "{said}"
        );
        assert_eq!(half_files(&data, &restored), Vec::<String>::new());
        assert!(fs::read_dir(&restored).unwrap().count() < 80, "it was stopped in the middle");
    }
    let rest = ["restore", "--target", "out", "--overwrite", "if-changed", "--verify", "--quiet"];
    assert!(reliab(place, &rest).status().unwrap().success());
    assert_eq!(fs::read_dir(&restored).unwrap().count(), 80);
}
