//! What was named is backed up, or the run says so: sources inside others, links, the repository, sources that go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use reliab_repo::archive::{BackupOptions, BackupReport, backup};
use reliab_repo::error::{Error, Result};
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::order;
use reliab_repo::manifest::Manifest;
use reliab_repo::repository::Repository;
use reliab_repo::storage::Storage;
use reliab_repo::walk::{Filter, FilterOptions, Walk, open_roots, snapshot_path};
use reliab_testkit::engine::{find, local, options, restore_all, restored_at, verify_all};
use reliab_testkit::scan::{differences, scan};
use reliab_testkit::tree::Scratch;

struct Lab {
    top: PathBuf,
    options: BackupOptions,
    _scratch: Option<Scratch>,
}

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        let top = fs::canonicalize(scratch.path()).unwrap();
        Self { _scratch: Some(scratch), ..Self::at(&top) }
    }

    fn at(top: &Path) -> Self {
        let mut options = options(top, &top.join("cache"));
        options.threads = 2;
        Self { top: top.to_owned(), options, _scratch: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    fn storage(&self) -> Arc<dyn Storage> {
        local(&self.path("repo"))
    }

    /// Writes files, each holding its own name.
    fn write(&self, names: &[&str]) {
        for name in names {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }

    fn run(&mut self, sources: &[&str], events: &dyn Events) -> Result<BackupReport> {
        // Not by join(), which would take a slash at the end away.
        let path = |name: &&str| PathBuf::from(format!("{}/{name}", self.top.display()));
        self.options.sources = sources.iter().map(path).collect();
        self.options.time = chrono::Utc::now();
        backup(self.storage(), &self.options, events)
    }

    /// What a backup of these sources holds, by its path below the top.
    fn stored(&mut self, sources: &[&str]) -> Vec<String> {
        let report = self.run(sources, &Silent).unwrap();
        assert_eq!((report.unreadable, &report.stored.snapshot.errors[..]), (0, &[][..]));
        self.paths_in(&report)
    }

    fn paths_in(&self, report: &BackupReport) -> Vec<String> {
        let repository = Repository::open(self.storage()).unwrap();
        let snapshot = find(&repository, report.stored.id).unwrap();
        let mut manifest = Manifest::open(&repository, &snapshot.snapshot, None).unwrap();
        let top = [snapshot_path(&self.top), b"/".to_vec()].concat();
        let below = |path: Vec<u8>| String::from_utf8(path.strip_prefix(&top[..]).unwrap().to_vec()).unwrap();
        let paths = manifest.by_ref().map(|item| below(item.entry.path)).collect();
        assert!(manifest.take_gaps().is_empty());
        paths
    }

    /// Why a backup of these sources is refused, and for which of them, before anything is made.
    fn refusal(&mut self, sources: &[&str]) -> (PathBuf, String) {
        let files = |folder: PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
        let made = |lab: &Self| files(lab.path("repo")) + files(lab.path("repo/snapshots"));
        let before = made(self);
        match self.run(sources, &Silent) {
            Err(Error::Source { path, reason }) => {
                assert_eq!(made(self), before, "{reason}");
                (path, reason)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_source_in_one_that_is_a_link_is_refused() {
    let mut lab = Lab::new();
    lab.write(&["disk/db/file", "srv/file"]);
    symlink(lab.path("disk"), lab.path("data")).unwrap();
    symlink(lab.path("disk"), lab.path("srv/link")).unwrap();
    let (path, reason) = lab.refusal(&["data", "data/db"]);
    assert_eq!(path, lab.path("data/db"));
    let data = lab.path("data").display().to_string();
    assert!(reason.starts_with(&format!("{data} is a symbolic link")), "{reason}");
    assert!(reason.contains(&format!("name {data}/ instead")), "{reason}");
    // The same below a source that is a folder, whichever comes first.
    for sources in [["srv", "srv/link/db"], ["srv/link/", "srv"]] {
        let (_, reason) = lab.refusal(&sources);
        let link = lab.path("srv/link").display().to_string();
        assert!(reason.starts_with(&format!("{link} is a symbolic link")), "{reason}");
    }
    let stored = lab.stored(&["data/", "data/db"]);
    assert_eq!(stored, ["data", "data/db", "data/db/file"]);
    assert_eq!(lab.stored(&["srv", "srv/link"]), ["srv", "srv/file", "srv/link"]);
}

#[test]
fn a_source_that_is_named_by_way_of_a_link_within_another_is_stored_where_it_is() {
    let mut lab = Lab::new();
    lab.write(&["srv/real/db/file", "srv/real/other"]);
    symlink("real", lab.path("srv/link")).unwrap();
    lab.options.filter.exclude = vec!["/real".to_owned()];
    let stored = lab.stored(&["srv", "srv/link/db"]);
    assert_eq!(stored, ["srv", "srv/link", "srv/real", "srv/real/db", "srv/real/db/file"]);
}

#[test]
fn a_source_that_is_left_out_of_another_is_backed_up_all_the_same() {
    let mut lab = Lab::new();
    lab.write(&[
        "srv/a",
        "srv/cache/db/file",
        "srv/cache/db/x.tmp",
        "srv/cache/other",
        "srv/cache!",
        "srv/z/f",
    ]);
    let all = ["srv", "srv/a", "srv/cache", "srv/cache/db", "srv/cache/db/file", "srv/cache/db/x.tmp"];
    let rest = ["srv/cache/other", "srv/cache!", "srv/z", "srv/z/f"];
    let sources = ["srv/cache/db", "srv"];
    assert_eq!(lab.stored(&sources), [&all[..], &rest[..]].concat());
    // Compared with the last snapshot, in which nothing was left out.
    lab.options.filter.exclude = vec!["cache/".to_owned(), "*.tmp".to_owned()];
    let left = [&all[..5], &rest[1..]].concat();
    assert_eq!(lab.stored(&sources), left);
    lab.options.filter.exclude = vec!["cache".to_owned(), "/a".to_owned(), "z".to_owned()];
    assert_eq!(lab.stored(&["srv", "srv/cache", "srv/z/f"]).len(), 9);
    let report = lab.run(&sources, &Silent).unwrap();
    assert_eq!(
        lab.paths_in(&report),
        ["srv", "srv/cache", "srv/cache/db", "srv/cache/db/file", "srv/cache/db/x.tmp", "srv/cache!"]
    );
    let target = lab.path("target");
    let restored = restore_all(&lab.storage(), report.stored.id, &target).unwrap();
    assert_eq!(restored.skipped, vec![]);
    let inner = lab.path("srv/cache/db");
    let differ = differences(&scan(&inner).unwrap(), &scan(&restored_at(&target, &inner)).unwrap());
    assert_eq!(differ, Vec::<String>::new());
    assert_eq!(verify_all(&lab.storage()).unwrap().findings, vec![]);
}

#[test]
fn patterns_begin_at_the_innermost_source() {
    let mut lab = Lab::new();
    lab.write(&[
        "srv/app/data/db",
        "srv/app/data/app/x",
        "srv/app/other",
        "srv/app/data/keep/f",
        "srv/keep/f",
    ]);
    let sources = ["srv", "srv/app/data"];
    let all = ["srv", "srv/app", "srv/app/data", "srv/app/data/app", "srv/app/data/app/x", "srv/app/data/db"];
    let keep = ["srv/app/data/keep", "srv/app/data/keep/f"];
    // What leaves out all that is below the folder around it says nothing of what is in the source.
    let around = lab.path("srv/app/**").display().to_string();
    lab.options.filter.exclude = vec![around, "data/*".to_owned()];
    assert_eq!(lab.stored(&sources), [&all[..], &keep, &["srv/keep", "srv/keep/f"]].concat());
    // What leaves something out at the top of a source does so in each.
    lab.options.filter.exclude = vec!["/keep".to_owned()];
    assert_eq!(lab.stored(&sources), [&all[..], &["srv/app/other"]].concat());
}

#[test]
fn an_emptied_source_is_looked_for_where_it_is_stored() {
    let mut lab = Lab::new();
    lab.write(&["srv/releases/5/data/file", "srv/other"]);
    symlink("releases/5", lab.path("srv/current")).unwrap();
    lab.run(&["srv/current/data"], &Silent).unwrap();
    let both = ["srv", "srv/current/data"];
    lab.run(&both, &Silent).unwrap();
    fs::remove_file(lab.path("srv/releases/5/data/file")).unwrap();
    let refused = lab.run(&both, &Silent);
    let data = lab.path("srv/current/data");
    assert!(matches!(&refused, Err(Error::Source { path, .. }) if *path == data), "{refused:?}");
}

#[test]
fn a_source_in_a_folder_with_a_cache_tag_is_backed_up_all_the_same() {
    let mut lab = Lab::new();
    lab.write(&["srv/cache/db/file", "srv/other"]);
    let tag = "Signature: 8a477f597d28d172789f06886806bc55";
    fs::write(lab.path("srv/CACHEDIR.TAG"), tag).unwrap();
    lab.options.filter.exclude_caches = true;
    let stored = lab.stored(&["srv", "srv/cache/db"]);
    assert_eq!(stored, ["srv", "srv/CACHEDIR.TAG", "srv/cache", "srv/cache/db", "srv/cache/db/file"]);
}

#[test]
fn a_file_that_is_named_is_not_left_out_for_its_size() {
    let mut lab = Lab::new();
    lab.write(&["srv/large", "srv/larger", "srv/s"]);
    lab.options.filter.exclude_larger_than = Some(5);
    assert_eq!(lab.stored(&["srv", "srv/large"]), ["srv", "srv/large", "srv/s"]);
}

/// Whatever is left out, the walk gives each path once and in order, and every source.
#[test]
fn a_walk_comes_to_every_source_in_order() {
    let lab = Lab::new();
    for folder in ["a", "a/b", "a/b/c", "a!", "b", "b/a", "b/a/b"] {
        lab.write(
            &["f", "b!", "z"].map(|name| format!("top/{folder}/{name}")).each_ref().map(|name| &name[..]),
        );
    }
    let inside = ["a", "a/b", "a/b/c", "a/b/z", "a!", "a!/f", "b/a/b", "b/z"];
    let excludes = ["a", "/a", "b/", "*", "c", "[fz]", "*!", "nothing"];
    for chosen in 0..1u32 << inside.len() {
        let named = inside.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
        let named = named.map(|(_, name)| lab.path("top").join(name));
        let sources: Vec<_> = named.chain([lab.path("top")]).collect();
        for exclude in excludes {
            let options = FilterOptions { exclude: vec![exclude.to_owned()], ..FilterOptions::default() };
            let filter = Arc::new(Filter::new(options, &sources).unwrap());
            let walk = Walk::start(open_roots(&sources).unwrap(), filter, usize::from(chosen % 3 == 0));
            let paths: Vec<_> = walk.map(|item| item.map_err(|failed| failed.error).unwrap().path).collect();
            assert!(paths.is_sorted_by(|a, b| order::compare(a, b).is_lt()), "{sources:?} less {exclude}");
            let missing: Vec<_> = sources.iter().filter(|s| !paths.contains(&snapshot_path(s))).collect();
            assert_eq!(missing, Vec::<&PathBuf>::new(), "less {exclude}");
        }
    }
}

/// Set to the name of a test in the namespace in which it runs, with its folder.
const NAMESPACE: &str = "RELIAB_TEST_NAMESPACE";
const FOLDER: &str = "RELIAB_TEST_FOLDER";

/// Runs a test in a mount namespace of its own.
fn alone(name: &str, body: impl FnOnce(&Path)) {
    if std::env::var_os(NAMESPACE).is_some_and(|value| value == name) {
        return body(Path::new(&std::env::var_os(FOLDER).unwrap()));
    }
    let scratch = Scratch::new().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(NAMESPACE, name)
        .env(FOLDER, scratch.path())
        .output()
        .expect("this test needs `unshare`: install the package util-linux");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn mount(point: &Path) {
    fs::create_dir_all(point).unwrap();
    let done = Command::new("mount").args(["-t", "tmpfs", "scratch"]).arg(point).status().unwrap();
    assert!(done.success(), "{}", point.display());
}

#[test]
fn a_source_behind_another_file_system_is_backed_up_all_the_same() {
    alone("sources::a_source_behind_another_file_system_is_backed_up_all_the_same", |top| {
        let mut lab = Lab::at(top);
        mount(&lab.path("top/home"));
        mount(&lab.path("top/home/ann"));
        lab.write(&["top/f", "top/home/bob/f", "top/home/ann/f", "top/home/ann/g/f", "top/var/f"]);
        mount(&lab.path("top/var/mnt"));
        lab.write(&["top/var/mnt/f", "top/var/mnt/photos/f"]);
        lab.options.filter.one_file_system = true;
        // The file system around a source that is named is another matter.
        let photos = lab.stored(&["top/f", "top/var", "top/var/mnt/photos"]);
        let mnt = ["top/var/mnt", "top/var/mnt/photos", "top/var/mnt/photos/f"];
        assert_eq!(photos, [&["top/f", "top/var", "top/var/f"][..], &mnt].concat());
        let stored = lab.stored(&["top", "top/home/ann"]);
        let ann = ["top/home/ann", "top/home/ann/f", "top/home/ann/g", "top/home/ann/g/f"];
        let (before, after) = (["top", "top/f", "top/home"], ["top/var", "top/var/f", "top/var/mnt"]);
        assert_eq!(stored, [&before[..], &ann, &after].concat());
    });
}

/// Takes a file system away when the first entry is done.
struct Unmounts(PathBuf);

impl Events for Unmounts {
    fn advance(&self, _: u64, _: u64) {
        // Done once; the second time there is nothing to take away.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).output().unwrap());
    }
}

#[test]
fn a_source_that_is_unmounted_while_it_is_read_could_not_be_read() {
    alone("sources::a_source_that_is_unmounted_while_it_is_read_could_not_be_read", |top| {
        let mut lab = Lab::at(top);
        lab.write(&["other/f"]);
        for inner in [false, true] {
            mount(&lab.path("other/z"));
            let files: Vec<_> = (0..300).map(|number| format!("other/z/{number}/f")).collect();
            lab.write(&files.iter().map(String::as_str).collect::<Vec<_>>());
            let sources: &[&str] = if inner { &["other", "other/z"] } else { &["other/f", "other/z"] };
            let report = lab.run(sources, &Unmounts(lab.path("other/z"))).unwrap();
            assert!(!lab.path("other/z/1").exists(), "it is gone");
            let errors = &report.stored.snapshot.errors;
            let told: Vec<_> = errors.iter().filter(|e| !e.error.starts_with("vanished")).collect();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].path.ends_with("other/z") && told[0].error.contains("unmounted"), "{told:?}");
            assert_eq!(report.unreadable, 1);
        }
    });
}

/// Keeps the warnings, and removes a folder when the first entry is done.
#[derive(Default)]
struct Watch {
    warnings: Mutex<Vec<(PathBuf, String)>>,
    goes: Option<PathBuf>,
}

impl Events for Watch {
    fn advance(&self, _: u64, _: u64) {
        if let Some(folder) = self.goes.as_ref().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    fn warning(&self, path: &Path, message: &str) {
        self.warnings.lock().unwrap().push((path.to_owned(), message.to_owned()));
    }
}

#[test]
fn of_a_source_that_is_a_link_it_is_told_that_only_the_link_is_stored() {
    let mut lab = Lab::new();
    lab.write(&["disk/file"]);
    symlink("disk", lab.path("data")).unwrap();
    symlink("disk/file", lab.path("name")).unwrap();
    symlink("file", lab.path("disk/link")).unwrap();
    let mut warnings = |sources: &[&str]| {
        let watch = Watch::default();
        assert_eq!(lab.run(sources, &watch).unwrap().unreadable, 0);
        watch.warnings.into_inner().unwrap()
    };
    let told = warnings(&["data", "name"]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0.ends_with("data") && told[0].1.starts_with("only this symbolic link is stored"));
    assert!(told[0].1.contains("/data/ is what it leads to"), "{told:?}");
    assert!(told[1].0.ends_with("name") && !told[1].1.contains("name/"), "{told:?}");
    assert_eq!(warnings(&["data/"]), vec![]);
    assert_eq!(warnings(&["disk"]), vec![]);
    assert_eq!(warnings(&["data", "data/"]), vec![]);
}

#[test]
fn a_source_that_goes_before_its_turn_could_not_be_read() {
    for inner in [false, true] {
        let mut lab = Lab::new();
        lab.write(&["a/1", "a/2", "a/3", "b/c/file"]);
        let sources: &[&str] = if inner { &["a", "b", "b/c"] } else { &["a", "b"] };
        let goes = lab.path(if inner { "b/c" } else { "b" });
        let report = lab.run(sources, &Watch { goes: Some(goes.clone()), ..Watch::default() }).unwrap();
        assert_eq!(report.unreadable, 1, "{:?}", report.stored.snapshot.errors);
        let errors = &report.stored.snapshot.errors;
        assert!(errors[0].error.contains("gone now"), "{errors:?}");
        assert_eq!(errors[0].path.as_bytes(), snapshot_path(&goes));
    }
}

#[test]
fn a_source_with_a_slash_at_its_end_is_the_same_source() {
    let mut lab = Lab::new();
    lab.write(&["data/file"]);
    symlink("data", lab.path("link")).unwrap();
    let first = lab.run(&["data"], &Silent).unwrap().stored;
    let second = lab.run(&["data/"], &Silent).unwrap().stored;
    assert_eq!(second.snapshot.paths, first.snapshot.paths);
    assert_eq!(second.snapshot.parent, Some(first.id));
    let twice = lab.run(&["data/", "data"], &Silent).unwrap().stored;
    assert_eq!((twice.snapshot.paths, twice.snapshot.parent), (first.snapshot.paths, Some(second.id)));
    // It is the files that go when the slash does.
    lab.run(&["link/"], &Silent).unwrap();
    let refused = lab.run(&["link"], &Silent);
    assert!(matches!(&refused, Err(Error::Source { path, .. }) if path.ends_with("link")), "{refused:?}");
    lab.options.sources = vec![PathBuf::from("/")];
    lab.options.filter.exclude = vec!["*".to_owned()];
    let top = backup(lab.storage(), &lab.options, &Silent).unwrap().stored;
    assert_eq!(top.snapshot.paths, ["/"]);
}

#[test]
fn the_repository_is_no_source_of_itself() {
    use std::os::unix::fs::MetadataExt;
    let mut lab = Lab::new();
    lab.write(&["data/file"]);
    symlink("repo", lab.path("link")).unwrap();
    lab.stored(&["data"]);
    let found = fs::metadata(lab.path("repo")).unwrap();
    lab.options.filter.never = Some((found.dev(), found.ino()));
    for source in ["repo", "repo/", "repo/packs", "link/", "link/packs", "repo/repository.json"] {
        let (path, reason) = lab.refusal(&["data", source]);
        assert_eq!(path.as_os_str(), lab.path("").join(source).as_os_str(), "{reason}");
        assert!(reason.contains("--repo"), "{reason}");
    }
    // Around it, and a link to it, is what can be stored.
    let stored: BTreeSet<String> = lab.stored(&["data", "link"]).into_iter().collect();
    assert_eq!(stored, ["data", "data/file", "link"].map(str::to_owned).into());
}
