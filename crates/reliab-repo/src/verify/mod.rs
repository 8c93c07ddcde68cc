//! Verify: everything that is referenced exists, matches its name, and means what the manifest says.

mod files;
mod packs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::entry::{Content, Data, Kind, Pieces};
use crate::format::escape::escape;
use crate::format::path_hash;
use crate::format::table::BlobKind;
use crate::id::{BlobId, ObjectId};
use crate::index::{Index, IndexProblem};
use crate::manifest::{Manifest, ManifestEntry};
use crate::repository::{Repository, SnapshotList, StoredSnapshot, stale_texts};
use crate::storage::{Storage, pack_key, snapshot_key};

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
    /// The file or blob: "packs/ab/ab12…", "snapshots/cd34…", "index/…", "repository.json", "recover.sh", "blob …".
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// Ids of the snapshots that it hits.
    pub snapshots: Vec<String>,
    /// Paths that it hits, escaped; the first of them.
    pub paths: Vec<String>,
    /// How many paths it hits.
    pub path_count: u64,
    /// How much it hits of the lists of entries of these snapshots.
    pub lists: Lists,
    /// False if nothing is lost by it (a damaged index, a foreign file).
    pub data_lost: bool,
}

/// How much of the list of a snapshot's entries is hit. What it held there is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lists {
    /// Nothing.
    #[default]
    None,
    /// Some entries, from a path that is named.
    Part,
    /// All of it.
    All,
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
    /// Lists of entries that no readable snapshot names: a run ended before it published its snapshot, or the
    /// snapshot is gone. Nothing in the repository says which.
    pub unclaimed_lists: u64,
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
        Err(error @ Error::Storage { .. }) if error.is_bad_sector() => {
            let (object, problem) = blamed(&error, &Broken::new(), std::iter::empty());
            findings.lost(&object, &problem);
            return Ok(findings.report(VerifyReport::default()));
        }
        Err(other) => return Err(other),
    };
    let mut report = VerifyReport::default();
    findings.index(&repository);
    findings.texts(storage.as_ref());
    let list = repository.snapshots();
    if let Some(closed) = list.damaged.iter().find(|snapshot| snapshot.is_closed) {
        return Err(closed.error(&closed.reason));
    }
    findings.snapshots(list);
    findings.lost_index(&repository);
    report.unclaimed_lists = unclaimed_lists(&repository, list);
    if report.unclaimed_lists > 0 {
        // A run may have published its snapshot since.
        match SnapshotList::read(storage.as_ref()) {
            Ok(now) => report.unclaimed_lists = unclaimed_lists(&repository, &now),
            Err(error) if error.is_bad_sector() => findings.lost("snapshots", &error.told()),
            Err(other) => return Err(other),
        }
    }
    report.snapshots = (list.snapshots.len() + list.damaged.len()) as u64;
    let broken = packs::read(&repository, options, events, &mut findings, &mut report)?;
    for stored in &list.snapshots {
        walk_snapshot(&repository, stored, &broken, &mut findings, events)?;
    }
    if options.level == Level::Data && options.sample.is_none() {
        files::check(&repository, &list.snapshots, &broken, &mut findings, events)?;
    }
    Ok(findings.report(report))
}

fn unclaimed_lists(repository: &Repository, list: &SnapshotList) -> u64 {
    let claimed: HashSet<BlobId> = list.snapshots.iter().flat_map(|s| &s.snapshot.layers).copied().collect();
    let blobs = repository.index().blobs();
    let unclaimed = blobs.filter(|(id, place)| place.kind == BlobKind::List && !claimed.contains(id));
    // One that lies in two packs is still one.
    unclaimed.map(|(id, _)| id).collect::<HashSet<_>>().len() as u64
}

/// What is wrong, by object.
#[derive(Default)]
struct Findings {
    by_object: BTreeMap<String, Found>,
}

struct Found {
    finding: Finding,
    /// Hashes of the paths that it hits, which are hit in many snapshots and count once.
    paths: HashSet<u64>,
}

impl Findings {
    fn entry(&mut self, object: &str, problem: &str, data_lost: bool) -> &mut Finding {
        &mut self.found(object, problem, data_lost).finding
    }

    fn found(&mut self, object: &str, problem: &str, data_lost: bool) -> &mut Found {
        let found = self.by_object.entry(object.to_owned()).or_insert_with(|| {
            let finding = Finding {
                object: object.to_owned(),
                problem: problem.to_owned(),
                snapshots: Vec::new(),
                paths: Vec::new(),
                path_count: 0,
                lists: Lists::None,
                data_lost,
            };
            Found { finding, paths: HashSet::new() }
        });
        found.finding.data_lost |= data_lost;
        found
    }

    fn lost(&mut self, object: &str, problem: &str) {
        self.entry(object, problem, true);
    }

    /// Notes a path that a damaged object hits.
    fn hit(&mut self, object: &str, problem: &str, snapshot: &StoredSnapshot, path: &[u8]) {
        let Found { finding, paths } = self.found(object, problem, true);
        let id = snapshot.id.to_string();
        // Mostly the last: they are looked through one after another.
        if finding.snapshots.last() != Some(&id) && !finding.snapshots.contains(&id) {
            finding.snapshots.push(id);
        }
        if !paths.insert(path_hash(path)) {
            return;
        }
        finding.path_count += 1;
        if finding.paths.len() < PATHS_MAX {
            finding.paths.push(escape(path).into_owned());
        }
    }

    /// Notes that a damaged object hits the list of a snapshot's entries, from a path on.
    fn hit_list(
        &mut self,
        object: &str,
        problem: &str,
        snapshot: &StoredSnapshot,
        path: &[u8],
        lists: Lists,
    ) {
        self.hit(object, problem, snapshot, path);
        let finding = self.entry(object, problem, true);
        finding.lists = finding.lists.max(lists);
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
                IndexProblem::UnreadableFolder { key, reason } => {
                    // Packs have tables of their own.
                    self.entry(key, reason, key != "index");
                }
                IndexProblem::ForeignFile(key) => {
                    self.entry(key, "it does not belong here", false);
                }
            }
        }
    }

    /// An index file that is gone. Runs that are cut off leave packs that no index names, but of what a snapshot needs there
    /// always is a copy in one that an index names: the index was published before the snapshot.
    fn lost_index(&mut self, repository: &Repository) {
        let index = repository.index();
        let unnamed: HashSet<ObjectId> = index.adopted().iter().map(|pack| pack.id).collect();
        let is_damaged = |problem: &IndexProblem| {
            matches!(problem, IndexProblem::DamagedIndex { .. } | IndexProblem::UnreadableFolder { .. })
        };
        if unnamed.is_empty() || repository.problems().iter().any(is_damaged) {
            return;
        }
        let lists = repository.snapshots().snapshots.iter().flat_map(|stored| &stored.snapshot.layers);
        let only_unnamed = lists.filter_map(|list| {
            let is_named = index.places(list).any(|place| !unnamed.contains(&place.pack.id));
            index.find(list).filter(|_| !is_named).map(|place| place.pack.id)
        });
        let packs: BTreeSet<ObjectId> = only_unnamed.collect();
        if let Some(pack) = packs.first() {
            let problem = format!(
                "a file of it is missing: none names pack {}, though a snapshot needs it; packs were read by their own tables, \
                 and the next backup names them again",
                pack.short()
            );
            self.entry("index", &problem, false);
        }
    }

    /// Damaged snapshots, and those that others say they came after but that are gone.
    fn snapshots(&mut self, list: &SnapshotList) {
        for damaged in &list.damaged {
            self.lost(&damaged.key, &damaged.reason);
        }
        for key in &list.foreign {
            self.entry(key, "it does not belong here", false);
        }
        let damaged = list.damaged.iter().map(|damaged| damaged.id);
        let lying: HashSet<ObjectId> = list.snapshots.iter().map(|stored| stored.id).chain(damaged).collect();
        for StoredSnapshot { id, snapshot } in &list.snapshots {
            let older = snapshot.parent.iter().chain(&snapshot.after);
            for missing in older.filter(|older| !lying.contains(older)) {
                let problem = format!("it is missing: snapshot {} came after it", id.short());
                self.lost(&snapshot_key(missing), &problem);
            }
        }
    }

    /// The script and the README that lie beside the packs.
    fn texts(&mut self, storage: &dyn Storage) {
        for text in stale_texts(storage) {
            if let Some(problem) = text.problem {
                self.entry(text.key, &format!("{problem}; the next backup writes it anew"), false);
            }
        }
    }

    /// Worst first: what loses data, then what hits most.
    fn report(self, mut report: VerifyReport) -> VerifyReport {
        report.findings = self.by_object.into_values().map(|found| found.finding).collect();
        report.findings.sort_by_key(|finding| (!finding.data_lost, std::cmp::Reverse(finding.path_count)));
        report
    }
}

/// A blob as one kind. Stored as another it is of no use to who needs this one.
type KindOfBlob = (BlobKind, BlobId);

/// Blobs that cannot be read, and the object and problem to name for each.
type Broken = HashMap<KindOfBlob, (String, String)>;

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
        // What else is wrong must still be told.
        Err(error) if error.is_damage() || error.is_bad_sector() => {
            let lists = stored.snapshot.layers.iter().map(|list| (BlobKind::List, *list));
            let (object, problem) = blamed(&error, broken, lists);
            findings.hit_list(&object, &problem, stored, b".", Lists::All);
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    let mut lists = Lists::All;
    for item in manifest.by_ref() {
        if events.stop_requested() {
            return Err(Error::Interrupted);
        }
        lists = Lists::Part;
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
        findings.hit_list(&object, &problem, stored, &gap.first, lists);
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
