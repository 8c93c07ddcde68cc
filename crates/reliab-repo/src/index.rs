//! Which blob is in which pack, where: the packs' tables, merged and held in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::table::{
    BlobKind, FRAME_HEADER_LEN, PackTable, TRAILER_LEN, TableRow, decode_index, decode_table, encode_index,
    frame_len,
};
use crate::format::{METADATA_LIMIT, Malformed};
use crate::id::{BlobId, ObjectId};
use crate::storage::{Object, Storage, pack_key};

/// A pack that an index names or that lies in the repository.
#[derive(Clone, Debug)]
pub struct PackInfo {
    /// Its name.
    pub id: ObjectId,
    /// False if it is missing or has the wrong length.
    pub present: bool,
}

/// Where a blob is.
#[derive(Clone, Copy, Debug)]
pub struct BlobPlace<'a> {
    /// The pack.
    pub pack: &'a PackInfo,
    /// What the blob holds.
    pub kind: BlobKind,
    /// Where its frame begins in the pack, bytes.
    pub offset: u32,
    /// Length of the frame, bytes.
    pub stored: u32,
    /// Length of the content, bytes.
    pub len: u32,
}

/// 52 bytes a blob.
#[derive(Clone, Copy)]
struct Row {
    id: BlobId,
    pack: u32,
    offset: u32,
    stored: u32,
    len: u32,
    kind: BlobKind,
}

/// All blobs of a repository.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackInfo>,
    /// Sorted by id.
    rows: Vec<Row>,
    /// Packs that no index file names; the next backup's index does.
    adopted: Vec<PackTable>,
}

/// Something the index found amiss while it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexProblem {
    /// An index file is damaged; packs it named are read by their own tables.
    DamagedIndex {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A pack that an index names is not there.
    MissingPack(ObjectId),
    /// A pack has another length than its index says.
    WrongLength {
        /// The pack.
        pack: ObjectId,
        /// Length it should have, bytes.
        expected: u64,
        /// Length it has, bytes.
        found: u64,
    },
    /// A pack that no index names has no readable table.
    UnreadableTable {
        /// The pack.
        pack: ObjectId,
        /// What is wrong.
        reason: String,
    },
    /// A file that does not belong into the repository.
    ForeignFile(String),
}

impl Index {
    /// Reads all index files, and the tables of packs that none of them names.
    pub fn load(storage: &dyn Storage) -> Result<(Self, Vec<IndexProblem>)> {
        let mut problems = Vec::new();
        let lying = list_packs(storage, &mut problems)?;
        let mut index = Self::default();
        let mut named = HashSet::new();
        for object in storage.list("index")? {
            match read_index_file(storage, &object) {
                Ok(tables) => {
                    for table in tables.into_iter().filter(|table| named.insert(table.id)) {
                        index.add_named(&table, &lying, &mut problems);
                    }
                }
                Err(reason) => {
                    problems.push(IndexProblem::DamagedIndex { key: object.key, reason: reason.0 });
                }
            }
        }
        for (id, len) in lying.into_iter().filter(|(id, _)| !named.contains(id)) {
            match read_table(storage, id, len) {
                Ok(table) => {
                    index.add(&table, true);
                    index.adopted.push(table);
                }
                Err(reason) => problems.push(IndexProblem::UnreadableTable { pack: id, reason: reason.0 }),
            }
        }
        index.rows.sort_unstable_by_key(|row| row.id);
        Ok((index, problems))
    }

    fn add_named(
        &mut self,
        table: &PackTable,
        lying: &HashMap<ObjectId, u64>,
        problems: &mut Vec<IndexProblem>,
    ) {
        let present = match lying.get(&table.id) {
            Some(&found) if found == table.size => true,
            Some(&found) => {
                problems.push(IndexProblem::WrongLength { pack: table.id, expected: table.size, found });
                false
            }
            None => {
                problems.push(IndexProblem::MissingPack(table.id));
                false
            }
        };
        self.add(table, present);
    }

    fn add(&mut self, table: &PackTable, present: bool) {
        let pack = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(PackInfo { id: table.id, present });
        let mut offset = 0u32;
        for row in &table.rows {
            self.rows.push(Row {
                id: row.id,
                pack,
                offset,
                stored: row.stored,
                len: row.len,
                kind: row.kind,
            });
            offset = offset.saturating_add(row.stored);
        }
    }

    /// Every place of a blob.
    pub fn places(&self, id: &BlobId) -> impl Iterator<Item = BlobPlace<'_>> {
        let start = self.rows.partition_point(|row| row.id < *id);
        let id = *id;
        self.rows[start..].iter().take_while(move |row| row.id == id).map(|row| self.place(row))
    }

    fn place(&self, row: &Row) -> BlobPlace<'_> {
        let pack = &self.packs[row.pack as usize];
        BlobPlace { pack, kind: row.kind, offset: row.offset, stored: row.stored, len: row.len }
    }

    /// A place of the blob in a pack that is there.
    pub fn find(&self, id: &BlobId) -> Option<BlobPlace<'_>> {
        self.places(id).find(|place| place.pack.present)
    }

    /// A place of the blob in a pack that is there, where it is stored as this kind: a reader takes no other.
    pub fn find_as(&self, kind: BlobKind, id: &BlobId) -> Option<BlobPlace<'_>> {
        self.places(id).find(|place| place.pack.present && place.kind == kind)
    }

    /// The kind under which a piece of a large file is stored.
    pub fn piece_kind(&self, id: &BlobId) -> BlobKind {
        let mut places = self.places(id).filter(|place| place.pack.present);
        let patch = places.any(|place| place.kind == BlobKind::Patch);
        let mut places = self.places(id).filter(|place| place.pack.present);
        let chunk = places.any(|place| place.kind == BlobKind::Chunk);
        if patch && !chunk { BlobKind::Patch } else { BlobKind::Chunk }
    }

    /// All blobs with their places, sorted by id.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobId, BlobPlace<'_>)> {
        self.rows.iter().map(|row| (row.id, self.place(row)))
    }

    /// Packs that no index file names yet.
    pub fn adopted(&self) -> &[PackTable] {
        &self.adopted
    }

    /// All packs, those that are missing included.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }
}

/// The packs that lie in the repository, with their lengths.
fn list_packs(storage: &dyn Storage, problems: &mut Vec<IndexProblem>) -> Result<HashMap<ObjectId, u64>> {
    let mut packs = HashMap::new();
    for Object { key, len } in storage.list("packs")? {
        let id = key.rsplit_once('/').and_then(|(_, name)| ObjectId::parse(name));
        match id.filter(|id| pack_key(id) == key) {
            Some(id) => {
                packs.insert(id, len);
            }
            None => problems.push(IndexProblem::ForeignFile(key)),
        }
    }
    Ok(packs)
}

/// An index file that cannot be read is as good as damaged: packs have tables of their own.
fn read_index_file(storage: &dyn Storage, object: &Object) -> std::result::Result<Vec<PackTable>, Malformed> {
    let bytes = match storage.get(&object.key, METADATA_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => return Err(Malformed(error.told())),
    };
    let name = object.key.strip_prefix("index/").unwrap_or_default();
    if ObjectId::parse(name) != Some(ObjectId::of(&bytes)) {
        return Err(Malformed::new("its SHA-256 is not its name"));
    }
    let limit = usize::try_from(METADATA_LIMIT).unwrap_or(usize::MAX);
    let text = match zstd::bulk::decompress(&bytes, content_size(&bytes).min(limit)) {
        Ok(text) => text,
        Err(error) => return Err(Malformed::new(error)),
    };
    decode_index(&text)
}

/// The content size that a frame claims, 0 where it claims none.
fn content_size(frame: &[u8]) -> usize {
    let claimed = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    claimed.and_then(|size| usize::try_from(size).ok()).unwrap_or(0)
}

/// The table at the end of a pack.
pub fn read_table(
    storage: &dyn Storage,
    id: ObjectId,
    size: u64,
) -> std::result::Result<PackTable, Malformed> {
    let key = pack_key(&id);
    let too_short = || Malformed::new("the pack is too short");
    let trailer_at = size.checked_sub(TRAILER_LEN as u64).ok_or_else(too_short)?;
    let mut trailer = [0; TRAILER_LEN];
    storage.get_range(&key, trailer_at, &mut trailer).map_err(|error| Malformed(error.told()))?;
    let len = frame_len(&trailer)?;
    let frame_at = size.checked_sub(len).filter(|_| len <= METADATA_LIMIT).ok_or_else(too_short)?;
    let mut frame = vec![0; usize::try_from(len).unwrap_or(FRAME_HEADER_LEN)];
    storage.get_range(&key, frame_at, &mut frame).map_err(|error| Malformed(error.told()))?;
    check_lengths(PackTable { id, size, rows: decode_table(&frame)? }, frame_at)
}

fn check_lengths(table: PackTable, frame_at: u64) -> std::result::Result<PackTable, Malformed> {
    let sum: u64 = table.rows.iter().map(|row: &TableRow| u64::from(row.stored)).sum();
    if sum == frame_at { Ok(table) } else { Err(Malformed::new("the table does not fit the pack")) }
}

/// Publishes an index file that names these packs.
pub fn publish(storage: &Arc<dyn Storage>, packs: &[PackTable]) -> Result<()> {
    let text = encode_index(packs);
    let frame = zstd::bulk::compress(text.as_bytes(), 3).map_err(|source| Error::Storage {
        action: "compress",
        path: "index".into(),
        source,
    })?;
    storage.put(&crate::storage::index_key(&ObjectId::of(&frame)), &frame)
}
