//! Entries of the local cache as bytes. Each stands for itself, so that one can be read alone.

use crate::format::entry::{Content, Data, Entry, Extent, Kind, Large, Links, Meta, Pieces, Place, Stamp};
use crate::id::Digest;

/// An entry with what only the cache needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedEntry {
    /// The entry; its blob numbers count in the cache's own table.
    pub entry: Entry,
    /// `st_dev` when it was read.
    pub device: u64,
    /// It changed so shortly before it was read that a later change could carry the same times.
    pub racy: bool,
    /// It differs from the parent's.
    pub changed: bool,
}

/// Appends an entry.
pub(super) fn encode(out: &mut Vec<u8>, cached: &CachedEntry) {
    let entry = &cached.entry;
    out.push(u8::from(cached.racy) | u8::from(cached.changed) << 1);
    put_bytes(out, &entry.path);
    let meta = &entry.meta;
    for value in [meta.mode, meta.uid, meta.gid] {
        put(out, value.into());
    }
    put_stamp(out, meta.mtime);
    put_stamp(out, meta.ctime);
    put(out, meta.inode);
    put(out, cached.device);
    put(out, meta.links.map_or(0, |links| links.count));
    put(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    put_kind(out, &entry.kind);
}

/// LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(0x80 | low_seven(value));
        value >>= 7;
    }
    out.push(low_seven(value));
}

fn low_seven(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.extend_from_slice(&stamp.seconds.to_le_bytes());
    out.extend_from_slice(&stamp.nanos.to_le_bytes());
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    put(out, place.blob.into());
    put(out, place.offset.into());
}

fn put_kind(out: &mut Vec<u8>, kind: &Kind) {
    let (number, place) = match kind {
        Kind::File(content) => {
            out.push(0);
            return put_content(out, content);
        }
        Kind::Dir(place) => (1, place),
        Kind::Symlink(place, _) => (2, place),
        Kind::Fifo(place) => (3, place),
        Kind::Char(place, ..) => (4, place),
        Kind::Block(place, ..) => (5, place),
    };
    out.push(number);
    put_place(out, *place);
    match kind {
        Kind::Symlink(_, target) => put_bytes(out, target),
        Kind::Char(_, major, minor) | Kind::Block(_, major, minor) => {
            put(out, (*major).into());
            put(out, (*minor).into());
        }
        _ => {}
    }
}

fn put_content(out: &mut Vec<u8>, content: &Content) {
    put(out, content.size);
    out.extend_from_slice(&content.digest.0);
    out.push(u8::from(content.restamp) | u8::from(content.was.is_some()) << 1);
    if let Some(was) = &content.was {
        put_bytes(out, was);
    }
    match &content.data {
        Data::Record(place) => {
            out.push(0);
            put_place(out, *place);
        }
        Data::Large(large) => put_large(out, large),
    }
}

fn put_large(out: &mut Vec<u8>, large: &Large) {
    let kind = if matches!(large.pieces, Pieces::Chunks(_)) { 1 } else { 2 };
    out.push(kind | if large.map.is_some() { 4 } else { 0 });
    put(out, large.head.into());
    match &large.pieces {
        Pieces::Chunks(blobs) => {
            put(out, blobs.len() as u64);
            blobs.iter().for_each(|&blob| put(out, blob.into()));
        }
        Pieces::Extents(extents) => {
            put(out, extents.len() as u64);
            for extent in extents {
                [extent.blob, extent.offset, extent.len].iter().for_each(|&n| put(out, n.into()));
            }
        }
    }
    if let Some(map) = &large.map {
        put(out, map.len() as u64);
        for &(offset, len) in map {
            put(out, offset);
            put(out, len);
        }
    }
}

/// Reads what `encode` wrote; `None` where it runs out or makes no sense.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    /// A count of items of at least one byte each.
    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|&count| count <= self.rest.len())
    }

    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = self.count()?;
        self.take(len).map(<[u8]>::to_vec)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let seconds = i64::from_le_bytes(self.array()?);
        let nanos = u32::from_le_bytes(self.array()?);
        Some(Stamp { seconds, nanos })
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { blob: self.small()?, offset: self.small()? })
    }

    pub(super) fn entry(&mut self) -> Option<CachedEntry> {
        let flags = self.byte()?;
        let path = self.bytes()?;
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let (mtime, ctime) = (self.stamp()?, self.stamp()?);
        let (inode, device, count) = (self.number()?, self.number()?, self.number()?);
        let links = (count != 0).then_some(Links { count, device });
        let meta = Meta { mode, uid, gid, mtime, ctime, inode, links };
        let xattrs =
            (0..self.count()?).map(|_| Some((self.bytes()?, self.bytes()?))).collect::<Option<_>>()?;
        let kind = self.kind()?;
        let entry = Entry { path, kind, meta, xattrs };
        Some(CachedEntry { entry, device, racy: flags & 1 != 0, changed: flags & 2 != 0 })
    }

    fn kind(&mut self) -> Option<Kind> {
        let number = self.byte()?;
        if number == 0 {
            return self.content().map(Kind::File);
        }
        let place = self.place()?;
        Some(match number {
            1 => Kind::Dir(place),
            2 => Kind::Symlink(place, self.bytes()?),
            3 => Kind::Fifo(place),
            4 => Kind::Char(place, self.small()?, self.small()?),
            5 => Kind::Block(place, self.small()?, self.small()?),
            _ => return None,
        })
    }

    fn content(&mut self) -> Option<Content> {
        let size = self.number()?;
        let digest = Digest(self.array()?);
        let flags = self.byte()?;
        let was = if flags & 2 != 0 { Some(self.bytes()?) } else { None };
        let data = match self.byte()? {
            0 => Data::Record(self.place()?),
            kind => Data::Large(self.large(kind)?),
        };
        Some(Content { size, digest, data, was, restamp: flags & 1 != 0 })
    }

    fn large(&mut self, kind: u8) -> Option<Large> {
        let head = self.small()?;
        let count = self.count()?;
        let pieces = match kind & 3 {
            1 => Pieces::Chunks((0..count).map(|_| self.small()).collect::<Option<_>>()?),
            2 => Pieces::Extents((0..count).map(|_| self.extent()).collect::<Option<_>>()?),
            _ => return None,
        };
        let map = if kind & 4 != 0 {
            let count = self.count()?;
            Some((0..count).map(|_| Some((self.number()?, self.number()?))).collect::<Option<_>>()?)
        } else {
            None
        };
        Some(Large { head, pieces, map })
    }

    fn extent(&mut self) -> Option<Extent> {
        Some(Extent { blob: self.small()?, offset: self.small()?, len: self.small()? })
    }
}
