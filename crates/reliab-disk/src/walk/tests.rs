//! Trees walked, beside du.

use super::*;
use std::fs;
use std::process::Command;

fn du(path: &Path, options: &[&str]) -> Vec<(PathBuf, u64)> {
    let output = Command::new("du").args(["-B1"]).args(options).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (bytes, path) = line.split_once('\t').unwrap();
        (path.into(), bytes.parse().unwrap())
    };
    let mut all: Vec<_> = text.lines().map(line).collect();
    all.sort();
    all
}

fn ours(path: &Path, depth: usize, threads: usize) -> Vec<(PathBuf, u64)> {
    let options = WalkOptions { depth, threads, across: false };
    let usage = measure(path, &options, &|_, _| false).unwrap();
    assert_eq!((usage.error_count, usage.directories[0].bytes), (0, usage.bytes));
    usage.directories.into_iter().map(|directory| (directory.path, directory.bytes)).collect()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let folder = dir.path().join(format!("d{}/e{}/f{number}", number % 3, number % 7));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..number {
            fs::write(folder.join(format!("file {file}")), vec![1; file * 700]).unwrap();
        }
    }
    let sparse = fs::File::create(dir.path().join("d0/sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("d1/link")).unwrap();
    dir
}

#[test]
fn sizes_are_those_of_du_at_every_depth() {
    let dir = tree();
    for threads in [1, 2, 8] {
        for depth in [0, 1, 2, 9] {
            let depth_option = format!("-d{depth}");
            assert_eq!(ours(dir.path(), depth, threads), du(dir.path(), &["-x", &depth_option]));
        }
    }
}

#[test]
fn a_file_with_several_names_counts_once_and_for_the_first_directory() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("c/x"), vec![1; 100_000]).unwrap();
    fs::hard_link(dir.path().join("c/x"), dir.path().join("b/y")).unwrap();
    fs::hard_link(dir.path().join("c/x"), dir.path().join("b/z")).unwrap();
    let sizes = ours(dir.path(), 1, 2);
    assert_eq!(sizes[0].1, du(dir.path(), &["-s"])[0].1);
    assert!(sizes[2].1 >= 100_000 && sizes[1].1 < 100_000 && sizes[3].1 < 100_000, "{sizes:?}");
}

#[test]
fn one_large_directory_is_shared_by_all_threads() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5000 {
        fs::write(dir.path().join(format!("{number}")), "x").unwrap();
    }
    let usage =
        measure(dir.path(), &WalkOptions { depth: 0, across: false, threads: 8 }, &|_, _| false).unwrap();
    assert_eq!((usage.entries, usage.bytes), (5001, du(dir.path(), &["-s"])[0].1));
}

#[test]
fn paths_may_be_longer_than_the_system_takes() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let script = "for i in $(seq 30); do mkdir \"$1\" && cd -P \"$1\" || exit 1; done; echo x >end";
    let made =
        Command::new("bash").args(["-c", script, "sh", &name]).current_dir(dir.path()).status().unwrap();
    assert!(made.success());
    let sizes = ours(dir.path(), 0, 2);
    assert_eq!(sizes, du(dir.path(), &["-s"]));
}

#[test]
fn what_cannot_be_read_is_named_and_a_missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let error = measure(&absent, &WalkOptions::default(), &|_, _| false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    fs::write(&absent, "").unwrap();
    let error = measure(&absent, &WalkOptions::default(), &|_, _| false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_walk_that_is_stopped_ends() {
    let dir = tree();
    let usage =
        measure(dir.path(), &WalkOptions { threads: 4, ..WalkOptions::default() }, &|_, _| true).unwrap();
    assert!(usage.bytes < du(dir.path(), &["-s"])[0].1);
}
