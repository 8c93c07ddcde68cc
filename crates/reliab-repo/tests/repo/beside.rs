//! A whole backup goes on while another command opens the repository, at every step of opening it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reliab_repo::archive::BackupReport;
use reliab_repo::error::Result;
use reliab_repo::event::Silent;
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::restore::restore;
use reliab_repo::storage::{Object, Storage, Upload};
use reliab_testkit::disk::SimDisk;
use reliab_testkit::engine::{
    back_up, local, read_back, restore_options, restored_at, simulated, verify_all,
};
use reliab_testkit::scan::{Scan, differences, scan};
use reliab_testkit::tree::{self, Scratch};

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeList(&'static str),
    AfterList(&'static str),
    /// Before the upload with this number, counted from 0.
    BeforeUpload(usize),
}

type Act = Box<dyn FnOnce() + Send>;

/// A storage beside which something happens once.
struct Beside {
    storage: Arc<dyn Storage>,
    moment: Moment,
    act: Mutex<Option<Act>>,
    uploads: AtomicUsize,
}

impl Beside {
    fn new(storage: Arc<dyn Storage>, moment: Moment, act: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let act: Act = Box::new(act);
        Arc::new(Self { storage, moment, act: Mutex::new(Some(act)), uploads: AtomicUsize::new(0) })
    }

    fn reach(&self, moment: Moment) {
        if self.moment == moment {
            let act = self.act.lock().unwrap().take();
            if let Some(act) = act {
                act();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.act.lock().unwrap().is_none()
    }
}

impl Storage for Beside {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        self.reach(Moment::BeforeUpload(self.uploads.fetch_add(1, Ordering::Relaxed)));
        self.storage.upload()
    }

    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        self.storage.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.storage.get_range(key, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let known = ["snapshots", "index", "packs", ""].into_iter().find(|known| *known == folder);
        known.into_iter().for_each(|folder| self.reach(Moment::BeforeList(folder)));
        let found = self.storage.list(folder);
        known.into_iter().for_each(|folder| self.reach(Moment::AfterList(folder)));
        found
    }

    fn sweep(&self) -> Result<()> {
        self.storage.sweep()
    }

    fn settle(&self, key: &str) -> Result<()> {
        self.storage.settle(key)
    }
}

/// A repository with one snapshot, and its source, which has changed since.
struct Lab {
    scratch: Scratch,
    first: ObjectId,
    before: Scan,
    now: Scan,
}

/// Where a command is run, on a copy of the lab's repository.
struct Run {
    repo: Scratch,
    beside: Arc<Beside>,
}

impl Run {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.beside) as Arc<dyn Storage>
    }
}

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        let source = scratch.path().join("source");
        fs::create_dir(&source).unwrap();
        tree::small(&source).unwrap();
        let first = back_up(&local(&scratch.path().join("repo")), &source, &scratch.path().join("cache"));
        let before = scan(&source).unwrap();
        fs::write(source.join("src/new"), "new").unwrap();
        fs::write(source.join("new and large"), vec![7; 900_000]).unwrap();
        let now = scan(&source).unwrap();
        Self { scratch, first: first.unwrap().stored.id, before, now }
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// At the moment, another process backs up what is new.
    fn run(&self, moment: Moment) -> Run {
        let repo = tree::copy_of(&self.scratch.path().join("repo")).unwrap();
        let (of_other, source, cache) = (local(repo.path()), self.source(), Scratch::in_memory().unwrap());
        let other = move || drop(back_up(&of_other, &source, cache.path()).unwrap());
        let beside = Beside::new(local(repo.path()), moment, other);
        Run { repo, beside }
    }

    fn holds(&self, id: ObjectId) -> &Scan {
        if id == self.first { &self.before } else { &self.now }
    }

    fn is_whole(&self, repo: &Path, what: &str) {
        let storage = local(repo);
        let report = verify_all(&storage).unwrap();
        assert_eq!((report.findings, report.unclaimed_lists), (vec![], 0), "{what}");
        for stored in &Repository::open(Arc::clone(&storage)).unwrap().snapshots().snapshots {
            let found = read_back(&storage, stored.id, &self.source()).unwrap();
            assert_eq!(differences(self.holds(stored.id), &found), Vec::<String>::new(), "{what}");
        }
    }
}

/// Every step of opening a repository that exists.
fn moments() -> impl Iterator<Item = Moment> {
    ["snapshots", "index", "packs"]
        .into_iter()
        .flat_map(|folder| [Moment::BeforeList(folder), Moment::AfterList(folder)])
}

#[test]
fn verify_beside_a_backup_finds_nothing() {
    let lab = Lab::new();
    for moment in moments() {
        let run = lab.run(moment);
        let report = verify_all(&run.storage()).unwrap();
        assert!(run.beside.is_done(), "{moment:?}");
        assert_eq!((report.findings, report.unclaimed_lists), (vec![], 0), "{moment:?}");
    }
}

#[test]
fn a_restore_of_the_latest_beside_a_backup_is_whole() {
    let lab = Lab::new();
    for moment in moments() {
        let run = lab.run(moment);
        let repository = Repository::open(run.storage()).unwrap();
        assert!(run.beside.is_done(), "{moment:?}");
        assert_eq!(repository.problems(), [], "{moment:?}");
        let latest = repository.snapshots().find("latest").unwrap();
        let target = Scratch::in_memory().unwrap();
        let options = restore_options(&target.path().join("target"));
        let report = restore(&repository, latest, &options, &Silent).unwrap();
        assert_eq!(report.skipped, vec![], "{moment:?}");
        let found = scan(&restored_at(&options.target, &lab.source())).unwrap();
        assert_eq!(differences(lab.holds(latest.id), &found), Vec::<String>::new(), "{moment:?}");
    }
}

#[test]
fn a_backup_beside_a_backup_uses_its_parent_and_both_snapshots_are_whole() {
    let lab = Lab::new();
    for moment in moments() {
        let run = lab.run(moment);
        let cache = tree::copy_of(&lab.cache()).unwrap();
        let report = back_up(&run.storage(), &lab.source(), cache.path()).unwrap();
        assert!(run.beside.is_done(), "{moment:?}");
        let Snapshots { count, stats } = Snapshots::of(&run, &report);
        assert_eq!(count, 3, "{moment:?}");
        // A parent that is newer than the index would seem to be lost, and everything would be read and stored again.
        assert!(report.stored.snapshot.parent.is_some(), "{moment:?}");
        assert!(stats.0 <= 2 && stats.1 > 5, "{moment:?}: {stats:?}");
        lab.is_whole(run.repo.path(), &format!("{moment:?}"));
    }
}

/// What a run left: how many snapshots, and how many files it called new and unmodified.
struct Snapshots {
    count: usize,
    stats: (u64, u64),
}

impl Snapshots {
    fn of(run: &Run, report: &BackupReport) -> Self {
        let stats = &report.stored.snapshot.stats;
        let repository = Repository::open(local(run.repo.path())).unwrap();
        Self {
            count: repository.snapshots().snapshots.len(),
            stats: (stats.new_files, stats.unmodified_files),
        }
    }
}

#[test]
fn two_first_backups_at_once_make_one_repository() {
    let lists = ["snapshots", "packs", ""]
        .into_iter()
        .flat_map(|folder| [Moment::BeforeList(folder), Moment::AfterList(folder)]);
    // The texts, the configuration, and the first pack.
    for moment in lists.chain((0..4).map(Moment::BeforeUpload)) {
        let scratch = Scratch::in_memory().unwrap();
        let sources = ["one", "other"].map(|name| scratch.path().join(name));
        for (number, source) in sources.iter().enumerate() {
            fs::create_dir(source).unwrap();
            fs::write(source.join("file"), format!("content {number}")).unwrap();
            fs::write(source.join("large"), vec![b'0' + u8::try_from(number).unwrap(); 2_000_000]).unwrap();
        }
        let disk = SimDisk::new();
        let inner: Arc<Mutex<Option<(ObjectId, String)>>> = Arc::default();
        let (of_other, other, noted) = (disk.clone(), sources[1].clone(), Arc::clone(&inner));
        let cache = Scratch::in_memory().unwrap();
        let beside = Beside::new(simulated(&disk), moment, move || {
            let storage = simulated(&of_other);
            let stored = back_up(&storage, &other, cache.path()).unwrap().stored;
            let id = Repository::open(storage).unwrap().config().id.clone();
            *noted.lock().unwrap() = Some((stored.id, id));
        });
        let storage = Arc::clone(&beside) as Arc<dyn Storage>;
        let outer = back_up(&storage, &sources[0], &scratch.path().join("cache"));
        let outer = outer.unwrap_or_else(|error| panic!("{moment:?}: {error:?}")).stored.id;
        let (inner, id) = inner.lock().unwrap().take().unwrap_or_else(|| panic!("{moment:?}: not reached"));
        let dark = disk.after_power_loss();
        let storage = simulated(&dark);
        assert_eq!(Repository::open(Arc::clone(&storage)).unwrap().config().id, id, "{moment:?}");
        assert_eq!(verify_all(&storage).unwrap().findings, vec![], "{moment:?}");
        for (id, source) in [(outer, &sources[0]), (inner, &sources[1])] {
            let found = read_back(&storage, id, source).unwrap();
            assert_eq!(differences(&scan(source).unwrap(), &found), Vec::<String>::new(), "{moment:?}");
        }
    }
}
