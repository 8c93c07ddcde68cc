//! Sectors of the repository's disk that cannot be read.

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use reliab_repo::error::{Error, Result};
use reliab_repo::event::Silent;
use reliab_repo::format::table::BlobKind;
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::storage::{Object, Storage, Upload, pack_key};
use reliab_repo::verify::{Finding, Level, VerifyOptions, verify};
use reliab_testkit::damage::Damage;
use reliab_testkit::engine::{back_up, local, restore_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::tree::{self, Scratch};
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
