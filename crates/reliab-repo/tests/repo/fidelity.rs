//! Fidelity: whatever a file system can hold comes back as it was, whatever happens to the source meanwhile is never
//! passed off as a good copy, and a restore never leaves its target.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use reliab_repo::archive::{BackupReport, backup};
use reliab_repo::event::Silent;
use reliab_repo::format::snapshot::SourceError;
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::restore::{Overwrite, RestoreOptions, check, restore};
use reliab_testkit::engine::{backed_up, local, options, read_back, restore_all, restored_at, verify_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::judge::{rsync_differences, sparse_blocks};
use reliab_testkit::scan::{ItemKind, Scan, differences, scan};
use reliab_testkit::tree::{self, NONE, Scratch, acl, set_mode, set_xattr};
use rustix::fs::{CWD, FileType, Mode};

/// A source and a repository in a scratch folder.
struct Lab {
    scratch: Scratch,
}

impl Lab {
    fn new(scratch: Scratch) -> Self {
        fs::create_dir(scratch.path().join("source")).unwrap();
        Self { scratch }
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn storage(&self) -> std::sync::Arc<dyn reliab_repo::storage::Storage> {
        local(&self.scratch.path().join("repo"))
    }

    fn back_up(&self) -> BackupReport {
        let mut options = options(&self.source(), &self.scratch.path().join("cache"));
        options.threads = 2;
        options.allow_empty = true;
        backup(self.storage(), &options, &Silent).unwrap()
    }

    /// Restores into a new folder below `target`; gives where the source is there.
    fn restore(&self, id: ObjectId, target: &Path) -> PathBuf {
        let report = restore_all(&self.storage(), id, target).unwrap();
        assert_eq!(report.skipped, vec![]);
        restored_at(target, &self.source())
    }

    fn comes_back(&self) -> ObjectId {
        let report = self.back_up();
        assert_eq!((report.unreadable, report.stored.snapshot.errors), (0, vec![]));
        let target = Scratch::new().unwrap();
        let restored = self.restore(report.stored.id, &target.path().join("target"));
        assert_eq!(rsync_differences(&self.source(), &restored), Vec::<String>::new());
        for name in ["start", "middle", "end", "all hole", "odd end", "small", "many"] {
            let blocks = |top: &Path| sparse_blocks(&top.join("sparse").join(name)).unwrap();
            let (before, after) = (blocks(&self.source()), blocks(&restored));
            assert!(after <= before + 16, "{name}: {after} blocks, not {before}");
        }
        report.stored.id
    }
}

/// What is expected of a snapshot: sockets are left out.
fn without_sockets(mut scan: Scan) -> Scan {
    scan.retain(|_, item| item.kind != ItemKind::Socket);
    scan
}

#[test]
fn everything_a_file_system_can_hold_comes_back_and_so_do_changes_to_it() {
    let lab = Lab::new(Scratch::new().unwrap());
    let source = lab.source();
    let missing = tree::fidelity(&source).unwrap();
    println!("not tested, for want of rights or features: {missing:?}");
    let first = lab.comes_back();
    let first_scan = without_sockets(scan(&source).unwrap());
    change(&source);
    lab.comes_back();
    let storage = lab.storage();
    let found = read_back(&storage, first, &source).unwrap();
    assert_eq!(differences(&first_scan, &found), Vec::<String>::new());
    assert_eq!(verify_all(&storage).unwrap().findings, vec![]);
}

/// One change of each kind.
fn change(source: &Path) {
    let at = |name: &str| source.join(name);
    fs::rename(at("names"), at("renamed")).unwrap();
    fs::rename(at("sizes/513"), at("void/513")).unwrap();
    tree::set_mode(&at("sizes/512"), 0o600).unwrap();
    tree::set_mtime(&at("sizes/511"), 77, 77).unwrap();
    tree::flip_byte(&at("sizes/1048575"), 1000).unwrap();
    tree::flip_byte(&at(&format!("sizes/{}", 9 << 20)), 5_000_000).unwrap();
    let grown = OpenOptions::new().append(true).open(at(&format!("sizes/{}", (9 << 20) + 777))).unwrap();
    std::io::Write::write_all(&mut &grown, &vec![9; 100_000]).unwrap();
    File::options().write(true).open(at(&format!("sizes/{}", 4 << 20))).unwrap().set_len(4_190_000).unwrap();
    fs::remove_file(at("links/a/second")).unwrap();
    fs::remove_file(at("links/c/fourth")).unwrap();
    fs::write(at("links/c/fourth"), "hard-linked").unwrap();
    fs::hard_link(at("sizes/1"), at("links/a/one")).unwrap();
    fs::remove_file(at("links/loop-1")).unwrap();
    fs::create_dir(at("links/loop-1")).unwrap();
    fs::remove_dir(at("crowd/entry 0")).unwrap();
    fs::write(at("crowd/entry 0"), "was a folder").unwrap();
    fs::remove_file(at("crowd/entry 4999")).unwrap();
    File::options().write(true).open(at("sparse/all hole")).unwrap().write_all_at(b"data", 1 << 20).unwrap();
    File::options().write(true).open(at("sparse/start")).unwrap().set_len(1 << 20).unwrap();
    File::options().write(true).open(at("sizes/1048577")).unwrap().set_len(30 << 20).unwrap();
    // Rights and features were noted when the tree was built.
    drop(tree::set_xattr(&at("attributes/plain"), "user.note", b"changed"));
    drop(tree::set_xattr(&at("attributes/folder"), "user.more", b"added"));
    tree::set_mtime(source, -77, 1).unwrap();
}

#[test]
fn a_file_of_20_gib_that_is_nearly_all_hole_comes_back_so() {
    let lab = Lab::new(Scratch::new().unwrap());
    let source = lab.source().join("huge");
    if let Err(error) = tree::huge_sparse(&source) {
        println!("not tested, the file system cannot hold it: {error}");
        return;
    }
    let report = lab.back_up();
    assert!(report.stored.snapshot.stats.added_bytes < 100_000);
    let restored = lab.restore(report.stored.id, &lab.scratch.path().join("target")).join("huge");
    let (before, after) = (fs::metadata(&source).unwrap(), fs::metadata(&restored).unwrap());
    assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()));
    assert!(after.blocks() <= before.blocks() + 16);
    // The engine has compared digests of all of it; here the data segments are enough.
    for at in [0, 5 << 30, (20 << 30) - 4096] {
        let read = |path: &Path| {
            let mut bytes = vec![0; 4096];
            File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(read(&source) == read(&restored) && read(&source).iter().any(|&byte| byte != 0));
    }
}

/// Runs `change` over and over in another thread while `work` runs.
fn meanwhile(change: impl Fn(u64) + Sync, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..u64::MAX).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(&change));
        let stopped = StopAtEnd(&stop);
        work();
        drop(stopped);
    });
}

/// Ends the other thread even if a test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lengths of runs of equal bytes.
fn runs(content: &[u8]) -> Vec<u8> {
    let mut runs: Vec<u8> = content.to_vec();
    runs.dedup();
    runs
}

/// A file becomes a folder, and a file again.
fn turn(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    fs::remove_dir(path).unwrap();
    fs::write(path, "a file").unwrap();
}

fn is_odd_of_a_turn(told: &SourceError) -> bool {
    let known = ["vanished", "it was replaced", "changed"];
    told.path.ends_with("turned") && !known.iter().any(|known| told.error.starts_with(known))
}

/// Length of the file that is written again and again.
const LEN: usize = 3 << 20;

#[test]
fn a_file_that_changes_while_it_is_read_is_a_state_it_had_or_is_marked() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    let source = lab.source();
    let [rewritten, resized, replaced, turned] =
        ["rewritten", "resized", "replaced", "turned"].map(|name| source.join(name));
    fs::write(&rewritten, vec![0; LEN]).unwrap();
    fs::write(&resized, "").unwrap();
    fs::write(&replaced, vec![1; 100_000]).unwrap();
    fs::write(&turned, "a file").unwrap();
    fs::write(source.join("still"), "still").unwrap();
    let change = |round: u64| {
        let version = u8::try_from(round % 251).unwrap();
        // From front to back: at any moment a beginning of the new version and the rest of the old.
        let file = File::options().write(true).open(&rewritten).unwrap();
        for at in (0..LEN).step_by(64 << 10) {
            file.write_all_at(&vec![version; 64 << 10], at as u64).unwrap();
        }
        // Grows and shrinks; all of one byte, always.
        let file = File::options().write(true).open(&resized).unwrap();
        let len = (round * 7919) % 700_000;
        file.set_len(0).unwrap();
        file.write_all_at(&vec![7; usize::try_from(len).unwrap()], 0).unwrap();
        // Vanishes, and is there again at once or a little later.
        fs::write(source.join("new"), vec![version; 100_000]).unwrap();
        if round.is_multiple_of(3) {
            fs::remove_file(&replaced).unwrap();
        }
        fs::rename(source.join("new"), &replaced).unwrap();
        turn(&turned);
    };
    let (mut marked, mut whole) = (0, 0);
    meanwhile(change, || {
        for round in 0..250 {
            if round >= 25 && marked > 0 {
                break;
            }
            let report = lab.back_up();
            let target = Scratch::in_memory().unwrap();
            let restored = lab.restore(report.stored.id, &target.path().join("target"));
            let errors = &report.stored.snapshot.errors;
            let is_marked = |name: &str| errors.iter().any(|error| error.path.ends_with(name));
            // A state between two others, or none any more, is told, and is no source that could not be read.
            let is_note = |told: &str| told.ends_with("changed while it was read") && !told.contains("kept");
            let notes = errors.iter().filter(|e| is_note(&e.error) || e.error.starts_with("vanished"));
            assert_eq!(report.unreadable, (errors.len() - notes.count()) as u64, "{errors:?}");
            assert_eq!(fs::read(restored.join("still")).unwrap(), b"still");
            assert_eq!(errors.iter().find(|error| is_odd_of_a_turn(error)), None);
            if is_marked("rewritten") {
                marked += 1;
            } else {
                let found = fs::read(restored.join("rewritten")).unwrap();
                let runs = runs(&found);
                let is_state = match runs[..] {
                    [_] => true,
                    [new, old] => new == (old + 1) % 251,
                    _ => false,
                };
                assert!(found.len() == LEN && is_state, "a torn copy was passed off as good: {runs:?}");
                whole += 1;
            }
            if let Ok(found) = fs::read(restored.join("resized")) {
                assert!(found.iter().all(|&byte| byte == 7) || is_marked("resized"), "resized");
            } else {
                assert!(is_marked("resized"), "missing without a word");
            }
            if let Ok(found) = fs::read(restored.join("replaced")) {
                assert!(
                    (runs(&found).len(), found.len()) == (1, 100_000) || is_marked("replaced"),
                    "replaced"
                );
            }
        }
    });
    println!("{marked} marked, {whole} whole");
    assert!(marked > 0, "the file never changed while it was read");
}

#[test]
fn a_folder_that_is_swapped_for_a_link_never_leads_outside() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    let source = lab.source();
    let outside = lab.scratch.path().join("outside");
    let inside = source.join("folder");
    for (top, content) in [(&inside, "mine"), (&outside, "secret")] {
        fs::create_dir_all(top.join("a/b")).unwrap();
        for number in 0..40 {
            fs::write(top.join(format!("file {number}")), format!("{content} {number}")).unwrap();
            fs::write(top.join(format!("a/b/{number}")), format!("{content} {number}")).unwrap();
        }
    }
    let secrets: BTreeSet<[u8; 32]> = scan(&outside).unwrap().values().filter_map(digest).collect();
    assert_eq!(secrets.len(), 40);
    let change = |_| {
        fs::rename(&inside, lab.scratch.path().join("aside")).unwrap();
        symlink(&outside, &inside).unwrap();
        std::thread::yield_now();
        fs::remove_file(&inside).unwrap();
        fs::rename(lab.scratch.path().join("aside"), &inside).unwrap();
        std::thread::yield_now();
    };
    let (mut links, mut folders) = (0, 0);
    meanwhile(change, || {
        for round in 0..1500 {
            if round >= 150 && links > 0 && folders > 0 {
                break;
            }
            let report = lab.back_up();
            let found = read_back(&lab.storage(), report.stored.id, &source).unwrap();
            let is_link = found.get(&b"folder"[..]).is_some_and(|item| item.kind != ItemKind::Dir);
            let below = found.keys().filter(|path| path.starts_with(b"folder/")).count();
            assert!(!(is_link && below > 0), "a link with {below} entries below it");
            links += usize::from(is_link);
            folders += usize::from(below > 0);
            let stolen = found.values().filter_map(digest).filter(|digest| secrets.contains(digest)).count();
            assert_eq!(stolen, 0, "files from outside the source");
        }
    });
    println!("{links} times a link, {folders} times a folder");
    assert!(links > 0 && folders > 0, "the swap was never seen");
}

fn digest(item: &reliab_testkit::scan::Item) -> Option<[u8; 32]> {
    match item.kind {
        ItemKind::File(_, digest) => Some(digest),
        _ => None,
    }
}

/// What a default ACL that lets another user read passes on.
fn pass_on(folder: &Path) {
    let readable = acl(&[(1, 7, NONE), (2, 7, 1234), (4, 5, NONE), (0x10, 7, NONE), (0x20, 5, NONE)]);
    set_xattr(folder, "system.posix_acl_default", &readable).unwrap();
}

#[test]
fn what_the_target_passes_on_to_new_files_or_had_before_is_not_what_they_have() {
    let (scratch, options) = backed_up(|source| {
        fs::create_dir_all(source.join("private/folder")).unwrap();
        for name in ["private/secret", "private/kept"] {
            fs::write(source.join(name), name).unwrap();
            set_mode(&source.join(name), 0o640).unwrap();
        }
        fs::write(source.join("private/large"), Generator::new(3).bytes(700_000)).unwrap();
        rustix::fs::mknodat(CWD, source.join("private/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("secret", source.join("private/link")).unwrap();
    })
    .unwrap();
    let repository = Repository::open(local(&scratch.path().join("repo"))).unwrap();
    let snapshot = repository.snapshots().find("latest").unwrap().clone();
    fs::create_dir(&options.target).unwrap();
    pass_on(&options.target);
    let private = restored_at(&options.target, &scratch.path().join("source")).join("private");
    for overwrite in [None, Some(Overwrite::IfChanged), Some(Overwrite::Always)] {
        if overwrite.is_some() {
            pass_on(&private);
            set_xattr(&private, "user.note", b"of before").unwrap();
            fs::remove_file(private.join("secret")).unwrap();
            fs::remove_file(private.join("large")).unwrap();
            let kept = private.join("kept");
            let time = fs::metadata(&kept).unwrap().modified().unwrap();
            let readable = acl(&[(1, 6, NONE), (2, 6, 1234), (4, 4, NONE), (0x10, 6, NONE), (0x20, 0, NONE)]);
            set_xattr(&kept, "system.posix_acl_access", &readable).unwrap();
            fs::File::open(&kept).unwrap().set_modified(time).unwrap();
        }
        let options = RestoreOptions { overwrite, ..options.clone() };
        let report = restore(&repository, &snapshot, &options, &Silent).unwrap();
        assert_eq!((report.skipped, report.attributes), (vec![], vec![]), "{overwrite:?}");
        assert_eq!(report.kept, u64::from(overwrite == Some(Overwrite::IfChanged)));
        assert_eq!(check(&repository, &snapshot, &options, &Silent).unwrap(), vec![], "{overwrite:?}");
    }
    // What is none of the snapshot's stays as it was.
    let mut names = [0; 100];
    let len = rustix::fs::llistxattr(&options.target, &mut names).unwrap();
    assert!(names[..len].starts_with(b"system.posix_acl_default\0"));
}
