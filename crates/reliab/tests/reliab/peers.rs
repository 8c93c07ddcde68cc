//! Stock tools as judges: they restore a repository, read what `export` writes, and check manifests, with no reliab.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use reliab_testkit::scan::{self, ItemKind, Scan};
use reliab_testkit::tree::{Scratch, fidelity, set_mode};

fn reliab(place: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(args).current_dir(place);
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What rsync would change to make `b` like `a`: times to the second; sockets are never backed up.
fn differences(a: &Path, b: &Path, options: &[&str]) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let mut rsync = Command::new("rsync");
    rsync
        .args(["-aHn", "--checksum", "--modify-window=0", "--delete", "-i", "--exclude=socket*"])
        .args(options);
    let output = rsync.args([slash(a), slash(b)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tree whose second snapshot is an overlay with renamed, changed, gone and restamped entries.
fn repository(place: &Path) {
    let data = place.join("data");
    fs::create_dir_all(data.join("folder/deeper")).unwrap();
    for number in 0..60 {
        fs::write(
            data.join(format!("folder/file-{number}")),
            format!("content {number}\n").repeat(number + 1),
        )
        .unwrap();
    }
    let large: Vec<u8> = (0..6_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(data.join("large"), &large).unwrap();
    fs::hard_link(data.join("folder/file-3"), data.join("folder/deeper/other name")).unwrap();
    fs::write(data.join("folder/line\nfeed and 'quotes' %41"), "odd").unwrap();
    reliab(place, &["backup", "data", "--quiet"]);
    fs::rename(data.join("folder"), data.join("renamed")).unwrap();
    fs::remove_file(data.join("renamed/file-7")).unwrap();
    fs::write(data.join("renamed/file-9"), "changed").unwrap();
    set_mode(&data.join("renamed/file-11"), 0o600).unwrap();
    let mut changed = large;
    changed[3_000_000..3_000_100].fill(7);
    fs::write(data.join("large"), &changed).unwrap();
    reliab(place, &["backup", "data", "--quiet"]);
}

/// Runs a repository's own script in a shell, with a PATH that has no reliab.
fn recover(place: &Path, shell: &[&str], target: &str) {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["backups/recover.sh", "restore", "latest", target]).current_dir(place);
    run(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()));
}

#[test]
fn recover_sh_restores_a_snapshot_with_overlays_under_dash_and_busybox() {
    let scratch = Scratch::new().unwrap();
    repository(scratch.path());
    for (shell, target) in [(&["dash"][..], "by-dash"), (&["busybox", "sh"], "by-busybox")] {
        recover(scratch.path(), shell, target);
        let differs =
            differences(&scratch.path().join("data"), &scratch.path().join(target).join("data"), &["-AX"]);
        assert_eq!(differs, "", "{shell:?}");
    }
}

#[test]
fn recover_sh_restores_everything_a_file_system_can_hold() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    fidelity(&place.join("data")).unwrap();
    reliab(place, &["backup", "data", "--quiet"]);
    recover(place, &["dash"], "recovered");
    let wanted = without_nanoseconds(&place.join("data"));
    // Paths beyond PATH_MAX, which tar cannot write, are among them.
    assert!(wanted.keys().any(|path| path.len() > 4096));
    assert_eq!(
        scan::differences(&wanted, &without_nanoseconds(&place.join("recovered/data"))),
        Vec::<String>::new()
    );
}

/// A tree as tar's times, which are whole seconds, can bring it back; sockets are never backed up.
fn without_nanoseconds(top: &Path) -> Scan {
    let mut tree = scan::scan(top).unwrap();
    tree.retain(|_, item| item.kind != ItemKind::Socket);
    tree.values_mut().for_each(|item| item.mtime.1 = 0);
    tree
}

#[test]
fn recover_sh_restores_a_snapshot_without_any_file() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir_all(place.join("data/folder/empty")).unwrap();
    std::os::unix::fs::symlink("folder", place.join("data/link")).unwrap();
    reliab(place, &["backup", "data", "--quiet"]);
    for (shell, target) in [(&["dash"][..], "by-dash"), (&["busybox", "sh"], "by-busybox")] {
        recover(place, shell, target);
        assert_eq!(differences(&place.join("data"), &place.join(target).join("data"), &[]), "", "{shell:?}");
    }
}

#[test]
fn gnu_tar_bsdtar_and_busybox_read_an_export() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    repository(place);
    for name in ["all.tar", "all.tar.gz", "all.tar.zst"] {
        reliab(place, &["export", "latest", "-o", name, "--quiet"]);
    }
    let readers: [(&str, &[&str], &str); 5] = [
        ("tar", &["-xpf"], "all.tar.gz"),
        ("tar", &["-xpf"], "all.tar.zst"),
        ("bsdtar", &["-xpf"], "all.tar.gz"),
        ("bsdtar", &["-xpf"], "all.tar.zst"),
        ("busybox", &["tar", "-xpf"], "all.tar"),
    ];
    for (number, (program, options, archive)) in readers.into_iter().enumerate() {
        let target = place.join(format!("read-{number}"));
        fs::create_dir(&target).unwrap();
        run(Command::new(program).args(options).arg(place.join(archive)).current_dir(&target));
        // busybox gives folders their times before it writes into them.
        let options: &[&str] = if program == "busybox" { &["--omit-dir-times"] } else { &[] };
        assert_eq!(
            differences(&place.join("data"), &target.join("data"), options),
            "",
            "{program} {archive}"
        );
    }
}

#[test]
fn sha256sum_checks_a_repository_and_a_manifest() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    repository(place);
    let manifest = reliab(place, &["manifest", "latest", "--format", "sha256sums"]);
    fs::write(place.join("sums"), manifest).unwrap();
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "sums"]).current_dir(place));
    let check = "cd backups && find packs index snapshots -type f | while read -r f; do \
                 [ \"$(sha256sum <\"$f\" | cut -d' ' -f1)\" = \"${f##*/}\" ] || exit 1; done";
    run(Command::new("sh").args(["-c", check]).current_dir(place));
}
