//! What overlays hide: a folder that is gone, and nothing of one that was gone for a moment only.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use reliab_repo::archive::{BackupOptions, BackupReport, backup};
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::entry::Entry;
use reliab_testkit::engine::{local, options, read_back};
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::Scratch;

/// Renames a folder when a file that comes before it is looked at: the walk is past it by then.
struct Renames {
    at: Vec<u8>,
    from: PathBuf,
    to: PathBuf,
}

impl Events for Renames {
    fn entry(&self, _: Option<&Entry>, new: Option<&Entry>) {
        if new.is_some_and(|new| new.path.ends_with(&self.at)) {
            fs::rename(&self.from, &self.to).unwrap();
        }
    }
}

fn run(scratch: &Path, events: &dyn Events) -> BackupReport {
    let options = options(&scratch.join("source"), &scratch.join("cache"));
    let options = BackupOptions { time: chrono::Utc::now(), ..options };
    backup(local(&scratch.join("repo")), &options, events).unwrap()
}

/// A source of a file, a folder, and more than an overlay replaces at once: a fresh base would hide all faults.
fn source_of(scratch: &Path) -> PathBuf {
    let source = scratch.join("source");
    fs::create_dir_all(source.join("folder/inner")).unwrap();
    for name in ["a file", "folder/one", "folder/inner/two"] {
        fs::write(source.join(name), name).unwrap();
    }
    for number in 0..2000 {
        fs::write(source.join(format!("other {number}")), "other").unwrap();
    }
    source
}

/// The snapshot is what the source is.
fn is_like_source(scratch: &Path, report: &BackupReport) {
    assert!(report.stored.snapshot.layers.len() > 1, "a fresh base shows nothing");
    let source = scratch.join("source");
    let found = read_back(&local(&scratch.join("repo")), report.stored.id, &source).unwrap();
    assert_eq!(differences(&scan(&source).unwrap(), &found), Vec::<String>::new());
}

#[test]
fn a_folder_that_was_deleted_and_made_again_brings_nothing_back() {
    let scratch = Scratch::new().unwrap();
    let scratch = scratch.path();
    let folder = source_of(scratch).join("folder");
    run(scratch, &Silent);
    for name in ["first", "second"] {
        fs::remove_dir_all(&folder).unwrap();
        is_like_source(scratch, &run(scratch, &Silent));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), name).unwrap();
        is_like_source(scratch, &run(scratch, &Silent));
    }
    // A file, and a folder again.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "a file").unwrap();
    is_like_source(scratch, &run(scratch, &Silent));
    fs::remove_file(&folder).unwrap();
    is_like_source(scratch, &run(scratch, &Silent));
    fs::create_dir_all(folder.join("inner")).unwrap();
    is_like_source(scratch, &run(scratch, &Silent));
}

#[test]
fn a_folder_that_was_gone_for_a_moment_does_not_hide_what_is_in_it() {
    let scratch = Scratch::new().unwrap();
    let scratch = scratch.path();
    let source = source_of(scratch);
    let folder = source.join("folder");
    run(scratch, &Silent);
    fs::write(source.join("a file"), "changed").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let away = scratch.join("away");
    let events = Renames { at: b"a file".to_vec(), from: folder.clone(), to: away.clone() };
    run(scratch, &events);
    fs::rename(&away, &folder).unwrap();
    is_like_source(scratch, &run(scratch, &Silent));
}

#[test]
fn runs_without_a_change_add_nothing_whatever_is_in_the_source() {
    let scratch = Scratch::new().unwrap();
    let scratch = scratch.path();
    let source = source_of(scratch);
    // Their records are longer than those of plain names.
    for number in 0..40 {
        fs::create_dir(source.join(format!("Büro {number}"))).unwrap();
    }
    // No entry comes of it; the path of a socket is short.
    let _socket = std::os::unix::net::UnixListener::bind(source.join("s")).unwrap();
    run(scratch, &Silent);
    fs::write(source.join("a file"), "changed").unwrap();
    let second = run(scratch, &Silent).stored.snapshot;
    let cache = || {
        let jobs = fs::read_dir(scratch.join("cache")).unwrap().map(|repository| repository.unwrap().path());
        let job = jobs.flat_map(|of| fs::read_dir(of).unwrap()).next().unwrap().unwrap().path();
        fs::metadata(job.join("entries")).unwrap().ino()
    };
    // What was written just before a run is looked at again by the next.
    (0..2).for_each(|_| drop(run(scratch, &Silent)));
    let written = cache();
    for _ in 0..3 {
        let again = run(scratch, &Silent).stored.snapshot;
        assert_eq!((&again.layers, again.stats.added_bytes), (&second.layers, 0));
    }
    assert_eq!(cache(), written, "the cache is written anew though nothing changed");
}

/// One change to a few folders and files of few names, so that each becomes what another was.
fn change(source: &Path, noise: &mut Generator) {
    const NAMES: [&str; 4] = ["folder", "folder/a", "folder/a/b", "other"];
    let [path, to] = [0; 2].map(|_| source.join(NAMES[usize::try_from(noise.below(4)).unwrap()]));
    let clear = |path: &Path| {
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.ok();
    };
    match noise.below(6) {
        0 => clear(&path),
        1 => {
            clear(&path);
            let file = path.parent().is_some_and(Path::is_dir).then(|| fs::write(&path, "a file"));
            assert!(file.is_none_or(|written| written.is_ok()));
        }
        2 => {
            if !to.exists() {
                // A folder does not go into itself, nor where there is no folder.
                fs::rename(&path, to).ok();
            }
        }
        3 => {
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o700 + u32::try_from(noise.below(8)).unwrap()),
            )
            .ok();
        }
        _ => {
            if fs::create_dir_all(&path).is_ok() {
                fs::write(path.join(format!("file {}", noise.below(4))), noise.below(100).to_string()).ok();
            }
        }
    }
}

#[test]
fn folders_and_files_that_come_and_go_are_in_each_snapshot_as_they_were() {
    let scratch = Scratch::new().unwrap();
    let scratch = scratch.path();
    let source = source_of(scratch);
    let mut noise = Generator::new(7);
    let mut layers = 0;
    run(scratch, &Silent);
    for round in 0..60 {
        for _ in 0..=noise.below(4) {
            change(&source, &mut noise);
        }
        let report = run(scratch, &Silent);
        layers = layers.max(report.stored.snapshot.layers.len());
        let found = read_back(&local(&scratch.join("repo")), report.stored.id, &source).unwrap();
        assert_eq!(differences(&scan(&source).unwrap(), &found), Vec::<String>::new(), "round {round}");
    }
    assert!(layers > 5, "{layers} layers hide too little");
}
