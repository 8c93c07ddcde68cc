//! One entry of a manifest: what `lstat` said, and where the content is.

use crate::id::Digest;

/// Seconds since 1970 (floor) and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Whole seconds, rounded down; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// A file, folder, link or special file of a snapshot. Blobs are numbers into the table of its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path in the snapshot, raw bytes.
    pub path: Vec<u8>,
    /// Type, and what only this type has.
    pub kind: Kind,
    /// Owner, mode and times.
    pub meta: Meta,
    /// Extended attributes, sorted by name; ACLs and capabilities among them.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What every type of entry has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The low twelve bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content changed.
    pub mtime: Stamp,
    /// Inode changed.
    pub ctime: Stamp,
    /// Inode number on the source.
    pub inode: u64,
    /// Hard-link group, when the inode has more than one name.
    pub links: Option<Links>,
}

/// An inode with several names: entries with equal device and inode are one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// `st_nlink`.
    pub count: u64,
    /// `st_dev`.
    pub device: u64,
}

/// Type of an entry, with its content or place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File(Content),
    /// Folder.
    Dir(Place),
    /// Symbolic link and its target.
    Symlink(Place, Vec<u8>),
    /// Named pipe.
    Fifo(Place),
    /// Character device: major, minor.
    Char(Place, u32, u32),
    /// Block device: major, minor.
    Block(Place, u32, u32),
}

/// Where a record begins: number of the bundle, offset in its content in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the bundle in the page's table.
    pub blob: u32,
    /// Offset in bytes.
    pub offset: u32,
}

/// Content of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Length in bytes, holes included.
    pub size: u64,
    /// BLAKE3 of the content, holes read as zeros.
    pub digest: Digest,
    /// Where the bytes are.
    pub data: Data,
    /// The path in the record, where it differs from the entry's.
    pub was: Option<Vec<u8>>,
    /// Mode, owner or mtime of the record differ from the entry's.
    pub restamp: bool,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In a record of a bundle.
    Record(Place),
    /// In blobs of its own.
    Large(Large),
}

/// A file in blobs of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    /// The blob with the header blocks.
    pub head: u32,
    /// The data, in order.
    pub pieces: Pieces,
    /// Data segments (offset, length) of a file with holes, in order; `None` without holes.
    pub map: Option<Vec<(u64, u64)>>,
}

/// The data of a large file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// Whole blobs; of the last what is needed.
    Chunks(Vec<u32>),
    /// Parts of blobs.
    Extents(Vec<Extent>),
}

/// A part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of the blob in the page's table.
    pub blob: u32,
    /// Offset in the blob's content, bytes.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Pieces {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Chunks(chunks) => chunks.len(),
            Self::Extents(extents) => extents.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Large {
    /// Bytes of data stored for a file of `size` bytes: all of it, or its data segments.
    pub fn stored_len(&self, size: u64) -> u64 {
        self.map.as_ref().map_or(size, |map| map.iter().map(|&(_, len)| len).sum())
    }
}

impl Kind {
    /// The word for the type in pages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Dir(_) => "dir",
            Self::Symlink(..) => "symlink",
            Self::Fifo(_) => "fifo",
            Self::Char(..) => "char",
            Self::Block(..) => "block",
        }
    }

    /// Says where the record of an entry that is no file is.
    pub fn set_place(&mut self, new: Place) {
        match self {
            Self::File(_) => {}
            Self::Dir(place)
            | Self::Symlink(place, _)
            | Self::Fifo(place)
            | Self::Char(place, ..)
            | Self::Block(place, ..) => *place = new,
        }
    }

    /// Calls `f` on every blob number, to look it up or to renumber it.
    pub fn for_each_blob(&mut self, mut f: impl FnMut(&mut u32)) {
        match self {
            Self::File(Content { data: Data::Large(large), .. }) => {
                f(&mut large.head);
                match &mut large.pieces {
                    Pieces::Chunks(blobs) => blobs.iter_mut().for_each(f),
                    Pieces::Extents(extents) => extents.iter_mut().for_each(|e| f(&mut e.blob)),
                }
            }
            Self::File(Content { data: Data::Record(place), .. })
            | Self::Dir(place)
            | Self::Symlink(place, _)
            | Self::Fifo(place)
            | Self::Char(place, ..)
            | Self::Block(place, ..) => f(&mut place.blob),
        }
    }
}

impl Entry {
    /// Where its record is; `None` for a large file.
    pub fn place(&self) -> Option<Place> {
        match &self.kind {
            Kind::File(content) => match &content.data {
                Data::Record(place) => Some(*place),
                Data::Large(_) => None,
            },
            Kind::Dir(place)
            | Kind::Symlink(place, _)
            | Kind::Fifo(place)
            | Kind::Char(place, ..)
            | Kind::Block(place, ..) => Some(*place),
        }
    }

    /// True if both describe the same file, wherever its content is stored.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let content = |entry: &Self| match &entry.kind {
            Kind::File(content) => Some((content.size, content.digest)),
            _ => None,
        };
        (&self.path, self.meta, &self.xattrs, content(self))
            == (&other.path, other.meta, &other.xattrs, content(other))
    }

    /// True for a folder.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir(_))
    }

    /// Size of a regular file in bytes, 0 for everything else.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.size,
            _ => 0,
        }
    }
}
