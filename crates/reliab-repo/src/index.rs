//! Which blob is in which pack, where: the packs' tables, merged and held in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::table::{
    BlobKind, FRAME_HEADER_LEN, PackTable, TRAILER_LEN, TableRow, decode_index, decode_table, encode_index,
    frame_len,
};
use crate::format::{METADATA_LIMIT, Malformed};
use crate::id::{BlobId, ObjectHasher, ObjectId};
use crate::storage::{Object, Storage, pack_key};

/// A pack that an index names or that lies in the repository.
#[derive(Clone, Debug)]
pub struct PackInfo {
    /// Its name.
    pub id: ObjectId,
    /// Its length as it lies there, bytes; `None` if it is missing.
    pub len: Option<u64>,
    /// True if a backup may leave out what it holds: it has the length that its index says, and nothing is known against
    /// it. Readers use what is left of others, too: they check each frame.
    pub is_whole: bool,
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

impl BlobPlace<'_> {
    /// True if the pack is there, and the frame is not behind its end.
    pub fn is_there(&self) -> bool {
        self.pack.len.is_some_and(|len| u64::from(self.offset) + u64::from(self.stored) <= len)
    }
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
    /// A folder that cannot be listed. The packs that an index names there are taken for whole until they are read.
    UnreadableFolder {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A file that does not belong into the repository.
    ForeignFile(String),
}

impl Index {
    /// Reads all index files, and the tables of packs that none of them names.
    pub fn load(storage: &dyn Storage) -> Result<(Self, Vec<IndexProblem>)> {
        let mut problems = Vec::new();
        let mut index = Self::default();
        let mut named = HashMap::new();
        let (mut unlisted, mut disputed) = (Vec::new(), HashSet::new());
        for object in storage.list_readable("index", &mut unlisted)? {
            match read_index_file(storage, &object) {
                Ok(tables) => {
                    for table in tables {
                        let size = *named.entry(table.id).or_insert_with(|| {
                            index.add(&table, None);
                            table.size
                        });
                        if size != table.size {
                            disputed.insert(table.id);
                            let (pack, of) = (table.id.short(), table.size);
                            let reason =
                                format!("it says that pack {pack} has {of} bytes, another says {size}");
                            problems.push(IndexProblem::DamagedIndex { key: object.key.clone(), reason });
                        }
                    }
                }
                Err(reason) => {
                    problems.push(IndexProblem::DamagedIndex { key: object.key, reason: reason.0 });
                }
            }
        }
        if !disputed.is_empty() {
            // One of them lies; the pack has a table of its own.
            named.retain(|pack, _| !disputed.contains(pack));
            index.rows.retain(|row| !disputed.contains(&index.packs[row.pack as usize].id));
        }
        // Packs are published before the index that names them. Listed before it, those of a run that goes on meanwhile
        // would seem to be missing.
        let lying = list_packs(storage, &mut problems, &mut unlisted)?;
        let unlisted = unlisted.iter().filter_map(|error| unreadable_folder(error, &mut problems)).collect();
        index.compare(&named, &Lying { packs: &lying, unlisted }, &mut problems);
        for (id, len) in lying.into_iter().filter(|(id, _)| !named.contains_key(id)) {
            match read_table(storage, id, len) {
                Ok(table) => {
                    index.add(&table, Some(len));
                    index.adopted.push(table);
                }
                Err(reason) => problems.push(IndexProblem::UnreadableTable { pack: id, reason: reason.0 }),
            }
        }
        index.rows.sort_unstable_by_key(|row| row.id);
        Ok((index, problems))
    }

    /// Compares the lengths that packs should have with those that lie there.
    fn compare(
        &mut self,
        named: &HashMap<ObjectId, u64>,
        lying: &Lying<'_>,
        problems: &mut Vec<IndexProblem>,
    ) {
        for pack in &mut self.packs {
            pack.len = lying.packs.get(&pack.id).copied();
            if pack.len.is_none() && lying.may_hide(&pack.id) {
                // Nobody can tell; whoever reads it finds out.
                pack.len = named.get(&pack.id).copied();
                continue;
            }
            match (named.get(&pack.id), pack.len) {
                (Some(&expected), Some(found)) if expected != found => {
                    problems.push(IndexProblem::WrongLength { pack: pack.id, expected, found });
                }
                (_, Some(_)) => pack.is_whole = true,
                (_, None) => problems.push(IndexProblem::MissingPack(pack.id)),
            }
        }
    }

    fn add(&mut self, table: &PackTable, len: Option<u64>) {
        let pack = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(PackInfo { id: table.id, len, is_whole: len.is_some() });
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

    /// A place where the blob may be read.
    pub fn find(&self, id: &BlobId) -> Option<BlobPlace<'_>> {
        self.places(id).find(BlobPlace::is_there)
    }

    /// A place where the blob may be read as this kind: a reader takes no other.
    pub fn find_as(&self, kind: BlobKind, id: &BlobId) -> Option<BlobPlace<'_>> {
        self.places(id).find(|place| place.is_there() && place.kind == kind)
    }

    /// True if a pack holds the blob on which a backup may rely.
    pub fn is_safe(&self, id: &BlobId) -> bool {
        self.places(id).any(|place| place.pack.is_whole)
    }

    /// The kind under which a piece of a large file is stored.
    pub fn piece_kind(&self, id: &BlobId) -> BlobKind {
        let patch = self.find_as(BlobKind::Patch, id).is_some();
        let chunk = self.find_as(BlobKind::Chunk, id).is_some();
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

    /// Reads the packs that no index file names, which nobody has vouched for: the run that wrote them may have ended by a
    /// power failure, or a copy may have been broken off. Those that are not what their names say are adopted no longer, and
    /// no backup relies on them.
    pub(crate) fn check_adopted(
        &mut self,
        storage: &dyn Storage,
        events: &dyn Events,
    ) -> Result<Vec<UnfitPack>> {
        let mut unfit = Vec::new();
        for table in std::mem::take(&mut self.adopted) {
            if events.stop_requested() {
                return Err(Error::Interrupted);
            }
            let reason = match hash_pack(storage, &table) {
                Ok(id) if id == table.id => {
                    self.adopted.push(table);
                    continue;
                }
                Ok(_) => "its SHA-256 is not its name".to_owned(),
                Err(error) => error.told(),
            };
            self.packs.iter_mut().filter(|pack| pack.id == table.id).for_each(|pack| pack.is_whole = false);
            unfit.push(UnfitPack { id: table.id, reason });
        }
        Ok(unfit)
    }

    /// All packs, those that are missing included.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }
}

/// A pack that no index names and that is not what its name says.
pub(crate) struct UnfitPack {
    pub(crate) id: ObjectId,
    pub(crate) reason: String,
}

fn hash_pack(storage: &dyn Storage, table: &PackTable) -> Result<ObjectId> {
    const PIECE: u64 = 1 << 20;
    let (key, mut piece, mut at) = (pack_key(&table.id), Vec::new(), 0);
    let mut hasher = ObjectHasher::default();
    while at < table.size {
        let len = PIECE.min(table.size - at);
        piece.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        storage.get_range(&key, at, &mut piece)?;
        hasher.update(&piece);
        at += len;
    }
    Ok(hasher.finish())
}

/// What lies in the repository.
struct Lying<'a> {
    packs: &'a HashMap<ObjectId, u64>,
    /// Folders that cannot be listed.
    unlisted: Vec<String>,
}

impl Lying<'_> {
    fn may_hide(&self, pack: &ObjectId) -> bool {
        let key = pack_key(pack);
        let is_in = |folder: &String| key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.unlisted.iter().any(is_in)
    }
}

/// Notes a folder that cannot be listed; gives its key.
fn unreadable_folder(error: &Error, problems: &mut Vec<IndexProblem>) -> Option<String> {
    let Error::Storage { path, .. } = error else { return None };
    problems.push(IndexProblem::UnreadableFolder { key: path.clone(), reason: error.told() });
    Some(path.clone())
}

/// The packs that lie in the repository, with their lengths.
fn list_packs(
    storage: &dyn Storage,
    problems: &mut Vec<IndexProblem>,
    unlisted: &mut Vec<Error>,
) -> Result<HashMap<ObjectId, u64>> {
    let mut packs = HashMap::new();
    for Object { key, len } in storage.list_readable("packs", unlisted)? {
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
    let limit = bytes.len().saturating_mul(RATIO_MAX).saturating_add(1 << 20);
    let limit = limit.min(usize::try_from(METADATA_LIMIT).unwrap_or(usize::MAX));
    let text = match zstd::bulk::decompress(&bytes, content_size(&bytes).min(limit)) {
        Ok(text) => text,
        Err(error) => return Err(Malformed::new(error)),
    };
    decode_index(&text)
}

/// How much shorter than its text an index may be, less a mebibyte: half of a line is a hash, which hardly compresses.
const RATIO_MAX: usize = 64;

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

/// Makes the names of all index files durable.
pub(crate) fn settle(storage: &dyn Storage) -> Result<()> {
    storage.settle("index/*")
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
