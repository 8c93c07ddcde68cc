//! Damage matrix: every kind of file of a repository goes bad in every way, in a real folder.
//!
//! What is damaged is named with the paths it hits, what is not damaged is restored byte for byte, and the next backup
//! works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reliab_repo::archive::{BackupOptions, backup};
use reliab_repo::blob::BlobReader;
use reliab_repo::error::Error;
use reliab_repo::event::Silent;
use reliab_repo::format::entry::Kind;
use reliab_repo::format::escape::{escape, unescape};
use reliab_repo::format::order;
use reliab_repo::format::table::BlobKind;
use reliab_repo::id::{BlobId, ObjectId};
use reliab_repo::manifest::{Manifest, read_list};
use reliab_repo::repository::Repository;
use reliab_repo::restore::Skipped;
use reliab_repo::storage::Storage;
use reliab_repo::verify::{Finding, Level, Lists, VerifyOptions, VerifyReport, verify};
use reliab_repo::walk::snapshot_path;
use reliab_testkit::damage::Damage;
use reliab_testkit::engine::{
    back_up, find, local, options, read_back, restore_all, restored_at, verify_all,
};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{Scan, differences, scan};
use reliab_testkit::tree::{self, Scratch};

/// A repository with two snapshots in two packs, and the source as the second has it.
struct Lab {
    scratch: Scratch,
    /// The snapshots, and what they hold.
    snapshots: Vec<(ObjectId, Scan)>,
}

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        let mut lab = Self { scratch, snapshots: Vec::new() };
        let source = lab.source();
        fs::create_dir(&source).unwrap();
        tree::small(&source).unwrap();
        tree::database(&source.join("database")).unwrap();
        // Enough for several bundles and pages.
        fs::create_dir(source.join("many")).unwrap();
        let mut generator = Generator::new(20);
        for number in 0..400 {
            fs::write(source.join(format!("many/{number}")), generator.bytes(7000)).unwrap();
        }
        lab.back_up();
        fs::write(source.join("src/new"), "new in the second").unwrap();
        fs::write(source.join("empty"), "no longer").unwrap();
        fs::write(source.join("big 2"), generator.text(2_700_000)).unwrap();
        fs::remove_file(source.join("random")).unwrap();
        tree::flip_byte(&source.join("database"), 3_000_000).unwrap();
        lab.back_up();
        lab
    }

    fn back_up(&mut self) {
        let report = back_up(&local(&self.repo()), &self.source(), &self.cache()).unwrap();
        assert_eq!(report.stored.snapshot.errors, vec![]);
        self.snapshots.push((report.stored.id, scan(&self.source()).unwrap()));
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn repo(&self) -> PathBuf {
        self.scratch.path().join("repo")
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// Files below a folder of the repository, by key.
    fn files(&self, folder: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            local(&self.repo()).list(folder).unwrap().into_iter().map(|object| object.key).collect();
        keys.sort();
        keys
    }

    /// A copy of the repository with one file damaged.
    fn damaged(&self, key: &str, damage: &Damage) -> (Scratch, Arc<dyn Storage>) {
        let copy = tree::copy_of(&self.repo()).unwrap();
        damage.apply_to(&copy.path().join(key)).unwrap();
        let storage = local(copy.path());
        (copy, storage)
    }

    /// All kinds of damage; the file is swapped with `other`.
    fn kinds(&self, other: &str) -> Vec<Damage> {
        let flips = [0, 3, 120, 250, 390, 500, 610, 777, 900, 985, 1000];
        let mut kinds: Vec<Damage> = flips.map(Damage::Flip).into();
        kinds.extend([0, 500, 995].map(Damage::Truncate));
        kinds.extend([Damage::Delete, Damage::Zero]);
        kinds.push(Damage::Replace(fs::read(self.repo().join(other)).unwrap()));
        kinds
    }

    /// Restores a snapshot; gives the differences by path, and what was skipped.
    fn restore(&self, storage: &Arc<dyn Storage>, number: usize) -> Result<Restored, Error> {
        let (id, expected) = &self.snapshots[number];
        let target = Scratch::in_memory().unwrap();
        let report = restore_all(storage, *id, &target.path().join("target"))?;
        let found = restored_at(&target.path().join("target"), &self.source());
        let found = if found.exists() { scan(&found).unwrap() } else { Scan::new() };
        let wrong = expected.keys().filter(|path| found.get(*path) != expected.get(*path)).cloned().collect();
        let extra = found.keys().filter(|path| !expected.contains_key(*path)).count();
        assert_eq!(extra, 0, "nothing is restored that was not there");
        Ok(Restored { wrong, skipped: report.skipped })
    }

    /// The next backup works without the cache, with it, and again after that; gives the differences of what each stored.
    fn next(&self, damaged: &Path) -> Vec<Result<Vec<String>, Error>> {
        let caches = [Scratch::in_memory().unwrap(), tree::copy_of(&self.cache()).unwrap()];
        let now = scan(&self.source()).unwrap();
        let mut outcomes = Vec::new();
        for cache in &caches {
            let copy = tree::copy_of(damaged).unwrap();
            let storage = local(copy.path());
            for _ in 0..2 {
                let report = back_up(&storage, &self.source(), cache.path()).unwrap();
                assert_eq!((report.unreadable, &report.stored.snapshot.errors), (0, &vec![]));
                let found = read_back(&storage, report.stored.id, &self.source());
                outcomes.push(found.map(|found| differences(&now, &found)));
            }
        }
        outcomes
    }

    fn next_is_whole(&self, damaged: &Path, what: &str) {
        for outcome in self.next(damaged) {
            assert_eq!(outcome.unwrap(), Vec::<String>::new(), "{what}");
        }
    }

    fn is_whole(&self, storage: &Arc<dyn Storage>, number: usize, what: &str) {
        let restored = self.restore(storage, number).unwrap();
        assert_eq!((restored.wrong, restored.skipped), (BTreeSet::new(), vec![]), "{what}");
    }
}

/// What a restore of a damaged repository came to.
struct Restored {
    wrong: BTreeSet<Vec<u8>>,
    skipped: Vec<Skipped>,
}

/// What each blob is needed for in one snapshot: paths below the source.
struct Needs {
    /// Content of files.
    content: BTreeMap<BlobId, BTreeSet<Vec<u8>>>,
    /// Records that only `recover.sh` and `export` need.
    records: BTreeMap<BlobId, BTreeSet<Vec<u8>>>,
    /// Entries of pages, and of lists.
    pages: BTreeMap<BlobId, BTreeSet<Vec<u8>>>,
}

impl Needs {
    fn of(lab: &Lab, number: usize) -> Self {
        let storage = local(&lab.repo());
        let repository = Repository::open(storage).unwrap();
        let (id, expected) = &lab.snapshots[number];
        let stored = find(&repository, *id).unwrap();
        let top = snapshot_path(&lab.source());
        let below = |path: &[u8]| reliab_testkit::engine::below(path, &top).unwrap();
        let mut needs = Self { content: BTreeMap::new(), records: BTreeMap::new(), pages: BTreeMap::new() };
        for mut item in Manifest::open(&repository, &stored.snapshot, None).unwrap() {
            let blobs = Arc::clone(&item.page);
            let is_file = matches!(item.entry.kind, Kind::File(_));
            let path = below(&item.entry.path);
            item.entry.kind.for_each_blob(|number| {
                let id = blobs.blobs[*number as usize];
                let kind = repository.index().find(&id).unwrap().kind;
                let is_content = is_file && kind != BlobKind::Head;
                let needed = if is_content { &mut needs.content } else { &mut needs.records };
                needed.entry(id).or_default().insert(path.clone());
            });
        }
        let mut reader = BlobReader::new(&repository).unwrap();
        for list in &stored.snapshot.layers {
            needs.pages.insert(*list, expected.keys().cloned().collect());
            let rows = read_list(&mut reader, list).unwrap();
            for (at, row) in rows.iter().enumerate() {
                let next = rows.get(at + 1).map(|next| &next.first[..]);
                let full = |path: &Vec<u8>| {
                    [&top[..], b"/", path]
                        .concat()
                        .strip_suffix(b"/")
                        .map_or_else(|| [&top[..], b"/", path].concat(), <[u8]>::to_vec)
                };
                let in_page = |path: &&Vec<u8>| {
                    let path = full(path);
                    order::compare(&path, &row.first).is_ge()
                        && next.is_none_or(|next| order::compare(&path, next).is_lt())
                };
                needs.pages.insert(row.id, expected.keys().filter(in_page).cloned().collect());
            }
        }
        needs
    }

    fn all(blobs: &[BlobId], of: &BTreeMap<BlobId, BTreeSet<Vec<u8>>>) -> BTreeSet<Vec<u8>> {
        blobs.iter().filter_map(|id| of.get(id)).flatten().cloned().collect()
    }
}

/// A flipped bit in the middle of a blob of every kind that the pack holds.
fn one_of_each_kind(lab: &Lab, key: &str) -> Vec<Damage> {
    let repository = Repository::open(local(&lab.repo())).unwrap();
    let blobs = repository.index().blobs().filter(|(_, place)| key.ends_with(&place.pack.id.to_string()));
    let middles: BTreeMap<BlobKind, usize> =
        blobs.map(|(_, place)| (place.kind, place.offset as usize + place.stored as usize / 2)).collect();
    assert!(middles.len() >= 5, "{middles:?}");
    middles.into_values().map(Damage::FlipAt).collect()
}

/// The blobs of a pack that a damage hits.
fn hit_blobs(lab: &Lab, key: &str, damage: &Damage) -> Vec<BlobId> {
    let repository = Repository::open(local(&lab.repo())).unwrap();
    let len = fs::metadata(lab.repo().join(key)).unwrap().len();
    let is_here = |pack: &ObjectId| key.ends_with(&pack.to_string());
    let hit = |offset: u32, stored: u32| {
        let frame = u64::from(offset)..u64::from(offset) + u64::from(stored);
        match damage {
            Damage::Flip(thousandths) => frame.contains(&(len * *thousandths as u64 / 1000).min(len - 1)),
            Damage::FlipAt(byte) => frame.contains(&(*byte as u64)),
            // What is in front of the cut is as good as it was: each frame is checked by itself.
            Damage::Truncate(thousandths) => frame.end > len * *thousandths as u64 / 1000,
            Damage::CutOff(bytes) => frame.end > len - *bytes as u64,
            Damage::Extend(_) => false,
            Damage::Delete | Damage::Replace(_) | Damage::Zero => true,
        }
    };
    let blobs = repository.index().blobs().filter(|(_, place)| is_here(&place.pack.id));
    blobs.filter(|(_, place)| hit(place.offset, place.stored)).map(|(id, _)| id).collect()
}

fn about<'a>(report: &'a VerifyReport, key: &str) -> Option<&'a Finding> {
    report.findings.iter().find(|finding| finding.object.contains(key.rsplit('/').next().unwrap()))
}

/// Paths of findings or of what was skipped, below the source.
fn paths<'a>(lab: &Lab, escaped: impl Iterator<Item = &'a String>) -> BTreeSet<Vec<u8>> {
    let top = snapshot_path(&lab.source());
    escaped
        .map(|path| unescape(path).unwrap())
        .filter(|path| path != b".")
        .map(|path| reliab_testkit::engine::below(&path, &top).unwrap())
        .collect()
}

/// The lists of a snapshot's layers.
fn lists_of(storage: &Arc<dyn Storage>, id: ObjectId) -> Vec<BlobId> {
    find(&Repository::open(Arc::clone(storage)).unwrap(), id).unwrap().snapshot.layers
}

/// How much of a snapshot's list of entries is said to be hit.
fn told_of_list(report: &VerifyReport, snapshot: ObjectId) -> Lists {
    let id = snapshot.to_string();
    let hit = report.findings.iter().filter(|finding| finding.snapshots.contains(&id));
    hit.map(|finding| finding.lists).max().unwrap_or_default()
}

#[test]
fn damage_to_a_pack_is_named_and_costs_exactly_what_lies_there() {
    let lab = Lab::new();
    let packs = lab.files("packs");
    assert_eq!(packs.len(), 2);
    let needs = [Needs::of(&lab, 0), Needs::of(&lab, 1)];
    let mut content_lost = 0;
    for (key, other) in [(&packs[0], &packs[1]), (&packs[1], &packs[0])] {
        // Of these the table alone is hit, which no reader needs while there is an index.
        let lengths = [Damage::CutOff(1), Damage::Extend(1), Damage::Extend(40_000_000)];
        let kinds = lab.kinds(other).into_iter().chain(one_of_each_kind(&lab, key)).chain(lengths);
        for damage in kinds {
            let what = format!("{key} {}", format!("{damage:?}").chars().take(30).collect::<String>());
            let (copy, storage) = lab.damaged(key, &damage);
            let blobs = hit_blobs(&lab, key, &damage);
            let report = verify_all(&storage).unwrap();
            let finding = about(&report, key).unwrap_or_else(|| panic!("{what}: verify names no pack"));
            assert!(finding.data_lost, "{what}: {finding:?}");
            let named = paths(&lab, report.findings.iter().flat_map(|finding| &finding.paths));
            let mut expected_named = BTreeSet::new();
            for (number, needs) in needs.iter().enumerate() {
                let content = Needs::all(&blobs, &needs.content);
                let pages = Needs::all(&blobs, &needs.pages);
                content_lost += content.len();
                expected_named.extend(content.iter().chain(&Needs::all(&blobs, &needs.records)).cloned());
                let hit_list = told_of_list(&report, lab.snapshots[number].0);
                let Ok(restored) = lab.restore(&storage, number) else {
                    assert!(hit_list == Lists::All, "{what}: the list is not told of");
                    let lists = lists_of(&storage, lab.snapshots[number].0);
                    assert!(blobs.iter().any(|id| lists.contains(id)), "{what}: refused without need");
                    continue;
                };
                let skipped = paths(&lab, restored.skipped.iter().map(|skipped| &skipped.path));
                let blameless: Vec<_> = restored.skipped.iter().filter(|skipped| !skipped.damaged).collect();
                assert!(blameless.is_empty(), "{what}: not called damage: {blameless:?}");
                let may_be_wrong: BTreeSet<_> = content.union(&pages).cloned().collect();
                let wrong: Vec<_> = restored.wrong.difference(&may_be_wrong).map(|p| escape(p)).collect();
                assert!(wrong.is_empty(), "{what}: wrong though not damaged: {wrong:?}");
                let too_much: Vec<_> = skipped.difference(&may_be_wrong).map(|p| escape(p)).collect();
                assert!(too_much.is_empty(), "{what}: skipped though not damaged: {too_much:?}");
                let silent: Vec<_> =
                    restored.wrong.difference(&skipped).filter(|p| !pages.contains(*p)).collect();
                assert!(silent.is_empty(), "{what}: wrong without a word: {silent:?}");
                assert!(pages.is_empty() || !restored.skipped.is_empty(), "{what}: a page is lost silently");
                assert!(pages.is_empty() || hit_list != Lists::None, "{what}: the page is not told of");
                let kept: Vec<_> =
                    content.difference(&restored.wrong).filter(|p| !pages.contains(*p)).collect();
                assert!(kept.is_empty(), "{what}: restored although its data is damaged: {kept:?}");
            }
            if named.len() < 100 {
                let pages: BTreeSet<_> =
                    needs.iter().flat_map(|needs| Needs::all(&blobs, &needs.pages)).collect();
                let unnamed: Vec<_> = expected_named
                    .difference(&named)
                    .filter(|p| !pages.contains(*p))
                    .map(|p| escape(p))
                    .collect();
                assert!(unnamed.is_empty(), "{what}: verify names no path {unnamed:?}");
                let too_many: Vec<_> =
                    named.difference(&expected_named).filter(|p| !pages.contains(*p)).collect();
                assert!(too_many.is_empty(), "{what}: verify names {too_many:?}");
            }
            let is_short = matches!(damage, Damage::Delete | Damage::Truncate(_) | Damage::CutOff(_));
            let seen = is_short || matches!(damage, Damage::Extend(_));
            for outcome in lab.next(copy.path()) {
                // A flipped bit is seen only when the data is read; what is plainly missing is stored again.
                assert!(!seen || outcome.as_ref().is_ok_and(Vec::is_empty), "{what}: {outcome:?}");
            }
        }
    }
    assert!(content_lost > 1000, "{content_lost}");
}

#[test]
fn damage_to_an_index_costs_nothing_and_is_named() {
    let lab = Lab::new();
    let files = lab.files("index");
    assert_eq!(files.len(), 2);
    for (key, other) in [(&files[0], &files[1]), (&files[1], &files[0])] {
        for damage in lab.kinds(other) {
            let what = format!("{key} {}", format!("{damage:?}").chars().take(30).collect::<String>());
            let (copy, storage) = lab.damaged(key, &damage);
            let report = verify_all(&storage).unwrap();
            // What its name was nobody knows.
            let named = if damage == Damage::Delete { "index" } else { &key[..] };
            let finding = about(&report, named).unwrap_or_else(|| panic!("{what}: not named"));
            assert!(!finding.data_lost && report.findings.len() == 1, "{what}: {:?}", report.findings);
            lab.is_whole(&storage, 0, &what);
            lab.is_whole(&storage, 1, &what);
            lab.next_is_whole(copy.path(), &what);
            if damage == Damage::Delete {
                back_up(&storage, &lab.source(), tree::copy_of(&lab.cache()).unwrap().path()).unwrap();
                assert_eq!(verify_all(&storage).unwrap().findings, vec![], "{what}: healed");
            }
        }
    }
}

#[test]
fn damage_to_a_snapshot_is_named_and_costs_no_other() {
    let lab = Lab::new();
    let key = |number: usize| format!("snapshots/{}", lab.snapshots[number].0);
    for (number, other) in [(0, 1), (1, 0)] {
        for damage in lab.kinds(&key(other)) {
            let what = format!("{number} {}", format!("{damage:?}").chars().take(30).collect::<String>());
            let (copy, storage) = lab.damaged(&key(number), &damage);
            let report = verify_all(&storage).unwrap();
            let latest = Repository::open(Arc::clone(&storage)).unwrap().snapshots().find("latest").cloned();
            if damage == Damage::Delete {
                assert_eq!(latest.unwrap().id, lab.snapshots[other].0, "{what}");
                // The list of the first is also a layer of the second, so all lists still belong to a snapshot. Nothing
                // says that it came after the newest, and its list is what a run leaves, too, that is cut off before it
                // publishes its snapshot: more cannot be known.
                let (findings, unclaimed) = if number == 0 { (1, 0) } else { (0, 1) };
                assert_eq!((report.findings.len(), report.unclaimed_lists), (findings, unclaimed), "{what}");
                if number == 0 {
                    let finding = about(&report, &key(0)).unwrap();
                    let child = format!("snapshot {} came after it", lab.snapshots[1].0.short());
                    assert!(finding.data_lost && finding.problem.contains(&child), "{what}: {finding:?}");
                }
            } else {
                let finding = about(&report, &key(number)).unwrap_or_else(|| panic!("{what}: not named"));
                // A damaged parent is not missing as well.
                assert!(finding.data_lost && report.findings.len() == 1, "{what}: {:?}", report.findings);
                match number {
                    // The other one names it as its parent, and so is newer.
                    0 => assert_eq!(latest.unwrap().id, lab.snapshots[1].0, "{what}"),
                    _ => assert!(latest.unwrap_err().is_damage(), "{what}: what is the latest is not known"),
                }
            }
            let error = lab.restore(&storage, number).err().unwrap();
            assert!(damage == Damage::Delete || error.is_damage(), "{what}: {error:?}");
            lab.is_whole(&storage, other, &what);
            lab.next_is_whole(copy.path(), &what);
        }
    }
}

#[test]
fn a_deleted_snapshot_of_another_host_and_a_foreign_file_are_named() {
    let scratch = Scratch::in_memory().unwrap();
    let (source, repo) = (scratch.path().join("source"), scratch.path().join("repo"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "one").unwrap();
    let storage = local(&repo);
    let ids = ["web1", "web2", "web3"].map(|host| {
        let cache = scratch.path().join(host);
        let options = BackupOptions { host: host.into(), ..options(&source, &cache) };
        backup(Arc::clone(&storage), &options, &Silent).unwrap().stored.id
    });
    assert_eq!(verify_all(&storage).unwrap().findings, vec![]);
    fs::remove_file(repo.join(format!("snapshots/{}", ids[1]))).unwrap();
    fs::write(repo.join("snapshots/notes"), "").unwrap();
    let report = verify_all(&storage).unwrap();
    let found: Vec<_> = report.findings.iter().map(|f| (f.object.clone(), f.data_lost)).collect();
    assert_eq!(found, [(format!("snapshots/{}", ids[1]), true), ("snapshots/notes".into(), false)]);
    let by = format!("it is missing: snapshot {} came after it", ids[2].short());
    assert_eq!(report.findings[0].problem, by);
}

#[test]
fn damage_to_the_script_or_the_readme_is_named_and_healed() {
    let lab = Lab::new();
    let whole = verify_all(&local(&lab.repo())).unwrap();
    assert_eq!((whole.findings, whole.unclaimed_lists), (vec![], 0));
    for (key, other) in [("recover.sh", "README"), ("README", "recover.sh")] {
        for damage in lab.kinds(other) {
            let what = format!("{key} {}", format!("{damage:?}").chars().take(30).collect::<String>());
            let (_copy, storage) = lab.damaged(key, &damage);
            for level in [Level::Structure, Level::Data] {
                let options = VerifyOptions { level, sample: None, threads: 1 };
                let found = verify(Arc::clone(&storage), &options, &Silent).unwrap().findings;
                let finding = found.iter().find(|finding| finding.object == key);
                let finding = finding.unwrap_or_else(|| panic!("{what}: not named"));
                assert!(finding.problem.ends_with("; the next backup writes it anew"), "{what}: {finding:?}");
                let is_missing = finding.problem.starts_with("it is missing");
                assert_eq!(is_missing, damage == Damage::Delete, "{what}: {finding:?}");
                assert!(!finding.data_lost && found.len() == 1, "{what}: {found:?}");
            }
            let cache = tree::copy_of(&lab.cache()).unwrap();
            back_up(&storage, &lab.source(), cache.path()).unwrap();
            assert_eq!(verify_all(&storage).unwrap().findings, vec![], "{what}");
        }
    }
}

#[test]
fn texts_of_another_version_are_no_damage_but_lost_ones_are() {
    let lab = Lab::new();
    let script = fs::read_to_string(lab.repo().join("recover.sh")).unwrap();
    let line = script.lines().find(|line| line.starts_with("# recover.sh, edition ")).unwrap();
    for edition in [1, 4000] {
        let of_another = script.replacen(line, &format!("# recover.sh, edition {edition}"), 1) + "# more\n";
        let copy = tree::copy_of(&lab.repo()).unwrap();
        let storage = local(copy.path());
        fs::write(copy.path().join("recover.sh"), of_another).unwrap();
        fs::write(copy.path().join("README"), "the text of another version").unwrap();
        assert_eq!(verify_all(&storage).unwrap().findings, vec![], "edition {edition}");
        fs::remove_file(copy.path().join("README")).unwrap();
        let found = verify_all(&storage).unwrap().findings;
        assert!(found.len() == 1 && found[0].object == "README", "edition {edition}: {found:?}");
        let cache = tree::copy_of(&lab.cache()).unwrap();
        back_up(&storage, &lab.source(), cache.path()).unwrap();
        assert_eq!(verify_all(&storage).unwrap().findings, vec![], "edition {edition}");
    }
}

#[test]
fn a_damaged_configuration_is_named_and_nothing_is_written() {
    let lab = Lab::new();
    let key = "repository.json";
    for damage in lab.kinds("README") {
        let what = format!("{damage:?}").chars().take(30).collect::<String>();
        let (copy, storage) = lab.damaged(key, &damage);
        if damage == Damage::Flip(1000) {
            // The newline at the end says nothing; either way is right.
            continue;
        }
        let report = verify_all(&storage).unwrap();
        assert!(about(&report, key).unwrap_or_else(|| panic!("{what}: not named")).data_lost, "{what}");
        assert!(lab.restore(&storage, 0).err().unwrap().is_damage(), "{what}");
        let before = scan(copy.path()).unwrap();
        let error = back_up(&storage, &lab.source(), &lab.cache()).unwrap_err();
        assert!(error.is_damage(), "{what}: {error:?}");
        assert_eq!(differences(&before, &scan(copy.path()).unwrap()), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_damaged_cache_is_rebuilt_and_never_shows() {
    let lab = Lab::new();
    let source = lab.source();
    // Work for every part of the cache: unchanged, changed, renamed, copied, gone, patched.
    fs::write(source.join("doc/new"), "new in the third").unwrap();
    fs::rename(source.join("many/7"), source.join("renamed")).unwrap();
    fs::copy(source.join("many/8"), source.join("copied")).unwrap();
    fs::copy(source.join("big"), source.join("big copied")).unwrap();
    fs::remove_file(source.join("many/9")).unwrap();
    tree::flip_byte(&source.join("database"), 1_000_000).unwrap();
    let now = scan(&source).unwrap();
    let files = files_below(&lab.cache());
    assert_eq!(files.len(), 2, "{files:?}");
    for (number, file) in files.iter().enumerate() {
        let mut kinds: Vec<Damage> =
            (0..1000).step_by(23).chain([990, 995, 999, 1000]).map(Damage::Flip).collect();
        // Every byte of what stands at the end: positions, lengths, checksum.
        let len = usize::try_from(fs::metadata(lab.cache().join(file)).unwrap().len()).unwrap();
        kinds.extend((len - 96..len).map(Damage::FlipAt));
        kinds.extend([0, 1, 500, 999].map(Damage::Truncate));
        kinds.extend([Damage::Delete, Damage::Zero]);
        kinds.push(Damage::Replace(fs::read(lab.cache().join(&files[1 - number])).unwrap()));
        for damage in kinds {
            let what =
                format!("{} {}", file.display(), format!("{damage:?}").chars().take(30).collect::<String>());
            let repo = tree::copy_of(&lab.repo()).unwrap();
            let storage = local(repo.path());
            let cache = tree::copy_of(&lab.cache()).unwrap();
            damage.apply_to(&cache.path().join(file)).unwrap();
            for round in ["first", "second"] {
                let report = back_up(&storage, &source, cache.path()).unwrap();
                assert_eq!(report.stored.snapshot.errors, vec![], "{what}, {round}");
                let found = read_back(&storage, report.stored.id, &source).unwrap();
                assert_eq!(differences(&now, &found), Vec::<String>::new(), "{what}, {round}");
            }
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = scan(folder)
        .unwrap()
        .into_iter()
        .filter(|(_, item)| matches!(item.kind, reliab_testkit::scan::ItemKind::File(..)))
        .map(|(path, _)| PathBuf::from(String::from_utf8(path).unwrap()))
        .collect();
    files.sort();
    files
}
