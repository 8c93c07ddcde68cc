//! Which file a name belongs to, where files have several names.

use super::entry::{Entry, Kind};
use crate::id::Digest;

/// A file with several names: entries for which this is equal are names of one file.
///
/// Device and inode alone do not say so. A file that changed between the reading of two of its names is in the snapshot
/// as it was at both times, and only one of them could come back if the names were linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkedFile {
    /// `st_dev` on the source.
    pub device: u64,
    /// Inode number on the source.
    pub inode: u64,
    /// What the entry says of the file: its type, content, mode, owner, mtime and extended attributes.
    pub state: Digest,
}

impl LinkedFile {
    /// The file that an entry is a name of; `None` for a file with one name.
    pub fn of(entry: &Entry) -> Option<Self> {
        let links = entry.meta.links?;
        Some(Self { device: links.device, inode: entry.meta.inode, state: state_of(entry) })
    }
}

/// A hash of all that a name brings back. The time of change and the number of names are no part of it: both change with
/// each new name, which makes no other file of it.
fn state_of(entry: &Entry) -> Digest {
    let mut text = Vec::with_capacity(128);
    let meta = &entry.meta;
    for number in [meta.mode, meta.uid, meta.gid, meta.mtime.nanos] {
        text.extend_from_slice(&number.to_le_bytes());
    }
    text.extend_from_slice(&meta.mtime.seconds.to_le_bytes());
    put_text(&mut text, entry.kind.word().as_bytes());
    match &entry.kind {
        Kind::File(content) => {
            text.extend_from_slice(&content.size.to_le_bytes());
            text.extend_from_slice(&content.digest.0);
        }
        Kind::Symlink(_, target) => put_text(&mut text, target),
        Kind::Char(_, major, minor) | Kind::Block(_, major, minor) => {
            text.extend_from_slice(&major.to_le_bytes());
            text.extend_from_slice(&minor.to_le_bytes());
        }
        Kind::Dir(_) | Kind::Fifo(_) => {}
    }
    for (name, value) in &entry.xattrs {
        put_text(&mut text, name);
        put_text(&mut text, value);
    }
    Digest(*blake3::hash(&text).as_bytes())
}

/// Appends bytes after their length, so that no two lists of them look alike.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Content, Data, Links, Meta, Place, Stamp};

    fn entry() -> Entry {
        let place = Place { blob: 0, offset: 0 };
        let digest = Digest([1; 32]);
        let content = Content { size: 5, digest, data: Data::Record(place), was: None, restamp: false };
        let meta = Meta { inode: 7, links: Some(Links { count: 2, device: 1 }), ..Meta::default() };
        let xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
        Entry { path: b"a".to_vec(), kind: Kind::File(content), meta, xattrs }
    }

    fn changed(change: impl FnOnce(&mut Entry)) -> Option<LinkedFile> {
        let mut entry = entry();
        change(&mut entry);
        LinkedFile::of(&entry)
    }

    fn content(entry: &mut Entry) -> &mut Content {
        match &mut entry.kind {
            Kind::File(content) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_it_is_stored_and_how_many_names_it_has_make_no_other_file() {
        let file = LinkedFile::of(&entry());
        assert!(file.is_some());
        assert_eq!(changed(|entry| entry.path = b"b".to_vec()), file);
        assert_eq!(changed(|entry| entry.meta.ctime.nanos = 1), file);
        assert_eq!(changed(|entry| entry.meta.links = Some(Links { count: 3, device: 1 })), file);
        assert_eq!(changed(|entry| content(entry).restamp = true), file);
        assert_eq!(changed(|entry| content(entry).data = Data::Record(Place { blob: 9, offset: 512 })), file);
        assert_eq!(changed(|entry| entry.meta.links = None), None);
    }

    #[test]
    fn whatever_a_restore_brings_back_makes_another_file() {
        let mut files = vec![
            LinkedFile::of(&entry()),
            changed(|entry| entry.meta.inode = 8),
            changed(|entry| entry.meta.links = Some(Links { count: 2, device: 2 })),
            changed(|entry| entry.meta.mode = 0o644),
            changed(|entry| entry.meta.uid = 1),
            changed(|entry| entry.meta.gid = 1),
            changed(|entry| entry.meta.mtime = Stamp { seconds: 1, nanos: 0 }),
            changed(|entry| entry.meta.mtime = Stamp { seconds: 0, nanos: 1 }),
            changed(|entry| content(entry).size = 6),
            changed(|entry| content(entry).digest = Digest([2; 32])),
            changed(|entry| entry.xattrs.clear()),
            changed(|entry| entry.xattrs = vec![(b"user.ab".to_vec(), b"".to_vec())]),
        ];
        let place = Place { blob: 0, offset: 0 };
        for kind in [
            Kind::Symlink(place, b"x".to_vec()),
            Kind::Symlink(place, b"y".to_vec()),
            Kind::Fifo(place),
            Kind::Char(place, 1, 2),
            Kind::Char(place, 1, 3),
            Kind::Block(place, 1, 2),
        ] {
            files.push(changed(|entry| entry.kind = kind));
        }
        let distinct: std::collections::HashSet<_> = files.iter().collect();
        assert_eq!(distinct.len(), files.len());
    }
}
