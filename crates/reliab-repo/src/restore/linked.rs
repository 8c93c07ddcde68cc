//! Files with several names: which of their names were made, and which were there before and are kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::entry::Entry;
use crate::format::linked::LinkedFile;
use crate::id::Digest;

/// The name of a file that its other names are linked to, shared with the threads that make it.
///
/// What stands at its path says nothing: an older file stays there where this run could not make the new one.
#[derive(Debug)]
pub(super) struct First(Mutex<FirstState>);

#[derive(Debug)]
struct FirstState {
    path: Vec<u8>,
    presence: Presence,
    /// Names that could not be made before this one.
    refused: u32,
}

/// Whether a first name is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Not yet.
    Awaited,
    /// This run made it, or it was kept and is what the snapshot has.
    There,
    /// The repository's data of it are missing or damaged.
    Damaged,
    /// The target did not take it.
    Refused,
}

/// Names of one file that are tried in turn. A repository may name one file any number of times.
const TRIED: u32 = 100;

impl First {
    fn new(path: &[u8], presence: Presence) -> Arc<Self> {
        Arc::new(Self(Mutex::new(FirstState { path: path.to_vec(), presence, refused: 0 })))
    }

    /// Notes what became of it.
    pub(super) fn is_now(&self, presence: Presence) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).presence = presence;
    }

    /// Its path, and whether it is there.
    pub(super) fn get(&self) -> (Vec<u8>, Presence) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.path.clone(), state.presence)
    }

    /// Puts another name in the place of one that was refused; false if enough were.
    pub(super) fn becomes(&self, path: &[u8]) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.refused >= TRIED {
            return false;
        }
        *state = FirstState { path: path.to_vec(), presence: Presence::Awaited, refused: state.refused + 1 };
        true
    }
}

/// Tells those who wait for a first name, if it is one, what became of it.
pub(super) fn note(first: Option<&Arc<First>>, presence: Presence) {
    if let Some(first) = first {
        first.is_now(presence);
    }
}

/// The files of which more names may come, by device and inode.
pub(super) struct LinkedFiles {
    files: HashMap<(u64, u64), Inode>,
    /// True where a name may be kept: then all names that are made are held, to be joined to one that is kept later.
    may_keep: bool,
}

/// An inode of the source: one file, or several if it changed between the reading of its names.
struct Inode {
    /// What the name that came first says of it.
    state: Digest,
    /// The names that say the same.
    names: Names,
    /// Those that say something else, by what they say.
    others: HashMap<Digest, Names>,
}

/// The names of one file that came so far.
#[derive(Default)]
struct Names {
    /// The name that others are made to be: one that was kept and is as it should be, or else the first that was made.
    to: Option<Arc<First>>,
    /// True if that one was kept.
    is_kept: bool,
    made: Vec<Vec<u8>>,
    /// Names that were kept, while none was made.
    kept: Vec<Vec<u8>>,
    /// How many came.
    came: u64,
    /// How many there are at most; more were made while names were read.
    count: u64,
}

/// A name that comes.
struct Coming<'a> {
    key: (u64, u64),
    /// The names of its file.
    names: &'a mut Names,
    /// A name of what the inode was before, if this is the first of what it is now.
    changed: Option<Vec<u8>>,
}

impl Inode {
    /// The names of one state; and, if this is another than the first, and new, a name that has the first.
    fn names(&mut self, state: Digest) -> (&mut Names, Option<Vec<u8>>) {
        if state == self.state {
            return (&mut self.names, None);
        }
        match self.others.entry(state) {
            Slot::Occupied(names) => (names.into_mut(), None),
            Slot::Vacant(slot) => (slot.insert(Names::default()), self.names.any()),
        }
    }

    /// True if no name is to come. Where names say different things it is not known how many say what.
    fn is_complete(&self) -> bool {
        self.others.is_empty() && self.names.came >= self.names.count
    }
}

impl Names {
    fn any(&self) -> Option<Vec<u8>> {
        self.to.as_ref().map(|to| to.get().0).or_else(|| self.kept.first().cloned())
    }
}

/// How a name is made.
#[derive(Debug)]
pub(super) enum Making {
    /// With the content: no name of the file is there to be linked. Others may be linked to this one.
    Content(Option<Arc<First>>),
    /// The same, though there is another name of the inode.
    Apart(Apart, Arc<First>),
    /// As another name of this one.
    Link(Arc<First>),
}

/// Why a name is made a file of its own, though the source had it as another name of one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// This name was kept, and what it names is not what the snapshot has.
    Kept(Vec<u8>),
    /// The file changed after it was read under this name.
    Changed(Vec<u8>),
}

/// What a name that is kept means to those made before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Nothing.
    Alone,
    /// It is the file that they should be: they become names of it.
    Join(Vec<Vec<u8>>),
    /// It is another file than the snapshot has, so this name, which was made, stays one of another file.
    Apart(Vec<u8>),
}

impl LinkedFiles {
    /// No names yet; `may_keep` where names that are there may be kept as they are.
    pub(super) fn new(may_keep: bool) -> Self {
        Self { files: HashMap::new(), may_keep }
    }

    /// Notes a name that is about to be made; `is_same` says whether a kept name stands for what the snapshot has.
    pub(super) fn made(&mut self, entry: &Entry, is_same: impl Fn(&[u8]) -> bool) -> Making {
        let may_keep = self.may_keep;
        let Some(Coming { key, names, changed }) = self.coming(entry) else { return Making::Content(None) };
        let making = if let Some(to) = &names.to {
            Making::Link(Arc::clone(to))
        } else {
            let kept = std::mem::take(&mut names.kept);
            if let Some(same) = kept.iter().find(|kept| is_same(kept)) {
                names.is_kept = true;
                Making::Link(Arc::clone(names.to.insert(First::new(same, Presence::There))))
            } else {
                let first = Arc::clone(names.to.insert(First::new(&entry.path, Presence::Awaited)));
                let apart = kept.into_iter().next().map(Apart::Kept).or(changed.map(Apart::Changed));
                match apart {
                    None => Making::Content(Some(first)),
                    Some(apart) => Making::Apart(apart, first),
                }
            }
        };
        if may_keep && !names.is_kept {
            names.made.push(entry.path.clone());
        }
        self.forget_complete(key);
        making
    }

    /// Notes a name that is kept as it is.
    pub(super) fn kept(&mut self, entry: &Entry, is_same: impl Fn(&[u8]) -> bool) -> Keeping {
        let Some(Coming { key, names, .. }) = self.coming(entry) else { return Keeping::Alone };
        let keeping = match names.made.first() {
            None if names.to.is_none() => {
                names.kept.push(entry.path.clone());
                Keeping::Alone
            }
            None => Keeping::Alone,
            Some(_) if is_same(&entry.path) => {
                names.to = Some(First::new(&entry.path, Presence::There));
                names.is_kept = true;
                Keeping::Join(std::mem::take(&mut names.made))
            }
            Some(first) => Keeping::Apart(first.clone()),
        };
        self.forget_complete(key);
        keeping
    }

    /// Counts a name that comes, if its file has others.
    fn coming(&mut self, entry: &Entry) -> Option<Coming<'_>> {
        let count = entry.meta.links?.count;
        let LinkedFile { device, inode, state } = LinkedFile::of(entry)?;
        let key = (device, inode);
        if count < 2 && !self.files.contains_key(&key) {
            return None;
        }
        let inode = self.files.entry(key).or_insert_with(|| Inode {
            state,
            names: Names::default(),
            others: HashMap::new(),
        });
        let (names, changed) = inode.names(state);
        names.came += 1;
        names.count = names.count.max(count);
        Some(Coming { key, names, changed })
    }

    fn forget_complete(&mut self, key: (u64, u64)) {
        if self.files.get(&key).is_some_and(Inode::is_complete) {
            self.files.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Kind, Links, Meta, Place};

    fn name(path: &str) -> Entry {
        let meta = Meta { inode: 7, links: Some(Links { count: 4, device: 1 }), ..Meta::default() };
        let kind = Kind::Fifo(Place { blob: 0, offset: 0 });
        Entry { path: path.into(), kind, meta, xattrs: Vec::new() }
    }

    /// What is to be done, and with which name.
    fn told(making: Making) -> String {
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
        match making {
            Making::Content(_) => "content".to_owned(),
            Making::Apart(Apart::Kept(kept), _) => format!("apart from {}", text(&kept)),
            Making::Apart(Apart::Changed(other), _) => format!("changed since {}", text(&other)),
            Making::Link(first) => format!("link to {}", text(&first.get().0)),
        }
    }

    #[test]
    fn names_are_linked_to_the_first_one_made() {
        let mut files = LinkedFiles::new(false);
        assert_eq!(told(files.made(&name("a"), |_| false)), "content");
        assert_eq!(told(files.made(&name("b"), |_| false)), "link to a");
        files.made(&name("c"), |_| false);
        files.made(&name("d"), |_| false);
        assert!(files.files.is_empty(), "no name is to come");
    }

    #[test]
    fn a_kept_name_that_is_as_it_should_be_is_what_the_others_become() {
        let mut files = LinkedFiles::new(true);
        assert_eq!(told(files.made(&name("a"), |_| true)), "content");
        assert_eq!(told(files.made(&name("b"), |_| true)), "link to a");
        assert_eq!(files.kept(&name("c"), |_| true), Keeping::Join(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(told(files.made(&name("d"), |_| true)), "link to c");
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.kept(&name("a"), |_| true), Keeping::Alone);
        assert_eq!(told(files.made(&name("b"), |_| true)), "link to a");
        assert_eq!(files.kept(&name("c"), |_| true), Keeping::Alone);
    }

    #[test]
    fn a_kept_name_of_something_else_stays_apart() {
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.kept(&name("a"), |_| false), Keeping::Alone);
        assert_eq!(told(files.made(&name("b"), |_| false)), "apart from a");
        assert_eq!(files.kept(&name("c"), |_| false), Keeping::Apart(b"b".to_vec()));
        assert_eq!(told(files.made(&name("d"), |_| false)), "link to b");
        let mut files = LinkedFiles::new(true);
        files.kept(&name("a"), |_| false);
        files.kept(&name("b"), |_| false);
        assert_eq!(told(files.made(&name("c"), |path| path == b"b")), "link to b");
    }

    /// A name that was read when the file had another mode.
    fn later(path: &str) -> Entry {
        let mut entry = name(path);
        entry.meta.mode = 0o600;
        entry
    }

    #[test]
    fn names_that_were_read_at_different_times_are_linked_to_their_like() {
        let mut files = LinkedFiles::new(false);
        assert_eq!(told(files.made(&name("a"), |_| false)), "content");
        assert_eq!(told(files.made(&later("b"), |_| false)), "changed since a");
        assert_eq!(told(files.made(&later("c"), |_| false)), "link to b");
        assert_eq!(told(files.made(&name("d"), |_| false)), "link to a");
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.kept(&name("a"), |_| true), Keeping::Alone);
        assert_eq!(told(files.made(&later("b"), |_| true)), "changed since a");
        assert_eq!(files.kept(&later("c"), |_| true), Keeping::Join(vec![b"b".to_vec()]));
        assert_eq!(told(files.made(&name("d"), |_| true)), "link to a");
    }

    #[test]
    fn a_name_that_was_added_meanwhile_is_one_more() {
        let mut files = LinkedFiles::new(false);
        let with = |path, count| {
            let mut entry = name(path);
            entry.meta.links = Some(Links { count, device: 1 });
            entry
        };
        assert_eq!(told(files.made(&with("a", 2), |_| false)), "content");
        assert_eq!(told(files.made(&with("b", 3), |_| false)), "link to a");
        assert_eq!(told(files.made(&with("c", 3), |_| false)), "link to a");
        assert!(files.files.is_empty(), "no name is to come");
    }
}
