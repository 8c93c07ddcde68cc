//! What a check must notice: a restored tree that is not what the snapshot says, and copies of blobs that went bad.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reliab_repo::archive::{BackupOptions, BackupReport, backup};
use reliab_repo::error::Error;
use reliab_repo::event::Silent;
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Overwrite, RestoreOptions, Skipped, check, restore};
use reliab_repo::storage::Storage;
use reliab_testkit::engine::{
    back_up, find, local, options, read_back, restore_all, restore_options, restored_at, verify_all,
};
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::Scratch;

struct Lab {
    scratch: Scratch,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { scratch: Scratch::new().unwrap() };
        fs::create_dir(lab.path("source")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn storage(&self) -> Arc<dyn Storage> {
        local(&self.path("repo"))
    }

    fn back_up(&self) -> BackupReport {
        back_up(&self.storage(), &self.path("source"), &self.path("cache")).unwrap()
    }

    /// Restores a snapshot, lets it be changed, and checks it.
    fn checked_after(&self, id: ObjectId, change: impl FnOnce(&Path)) -> Vec<Skipped> {
        let target = Scratch::new().unwrap();
        let repository = Repository::open(self.storage()).unwrap();
        let snapshot = find(&repository, id).unwrap();
        let options = restore_options(&target.path().join("target"));
        let report = restore(&repository, &snapshot, &options, &Silent).unwrap();
        assert_eq!(report.skipped, vec![]);
        change(&restored_at(&options.target, &self.path("source")));
        check(&repository, &snapshot, &options, &Silent).unwrap()
    }
}

/// The reasons for the paths that end in `name`.
fn reasons<'a>(found: &'a [Skipped], name: &str) -> Vec<&'a str> {
    found.iter().filter(|found| found.path.ends_with(name)).map(|found| found.reason.as_str()).collect()
}

#[test]
fn a_restored_tree_that_was_changed_is_told_from_the_snapshot() {
    let lab = Lab::new();
    let source = lab.path("source");
    fs::write(source.join("a"), "two names").unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::write(source.join("c"), "two names").unwrap();
    // Whether two files are made within one tick of the clock is luck.
    let time = fs::metadata(source.join("a")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(source.join("c")).unwrap().set_modified(time).unwrap();
    fs::write(source.join("d"), "alone").unwrap();
    fs::write(source.join("e"), "alone").unwrap();
    let with_attributes = xattr(&source.join("d"), "user.note", "kept");
    let id = lab.back_up().stored.id;
    assert_eq!(lab.checked_after(id, |_| {}), vec![]);

    let found = lab.checked_after(id, |top| {
        let time = fs::metadata(top.join("a")).unwrap().modified().unwrap();
        let mode = fs::metadata(top.join("a")).unwrap().permissions().mode();
        // The same content, mode and time, but no longer the same file.
        fs::remove_file(top.join("b")).unwrap();
        fs::write(top.join("b"), "two names").unwrap();
        fs::set_permissions(top.join("b"), fs::Permissions::from_mode(mode)).unwrap();
        fs::File::options().write(true).open(top.join("b")).unwrap().set_modified(time).unwrap();
        if with_attributes {
            let time = fs::metadata(top.join("d")).unwrap().modified().unwrap();
            xattr(&top.join("d"), "user.note", "lost");
            fs::File::options().write(true).open(top.join("d")).unwrap().set_modified(time).unwrap();
        }
        fs::write(top.join("extra"), "").unwrap();
        fs::remove_file(top.join("e")).unwrap();
    });
    let folder_changed = reasons(&found, "source");
    assert_eq!(folder_changed, ["its time of modification differs"]);
    assert!(reasons(&found, "/b")[0].starts_with("it is not the same file as"), "{found:?}");
    if with_attributes {
        assert_eq!(reasons(&found, "/d"), ["its extended attributes differ"]);
    }
    assert_eq!(reasons(&found, "/e"), ["it is missing"]);
    assert_eq!(reasons(&found, "/extra"), ["it is not in the snapshot"]);

    let found = lab.checked_after(id, |top| {
        fs::remove_file(top.join("c")).unwrap();
        fs::hard_link(top.join("a"), top.join("c")).unwrap();
    });
    assert!(reasons(&found, "/c")[0].starts_with("it is the same file as"), "{found:?}");

    let found = lab.checked_after(id, |top| {
        fs::remove_file(top.join("d")).unwrap();
        fs::hard_link(top.join("e"), top.join("d")).unwrap();
    });
    assert!(reasons(&found, "/d").contains(&"it is another name of a file that it was not"), "{found:?}");
}

/// Sets an attribute; false where the file system has none.
fn xattr(path: &Path, name: &str, value: &str) -> bool {
    let set = std::process::Command::new("setfattr").args(["-n", name, "-v", value]).arg(path).output();
    set.is_ok_and(|output| output.status.success())
}

#[test]
fn a_device_that_became_another_is_noticed() {
    let lab = Lab::new();
    let make = |path: &Path, minor: &str| {
        let made = std::process::Command::new("mknod").arg(path).args(["c", "1", minor]).output();
        made.is_ok_and(|output| output.status.success())
    };
    if !make(&lab.path("source/device"), "3") {
        eprintln!("skipped: devices need root");
        return;
    }
    let id = lab.back_up().stored.id;
    let found = lab.checked_after(id, |top| {
        fs::remove_file(top.join("device")).unwrap();
        assert!(make(&top.join("device"), "5"));
    });
    assert!(reasons(&found, "/device").contains(&"it is another device"), "{found:?}");
}

#[test]
fn a_blob_that_another_pack_has_whole_is_not_lost() {
    let lab = Lab::new();
    for number in 0..40 {
        fs::write(lab.path("source").join(format!("{number}")), vec![b'a' + number; 9000]).unwrap();
    }
    let id = lab.back_up().stored.id;
    let packs = |repo: &str| -> Vec<String> {
        local(&lab.path(repo)).list("packs").unwrap().into_iter().map(|object| object.key).collect()
    };
    let first = packs("repo");
    // Another repository of the same tree holds the same bundles, in packs that are compressed otherwise.
    let mut other = options(&lab.path("source"), &lab.path("other-cache"));
    other.level = 7;
    backup(local(&lab.path("other")), &other, &Silent).unwrap();
    for key in packs("other") {
        let to = lab.path("repo").join(&key);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(lab.path("other").join(&key), to).unwrap();
    }
    assert!(packs("repo").len() > first.len(), "the packs are not the same ones");
    let pack = lab.path("repo").join(&first[0]);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[40] ^= 1;
    fs::write(&pack, bytes).unwrap();

    let found = verify_all(&lab.storage()).unwrap().findings;
    let named: Vec<&str> = found.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(named, [&first[0][..]]);
    assert_eq!(found[0].paths, Vec::<String>::new(), "a restore takes it from the other pack");
    assert!(!found[0].data_lost);
    let now = scan(&lab.path("source")).unwrap();
    let stored = read_back(&lab.storage(), id, &lab.path("source")).unwrap();
    assert_eq!(differences(&now, &stored), Vec::<String>::new());
    let target = Scratch::new().unwrap();
    assert_eq!(restore_all(&lab.storage(), id, &target.path().join("target")).unwrap().skipped, vec![]);
}

#[test]
fn the_latest_snapshot_is_known_unless_a_damaged_one_may_be_newer() {
    let lab = Lab::new();
    fs::write(lab.path("source/file"), "one").unwrap();
    let first = lab.back_up().stored.id;
    fs::write(lab.path("source/file"), "the second").unwrap();
    let second = lab.back_up().stored.id;
    let latest = || {
        let repository = Repository::open(lab.storage()).unwrap();
        repository.snapshots().find("latest").map(|stored| stored.id)
    };
    let spoil = |id: ObjectId| fs::write(lab.path("repo/snapshots").join(id.to_string()), "{}").unwrap();
    assert_eq!(latest().unwrap(), second);
    spoil(first);
    assert_eq!(latest().unwrap(), second, "its child is readable, so it is older");
    spoil(second);
    assert!(matches!(latest(), Err(Error::Damaged { .. })), "it may have been the latest");
}

#[test]
fn one_emptied_source_among_several_is_refused() {
    let lab = Lab::new();
    let other = lab.path("other-source");
    fs::create_dir(&other).unwrap();
    fs::write(lab.path("source/file"), "").unwrap();
    fs::write(other.join("file"), "").unwrap();
    let mut both = options(&lab.path("source"), &lab.path("cache"));
    both.sources.push(other.clone());
    // Of snapshots of the same time none would be the last.
    let run = |options: &BackupOptions| {
        backup(lab.storage(), &BackupOptions { time: chrono::Utc::now(), ..options.clone() }, &Silent)
    };
    run(&both).unwrap();
    fs::remove_file(other.join("file")).unwrap();
    let refused = run(&both);
    assert!(matches!(&refused, Err(Error::Source { path, .. }) if *path == other), "{refused:?}");
    // In other company it is the same source.
    let alone = BackupOptions { sources: vec![other.clone()], ..both.clone() };
    let refused = run(&alone);
    assert!(matches!(&refused, Err(Error::Source { path, .. }) if *path == other), "{refused:?}");
    run(&BackupOptions { host: "another".into(), ..alone }).unwrap();
    both.allow_empty = true;
    run(&both).unwrap();
    both.allow_empty = false;
    run(&both).unwrap();
}

#[test]
fn a_cache_that_cannot_be_written_does_not_fail_the_backup() {
    let lab = Lab::new();
    fs::write(lab.path("source/file"), "one").unwrap();
    lab.back_up();
    // A folder in the place of the file, as it cannot be replaced by anything but a hand.
    let entries = walk_to(&lab.path("cache"), "entries");
    fs::remove_file(&entries).unwrap();
    fs::create_dir_all(entries.join("in the way")).unwrap();
    fs::write(lab.path("source/file"), "the second").unwrap();
    let id = lab.back_up().stored.id;
    let now = scan(&lab.path("source")).unwrap();
    let stored = read_back(&lab.storage(), id, &lab.path("source")).unwrap();
    assert_eq!(differences(&now, &stored), Vec::<String>::new());
    assert_eq!(verify_all(&lab.storage()).unwrap().findings, vec![]);
}

/// The file of that name below a folder.
fn walk_to(folder: &Path, name: &str) -> PathBuf {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
            if item.file_name().is_some_and(|found| found == name) {
                return item;
            }
            pending.extend(item.is_dir().then_some(item));
        }
    }
    panic!("no {name} below {}", folder.display());
}

#[test]
fn an_emptied_source_inside_another_is_refused() {
    let lab = Lab::new();
    let inner = lab.path("source/inner");
    fs::create_dir(&inner).unwrap();
    fs::write(lab.path("source/file"), "stays").unwrap();
    fs::write(inner.join("file"), "goes").unwrap();
    let mut both = options(&lab.path("source"), &lab.path("cache"));
    both.sources.push(inner.clone());
    backup(lab.storage(), &both, &Silent).unwrap();
    fs::remove_file(inner.join("file")).unwrap();
    let refused = backup(lab.storage(), &both, &Silent);
    assert!(matches!(&refused, Err(Error::Source { path, .. }) if *path == inner), "{refused:?}");
}

#[test]
fn a_dry_run_with_a_damaged_cache_is_done_all_the_same() {
    let lab = Lab::new();
    fs::write(lab.path("source/file"), "one").unwrap();
    lab.back_up();
    let entries = walk_to(&lab.path("cache"), "entries");
    let mut bytes = fs::read(&entries).unwrap();
    bytes[3] ^= 1;
    fs::write(&entries, &bytes).unwrap();
    fs::write(lab.path("source/file"), "the second").unwrap();
    let mut dry = options(&lab.path("source"), &lab.path("cache"));
    dry.dry_run = true;
    let report = backup(lab.storage(), &dry, &Silent).unwrap();
    assert_eq!(report.stored.snapshot.stats.changed_files, 1);
    assert_eq!(fs::read(&entries).unwrap(), bytes, "a dry run changes nothing");
}

/// Asks for a stop as soon as something was written.
#[derive(Default)]
struct StopEarly(std::sync::atomic::AtomicBool);

impl reliab_repo::event::Events for StopEarly {
    fn total(&self, _: u64) {}

    fn advance(&self, _: u64, _: u64) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn warning(&self, _: &Path, _: &str) {}

    fn stop_requested(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn a_restore_that_is_stopped_leaves_no_half_file() {
    let lab = Lab::new();
    let content = reliab_testkit::generator::Generator::new(5).bytes(40_000_000);
    fs::write(lab.path("source/large"), content).unwrap();
    let id = lab.back_up().stored.id;
    let repository = Repository::open(lab.storage()).unwrap();
    let snapshot = find(&repository, id).unwrap();
    let options = restore_options(&lab.path("target"));
    let stopped = restore(&repository, &snapshot, &options, &StopEarly::default());
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert!(!restored_at(&lab.path("target"), &lab.path("source")).join("large").exists());
}

#[test]
fn a_dry_run_of_a_restore_refuses_what_the_run_would() {
    let lab = Lab::new();
    fs::write(lab.path("source/file"), "one").unwrap();
    let id = lab.back_up().stored.id;
    let repository = Repository::open(lab.storage()).unwrap();
    let snapshot = find(&repository, id).unwrap();
    let mut dry = restore_options(&lab.path("target"));
    dry.dry_run = true;
    let refused = |options: &RestoreOptions| {
        restore(&repository, &snapshot, options, &Silent)
            .map(|report| report.files)
            .map_err(|e| e.to_string())
    };
    assert_eq!(refused(&dry), Ok(1));
    assert!(!lab.path("target").exists(), "a dry run writes nothing");
    fs::create_dir(lab.path("target")).unwrap();
    assert_eq!(refused(&dry), Ok(1));
    fs::write(lab.path("target/in the way"), "").unwrap();
    let real = RestoreOptions { dry_run: false, ..dry.clone() };
    assert!(refused(&real).is_err());
    assert_eq!(refused(&dry), refused(&real));
    let over = RestoreOptions { overwrite: Some(Overwrite::Never), ..dry.clone() };
    assert_eq!(refused(&over), Ok(1));
    let file = RestoreOptions { target: lab.path("source/file"), ..dry };
    assert!(refused(&file).is_err());
}

#[test]
fn block_hashes_survive_a_run_that_is_refused() {
    let lab = Lab::new();
    let other = lab.path("other-source");
    fs::create_dir(&other).unwrap();
    let content = reliab_testkit::generator::Generator::new(6).bytes(9_000_000);
    for path in [lab.path("source/changes"), other.join("goes")] {
        fs::write(path, &content).unwrap();
        // Not the same content twice: that would be stored once.
        reliab_testkit::tree::flip_byte(&lab.path("source/changes"), 1000).unwrap();
    }
    let mut both = options(&lab.path("source"), &lab.path("cache"));
    both.sources.push(other.clone());
    let run = || {
        let options = BackupOptions { time: chrono::Utc::now(), ..both.clone() };
        backup(lab.storage(), &options, &Silent)
    };
    run().unwrap();
    reliab_testkit::tree::flip_byte(&lab.path("source/changes"), 2_000_000).unwrap();
    fs::rename(other.join("goes"), lab.path("aside")).unwrap();
    assert!(matches!(run(), Err(Error::Source { .. })));
    fs::rename(lab.path("aside"), other.join("goes")).unwrap();
    for path in [lab.path("source/changes"), other.join("goes")] {
        reliab_testkit::tree::flip_byte(&path, 3_000_000).unwrap();
    }
    let added = run().unwrap().stored.snapshot.stats.added_bytes;
    assert!(added < 100_000, "{added} bytes were added: the blocks were not known");
}

/// Keeps what it is warned of, and empties the cache that is being written after some entries.
#[derive(Default)]
struct Warned {
    warnings: std::sync::Mutex<Vec<String>>,
    entries: std::sync::atomic::AtomicUsize,
    breaks: Option<PathBuf>,
}

impl reliab_repo::event::Events for Warned {
    fn warning(&self, path: &Path, message: &str) {
        self.warnings.lock().unwrap().push(format!("{}: {message}", path.display()));
    }

    fn advance(&self, _: u64, _: u64) {
        let count = self.entries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(cache) = self.breaks.as_ref().filter(|_| count == 5000) {
            let file = fs::File::options().write(true).open(walk_to(cache, "entries.new")).unwrap();
            assert!(file.metadata().unwrap().len() > 0, "some of it is written");
            file.set_len(0).unwrap();
        }
    }
}

#[test]
fn a_cache_that_fails_in_the_middle_costs_a_second_reading_and_shows_nowhere_else() {
    let lab = Lab::new();
    fs::write(lab.path("source/file"), "one").unwrap();
    lab.back_up();
    let mut generator = reliab_testkit::generator::Generator::new(8);
    for number in 0..6000 {
        fs::write(lab.path("source").join(format!("{number:06}")), generator.bytes(900)).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(lab.path("source/!socket")).unwrap());
    let run = |repo: &str, cache: &str, breaks: bool| {
        let warned = Warned { breaks: breaks.then(|| lab.path(cache)), ..Warned::default() };
        let options = options(&lab.path("source"), &lab.path(cache));
        let report = backup(local(&lab.path(repo)), &options, &warned).unwrap();
        (report.stored, warned.warnings.into_inner().unwrap())
    };
    let (stored, warned) = run("repo", "cache", true);
    let (control, control_warned) = run("control", "control-cache", false);
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned.iter().any(|told| told.contains("a temporary cache is used instead")), "{warned:?}");
    assert!(warned.contains(&control_warned[0]), "of the socket: {warned:?}");
    let (added, expected) = (&stored.snapshot.stats, &control.snapshot.stats);
    // Bundles that the first attempt left open are stored anew.
    let is_like = |a: u64, b: u64| a >= b - b / 10 && a <= b + b / 2;
    assert!(is_like(added.added_bytes, expected.added_bytes), "{added:?}, not {expected:?}");
    let now = scan(&lab.path("source")).unwrap();
    let found = read_back(&lab.storage(), stored.id, &lab.path("source")).unwrap();
    let differing = differences(&now, &found);
    assert!(differing.len() == 1 && differing[0].contains("!socket"), "{differing:?}");
    assert_eq!(verify_all(&lab.storage()).unwrap().findings, vec![]);
}
