//! Reading packs: their bytes match their names, and each blob in them its id.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::{Broken, Findings, KindOfBlob, Level, Sample, VerifyOptions, VerifyReport};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::METADATA_LIMIT;
use crate::id::{BlobId, ObjectId};
use crate::repository::Repository;
use crate::storage::{Object, pack_key};

/// Reads packs as the level asks; gives the blobs that are not readable anywhere.
pub(super) fn read(
    repository: &Repository,
    options: &VerifyOptions,
    events: &dyn Events,
    findings: &mut Findings,
    report: &mut VerifyReport,
) -> Result<Broken> {
    let mut broken = unreachable_blobs(repository);
    if options.level == Level::Structure {
        return Ok(broken);
    }
    let packs = chosen_packs(repository, options.sample.as_ref())?;
    events.total(packs.iter().map(|pack| pack.len).sum());
    report.packs = packs.len() as u64;
    if options.sample.is_some() {
        report.cursor = packs.last().map(|pack| pack.key.clone());
    }
    let queue = Mutex::new(packs.into_iter());
    let outcomes = Mutex::new(Vec::new());
    let by_pack = blobs_by_pack(repository);
    let reading = PackReading { repository, level: options.level, by_pack: &by_pack, events };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..options.threads.max(1)).map(|_| scope.spawn(|| reading.run(&queue, &outcomes))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Panicked)))
    })?;
    let mut bad_copies: HashMap<KindOfBlob, usize> = HashMap::new();
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for outcome in &outcomes {
        report.bytes += outcome.bytes;
        report.blobs += outcome.blobs;
        for (blob, problem) in &outcome.broken {
            *bad_copies.entry(*blob).or_default() += 1;
            broken.insert(*blob, (outcome.key.clone(), problem.clone()));
        }
    }
    // Another pack may have the blob whole; a restore takes it from there.
    let copies = |(kind, id): &KindOfBlob| {
        let places = repository.index().places(id);
        places.filter(|place| place.is_there() && place.kind == *kind).count()
    };
    broken.retain(|blob, _| bad_copies.get(blob).is_none_or(|bad| *bad >= copies(blob)));
    for PackOutcome { key, problem, broken: bad, .. } in &outcomes {
        let is_healed = !bad.is_empty() && !bad.iter().any(|(blob, _)| broken.contains_key(blob));
        for problem in problem.iter().chain(bad.iter().map(|(_, problem)| problem)) {
            findings.entry(key, problem, !is_healed);
        }
    }
    Ok(broken)
}

/// Blobs that only missing packs hold, or that are behind the ends of those that are there.
fn unreachable_blobs(repository: &Repository) -> Broken {
    let index = repository.index();
    let missing =
        index.blobs().filter(|(id, place)| !place.is_there() && index.find_as(place.kind, id).is_none());
    let problem = "it is missing, or its end is";
    missing.map(|(id, place)| ((place.kind, id), (pack_key(&place.pack.id), problem.to_owned()))).collect()
}

/// The packs to read: all, or as many behind the cursor as make up the sample.
fn chosen_packs(repository: &Repository, sample: Option<&Sample>) -> Result<Vec<Object>> {
    // What keeps packs from being listed is told with the index.
    let mut packs = repository.storage().list_readable("packs", &mut Vec::new())?;
    packs.retain(|pack| pack.key.rsplit('/').next().and_then(ObjectId::parse).is_some());
    // And is no reason not to read those that may be there.
    let mut listed: HashSet<String> = packs.iter().map(|pack| pack.key.clone()).collect();
    let known = repository.index().packs().iter().filter_map(|pack| Some((pack_key(&pack.id), pack.len?)));
    packs.extend(known.filter(|(key, _)| listed.insert(key.clone())).map(|(key, len)| Object { key, len }));
    packs.sort_by(|a, b| a.key.cmp(&b.key));
    let Some(sample) = sample else { return Ok(packs) };
    let total: u64 = packs.iter().map(|pack| pack.len).sum();
    let start = sample.cursor.as_ref().map_or(0, |cursor| packs.partition_point(|pack| pack.key <= *cursor));
    let count = packs.len();
    packs.rotate_left(if start < count { start } else { 0 });
    let mut taken = 0.0;
    #[expect(clippy::cast_precision_loss, reason = "a share of all bytes needs no more than 52 bits")]
    let wanted = sample.fraction * total as f64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let enough = packs.iter().take_while(|pack| {
        let more = taken < wanted;
        taken += pack.len as f64;
        more
    });
    let enough = enough.count();
    packs.truncate(enough);
    Ok(packs)
}

/// What reading one pack gave.
#[derive(Default)]
struct PackOutcome {
    key: String,
    bytes: u64,
    blobs: u64,
    problem: Option<String>,
    broken: Vec<(KindOfBlob, String)>,
}

/// What the threads that read packs share.
struct PackReading<'a> {
    repository: &'a Repository,
    level: Level,
    by_pack: &'a HashMap<ObjectId, Vec<BlobRow>>,
    events: &'a dyn Events,
}

impl PackReading<'_> {
    fn run(
        &self,
        queue: &Mutex<std::vec::IntoIter<Object>>,
        outcomes: &Mutex<Vec<PackOutcome>>,
    ) -> Result<()> {
        let mut decompressor =
            zstd::bulk::Decompressor::new().map_err(Error::local("start zstd for", "verify"))?;
        loop {
            if self.events.stop_requested() {
                return Err(Error::Interrupted);
            }
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(object) = next else { return Ok(()) };
            let outcome = self.pack(&object, &mut decompressor);
            self.events.advance(object.len, 1);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    }

    fn pack(&self, object: &Object, decompressor: &mut zstd::bulk::Decompressor<'static>) -> PackOutcome {
        let mut outcome = PackOutcome { key: object.key.clone(), ..PackOutcome::default() };
        let name = object.key.rsplit('/').next().and_then(ObjectId::parse);
        let rows = name.and_then(|name| self.by_pack.get(&name)).map_or(&[][..], Vec::as_slice);
        match self.repository.storage().get(&object.key, METADATA_LIMIT) {
            Ok(bytes) => {
                let whole = name == Some(ObjectId::of(&bytes));
                outcome.bytes = bytes.len() as u64;
                outcome.problem = (!whole).then(|| "its SHA-256 is not its name".to_owned());
                if self.level == Level::Data || !whole {
                    outcome.blobs = rows.len() as u64;
                    let frame = |row: &BlobRow| bytes.get(row.offset..row.offset.saturating_add(row.stored));
                    outcome.broken = broken_of(rows, |row| check_blob(decompressor, frame(row), row));
                }
            }
            // A bad sector hits what lies there; the rest of the pack is still read, frame by frame. What keeps all of a pack
            // from being read would do so for each frame.
            Err(error) if !error.is_bad_sector() => {
                let told = error.told();
                outcome.broken = broken_of(rows, |_| Err(told.clone()));
                outcome.problem = Some(told);
            }
            Err(error) => {
                outcome.problem = Some(error.told());
                outcome.blobs = rows.len() as u64;
                let check = |row: &BlobRow| {
                    let frame = self.frame(&object.key, row)?;
                    check_blob(decompressor, Some(&frame), row)
                };
                outcome.broken = broken_of(rows, check);
            }
        }
        outcome
    }

    /// Reads one frame of a pack.
    fn frame(&self, key: &str, row: &BlobRow) -> std::result::Result<Vec<u8>, String> {
        let mut frame = vec![0; row.stored];
        self.repository
            .storage()
            .get_range(key, row.offset as u64, &mut frame)
            .map_err(|error| error.told())?;
        Ok(frame)
    }
}

struct BlobRow {
    blob: KindOfBlob,
    offset: usize,
    stored: usize,
    len: usize,
}

/// The blobs that packs hold, without those behind the end of a pack.
fn blobs_by_pack(repository: &Repository) -> HashMap<ObjectId, Vec<BlobRow>> {
    let mut by_pack: HashMap<ObjectId, Vec<BlobRow>> = HashMap::new();
    for (id, place) in repository.index().blobs().filter(|(_, place)| place.is_there()) {
        let row = BlobRow {
            blob: (place.kind, id),
            offset: place.offset as usize,
            stored: place.stored as usize,
            len: place.len as usize,
        };
        by_pack.entry(place.pack.id).or_default().push(row);
    }
    by_pack
}

/// The blobs that do not pass a check.
fn broken_of(
    rows: &[BlobRow],
    mut check: impl FnMut(&BlobRow) -> std::result::Result<(), String>,
) -> Vec<(KindOfBlob, String)> {
    rows.iter().filter_map(|row| check(row).err().map(|problem| (row.blob, problem))).collect()
}

fn check_blob(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    frame: Option<&[u8]>,
    row: &BlobRow,
) -> std::result::Result<(), String> {
    let frame = frame.ok_or("it lies behind the pack's end")?;
    let content = decompressor.decompress(frame, row.len).map_err(|error| format!("zstd: {error}"))?;
    if BlobId::of(&content) == row.blob.1 { Ok(()) } else { Err("a blob does not match its id".to_owned()) }
}
