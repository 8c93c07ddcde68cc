//! Files with several names: which of their names were made, and which were there before and are kept.

use std::collections::HashMap;

use crate::format::entry::{Entry, Links};

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
    to: Option<Vec<u8>>,
    made: Vec<Vec<u8>>,
    /// Names that were kept, while none was made.
    kept: Vec<Vec<u8>>,
    /// Names still to come.
    left: u64,
}

/// How a name is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Making {
    /// With the content: no name of the file is there to be linked.
    Content,
    /// The same, though this name of the file was kept: what it names is not what the snapshot has.
    Apart(Vec<u8>),
    /// As another name of what stands here.
    Link(Vec<u8>),
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
        let Some((key, names)) = self.names(entry) else { return Making::Content };
        let making = if let Some(to) = &names.to {
            Making::Link(to.clone())
        } else {
            let kept = std::mem::take(&mut names.kept);
            if let Some(same) = kept.iter().find(|kept| is_same(kept)) {
                names.to = Some(same.clone());
                Making::Link(same.clone())
            } else {
                names.to = Some(entry.path.clone());
                kept.into_iter().next().map_or(Making::Content, Making::Apart)
            }
        };
        if may_keep && names.to.as_ref().is_some_and(|to| *to == entry.path || names.made.contains(to)) {
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
                names.to = Some(entry.path.clone());
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

    #[test]
    fn names_are_linked_to_the_first_one_made() {
        let mut files = LinkedFiles::new(false);
        assert_eq!(files.made(&name("a"), |_| false), Making::Content);
        assert_eq!(files.made(&name("b"), |_| false), Making::Link(b"a".to_vec()));
        files.made(&name("c"), |_| false);
        files.made(&name("d"), |_| false);
        assert!(files.files.is_empty(), "no name is to come");
    }

    #[test]
    fn a_kept_name_that_is_as_it_should_be_is_what_the_others_become() {
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.made(&name("a"), |_| true), Making::Content);
        assert_eq!(files.made(&name("b"), |_| true), Making::Link(b"a".to_vec()));
        assert_eq!(files.kept(&name("c"), |_| true), Keeping::Join(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(files.made(&name("d"), |_| true), Making::Link(b"c".to_vec()));
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.kept(&name("a"), |_| true), Keeping::Alone);
        assert_eq!(files.made(&name("b"), |_| true), Making::Link(b"a".to_vec()));
        assert_eq!(files.kept(&name("c"), |_| true), Keeping::Alone);
    }

    #[test]
    fn a_kept_name_of_something_else_stays_apart() {
        let mut files = LinkedFiles::new(true);
        assert_eq!(files.kept(&name("a"), |_| false), Keeping::Alone);
        assert_eq!(files.made(&name("b"), |_| false), Making::Apart(b"a".to_vec()));
        assert_eq!(files.kept(&name("c"), |_| false), Keeping::Apart(b"b".to_vec()));
        assert_eq!(files.made(&name("d"), |_| false), Making::Link(b"b".to_vec()));
        let mut files = LinkedFiles::new(true);
        files.kept(&name("a"), |_| false);
        files.kept(&name("b"), |_| false);
        assert_eq!(files.made(&name("c"), |path| path == b"b"), Making::Link(b"b".to_vec()));
    }
}
