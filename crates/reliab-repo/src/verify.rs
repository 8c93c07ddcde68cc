//! Verify: everything that is referenced exists, matches its name, and means what the manifest says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::content::ContentReader;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::METADATA_LIMIT;
use crate::format::entry::{Content, Data, Kind, Pieces};
use crate::format::escape::escape;
use crate::format::table::BlobKind;
use crate::id::{BlobId, ObjectId};
use crate::index::{Index, IndexProblem};
use crate::manifest::{Manifest, ManifestEntry};
use crate::repository::{Repository, StoredSnapshot};
use crate::storage::{Object, Storage, pack_key};

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything that is referenced exists and parses.
    Structure,
    /// Also: the bytes of each file match its name.
    Packs,
    /// Also: each blob decompresses and matches its id, each file its digest.
    Data,
}

/// What to check.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How deep.
    pub level: Level,
    /// A part of the packs only (0 to 1), after the pack named by the cursor of the last run.
    pub sample: Option<Sample>,
    /// Threads that read.
    pub threads: usize,
}

/// A part of the packs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Part of the packs' bytes to read, 0 to 1.
    pub fraction: f64,
    /// `VerifyReport::cursor` of the last run.
    pub cursor: Option<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file or blob: "pack ab12…", "snapshot cd34…", "index …", "repository.json".
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// Ids of the snapshots that it hits.
    pub snapshots: Vec<String>,
    /// Paths that it hits, escaped; the first of them.
    pub paths: Vec<String>,
    /// How many paths it hits.
    pub path_count: u64,
    /// False if nothing is lost by it (a damaged index, a foreign file).
    pub data_lost: bool,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Findings, worst first.
    pub findings: Vec<Finding>,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Packs checked.
    pub packs: u64,
    /// Blobs checked.
    pub blobs: u64,
    /// Bytes read from packs.
    pub bytes: u64,
    /// Where the next sample begins.
    pub cursor: Option<String>,
}

/// Paths of a finding that are kept.
const PATHS_MAX: usize = 100;

/// Checks a repository; everything that is wrong is found, not just the first.
pub fn verify(
    storage: Arc<dyn Storage>,
    options: &VerifyOptions,
    events: &dyn Events,
) -> Result<VerifyReport> {
    let mut findings = Findings::default();
    let repository = match Repository::open(Arc::clone(&storage)) {
        Ok(repository) => repository,
        Err(Error::Damaged { what, reason }) => {
            findings.lost(&what, &reason);
            return Ok(findings.report(VerifyReport::default()));
        }
        Err(other) => return Err(other),
    };
    let mut report = VerifyReport::default();
    findings.index(&repository);
    let list = repository.snapshots()?;
    for damaged in &list.damaged {
        findings.lost(&damaged.key, &damaged.reason);
    }
    report.snapshots = (list.snapshots.len() + list.damaged.len()) as u64;
    let broken = read_packs(&repository, options, events, &mut findings, &mut report)?;
    for stored in &list.snapshots {
        walk_snapshot(&repository, stored, &broken, &mut findings, events)?;
    }
    if options.level == Level::Data && options.sample.is_none() {
        check_files(&repository, &list.snapshots, &broken, &mut findings, events)?;
    }
    Ok(findings.report(report))
}

/// What is wrong, by object.
#[derive(Default)]
struct Findings {
    by_object: BTreeMap<String, Finding>,
}

impl Findings {
    fn entry(&mut self, object: &str, problem: &str, data_lost: bool) -> &mut Finding {
        let finding = self.by_object.entry(object.to_owned()).or_insert_with(|| Finding {
            object: object.to_owned(),
            problem: problem.to_owned(),
            snapshots: Vec::new(),
            paths: Vec::new(),
            path_count: 0,
            data_lost,
        });
        finding.data_lost |= data_lost;
        finding
    }

    fn lost(&mut self, object: &str, problem: &str) {
        self.entry(object, problem, true);
    }

    /// Notes a path that a damaged object hits.
    fn hit(&mut self, object: &str, problem: &str, snapshot: &StoredSnapshot, path: &[u8]) {
        let finding = self.entry(object, problem, true);
        let id = snapshot.id.to_string();
        if finding.snapshots.last() != Some(&id) {
            finding.snapshots.push(id);
        }
        let path = escape(path);
        if finding.paths.iter().any(|known| *known == path) {
            return;
        }
        finding.path_count += 1;
        if finding.paths.len() < PATHS_MAX {
            finding.paths.push(path.into_owned());
        }
    }

    fn index(&mut self, repository: &Repository) {
        for problem in repository.problems() {
            match problem {
                IndexProblem::DamagedIndex { key, reason } => {
                    self.entry(key, &format!("{reason}; packs were read by their own tables"), false);
                }
                IndexProblem::MissingPack(pack) => self.lost(&pack_key(pack), "it is missing"),
                IndexProblem::WrongLength { pack, expected, found } => {
                    self.lost(&pack_key(pack), &format!("it has {found} bytes, not {expected}"));
                }
                IndexProblem::UnreadableTable { pack, reason } => {
                    self.entry(&pack_key(pack), &format!("no index names it, and {reason}"), false);
                }
                IndexProblem::ForeignFile(key) => {
                    self.entry(key, "it does not belong here", false);
                }
            }
        }
    }

    /// Worst first: what loses data, then what hits most.
    fn report(self, mut report: VerifyReport) -> VerifyReport {
        report.findings = self.by_object.into_values().collect();
        report.findings.sort_by_key(|finding| (!finding.data_lost, std::cmp::Reverse(finding.path_count)));
        report
    }
}

/// A blob as one kind. Stored as another it is of no use to who needs this one.
type KindOfBlob = (BlobKind, BlobId);

/// Blobs that cannot be read, and the object and problem to name for each.
type Broken = HashMap<KindOfBlob, (String, String)>;

/// Reads packs as the level asks; gives the blobs that are not readable anywhere.
fn read_packs(
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
    let present: HashSet<String> = repository
        .index()
        .packs()
        .iter()
        .filter(|pack| pack.present)
        .map(|pack| pack_key(&pack.id))
        .collect();
    let mut bad_copies: HashMap<KindOfBlob, usize> = HashMap::new();
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for outcome in &outcomes {
        report.bytes += outcome.bytes;
        report.blobs += outcome.blobs;
        for (blob, problem) in &outcome.broken {
            *bad_copies.entry(*blob).or_default() += usize::from(present.contains(&outcome.key));
            broken.insert(*blob, (outcome.key.clone(), problem.clone()));
        }
    }
    // Another pack may have the blob whole; a restore takes it from there.
    let copies = |(kind, id): &KindOfBlob| {
        let places = repository.index().places(id);
        places.filter(|place| place.pack.present && place.kind == *kind).count()
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

/// Blobs that only missing packs hold.
fn unreachable_blobs(repository: &Repository) -> Broken {
    let index = repository.index();
    let missing =
        index.blobs().filter(|(id, place)| !place.pack.present && index.find_as(place.kind, id).is_none());
    missing
        .map(|(id, place)| {
            ((place.kind, id), (pack_key(&place.pack.id), "it is missing or has the wrong length".to_owned()))
        })
        .collect()
}

/// The packs to read: all, or as many behind the cursor as make up the sample.
fn chosen_packs(repository: &Repository, sample: Option<&Sample>) -> Result<Vec<Object>> {
    let mut packs = repository.storage().list("packs")?;
    packs.retain(|pack| pack.key.rsplit('/').next().and_then(ObjectId::parse).is_some());
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
                    outcome.broken = broken_blobs(decompressor, &bytes, rows);
                }
            }
            Err(error) => {
                outcome.problem = Some(error.to_string());
                outcome.broken = rows.iter().map(|row| (row.blob, error.to_string())).collect();
            }
        }
        outcome
    }
}

struct BlobRow {
    blob: KindOfBlob,
    offset: usize,
    stored: usize,
    len: usize,
}

fn blobs_by_pack(repository: &Repository) -> HashMap<ObjectId, Vec<BlobRow>> {
    let mut by_pack: HashMap<ObjectId, Vec<BlobRow>> = HashMap::new();
    for (id, place) in repository.index().blobs() {
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

fn broken_blobs(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    pack: &[u8],
    rows: &[BlobRow],
) -> Vec<(KindOfBlob, String)> {
    let mut check = |row: &BlobRow| {
        let frame = pack
            .get(row.offset..row.offset.saturating_add(row.stored))
            .ok_or("it lies behind the pack's end")?;
        let content = decompressor.decompress(frame, row.len).map_err(|error| format!("zstd: {error}"))?;
        if BlobId::of(&content) == row.blob.1 {
            Ok(())
        } else {
            Err("a blob does not match its id".to_owned())
        }
    };
    rows.iter().filter_map(|row| check(row).err().map(|problem| (row.blob, problem))).collect()
}

/// Finds the paths that damaged objects hit, and references to blobs that are nowhere.
fn walk_snapshot(
    repository: &Repository,
    stored: &StoredSnapshot,
    broken: &Broken,
    findings: &mut Findings,
    events: &dyn Events,
) -> Result<()> {
    let snapshot_name = format!("snapshots/{}", stored.id);
    let mut manifest = match Manifest::open(repository, &stored.snapshot, None) {
        Ok(manifest) => manifest,
        Err(error) if error.is_damage() => {
            let lists = stored.snapshot.layers.iter().map(|list| (BlobKind::List, *list));
            let (object, problem) = blamed(&error, broken, lists);
            findings.hit(&object, &problem, stored, b".");
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    for item in manifest.by_ref() {
        if events.stop_requested() {
            return Err(Error::Interrupted);
        }
        let mut hits = Vec::new();
        for_each_blob_of(&item, repository.index(), |(kind, id)| {
            if let Some((object, problem)) = broken.get(&(kind, id)) {
                hits.push((object.clone(), problem.clone()));
            } else if repository.index().find_as(kind, &id).is_none() {
                hits.push((format!("blob {id}"), format!("no pack holds it as a {}", kind.word())));
            }
        });
        hits.dedup();
        for (object, problem) in hits {
            findings.hit(&object, &problem, stored, &item.entry.path);
        }
    }
    for gap in manifest.take_gaps() {
        let (object, problem) = blamed(&gap.error, broken, std::iter::empty());
        let object = if object.is_empty() { snapshot_name.clone() } else { object };
        findings.hit(&object, &problem, stored, &gap.first);
    }
    Ok(())
}

/// Calls `f` on every blob of an entry, as the kind that a reader of the entry asks for.
fn for_each_blob_of(item: &ManifestEntry, index: &Index, mut f: impl FnMut(KindOfBlob)) {
    let large = match &item.entry.kind {
        Kind::File(Content { data: Data::Large(large), .. }) => large,
        other => return other.clone().for_each_blob(|number| f((BlobKind::Bundle, item.blob(*number)))),
    };
    f((BlobKind::Head, item.blob(large.head)));
    let mut piece = |number| {
        let id = item.blob(number);
        f((index.piece_kind(&id), id));
    };
    match &large.pieces {
        Pieces::Chunks(blobs) => blobs.iter().for_each(|blob| piece(*blob)),
        Pieces::Extents(extents) => extents.iter().for_each(|extent| piece(extent.blob)),
    }
}

/// The object to blame for an error while reading metadata: the pack, where it is known.
fn blamed(error: &Error, broken: &Broken, mut blobs: impl Iterator<Item = KindOfBlob>) -> (String, String) {
    if let Some((object, problem)) = blobs.find_map(|blob| broken.get(&blob)) {
        return (object.clone(), problem.clone());
    }
    match error {
        Error::Damaged { what, reason } => (what.clone(), reason.clone()),
        Error::MissingBlob(id) => (format!("blob {id}"), "no pack holds it".to_owned()),
        Error::Storage { path, .. } => (path.clone(), error.told()),
        other => ("the manifest".to_owned(), other.told()),
    }
}

/// Takes content until a stop is asked for: a hole may claim to be longer than anybody will wait.
struct StoppableSink<'a>(&'a dyn Events);

impl std::io::Write for StoppableSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.stop_requested() { Err(std::io::ErrorKind::Other.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of holes that one run hashes: a minute or two. A digest of zeros takes as long as one of data, and a hole may
/// claim to be of any length.
const HOLES_MAX: u64 = 256 << 30;

/// Bytes of holes that may still be hashed.
struct HolesLeft(u64);

impl HolesLeft {
    /// True if the holes of this file may be hashed, too.
    fn take(&mut self, content: &Content) -> bool {
        let left = self.0.checked_sub(holes_of(content));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

fn holes_of(content: &Content) -> u64 {
    match &content.data {
        Data::Large(large) => content.size.saturating_sub(large.stored_len(content.size)),
        Data::Record(_) => 0,
    }
}

fn not_hashed(content: &Content) -> String {
    format!(
        "it was not compared with its digest: {} GiB of it are holes, and one run hashes {} GiB of them; each of its \
         blobs was checked, and that they cover its data",
        holes_of(content) >> 30,
        HOLES_MAX >> 30
    )
}

/// Adds where a content lies in its blobs and in the file, without its numbers of blobs, which each page counts anew.
fn update_offsets(places: &mut blake3::Hasher, content: &Content) {
    places.update(&content.size.to_le_bytes());
    match &content.data {
        Data::Record(place) => {
            places.update(&place.offset.to_le_bytes());
        }
        Data::Large(large) => {
            for (offset, len) in large.map.iter().flatten() {
                places.update(&offset.to_le_bytes()).update(&len.to_le_bytes());
            }
            if let Pieces::Extents(extents) = &large.pieces {
                for extent in extents {
                    places.update(&extent.offset.to_le_bytes()).update(&extent.len.to_le_bytes());
                }
            }
        }
    }
}

/// Reads every distinct file content and compares it with its digest.
fn check_files(
    repository: &Repository,
    snapshots: &[StoredSnapshot],
    broken: &Broken,
    findings: &mut Findings,
    events: &dyn Events,
) -> Result<()> {
    let mut reader = ContentReader::new(repository)?;
    let mut seen = HashSet::new();
    let mut holes = HolesLeft(HOLES_MAX);
    for stored in snapshots {
        let Ok(manifest) = Manifest::open(repository, &stored.snapshot, None) else { continue };
        for item in manifest {
            if events.stop_requested() {
                return Err(Error::Interrupted);
            }
            let Kind::File(content) = &item.entry.kind else { continue };
            // The place counts, too: equal contents may be stored twice.
            let mut places = blake3::Hasher::new();
            places.update(&content.digest.0);
            let mut is_broken = false;
            for_each_blob_of(&item, repository.index(), |blob| {
                is_broken |= broken.contains_key(&blob);
                places.update(&blob.1.0);
            });
            if is_broken {
                // Named already, with the pack.
                continue;
            }
            update_offsets(&mut places, content);
            if !seen.insert(places.finalize()) {
                continue;
            }
            let is_hashed = holes.take(content);
            let checked = if is_hashed {
                reader.copy(&item, &mut StoppableSink(events))
            } else {
                reader.check_parts(&item)
            };
            if let Err(error) = checked {
                if events.stop_requested() {
                    return Err(Error::Interrupted);
                }
                let (object, problem) = blamed(&error, broken, std::iter::empty());
                findings.hit(&object, &problem, stored, &item.entry.path);
            } else if !is_hashed {
                events.warning(Path::new(escape(&item.entry.path).as_ref()), &not_hashed(content));
            }
        }
    }
    Ok(())
}
