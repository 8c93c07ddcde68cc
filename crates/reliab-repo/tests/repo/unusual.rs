//! Sources and runs that are not as usual: inode numbers that do not last, attributes without end, entries that vanish, a
//! file that changes between the readings of its names, two runs of one job at the same time.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reliab_repo::archive::{BackupOptions, BackupReport, backup};
use reliab_repo::event::{Events, Silent};
use reliab_repo::format::entry::Entry;
use reliab_repo::format::escape::escape;
use reliab_repo::format::snapshot::{Snapshot, SourceError};
use reliab_repo::id::ObjectId;
use reliab_repo::repository::Repository;
use reliab_repo::storage::Storage;
use reliab_repo::walk::snapshot_path;
use reliab_testkit::engine::{local, options, read_back, restore_all, verify_all};
use reliab_testkit::scan::{ItemKind, Scan};
use reliab_testkit::tree::{Scratch, set_mtime, set_xattr};

/// A source, a repository and a cache in a scratch folder.
struct Lab {
    scratch: Scratch,
}

impl Lab {
    fn new(scratch: Scratch) -> Self {
        fs::create_dir(scratch.path().join("source")).unwrap();
        Self { scratch }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.scratch.path().join("source").join(name)
    }

    fn storage(&self) -> std::sync::Arc<dyn Storage> {
        local(&self.scratch.path().join("repo"))
    }

    fn options(&self) -> BackupOptions {
        options(&self.source(""), &self.scratch.path().join("cache"))
    }

    fn back_up(&self, events: &dyn Events) -> BackupReport {
        backup(self.storage(), &self.options(), events).unwrap()
    }

    /// What a snapshot holds, each content read and checked; and all of it can be restored.
    fn whole(&self, id: ObjectId) -> Scan {
        let target = self.scratch.path().join(format!("target-{id}"));
        assert_eq!(restore_all(&self.storage(), id, &target).unwrap().skipped, vec![]);
        read_back(&self.storage(), id, &self.scratch.path().join("source")).unwrap()
    }
}

/// Does something once, when the entry of that name has been read.
struct After<'a> {
    name: &'a str,
    act: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl<'a> After<'a> {
    fn new(name: &'a str, act: impl FnOnce() + Send + 'a) -> Self {
        Self { name, act: Mutex::new(Some(Box::new(act))) }
    }

    /// Says whether it was done, and ends what it borrows.
    fn was_done(self) -> bool {
        self.act.into_inner().unwrap().is_none()
    }
}

impl Events for After<'_> {
    fn entry(&self, _: Option<&Entry>, new: Option<&Entry>) {
        if new.is_some_and(|entry| entry.path.ends_with(self.name.as_bytes())) {
            let act = self.act.lock().unwrap().take();
            if let Some(act) = act {
                act();
            }
        }
    }
}

fn told(errors: &[SourceError]) -> Vec<(&str, &str)> {
    errors.iter().map(|e| (e.path.rsplit('/').next().unwrap(), e.error.as_str())).collect()
}

/// BLAKE3 of a file in a scan.
fn digest(scan: &Scan, name: &str) -> [u8; 32] {
    match scan[name.as_bytes()].kind {
        ItemKind::File(_, digest) => digest,
        _ => panic!("{name} is no file"),
    }
}

fn hash(content: impl AsRef<[u8]>) -> [u8; 32] {
    *blake3::hash(content.as_ref()).as_bytes()
}

#[test]
fn of_two_runs_of_one_job_at_the_same_time_both_are_whole() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    // Long names, so that much of the new cache is on the disk before the second run begins.
    let name = |number: u32| format!("{number:05}{}", "n".repeat(200));
    (0..2500).for_each(|number| fs::write(lab.source(&name(number)), format!("content {number}")).unwrap());
    let mut second = None;
    let last = name(2400);
    let events = After::new(&last, || {
        fs::write(lab.source(&name(0)), "CONTENT 0").unwrap();
        second = Some(lab.back_up(&Silent).stored.id);
    });
    let first = lab.back_up(&events).stored.id;
    assert!(events.was_done());
    let ids = [first, second.unwrap()];
    for (id, content) in ids.into_iter().zip(["content 0", "CONTENT 0"]) {
        let scan = lab.whole(id);
        assert_eq!(digest(&scan, &name(0)), hash(content));
        assert_eq!(digest(&scan, &name(1)), hash("content 1"));
        assert_eq!(scan.len(), 2501);
    }
    let third = lab.back_up(&Silent);
    assert_eq!(third.stored.snapshot.stats.new_files, 0);
    assert_eq!(digest(&lab.whole(third.stored.id), &name(0)), hash("CONTENT 0"));
    assert_eq!(verify_all(&lab.storage()).unwrap().findings, vec![]);
    let folder = fs::read_dir(lab.scratch.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let job = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let left: Vec<_> = fs::read_dir(job).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["entries"], "each removed what was its own");
}

/// Gives an entry 9 MiB of attributes; false where that cannot be.
fn overfill(path: &Path) -> bool {
    // Those of the user are for files and folders alone.
    let names = (0..144).map(|number| [format!("trusted.n{number}"), format!("user.n{number}")]);
    let mut names = names.into_iter();
    let value = vec![7; 65_536];
    names.all(|names| names.iter().any(|name| set_xattr(path, name, &value).is_ok()))
}

#[test]
fn attributes_beyond_what_can_be_stored_are_left_out_and_told_and_the_rest_is_stored() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    fs::write(lab.source("after"), "after").unwrap();
    fs::write(lab.source("file"), "a file").unwrap();
    fs::create_dir(lab.source("folder")).unwrap();
    fs::write(lab.source("folder/inner"), "in it").unwrap();
    symlink("after", lab.source("link")).unwrap();
    let filled = ["file", "folder", "link"].map(|name| (name, overfill(&lab.source(name))));
    println!("filled: {filled:?}");
    let expected: Vec<&str> = filled.iter().filter(|(_, filled)| *filled).map(|(name, _)| *name).collect();
    if expected.is_empty() {
        println!("not tested, the file system does not take so many attributes");
        return;
    }
    // Told each time: an entry that is not whole is looked at again.
    for _ in 0..2 {
        let report = lab.back_up(&Silent);
        let errors = report.stored.snapshot.errors;
        assert_eq!(errors.iter().map(|e| e.path.rsplit('/').next().unwrap()).collect::<Vec<_>>(), expected);
        assert!(errors.iter().all(|e| e.error.contains("attributes are left out: they are more than 4 MiB")));
        assert_eq!(report.unreadable, expected.len() as u64);
        let scan = lab.whole(report.stored.id);
        assert_eq!(scan.len(), 6);
        assert_eq!(digest(&scan, "file"), hash("a file"));
        assert_eq!(digest(&scan, "folder/inner"), hash("in it"));
        for name in &expected {
            assert!(scan[name.as_bytes()].xattrs.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_file_that_changes_between_its_names_is_told_and_read_again_by_the_next_run() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    let [first, second] = ["first", "second"].map(|name| lab.source(name));
    fs::write(&first, "old content").unwrap();
    fs::hard_link(&first, &second).unwrap();
    // Sources of their own: the second is not looked at before the first has been read.
    let mut options = lab.options();
    options.sources = vec![first.clone(), second.clone()];
    let events = After::new("/first", || fs::write(&first, "new content").unwrap());
    let report = backup(lab.storage(), &options, &events).unwrap();
    assert!(events.was_done());
    assert_eq!(told(&report.stored.snapshot.errors), [("second", SourceError::CHANGED)]);
    assert_eq!(report.unreadable, 0, "all of it is there");
    let scan = lab.whole(report.stored.id);
    assert_eq!([digest(&scan, "first"), digest(&scan, "second")], ["old content", "new content"].map(hash));

    options.time = chrono::Utc::now();
    let report = backup(lab.storage(), &options, &Silent).unwrap();
    assert_eq!(report.stored.snapshot.errors, vec![]);
    let scan = lab.whole(report.stored.id);
    assert_eq!([digest(&scan, "first"), digest(&scan, "second")], ["new content"; 2].map(hash));
    assert_eq!(scan[&b"first"[..]].link, scan[&b"second"[..]].link);
}

#[test]
fn what_vanishes_after_it_was_listed_is_a_note_whatever_it_is() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    fs::write(lab.source("a"), "stays").unwrap();
    fs::write(lab.source("file"), "vanishes").unwrap();
    fs::create_dir(lab.source("folder")).unwrap();
    symlink("a", lab.source("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(lab.source("socket")).unwrap());
    let fifo = Command::new("mkfifo").arg(lab.source("pipe")).status();
    assert!(fifo.is_ok_and(|status| status.success()));
    let gone = ["file", "folder", "link", "pipe"];
    let events = After::new("/a", || {
        for name in ["file", "link", "pipe"] {
            fs::remove_file(lab.source(name)).unwrap();
        }
        fs::remove_dir(lab.source("folder")).unwrap();
    });
    let report = lab.back_up(&events);
    assert!(events.was_done());
    let expected = gone.map(|name| (name, "vanished while it was read"));
    assert_eq!(told(&report.stored.snapshot.errors), expected, "each once");
    assert_eq!(report.unreadable, 0);
    let scan = lab.whole(report.stored.id);
    assert_eq!(scan.keys().map(|path| String::from_utf8_lossy(path)).collect::<Vec<_>>(), ["", "a"]);
}

/// Keeps the names of what was looked at, and how often it was asked whether to stop.
#[derive(Default)]
struct Watching {
    looked_at: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl Events for Watching {
    fn entry(&self, _: Option<&Entry>, new: Option<&Entry>) {
        let name = new.and_then(|entry| entry.path.rsplit(|&byte| byte == b'/').next().map(<[u8]>::to_vec));
        self.looked_at.lock().unwrap().extend(name.map(|name| String::from_utf8(name).unwrap()));
    }

    fn stop_requested(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[test]
fn what_a_snapshot_tells_of_is_looked_at_again_though_the_cache_is_lost() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    ["a", "b", "c"].iter().for_each(|name| fs::write(lab.source(name), name).unwrap());
    // By a clock that is ahead nothing was written just now.
    let at = |seconds| BackupOptions {
        time: chrono::Utc::now() + chrono::TimeDelta::seconds(seconds),
        ..lab.options()
    };
    let first = backup(lab.storage(), &at(1), &Silent).unwrap().stored;
    let looked_at = |options: BackupOptions| {
        fs::remove_dir_all(lab.scratch.path().join("cache")).unwrap();
        let watching = Watching::default();
        let report = backup(lab.storage(), &options, &watching).unwrap();
        assert_eq!(report.stored.snapshot.stats.unmodified_files, 3);
        watching.looked_at.into_inner().unwrap()
    };
    let again = looked_at(at(2));
    assert_eq!(again, Vec::<String>::new(), "the test needs files that are taken as unchanged");
    // As if it had changed while it was read.
    let path = escape(&snapshot_path(&lab.source("b"))).into_owned();
    let errors = vec![SourceError { path, error: SourceError::CHANGED.to_owned() }];
    let repository = Repository::open(lab.storage()).unwrap();
    let latest = repository.snapshots().find("latest").unwrap();
    assert_eq!(latest.snapshot.parent, Some(first.id));
    let (parent, time) = (Some(latest.id), at(3).time);
    repository.publish_snapshot(Snapshot { errors, parent, time, ..latest.snapshot.clone() }).unwrap();
    assert_eq!(looked_at(at(4)), ["b"]);
    assert_eq!(looked_at(at(5)), Vec::<String>::new(), "it was whole");
}

#[test]
fn a_hole_longer_than_a_page_can_tell_is_no_file_to_store_and_long_ones_can_be_stopped() {
    let lab = Lab::new(Scratch::in_memory().unwrap());
    fs::write(lab.source("a"), "stays").unwrap();
    fs::File::create(lab.source("hole")).unwrap().set_len(1 << 30).unwrap();
    let watching = Watching::default();
    let report = lab.back_up(&watching);
    assert_eq!(report.stored.snapshot.errors, vec![]);
    assert!(watching.asked.into_inner() > 60, "whoever asks to stop waits for the whole of it");
    assert!(
        matches!(lab.whole(report.stored.id)[&b"hole"[..]].kind, ItemKind::File(len, _) if len == 1 << 30)
    );
    if let Err(error) = fs::File::create(lab.source("endless")).unwrap().set_len((1 << 56) + 1) {
        println!("not tested, the file system has no such files: {error}");
        return;
    }
    let report = lab.back_up(&Silent);
    assert_eq!(told(&report.stored.snapshot.errors), [("endless", "File too large")]);
    assert_eq!((report.unreadable, report.stored.snapshot.stats.files), (1, 2));
}

/// A folder as sshfs shows it, over a pipe.
struct Sshfs {
    point: PathBuf,
    programs: [Child; 2],
}

impl Sshfs {
    fn mount(folder: &Path, point: &Path) -> Self {
        let device = || fs::metadata(point).unwrap().dev();
        let before = device();
        let paths = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server"];
        let server = paths.iter().find(|path| Path::new(path).exists());
        let server = server.expect("sftp-server is needed: install the package openssh-sftp-server");
        let mut server = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut sshfs = Command::new("sshfs");
        sshfs.args(["-f", "-o", "passive"]).arg(format!(":{}", folder.display())).arg(point);
        sshfs.stdin(server.stdout.take().unwrap()).stdout(server.stdin.take().unwrap());
        let mut sshfs = sshfs.spawn().expect("sshfs is needed: install the package sshfs");
        while device() == before {
            assert_eq!(sshfs.try_wait().unwrap(), None, "sshfs ended");
            std::thread::yield_now();
        }
        Self { point: point.to_owned(), programs: [sshfs, server] }
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        let unmounted = Command::new("fusermount3").arg("-u").arg(&self.point).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmount {}", self.point.display());
        self.programs.iter_mut().for_each(|program| drop(program.wait()));
    }
}

#[test]
fn a_file_that_got_the_inode_number_of_another_is_read() {
    if !Path::new("/dev/fuse").exists() {
        println!("not tested, this machine has no FUSE");
        return;
    }
    let lab = Lab::new(Scratch::in_memory().unwrap());
    let remote = lab.scratch.path().join("remote");
    fs::create_dir(&remote).unwrap();
    for (name, content) in [("a", "content of a"), ("b", "content of b")] {
        fs::write(remote.join(name), content).unwrap();
        set_mtime(&remote.join(name), 1_700_000_000, 0).unwrap();
    }
    let inodes = |order: [&str; 2]| {
        // Numbers are given to files as they are looked at.
        let found = order.map(|name| (name, fs::metadata(lab.source(name)).unwrap()));
        let identity =
            |wanted| found.iter().find(|(name, _)| *name == wanted).map(|(_, m)| (m.dev(), m.ino()));
        [identity("a"), identity("b")]
    };
    let mut before: Option<[Option<(u64, u64)>; 2]> = None;
    for order in [["a", "b"], ["b", "a"]] {
        let mount = Sshfs::mount(&remote, &lab.source(""));
        let now = inodes(order);
        if let Some([a, _]) = before {
            assert_eq!(now[1], a, "the test needs a number that comes again");
        }
        before = Some(now);
        let report = lab.back_up(&Silent);
        drop(mount);
        assert_eq!(report.stored.snapshot.errors, vec![]);
        let scan = lab.whole(report.stored.id);
        assert_eq!([digest(&scan, "a"), digest(&scan, "b")], ["content of a", "content of b"].map(hash));
    }
}
