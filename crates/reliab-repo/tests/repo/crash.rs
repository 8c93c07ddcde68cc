//! Crash matrix: a backup is cut off at every single operation on the repository's disk, in every way that is known.
//!
//! After each the disk is looked at as the next process finds it. What must hold then is in `Case::check`.

#![expect(clippy::print_stdout, reason = "the tests say what they counted")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::verify::Finding;
use reliab_testkit::disk::{Fault, FaultKind, SimDisk};
use reliab_testkit::engine::{back_up, read_back, simulated, verify_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{Scan, differences, scan};
use reliab_testkit::tree::{self, Scratch};

/// A repository, the cache that belongs to it, and a source that is to be backed up next.
struct Scenario {
    scratch: Scratch,
    disk: SimDisk,
    /// Snapshots before the run that fails, and what they hold.
    earlier: Vec<(ObjectId, Scan)>,
}

impl Scenario {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        fs::create_dir(scratch.path().join("source")).unwrap();
        tree::small(&scratch.path().join("source")).unwrap();
        Self { scratch, disk: SimDisk::new(), earlier: Vec::new() }
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// A backup before the one that fails.
    fn back_up(&mut self) -> reliab_repo::archive::BackupReport {
        let report = back_up(&simulated(&self.disk), &self.source(), &self.cache()).unwrap();
        self.earlier.push((report.stored.id, scan(&self.source()).unwrap()));
        report
    }

    /// Cuts the next backup off at each of its operations, in each way.
    fn cut_off_everywhere(&self) {
        let counted = self.disk.fork();
        counted.forget_operations();
        let cache = tree::copy_of(&self.cache()).unwrap();
        back_up(&simulated(&counted), &self.source(), cache.path()).unwrap();
        let operations = counted.operations();
        let faults: Vec<Fault> = (0..operations.len())
            .flat_map(|at| FaultKind::ALL.map(|kind| Fault { at, kind }))
            .filter(|fault| fault.kind.applies_to(&operations[fault.at]))
            .collect();
        let now = scan(&self.source()).unwrap();
        let (next, fired) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(&fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match (Case { scenario: self, fault, now: &now }).check() {
                            Ok(reached) => drop(fired.fetch_add(usize::from(reached), Ordering::Relaxed)),
                            Err(problem) => {
                                let what = &operations[fault.at];
                                failures.lock().unwrap().push(format!("{fault:?} {what:?}: {problem}"));
                            }
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap();
        println!("{} operations, {} faults, {} failures", operations.len(), faults.len(), failures.len());
        assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), faults.len(), failures.join("\n"));
        // Names of packs depend on random bits of the repository, so one run may share a folder more than another.
        assert!(fired.into_inner() + 2 * FaultKind::ALL.len() >= faults.len(), "too few faults were reached");
    }
}

/// One fault in the backup of a scenario.
struct Case<'a> {
    scenario: &'a Scenario,
    fault: Fault,
    now: &'a Scan,
}

impl Case<'_> {
    /// True if the fault was reached; an error says which promise was broken.
    fn check(&self) -> Result<bool, String> {
        let disk = self.scenario.disk.fork();
        disk.set_fault(self.fault);
        let cache = tree::copy_of(&self.scenario.cache()).unwrap();
        let outcome = back_up(&simulated(&disk), &self.scenario.source(), cache.path());
        let found = disk.after_crash();
        self.earlier_are_whole(&found, "after the crash")?;
        if let Ok(report) = &outcome {
            self.holds(&found, report.stored.id, self.now, "reported as a success")?;
            let dark = found.after_power_loss();
            self.holds(&dark, report.stored.id, self.now, "reported as a success, after power loss")?;
        }
        self.nothing_is_lost(&found, "after the crash")?;
        let fresh = Scratch::in_memory().map_err(|error| error.to_string())?;
        self.next_works(&found, fresh.path(), "the next run with a fresh cache")?;
        self.next_works(&found, cache.path(), "the next run with the cache that was left")?;
        Ok(disk.has_fired())
    }

    fn earlier_are_whole(&self, disk: &SimDisk, when: &str) -> Result<(), String> {
        let mut earlier = self.scenario.earlier.iter();
        earlier.try_for_each(|(id, expected)| self.holds(disk, *id, expected, when))
    }

    /// Every byte of the snapshot reads back as it was.
    fn holds(&self, disk: &SimDisk, id: ObjectId, expected: &Scan, when: &str) -> Result<(), String> {
        let told = |what: String| format!("{when}: snapshot {}: {what}", id.short());
        let found = read_back(&simulated(disk), id, &self.scenario.source())
            .map_err(|error| told(format!("{error}; {error:?}")))?;
        let differences = differences(expected, &found);
        if differences.is_empty() { Ok(()) } else { Err(told(differences.join("; "))) }
    }

    fn nothing_is_lost(&self, disk: &SimDisk, when: &str) -> Result<(), String> {
        let storage = simulated(disk);
        let exists = Repository::exists(storage.as_ref()).map_err(|error| format!("{when}: {error}"))?;
        if !exists && self.scenario.earlier.is_empty() {
            return Ok(());
        }
        let report = verify_all(&storage).map_err(|error| format!("{when}: verify: {error:?}"))?;
        // Nor does a run that was cut off look like an index that was deleted.
        let is_wrong = |finding: &&Finding| finding.data_lost || finding.object == "index";
        let lost: Vec<_> = report.findings.iter().filter(is_wrong).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("{when}: verify: {lost:?}")) }
    }

    /// The next backup needs no help, and what it reports survives a power loss right after it.
    fn next_works(&self, found: &SimDisk, cache: &Path, when: &str) -> Result<(), String> {
        let disk = found.fork();
        let report = back_up(&simulated(&disk), &self.scenario.source(), cache)
            .map_err(|error| format!("{when}: {error}; {error:?}"))?;
        let complaints = &report.stored.snapshot.errors;
        if report.unreadable > 0 || !complaints.is_empty() {
            return Err(format!("{when}: {complaints:?}"));
        }
        if let Some(left) = disk.files().iter().find(|path| path.starts_with("tmp/")) {
            return Err(format!("{when}: {left} was not swept"));
        }
        let dark = disk.after_power_loss();
        let when = format!("{when}, after power loss");
        self.holds(&dark, report.stored.id, self.now, &when)?;
        self.earlier_are_whole(&dark, &when)?;
        self.nothing_is_lost(&dark, &when)
    }
}

#[test]
fn a_first_backup_cut_off_anywhere_leaves_a_place_where_the_next_one_works() {
    Scenario::new().cut_off_everywhere();
}

#[test]
fn an_incremental_backup_cut_off_anywhere_harms_no_snapshot_and_no_later_run() {
    let mut scenario = Scenario::new();
    let source = scenario.source();
    tree::database(&source.join("database")).unwrap();
    add_many(&source);
    scenario.back_up();
    fs::write(source.join("src/new"), "new in the second").unwrap();
    fs::remove_file(source.join("random")).unwrap();
    tree::flip_byte(&source.join("database"), 100_000).unwrap();
    scenario.back_up();
    fs::write(source.join("doc/new"), "new in the third").unwrap();
    fs::write(source.join("src/new"), "changed in the third").unwrap();
    fs::remove_dir_all(source.join("src/deep")).unwrap();
    tree::flip_byte(&source.join("database"), 2_000_000).unwrap();
    fs::write(source.join("big 2"), Generator::new(77).text(700_000)).unwrap();
    let patched =
        back_up(&simulated(&scenario.disk.fork()), &source, tree::copy_of(&scenario.cache()).unwrap().path());
    let patched = patched.unwrap().stored.snapshot;
    assert_eq!(patched.layers.len(), 3, "the scenario must write an overlay");
    assert!(patched.stats.added_bytes < 1_000_000, "the scenario must patch the database");
    scenario.cut_off_everywhere();
}

/// 60 small files in a folder of their own.
fn add_many(source: &Path) {
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..60 {
        fs::write(source.join(format!("many/{number}")), format!("content {number}").repeat(40)).unwrap();
    }
}

#[test]
fn a_repacking_backup_cut_off_anywhere_harms_no_snapshot_and_no_later_run() {
    let mut scenario = Scenario::new();
    let source = scenario.source();
    add_many(&source);
    scenario.back_up();
    for number in 3..60 {
        fs::remove_file(source.join(format!("many/{number}"))).unwrap();
    }
    fs::remove_dir_all(source.join("src")).unwrap();
    scenario.back_up();
    let report =
        back_up(&simulated(&scenario.disk.fork()), &source, tree::copy_of(&scenario.cache()).unwrap().path());
    let stats = report.unwrap().stored.snapshot.stats;
    assert!(stats.added_blobs > 1, "the scenario must repack: {stats:?}");
    assert_eq!((stats.new_files, stats.changed_files), (0, 0), "what is stored anew is as it was");
    scenario.cut_off_everywhere();
}
