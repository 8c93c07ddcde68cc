//! Real file systems beside df and du. Needs root, loop devices and the kernel's ext4, xfs, btrfs and overlay.

use std::fs;
use std::path::Path;

use crate::support::{Bench, alone, as_df, df, run};

/// Some files, an inode each, on the disk and not only on their way.
fn fill(point: &str) {
    for number in 0..300 {
        let folder = Path::new(point).join(format!("d{}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}")), vec![1; number * 97]).unwrap();
    }
    fs::hard_link(Path::new(point).join("d3/3"), Path::new(point).join("d4/second name")).unwrap();
    run("sync", &["-f", point]);
}

/// The figures of the program beside those of df, and its directories beside those of du.
fn compare(bench: &Bench, point: &str) {
    fill(point);
    let ours = bench.mount(point);
    assert_eq!(as_df(&ours), df(point), "{ours}");
    assert_eq!(ours["level"], "ok", "{ours}");
    let dirs = bench.json(&["--dirs", point, "--depth", "3", "--top", "100"]);
    for directory in dirs["directories"].as_array().unwrap().iter().chain([&dirs]) {
        let path = directory["path"].as_str().unwrap();
        let du = run("du", &["-sxB1", path]);
        // A file with two names counts for the first directory only, and du was asked for each alone.
        if !path.ends_with("d4") {
            assert_eq!(directory["bytes"].to_string(), du.split('\t').next().unwrap(), "{path}");
        }
    }
    // ext4 has a folder of its own.
    assert!((7..=8).contains(&dirs["directories"].as_array().unwrap().len()));
}

#[test]
fn ext4_is_as_df_and_du_show_it() {
    alone("file_systems::ext4_is_as_df_and_du_show_it", |bench| {
        compare(bench, &bench.mount_image("ext4", 64, "rw"));
    });
}

#[test]
fn xfs_is_as_df_and_du_show_it() {
    alone("file_systems::xfs_is_as_df_and_du_show_it", |bench| {
        compare(bench, &bench.mount_image("xfs", 320, "rw"));
    });
}

#[test]
fn btrfs_is_as_df_and_du_show_it() {
    alone("file_systems::btrfs_is_as_df_and_du_show_it", |bench| {
        compare(bench, &bench.mount_image("btrfs", 160, "rw"));
    });
}

#[test]
fn tmpfs_is_as_df_and_du_show_it() {
    alone("file_systems::tmpfs_is_as_df_and_du_show_it", |bench| {
        compare(bench, &bench.mount_tmpfs("t", "size=64m,nr_inodes=5000"));
    });
}

#[test]
fn subvolumes_and_bind_mounts_are_one_file_system() {
    alone("file_systems::subvolumes_and_bind_mounts_are_one_file_system", |bench| {
        let btrfs = bench.mount_image("btrfs", 160, "rw");
        run("btrfs", &["subvolume", "create", &format!("{btrfs}/sub")]);
        let sub = bench.folder("sub");
        let source = run("findmnt", &["-no", "SOURCE", &btrfs]);
        run("mount", &["-o", "subvol=sub", source.trim(), &sub]);
        let ext4 = bench.mount_image("ext4", 32, "rw");
        let folder = bench.folder("mnt-ext4/deep/folder");
        let bound = bench.folder("bound");
        run("mount", &["--bind", &folder, &bound]);
        let again = bench.folder("a");
        run("mount", &["--bind", &ext4, &again]);
        let document = bench.json(&[]);
        let here = bench.text("");
        let points: Vec<&str> = document["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|mount| mount["mount"].as_str())
            .filter(|point| point.starts_with(&here))
            .collect();
        // Of two mounts of the whole file system the shorter path is shown.
        assert_eq!(points, [again.as_str(), btrfs.as_str()]);
        assert_eq!(as_df(&bench.mount(&bound)), df(&bound));
        assert_eq!(as_df(&bench.mount(&sub)), df(&sub));
        // A bind mount inside a tree is no part of it.
        let inner = bench.folder("mnt-ext4/inner");
        run("mount", &["--bind", &folder, &inner]);
        fs::write(Path::new(&folder).join("file"), vec![1; 1 << 20]).unwrap();
        run("sync", &["-f", &ext4]);
        let dirs = bench.json(&["--dirs", &ext4, "--depth", "1"]);
        let sizes: Vec<(&str, bool)> = dirs["directories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|directory| {
                let path = directory["path"].as_str().unwrap();
                (path.rsplit('/').next().unwrap(), directory["bytes"].as_u64().unwrap() >= 1 << 20)
            })
            .collect();
        assert_eq!(sizes, [("deep", true), ("lost+found", false)]);
        let across = bench.json(&["--dirs", &ext4, "--depth", "1", "--across"]);
        let du = run("du", &["-sB1", &format!("{ext4}/inner")]);
        let inner =
            across["directories"].as_array().unwrap().iter().find(|dir| dir["path"] == inner.as_str());
        assert_eq!(inner.unwrap()["bytes"].to_string(), du.split('\t').next().unwrap());
    });
}

#[test]
fn an_overlay_is_as_df_shows_it_and_not_counted_beside_its_layer() {
    alone("file_systems::an_overlay_is_as_df_shows_it_and_not_counted_beside_its_layer", |bench| {
        let base = bench.mount_image("ext4", 64, "rw");
        for name in ["lower", "upper", "work"] {
            fs::create_dir(Path::new(&base).join(name)).unwrap();
        }
        let merged = bench.folder("merged");
        let layers = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
        run("mount", &["-t", "overlay", "-o", &layers, "overlay", &merged]);
        fs::write(Path::new(&merged).join("file"), vec![1; 3 << 20]).unwrap();
        run("sync", &["-f", &merged]);
        let ours = bench.mount(&merged);
        assert_eq!(as_df(&ours), df(&merged), "{ours}");
        let document = bench.json(&[]).to_string();
        assert!(document.contains(&base) && !document.contains(&merged), "{document}");
        // Something else is mounted where the upper directory was, as in a container.
        run("mount", &["-t", "tmpfs", "-o", "size=8m", "other", &format!("{base}/upper")]);
        let document = bench.json(&[]).to_string();
        assert!(document.contains(&base) && document.contains(&merged), "{document}");
    });
}

#[test]
fn what_another_mount_hides_is_not_measured_in_its_place() {
    alone("file_systems::what_another_mount_hides_is_not_measured_in_its_place", |bench| {
        let point = bench.mount_tmpfs("t", "size=8m");
        run("mount", &["-t", "tmpfs", "-o", "size=16m", "upper", &point]);
        let document = bench.json(&[]);
        let mounts = document["mounts"].as_array().unwrap();
        let here: Vec<_> = mounts.iter().filter(|mount| mount["mount"] == point.as_str()).collect();
        assert_eq!(here.len(), 1);
        assert_eq!((here[0]["size"].as_u64(), here[0]["device"].as_str()), (Some(16 << 20), Some("upper")));
    });
}

#[test]
fn names_with_blanks_and_newlines_are_found() {
    alone("file_systems::names_with_blanks_and_newlines_are_found", |bench| {
        let point = bench.mount_tmpfs("a b\n\tc\\d#ü", "size=8m");
        assert_eq!(as_df(&bench.mount(&point)), df(&point));
        let document = bench.json(&[]);
        assert!(document["mounts"].as_array().unwrap().iter().any(|mount| mount["mount"] == point.as_str()));
        let (_, line, _) = bench.disk(&["--nagios"]);
        assert_eq!(line.lines().count(), 1, "{line}");
    });
}

#[test]
fn a_path_or_a_link_leads_to_the_file_system_that_holds_it() {
    alone("file_systems::a_path_or_a_link_leads_to_the_file_system_that_holds_it", |bench| {
        let point = bench.mount_tmpfs("t", "size=8m");
        let inside = bench.folder("t/deep/folder");
        std::os::unix::fs::symlink(&inside, bench.path("link")).unwrap();
        for path in [format!("{point}/"), inside, bench.text("link"), "t/deep".to_owned()] {
            assert_eq!(bench.mount(&path)["mount"], point.as_str(), "{path}");
        }
        let (code, out, _) = bench.disk(&["absent"]);
        assert!(code == 3 && out.contains("there is no such file"), "{out}");
    });
}

#[test]
fn a_read_only_remount_is_noticed() {
    alone("file_systems::a_read_only_remount_is_noticed", |bench| {
        let point = bench.mount_image("ext4", 16, "rw");
        assert_eq!(bench.mount(&point)["level"], "ok");
        run("mount", &["-o", "remount,ro", &point]);
        for _ in 0..2 {
            let ours = bench.mount(&point);
            assert_eq!((ours["level"].as_str(), ours["read_only"].as_bool()), (Some("critical"), Some(true)));
            assert!(ours["summary"].as_str().unwrap().contains("became read-only"), "{ours}");
        }
        bench.configure(&format!("[[disk.mount]]\npath = {point:?}\nread_only = true\n"));
        assert_eq!(bench.mount(&point)["level"], "ok");
        bench.configure("");
        run("mount", &["-o", "remount,rw", &point]);
        assert_eq!(bench.mount(&point)["level"], "ok");
    });
}

#[test]
fn a_read_only_view_of_a_writable_disk_is_no_trouble_unless_it_must_be_writable() {
    let name = "file_systems::a_read_only_view_of_a_writable_disk_is_no_trouble_unless_it_must_be_writable";
    alone(name, |bench| {
        let point = bench.mount_image("ext4", 16, "rw");
        assert_eq!(bench.mount(&point)["level"], "ok");
        // What ProtectSystem=strict does to a service.
        run("mount", &["-o", "remount,bind,ro", &point]);
        let ours = bench.mount(&point);
        assert_eq!((ours["level"].as_str(), ours["read_only"].as_bool()), (Some("ok"), Some(true)), "{ours}");
        bench.configure(&format!("[[disk.mount]]\npath = {point:?}\nread_only = false\n"));
        assert_eq!(bench.mount(&point)["level"], "critical");
    });
}

#[test]
fn an_ext4_with_an_error_is_critical_at_once() {
    alone("file_systems::an_ext4_with_an_error_is_critical_at_once", |bench| {
        let point = bench.mount_image("ext4", 16, "errors=remount-ro");
        let source = run("findmnt", &["-no", "SOURCE", &point]);
        let device = source.trim().rsplit('/').next().unwrap();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(&trigger, "planted")
            .unwrap_or_else(|error| panic!("{trigger}: {error}; is /sys writable?"));
        assert!(fs::write(Path::new(&point).join("file"), "x").is_err());
        let ours = bench.mount(&point);
        assert_eq!(ours["level"], "critical", "{ours}\n{}", run("findmnt", &["-o", "ALL", &point]));
        assert!(ours["summary"].as_str().unwrap().contains("see the kernel's log"), "{ours}");
        let (code, out, _) = bench.disk(&["--quiet"]);
        assert!(code == 2 && out.starts_with("CRITICAL: ") && out.contains(&point), "{out}");
    });
}

#[test]
fn an_xfs_that_shut_itself_down_is_critical() {
    alone("file_systems::an_xfs_that_shut_itself_down_is_critical", |bench| {
        let point = bench.mount_image("xfs", 320, "rw");
        assert_eq!(bench.mount(&point)["level"], "ok");
        run("xfs_io", &["-x", "-c", "shutdown", &point]);
        let ours = bench.mount(&point);
        assert_eq!(
            (ours["level"].as_str(), ours["summary"].as_str()),
            (Some("critical"), Some("Input/output error"))
        );
    });
}

#[test]
fn an_absent_mount_and_another_device_are_critical() {
    alone("file_systems::an_absent_mount_and_another_device_are_critical", |bench| {
        let point = bench.folder("data");
        bench.configure(&format!("[[disk.mount]]\npath = {point:?}\ndevice = \"scratch\"\n"));
        for args in [&[][..], &[point.as_str()]] {
            let (code, out, _) = bench.disk(args);
            assert!(code == 2 && out.contains(&format!("CRITICAL: {point}: not mounted")), "{out}");
        }
        run("mount", &["-t", "tmpfs", "-o", "size=8m", "other", &point]);
        assert_eq!(bench.mount(&point)["summary"], "other is mounted, and must be scratch");
        run("umount", &[&point]);
        bench.mount_tmpfs("data", "size=8m");
        assert_eq!(bench.mount(&point)["level"], "ok");
        let image = bench.mount_image("ext4", 16, "rw");
        let source = run("findmnt", &["-no", "SOURCE", &image]);
        bench.configure(&format!("[[disk.mount]]\npath = {image:?}\ndevice = {:?}\n", source.trim()));
        assert_eq!(bench.mount(&image)["level"], "ok");
    });
}

#[test]
fn a_level_is_left_later_than_it_is_reached() {
    alone("file_systems::a_level_is_left_later_than_it_is_reached", |bench| {
        let point = bench.mount_tmpfs("t", "size=10m");
        let file = Path::new(&point).join("file");
        let mut at = |percent: usize| {
            fs::write(&file, vec![1; percent * ((10 << 20) / 100) / 4096 * 4096]).unwrap();
            bench.mount(&point)["level"].as_str().unwrap().to_owned()
        };
        // Warning from 80 % used on, critical from 90 %; left when a tenth more is free.
        let levels = [79, 81, 79, 91, 90, 88, 79, 77, 79].map(&mut at);
        let expected = ["ok", "warning", "warning", "critical", "critical", "warning", "warning", "ok", "ok"];
        assert_eq!(levels, expected);
    });
}

#[test]
fn a_path_that_is_no_text_leads_to_the_file_system_that_holds_it() {
    use std::os::unix::ffi::OsStrExt;
    alone("file_systems::a_path_that_is_no_text_leads_to_the_file_system_that_holds_it", |bench| {
        let point = bench.mount_tmpfs("odd", "size=4m");
        let below = Path::new(&point).join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
        fs::create_dir(&below).unwrap();
        let output = bench.command(&["--json"]).arg(&below).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["mounts"][0]["mount"], point, "{document}");
    });
}

#[test]
fn directories_are_added_up_without_mounting_what_waits_to_be_used() {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    alone("file_systems::directories_are_added_up_without_mounting_what_waits_to_be_used", |bench| {
        let top = bench.mount_tmpfs("top", "size=4m");
        fs::write(Path::new(&top).join("file"), vec![1; 50_000]).unwrap();
        let point = bench.folder("top/waits");
        // Whoever is to mount it belongs to a group of its own, and never does: to open it is to wait for ever.
        let mut daemon = std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (_asked, told) = std::io::pipe().unwrap();
        rustix::io::fcntl_setfd(&told, rustix::io::FdFlags::empty()).unwrap();
        let options = format!("fd={},pgrp={},minproto=5,maxproto=5,direct", told.as_raw_fd(), daemon.id());
        run("mount", &["-i", "-t", "autofs", "-o", &options, "waits", &point]);
        let output = std::process::Command::new("timeout")
            .args(["--signal=KILL", "30", env!("CARGO_BIN_EXE_reliab-disk"), "--json", "--dirs", &top])
            .env("RELIAB_STATE_DIR", bench.path("state"))
            .output()
            .unwrap();
        run("umount", &[&point]);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("it waited: {error}: {text}"));
        assert_eq!((&document["unread"], &document["entries"]), (&0.into(), &2.into()), "{document}");
    });
}
