//! Restoring over what is there: nothing is removed before what replaces it is whole.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use reliab_testkit::generator::Generator;
use reliab_testkit::judge::rsync_differences;
use reliab_testkit::tree::{Scratch, set_mode};

fn reliab(place: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(args).current_dir(place);
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command.output().unwrap()
}

fn succeed(place: &Path, args: &[&str]) {
    let output = reliab(place, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A snapshot, restored into `out`, where it is then changed in every way.
fn changed_target(place: &Path) {
    let data = place.join("data");
    fs::create_dir_all(data.join("folder")).unwrap();
    fs::write(data.join("folder/file"), "content").unwrap();
    fs::write(data.join("gone"), "to be put back").unwrap();
    fs::write(data.join("large"), vec![5; 3_000_000]).unwrap();
    fs::hard_link(data.join("gone"), data.join("second name")).unwrap();
    std::os::unix::fs::symlink("folder/file", data.join("link")).unwrap();
    fs::create_dir(data.join("was a folder")).unwrap();
    succeed(place, &["backup", "data", "--quiet"]);
    succeed(place, &["restore", "--target", "out", "--quiet"]);
    let out = place.join("out/data");
    fs::write(out.join("folder/file"), "changed by somebody").unwrap();
    fs::remove_file(out.join("gone")).unwrap();
    fs::write(out.join("large"), "short").unwrap();
    fs::remove_file(out.join("link")).unwrap();
    fs::write(out.join("link"), "no longer a link").unwrap();
    fs::remove_dir(out.join("was a folder")).unwrap();
    fs::write(out.join("was a folder"), "now a file").unwrap();
    set_mode(&out.join("folder"), 0o711).unwrap();
}

#[test]
fn always_and_if_changed_bring_back_the_snapshot() {
    for mode in ["always", "if-changed"] {
        let scratch = Scratch::new().unwrap();
        let place = scratch.path();
        changed_target(place);
        succeed(place, &["restore", "--target", "out", "--overwrite", mode, "--quiet"]);
        assert_eq!(
            rsync_differences(&place.join("data"), &place.join("out/data")),
            Vec::<String>::new(),
            "{mode}"
        );
    }
}

#[test]
fn never_keeps_what_is_there_and_how_it_is() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    changed_target(place);
    let out = place.join("out/data");
    let before = fs::metadata(out.join("folder")).unwrap();
    // A folder cannot be put where a file is kept, so this is not all done.
    reliab(place, &["restore", "--target", "out", "--overwrite", "never", "--quiet"]);
    assert_eq!(fs::read_to_string(out.join("folder/file")).unwrap(), "changed by somebody");
    assert_eq!(fs::read_to_string(out.join("was a folder")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(out.join("gone")).unwrap(), "to be put back");
    let after = fs::metadata(out.join("folder")).unwrap();
    assert_eq!(
        (after.permissions().mode(), after.mtime_nsec()),
        (before.permissions().mode(), before.mtime_nsec())
    );
}

#[test]
fn what_cannot_be_replaced_whole_is_left_as_it_was() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    changed_target(place);
    for pack in fs::read_dir(place.join("backups/packs")).unwrap() {
        for file in fs::read_dir(pack.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let output = reliab(place, &["restore", "--target", "out", "--overwrite", "always", "--quiet"]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let out = place.join("out/data");
    let kept = fs::read_to_string(out.join("folder/file")).unwrap();
    let large = fs::metadata(out.join("large")).unwrap().len();
    // Whichever blob was hit: each file is either as it was or as it should be, never gone and never half.
    assert!(kept == "changed by somebody" || kept == "content", "{kept}");
    assert!(large == 5 || large == 3_000_000, "{large}");
    let names = fs::read_dir(&out).unwrap().map(|name| name.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with(".reliab")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_named_source_on_another_file_system_inside_a_source_is_backed_up() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let inner = place.join("data/inner");
    fs::create_dir_all(&inner).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&inner).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        // Only root may mount; everything else about sources is tested without.
        return;
    }
    fs::write(inner.join("file"), "on another file system").unwrap();
    let backup = reliab(place, &["backup", "-x", "data", "data/inner", "--quiet"]);
    let restored = reliab(place, &["restore", "--target", "out", "--quiet"]);
    assert!(Command::new("umount").arg(&inner).status().unwrap().success());
    assert!(backup.status.success() && restored.status.success());
    assert_eq!(fs::read_to_string(place.join("out/data/inner/file")).unwrap(), "on another file system");
}

#[test]
fn a_full_target_holds_whole_files_alone_and_what_is_advised_completes_it() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let out = place.join("out");
    fs::create_dir_all(place.join("data")).unwrap();
    fs::create_dir(&out).unwrap();
    let mut generator = Generator::new(11);
    for number in 0..40 {
        // Small ones alone: of large ones the test of their names tells.
        fs::write(place.join(format!("data/{number:02}")), generator.bytes(90_000)).unwrap();
    }
    succeed(place, &["backup", "data", "--quiet"]);
    let mount =
        |options: &str| Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&out).output();
    if !mount("size=2m").is_ok_and(|output| output.status.success()) {
        // Only root may mount.
        return;
    }
    let full = reliab(place, &["restore", "--target", "out", "--quiet"]);
    let files = fs::read_dir(out.join("data")).unwrap().map(|file| file.unwrap().path());
    let half: Vec<_> = files
        .filter(|path| {
            fs::read(path).unwrap() != fs::read(place.join("data").join(path.file_name().unwrap())).unwrap()
        })
        .collect();
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    let roomy = mount("remount,size=20m").unwrap();
    // As it is advised.
    let completed = reliab(place, &["restore", "--target", "out", "--quiet", "--overwrite", "if-changed"]);
    let differences = rsync_differences(&place.join("data"), &out.join("data"));
    assert!(Command::new("umount").arg(&out).status().unwrap().success());
    assert_eq!(full.status.code(), Some(1), "{}", String::from_utf8_lossy(&full.stderr));
    assert_eq!(half, Vec::<std::path::PathBuf>::new());
    assert!(
        roomy.status.success() && completed.status.success(),
        "{}",
        String::from_utf8_lossy(&completed.stderr)
    );
    assert_eq!(differences, Vec::<String>::new());
    assert!(
        told.starts_with("error: the restore into out is not complete: cannot restore data/")
            && told.contains(
                "; make room there and run it again with --overwrite if-changed: what is there is whole"
            ),
        "{told}"
    );
}
