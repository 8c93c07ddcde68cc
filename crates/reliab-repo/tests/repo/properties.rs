//! Properties: random trees and random edits, against a plain model of what the tree was at each backup.
//!
//! Seeds are fixed, so a failure is found again; proptest prints the shrunk sequence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed};
use reliab_repo::format::entry::{Data, Kind, Pieces};
use reliab_repo::id::{BlobId, ObjectId};
use reliab_repo::manifest::Manifest;
use reliab_repo::repository::Repository;
use reliab_repo::storage::Storage;
use reliab_testkit::engine::{back_up, find, local, read_back, verify_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{ItemKind, Scan};
use reliab_testkit::tree::{self, Scratch};

/// What the test itself remembers of a tree: path to content and mode; folders have no content.
type Model = BTreeMap<String, (Option<Vec<u8>>, u32)>;

/// An edit; paths are chosen by number among those there are, so that every edit makes sense.
#[derive(Clone, Debug)]
enum Edit {
    Write {
        folder: usize,
        name: u8,
        len: usize,
        seed: u64,
    },
    Copy {
        from: usize,
        folder: usize,
        name: u8,
    },
    Flip {
        at: usize,
        offset: usize,
    },
    Append {
        at: usize,
        len: usize,
    },
    Cut {
        at: usize,
        to: usize,
    },
    Insert {
        at: usize,
        offset: usize,
        len: usize,
    },
    Chmod {
        at: usize,
        mode: u32,
    },
    MakeDir {
        folder: usize,
        name: u8,
    },
    Rename {
        at: usize,
        folder: usize,
        name: u8,
    },
    Remove {
        at: usize,
    },
    /// A file becomes a folder, or the other way round.
    Replace {
        at: usize,
    },
    BackUp {
        lose_cache: bool,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let pick = || 0..1000usize;
    let len = prop_oneof![
        4 => 0..2000usize,
        1 => 500_000..600_000usize,
        1 => 4_100_000..4_400_000usize,
    ];
    prop_oneof![
        6 => (pick(), 0..30u8, len, any::<u64>())
            .prop_map(|(folder, name, len, seed)| Edit::Write { folder, name, len, seed }),
        2 => (pick(), pick(), 0..30u8).prop_map(|(from, folder, name)| Edit::Copy { from, folder, name }),
        3 => (pick(), any::<usize>()).prop_map(|(at, offset)| Edit::Flip { at, offset }),
        1 => (pick(), 1..5000usize).prop_map(|(at, len)| Edit::Append { at, len }),
        1 => (pick(), any::<usize>()).prop_map(|(at, to)| Edit::Cut { at, to }),
        2 => (pick(), any::<usize>(), 1..3000usize)
            .prop_map(|(at, offset, len)| Edit::Insert { at, offset, len }),
        2 => (pick(), prop_oneof![Just(0o600), Just(0o755), Just(0o444)])
            .prop_map(|(at, mode)| Edit::Chmod { at, mode }),
        3 => (pick(), 0..30u8).prop_map(|(folder, name)| Edit::MakeDir { folder, name }),
        3 => (pick(), pick(), 0..30u8).prop_map(|(at, folder, name)| Edit::Rename { at, folder, name }),
        2 => pick().prop_map(|at| Edit::Remove { at }),
        1 => pick().prop_map(|at| Edit::Replace { at }),
        6 => any::<bool>().prop_map(|lose_cache| Edit::BackUp { lose_cache }),
    ]
}

/// Names that sort oddly around `/`.
fn name(number: u8) -> String {
    let odd = ["a", "a b", "a-", "a.txt", "a!", "b", "ä", "%", "a\n"];
    odd.get(usize::from(number)).map_or_else(|| format!("n{number}"), |name| (*name).to_owned())
}

/// A source, its model, and the snapshots taken so far with the model of each.
struct World {
    scratch: Scratch,
    model: Model,
    taken: Vec<(ObjectId, Model)>,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        fs::create_dir(scratch.path().join("source")).unwrap();
        let mut world = Self { scratch, model: Model::new(), taken: Vec::new() };
        world.model.insert(String::new(), (None, 0o755));
        tree::set_mode(&world.source(), 0o755).unwrap();
        // Enough entries that a few changes make an overlay and not a new base.
        for number in 0..60u64 {
            let folder = if number % 2 == 0 { "even" } else { "odd" };
            world.make_dir(folder.to_owned());
            world.write(
                format!("{folder}/{number}"),
                Generator::new(number).text(300 + 40 * usize::try_from(number).unwrap()),
            );
        }
        world
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn storage(&self) -> Arc<dyn Storage> {
        local(&self.scratch.path().join("repo"))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.source().join(path)
    }

    fn pick(&self, number: usize, wanted: impl Fn(&Option<Vec<u8>>) -> bool) -> Option<String> {
        let paths: Vec<&String> =
            self.model.iter().filter(|(_, (content, _))| wanted(content)).map(|(path, _)| path).collect();
        (!paths.is_empty()).then(|| paths[number % paths.len()].clone())
    }

    fn file(&self, number: usize) -> Option<String> {
        self.pick(number, Option::is_some)
    }

    fn inside(&self, folder: usize, number: u8) -> String {
        let folder = self.pick(folder, Option::is_none).unwrap_or_default();
        if folder.is_empty() { name(number) } else { format!("{folder}/{}", name(number)) }
    }

    /// Anything but the top folder.
    fn any(&self, number: usize) -> Option<String> {
        let paths: Vec<&String> = self.model.keys().filter(|path| !path.is_empty()).collect();
        (!paths.is_empty()).then(|| paths[number % paths.len()].clone())
    }

    fn write(&mut self, path: String, content: Vec<u8>) {
        if matches!(self.model.get(&path), Some((None, _))) {
            return;
        }
        let mode = self.model.get(&path).map_or(0o644, |(_, mode)| *mode);
        drop(fs::remove_file(self.at(&path)));
        fs::write(self.at(&path), &content).unwrap();
        tree::set_mode(&self.at(&path), mode).unwrap();
        self.model.insert(path, (Some(content), mode));
    }

    /// Changes a file without giving it another inode.
    fn change(&mut self, number: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(path) = self.file(number) else { return };
        let at = self.at(&path);
        let Some((Some(content), mode)) = self.model.get_mut(&path) else { return };
        change(content);
        tree::set_mode(&at, 0o600).unwrap();
        let mut file = fs::File::options().write(true).truncate(true).open(&at).unwrap();
        file.write_all(content).unwrap();
        tree::set_mode(&at, *mode).unwrap();
    }

    fn make_dir(&mut self, path: String) {
        if !self.model.contains_key(&path) {
            fs::create_dir(self.at(&path)).unwrap();
            tree::set_mode(&self.at(&path), 0o755).unwrap();
            self.model.insert(path, (None, 0o755));
        }
    }

    fn remove(&mut self, path: &str) {
        let at = self.at(path);
        if at.is_dir() {
            fs::remove_dir_all(at).unwrap();
        } else {
            fs::remove_file(at).unwrap();
        }
        self.model.retain(|other, _| !is_within(other, path));
    }

    fn rename(&mut self, from: &str, to: &str) {
        if self.model.contains_key(to) || is_within(to, from) {
            return;
        }
        fs::rename(self.at(from), self.at(to)).unwrap();
        let moved: Vec<String> = self.model.keys().filter(|path| is_within(path, from)).cloned().collect();
        for path in moved {
            let value = self.model.remove(&path).unwrap();
            self.model.insert(format!("{to}{}", &path[from.len()..]), value);
        }
    }

    fn apply(&mut self, edit: &Edit) {
        match *edit {
            Edit::Write { folder, name, len, seed } => {
                let path = self.inside(folder, name);
                self.write(path, Generator::new(seed).text(len));
            }
            Edit::Copy { from, folder, name } => {
                let path = self.inside(folder, name);
                let content = self.file(from).and_then(|from| self.model[&from].0.clone());
                if let Some(content) = content {
                    self.write(path, content);
                }
            }
            Edit::Flip { at, offset } => self.change(at, |content| {
                let len = content.len().max(1);
                content.get_mut(offset % len).into_iter().for_each(|byte| *byte ^= 0xff);
            }),
            Edit::Append { at, len } => {
                self.change(at, |content| content.extend(Generator::new(1).text(len)));
            }
            Edit::Cut { at, to } => self.change(at, |content| content.truncate(to % (content.len() + 1))),
            Edit::Insert { at, offset, len } => self.change(at, |content| {
                let offset = offset % (content.len() + 1);
                content.splice(offset..offset, Generator::new(2).bytes(len));
            }),
            Edit::Chmod { at, mode } => {
                let Some(path) = self.file(at) else { return };
                tree::set_mode(&self.at(&path), mode).unwrap();
                self.model.get_mut(&path).unwrap().1 = mode;
            }
            Edit::MakeDir { folder, name } => self.make_dir(self.inside(folder, name)),
            Edit::Rename { at, folder, name } => {
                let to = self.inside(folder, name);
                self.any(at).into_iter().for_each(|from| self.rename(&from, &to));
            }
            Edit::Remove { at } => self.any(at).into_iter().for_each(|path| self.remove(&path)),
            Edit::Replace { at } => self.replace(at),
            Edit::BackUp { lose_cache } => self.back_up(lose_cache),
        }
    }

    fn replace(&mut self, at: usize) {
        let Some(path) = self.any(at) else { return };
        let was_dir = self.model[&path].0.is_none();
        self.remove(&path);
        if was_dir {
            self.write(path, b"was a folder".to_vec());
        } else {
            self.make_dir(path.clone());
            self.write(format!("{path}/inside"), b"was a file".to_vec());
        }
    }

    fn back_up(&mut self, lose_cache: bool) {
        let cache = self.scratch.path().join("cache");
        if lose_cache {
            drop(fs::remove_dir_all(&cache));
        }
        if !self.model.values().any(|(content, _)| content.is_some()) {
            self.write("last".into(), b"a source without files is refused".to_vec());
        }
        let report = back_up(&self.storage(), &self.source(), &cache).unwrap();
        assert_eq!(report.stored.snapshot.errors, vec![]);
        let stats = &report.stored.snapshot.stats;
        assert_eq!(stats.entries, self.model.len() as u64);
        assert_eq!(stats.files, self.model.values().filter(|(content, _)| content.is_some()).count() as u64);
        self.taken.push((report.stored.id, self.model.clone()));
    }

    /// Every snapshot still says what the model said then.
    fn all_snapshots_are_as_taken(&self) {
        let storage = self.storage();
        for (number, (id, model)) in self.taken.iter().enumerate() {
            let found = read_back(&storage, *id, &self.source()).unwrap();
            assert_eq!(told(&found), expected(model), "snapshot {number} of {}", self.taken.len());
        }
        assert_eq!(verify_all(&storage).unwrap().findings, vec![]);
    }

    fn layers(&self) -> Vec<usize> {
        let repository = Repository::open(self.storage()).unwrap();
        let of = |(id, _): &(ObjectId, Model)| find(&repository, *id).unwrap().snapshot.layers.len();
        self.taken.iter().map(of).collect()
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

type Told = BTreeMap<Vec<u8>, (Option<(u64, [u8; 32])>, u32)>;

fn told(scan: &Scan) -> Told {
    scan.iter()
        .map(|(path, item)| {
            let content = match item.kind {
                ItemKind::File(len, digest) => Some((len, digest)),
                _ => None,
            };
            (path.clone(), (content, item.mode))
        })
        .collect()
}

fn expected(model: &Model) -> Told {
    let row = |(path, (content, mode)): (&String, &(Option<Vec<u8>>, u32))| {
        let content = content.as_ref().map(|bytes| (bytes.len() as u64, *blake3::hash(bytes).as_bytes()));
        (path.clone().into_bytes(), (content, *mode))
    };
    model.iter().map(row).collect()
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(2026),
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn every_snapshot_holds_what_the_tree_held_when_it_was_taken(edits in prop::collection::vec(edit(), 1..60)) {
        let mut world = World::new();
        world.back_up(false);
        for edit in &edits {
            world.apply(edit);
        }
        world.back_up(false);
        world.all_snapshots_are_as_taken();
    }
}

#[test]
fn overlays_and_their_folding_do_not_show() {
    let mut world = World::new();
    for number in 60..400u64 {
        world.write(format!("even/{number}"), Generator::new(number).text(200));
    }
    world.back_up(false);
    for round in 0..24usize {
        world.apply(&Edit::Write { folder: round, name: 20, len: 100 + round, seed: round as u64 });
        world.apply(&Edit::Flip { at: round * 7, offset: round });
        match round % 4 {
            0 => world.apply(&Edit::Remove { at: round * 13 }),
            1 => world.apply(&Edit::MakeDir { folder: 0, name: 10 + u8::try_from(round).unwrap() }),
            2 => world.apply(&Edit::Rename { at: round * 11, folder: 0, name: 5 }),
            _ => world.apply(&Edit::Replace { at: round * 5 }),
        }
        world.back_up(round % 5 == 4);
    }
    let layers = world.layers();
    assert!(layers.iter().any(|&count| count > 2), "overlays were written: {layers:?}");
    assert!(layers.windows(2).any(|pair| pair[1] < pair[0]), "and folded: {layers:?}");
    world.all_snapshots_are_as_taken();
}

/// The chunks of the only large file.
fn chunks(world: &World, number: usize) -> Vec<BlobId> {
    let repository = Repository::open(world.storage()).unwrap();
    let stored = find(&repository, world.taken[number].0).unwrap();
    let mut found = Vec::new();
    for item in Manifest::open(&repository, &stored.snapshot, None).unwrap() {
        let Kind::File(content) = &item.entry.kind else { continue };
        if let Data::Large(large) = &content.data
            && let Pieces::Chunks(chunks) = &large.pieces
        {
            found.extend(chunks.iter().map(|blob| item.blob(*blob)));
        }
    }
    found
}

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn an_insertion_moves_only_the_chunk_boundaries_next_to_it(
        seed in any::<u64>(),
        offset in 0..24_000_000usize,
        len in 1..5000usize,
    ) {
        let mut world = World::new();
        let mut content = Generator::new(seed).bytes(24_000_000);
        world.write("large".into(), content.clone());
        world.back_up(false);
        content.splice(offset..offset, Generator::new(!seed).bytes(len));
        world.write("large".into(), content);
        // Without the block hashes in the cache the file is cut anew and not patched.
        world.back_up(true);
        let (before, after) = (chunks(&world, 0), chunks(&world, 1));
        let known: BTreeSet<BlobId> = before.iter().copied().collect();
        let new = after.iter().filter(|id| !known.contains(id)).count();
        prop_assert!(before.len() >= 6, "{} chunks", before.len());
        prop_assert!((1..=4).contains(&new), "{new} of {} chunks are new", after.len());
        world.all_snapshots_are_as_taken();
    }
}

#[test]
fn the_model_sees_the_disk_as_it_is() {
    let world = World::new();
    for (path, (content, mode)) in &world.model {
        let at: &Path = &world.at(path);
        assert_eq!(fs::metadata(at).unwrap().permissions().mode() & 0o7777, *mode);
        assert_eq!(fs::read(at).ok(), *content);
    }
}
