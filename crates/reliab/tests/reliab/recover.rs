//! Damaged repositories and stopped runs: what `recover.sh` brings back, what it names as lost, and what it never does.

mod full;
mod lab;
mod names;
mod paths;
mod surroundings;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::lab::{Blob, Lab, OTHERS, Outcome, SHELLS, Shell, succeed, while_damaged, while_flipped};
use reliab_testkit::damage::Damage;
use reliab_testkit::tree::set_mode;

#[test]
fn a_flipped_byte_in_data_costs_the_files_that_need_it() {
    let lab = Lab::new(0);
    for kind in ["bundle", "chunk", "patch"] {
        let blob = lab.needed(kind);
        let lost = lab.users_of(|other| other.id == blob.id);
        while_flipped(blob, || {
            for shell in SHELLS {
                lab.loses(shell, &[], &lost, kind);
            }
            lab.loses(Shell::Dash, &["--no-check"], &lost, kind);
        });
    }
}

#[test]
fn a_flipped_byte_in_a_head_costs_nothing_because_the_page_says_the_same() {
    let lab = Lab::new(0);
    while_flipped(lab.needed("head"), || {
        for shell in SHELLS {
            lab.loses_nothing(shell, &[], "head");
        }
    });
}

#[test]
fn a_flipped_byte_in_a_page_costs_what_the_page_tells() {
    let lab = Lab::new(0);
    let base = lab.pages.iter().filter(|page| page.layer == 0).count();
    assert!(base > 2, "{:?}", lab.pages);
    for page in [&lab.pages[1], &lab.pages[base - 1], lab.pages.last().unwrap()] {
        let lost = lab.told_by(page);
        assert!(!lost.is_empty());
        while_flipped(lab.blob(&page.id), || {
            for shell in SHELLS {
                let refused = lab.run(shell, &["restore", "out"]);
                let kept = lab.run(shell, &["restore", "--keep-going", "kept"]);
                for outcome in [&refused, &kept] {
                    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
                    let range = match &page.next {
                        Some(next) => format!("    {}\n  to before\n    {next}\n", page.first),
                        None => format!("    {}\n  to the end\n", page.first),
                    };
                    assert!(outcome.stderr.contains(&range), "{range}{}", outcome.stderr);
                }
                assert!(!lab.place().join("out").exists());
                assert_eq!(kept.lost(), lab.hidden_by(page), "{}", kept.stderr);
                lab.is_restored("kept", &lost, &format!("{shell:?}, {page:?}"));
            }
        });
    }
}

#[test]
fn what_was_deleted_stays_so_where_the_page_of_a_new_folder_of_that_name_is_lost() {
    let lab = Lab::after(&[
        |data| {
            fs::create_dir_all(data.join("a")).unwrap();
            fs::write(data.join("a/z"), "deleted").unwrap();
            (0..5000).for_each(|number| fs::write(data.join(format!("other {number}")), "other").unwrap());
        },
        |data| fs::remove_dir_all(data.join("a")).unwrap(),
        |data| {
            fs::create_dir(data.join("a")).unwrap();
            (0..1100).for_each(|number| fs::write(data.join(format!("a/{number:04}")), "new").unwrap());
        },
    ]);
    assert_eq!(lab.layers.len(), 3);
    let page = lab.pages.iter().find(|page| page.layer == 2 && page.covers("data/a")).unwrap();
    assert!(!page.covers("data/a/z"), "{page:?}");
    while_flipped(lab.blob(&page.id), || {
        for shell in SHELLS {
            let kept = lab.run(shell, &["restore", "--keep-going", "kept"]);
            assert_eq!(kept.code, Some(4), "{}", kept.stderr);
            let kept = lab.place().join("kept");
            assert!(kept.join("data/a/1099").exists() && !kept.join("data/a/z").exists(), "{shell:?}");
            fs::remove_dir_all(kept).unwrap();
        }
    });
}

#[test]
fn a_flipped_byte_in_a_list_costs_the_snapshots_that_need_it() {
    let lab = Lab::new(0);
    let overlay = lab.blob(&lab.layers[1]);
    while_flipped(overlay, || {
        for shell in SHELLS {
            let outcome = lab.run(shell, &["restore", "--keep-going", "out"]);
            assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("all of the snapshot would be lost"), "{}", outcome.stderr);
            assert!(!lab.place().join("out").exists());
            // The other snapshot does without it.
            let listed = lab.run(shell, &["list"]);
            let older = listed.stdout.split(' ').next().unwrap().to_owned();
            let outcome = lab.run(shell, &["restore", &older, "older"]);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert_eq!(fs::read(lab.place().join("older/data/many/0900")).unwrap().len(), 2700);
            fs::remove_dir_all(lab.place().join("older")).unwrap();
        }
    });
}

#[test]
fn a_truncated_or_deleted_pack_costs_what_was_in_it() {
    let lab = Lab::new(40 << 20);
    let has_manifest = |pack: &Path| lab.blobs.iter().any(|blob| blob.pack == pack && blob.kind == "list");
    let packs: BTreeSet<&PathBuf> = lab.blobs.iter().map(|blob| &blob.pack).collect();
    let pack = *packs.iter().find(|pack| !has_manifest(pack)).unwrap();
    let inside: Vec<&Blob> = lab.blobs.iter().filter(|blob| blob.pack == *pack).collect();
    // Where a frame ends, so that zstd sees nothing wrong in what is left.
    let cut = inside[inside.len() / 2].at;
    let left = fs::read(pack).unwrap()[..cut].to_vec();
    let lost = lab.users_of(|blob| blob.pack == *pack && blob.at >= cut);
    while_damaged(pack, &Damage::Replace(left), || {
        for shell in SHELLS {
            lab.loses(shell, &[], &lost, "truncated");
        }
        lab.loses(Shell::Dash, &["--no-check"], &lost, "truncated, not checked");
    });
    let lost = lab.users_of(|blob| blob.pack == *pack);
    while_damaged(pack, &Damage::Delete, || {
        for shell in SHELLS {
            lab.loses(shell, &[], &lost, "deleted");
        }
    });
}

#[test]
fn a_lost_index_costs_nothing_and_hides_no_damage() {
    let lab = Lab::new(0);
    fs::remove_dir_all(lab.repo().join("index")).unwrap();
    let blob = lab.needed("bundle");
    let lost = lab.users_of(|other| other.id == blob.id);
    for shell in SHELLS {
        lab.loses_nothing(shell, &[], "no index");
        while_flipped(blob, || lab.loses(shell, &[], &lost, "no index, and a bundle"));
    }
}

#[test]
fn damage_in_what_is_not_needed_costs_nothing() {
    let lab = Lab::new(0);
    let pack = &lab.needed("bundle").pack;
    let in_table = usize::try_from(fs::metadata(pack).unwrap().len()).unwrap() - 50;
    for shell in SHELLS {
        while_damaged(pack, &Damage::FlipAt(in_table), || lab.loses_nothing(shell, &[], "a table"));
        for damage in [Damage::Delete, Damage::Flip(500)] {
            let what = format!("repository.json, {damage:?}");
            let config = lab.repo().join("repository.json");
            while_damaged(&config, &damage, || lab.loses_nothing(shell, &[], &what));
        }
    }
}

#[test]
fn a_damaged_snapshot_is_not_passed_over_unasked() {
    let lab = Lab::new(0);
    let latest = lab.repo().join("snapshots").join(&lab.latest);
    for shell in SHELLS {
        while_damaged(&latest, &Damage::Flip(500), || {
            assert_eq!(lab.run(shell, &["list"]).code, Some(4));
            let refused = lab.run(shell, &["restore", "out"]);
            assert_eq!(refused.code, Some(4), "{}", refused.stderr);
            assert!(refused.stderr.contains("may be the latest"), "{}", refused.stderr);
            assert!(!lab.place().join("out").exists());
            let named = lab.run(shell, &["restore", &lab.latest, "out"]);
            assert_eq!(named.code, Some(4), "{}", named.stderr);
            assert!(named.stderr.contains("this snapshot is damaged"), "{}", named.stderr);
            let older = lab.run(shell, &["restore", "--keep-going", "older"]);
            assert_eq!(older.code, Some(4), "{}", older.stderr);
            assert!(older.stderr.contains("the damaged one may be newer"), "{}", older.stderr);
            assert!(lab.place().join("older/data/many/0900").exists(), "{}", older.stderr);
            fs::remove_dir_all(lab.place().join("older")).unwrap();
        });
    }
}

#[test]
fn damage_that_nobody_looked_for_is_found_by_zstd_even_without_a_checksum_tool() {
    let lab = Lab::new(0);
    fs::remove_file(lab.place().join("bin-Dash/sha256sum")).unwrap();
    let blob = lab.needed("bundle");
    let lost = lab.users_of(|other| other.id == blob.id);
    lab.loses_nothing(Shell::Dash, &["--no-check"], "nothing is damaged");
    while_flipped(blob, || lab.loses(Shell::Dash, &["--no-check"], &lost, "no sha256sum"));
    let outcome = lab.run(Shell::Dash, &["restore", "out"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("neither sha256sum nor shasum is installed"), "{}", outcome.stderr);
}

#[test]
fn check_names_what_is_damaged_or_missing() {
    let lab = Lab::new(0);
    let blob = lab.needed("bundle");
    let name = |path: &Path| format!("  {}\n", path.strip_prefix(lab.repo()).unwrap().display());
    for shell in SHELLS {
        assert_eq!(lab.run(shell, &["check"]).code, Some(0));
        while_flipped(blob, || {
            let outcome = lab.run(shell, &["check"]);
            assert_eq!((outcome.code, outcome.stdout), (Some(4), format!("damaged:\n{}", name(&blob.pack))));
        });
        while_damaged(&blob.pack, &Damage::Delete, || {
            let outcome = lab.run(shell, &["check"]);
            assert_eq!((outcome.code, outcome.stdout), (Some(4), format!("absent:\n{}", name(&blob.pack))));
        });
    }
}

#[test]
fn who_is_not_root_gets_everything_but_the_owners() {
    let lab = Lab::new(0);
    let is_root = fs::metadata(lab.place()).unwrap().uid() == 0;
    let nobody = 65_534;
    let restore = |shell: Shell| {
        let mut command = shell.command(lab.place());
        command.args(["for-nobody/recover.sh", "-r", "backups", "restore", "for-nobody/out"]);
        if is_root {
            command.uid(nobody).gid(nobody);
        }
        Outcome::of(&mut command)
    };
    // The repository's own is for its owner alone, as all of the repository is.
    fs::create_dir(lab.place().join("for-nobody")).unwrap();
    fs::copy(lab.repo().join("recover.sh"), lab.place().join("for-nobody/recover.sh")).unwrap();
    set_mode(&lab.place().join("for-nobody/recover.sh"), 0o644).unwrap();
    if is_root {
        set_mode(lab.place(), 0o755).unwrap();
        std::os::unix::fs::chown(lab.place().join("for-nobody"), Some(nobody), Some(nobody)).unwrap();
        for shell in SHELLS {
            let outcome = restore(shell);
            assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("you may not"), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("Run this as root"), "{}", outcome.stderr);
        }
        succeed(Command::new("chown").args(["-R", "65534:65534", "backups"]).current_dir(lab.place()));
    }
    for shell in SHELLS {
        let outcome = restore(shell);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        if is_root {
            // What belonged to root lends its new owner's rights to nobody.
            for (path, mode) in [("other/5", 0o711), ("other", 0o750)] {
                let path = lab.place().join("for-nobody/out/data").join(path);
                assert_eq!(
                    fs::metadata(&path).unwrap().mode() & 0o7777,
                    mode,
                    "{shell:?}: {}",
                    path.display()
                );
            }
        }
        lab.is_restored_but("for-nobody/out", &BTreeSet::new(), "not root", |tree| {
            for item in tree.values_mut() {
                item.owner = (0, 0);
                // Who gives a file to himself takes these away.
                item.mode &= 0o1777;
            }
        });
    }
}

/// Puts a tar before the real one that does something after it has extracted.
fn after_tar(lab: &Lab, shell: Shell, then: &str) {
    let tar = lab.place().join(format!("bin-{shell:?}/tar"));
    let real = fs::canonicalize(&tar).unwrap();
    let real =
        if shell == Shell::Busybox { format!("{} tar", real.display()) } else { real.display().to_string() };
    fs::remove_file(&tar).unwrap();
    let wrapper =
        format!("#!/bin/sh\n{real} \"$@\"\ncode=$?\ncase $1 in\n-x*) {then} ;;\nesac\nexit $code\n");
    fs::write(&tar, wrapper).unwrap();
    set_mode(&tar, 0o755).unwrap();
}

#[test]
fn a_file_that_came_out_short_never_gets_its_name() {
    let lab = Lab::new(0);
    for shell in SHELLS {
        after_tar(&lab, shell, "[ ! -f data/other/5 ] || echo short >data/other/5");
        let outcome = lab.run(shell, &["restore", "out"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        let lost = BTreeSet::from(["data/other/5".to_owned()]);
        assert_eq!(outcome.lost(), lost, "{}", outcome.stderr);
        lab.is_restored("out", &lost, "short");
    }
}

#[test]
fn damage_and_another_failure_are_both_told_and_damage_has_the_last_word() {
    let lab = Lab::new(0);
    let blob = lab.needed("bundle");
    let mut lost = lab.users_of(|other| other.id == blob.id);
    lost.insert("data/other/5".to_owned());
    for shell in SHELLS {
        after_tar(&lab, shell, "[ ! -f data/other/5 ] || echo short >data/other/5");
        while_flipped(blob, || {
            let outcome = lab.run(shell, &["restore", "--keep-going", "out"]);
            assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
            assert_eq!(outcome.lost(), lost, "{}", outcome.stderr);
            assert!(outcome.stderr.contains("and there were the errors above"), "{}", outcome.stderr);
            lab.is_restored("out", &lost, "damaged, and short");
        });
    }
}

#[test]
fn a_run_that_is_stopped_leaves_nothing_under_its_name() {
    let lab = Lab::new(0);
    for shell in SHELLS.into_iter().chain(OTHERS) {
        if OTHERS.contains(&shell) {
            shell.install(lab.place());
        }
        after_tar(&lab, shell, "[ ! -d data ] || kill -TERM 0");
        let mut command = shell.command(lab.place());
        let target = format!("out-{shell:?}");
        command.args(["backups/recover.sh", "restore", &target]).process_group(0);
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.code, Some(143), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("recover.sh: interrupted"), "{}", outcome.stderr);
        let names: Vec<_> =
            fs::read_dir(lab.place().join(target)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(
            matches!(&names[..], [name] if name.as_bytes().starts_with(b"recover-unfinished.")),
            "{names:?}"
        );
        assert!(outcome.stderr.contains(names[0].to_str().unwrap()), "{}", outcome.stderr);
    }
}

#[test]
fn wrong_usage_is_told_in_narrow_lines() {
    let lab = Lab::new(0);
    let long = "0123456789abcdef".repeat(4);
    let wrong: [(&[&str], i32); 9] = [
        (&[], 2),
        (&["unknown"], 2),
        (&["--unknown"], 2),
        (&["restore"], 2),
        (&["check", "--no-check"], 2),
        (&["list", "latest"], 2),
        (&["restore", &long, "out"], 1),
        (&["ls", &long, "data"], 1),
        (&["restore", "out", "no/such/path"], 1),
    ];
    let said = lab.run(Shell::Dash, &["restore", "nope", "no/such/path"]).stderr;
    assert!(said.contains("nope\nso that was taken for TARGET"), "{said}");
    for shell in SHELLS {
        assert_eq!(lab.run(shell, &["--help"]).code, Some(0));
        for (args, code) in wrong {
            let outcome = lab.run(shell, args);
            assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.stderr);
            assert!(!lab.place().join("out").exists(), "{args:?}");
        }
    }
}
