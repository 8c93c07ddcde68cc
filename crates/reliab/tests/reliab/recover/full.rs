//! Full disks: what could not be written is never reported as done, and what is damaged never as whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::{Lab, Outcome, SHELLS, files_below, succeed, while_damaged, while_flipped};
use reliab_testkit::damage::Damage;

/// A file system in memory with little room, while the value lives.
struct Tiny(PathBuf);

impl Tiny {
    /// `None` where this test may not mount.
    fn mount(place: &Path, kib: usize) -> Option<Self> {
        let folder = place.join("tiny");
        fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "none"]).arg(&folder);
        mount.output().unwrap().status.success().then_some(Self(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        succeed(Command::new("umount").arg(&self.0));
    }
}

/// These tests fill small file systems, which only root may mount.
fn assert_may_mount(lab: &Lab) {
    assert!(Tiny::mount(lab.place(), 16).is_some(), "this test mounts a file system: run it as root");
}

#[test]
fn a_target_without_room_is_told_and_nothing_short_gets_its_name() {
    let lab = Lab::new(0);
    assert_may_mount(&lab);
    // All there is comes to about 17 MiB.
    let mut done = 0;
    for kib in [64, 300, 1000, 3000, 9000, 14_000, 15_500, 16_300, 17_000, 18_000, 24_000, 60_000] {
        for shell in SHELLS {
            for options in [&["restore", "tiny"][..], &["restore", "--keep-going", "tiny"]] {
                let tiny = Tiny::mount(lab.place(), kib).unwrap();
                let outcome = lab.run(shell, options);
                let what = format!("{kib} KiB, {shell:?}, {options:?}: {}", outcome.stderr);
                let restored = tiny.0.join("data");
                for path in if restored.exists() { files_below(&restored) } else { Vec::new() } {
                    let original = lab.place().join("data").join(path.strip_prefix(&restored).unwrap());
                    if fs::symlink_metadata(&path).unwrap().is_file() {
                        assert!(fs::read(&path).unwrap() == fs::read(original).unwrap(), "{path:?}, {what}");
                    }
                }
                let is_done = outcome.stderr.contains("done:");
                assert_eq!(is_done, outcome.code == Some(0), "{what}");
                if is_done {
                    done += 1;
                    let count = |folder: &Path| files_below(folder).len();
                    assert_eq!(count(&restored), count(&lab.place().join("data")), "{what}");
                } else {
                    assert_eq!(outcome.code, Some(1), "{what}");
                }
            }
        }
    }
    assert!((4..40).contains(&done), "{done}");
}

#[test]
fn without_room_for_notes_nothing_is_called_whole() {
    let lab = Lab::new(0);
    assert_may_mount(&lab);
    let blob = lab.needed("bundle");
    while_flipped(blob, || {
        for kib in [4, 8, 16, 40, 100, 140, 200] {
            for shell in SHELLS {
                for fill in [false, true] {
                    let tiny = Tiny::mount(lab.place(), kib).unwrap();
                    if fill {
                        drop(fs::write(tiny.0.join("full"), vec![1; kib << 10]));
                    }
                    for (args, codes) in [("check", [1, 4]), ("list", [0, 1]), ("ls", [0, 1])] {
                        let mut command = shell.command(lab.place());
                        command.env("TMPDIR", &tiny.0).args(["backups/recover.sh", args]);
                        let Outcome { code, stdout, stderr } = Outcome::of(&mut command);
                        let what = format!("{kib} KiB, {shell:?}, {args}: {stdout}{stderr}");
                        assert!(codes.map(Some).contains(&code), "{code:?}, {what}");
                        assert!(!fill || code == Some(1), "{code:?}, {what}");
                        let lines = match args {
                            "list" => 2,
                            _ => lab.entries.len(),
                        };
                        assert!(code != Some(0) || stdout.lines().count() == lines, "{what}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_repository_without_packs_or_snapshots_is_not_whole() {
    let lab = Lab::new(0);
    for folder in ["packs", "snapshots"] {
        let (whole, aside) = (lab.repo().join(folder), lab.place().join("aside"));
        fs::rename(&whole, &aside).unwrap();
        fs::create_dir(&whole).unwrap();
        for shell in SHELLS {
            let outcome = lab.run(shell, &["check"]);
            assert_eq!(outcome.code, Some(4), "{}{}", outcome.stdout, outcome.stderr);
            assert!(outcome.stdout.contains(&format!("nothing in {folder}/")), "{}", outcome.stdout);
            if folder == "snapshots" {
                for command in [&["list"][..], &["ls"], &["restore", "out"]] {
                    assert_eq!(lab.run(shell, command).code, Some(4), "{command:?}");
                }
            }
        }
        fs::remove_dir(&whole).unwrap();
        fs::rename(&aside, &whole).unwrap();
    }
}

#[test]
fn snapshots_are_checked_also_where_packs_are_not() {
    let lab = Lab::new(0);
    let latest = lab.repo().join("snapshots").join(&lab.latest);
    let whole = fs::read(&latest).unwrap();
    let cut = whole[..whole.len() - 2].to_vec();
    for shell in SHELLS {
        for damage in [Damage::Flip(500), Damage::Replace(cut.clone())] {
            while_damaged(&latest, &damage, || {
                let outcome = lab.run(shell, &["--no-check", "restore", "out"]);
                assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
                assert!(outcome.stderr.contains("may be the latest"), "{}", outcome.stderr);
            });
        }
    }
    // One without its last line is damaged even where nothing can compute a checksum.
    fs::remove_file(lab.place().join("bin-Dash/sha256sum")).unwrap();
    while_damaged(&latest, &Damage::Replace(cut), || {
        let outcome = lab.run(SHELLS[0], &["--no-check", "restore", "out"]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    });
}

#[test]
fn where_an_older_snapshot_loses_files_both_are_told() {
    let lab = Lab::new(0);
    let latest = lab.repo().join("snapshots").join(&lab.latest);
    // One that the older snapshot needs too.
    let needs = &lab.entries["data/many/0001"].needs;
    let blob = lab.blob(needs.first().unwrap());
    for shell in SHELLS {
        while_damaged(&latest, &Damage::Flip(500), || {
            while_flipped(blob, || {
                let outcome = lab.run(shell, &["restore", "--keep-going", "out"]);
                assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
                assert!(!outcome.lost().is_empty(), "{}", outcome.stderr);
                assert!(outcome.stderr.contains("the damaged snapshot may be newer"), "{}", outcome.stderr);
                fs::remove_dir_all(lab.place().join("out")).unwrap();
            });
            let all = lab.run(shell, &["ls"]);
            assert_eq!(all.code, Some(4), "{}", all.stderr);
        });
    }
}
