//! A file that changes while its names are read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reliab_repo::archive::backup;
use reliab_repo::event::Events;
use reliab_repo::format::entry::Entry;
use reliab_repo::walk::snapshot_path;

use crate::engine::{local, options, restored_at};
use crate::generator::Generator;
use crate::tree::{Scratch, set_mode, set_mtime};

/// What is done to the file, given its first name; taken when it is done.
type Change<'a> = Mutex<Option<Box<dyn FnOnce(&Path) + Send + 'a>>>;

/// A backup of a file with the names `a/x`, `z/x` and `z/y`, which changes when `a/x` has been read, and no other yet.
pub struct BetweenNames {
    scratch: Scratch,
}

/// Changes a file when it has been read under its first name.
struct Changing<'a> {
    first: PathBuf,
    change: Change<'a>,
}

impl Events for Changing<'_> {
    fn entry(&self, _old: Option<&Entry>, new: Option<&Entry>) {
        let is_first = new.is_some_and(|entry| entry.path == snapshot_path(&self.first));
        let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = change.take_if(|_| is_first) {
            change(&self.first);
        }
    }
}

impl BetweenNames {
    /// Backs up a file with this content.
    ///
    /// # Panics
    /// If the scratch folder cannot be made, or the backup fails.
    #[must_use]
    pub fn new(content: &[u8], change: impl FnOnce(&Path) + Send) -> Self {
        let scratch = Scratch::new().expect("a scratch folder");
        let [a, m, z] = ["a", "m", "z"].map(|name| scratch.path().join("source").join(name));
        let made = [&a, &m, &z].iter().try_for_each(fs::create_dir_all);
        let first = a.join("x");
        made.and_then(|()| fs::write(&first, content))
            .and_then(|()| fs::hard_link(&first, z.join("x")))
            .and_then(|()| fs::hard_link(&first, z.join("y")))
            .expect("a file with three names");
        let mut options = options(&a, &scratch.path().join("cache"));
        // Sources are listed one after another, the next one at most ahead.
        options.sources = vec![a, m, z];
        let events = Changing { first, change: Mutex::new(Some(Box::new(change))) };
        backup(local(&scratch.path().join("repo")), &options, &events).expect("a backup");
        let is_done = events.change.into_inner().is_ok_and(|change| change.is_none());
        assert!(is_done, "a/x was not read");
        Self { scratch }
    }

    /// Each kind of change, to a small file and a large one: the content grows, the content alone is another, the mode is.
    ///
    /// # Panics
    /// As `new` does.
    pub fn each(mut check: impl FnMut(&Self)) {
        let changes: [fn(&Path) -> io::Result<()>; 3] = [append, rewrite, |path| set_mode(path, 0o600)];
        for len in [100, 3_000_000] {
            for change in changes {
                check(&Self::new(&Generator::new(5).bytes(len), |path| {
                    let was = path.with_file_name("was");
                    copy(path, &was).and_then(|()| change(path)).expect("a changed file");
                }));
            }
        }
    }

    /// The file as it was when it was read under each of its names, of those that `each` makes.
    #[must_use]
    pub fn expected(&self) -> [PathBuf; 3] {
        ["a/was", "z/x", "z/y"].map(|name| self.path().join("source").join(name))
    }

    /// The folder that all is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Where the repository is.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.path().join("repo")
    }

    /// Where a restore puts the three names.
    #[must_use]
    pub fn restored(&self, target: &Path) -> [PathBuf; 3] {
        let top = restored_at(target, &self.path().join("source"));
        ["a/x", "z/x", "z/y"].map(|name| top.join(name))
    }
}

/// Copies a file with its mode and mtime, and starts no program: that could hold locks of other tests for a moment.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    set_time_of(to, &fs::metadata(from)?)
}

/// Gives a file the mtime of another.
pub fn set_time_of(path: &Path, other: &fs::Metadata) -> io::Result<()> {
    set_mtime(path, other.mtime(), u32::try_from(other.mtime_nsec()).unwrap_or_default())
}

fn append(path: &Path) -> io::Result<()> {
    fs::File::options().append(true).open(path)?.write_all(b"what came later")
}

/// Other content of the same length, with the same mtime.
fn rewrite(path: &Path) -> io::Result<()> {
    let before = fs::metadata(path)?;
    let content = fs::read(path)?;
    fs::write(path, content.iter().map(|byte| byte ^ 1).collect::<Vec<_>>())?;
    set_time_of(path, &before)
}
