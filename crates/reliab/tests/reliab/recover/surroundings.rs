//! Other shells and awks, settings of whoever runs the script, odd targets, tools that fail.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::lab::{Lab, OTHERS, Outcome, SHELLS, Shell, back_up, link, succeed, while_damaged, while_flipped};
use reliab_testkit::damage::Damage;
use reliab_testkit::tree::set_mode;

#[test]
fn other_shells_and_awks_do_the_same() {
    let lab = Lab::new(0);
    let blob = lab.needed("bundle");
    let lost = lab.users_of(|other| other.id == blob.id);
    for shell in OTHERS {
        shell.install(lab.place());
        lab.loses_nothing(shell, &[], "nothing is damaged");
        while_flipped(blob, || lab.loses(shell, &[], &lost, "bundle"));
        assert_eq!(lab.run(shell, &["list"]).stdout.lines().count(), 2);
        assert_eq!(lab.run(shell, &["ls"]).stdout.lines().count(), lab.entries.len());
        assert_eq!(lab.run(shell, &["check"]).code, Some(0));
    }
}

#[test]
fn settings_of_whoever_runs_it_change_nothing() {
    let lab = Lab::new(0);
    let settings = [
        ("BLOCK_SIZE", "1K"),
        ("LS_BLOCK_SIZE", "1M"),
        ("BROKEN", "1"),
        ("CDPATH", "/"),
        ("IFS", "/"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("POSIXLY_CORRECT", "1"),
        ("TAR_OPTIONS", "--exclude=*"),
        ("TMPDIR", "backups"),
        ("TZ", "Asia/Kolkata"),
        ("W", "/etc"),
    ];
    for shell in SHELLS {
        let run = |args: &[&str]| {
            let mut command = shell.command(lab.place());
            Outcome::of(command.envs(settings).arg("backups/recover.sh").args(args))
        };
        let outcome = run(&["restore", "out"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("damaged"), "{}", outcome.stderr);
        lab.is_restored("out", &BTreeSet::new(), "settings");
        assert_eq!(run(&["ls"]).stdout.lines().count(), lab.entries.len());
    }
}

#[test]
fn a_target_is_the_folder_of_that_name_and_none_of_the_repository() {
    let lab = Lab::new(0);
    for shell in SHELLS {
        // Not the folder beside it, whose name has no line feed.
        fs::create_dir(lab.place().join("out")).unwrap();
        fs::write(lab.place().join("out/mine"), "mine").unwrap();
        let outcome = lab.run(shell, &["restore", "out\n"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!(fs::read_dir(lab.place().join("out")).unwrap().count(), 1);
        lab.is_restored("out\n", &BTreeSet::new(), "a line feed");
        fs::remove_dir_all(lab.place().join("out")).unwrap();
        // One that holds nothing but such a name is not empty.
        fs::create_dir_all(lab.place().join("out/\n")).unwrap();
        let outcome = lab.run(shell, &["restore", "out"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("is not empty"), "{}", outcome.stderr);
        fs::remove_dir_all(lab.place().join("out")).unwrap();
        for folder in ["backups/tmp/out", "backups/packs/out", "backups/out", "data/../backups/out"] {
            let outcome = lab.run(shell, &["restore", folder]);
            assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("lies in the repository itself"), "{}", outcome.stderr);
            assert!(!lab.place().join(folder).exists());
        }
    }
}

#[test]
fn a_target_that_may_not_be_looked_into_is_not_taken_for_empty() {
    let lab = Lab::new(0);
    let nobody = 65_534;
    let target = lab.place().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("data"), "mine").unwrap();
    set_mode(&target, 0o300).unwrap();
    for shell in SHELLS {
        let mut command = shell.command(lab.place());
        if fs::metadata(lab.place()).unwrap().uid() == 0 {
            let owned = Command::new("chown")
                .args(["-R", "65534:65534", "out", "backups"])
                .current_dir(lab.place())
                .status();
            assert!(owned.unwrap().success());
            set_mode(lab.place(), 0o755).unwrap();
            command.uid(nobody).gid(nobody);
        }
        let outcome = Outcome::of(command.args(["backups/recover.sh", "restore", "out"]));
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("you may not look into"), "{}", outcome.stderr);
        assert_eq!(fs::read(target.join("data")).unwrap(), b"mine");
    }
    set_mode(&target, 0o700).unwrap();
}

#[test]
fn nothing_that_was_restored_is_taken_for_a_tool() {
    let lab = Lab::new(0);
    let tools = lab.place().join("data");
    let ran = lab.place().join("ran-it");
    for tool in ["awk", "cat", "chmod", "mv", "rm", "setfattr", "b3sum", "sha256sum"] {
        fs::write(tools.join(tool), format!("#!/bin/sh\n: >{}\n", ran.display())).unwrap();
        set_mode(&tools.join(tool), 0o755).unwrap();
    }
    back_up(lab.place());
    for shell in SHELLS {
        for (before, after) in [("data:.::", ""), ("", "::.:data")] {
            let mut command = shell.command(lab.place());
            let path = format!("{before}{}{after}", lab.place().join(format!("bin-{shell:?}")).display());
            let outcome =
                Outcome::of(command.env("PATH", path).args(["backups/recover.sh", "restore", "out"]));
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert!(!ran.exists(), "{before} {after}");
            lab.is_restored("out", &BTreeSet::new(), "another PATH");
        }
    }
}

#[test]
fn no_name_commands_a_terminal() {
    let lab = Lab::new(0);
    fs::write(lab.place().join("data/\u{9b}31m é\u{1b}"), "odd").unwrap();
    back_up(lab.place());
    for shell in SHELLS.into_iter().chain(OTHERS) {
        if OTHERS.contains(&shell) {
            shell.install(lab.place());
        }
        let outcome = lab.run(shell, &["ls"]);
        assert!(outcome.stdout.contains("data/%C2%9B31m é%1B\n"), "{}", outcome.stdout);
        assert!(!outcome.stdout.contains('\u{9b}'));
        // Such a path is understood.
        let outcome = lab.run(shell, &["ls", "latest", "data/%C2%9B31m é%1B"]);
        assert_eq!(outcome.stdout, "data/%C2%9B31m é%1B\n", "{}", outcome.stderr);
    }
}

/// Puts a script in the place of a tool of dash's folder; `REAL` in it is the tool.
fn replace(lab: &Lab, tool: &str, script: &str) {
    let path = lab.place().join("bin-Dash").join(tool);
    let real = fs::canonicalize(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let script = script.replace("REAL", real.to_str().unwrap());
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    set_mode(&path, 0o755).unwrap();
}

#[test]
fn a_tool_that_fails_on_the_way_is_never_called_success() {
    let failing = [
        ("sort", "REAL \"$@\"\nexit 2"),
        // What is to be stamped anew is lost on the way: somebody killed it for want of memory.
        ("awk", "case \"$*\" in */restamp) kill -9 $$ ;; esac\nexec REAL \"$@\""),
    ];
    for (tool, script) in failing {
        let lab = Lab::new(0);
        replace(&lab, tool, script);
        let outcome = lab.run(Shell::Dash, &["restore", "out"]);
        assert_eq!(outcome.code, Some(1), "{tool}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("done:"), "{tool}: {}", outcome.stderr);
    }
}

#[test]
fn a_tar_that_ends_early_is_no_damage_also_where_sigpipe_is_ignored() {
    let lab = Lab::new(0);
    replace(&lab, "tar", "case $1 in -x*) head -c 100000 >/dev/null; exit 2 ;; esac\nexec REAL \"$@\"");
    for signal in ["", "trap '' PIPE; "] {
        let mut command = Shell::Dash.command(lab.place());
        let script = format!("{signal}exec sh \"$@\"");
        let outcome =
            Outcome::of(command.args(["-c", &script, "sh", "backups/recover.sh", "restore", "out"]));
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("zstd refuses"), "{}", outcome.stderr);
        fs::remove_dir_all(lab.place().join("out")).unwrap();
    }
}

#[test]
fn no_name_of_a_source_commands_a_terminal() {
    let lab = Lab::new(0);
    let source = "d\u{9b}31m";
    fs::create_dir(lab.place().join(source)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(["backup", source, "--tag", source, "--quiet"]).current_dir(lab.place());
    command.env("RELIAB_STATE_DIR", lab.place().join("state"));
    succeed(command.env("RELIAB_CACHE_DIR", lab.place().join("cache")));
    for shell in SHELLS.into_iter().chain(OTHERS) {
        if OTHERS.contains(&shell) {
            shell.install(lab.place());
        }
        for args in [&["list"][..], &["ls"]] {
            let outcome = lab.run(shell, args);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            let said = outcome.stdout + &outcome.stderr;
            assert!(said.contains("/d%C2%9B31m") && !said.contains('\u{9b}'), "{shell:?}: {said:?}");
        }
    }
}

#[test]
fn a_configuration_that_is_a_pipe_is_not_waited_for() {
    let lab = Lab::new(0);
    fs::remove_file(lab.repo().join("repository.json")).unwrap();
    succeed(Command::new("mkfifo").arg(lab.repo().join("repository.json")));
    for shell in SHELLS {
        let bin = lab.place().join(format!("bin-{shell:?}"));
        if !bin.join("timeout").exists() {
            link(&bin, "timeout", "timeout");
        }
        let mut command = Command::new(bin.join("timeout"));
        command.arg("60").arg(bin.join("sh")).args(["backups/recover.sh", "list"]);
        let outcome = Outcome::of(command.env_clear().env("PATH", bin).current_dir(lab.place()));
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("repository.json is missing"), "{}", outcome.stderr);
    }
}

#[test]
fn a_pack_whose_length_nobody_tells_is_not_taken_for_whole() {
    let lab = Lab::new(40 << 20);
    let mut chunks = lab.blobs.iter().filter(|blob| blob.kind == "chunk");
    let cut =
        chunks.rfind(|chunk| !lab.blobs.iter().any(|blob| blob.kind == "list" && blob.pack == chunk.pack));
    let cut = cut.unwrap();
    // Where a frame begins, so that zstd sees nothing wrong in what is left.
    let left = fs::read(&cut.pack).unwrap()[..cut.at].to_vec();
    while_damaged(&cut.pack, &Damage::Replace(left), || {
        let is_refused = || {
            let mut command = Shell::Dash.command(lab.place());
            command.env("QUOTING_STYLE", "c").args(["backups/recover.sh", "--no-check", "restore", "out"]);
            let outcome = Outcome::of(&mut command);
            assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
            assert!(outcome.lost().contains("data/a large file"), "{}", outcome.stderr);
        };
        is_refused();
        replace(&lab, "ls", "REAL \"$@\" | sed 's/[^ ]*$/\"&\"/'");
        is_refused();
    });
}

#[test]
fn attributes_that_were_not_restored_are_never_called_success() {
    let lab = Lab::after(&[|data| {
        for name in ["first", "last"] {
            fs::create_dir_all(data.join(name)).unwrap();
            fs::write(data.join(name).join("file"), name).unwrap();
            succeed(Command::new("setfattr").args(["-n", "user.note", "-v", name]).arg(data.join(name)));
        }
    }]);
    let is_not_done = |shell, said: &str| {
        let outcome = lab.run(shell, &["restore", "out"]);
        assert_eq!(outcome.code, Some(1), "{shell:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(said) && !outcome.stderr.contains("done:"),
            "{shell:?}: {}",
            outcome.stderr
        );
        fs::remove_dir_all(lab.place().join("out")).unwrap();
    };
    is_not_done(Shell::Busybox, "2 paths have extended attributes or ACLs");
    // Where the records of folders are lost, the page has their attributes, too.
    let is_needed = |id: &String| lab.entries.values().any(|entry| entry.needs.contains(id));
    let folders = lab.blobs.iter().find(|blob| blob.kind == "bundle" && !is_needed(&blob.id)).unwrap();
    while_flipped(folders, || {
        lab.loses_nothing(Shell::Dash, &[], "records of folders");
        replace(&lab, "setfattr", "case \"$*\" in *first*) exit 1 ;; esac\nexec REAL \"$@\"");
        is_not_done(Shell::Dash, "some extended attributes could not be set");
        fs::remove_file(lab.place().join("bin-Dash/setfattr")).unwrap();
        is_not_done(Shell::Dash, "setfattr is not installed");
    });
}

#[test]
fn notes_are_closed_to_others_also_where_a_default_acl_lets_them_in() {
    let lab = Lab::new(0);
    // Owner, user 65534, group, mask: rwx; others: r-x (acl(5), as Linux keeps it).
    let acl = "0x0200000001000700ffffffff02000700feff000004000700ffffffff10000700ffffffff20000500ffffffff";
    fs::create_dir(lab.place().join("out")).unwrap();
    let set = ["-n", "system.posix_acl_default", "-v", acl];
    succeed(Command::new("setfattr").args(set).arg(lab.place().join("out")));
    let seen = lab.place().join("seen");
    replace(
        &lab,
        "tar",
        &format!("[ ! -d ../notes ] || stat -c %a .. ../notes >>{}\nexec REAL \"$@\"", seen.display()),
    );
    let outcome = lab.run(Shell::Dash, &["restore", "out"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let modes = fs::read_to_string(seen).unwrap();
    assert!(modes.contains("700\n700\n") && modes.lines().all(|mode| mode == "700"), "{modes}");
    // Nor is it passed on to what is restored.
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        let mut get = Command::new("getfattr");
        let got = get.args(["-n", name]).arg(lab.place().join("out/data")).output().unwrap();
        assert!(
            !got.status.success() && String::from_utf8_lossy(&got.stderr).contains("No such attribute"),
            "{name}: {got:?}"
        );
    }
}

#[test]
fn root_is_told_where_others_could_interfere() {
    let lab = Lab::new(0);
    if fs::metadata(lab.place()).unwrap().uid() != 0 {
        return;
    }
    let warned = |folder: &str| {
        let target = format!("{folder}/out");
        for shell in SHELLS {
            let outcome = lab.run(shell, &["restore", &target, "data/other/5"]);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            let says = outcome.stderr.contains("others than root may write to");
            let names = outcome.stderr.contains(&format!("  {}\n", lab.place().join(folder).display()));
            assert_eq!(says, names, "{folder}: {}", outcome.stderr);
            fs::remove_dir_all(lab.place().join(&target)).unwrap();
            if !says {
                return false;
            }
        }
        true
    };
    for (folder, mode, owner) in [
        ("roots", 0o755, (0, 0)),
        ("sticky", 0o1777, (0, 0)),
        ("group 0", 0o775, (0, 0)),
        ("own", 0o755, (65_534, 0)),
    ] {
        fs::create_dir(lab.place().join(folder)).unwrap();
        std::os::unix::fs::chown(lab.place().join(folder), Some(owner.0), Some(owner.1)).unwrap();
        set_mode(&lab.place().join(folder), mode).unwrap();
        assert_eq!(warned(folder), owner.0 != 0, "{folder}");
    }
    set_mode(&lab.place().join("roots"), 0o777).unwrap();
    assert!(warned("roots"));
    std::os::unix::fs::chown(lab.place().join("group 0"), None, Some(100)).unwrap();
    assert!(warned("group 0"));
}
