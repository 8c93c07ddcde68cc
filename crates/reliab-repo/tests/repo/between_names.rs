//! A file with several names that changes while they are read: what was read of each name comes back under it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use reliab_repo::event::{Events, Silent};
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Overwrite, RestoreOptions, RestoreReport, Skipped, check, restore};
use reliab_testkit::between_names::{BetweenNames, copy, set_time_of};
use reliab_testkit::engine::{local, restore_options, verify_all};

/// Keeps what it is warned of.
#[derive(Default)]
struct Warned(Mutex<Vec<String>>);

impl Events for Warned {
    fn warning(&self, path: &Path, message: &str) {
        self.0.lock().unwrap().push(format!("{}: {message}", path.display()));
    }
}

fn repository(lab: &BetweenNames) -> Repository {
    Repository::open(local(&lab.repository())).unwrap()
}

fn options(lab: &BetweenNames, overwrite: Option<Overwrite>) -> RestoreOptions {
    RestoreOptions { overwrite, ..restore_options(&lab.path().join("target")) }
}

fn restored(lab: &BetweenNames, overwrite: Option<Overwrite>) -> (RestoreReport, Vec<String>) {
    let repository = repository(lab);
    let snapshot = repository.snapshots().find("latest").unwrap().clone();
    let warned = Warned::default();
    let report = restore(&repository, &snapshot, &options(lab, overwrite), &warned).unwrap();
    assert_eq!(report.skipped, vec![]);
    (report, warned.0.into_inner().unwrap())
}

fn checked(lab: &BetweenNames) -> Vec<Skipped> {
    let repository = repository(lab);
    let snapshot = repository.snapshots().find("latest").unwrap().clone();
    check(&repository, &snapshot, &options(lab, None), &Silent).unwrap()
}

/// Content, mode and mtime.
fn seen(path: &Path) -> (Vec<u8>, u32, (i64, i64)) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (fs::read(path).unwrap(), metadata.permissions().mode(), (metadata.mtime(), metadata.mtime_nsec()))
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn each_name_comes_back_as_it_was_read_and_names_that_say_the_same_are_one_file() {
    BetweenNames::each(|lab| {
        let (names, expected) = (lab.restored(&lab.path().join("target")), lab.expected());
        assert_ne!(seen(&expected[0]), seen(&expected[1]), "the change is one");
        let matches = |when: &str| {
            for (name, expected) in names.iter().zip(&expected) {
                assert!(seen(name) == seen(expected), "{when}: {}", name.display());
            }
            assert_eq!(inode(&names[1]), inode(&names[2]), "{when}");
            assert_ne!(inode(&names[0]), inode(&names[1]), "{when}");
        };
        let (report, told) = restored(lab, None);
        assert_eq!(report.files, 3);
        matches("new");
        assert!(told.len() == 1 && told[0].contains("z/x: it is a file of its own now"), "{told:?}");
        assert_eq!(checked(lab), vec![]);
        restored(lab, Some(Overwrite::Always));
        matches("over itself");
        // One of two that are one is gone, and comes back as a name of the other.
        for gone in [1, 2, 0] {
            fs::remove_file(&names[gone]).unwrap();
            restored(lab, Some(Overwrite::Never));
            matches("with the others kept");
        }
    });
}

#[test]
fn a_check_finds_links_that_are_wrong_whichever_way() {
    BetweenNames::each(|lab| {
        let names = lab.restored(&lab.path().join("target"));
        restored(lab, None);
        let folder = fs::metadata(names[1].parent().unwrap()).unwrap();
        let wrong = |name: &Path, change: &dyn Fn()| {
            fs::remove_file(name).unwrap();
            change();
            set_time_of(name.parent().unwrap(), &folder).unwrap();
            let found = checked(lab);
            assert!(found.iter().all(|found| found.path.contains("z/")), "{found:?}");
            found.into_iter().map(|found| found.reason).collect::<Vec<_>>()
        };
        // A copy in place of a link.
        let copied = wrong(&names[2], &|| copy(&names[1], &names[2]).unwrap());
        assert!(copied.len() == 1 && copied[0].starts_with("it is not the same file as"), "{copied:?}");
        // A link to what the file was before.
        let linked = wrong(&names[2], &|| fs::hard_link(&names[0], &names[2]).unwrap());
        assert!(linked.iter().any(|reason| reason.starts_with("it is not the same file as")), "{linked:?}");
    });
}

#[test]
fn a_name_that_is_added_while_they_are_read_makes_no_other_file() {
    let lab = BetweenNames::new(b"the same all along", |path| {
        fs::hard_link(path, path.parent().unwrap().parent().unwrap().join("elsewhere")).unwrap();
    });
    let (_, told) = restored(&lab, None);
    assert_eq!(told, Vec::<String>::new());
    let inodes = lab.restored(&lab.path().join("target")).map(|name| inode(&name));
    assert_eq!(inodes, [inodes[0]; 3]);
    assert_eq!(checked(&lab), vec![]);
}

#[test]
fn a_snapshot_with_such_names_is_no_damaged_one() {
    BetweenNames::each(|lab| assert_eq!(verify_all(&local(&lab.repository())).unwrap().findings, vec![]));
}
