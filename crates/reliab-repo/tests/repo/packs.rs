//! Packs that are cut off or too long, and packs that no index vouches for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reliab_repo::archive::{BackupReport, backup};
use reliab_repo::event::Events;
use reliab_repo::format::escape::unescape;
use reliab_repo::format::table::{BlobKind, PackTable, TableRow};
use reliab_repo::id::{BlobId, ObjectId};
use reliab_repo::index;
use reliab_repo::repository::Repository;
use reliab_repo::storage::{Storage, pack_key};
use reliab_repo::walk::snapshot_path;
use reliab_testkit::damage::Damage;
use reliab_testkit::engine::{
    back_up, below, local, options, read_back, restore_all, restored_at, verify_all,
};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::{self, Scratch};

/// A source of some large files, each of one chunk, and a small one, backed up once.
struct Lab {
    scratch: Scratch,
    first: ObjectId,
}

/// The one pack of a lab, and where in it the chunks are: offset and end.
struct Pack {
    key: String,
    chunks: Vec<(u64, u64)>,
}

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        let source = scratch.path().join("source");
        fs::create_dir(&source).unwrap();
        let mut generator = Generator::new(5);
        for name in ["a", "b", "c"] {
            fs::write(source.join(name), generator.bytes(600_000)).unwrap();
        }
        fs::write(source.join("small"), "small").unwrap();
        let first = back_up(&local(&scratch.path().join("repo")), &source, &scratch.path().join("cache"));
        Self { first: first.unwrap().stored.id, scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn pack(&self) -> Pack {
        let repository = Repository::open(local(&self.path("repo"))).unwrap();
        let chunks = repository.index().blobs().filter(|(_, place)| place.kind == BlobKind::Chunk);
        let mut chunks: Vec<(u64, u64)> = chunks
            .map(|(_, place)| (u64::from(place.offset), u64::from(place.offset) + u64::from(place.stored)))
            .collect();
        chunks.sort_unstable();
        assert_eq!((chunks.len(), repository.index().packs().len()), (3, 1));
        Pack { key: pack_key(&repository.index().packs()[0].id), chunks }
    }
}

/// The snapshot reads back, and is restored, as the source is.
fn is_whole(storage: &Arc<dyn Storage>, id: ObjectId, source: &Path, what: &str) {
    let found = read_back(storage, id, source).unwrap();
    assert_eq!(differences(&scan(source).unwrap(), &found), Vec::<String>::new(), "{what}");
    let target = Scratch::in_memory().unwrap();
    let restored = restore_all(storage, id, &target.path().join("target")).unwrap();
    assert_eq!(restored.skipped, vec![], "{what}");
    let found = scan(&restored_at(&target.path().join("target"), source)).unwrap();
    assert_eq!(differences(&scan(source).unwrap(), &found), Vec::<String>::new(), "{what}");
}

#[test]
fn of_a_pack_that_is_cut_off_what_is_in_front_of_the_cut_is_used() {
    let lab = Lab::new();
    let pack = lab.pack();
    // Another snapshot of the same chunks, whose lists and pages are in another pack.
    let copy = lab.path("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["a", "b", "c"] {
        fs::copy(lab.path("source").join(name), copy.join(name)).unwrap();
    }
    let second = back_up(&local(&lab.path("repo")), &copy, &lab.path("cache")).unwrap().stored.id;
    let len = fs::metadata(lab.path("repo").join(&pack.key)).unwrap().len();
    let ends = pack.chunks.iter().flat_map(|&(offset, end)| [end, end - 1, offset]);
    for cut in ends.chain([0, len - 1]) {
        let repo = tree::copy_of(&lab.path("repo")).unwrap();
        Damage::CutOff(usize::try_from(len - cut).unwrap()).apply_to(&repo.path().join(&pack.key)).unwrap();
        let storage = local(repo.path());
        let expected: BTreeSet<Vec<u8>> = ["a", "b", "c"]
            .into_iter()
            .zip(&pack.chunks)
            .filter(|(_, chunk)| chunk.1 > cut)
            .map(|(name, _)| name.as_bytes().to_vec())
            .collect();
        let within = |path: &String| below(&unescape(path).unwrap(), &snapshot_path(&copy)).ok();
        let target = Scratch::in_memory().unwrap();
        let report = restore_all(&storage, second, &target.path().join("target")).unwrap();
        let skipped: BTreeSet<_> =
            report.skipped.iter().filter_map(|skipped| within(&skipped.path)).collect();
        assert_eq!(skipped, expected, "cut at {cut} of {len}");
        assert!(report.skipped.iter().all(|skipped| skipped.damaged), "{:?}", report.skipped);
        let restored = scan(&restored_at(&target.path().join("target"), &copy)).unwrap();
        for (path, item) in scan(&copy).unwrap() {
            assert_eq!(restored.get(&path) == Some(&item), !expected.contains(&path), "cut at {cut}");
        }
        let findings = verify_all(&storage).unwrap().findings;
        let finding = findings.iter().find(|finding| finding.object == pack.key).unwrap();
        assert!(finding.data_lost, "{finding:?}");
        let hit: BTreeSet<_> =
            finding.paths.iter().filter_map(within).filter(|path| !path.is_empty()).collect();
        assert!(hit.is_superset(&expected), "cut at {cut}: {hit:?}");
        // A backup does not rely on what is left: it may be gone tomorrow.
        let next = back_up(&storage, &copy, Scratch::in_memory().unwrap().path()).unwrap().stored.id;
        fs::remove_file(repo.path().join(&pack.key)).unwrap();
        is_whole(&storage, next, &copy, &format!("cut at {cut}"));
    }
}

/// Keeps what it is warned of.
#[derive(Default)]
struct Warned(Mutex<Vec<String>>);

impl Events for Warned {
    fn warning(&self, path: &Path, message: &str) {
        self.0.lock().unwrap().push(format!("{}: {message}", path.display()));
    }
}

fn warned(storage: &Arc<dyn Storage>, source: &Path, cache: &Path) -> (BackupReport, Vec<String>) {
    let events = Warned::default();
    let report = backup(Arc::clone(storage), &options(source, cache), &events).unwrap();
    (report, events.0.into_inner().unwrap())
}

/// What a run leaves that was killed after it had published a pack, on a disk that lost a part of it.
struct Orphaned {
    repo: Scratch,
    key: String,
}

impl Orphaned {
    fn new(lab: &Lab, without: &[&str]) -> Self {
        let Pack { key, chunks } = lab.pack();
        let repo = tree::copy_of(&lab.path("repo")).unwrap();
        without.iter().for_each(|folder| fs::remove_dir_all(repo.path().join(folder)).unwrap());
        let path = repo.path().join(&key);
        let mut bytes = fs::read(&path).unwrap();
        let middle = usize::try_from(chunks[1].0.midpoint(chunks[1].1)).unwrap();
        bytes[middle..middle + 4096].fill(0);
        fs::write(path, bytes).unwrap();
        Self { repo, key }
    }

    fn is_whole(&self) -> bool {
        let bytes = fs::read(self.repo.path().join(&self.key)).unwrap();
        self.key.ends_with(&ObjectId::of(&bytes).to_string())
    }
}

#[test]
fn a_damaged_pack_of_a_run_that_was_killed_is_not_relied_on() {
    let lab = Lab::new();
    let orphaned = Orphaned::new(&lab, &["index", "snapshots"]);
    let storage = local(orphaned.repo.path());
    let (report, warnings) = warned(&storage, &lab.path("source"), Scratch::in_memory().unwrap().path());
    is_whole(&storage, report.stored.id, &lab.path("source"), "the run after it");
    assert!(warnings.len() == 1 && warnings[0].starts_with(&orphaned.key), "{warnings:?}");
    assert!(warnings[0].contains("its SHA-256 is not its name"), "{warnings:?}");
    // The same content makes the same pack, of the same name: it took the place of the damaged one.
    assert!(orphaned.is_whole());
    assert_eq!(verify_all(&storage).unwrap().findings, vec![]);
    let (_, warnings) = warned(&storage, &lab.path("source"), Scratch::in_memory().unwrap().path());
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_damaged_pack_without_an_index_stays_named_until_it_is_gone() {
    let lab = Lab::new();
    let orphaned = Orphaned::new(&lab, &["index", "snapshots"]);
    let storage = local(orphaned.repo.path());
    fs::write(lab.path("source").join("0"), Generator::new(6).bytes(700_000)).unwrap();
    let cache = lab.path("cache");
    for round in ["first", "second"] {
        let (report, warnings) = warned(&storage, &lab.path("source"), &cache);
        is_whole(&storage, report.stored.id, &lab.path("source"), round);
        assert!(warnings.len() == 1 && warnings[0].starts_with(&orphaned.key), "{round}: {warnings:?}");
        let findings = verify_all(&storage).unwrap().findings;
        let found: Vec<_> = findings.iter().map(|finding| (&finding.object, finding.data_lost)).collect();
        assert_eq!(found, [(&orphaned.key, false)], "{round}: the content is elsewhere, too");
    }
    fs::remove_file(orphaned.repo.path().join(&orphaned.key)).unwrap();
    assert_eq!(verify_all(&storage).unwrap().findings, vec![]);
    let (report, warnings) = warned(&storage, &lab.path("source"), &cache);
    assert_eq!(warnings, Vec::<String>::new());
    is_whole(&storage, report.stored.id, &lab.path("source"), "without it");
}

#[test]
fn a_damaged_pack_whose_index_is_lost_is_healed_from_the_source() {
    let lab = Lab::new();
    for with_cache in [true, false] {
        let orphaned = Orphaned::new(&lab, &["index"]);
        let storage = local(orphaned.repo.path());
        let cache =
            if with_cache { tree::copy_of(&lab.path("cache")) } else { Scratch::in_memory() }.unwrap();
        let (report, warnings) = warned(&storage, &lab.path("source"), cache.path());
        for id in [report.stored.id, lab.first] {
            is_whole(&storage, id, &lab.path("source"), &format!("with a cache: {with_cache}"));
        }
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

#[test]
fn of_indexes_that_differ_about_a_pack_none_is_believed() {
    let lab = Lab::new();
    let pack = lab.pack();
    let id = Repository::open(local(&lab.path("repo"))).unwrap().index().packs()[0].id;
    // Which file comes first hangs on their names, so several do.
    for more in 1..6 {
        let copy = tree::copy_of(&lab.path("repo")).unwrap();
        let storage = local(copy.path());
        let row = TableRow { kind: BlobKind::Chunk, id: BlobId([more; 32]), stored: 7, len: 7 };
        let size = pack.chunks[2].1 + u64::from(more);
        index::publish(&storage, &[PackTable { id, size, rows: vec![row] }]).unwrap();
        is_whole(&storage, lab.first, &lab.path("source"), "with another index");
        let found = verify_all(&storage).unwrap().findings;
        assert!(found.len() == 1 && !found[0].data_lost, "{found:?}");
        assert!(found[0].object.starts_with("index/"), "{found:?}");
    }
}

#[test]
fn an_index_that_compresses_as_none_does_is_not_believed() {
    let lab = Lab::new();
    let storage = local(&lab.path("repo"));
    // 80 MB of text in some kilobytes: it would take as much memory as the enemy likes.
    let row = TableRow { kind: BlobKind::Chunk, id: BlobId([7; 32]), stored: 7, len: 7 };
    let rows = vec![row; 1_000_000];
    index::publish(&storage, &[PackTable { id: ObjectId([7; 32]), size: 7_000_000, rows }]).unwrap();
    let repository = Repository::open(Arc::clone(&storage)).unwrap();
    assert!(repository.index().blobs().count() < 1000);
    is_whole(&storage, lab.first, &lab.path("source"), "beside it");
    let found = verify_all(&storage).unwrap().findings;
    assert!(found.len() == 1 && found[0].object.starts_with("index/") && !found[0].data_lost, "{found:?}");
}
