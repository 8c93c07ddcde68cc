//! File systems that do not answer. Needs root and FUSE in the kernel (`/dev/fuse`).

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Bench, alone};
use rustix::mount::{MountFlags, mount};

/// No run may take longer, however many file systems are dead: the deadline is one second.
const SOON: Duration = Duration::from_secs(15);

/// Mounts a FUSE file system whose server is whoever holds the file that is returned.
fn mount_fuse(point: &str) -> File {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device =
        device.unwrap_or_else(|error| panic!("/dev/fuse: {error}; this test needs FUSE in the kernel"));
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).unwrap();
    mount("hanging", point, "fuse", MountFlags::empty(), Some(options.as_c_str())).unwrap();
    device
}

/// Answers what a mount needs, and takes every question for status or room without ever answering it.
fn serve(device: &File) {
    const INIT: u32 = 26;
    const GETATTR: u32 = 3;
    const STATFS: u32 = 17;
    const STATX: u32 = 52;
    const FORGET: u32 = 2;
    const ENOSYS: i32 = 38;
    let mut request = vec![0; 1 << 20];
    let mut device = device;
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(length >= 40);
        let unique = &request[8..16];
        let body: Option<(i32, Vec<u8>)> = match number(4) {
            GETATTR | STATFS | STATX | FORGET => None,
            // Version 7.31 of the protocol, no flags, and a body of the length that it has since 7.23.
            INIT => {
                let mut body = vec![0; 64];
                body[..4].copy_from_slice(&7u32.to_ne_bytes());
                body[4..8].copy_from_slice(&31u32.to_ne_bytes());
                body[20..24].copy_from_slice(&4096u32.to_ne_bytes());
                Some((0, body))
            }
            _ => Some((-ENOSYS, Vec::new())),
        };
        let Some((error, body)) = body else { continue };
        let length = u32::try_from(16 + body.len()).unwrap();
        let reply = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique, &body].concat();
        device.write_all(&reply).unwrap();
    }
}

/// Runs the program, which must not take long.
fn disk(bench: &Bench, args: &[&str]) -> (i32, String) {
    let started = Instant::now();
    let (code, out, _) = bench.disk(args);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    (code, out)
}

/// Processes that measure this mount, by their arguments.
fn measuring(point: &str) -> usize {
    let is_one = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        words.contains(&&b"--measure"[..]) && words.contains(&point.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_one).count()
}

fn wait_until(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < SOON, "it did not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_dead_mount_is_told_and_the_others_are_measured() {
    alone("hanging::a_dead_mount_is_told_and_the_others_are_measured", |bench| {
        bench.configure("[disk]\ndeadline = \"1s\"\n");
        let dead: Vec<String> = (0..3).map(|number| bench.folder(&format!("dead{number}"))).collect();
        let devices: Vec<File> = dead.iter().map(|point| mount_fuse(point)).collect();
        let alive = bench.mount_tmpfs("alive", "size=8m");
        let (code, out) = disk(bench, &[]);
        assert_eq!(code, 2, "{out}");
        for point in &dead {
            assert!(out.contains(&format!("CRITICAL: {point}: not answering for 1.0 s")), "{out}");
            assert_eq!(measuring(point), 0);
        }
        assert!(out.lines().any(|line| line.starts_with("ok ") && line.ends_with("alive")), "{out}\n{alive}");
        let (code, out) = disk(bench, &[&dead[0], "--nagios"]);
        assert!(
            code == 2 && out.starts_with(&format!("DISK CRITICAL - {}: not answering", dead[0])),
            "{out}"
        );
        drop(devices);
    });
}

#[test]
fn a_path_on_a_dead_mount_and_files_there_are_told_too() {
    alone("hanging::a_path_on_a_dead_mount_and_files_there_are_told_too", |bench| {
        let dead = bench.folder("dead");
        let device = mount_fuse(&dead);
        let inside = format!("{dead}/folder");
        bench.configure(&format!(
            "[disk]\ndeadline = \"1s\"\n[[disk.sqlite]]\npath = \"{inside}/app.db\"\n\
             [[disk.directory]]\npath = {inside:?}\ndeadline = \"1s\"\n"
        ));
        let (code, out) = disk(bench, &[&inside]);
        assert!(code == 3 && out.contains("not answering for 1.0 s"), "{out}");
        let (code, out) = disk(bench, &["--quiet"]);
        assert_eq!(code, 2, "{out}");
        for what in ["sqlite", "directory"] {
            assert!(out.contains(&format!("CRITICAL: {what} {inside}")), "{out}");
        }
        drop(device);
    });
}

#[test]
fn processes_that_cannot_be_killed_do_not_pile_up() {
    alone("hanging::processes_that_cannot_be_killed_do_not_pile_up", |bench| {
        bench.configure("[disk]\ndeadline = \"1s\"\n");
        let point = bench.folder("dead");
        let device = Arc::new(mount_fuse(&point));
        let server = Arc::clone(&device);
        let server = thread::spawn(move || serve(&server));
        let (code, first) = disk(bench, &[&point]);
        assert!(code == 2 && first.contains("cannot be killed"), "{first}");
        let pid: u32 = first.split("(process ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        for _ in 0..3 {
            let (code, later) = disk(bench, &[&point]);
            assert!(code == 2 && later.contains(&format!("process {pid} waits for it")), "{later}");
            assert_eq!(measuring(&point), 1);
        }
        abort(&point);
        server.join().unwrap();
        wait_until(|| measuring(&point) == 0);
        let (code, out) = disk(bench, &[&point]);
        assert!(code == 2 && !out.contains("not answering"), "{out}");
    });
}

#[test]
fn two_runs_at_the_same_time_measure_one_after_the_other() {
    let bench = Bench::new();
    bench.folder("many");
    bench.configure("[disk]\nexclude = [\"/*\"]\n[[disk.directory]]\npath = \"many\"\ndeadline = \"60s\"\n");
    let runs: Vec<_> =
        (0..6).map(|_| bench.command(&["--json"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["sizes"][0]["level"], "ok", "{document}");
    }
}

/// Ends the connection of a FUSE mount, by which all who wait for it get an error.
fn abort(point: &str) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.contains(&format!(" {point} "))).unwrap();
    let minor = line.split(' ').nth(2).unwrap().split(':').nth(1).unwrap();
    let control = connections();
    fs::write(Path::new(&control).join(minor).join("abort"), "1").unwrap();
}

/// Where the kernel lists FUSE connections, mounted if it is not.
fn connections() -> String {
    let control = "/sys/fs/fuse/connections";
    if fs::read_dir(control).unwrap().next().is_none() {
        mount("fusectl", control, "fusectl", MountFlags::empty(), None).unwrap();
    }
    control.to_owned()
}
