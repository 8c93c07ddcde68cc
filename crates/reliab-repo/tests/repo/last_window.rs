//! A restore ends when all is written, however few the files are and whichever thread is late.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use reliab_repo::error::Error;
use reliab_repo::event::Events;
use reliab_repo::repository::Repository;
use reliab_repo::restore::{RestoreOptions, RestoreReport, restore};
use reliab_testkit::engine::{backed_up, local, restored_at};
use reliab_testkit::generator::Generator;
use reliab_testkit::tree::Scratch;

/// Holds each thread but the one that plans when it has taken a job, and not begun it. The others end meanwhile.
struct Late {
    planner: ThreadId,
    held: Mutex<HashSet<ThreadId>>,
}

impl Late {
    fn new() -> Self {
        Self { planner: thread::current().id(), held: Mutex::default() }
    }
}

impl Events for Late {
    fn stop_requested(&self) -> bool {
        let id = thread::current().id();
        if id != self.planner {
            // The first is held for less time than the second, and so each has a time at which it alone has work.
            let before = {
                let mut held = self.held.lock().unwrap();
                held.insert(id);
                held.len() as u64
            };
            thread::sleep(Duration::from_millis(60 * before));
        }
        false
    }
}

fn run(scratch: &Scratch, options: &RestoreOptions, events: &dyn Events) -> Result<RestoreReport, Error> {
    let repository = Repository::open(local(&scratch.path().join("repo"))).unwrap();
    let snapshot = repository.snapshots().find("latest").unwrap().clone();
    restore(&repository, &snapshot, options, events)
}

/// Restores what `.conf` files a tree has, with two threads, and compares them.
fn comes_back(files: &[(&str, Vec<u8>)]) {
    let (scratch, options) = backed_up(|source| {
        for (name, content) in files {
            fs::write(source.join(name), content).unwrap();
        }
        fs::write(source.join("other"), "not wanted").unwrap();
    })
    .unwrap();
    for round in 0..4 {
        let target = scratch.path().join(format!("target {round}"));
        // Files alone: nothing comes after them that would have to wait for them.
        let options =
            RestoreOptions { target: target.clone(), include: vec!["*.conf".into()], ..options.clone() };
        let report = run(&scratch, &options, &Late::new()).unwrap();
        assert_eq!((report.files, report.entries), (files.len() as u64, files.len() as u64));
        assert_eq!(report.skipped, vec![]);
        let top = restored_at(&target, &scratch.path().join("source"));
        for (name, content) in files {
            assert!(fs::read(top.join(name)).unwrap() == *content, "{name}");
        }
    }
}

#[test]
fn the_last_file_is_restored_though_the_other_thread_has_ended() {
    comes_back(&[("a.conf", b"the only one".to_vec())]);
}

#[test]
fn the_last_of_two_bundles_is_restored_though_the_other_thread_has_ended() {
    // Of more than a bundle holds, and each too small for a blob of its own.
    let names: Vec<_> = (0..8).map(|number| format!("{number}.conf")).collect();
    let contents =
        names.iter().zip(1..).map(|(name, seed)| (name.as_str(), Generator::new(seed).bytes(500_000)));
    comes_back(&contents.collect::<Vec<_>>());
}

#[test]
fn the_last_part_of_a_large_file_is_written_though_the_other_thread_has_ended() {
    comes_back(&[("large.conf", Generator::new(1).bytes(9_000_000))]);
}

/// Says stop once, to a thread that writes, and never again.
struct Once {
    planner: ThreadId,
    is_said: AtomicBool,
}

impl Events for Once {
    fn stop_requested(&self) -> bool {
        thread::current().id() != self.planner && !self.is_said.swap(true, Ordering::Relaxed)
    }
}

#[test]
fn a_restore_that_left_files_out_is_never_called_done() {
    let plant = |source: &Path| fs::write(source.join("a.conf"), "the only one").unwrap();
    let (scratch, options) = backed_up(plant).unwrap();
    let options = RestoreOptions { include: vec!["*.conf".into()], ..options };
    let events = Once { planner: thread::current().id(), is_said: AtomicBool::new(false) };
    let outcome = run(&scratch, &options, &events);
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
}

/// Fails in each thread that writes, when it has written something.
struct Failing {
    planner: ThreadId,
}

impl Events for Failing {
    fn advance(&self, _: u64, _: u64) {
        assert!(thread::current().id() == self.planner, "as this test wants it");
    }
}

#[test]
fn a_restore_whose_threads_have_all_failed_ends_and_says_so() {
    let (scratch, options) = backed_up(|source| {
        // More parts than the queue holds, and a folder that waits for all of them.
        fs::write(source.join("a"), Generator::new(1).bytes(30_000_000)).unwrap();
        fs::hard_link(source.join("a"), source.join("b")).unwrap();
    })
    .unwrap();
    let outcome = run(&scratch, &options, &Failing { planner: thread::current().id() });
    assert!(matches!(outcome, Err(Error::Panicked)), "{outcome:?}");
    let top = restored_at(&options.target, &scratch.path().join("source"));
    assert!(!top.join("a").exists() && !top.join("b").exists(), "half a file has the name of the whole");
}
