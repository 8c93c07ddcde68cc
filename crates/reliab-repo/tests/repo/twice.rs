//! Several restores into one target, what stands under temporary names there, and targets made for nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use reliab_repo::error::{Error, Result};
use reliab_repo::event::{Events, Silent};
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Overwrite, RestoreOptions, RestoreReport, check, restore};
use reliab_testkit::engine::{backed_up, local, restored_at};
use reliab_testkit::tree::Scratch;

/// A snapshot of a tree, and a target.
struct Lab {
    scratch: Scratch,
    options: RestoreOptions,
}

impl Lab {
    fn new(plant: impl FnOnce(&Path)) -> Self {
        let (scratch, options) = backed_up(plant).unwrap();
        Self { scratch, options }
    }

    /// With one file of several chunks.
    fn with_large_file() -> Self {
        Self::new(|source| fs::write(source.join("large"), vec![3; 3_000_000]).unwrap())
    }

    fn top(&self) -> PathBuf {
        restored_at(&self.options.target, &self.scratch.path().join("source"))
    }

    fn over(&self, overwrite: Option<Overwrite>) -> RestoreOptions {
        RestoreOptions { overwrite, ..self.options.clone() }
    }

    fn try_restore(&self, options: &RestoreOptions, events: &dyn Events) -> Result<RestoreReport> {
        let repository = Repository::open(local(&self.scratch.path().join("repo")))?;
        let snapshot = repository.snapshots().find("latest")?.clone();
        restore(&repository, &snapshot, options, events)
    }

    fn restore(&self, options: &RestoreOptions) {
        assert_eq!(self.try_restore(options, &Silent).unwrap().skipped, vec![]);
    }

    fn try_check(&self) -> Result<Vec<String>> {
        let repository = Repository::open(local(&self.scratch.path().join("repo")))?;
        let snapshot = repository.snapshots().find("latest")?.clone();
        let found = check(&repository, &snapshot, &self.options, &Silent)?;
        Ok(found.into_iter().map(|found| format!("{}: {}", found.path, found.reason)).collect())
    }

    /// What stands under a temporary name in the restored folder.
    fn temporary(&self) -> PathBuf {
        let files = fs::read_dir(self.top()).unwrap().map(|file| file.unwrap());
        let mut files =
            files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b".reliab-restore-"));
        files.next().unwrap().path()
    }
}

/// Runs something once, when the first content was written.
struct Meanwhile<'a>(Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>);

impl<'a> Meanwhile<'a> {
    fn new(act: impl FnOnce() + Send + 'a) -> Self {
        Self(Mutex::new(Some(Box::new(act))))
    }
}

impl Events for Meanwhile<'_> {
    fn advance(&self, _: u64, _: u64) {
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

#[test]
fn a_second_restore_into_the_same_target_is_refused_while_the_first_one_runs() {
    let lab = Lab::with_large_file();
    let again = || {
        for overwrite in [None, Some(Overwrite::Always)] {
            let refused = lab.try_restore(&lab.over(overwrite), &Silent).unwrap_err();
            assert!(matches!(refused, Error::Locked { .. }), "{refused:?}");
            assert!(refused.to_string().contains("another restore is writing into it"), "{refused}");
        }
        assert!(matches!(lab.try_check(), Err(Error::Locked { .. })), "half of it is nothing to compare");
        lab.restore(&RestoreOptions { target: lab.scratch.path().join("other"), ..lab.options.clone() });
    };
    let events = Meanwhile::new(again);
    assert_eq!(lab.try_restore(&lab.options, &events).unwrap().skipped, vec![]);
    assert!(events.0.lock().unwrap().is_none(), "it was tried");
    assert_eq!(lab.try_check().unwrap(), Vec::<String>::new());
    lab.restore(&lab.over(Some(Overwrite::Always)));
    assert_eq!(fs::read_dir(&lab.options.target).unwrap().count(), 1, "no file of a lock is left");
}

#[test]
fn what_another_program_puts_in_the_place_of_a_temporary_file_is_neither_named_nor_removed() {
    for overwrite in [None, Some(Overwrite::Always)] {
        let lab = Lab::with_large_file();
        if overwrite.is_some() {
            lab.restore(&lab.options);
            fs::write(lab.top().join("large"), "before").unwrap();
        }
        let swap = || {
            let temporary = lab.temporary();
            fs::remove_file(&temporary).unwrap();
            fs::write(&temporary, "half of something").unwrap();
        };
        let skipped = lab.try_restore(&lab.over(overwrite), &Meanwhile::new(swap)).unwrap().skipped;
        assert!(skipped.len() == 1 && skipped[0].path.ends_with("/large"), "{skipped:?}");
        assert!(skipped[0].reason.contains("replaced by another program") && !skipped[0].damaged);
        let now = fs::read_to_string(lab.top().join("large")).ok();
        assert_eq!(now.as_deref(), overwrite.map(|_| "before"));
        assert_eq!(fs::read_to_string(lab.temporary()).unwrap(), "half of something");
    }
}

/// A name under which some run may have written what was to replace entries.
fn temporary_name(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!(".reliab-restore-0123456789abcdef-{number:016x}"))
}

#[test]
fn entries_that_are_called_as_temporary_files_are_stay_and_so_does_what_is_only_like_them() {
    let lab = Lab::new(|source| {
        fs::create_dir(source.join("folder")).unwrap();
        for folder in [source.to_owned(), source.join("folder")] {
            fs::write(temporary_name(&folder, 1), "an entry").unwrap();
            fs::write(folder.join("small"), "s").unwrap();
            fs::write(folder.join("large"), vec![3; 3_000_000]).unwrap();
        }
    });
    lab.restore(&lab.options);
    assert_eq!(lab.try_check().unwrap(), Vec::<String>::new());
    let [entry, left] = [1, 2].map(|number| temporary_name(&lab.top(), number));
    let inner = temporary_name(&lab.top().join("folder"), 1);
    let like = [lab.top().join(".reliab-restore-notes"), lab.options.target.join(".reliab-restore-probe")];
    like.iter().for_each(|name| fs::write(name, "").unwrap());
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never] {
        fs::write(&left, "left").unwrap();
        fs::write(&inner, "changed").unwrap();
        lab.restore(&lab.over(Some(overwrite)));
        assert_eq!(fs::read_to_string(&entry).unwrap(), "an entry");
        assert!(!left.exists() && like.iter().all(|name| name.exists()), "{overwrite:?}");
        let kept = if overwrite == Overwrite::Never { "changed" } else { "an entry" };
        assert_eq!(fs::read_to_string(&inner).unwrap(), kept);
    }
    // Not restored, but an entry all the same.
    fs::write(&left, "left").unwrap();
    let exclude = vec![".reliab-restore-*".to_owned()];
    lab.restore(&RestoreOptions { exclude, ..lab.over(Some(Overwrite::Always)) });
    assert!(!left.exists() && inner.exists() && entry.exists());
    // Of one file alone the rest of its folder is not known.
    fs::write(&left, "left").unwrap();
    let small = lab.scratch.path().join("source/small");
    let below = small.strip_prefix("/").unwrap().as_os_str().as_encoded_bytes().to_vec();
    lab.restore(&RestoreOptions { below: Some(below), ..lab.over(Some(Overwrite::Always)) });
    assert!(left.exists() && entry.exists());
}

#[test]
fn an_entry_called_as_names_of_temporary_files_once_were_is_not_removed_for_another() {
    // They were made of paths: what is restored must not depend on such a thing.
    let name = |source: &Path| {
        let path = restored_at(Path::new(""), &source.join("f"));
        let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        format!(".reliab-restore-{}", &hash[..16])
    };
    let lab = Lab::new(|source| {
        fs::write(source.join("f"), "replaced").unwrap();
        fs::write(source.join(name(source)), "precious").unwrap();
    });
    lab.restore(&lab.options);
    let precious = lab.top().join(name(&lab.scratch.path().join("source")));
    fs::write(lab.top().join("f"), "other").unwrap();
    fs::write(&precious, "precious, and changed").unwrap();
    let exclude = vec![".reliab-restore-*".to_owned()];
    lab.restore(&RestoreOptions { exclude, ..lab.over(Some(Overwrite::Always)) });
    assert_eq!(fs::read_to_string(lab.top().join("f")).unwrap(), "replaced");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious, and changed");
}

#[test]
fn a_target_made_for_nothing_is_removed_again() {
    let lab = Lab::new(|source| fs::write(source.join("a"), "a").unwrap());
    let options = RestoreOptions { include: vec!["absent".to_owned()], ..lab.options.clone() };
    assert!(matches!(lab.try_restore(&options, &Silent), Err(Error::Usage { .. })));
    assert!(!options.target.exists(), "this run made it");
    fs::create_dir(&options.target).unwrap();
    assert!(lab.try_restore(&options, &Silent).is_err());
    assert!(options.target.is_dir(), "it was there before");
    let above = RestoreOptions { target: options.target.join("b/c"), ..options.clone() };
    assert!(lab.try_restore(&above, &Silent).is_err());
    assert!(options.target.join("b").is_dir() && !above.target.exists(), "the last folder alone");
}
