//! A dry run of a restore says what the run then does, whatever stands in the target.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use reliab_repo::error::Result;
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::entry::Entry;
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Action, Overwrite, Preview, RestoreOptions, RestoreReport, restore};
use reliab_testkit::engine::{backed_up, local, restored_at};
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::Scratch;
use rustix::fs::{FlockOperation, flock};

const MODES: [Overwrite; 3] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never];

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// What is backed up.
fn plant(source: &Path) {
    for name in ["same", "changed", "gone", "new folder/a/file", "for empty", "for full", "for link"] {
        write(&source.join(name), name);
    }
    for name in
        ["folder for file/a/b", "folder for link/a", "folder/kept", "folder/missing", "folder/inner/x"]
    {
        write(&source.join(name), name);
    }
    fs::write(source.join("large"), vec![7; 3_000_000]).unwrap();
    fs::write(source.join("large and gone"), vec![8; 3_000_000]).unwrap();
    for [first, second] in [["linked", "linked again"], ["gone", "name of gone"], ["b", "a"]] {
        if !source.join(first).exists() {
            write(&source.join(first), first);
        }
        fs::hard_link(source.join(first), source.join(second)).unwrap();
    }
    symlink("same", source.join("link")).unwrap();
    symlink("same", source.join("link for file")).unwrap();
    fs::create_dir(source.join("empty")).unwrap();
}

/// Puts into a restored tree what may stand there instead.
fn change(top: &Path) {
    write(&top.join("changed"), "changed by somebody");
    write(&top.join("large"), "short");
    for gone in
        ["gone", "name of gone", "large and gone", "folder/missing", "b", "for empty", "for full", "for link"]
    {
        fs::remove_file(top.join(gone)).unwrap();
    }
    for gone in ["new folder", "folder for file", "folder for link", "folder/inner"] {
        fs::remove_dir_all(top.join(gone)).unwrap();
    }
    fs::create_dir(top.join("for empty")).unwrap();
    write(&top.join("for full/of somebody"), "");
    symlink("absent", top.join("for link")).unwrap();
    write(&top.join("folder for file"), "a file");
    symlink("folder", top.join("folder for link")).unwrap();
    fs::remove_file(top.join("link for file")).unwrap();
    write(&top.join("link for file"), "a file");
    write(&top.join("of nobody"), "not in the snapshot");
}

/// A snapshot, and a target into which it was restored and then changed.
struct Lab {
    scratch: Scratch,
    options: RestoreOptions,
}

impl Lab {
    fn new() -> Self {
        let (scratch, options) = backed_up(plant).unwrap();
        Self { scratch, options }
    }

    fn changed() -> Self {
        let lab = Self::new();
        lab.run(&lab.options, &Silent).unwrap();
        change(&lab.top());
        lab
    }

    fn top(&self) -> PathBuf {
        restored_at(&self.options.target, &self.scratch.path().join("source"))
    }

    fn run(&self, options: &RestoreOptions, events: &dyn Events) -> Result<RestoreReport> {
        let repository = Repository::open(local(&self.scratch.path().join("repo")))?;
        let snapshot = repository.snapshots().find("latest")?.clone();
        restore(&repository, &snapshot, options, events)
    }

    /// The report of a dry run, which leaves the target as it is, and that of the run.
    fn both(&self, options: &RestoreOptions, told: &Told) -> (RestoreReport, RestoreReport) {
        let before = scan(self.scratch.path()).unwrap();
        let dry = self.run(&RestoreOptions { dry_run: true, ..options.clone() }, told).unwrap();
        assert_eq!(differences(&before, &scan(self.scratch.path()).unwrap()), Vec::<String>::new());
        (dry, self.run(options, &Silent).unwrap())
    }
}

/// What a dry run told of each path, and whether it is a folder in the snapshot.
#[derive(Default)]
struct Told(Mutex<BTreeMap<Vec<u8>, (Action, bool)>>);

impl Events for Told {
    fn would_restore(&self, entry: &Entry, action: Action) {
        let told = (action, entry.is_dir());
        assert_eq!(self.0.lock().unwrap().insert(entry.path.clone(), told), None, "told twice");
    }
}

/// What stands where: which file, and whether it is a folder.
fn standing(top: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, (u64, bool)>) {
    for item in fs::read_dir(folder).unwrap().map(std::result::Result::unwrap) {
        let status = fs::symlink_metadata(item.path()).unwrap();
        found.insert(item.path().strip_prefix(top).unwrap().to_owned(), (status.ino(), status.is_dir()));
        if status.is_dir() {
            standing(top, &item.path(), found);
        }
    }
}

/// What a dry run counted must be what the run did, and what is there now that was not.
fn assert_alike(lab: &Lab, options: &RestoreOptions) {
    let told = Told::default();
    let [mut before, mut after] = [BTreeMap::new(), BTreeMap::new()];
    let target = &lab.options.target;
    if target.exists() {
        standing(target, target, &mut before);
    }
    let (dry, real) = lab.both(options, &told);
    standing(target, target, &mut after);
    let preview = dry.preview.unwrap();
    assert_eq!(
        RestoreReport { preview: None, ..dry },
        RestoreReport { owners_skipped: false, ..real.clone() }
    );
    let mut found = Preview::default();
    for (path, (action, is_dir)) in told.0.into_inner().unwrap() {
        let path = PathBuf::from(String::from_utf8(path).unwrap());
        let expected = match (before.get(&path), after.get(&path)) {
            (None, None) => Action::Refuse,
            (None, Some(_)) => Action::Create,
            (Some(then), Some(now)) if then != now => Action::Overwrite,
            _ if real.skipped.iter().any(|skipped| Path::new(&skipped.path) == path) => Action::Refuse,
            _ => Action::Keep,
        };
        assert_eq!(action, expected, "{} with {:?}", path.display(), options.overwrite);
        match action {
            Action::Create => found.created += 1,
            Action::Overwrite => found.overwritten += 1,
            Action::Keep if is_dir => found.existing_dirs += 1,
            Action::Keep | Action::Refuse => {}
        }
    }
    assert_eq!(preview, found, "{:?}", options.overwrite);
    assert_eq!(found.created + found.overwritten + found.existing_dirs, real.entries);
}

#[test]
fn a_dry_run_says_what_the_run_then_does_to_what_is_there() {
    for overwrite in MODES {
        let lab = Lab::changed();
        let options = RestoreOptions { overwrite: Some(overwrite), ..lab.options.clone() };
        assert_alike(&lab, &options);
        // And once more, where all of it is there.
        assert_alike(&lab, &options);
    }
}

#[test]
fn a_dry_run_into_a_target_that_is_absent_or_empty_makes_everything() {
    let lab = Lab::new();
    for overwrite in [None, Some(Overwrite::Never)] {
        let options = RestoreOptions { overwrite, ..lab.options.clone() };
        assert_alike(&lab, &options);
        fs::remove_dir_all(&options.target).unwrap();
        fs::create_dir(&options.target).unwrap();
        assert_alike(&lab, &options);
        fs::remove_dir_all(&options.target).unwrap();
    }
}

#[test]
fn a_dry_run_of_a_part_says_what_the_run_then_does() {
    for overwrite in MODES {
        let lab = Lab::changed();
        let below = lab.top().strip_prefix(&lab.options.target).unwrap().join("folder for file");
        let below = Some(below.into_os_string().into_encoded_bytes());
        assert_alike(&lab, &RestoreOptions { overwrite: Some(overwrite), below, ..lab.options.clone() });
        let lab = Lab::changed();
        // The folders around them are made, though nothing is said of them.
        let include = ["b", "file", "x"].map(str::to_owned).to_vec();
        assert_alike(&lab, &RestoreOptions { overwrite: Some(overwrite), include, ..lab.options.clone() });
    }
}

#[test]
fn a_dry_run_ends_with_the_error_of_the_run() {
    let lab = Lab::changed();
    write(&lab.scratch.path().join("file"), "");
    symlink("nowhere", lab.scratch.path().join("dangling")).unwrap();
    let refused = |options: &RestoreOptions| {
        let [dry, real] = [true, false].map(|dry_run| {
            lab.run(&RestoreOptions { dry_run, ..options.clone() }, &Silent).unwrap_err().told()
        });
        assert_eq!(dry, real);
        dry
    };
    let at = |name: &str| RestoreOptions { target: lab.scratch.path().join(name), ..lab.options.clone() };
    assert!(refused(&lab.options).contains("it is not empty"));
    assert!(refused(&at("file")).contains("File exists"));
    assert!(refused(&at("file/below")).contains("Not a directory"));
    assert!(refused(&at("dangling")).contains("File exists"));
    assert!(refused(&at(&"x".repeat(300))).contains("File name too long"));
    let held = fs::File::open(&lab.options.target).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let over = RestoreOptions { overwrite: Some(Overwrite::Always), ..lab.options.clone() };
    assert!(refused(&over).contains("another restore is writing into it"));
    flock(&held, FlockOperation::Unlock).unwrap();
    // A dry run keeps no lock, and asks for none that a run would not get.
    flock(&held, FlockOperation::NonBlockingLockShared).unwrap();
    refused(&over);
    flock(&held, FlockOperation::Unlock).unwrap();
    lab.run(&RestoreOptions { dry_run: true, ..over.clone() }, &Silent).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
}
