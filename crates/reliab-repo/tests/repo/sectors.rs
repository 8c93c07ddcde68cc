//! Sectors of the repository's disk that cannot be read.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use reliab_repo::error::{Error, Result};
use reliab_repo::event::Silent;
use reliab_repo::format::table::BlobKind;
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::storage::{Disk, DiskFile, FsDisk, LocalStorage, Object, Storage, Upload, pack_key};
use reliab_repo::verify::{Finding, Level, VerifyOptions, verify};
use reliab_testkit::damage::Damage;
use reliab_testkit::engine::{back_up, backed_up, local, restore_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::tree::{self, Scratch};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;

/// A storage of which some bytes of one file cannot be read, for this reason.
struct BadSector {
    storage: Arc<dyn Storage>,
    key: String,
    bytes: Range<u64>,
    errno: Errno,
}

impl BadSector {
    fn check(&self, key: &str, bytes: &Range<u64>) -> Result<()> {
        if key == self.key && bytes.start < self.bytes.end && self.bytes.start < bytes.end {
            let source = self.errno.into();
            return Err(Error::Storage { action: "read", path: key.to_owned(), source });
        }
        Ok(())
    }
}

impl Storage for BadSector {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        self.storage.upload()
    }

    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        self.check(key, &(0..limit))?;
        self.storage.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(key, &(offset..offset + buf.len() as u64))?;
        self.storage.get_range(key, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.storage.list(folder)
    }

    fn sweep(&self) -> Result<()> {
        self.storage.sweep()
    }

    fn settle(&self, key: &str) -> Result<()> {
        self.storage.settle(key)
    }
}

/// A snapshot in one pack, beside which lies a file that does not belong there.
struct Lab {
    scratch: Scratch,
    id: ObjectId,
}

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::in_memory().unwrap();
        let (source, repo) = (scratch.path().join("source"), scratch.path().join("repo"));
        fs::create_dir(&source).unwrap();
        let mut generator = Generator::new(9);
        for number in 0..300 {
            fs::write(source.join(format!("small {number}")), generator.bytes(9000)).unwrap();
        }
        for name in ["large", "larger"] {
            fs::write(source.join(name), generator.bytes(800_000)).unwrap();
        }
        let id = back_up(&local(&repo), &source, &scratch.path().join("cache")).unwrap().stored.id;
        fs::write(repo.join("packs/notes"), "").unwrap();
        Self { scratch, id }
    }

    /// The pack, and the middle of a blob of a kind.
    fn middle(&self, kind: BlobKind) -> (String, u64) {
        let repository = Repository::open(local(&self.scratch.path().join("repo"))).unwrap();
        let (_, place) = repository.index().blobs().find(|(_, place)| place.kind == kind).unwrap();
        (pack_key(&place.pack.id), u64::from(place.offset) + u64::from(place.stored) / 2)
    }
}

fn found(storage: &Arc<dyn Storage>, level: Level) -> Vec<Finding> {
    let options = VerifyOptions { level, sample: None, threads: 2 };
    verify(Arc::clone(storage), &options, &Silent).unwrap().findings
}

/// What a finding hits, whatever it says is wrong.
fn hit(found: &[Finding]) -> Vec<Finding> {
    found.iter().map(|finding| Finding { problem: String::new(), ..finding.clone() }).collect()
}

#[test]
fn what_keeps_a_file_from_being_read_at_all_is_no_damage_of_what_it_holds() {
    let lab = Lab::new();
    let options = VerifyOptions { level: Level::Structure, sample: None, threads: 2 };
    let (key, middle) = lab.middle(BlobKind::List);
    for (errno, is_damage) in [(Errno::STALE, false), (Errno::ACCESS, false), (Errno::IO, true)] {
        let storage = local(&lab.scratch.path().join("repo"));
        let bad = BadSector { storage, key: key.clone(), bytes: middle..middle + 1, errno };
        match verify(Arc::new(bad), &options, &Silent) {
            Ok(report) => {
                assert!(is_damage && report.findings.iter().any(|found| found.data_lost), "{errno}");
            }
            Err(error) => assert!(!is_damage && matches!(error, Error::Storage { .. }), "{errno}: {error}"),
        }
    }
}

#[test]
fn a_bad_sector_is_a_finding_as_any_other_damage_in_its_place_is() {
    let lab = Lab::new();
    for kind in [BlobKind::List, BlobKind::Page, BlobKind::Bundle, BlobKind::Head, BlobKind::Chunk] {
        let (key, middle) = lab.middle(kind);
        let storage = local(&lab.scratch.path().join("repo"));
        let bad: Arc<dyn Storage> =
            Arc::new(BadSector { storage, key: key.clone(), bytes: middle..middle + 1, errno: Errno::IO });
        let flipped = tree::copy_of(&lab.scratch.path().join("repo")).unwrap();
        let flip = Damage::FlipAt(usize::try_from(middle).unwrap());
        flip.apply_to(&flipped.path().join(&key)).unwrap();
        let flipped = local(flipped.path());
        for level in [Level::Packs, Level::Data] {
            let (of_bad, of_flipped) = (found(&bad, level), found(&flipped, level));
            assert_eq!(hit(&of_bad), hit(&of_flipped), "{kind:?} {level:?}");
            let finding = of_bad.iter().find(|finding| finding.object == key).unwrap();
            assert!(finding.data_lost && of_bad.iter().any(|finding| finding.path_count > 0), "{of_bad:?}");
            assert!(finding.problem.contains("nput/output error"), "{kind:?} {level:?}: {finding:?}");
        }
        let shallow = found(&bad, Level::Structure);
        assert!(shallow.iter().any(|finding| finding.object == "packs/notes"), "{kind:?}: {shallow:?}");
        let is_read = matches!(kind, BlobKind::List | BlobKind::Page);
        assert_eq!(shallow.iter().any(|finding| finding.data_lost), is_read, "{kind:?}: {shallow:?}");
        let target = Scratch::in_memory().unwrap();
        let restored = [&bad, &flipped].map(|storage| {
            let target = target.path().join(if Arc::ptr_eq(storage, &bad) { "bad" } else { "flipped" });
            restore_all(storage, lab.id, &target)
        });
        match restored {
            [Ok(of_bad), Ok(of_flipped)] => {
                assert!(kind != BlobKind::List && of_bad.skipped.iter().all(|skipped| skipped.damaged));
                let paths =
                    |skipped: Vec<reliab_repo::restore::Skipped>| -> std::collections::BTreeSet<String> {
                        skipped.into_iter().map(|skipped| skipped.path).collect()
                    };
                assert_eq!(paths(of_bad.skipped), paths(of_flipped.skipped), "{kind:?}");
            }
            [Err(of_bad), Err(of_flipped)] => {
                assert!(kind == BlobKind::List && of_bad.is_damage() && of_flipped.is_damage(), "{of_bad:?}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
    }
}

/// A disk that does not give back what a folder holds.
struct BadFolder {
    disk: FsDisk,
    folder: String,
}

impl Disk for BadFolder {
    fn location(&self) -> String {
        self.disk.location()
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn is_abandoned(&self, path: &str) -> io::Result<bool> {
        self.disk.is_abandoned(path)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(path, offset, buf)
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, Option<u64>)>> {
        if path == self.folder { Err(Errno::IO.into()) } else { self.disk.list(path) }
    }
}

#[test]
fn a_folder_that_cannot_be_listed_is_named_and_what_can_be_read_is_used() {
    let lab = Lab::new();
    let repo = lab.scratch.path().join("repo");
    let with_bad = |folder: &str| -> Arc<dyn Storage> {
        let disk = BadFolder { disk: FsDisk::new(&repo), folder: folder.to_owned() };
        Arc::new(LocalStorage::new(Arc::new(disk)))
    };
    let pack = lab.middle(BlobKind::Chunk).0;
    let around = pack.rsplit_once('/').unwrap().0;
    let target = Scratch::in_memory().unwrap();
    for (folder, lost) in [("packs", true), (around, true), ("index", false)] {
        let storage = with_bad(folder);
        for level in [Level::Structure, Level::Packs, Level::Data] {
            let found = found(&storage, level);
            let named: Vec<_> = found.iter().filter(|finding| finding.object != "packs/notes").collect();
            assert!(named.len() == 1 && named[0].object == folder, "{folder} {level:?}: {found:?}");
            assert!(named[0].data_lost == lost && named[0].problem.contains("nput/output"), "{named:?}");
        }
        // Each file is where its name says, so nothing is lost by it yet.
        let target = target.path().join(folder.replace('/', "-"));
        assert_eq!(restore_all(&storage, lab.id, &target).unwrap().skipped, vec![], "{folder}");
    }
    // Behind that a pack may be missing, and who needs it says so.
    let hidden = tree::copy_of(&repo).unwrap();
    fs::remove_file(hidden.path().join(&pack)).unwrap();
    let disk = BadFolder { disk: FsDisk::new(hidden.path()), folder: around.to_owned() };
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(Arc::new(disk)));
    assert!(restore_all(&storage, lab.id, &target.path().join("hidden")).unwrap_err().is_damage());
    for level in [Level::Structure, Level::Data] {
        let found = found(&storage, level);
        assert!(found.iter().any(|finding| finding.data_lost && finding.path_count > 0), "{found:?}");
    }
    for folder in ["snapshots", "repository.json"] {
        let storage: Arc<dyn Storage> = match folder {
            "snapshots" => with_bad(folder),
            key => Arc::new(BadSector {
                storage: local(&repo),
                key: key.to_owned(),
                bytes: 0..1,
                errno: Errno::IO,
            }),
        };
        let found = found(&storage, Level::Structure);
        assert!(found.len() == 1 && found[0].object == folder && found[0].data_lost, "{found:?}");
    }
}

#[test]
fn a_path_counts_once_in_however_many_snapshots_it_is_hit() {
    let (scratch, _) = backed_up(|source| {
        (0..150).for_each(|number| fs::write(source.join(number.to_string()), number.to_string()).unwrap());
    })
    .unwrap();
    let (source, repo) = (scratch.path().join("source"), scratch.path().join("repo"));
    let storage = local(&repo);
    for name in ["new", "newer"] {
        fs::write(source.join(name), name).unwrap();
        back_up(&storage, &source, &scratch.path().join("cache")).unwrap();
    }
    let first = Repository::open(Arc::clone(&storage)).unwrap();
    let (_, place) = first
        .index()
        .blobs()
        .find(|(_, place)| place.kind == BlobKind::Bundle && place.len > 70_000)
        .unwrap();
    let flip = Damage::FlipAt(place.offset as usize + place.stored as usize / 2);
    flip.apply_to(&repo.join(pack_key(&place.pack.id))).unwrap();
    let found = found(&storage, Level::Data);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].path_count, found[0].paths.len(), found[0].snapshots.len()), (150, 100, 3));
}

#[test]
fn a_pipe_in_the_place_of_a_file_keeps_nobody_waiting() {
    let lab = Lab::new();
    let pipe = |path: &Path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let pack = lab.middle(BlobKind::Chunk).0;
    let snapshot = format!("snapshots/{}", lab.id);
    let keys = ["repository.json", &pack, &snapshot, "README", "tmp/left"];
    for key in keys {
        let copy = tree::copy_of(&lab.scratch.path().join("repo")).unwrap();
        let path = copy.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(fs::remove_file(&path));
        pipe(&path);
        let storage = local(copy.path());
        let found = found(&storage, Level::Data);
        assert_eq!(found.iter().any(|finding| finding.object == key), key != "tmp/left", "{key}: {found:?}");
        storage.sweep().unwrap();
    }
}

#[test]
fn a_file_that_a_file_server_has_lent_is_waited_for() {
    let lab = Lab::new();
    let repo = lab.scratch.path().join("repo");
    let pack = lab.middle(BlobKind::Chunk).0;
    // As Samba and the NFS server lend files to their clients; asked for it, this one gives it back.
    let server = "import fcntl, signal, sys\n\
                  file = open(sys.argv[1], 'r+')\n\
                  signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK))\n\
                  fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                  print('lent', flush=True)\n\
                  sys.stdin.read()\n";
    let mut server = Command::new("python3")
        .args(["-c", server])
        .arg(repo.join(&pack))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "lent\n");
    local(&repo).get_range(&pack, 0, &mut [0; 8]).unwrap();
    drop(server.stdin.take());
    server.wait().unwrap();
}
