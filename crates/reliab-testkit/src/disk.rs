//! A disk in memory that keeps apart what is durable and what is not, and fails at a chosen operation.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reliab_repo::storage::{Disk, DiskFile};

use crate::damage::Damage;

/// An operation that changes the disk, or makes a change durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new file.
    Create(String),
    /// Bytes at the end of a file.
    Write(String),
    /// A file's content becomes durable.
    Sync(String),
    /// A new folder.
    CreateDir(String),
    /// A file's name changes.
    Rename(String, String),
    /// The names in a folder become durable.
    SyncDir(String),
    /// A file's name goes away.
    Remove(String),
}

impl Operation {
    fn takes_space(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Write(_) | Self::CreateDir(_))
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The process dies before the operation; the system lives on.
    Kill,
    /// The disk is full from here on; a write may land in part.
    NoSpace,
    /// This operation fails; after a failed sync the data is lost although later syncs succeed (Rebello et al., "Can
    /// Applications Recover from fsync Failures?", 2020).
    IoError,
    /// The process dies half-way through a write.
    TornWrite,
    /// The power goes after the operation: names that no `sync_dir` made durable are as they were.
    LostRename,
    /// The power goes after the operation: names are there, content that was not synced is not.
    LostContent,
    /// The power goes after the operation: nothing is left that is not durable.
    LostUnsynced,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::NoSpace,
        Self::IoError,
        Self::TornWrite,
        Self::LostRename,
        Self::LostContent,
        Self::LostUnsynced,
    ];

    /// False where the kind does to this operation what `Kill` does.
    pub fn applies_to(self, operation: &Operation) -> bool {
        self != Self::TornWrite || matches!(operation, Operation::Write(_))
    }
}

/// A fault at an operation, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the operation.
    pub at: usize,
    /// What happens.
    pub kind: FaultKind,
}

/// The disk; clones show the same one.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    names: BTreeMap<String, Node>,
    /// The names that a power loss leaves.
    durable: BTreeMap<String, Node>,
    inodes: Vec<Inode>,
    log: Vec<Operation>,
    fault: Option<Fault>,
    has_fired: bool,
    is_dead: bool,
    is_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Dir,
}

#[derive(Clone, Default)]
struct Inode {
    data: Arc<Vec<u8>>,
    /// So many bytes survive a power loss; files are only ever appended to.
    synced: usize,
    /// A sync has failed: later ones succeed and change nothing.
    sync_is_broken: bool,
    writers: usize,
}

/// How an operation goes on after the fault was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Whole,
    ThenDie,
    Tear,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

fn no_space() -> io::Error {
    ErrorKind::StorageFull.into()
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// A path that a real disk would look up elsewhere is a bug of the caller.
fn check(path: &str) -> io::Result<()> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let text = format!("{path:?} is not relative to the repository");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// True if `path` stands directly in `folder`.
fn is_in(path: &str, folder: &str) -> bool {
    !path.is_empty() && parent(path) == folder
}

impl State {
    fn step(&mut self, operation: Operation) -> io::Result<Course> {
        if self.is_dead {
            return Err(dead());
        }
        let number = self.log.len();
        let takes_space = operation.takes_space();
        let is_write = matches!(operation, Operation::Write(_));
        self.log.push(operation);
        let Some(fault) = self.fault.filter(|fault| fault.at == number) else {
            return if self.is_full && takes_space { Err(no_space()) } else { Ok(Course::Whole) };
        };
        self.has_fired = true;
        match fault.kind {
            FaultKind::IoError => Err(io_error()),
            FaultKind::NoSpace => {
                self.is_full = true;
                match (takes_space, is_write) {
                    (_, true) => Ok(Course::Tear),
                    (true, false) => Err(no_space()),
                    (false, false) => Ok(Course::Whole),
                }
            }
            FaultKind::TornWrite if is_write => {
                self.is_dead = true;
                Ok(Course::Tear)
            }
            FaultKind::Kill | FaultKind::TornWrite => {
                self.is_dead = true;
                Err(dead())
            }
            FaultKind::LostRename | FaultKind::LostContent | FaultKind::LostUnsynced => Ok(Course::ThenDie),
        }
    }

    fn end(&mut self, course: Course) {
        self.is_dead |= course == Course::ThenDie;
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead { Err(dead()) } else { Ok(()) }
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        check(path)?;
        if path.is_empty() {
            return Ok(Node::Dir);
        }
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.node(path)? {
            Node::File(inode) => Ok(inode),
            Node::Dir => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn folder(&self, path: &str) -> io::Result<()> {
        match self.node(path)? {
            Node::Dir => Ok(()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn sync_dir(&mut self, folder: &str) {
        self.durable.retain(|path, _| !is_in(path, folder));
        let here = self.names.iter().filter(|(path, _)| is_in(path, folder));
        self.durable.extend(here.map(|(path, node)| (path.clone(), *node)));
    }

    /// Names become what they durably are; what stands in a folder that is lost is lost with it.
    fn lose_names(&mut self) {
        let durable = self.durable.clone();
        let mut names: BTreeMap<String, Node> = BTreeMap::new();
        // In this order a folder comes before what is in it.
        for (path, node) in durable {
            if parent(&path).is_empty() || names.contains_key(parent(&path)) {
                names.insert(path, node);
            }
        }
        self.names = names;
    }

    /// Of what was not synced nothing is left, or a part: both happen.
    fn lose_contents(&mut self) {
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            let torn = if number % 2 == 0 { 0 } else { (inode.data.len() - inode.synced) / 2 };
            let len = inode.synced + torn;
            if len < inode.data.len() {
                Arc::make_mut(&mut inode.data).truncate(len);
            }
        }
    }

    fn settle(&mut self) {
        self.durable = self.names.clone();
        for inode in &mut self.inodes {
            inode.synced = inode.data.len();
            inode.sync_is_broken = false;
        }
    }

    /// A new process finds the disk.
    fn restart(&mut self) {
        self.log.clear();
        self.fault = None;
        self.has_fired = false;
        self.is_dead = false;
        self.is_full = false;
        self.inodes.iter_mut().for_each(|inode| inode.writers = 0);
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state().clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Arms a fault; operations count from 0 again.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.state();
        state.log.clear();
        state.fault = Some(fault);
    }

    /// True if the fault was reached.
    pub fn has_fired(&self) -> bool {
        self.state().has_fired
    }

    /// The operations since the start, or since the fault was armed.
    pub fn operations(&self) -> Vec<Operation> {
        self.state().log.clone()
    }

    /// Forgets the operations so far.
    pub fn forget_operations(&self) {
        self.state().log.clear();
    }

    /// The disk as the next process finds it: what was volatile is lost if the power went, and still volatile if not.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let disk = self.fork();
        {
            let mut state = disk.state();
            let kind = state.fault.filter(|_| state.has_fired).map(|fault| fault.kind);
            let (names, contents) = match kind {
                Some(FaultKind::LostRename) => (true, false),
                Some(FaultKind::LostContent) => (false, true),
                Some(FaultKind::LostUnsynced) => (true, true),
                _ => (false, false),
            };
            state.lose(names, contents);
            state.restart();
        }
        disk
    }

    /// The disk after the power went now: nothing is left that is not durable.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        let disk = self.fork();
        disk.state().lose(true, true);
        disk.state().restart();
        disk
    }

    /// All files.
    pub fn files(&self) -> Vec<String> {
        let state = self.state();
        let is_file = |(path, node): (&String, &Node)| matches!(node, Node::File(_)).then(|| path.clone());
        state.names.iter().filter_map(is_file).collect()
    }

    /// The content of a file.
    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.inodes[state.file(path)?].data.to_vec())
    }

    /// Damages a file, durably.
    pub fn damage(&self, path: &str, damage: &Damage) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.file(path)?;
        if let Some(bytes) = damage.apply(&state.inodes[inode].data) {
            state.inodes[inode].synced = bytes.len();
            state.inodes[inode].data = Arc::new(bytes);
        } else {
            state.names.remove(path);
            state.durable.remove(path);
        }
        Ok(())
    }
}

impl State {
    fn lose(&mut self, names: bool, contents: bool) {
        if names {
            self.lose_names();
        }
        if contents {
            self.lose_contents();
        }
        if names || contents {
            self.settle();
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    /// The name it was created with, for the log.
    path: String,
}

impl Write for SimFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let course = state.step(Operation::Write(self.path.clone()))?;
        let part = if course == Course::Tear { &buf[..buf.len() / 2] } else { buf };
        Arc::make_mut(&mut state.inodes[self.inode].data).extend_from_slice(part);
        state.end(course);
        match course {
            Course::Tear if state.is_dead => Err(dead()),
            Course::Tear => Err(no_space()),
            _ => Ok(buf.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let course = state.step(Operation::Sync(self.path.clone()));
        let inode = &mut state.inodes[self.inode];
        match course {
            Ok(course) => {
                if !inode.sync_is_broken {
                    inode.synced = inode.data.len();
                }
                state.end(course);
                Ok(())
            }
            Err(error) => {
                inode.sync_is_broken = true;
                Err(error)
            }
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let inode = &mut state.inodes[self.inode];
        inode.writers = inode.writers.saturating_sub(1);
    }
}

impl Disk for SimDisk {
    fn location(&self) -> String {
        "a simulated disk".to_owned()
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let course = state.step(Operation::Create(path.to_owned()))?;
        state.folder(parent(path))?;
        if state.node(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.inodes.push(Inode { writers: 1, ..Inode::default() });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), Node::File(inode));
        state.end(course);
        Ok(Box::new(SimFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let course = state.step(Operation::CreateDir(path.to_owned()))?;
        check(path)?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for folder in ends.map(|end| &path[..end]).filter(|folder| !folder.is_empty()) {
            match state.names.get(folder) {
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                Some(Node::Dir) => {}
                None => drop(state.names.insert(folder.to_owned(), Node::Dir)),
            }
        }
        state.end(course);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let course = state.step(Operation::Rename(from.to_owned(), to.to_owned()))?;
        let inode = state.file(from)?;
        state.folder(parent(to))?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), Node::File(inode));
        state.end(course);
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if self.state().node(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let course = state.step(Operation::SyncDir(path.to_owned()))?;
        state.folder(path)?;
        state.sync_dir(path);
        state.end(course);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let course = state.step(Operation::Remove(path.to_owned()))?;
        state.file(path)?;
        state.names.remove(path);
        state.end(course);
        Ok(())
    }

    fn is_abandoned(&self, path: &str) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.inodes[state.file(path)?].writers == 0)
    }

    fn read_at(&self, path: &str, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        state.alive()?;
        let data = &state.inodes[state.file(path)?].data;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(buf.len()).and_then(|end| data.get(start..end));
        buf.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.alive()?;
        let data = &state.inodes[state.file(path)?].data;
        let most = usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX);
        Ok(data[..data.len().min(most)].to_vec())
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, Option<u64>)>> {
        let state = self.state();
        state.alive()?;
        state.folder(path)?;
        let here = state.names.iter().filter(|(name, _)| is_in(name, path));
        let row = |(name, node): (&String, &Node)| {
            let short = name.rsplit('/').next().unwrap_or(name).to_owned();
            match node {
                Node::File(inode) => (short, Some(state.inodes[*inode].data.len() as u64)),
                Node::Dir => (short, None),
            }
        };
        Ok(here.map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `tmp/x` and moves it to `a/x`, syncing only what is asked for.
    fn publish(disk: &SimDisk, sync: bool, sync_dirs: &[&str]) -> io::Result<()> {
        disk.create_dir("tmp")?;
        disk.create_dir("a")?;
        let mut file = disk.create("tmp/x")?;
        file.write_all(b"content")?;
        if sync {
            file.sync()?;
        }
        disk.rename("tmp/x", "a/x")?;
        sync_dirs.iter().try_for_each(|folder| disk.sync_dir(folder))
    }

    #[test]
    fn power_loss_leaves_what_was_synced_and_nothing_else() {
        let check = |sync, sync_dirs: &[&str], expected: Option<&[u8]>| {
            let disk = SimDisk::new();
            publish(&disk, sync, sync_dirs).unwrap();
            assert_eq!(disk.bytes("a/x").unwrap(), b"content");
            let found = disk.after_power_loss().bytes("a/x").ok();
            assert_eq!(found.as_deref(), expected, "{sync} {sync_dirs:?}");
        };
        check(true, &["a", ""], Some(b"content"));
        check(true, &["", "a"], Some(b"content"));
        check(true, &["a"], None);
        check(true, &[""], None);
        check(false, &["a", ""], Some(b""));
        check(true, &[], None);
    }

    #[test]
    fn a_fault_strikes_at_its_operation_and_a_restart_ends_it() {
        let run = |at, kind| {
            let disk = SimDisk::new();
            disk.set_fault(Fault { at, kind });
            let outcome = publish(&disk, true, &["a", ""]);
            assert!(disk.has_fired());
            (outcome.map_err(|error| error.kind()), disk.after_crash())
        };
        // create_dir tmp, create_dir a, create, write, sync, rename, sync_dir a, sync_dir root
        let (outcome, disk) = run(5, FaultKind::Kill);
        assert_eq!((outcome, disk.files()), (Err(ErrorKind::Other), vec!["tmp/x".to_owned()]));
        let (outcome, disk) = run(5, FaultKind::LostRename);
        assert_eq!((outcome, disk.files()), (Err(ErrorKind::Other), vec![]));
        let (outcome, disk) = run(5, FaultKind::LostContent);
        assert_eq!((outcome, disk.bytes("a/x").unwrap()), (Err(ErrorKind::Other), b"content".to_vec()));
        let (outcome, disk) = run(3, FaultKind::TornWrite);
        assert_eq!((outcome, disk.bytes("tmp/x").unwrap()), (Err(ErrorKind::Other), b"con".to_vec()));
        let (outcome, disk) = run(3, FaultKind::NoSpace);
        assert_eq!((outcome, disk.bytes("tmp/x").unwrap()), (Err(ErrorKind::StorageFull), b"con".to_vec()));
        let (outcome, disk) = run(7, FaultKind::LostUnsynced);
        assert_eq!((outcome, disk.bytes("a/x").unwrap()), (Ok(()), b"content".to_vec()));
        disk.create_dir("b").unwrap();
    }

    #[test]
    fn after_a_failed_sync_a_later_one_saves_nothing() {
        let disk = SimDisk::new();
        disk.set_fault(Fault { at: 2, kind: FaultKind::IoError });
        let mut file = disk.create("x").unwrap();
        file.write_all(b"content").unwrap();
        assert!(file.sync().is_err());
        file.sync().unwrap();
        disk.sync_dir("").unwrap();
        assert_eq!(disk.after_power_loss().bytes("x").unwrap(), b"");
    }

    #[test]
    fn files_being_written_are_not_abandoned() {
        let disk = SimDisk::new();
        let file = disk.create("x").unwrap();
        assert!(!disk.is_abandoned("x").unwrap());
        drop(file);
        assert!(disk.is_abandoned("x").unwrap());
    }

    #[test]
    fn absolute_paths_are_refused() {
        let disk = SimDisk::new();
        assert_eq!(disk.list("/tmp").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(disk.create_dir("a/../..").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
