//! A repository made by an enemy: whatever its pages say, a restore writes below its target and nowhere else.
//!
//! The pages are well-formed blobs in a well-formed pack, so only what they say is checked here, not how it is stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use reliab_repo::blob::BlobCompressor;
use reliab_repo::error::Error;
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::entry::{
    Content, Data, Entry, Extent, Kind, Large, Links, Meta, Pieces, Place, Stamp,
};
use reliab_repo::format::page::{Line, ListRow, Names, Page, encode_list, encode_page};
use reliab_repo::format::snapshot::{Snapshot, Stats};
use reliab_repo::format::table::{BlobKind, PackTable, TableRow, encode_table};
use reliab_repo::format::tar::{Body, Header, encode, padding};
use reliab_repo::id::{BlobId, Digest, ObjectId};
use reliab_repo::index;
use reliab_repo::repository::{Repository, StoredSnapshot};
use reliab_repo::restore::{Overwrite, RestoreReport, restore};
use reliab_repo::storage::{Storage, pack_key};
use reliab_repo::verify::{Level, VerifyOptions, verify};
use reliab_testkit::engine::{local, restore_options};
use reliab_testkit::scan::{Scan, differences, scan};
use reliab_testkit::tree::Scratch;

const VERIFY: VerifyOptions = VerifyOptions { level: Level::Data, sample: None, threads: 1 };

/// Loses patience after a minute.
struct Patience(Instant);

impl Events for Patience {
    fn stop_requested(&self) -> bool {
        self.0.elapsed() > Duration::from_secs(60)
    }
}

const EVIL: &[u8] = b"written by the enemy";

/// A pack being made by hand.
#[derive(Default)]
struct Pack {
    bytes: Vec<u8>,
    rows: Vec<TableRow>,
}

impl Pack {
    fn add(&mut self, kind: BlobKind, content: &[u8]) -> BlobId {
        let mut frame = Vec::new();
        BlobCompressor::new(1).unwrap().compress(content, &mut frame).unwrap();
        let id = BlobId::of(content);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        self.rows.push(TableRow { kind, id, stored: length(&frame), len: length(content) });
        self.bytes.extend_from_slice(&frame);
        id
    }

    /// A blob under the name of another.
    fn add_as(&mut self, id: BlobId, kind: BlobKind, content: &[u8]) {
        self.add(kind, content);
        self.rows.last_mut().unwrap().id = id;
    }

    fn store(mut self, storage: &Arc<dyn Storage>) {
        self.bytes.extend_from_slice(&encode_table(&self.rows));
        let id = ObjectId::of(&self.bytes);
        storage.put(&pack_key(&id), &self.bytes).unwrap();
        let table = PackTable { id, size: self.bytes.len() as u64, rows: self.rows };
        index::publish(storage, &[table]).unwrap();
    }
}

/// A repository with one snapshot that says what it is told to.
struct Enemy {
    scratch: Scratch,
    pack: Pack,
    /// A bundle with one record, of a file `../outside/evil`; and a chunk.
    bundle: BlobId,
    chunk: BlobId,
    head: BlobId,
    /// Numbers 3 and on.
    more: Vec<BlobId>,
    layers: Vec<BlobId>,
}

impl Enemy {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        for folder in ["outside", "outside/folder", "elsewhere"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        fs::write(scratch.path().join("outside/precious"), "precious").unwrap();
        let mut pack = Pack::default();
        let mut record = Vec::new();
        let body = Body::File(EVIL.len() as u64);
        let header = Header { path: b"../outside/evil", meta: &meta(), names: ("", ""), xattrs: &[], body };
        encode(&mut record, &header);
        record.extend_from_slice(EVIL);
        record.resize(record.len() + padding(EVIL.len() as u64), 0);
        let bundle = pack.add(BlobKind::Bundle, &record);
        let chunk = pack.add(BlobKind::Chunk, &[7; 4096]);
        let head = pack.add(BlobKind::Head, b"header blocks, which nothing but tar reads");
        Self { scratch, pack, bundle, chunk, head, more: Vec::new(), layers: Vec::new() }
    }

    /// Adds a layer of pages, each of which claims to begin with its first path.
    fn layer(&mut self, pages: &[Vec<Line>]) {
        let mut rows = Vec::new();
        for lines in pages {
            let blobs = [&[self.bundle, self.chunk, self.head][..], &self.more].concat();
            let page = Page { blobs, names: Names::default(), lines: lines.clone() };
            let id = self.pack.add(BlobKind::Page, encode_page(&page).as_bytes());
            rows.push(ListRow { id, entries: lines.len() as u64, first: lines[0].path().to_vec() });
        }
        let list = self.pack.add(BlobKind::List, encode_list(&rows).as_bytes());
        self.layers.push(list);
    }

    fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    /// All but the target.
    fn world(&self) -> Scan {
        let mut world = scan(self.scratch.path()).unwrap();
        world
            .retain(|path, _| !path.starts_with(b"target") && !path.starts_with(b"repo") && !path.is_empty());
        world
    }

    fn publish(&mut self) -> (Repository, StoredSnapshot) {
        let storage = local(&self.scratch.path().join("repo"));
        let repository = Repository::open_or_create(Arc::clone(&storage), Utc::now()).unwrap();
        std::mem::take(&mut self.pack).store(&storage);
        let stored = repository.publish_snapshot(snapshot(self.layers.clone())).unwrap();
        (Repository::open(storage).unwrap(), stored)
    }

    /// Restores in every way and expects nothing outside to change; gives what each restore said.
    fn stays_inside(mut self) -> Vec<Result<RestoreReport, String>> {
        let (repository, stored) = self.publish();
        let before = self.world();
        let ways = [None, Some(Overwrite::Always), Some(Overwrite::IfChanged), Some(Overwrite::Never)];
        let mut reports: Vec<_> =
            ways.iter().map(|&overwrite| self.restore(&repository, &stored, overwrite, "target")).collect();
        // Once more over what is there, and over what an earlier victim may have there.
        reports.push(self.restore(&repository, &stored, Some(Overwrite::Always), "target"));
        fs::create_dir(self.scratch.path().join("target with links")).unwrap();
        for name in ["a", "b", "dir", "link", "x"] {
            let link = self.scratch.path().join("target with links").join(name);
            std::os::unix::fs::symlink("../outside", link).unwrap();
        }
        for overwrite in [Overwrite::IfChanged, Overwrite::Never, Overwrite::Always] {
            reports.push(self.restore(&repository, &stored, Some(overwrite), "target with links"));
        }
        let report = verify(Arc::clone(repository.storage()), &VERIFY, &Patience(Instant::now()));
        assert!(!matches!(report, Err(Error::Interrupted)), "verify takes as long as the enemy likes");
        assert_eq!(differences(&before, &self.world()), Vec::<String>::new());
        reports
    }

    fn restore(
        &self,
        repository: &Repository,
        stored: &StoredSnapshot,
        overwrite: Option<Overwrite>,
        target: &str,
    ) -> Result<RestoreReport, String> {
        let mut options = restore_options(&self.scratch.path().join(target));
        if overwrite.is_none() {
            drop(fs::remove_dir_all(&options.target));
        }
        options.overwrite = overwrite;
        restore(repository, stored, &options, &Silent).map_err(|error| error.to_string())
    }
}

fn snapshot(layers: Vec<BlobId>) -> Snapshot {
    Snapshot {
        time: Utc::now(),
        host: "host".into(),
        user: "enemy".into(),
        program: "none".into(),
        paths: vec!["/".into()],
        tags: Vec::new(),
        parent: None,
        after: Vec::new(),
        layers,
        stats: Stats::default(),
        errors: Vec::new(),
    }
}

fn meta() -> Meta {
    let time = Stamp { seconds: 1_000_000, nanos: 5 };
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode: 0o777, uid: owner.0, gid: owner.1, mtime: time, ctime: time, inode: 9, links: None }
}

const PLACE: Place = Place { blob: 0, offset: 0 };

fn entry(path: &[u8], kind: Kind) -> Line {
    Line::Entry(Entry { path: path.to_vec(), kind, meta: meta(), xattrs: Vec::new() })
}

fn content() -> Content {
    let digest = Digest(*blake3::hash(EVIL).as_bytes());
    Content { size: EVIL.len() as u64, digest, data: Data::Record(PLACE), was: None, restamp: false }
}

fn file(path: &[u8]) -> Line {
    entry(path, Kind::File(content()))
}

fn dir(path: &[u8]) -> Line {
    entry(path, Kind::Dir(PLACE))
}

fn link(path: &[u8], target: impl AsRef<Path>) -> Line {
    use std::os::unix::ffi::OsStrExt;
    entry(path, Kind::Symlink(PLACE, target.as_ref().as_os_str().as_bytes().to_vec()))
}

fn linked(line: Line, inode: u64) -> Line {
    let Line::Entry(mut entry) = line else { return line };
    entry.meta.inode = inode;
    entry.meta.links = Some(Links { count: 3, device: 1 });
    Line::Entry(entry)
}

#[test]
fn the_enemys_repository_would_work_if_it_were_honest() {
    let mut enemy = Enemy::new();
    enemy.layer(&[vec![file(b"a"), dir(b"dir"), file(b"dir/x"), link(b"link", "a")]]);
    let (repository, stored) = enemy.publish();
    let report = enemy.restore(&repository, &stored, None, "target").unwrap();
    assert_eq!(report.skipped, vec![]);
    for path in ["target/a", "target/dir/x", "target/link"] {
        assert_eq!(fs::read(enemy.scratch.path().join(path)).unwrap(), EVIL);
    }
}

#[test]
fn paths_that_lead_outside_are_refused() {
    let paths: [&[u8]; 14] = [
        b"../outside/evil",
        b"..",
        b"../evil",
        b"a/../../outside/evil",
        b"dir/../../outside/evil",
        b"/etc/reliab-evil",
        b"//evil",
        b"a//b",
        b"./a",
        b"a/.",
        b"a/",
        b"",
        b"a\0b",
        b"../outside/folder",
    ];
    for path in paths {
        for line in [file(path), dir(path), link(path, "x"), entry(path, Kind::Fifo(PLACE))] {
            let mut enemy = Enemy::new();
            enemy.layer(&[vec![line.clone()]]);
            for report in enemy.stays_inside() {
                let nothing = report.as_ref().map_or(true, |report| report.files + report.dirs == 0);
                assert!(nothing, "{:?}: {report:?}", path.escape_ascii().to_string());
            }
        }
        // Hidden behind an honest first entry, and by a list that names another first path.
        let mut enemy = Enemy::new();
        enemy.layer(&[vec![file(b"!"), file(path)], vec![file(b"zz")]]);
        enemy.stays_inside();
    }
    assert!(!Path::new("/etc/reliab-evil").exists());
}

#[test]
fn nothing_is_written_through_a_link_that_the_snapshot_brings() {
    let outside = |enemy: &Enemy| enemy.outside();
    let targets: [&dyn Fn(&Enemy) -> PathBuf; 4] =
        [&outside, &|_| "../outside".into(), &|_| "../outside/folder/..".into(), &|_| {
            "/proc/self/cwd".into()
        }];
    for target in targets {
        let mut enemy = Enemy::new();
        let to = target(&enemy);
        enemy.layer(&[vec![
            link(b"link", &to),
            file(b"link/evil"),
            dir(b"link/folder"),
            file(b"link/folder/evil"),
        ]]);
        enemy.stays_inside();
        // The link comes in another page, or another layer, or takes the place of a folder afterwards.
        let mut enemy = Enemy::new();
        enemy.layer(&[vec![link(b"link", &to)], vec![file(b"link/evil"), file(b"link/precious")]]);
        enemy.stays_inside();
        let mut enemy = Enemy::new();
        enemy.layer(&[vec![dir(b"link"), file(b"link/evil"), file(b"link/precious")]]);
        enemy.layer(&[vec![link(b"link", &to)]]);
        enemy.stays_inside();
        let mut enemy = Enemy::new();
        enemy.layer(&[
            vec![dir(b"a"), file(b"link/evil")],
            vec![dir(b"b"), link(b"link", &to), file(b"link/precious")],
        ]);
        enemy.stays_inside();
        // A folder's own stamp comes last: it must not go through the link.
        let mut enemy = Enemy::new();
        enemy.layer(&[vec![dir(b"dir"), dir(b"link")], vec![dir(b"e"), link(b"link", &to)]]);
        enemy.layer(&[vec![dir(b"link/folder")]]);
        enemy.stays_inside();
    }
}

#[test]
fn names_of_one_inode_cannot_be_used_to_write_outside() {
    for to in ["../outside/precious", "../outside", "../outside/new"] {
        for second in [file(b"b"), dir(b"b"), link(b"b", "x"), entry(b"b", Kind::Fifo(PLACE))] {
            let mut enemy = Enemy::new();
            let lines =
                vec![linked(link(b"a", to), 5), linked(second, 5), linked(file(b"x"), 5), file(b"x/evil")];
            enemy.layer(&[lines]);
            enemy.stays_inside();
        }
    }
    // The first name is not restored, or is something else by then.
    let mut enemy = Enemy::new();
    enemy.layer(&[vec![linked(file(b"link/first"), 5), linked(file(b"x"), 5)]]);
    enemy.layer(&[vec![link(b"link", "../outside")]]);
    enemy.stays_inside();
}

#[test]
fn old_paths_in_records_mean_nothing_to_a_restore() {
    for was in [&b"../outside/evil"[..], b"/etc/reliab-evil", b"..", b"", b"a\0b", b"link/evil"] {
        let mut enemy = Enemy::new();
        let content = Content { was: Some(was.to_vec()), restamp: true, ..content() };
        enemy.layer(&[vec![link(b"link", "../outside"), entry(b"x", Kind::File(content))]]);
        enemy.stays_inside();
    }
    assert!(!Path::new("/etc/reliab-evil").exists());
}

#[test]
fn duplicates_and_disorder_are_survived() {
    let tricks: [&[Vec<Line>]; 5] = [
        &[vec![file(b"x"), file(b"x")]],
        &[vec![file(b"x"), dir(b"a")]],
        &[vec![file(b"a"), file(b"x")], vec![file(b"b"), dir(b"x"), file(b"x/evil")]],
        &[vec![dir(b"x"), file(b"x/a")], vec![file(b"x")]],
        &[vec![link(b"x", "../outside")], vec![dir(b"x"), file(b"x/evil")]],
    ];
    for pages in tricks {
        let mut enemy = Enemy::new();
        enemy.layer(pages);
        enemy.stays_inside();
        let mut enemy = Enemy::new();
        enemy.layer(&[vec![link(b"x", "../outside")]]);
        enemy.layer(pages);
        enemy.stays_inside();
    }
}

#[test]
fn pages_that_overlap_are_refused() {
    let mut enemy = Enemy::new();
    enemy.layer(&[vec![file(b"a"), file(b"x")], vec![file(b"b"), file(b"y")]]);
    for report in enemy.stays_inside() {
        let skipped = report.unwrap().skipped;
        assert!(skipped.iter().any(|skipped| skipped.path == "a" && skipped.damaged), "{skipped:?}");
    }
}

#[test]
fn a_tree_that_is_gone_stays_so_where_one_in_it_is_told_apart() {
    let mut enemy = Enemy::new();
    enemy.layer(&[vec![dir(b"a"), dir(b"a/b"), file(b"a/b/x"), file(b"a/c"), file(b"d")]]);
    enemy.layer(&[vec![Line::GoneTree(b"a".to_vec()), Line::GoneTree(b"a/b".to_vec())]]);
    let (repository, stored) = enemy.publish();
    let report = enemy.restore(&repository, &stored, None, "target").unwrap();
    assert_eq!((report.entries, report.skipped), (1, vec![]));
    assert!(!enemy.scratch.path().join("target/a").exists());
}

#[test]
fn sizes_and_offsets_that_cannot_be_are_refused() {
    let large = |pieces, map| Data::Large(Large { head: 2, pieces, map });
    let extent = |offset, len| Pieces::Extents(vec![Extent { blob: 1, offset, len }]);
    let tricks = [
        (20, Data::Record(Place { blob: 0, offset: u32::MAX })),
        (20, Data::Record(Place { blob: 0, offset: 1 })),
        (20, Data::Record(Place { blob: 9, offset: 0 })),
        (20, Data::Record(Place { blob: 1, offset: 0 })),
        (u64::MAX, Data::Record(PLACE)),
        (21, Data::Record(PLACE)),
        (4096, large(extent(4096, 4096), None)),
        (4096, large(extent(u32::MAX, 4096), None)),
        (u64::from(u32::MAX), large(extent(0, u32::MAX), None)),
        (u64::MAX, large(Pieces::Chunks(vec![]), Some(vec![(0, 1)]))),
        (u64::MAX, large(Pieces::Chunks(vec![1]), None)),
        (u64::MAX, large(Pieces::Chunks(vec![1]), Some(vec![(u64::MAX, 1), (u64::MAX - 1, 2)]))),
        (u64::MAX, large(Pieces::Chunks(vec![1]), Some(vec![(u64::MAX - 4096, 4096)]))),
        (100, large(Pieces::Chunks(vec![1]), Some(vec![(0, u64::MAX)]))),
        (0, large(Pieces::Chunks(vec![7]), None)),
        // More than the file's size says, and chunks that nothing is needed of.
        (4096, large(Pieces::Chunks(vec![1, 1]), None)),
        (100, large(Pieces::Chunks(vec![1, 1]), None)),
        (0, large(Pieces::Chunks(vec![1]), None)),
    ];
    for (size, data) in tricks {
        let mut enemy = Enemy::new();
        let content = Content { size, data: data.clone(), ..content() };
        enemy.layer(&[vec![file(b"a"), entry(b"b", Kind::File(content))]]);
        for report in enemy.stays_inside() {
            let silent = report.as_ref().is_ok_and(|report| report.skipped.is_empty() && report.kept == 0);
            assert!(!silent, "{size} {data:?}: restored without a word");
        }
    }
}

/// Keeps the paths that it is warned of, and loses patience after a minute.
struct Warned(Patience, Mutex<Vec<PathBuf>>);

impl Events for Warned {
    fn warning(&self, path: &Path, _: &str) {
        self.1.lock().unwrap().push(path.to_owned());
    }

    fn stop_requested(&self) -> bool {
        self.0.stop_requested()
    }
}

/// A large file of one chunk, with a hole that fills it up to its size.
fn sparse(path: &[u8], size: u64) -> Line {
    let large = Large { head: 2, pieces: Pieces::Chunks(vec![1]), map: Some(vec![(0, 4096)]) };
    entry(path, Kind::File(Content { size, data: Data::Large(large), ..content() }))
}

#[test]
fn a_hole_of_any_length_takes_verify_no_longer_and_that_is_told() {
    let mut enemy = Enemy::new();
    enemy.layer(&[vec![sparse(b"a", 1 << 56), sparse(b"b", 1 << 55), sparse(b"small hole", 1 << 20)]]);
    let (repository, _) = enemy.publish();
    let warned = Warned(Patience(Instant::now()), Mutex::default());
    let report = verify(Arc::clone(repository.storage()), &VERIFY, &warned).unwrap();
    assert_eq!(warned.1.into_inner().unwrap(), [Path::new("a"), Path::new("b")]);
    // Its digest is not that of its content.
    let hit: Vec<_> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(hit, ["small hole"]);
}

#[test]
fn a_blob_named_any_number_of_times_takes_verify_no_longer_and_that_is_told() {
    const LEN: u32 = 8 << 20;
    const TIMES: u32 = 60_000;
    let mut enemy = Enemy::new();
    for fill in [7, 8] {
        let chunk = enemy.pack.add(BlobKind::Chunk, &vec![fill; LEN as usize]);
        enemy.more.push(chunk);
    }
    let large = |path: &[u8], size, pieces| {
        let data = Data::Large(Large { head: 2, pieces, map: None });
        entry(path, Kind::File(Content { size, data, ..content() }))
    };
    let blocks = (0..TIMES).map(|number| Extent { blob: 3 + number % 2, offset: 0, len: 4096 }).collect();
    enemy.layer(&[vec![
        large(b"again", u64::from(TIMES) * u64::from(LEN), Pieces::Chunks(vec![3; TIMES as usize])),
        large(b"back and forth", u64::from(TIMES) * 4096, Pieces::Extents(blocks)),
        large(b"twice", u64::from(LEN) * 2, Pieces::Chunks(vec![3; 2])),
    ]]);
    let (repository, _) = enemy.publish();
    let warned = Warned(Patience(Instant::now()), Mutex::default());
    let report = verify(Arc::clone(repository.storage()), &VERIFY, &warned).unwrap();
    assert_eq!(warned.1.into_inner().unwrap(), [Path::new("again"), Path::new("back and forth")]);
    // Its digest is not that of its content.
    let hit: Vec<_> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
    assert_eq!(hit, ["twice"]);
}

#[test]
fn a_large_file_of_the_right_parts_in_the_wrong_order_is_not_restored() {
    let content = [vec![7; 4096], vec![8; 4096], vec![9; 1000]].concat();
    for (order, is_right) in [([1, 3, 4], true), ([3, 1, 4], false)] {
        let mut enemy = Enemy::new();
        for (fill, len) in [(8, 4096), (9, 1024)] {
            let chunk = enemy.pack.add(BlobKind::Chunk, &vec![fill; len]);
            enemy.more.push(chunk);
        }
        let whole = |pieces, path: &[u8]| {
            let data = Data::Large(Large { head: 2, pieces, map: None });
            let digest = Digest(*blake3::hash(&content).as_bytes());
            let size = content.len() as u64;
            entry(path, Kind::File(Content { size, digest, data, was: None, restamp: false }))
        };
        let extent = |blob| Extent { blob, offset: 0, len: if blob == 4 { 1000 } else { 4096 } };
        enemy.layer(&[vec![
            whole(Pieces::Chunks(order.to_vec()), b"chunks"),
            whole(Pieces::Extents(order.map(extent).to_vec()), b"extents"),
        ]]);
        let (repository, stored) = enemy.publish();
        let report = enemy.restore(&repository, &stored, None, "target").unwrap();
        let told: Vec<_> =
            report.skipped.iter().map(|skipped| (&skipped.path[..], skipped.damaged)).collect();
        let expected = if is_right { vec![] } else { vec![("chunks", true), ("extents", true)] };
        assert_eq!((told, report.files), (expected, if is_right { 2 } else { 0 }), "{:?}", report.skipped);
        for name in ["chunks", "extents"] {
            let found = fs::read(enemy.scratch.path().join("target").join(name));
            assert!(if is_right { found.unwrap() == content } else { found.is_err() }, "{name}");
        }
    }
}

#[test]
fn a_copy_of_another_kind_is_no_copy() {
    let mut enemy = Enemy::new();
    let data = Data::Large(Large { head: 2, pieces: Pieces::Chunks(vec![1]), map: None });
    let digest = Digest(*blake3::hash(&[7; 4096]).as_bytes());
    let whole = Content { size: 4096, digest, data, was: None, restamp: false };
    enemy.layer(&[vec![entry(b"a", Kind::File(whole))]]);
    let (repository, stored) = enemy.publish();
    let storage = Arc::clone(repository.storage());
    assert_eq!(verify(Arc::clone(&storage), &VERIFY, &Silent).unwrap().findings, vec![]);
    let first = storage.list("packs").unwrap().remove(0).key;
    // The same bytes once more, as what no reader of this file takes.
    let mut other = Pack::default();
    other.add(BlobKind::Bundle, &[7; 4096]);
    other.store(&storage);
    let pack = enemy.scratch.path().join("repo").join(first);
    let mut bytes = fs::read(&pack).unwrap();
    // The second frame is the chunk's.
    let magic = |(_, window): &(usize, &[u8])| *window == [0x28, 0xB5, 0x2F, 0xFD];
    let frame = bytes.windows(4).enumerate().filter(magic).nth(1).unwrap().0;
    bytes[frame] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let repository = Repository::open(Arc::clone(&storage)).unwrap();
    assert_eq!(enemy.restore(&repository, &stored, None, "target").unwrap().skipped.len(), 1);
    let found = verify(storage, &VERIFY, &Silent).unwrap().findings;
    assert!(found.len() == 1 && found[0].data_lost && found[0].paths == ["a"], "{found:?}");
}

#[test]
fn of_several_copies_the_one_that_is_what_its_id_says_is_read() {
    let mut enemy = Enemy::new();
    let data = Data::Large(Large { head: 2, pieces: Pieces::Chunks(vec![1]), map: None });
    let digest = Digest(*blake3::hash(&[7; 4096]).as_bytes());
    let whole = Content { size: 4096, digest, data, was: None, restamp: false };
    enemy.layer(&[vec![entry(b"a", Kind::File(whole))]]);
    let chunk = enemy.chunk;
    let (repository, stored) = enemy.publish();
    // Frames that are whole, of something else; whatever the order of packs and indexes is, some come first.
    for fill in 10..26 {
        let mut wrong = Pack::default();
        wrong.add_as(chunk, BlobKind::Chunk, &[fill; 4096]);
        wrong.store(repository.storage());
    }
    let repository = Repository::open(Arc::clone(repository.storage())).unwrap();
    assert_eq!(enemy.restore(&repository, &stored, None, "target").unwrap().skipped, vec![]);
    assert!(fs::read(enemy.scratch.path().join("target/a")).unwrap() == [7; 4096]);
}
