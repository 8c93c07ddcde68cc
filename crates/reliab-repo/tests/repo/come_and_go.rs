//! Names, links and contents that come and go between runs and during them; where the clock says that nothing is fresh, so
//! that what looks unchanged is taken over unread.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::{TimeDelta, Utc};
use reliab_repo::archive::{BackupOptions, backup};
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::entry::Entry;
use reliab_repo::id::ObjectId;
use reliab_repo::storage::Storage;
use reliab_testkit::engine::{local, options, read_back, restore_all, restored_at, verify_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{Scan, differences, scan};
use reliab_testkit::tree::{self, Scratch, set_mode, set_mtime, set_xattr};

/// A source that changes, its backups, and what it was at each of them.
struct World {
    scratch: Scratch,
    noise: Mutex<Generator>,
    taken: BTreeMap<ObjectId, Scan>,
}

/// How a backup is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// By this machine's clock: what changed a moment ago is looked at again.
    Right,
    /// A second later: nothing that was written before counts as fresh.
    Later,
}

/// Changes the source each time a few entries have been looked at.
struct Disturbing<'a>(&'a World);

impl Events for Disturbing<'_> {
    fn entry(&self, _: Option<&Entry>, _: Option<&Entry>) {
        if self.0.below(3) == 0 {
            self.0.edit();
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let scratch = Scratch::in_memory().unwrap();
        let source = scratch.path().join("source");
        for folder in ["a/b", "c", "d", "rest"] {
            fs::create_dir_all(source.join(folder)).unwrap();
        }
        // Enough that a few changes make an overlay.
        for number in 0..400 {
            fs::write(source.join(format!("rest/{number}")), format!("content {number}")).unwrap();
        }
        Self { scratch, noise: Mutex::new(Generator::new(seed)), taken: BTreeMap::new() }
    }

    fn below(&self, bound: u64) -> u64 {
        self.noise.lock().unwrap().below(bound)
    }

    fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn storage(&self) -> Arc<dyn Storage> {
        local(&self.scratch.path().join("repo"))
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// A path that may be there or not.
    fn path(&self) -> PathBuf {
        let folder = self.pick(&["a", "a/b", "c", "d", "d/e", "rest"]);
        self.source().join(folder).join(self.pick(&["b", "f", "g", "h", "Büro", "b-", "7"]))
    }

    fn content(&self, len: usize) -> Vec<u8> {
        let seed = self.below(4);
        Generator::new(seed).bytes(len)
    }

    /// One change, if it can be made.
    fn edit(&self) {
        let (path, other) = (self.path(), self.path());
        let len = usize::try_from(self.below(300)).unwrap();
        match self.below(22) {
            0..=2 => drop(fs::write(&path, self.content(len))),
            3..=6 => drop(fs::hard_link(&path, &other)),
            7 | 8 => drop(fs::remove_file(&path)),
            9 | 10 => drop(fs::rename(&path, &other)),
            11 => {
                let [from, to] = [(); 2].map(|()| self.pick(&["a", "a/b", "c", "d", "d/e", "c/e"]));
                drop(fs::rename(self.source().join(from), self.source().join(to)));
            }
            12 => drop(set_mode(&path, self.pick(&[0o600, 0o644, 0o755]))),
            13 => self.swap(&path, &other),
            14 => self.rewrite(&path),
            15 => drop(fs::copy(&path, &other).and_then(|_| copy_time(&path, &other))),
            16 => drop(symlink(self.pick(&["f", "../c/g"]), &path)),
            17 => drop(set_xattr(&path, "user.note", &self.content(9))),
            18 => drop(fs::remove_dir_all(self.source().join(self.pick(&["a/b", "c", "d"])))),
            19 => drop(fs::create_dir_all(self.source().join(self.pick(&["a/b", "c", "d/e"])))),
            20 => self.write_large(&path),
            _ => drop(fs::write(&path, "").and_then(|()| sparse(&path))),
        }
    }

    /// Gives two files each other's names.
    fn swap(&self, one: &Path, other: &Path) {
        let between = self.source().join("rest/between");
        if one.is_file() && other.is_file() && one != other {
            fs::rename(one, &between).unwrap();
            fs::rename(other, one).unwrap();
            fs::rename(between, other).unwrap();
        }
    }

    /// Other content of the same length and mtime.
    fn rewrite(&self, path: &Path) {
        let Ok(before) = fs::symlink_metadata(path) else { return };
        if before.is_file() && before.len() < 10_000 {
            let content = self.content(usize::try_from(before.len()).unwrap());
            fs::write(path, content).unwrap();
            set_time_of(path, &before);
        }
    }

    /// A file that is patched from then on.
    fn write_large(&self, path: &Path) {
        let len = fs::symlink_metadata(path).map_or(0, |found| if found.is_file() { found.len() } else { 0 });
        if len < 4_000_000 {
            drop(fs::write(path, self.content(4_200_000)));
        } else {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&self.content(5000), self.below(len)).unwrap();
        }
    }

    /// Waits until what is written from now on has another time than what was written before.
    fn tick(&self) {
        let probe = self.scratch.path().join("probe");
        let now = || {
            fs::write(&probe, "").unwrap();
            let found = fs::metadata(&probe).unwrap();
            (found.ctime(), found.ctime_nsec())
        };
        let before = now();
        while now() == before {
            std::thread::yield_now();
        }
    }

    fn run(&self, clock: Clock, events: &dyn Events) -> ObjectId {
        let later = if clock == Clock::Later { TimeDelta::seconds(1) } else { TimeDelta::zero() };
        let options = BackupOptions {
            time: Utc::now() + later,
            threads: usize::try_from(1 + self.below(2)).unwrap(),
            ..options(&self.source(), &self.cache())
        };
        let id = backup(self.storage(), &options, events).unwrap().stored.id;
        self.tick();
        id
    }

    /// A run beside which nothing changes: its snapshot is what the source is.
    fn back_up(&mut self, clock: Clock, what: &str) {
        let now = scan(&self.source()).unwrap();
        let id = self.run(clock, &Silent);
        self.is_like(id, &now, what);
        self.taken.insert(id, now);
    }

    fn is_like(&self, id: ObjectId, expected: &Scan, what: &str) {
        let found = read_back(&self.storage(), id, &self.source()).unwrap();
        assert_eq!(differences(expected, &found), Vec::<String>::new(), "{what}");
    }

    /// Restored, it is that, too: files with several names are one file again.
    fn comes_back(&self, id: ObjectId, expected: &Scan, what: &str) {
        let target = self.scratch.path().join("target");
        assert_eq!(restore_all(&self.storage(), id, &target).unwrap().skipped, vec![], "{what}");
        let found = scan(&restored_at(&target, &self.source())).unwrap();
        assert_eq!(differences(expected, &found), Vec::<String>::new(), "{what}");
        fs::remove_dir_all(target).unwrap();
    }

    /// Takes the cache away, or puts an older one in its place.
    fn change_cache(&self) {
        let kept = self.scratch.path().join("kept");
        match self.below(6) {
            0 => drop(fs::remove_dir_all(self.cache())),
            1 => {
                drop(fs::remove_dir_all(&kept));
                drop(fs::rename(self.cache(), &kept));
            }
            2 if kept.exists() => {
                drop(fs::remove_dir_all(self.cache()));
                fs::rename(kept, self.cache()).unwrap();
            }
            _ => {}
        }
    }
}

fn set_time_of(path: &Path, other: &fs::Metadata) {
    let nanos = u32::try_from(other.mtime_nsec()).unwrap();
    set_mtime(path, other.mtime(), nanos).unwrap();
}

fn copy_time(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::metadata(from).map(|from| set_time_of(to, &from))
}

fn sparse(path: &Path) -> std::io::Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    file.write_all_at(b"a", 40_000)?;
    file.set_len(200_000)
}

fn come_and_go(seed: u64, rounds: u64) {
    let mut world = World::new(seed);
    world.back_up(Clock::Later, &format!("seed {seed}, at first"));
    for round in 0..rounds {
        let what = format!("seed {seed}, round {round}");
        (0..=world.below(8)).for_each(|_| world.edit());
        world.change_cache();
        if world.below(3) == 0 {
            world.run(Clock::Right, &Disturbing(&world));
        }
        let clock = world.pick(&[Clock::Right, Clock::Later, Clock::Later]);
        world.back_up(clock, &what);
        if world.below(8) == 0 {
            let (id, expected) = world.taken.iter().nth(usize::try_from(round).unwrap() / 2).unwrap();
            world.comes_back(*id, expected, &what);
        }
    }
    for (id, expected) in &world.taken {
        world.is_like(*id, expected, &format!("seed {seed}, at the end"));
    }
    assert_eq!(verify_all(&world.storage()).unwrap().findings, vec![], "seed {seed}");
}

#[test]
fn whatever_comes_and_goes_each_snapshot_is_what_the_source_was() {
    (0..4).for_each(|seed| come_and_go(seed, 30));
}

/// The names of one file that are there, of `a/x`, `b/y` and `c/z`.
fn set_names(source: &Path, names: &[&str]) {
    let all = ["a/x", "b/y", "c/z"];
    let is_there = |name: &str| source.join(name).exists();
    let first = all.into_iter().find(|name| is_there(name)).unwrap();
    for name in names.iter().filter(|name| !is_there(name)) {
        fs::hard_link(source.join(first), source.join(name)).unwrap();
    }
    for name in all.into_iter().filter(|name| !names.contains(name) && is_there(name)) {
        fs::remove_file(source.join(name)).unwrap();
    }
}

#[test]
fn names_of_one_file_that_come_and_go_in_any_order_are_one_file_again() {
    const SETS: [&[&str]; 7] = [
        &["a/x"],
        &["b/y"],
        &["c/z"],
        &["a/x", "b/y"],
        &["a/x", "c/z"],
        &["b/y", "c/z"],
        &["a/x", "b/y", "c/z"],
    ];
    let mut world = World::new(0);
    let source = world.source();
    fs::remove_dir_all(source.join("a")).unwrap();
    for folder in ["a", "b", "c"] {
        fs::create_dir_all(source.join(folder)).unwrap();
    }
    fs::write(source.join("a/x"), world.content(600_000)).unwrap();
    // From each set to each other one, once.
    let pairs = SETS.iter().flat_map(|from| SETS.iter().map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        for names in [from, to] {
            set_names(&source, names);
            world.back_up(Clock::Later, &format!("{from:?} {to:?}"));
        }
        let (id, expected) = (world.run(Clock::Later, &Silent), scan(&source).unwrap());
        world.comes_back(id, &expected, &format!("{from:?} {to:?}"));
    }
}

#[test]
fn a_moved_repository_and_a_copied_one_with_the_cache_of_the_other_are_whole() {
    let mut world = World::new(3);
    world.back_up(Clock::Later, "at first");
    let copied = tree::copy_of(&world.scratch.path().join("repo")).unwrap();
    (0..20).for_each(|_| world.edit());
    world.back_up(Clock::Later, "after the copy");
    // The copy knows nothing of the last snapshot, whose entries the cache holds.
    let repo = world.scratch.path().join("repo");
    fs::rename(&repo, world.scratch.path().join("moved")).unwrap();
    copy_into(copied.path(), &repo).unwrap();
    world.taken.clear();
    (0..20).for_each(|_| world.edit());
    world.back_up(Clock::Later, "in the copy");
    fs::remove_dir_all(&repo).unwrap();
    fs::rename(world.scratch.path().join("moved"), &repo).unwrap();
    world.back_up(Clock::Later, "in the one that was moved");
    assert_eq!(verify_all(&world.storage()).unwrap().findings, vec![]);
}

fn copy_into(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let to = to.join(entry.file_name().unwrap());
        if kind.is_dir() {
            copy_into(&entry, &to)?;
        } else {
            fs::copy(&entry, to)?;
        }
    }
    Ok(())
}
