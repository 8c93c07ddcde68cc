//! Files with several names: which of their names were made, and which were there before and are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::entry::{Entry, Links};

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

/// The files of which more names may come.
pub(super) struct LinkedFiles {
    files: HashMap<(u64, u64), Names>,
    /// True where a name may be kept: then all names that are made are held, to be joined to one that is kept later.
    may_keep: bool,
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
    /// Names still to come.
    left: u64,
}

/// How a name is made.
#[derive(Debug)]
pub(super) enum Making {
    /// With the content: no name of the file is there to be linked. Others may be linked to this one.
    Content(Option<Arc<First>>),
    /// The same, though this name of the file was kept: what it names is not what the snapshot has.
    Apart(Vec<u8>, Arc<First>),
    /// As another name of this one.
    Link(Arc<First>),
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
        let Some((key, names)) = self.names(entry) else { return Making::Content(None) };
        let making = if let Some(to) = &names.to {
            Making::Link(Arc::clone(to))
        } else {
            let kept = std::mem::take(&mut names.kept);
            if let Some(same) = kept.iter().find(|kept| is_same(kept)) {
                names.is_kept = true;
                Making::Link(Arc::clone(names.to.insert(First::new(same, Presence::There))))
            } else {
                let first = Arc::clone(names.to.insert(First::new(&entry.path, Presence::Awaited)));
                match kept.into_iter().next() {
                    None => Making::Content(Some(first)),
                    Some(kept) => Making::Apart(kept, first),
                }
            }
        };
        if may_keep && !names.is_kept {
            names.made.push(entry.path.clone());
        }
        self.came(key);
        making
    }

    /// Notes a name that is kept as it is.
    pub(super) fn kept(&mut self, entry: &Entry, is_same: impl Fn(&[u8]) -> bool) -> Keeping {
        let Some((key, names)) = self.names(entry) else { return Keeping::Alone };
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
        self.came(key);
        keeping
    }

    fn names(&mut self, entry: &Entry) -> Option<((u64, u64), &mut Names)> {
        let Links { count, device } = entry.meta.links?;
        let key = (device, entry.meta.inode);
        if count < 2 && !self.files.contains_key(&key) {
            return None;
        }
        Some((key, self.files.entry(key).or_insert_with(|| Names { left: count, ..Names::default() })))
    }

    fn came(&mut self, key: (u64, u64)) {
        if let Some(names) = self.files.get_mut(&key) {
            names.left -= 1;
            if names.left == 0 {
                self.files.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Kind, Meta, Place};

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
            Making::Apart(kept, _) => format!("apart from {}", text(&kept)),
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
}
