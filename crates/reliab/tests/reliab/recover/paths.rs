//! Paths that are asked for, and the folders around what was backed up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::lab::{OTHERS, Outcome, SHELLS, Shell, link};
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::Scratch;

/// A backup: where it runs, of what, and which paths below the scratch folder are in it and are not.
struct Run<'a> {
    folder: &'a str,
    sources: &'a [&'a str],
    found: &'a [&'a str],
    absent: &'a [&'a str],
}

/// Files of two folders that are called alike, and the shells.
fn place() -> Scratch {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    for (path, content) in
        [("srv/app/settings", "outer"), ("srv/app/app/other", "inner"), ("mnt/app/settings", "elsewhere")]
    {
        fs::create_dir_all(place.join(path).parent().unwrap()).unwrap();
        fs::write(place.join(path), content).unwrap();
    }
    SHELLS.into_iter().chain(OTHERS).for_each(|shell| shell.install(place));
    scratch
}

fn reliab(place: &Path, folder: &str, args: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(args).args(["--quiet", "--repo"]).arg(place.join("backups")).current_dir(place.join(folder));
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command.output().unwrap().status.code()
}

fn recover(shell: Shell, place: &Path, args: &[&str]) -> Outcome {
    Outcome::of(shell.command(place).arg("backups/recover.sh").args(args))
}

#[test]
fn a_path_from_the_root_leads_where_it_leads_reliab() {
    let scratch = place();
    let place = scratch.path();
    let top = place.to_str().unwrap();
    let mnt = format!("{top}/mnt/app");
    let whole = format!("{top}/srv/app");
    let (by_whole_path, both) = ([&whole[..]], ["app", &mnt]);
    let run = |folder, sources, found, absent| Run { folder, sources, found, absent };
    let runs = [
        run(
            "srv",
            &["app"],
            &["srv/app/settings", "srv/app/app", "srv/app"],
            &["srv/app/app/settings", "mnt/app/settings"],
        ),
        run("srv/app", &["."], &["srv/app/settings", "srv/app/app/other"], &["srv/app/absent"]),
        run("", &by_whole_path, &["srv/app/settings", "srv/app", "srv"], &["srv/app/app/settings"]),
        run("", &["./srv/../srv/app/"], &["srv/app/settings", "srv/app"], &["mnt"]),
        // Whose name `app` is cannot be told.
        run("srv", &both, &["mnt/app/settings"], &["srv/app/settings"]),
    ];
    let all = [SHELLS, OTHERS].concat();
    for (number, Run { folder, sources, found, absent }) in runs.into_iter().enumerate() {
        // All of them understand the first; the rest is arithmetic.
        let shells = if number == 0 { &all[..] } else { &all[..1] };
        assert_eq!(reliab(place, folder, &[&["backup"], sources].concat()), Some(0));
        for path in found {
            let whole = format!("{top}/{path}");
            assert_eq!(
                reliab(place, "", &["restore", &format!("latest:{whole}"), "--target", "by-reliab"]),
                Some(0)
            );
            for &shell in shells {
                let outcome = recover(shell, place, &["restore", "latest", "out", &whole]);
                assert_eq!(outcome.code, Some(0), "{shell:?}, {sources:?}: {whole}: {}", outcome.stderr);
                let differs =
                    Command::new("diff").args(["-r", "by-reliab", "out"]).current_dir(place).output();
                assert_eq!(
                    String::from_utf8_lossy(&differs.unwrap().stdout),
                    "",
                    "{shell:?}, {sources:?}: {whole}"
                );
                fs::remove_dir_all(place.join("out")).unwrap();
            }
            fs::remove_dir_all(place.join("by-reliab")).unwrap();
        }
        for path in absent {
            let whole = format!("{top}/{path}");
            assert_eq!(reliab(place, "", &["ls", &format!("latest:{whole}")]), Some(2));
            for &shell in shells {
                let outcome = recover(shell, place, &["ls", "latest", &whole]);
                assert_eq!(outcome.code, Some(1), "{shell:?}, {sources:?}: {whole}: {}", outcome.stdout);
                assert!(
                    outcome.stderr.contains(&format!("there is no {}", &whole[1..])),
                    "{}",
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn folders_around_a_source_are_as_open_as_those_that_reliab_makes() {
    let scratch = place();
    let place = scratch.path();
    let source = place.join("srv/app");
    assert_eq!(reliab(place, "", &["backup", source.to_str().unwrap()]), Some(0));
    let modes = |target: &str| {
        let folders = source.ancestors().filter_map(|path| path.strip_prefix("/").ok());
        let mode = |path: &Path| fs::metadata(place.join(target).join(path)).unwrap().mode() & 0o7777;
        folders.map(mode).collect::<Vec<_>>()
    };
    for umask in ["022", "077"] {
        let script = format!("umask {umask}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_reliab"),
            "restore",
            "latest",
            "--target",
            "by-reliab",
        ]);
        command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
        assert!(command.current_dir(place).output().unwrap().status.success());
        for shell in SHELLS {
            let mut command = shell.command(place);
            command.args(["-c", &script, "sh", "sh", "backups/recover.sh", "restore", "out"]);
            let outcome = Outcome::of(&mut command);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert_eq!(modes("out"), modes("by-reliab"), "{shell:?}, {umask}");
            fs::remove_dir_all(place.join("out")).unwrap();
        }
        fs::remove_dir_all(place.join("by-reliab")).unwrap();
    }
}

#[test]
fn a_path_that_is_copied_from_a_list_is_found_wherever_its_source_lay() {
    let scratch = place();
    let place = scratch.path();
    let top = place.to_str().unwrap();
    fs::write(place.join("srv/app/a\nb"), "of two lines").unwrap();
    assert_eq!(reliab(place, "", &["backup", &format!("{top}/srv/app")]), Some(0));
    let listed = recover(SHELLS[0], place, &["ls", "latest"]).stdout;
    let line = listed.lines().find(|line| line.ends_with("a%0Ab")).unwrap();
    for path in [line.to_owned(), format!("/{line}")] {
        let outcome = recover(SHELLS[0], place, &["restore", "latest", "out", &path]);
        assert_eq!(outcome.code, Some(0), "{path}: {}", outcome.stderr);
        let file = place.join("out").join(&top[1..]).join("srv/app/a\nb");
        assert_eq!(fs::read_to_string(file).unwrap(), "of two lines");
        fs::remove_dir_all(place.join("out")).unwrap();
    }
}

#[test]
fn a_name_that_begins_like_a_path_of_another_system_is_that_name() {
    let scratch = place();
    let (place, odd) = (scratch.path(), scratch.path().join("odd"));
    fs::create_dir_all(odd.join("d:")).unwrap();
    for (name, content) in
        [("b", "1"), ("\\b", "2"), ("c:b", "3"), ("d:/b", "4"), ("large", "5"), ("e:large", "6")]
    {
        let size = if name.ends_with("large") { 600_000 } else { 1 };
        fs::write(odd.join(name), content.repeat(size)).unwrap();
    }
    fs::hard_link(odd.join("b"), odd.join("x:b")).unwrap();
    std::os::unix::fs::symlink("c:b", odd.join("y:b")).unwrap();
    assert_eq!(reliab(place, "odd", &["backup", "."]), Some(0));
    link(&place.join("bin-Dash"), "bsdtar", "bsdtar");
    let seen = |path: &Path| {
        let mut tree = scan(path).unwrap();
        tree.values_mut().for_each(|item| item.mtime.1 = 0);
        tree
    };
    for (shell, tar) in [(Shell::Dash, "bsdtar"), (Shell::Dash, "tar"), (Shell::Busybox, "tar")] {
        let mut command = shell.command(place);
        command.env("RECOVER_TAR", tar).args(["backups/recover.sh", "restore", "out"]);
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.code, Some(0), "{shell:?}, {tar}: {}", outcome.stderr);
        assert_eq!(
            differences(&seen(&odd), &seen(&place.join("out"))),
            Vec::<String>::new(),
            "{shell:?}, {tar}"
        );
        fs::remove_dir_all(place.join("out")).unwrap();
    }
}
