//! Restores over what is there: files with several names, what a killed restore left; and what a check sees of names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use reliab_repo::event::{Events, Silent};
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Overwrite, RestoreOptions, Skipped, check, restore};
use reliab_testkit::engine::{backed_up, find, local, restored_at};
use reliab_testkit::generator::Generator;
use reliab_testkit::tree::{Scratch, flip_byte, set_mtime, set_xattr};

/// Keeps what it is warned of.
#[derive(Default)]
struct Warned(Mutex<Vec<String>>);

impl Events for Warned {
    fn warning(&self, path: &Path, message: &str) {
        self.0.lock().unwrap().push(format!("{}: {message}", path.display()));
    }
}

/// A snapshot of a tree, restored, changed and restored again.
struct Lab {
    scratch: Scratch,
    options: RestoreOptions,
}

impl Lab {
    fn new(plant: impl FnOnce(&Path)) -> Self {
        let (scratch, options) = backed_up(plant).unwrap();
        Self { scratch, options }
    }

    fn top(&self) -> PathBuf {
        restored_at(&self.options.target, &self.scratch.path().join("source"))
    }

    /// Restores everything, and gives the warnings.
    fn restore(&self, overwrite: Option<Overwrite>) -> Vec<String> {
        let warned = Warned::default();
        assert_eq!(self.restore_some(overwrite, &warned), vec![]);
        warned.0.into_inner().unwrap()
    }

    /// Restores what can be restored, and gives the rest.
    fn restore_some(&self, overwrite: Option<Overwrite>, events: &dyn Events) -> Vec<Skipped> {
        let repository = Repository::open(local(&self.scratch.path().join("repo"))).unwrap();
        let snapshot = repository.snapshots().find("latest").unwrap().clone();
        let options = RestoreOptions { overwrite, ..self.options.clone() };
        restore(&repository, &snapshot, &options, events).unwrap().skipped
    }

    /// Flips a byte in the middle of the one pack, where the content of the only file is.
    fn damage(&self) {
        let packs = self.scratch.path().join("repo/packs");
        let folder = fs::read_dir(packs).unwrap().next().unwrap().unwrap();
        let pack = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        flip_byte(&pack, fs::metadata(&pack).unwrap().len() / 2).unwrap();
    }

    /// Names in the restored folder.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.top()).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn check(&self, overwrite: Option<Overwrite>) -> Vec<Skipped> {
        let repository = Repository::open(local(&self.scratch.path().join("repo"))).unwrap();
        let id = repository.snapshots().find("latest").unwrap().id;
        let snapshot = find(&repository, id).unwrap();
        let options = RestoreOptions { overwrite, ..self.options.clone() };
        check(&repository, &snapshot, &options, &Silent).unwrap()
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Three names of one file, small or large.
fn three_names(source: &Path, len: usize) {
    fs::write(source.join("a"), vec![7; len]).unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::hard_link(source.join("a"), source.join("c")).unwrap();
}

#[test]
fn names_that_are_missing_become_names_of_the_one_that_was_kept() {
    for len in [100, 3_000_000] {
        let lab = Lab::new(|source| three_names(source, len));
        lab.restore(None);
        for kept in ["a", "b", "c"] {
            let before = inode(&lab.top().join(kept));
            for gone in ["a", "b", "c"].iter().filter(|name| **name != kept) {
                fs::remove_file(lab.top().join(gone)).unwrap();
            }
            assert_eq!(lab.restore(Some(Overwrite::Never)), Vec::<String>::new());
            let now = ["a", "b", "c"].map(|name| inode(&lab.top().join(name)));
            assert_eq!(now, [before; 3], "{kept} of {len} bytes was kept");
        }
        assert_eq!(fs::read_dir(lab.top()).unwrap().count(), 3, "nothing is left over");
    }
}

#[test]
fn a_name_that_is_joined_with_one_kept_much_later_leaves_the_time_of_its_folder() {
    // More files than are planned at once, so that the first folder was stamped long before.
    let lab = Lab::new(|source| {
        ["a", "b", "c"].iter().for_each(|name| fs::create_dir(source.join(name)).unwrap());
        fs::write(source.join("a/name"), "one file").unwrap();
        fs::hard_link(source.join("a/name"), source.join("c/name")).unwrap();
        (0..33_000).for_each(|number| fs::write(source.join(format!("b/{number}")), "").unwrap());
        for name in ["a", "b", "c"] {
            set_mtime(&source.join(name), 1_000_000, 7).unwrap();
        }
    });
    let kept = lab.top().join("c/name");
    fs::create_dir_all(lab.top().join("c")).unwrap();
    let source = lab.scratch.path().join("source/c/name");
    fs::copy(&source, &kept).unwrap();
    assert_eq!(lab.restore(Some(Overwrite::Never)), Vec::<String>::new());
    assert_eq!(inode(&lab.top().join("a/name")), inode(&kept), "they are one file");
    let time = |name: &str| {
        let found = fs::metadata(lab.top().join(name)).unwrap();
        (found.mtime(), found.mtime_nsec())
    };
    assert_eq!((time("a"), time("b")), ((1_000_000, 7), (1_000_000, 7)));
}

#[test]
fn names_of_a_file_that_was_kept_and_is_another_are_restored_apart_and_that_is_told() {
    let changes: [&dyn Fn(&Path); 4] = [
        &|kept| fs::write(kept, "changed").unwrap(),
        &|kept| fs::write(kept, vec![8; 100]).unwrap(),
        &|kept| fs::set_permissions(kept, fs::Permissions::from_mode(0o604)).unwrap(),
        &|kept| set_xattr(kept, "user.added", b"by somebody").unwrap(),
    ];
    for change in changes {
        for kept in ["a", "b", "c"] {
            let lab = Lab::new(|source| three_names(source, 100));
            lab.restore(None);
            let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| *name != kept).collect();
            for gone in &others {
                fs::remove_file(lab.top().join(gone)).unwrap();
            }
            let kept = lab.top().join(kept);
            change(&kept);
            let (before, content) = (inode(&kept), fs::read(&kept).unwrap());
            let told = lab.restore(Some(Overwrite::Never));
            assert!(told.len() == 1 && told[0].contains("a file of its own"), "{told:?}");
            assert_eq!((inode(&kept), fs::read(&kept).unwrap()), (before, content));
            let [one, other] = [others[0], others[1]].map(|name| lab.top().join(name));
            assert_eq!(fs::read(&one).unwrap(), vec![7; 100]);
            assert_eq!(inode(&one), inode(&other), "the rest is still one file");
            assert_ne!(inode(&one), before);
        }
    }
}

#[test]
fn files_that_became_one_are_noticed() {
    for overwrite in [None, Some(Overwrite::Always)] {
        let lab = Lab::new(|source| {
            for (first, second) in [("a", "b"), ("c", "d")] {
                fs::write(source.join(first), "the same").unwrap();
                fs::hard_link(source.join(first), source.join(second)).unwrap();
            }
            fs::write(source.join("e"), "the same").unwrap();
            let time = fs::metadata(source.join("a")).unwrap().modified().unwrap();
            for name in ["c", "e"] {
                fs::File::options().write(true).open(source.join(name)).unwrap().set_modified(time).unwrap();
            }
        });
        lab.restore(None);
        assert_eq!(lab.check(overwrite), vec![]);
        let folder = fs::File::open(lab.top()).unwrap();
        let time = folder.metadata().unwrap().modified().unwrap();
        for name in ["c", "d", "e"] {
            fs::remove_file(lab.top().join(name)).unwrap();
            fs::hard_link(lab.top().join("a"), lab.top().join(name)).unwrap();
        }
        folder.set_modified(time).unwrap();
        let found = lab.check(overwrite);
        let names: Vec<_> = found.iter().map(|found| found.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["c", "d", "e"], "{found:?}");
        assert!(found.iter().all(|found| found.reason.contains("which it was not")), "{found:?}");
    }
}

/// A name under which some run may have written what was to replace entries.
fn temporary_name(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!(".reliab-restore-0123456789abcdef-{number:016x}"))
}

#[test]
fn what_a_killed_restore_left_is_no_obstacle_and_is_cleared_away() {
    let lab = Lab::new(|source| {
        three_names(source, 100);
        fs::write(source.join("large"), vec![3; 3_000_000]).unwrap();
        std::os::unix::fs::symlink("a", source.join("link")).unwrap();
    });
    lab.restore(None);
    let outside = lab.scratch.path().join("outside");
    fs::write(&outside, "not ours").unwrap();
    for (number, name) in (0..).zip(["a", "b", "c", "large", "link"]) {
        let path = lab.top().join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "in the way").unwrap();
        let left = temporary_name(&lab.top(), number);
        match name {
            "a" => fs::write(left, "half of i").unwrap(),
            "large" => fs::File::create(left).unwrap().set_len(3_000_000).unwrap(),
            _ => std::os::unix::fs::symlink(&outside, left).unwrap(),
        }
    }
    fs::write(temporary_name(&lab.options.target, 7), "").unwrap();
    assert_eq!(lab.restore(Some(Overwrite::Always)), Vec::<String>::new());
    // Exact: nothing else is there.
    assert_eq!(lab.check(None), vec![]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "not ours");
}

/// The last part of a path.
fn name_of(skipped: &Skipped) -> &str {
    skipped.path.rsplit('/').next().unwrap()
}

#[test]
fn names_of_a_damaged_file_leave_what_is_there_and_are_told_one_by_one() {
    for len in [100_000, 3_000_000] {
        let content = Generator::new(3).bytes(len);
        let lab = Lab::new(|source| {
            three_names(source, 1);
            fs::write(source.join("a"), &content).unwrap();
        });
        lab.damage();
        let check = |overwrite, left: &[&str]| {
            let skipped = lab.restore_some(overwrite, &Silent);
            let names: Vec<_> = skipped.iter().map(name_of).collect();
            assert_eq!(names, ["a", "b", "c"], "{overwrite:?}: {skipped:?}");
            assert!(skipped.iter().all(|skipped| skipped.damaged), "{skipped:?}");
            assert!(skipped[1..].iter().all(|skipped| skipped.reason.contains("another name of")));
            assert_eq!(lab.names(), left);
        };
        check(None, &[]);
        for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
            fs::write(lab.top().join("a"), "an older one").unwrap();
            fs::write(lab.top().join("b"), "precious").unwrap();
            check(Some(overwrite), &["a", "b"]);
            assert_eq!(fs::read_to_string(lab.top().join("a")).unwrap(), "an older one");
            assert_eq!(fs::read_to_string(lab.top().join("b")).unwrap(), "precious");
        }
    }
}

#[test]
fn names_of_a_file_whose_first_name_is_refused_are_restored_all_the_same() {
    for len in [100, 3_000_000] {
        for blocked in [&["a"][..], &["a", "b"], &["b"], &["a", "b", "c"]] {
            let lab = Lab::new(|source| three_names(source, len));
            lab.restore(None);
            for name in blocked {
                let path = lab.top().join(name);
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
                fs::write(path.join("somebody's"), "precious").unwrap();
            }
            let skipped = lab.restore_some(Some(Overwrite::Always), &Silent);
            assert_eq!(skipped.iter().map(name_of).collect::<Vec<_>>(), blocked, "{skipped:?}");
            assert!(skipped.iter().all(|skipped| skipped.reason == "Directory not empty"), "{skipped:?}");
            assert_eq!(lab.names(), ["a", "b", "c"], "nothing is left over");
            // The rest is right, and so is the time of the folder.
            let wrong = lab.check(Some(Overwrite::Always));
            assert!(wrong.iter().all(|wrong| blocked.contains(&name_of(wrong))), "{wrong:?}");
            let free = ["a", "b", "c"].into_iter().filter(|name| !blocked.contains(name));
            let inodes: Vec<_> = free.map(|name| inode(&lab.top().join(name))).collect();
            assert!(inodes.windows(2).all(|two| two[0] == two[1]), "the rest is one file");
        }
    }
}

#[test]
fn what_a_folder_is_in_the_way_of_leaves_nothing_behind() {
    let lab = Lab::new(|source| {
        fs::write(source.join("large"), vec![3; 3_000_000]).unwrap();
        fs::write(source.join("small"), "x").unwrap();
        std::os::unix::fs::symlink("a", source.join("link")).unwrap();
    });
    lab.restore(None);
    for name in ["large", "link", "small"] {
        fs::remove_file(lab.top().join(name)).unwrap();
        fs::create_dir(lab.top().join(name)).unwrap();
        fs::write(lab.top().join(name).join("somebody's"), "precious").unwrap();
    }
    let skipped = lab.restore_some(Some(Overwrite::Always), &Silent);
    assert_eq!(skipped.iter().map(name_of).collect::<Vec<_>>(), ["large", "link", "small"]);
    assert_eq!(lab.names(), ["large", "link", "small"]);
}

/// Looks whether a file has its name while it is being written.
struct Unnamed(PathBuf);

impl Events for Unnamed {
    fn advance(&self, bytes: u64, _: u64) {
        assert!(bytes == 0 || !self.0.exists(), "half of it has the name of the whole");
    }
}

#[test]
fn a_large_file_has_its_name_only_when_it_is_whole() {
    let content = Generator::new(4).bytes(9_000_000);
    let lab = Lab::new(|source| fs::write(source.join("large"), &content).unwrap());
    let large = lab.top().join("large");
    for overwrite in [None, Some(Overwrite::Never)] {
        assert_eq!(lab.restore_some(overwrite, &Unnamed(large.clone())), vec![]);
        assert_eq!(fs::read(&large).unwrap(), content);
        assert_eq!(lab.names(), ["large"]);
        fs::remove_file(&large).unwrap();
    }
}
