//! A repository, opened: its configuration, index and snapshots.

mod snapshots;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use snapshots::{DamagedSnapshot, SnapshotList, SnapshotSpec, StoredSnapshot};

use crate::error::{Error, Result};
use crate::event::Events;
use crate::format::config::{ChunkerConfig, Config, ConfigProblem, decode_config, encode_config};
use crate::index::{Index, IndexProblem};
use crate::storage::{Storage, pack_key};

/// The script that restores with stock tools, as placed in every repository.
pub const RECOVER_SH: &str = include_str!("recover.sh");
/// The text for whoever finds the folder, as placed in every repository.
pub const README: &str = include_str!("README.txt");

const CONFIG: &str = "repository.json";
const CONFIG_LIMIT: u64 = 64 * 1024;
const TEXT_LIMIT: u64 = 4 * 1024 * 1024;

/// An open repository.
pub struct Repository {
    storage: Arc<dyn Storage>,
    config: Config,
    snapshots: SnapshotList,
    index: Index,
    problems: Vec<IndexProblem>,
}

impl Repository {
    /// Opens a repository that exists.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let config = read_config(storage.as_ref())?.ok_or_else(|| no_repository(storage.as_ref()))?;
        // In the reverse of the order in which a run publishes, so that one that goes on meanwhile harms nobody: the index
        // knows what these snapshots need. What a newer one needs would seem to be lost.
        let snapshots = SnapshotList::read(storage.as_ref())?;
        let (index, problems) = Index::load(storage.as_ref())?;
        Ok(Self { storage, config, snapshots, index, problems })
    }

    /// Opens a repository; where there is nothing yet, creates it. Of several that create it at once, one does, and all
    /// open that.
    pub fn open_or_create(storage: Arc<dyn Storage>, now: DateTime<Utc>) -> Result<Self> {
        if read_config(storage.as_ref())?.is_none() {
            create(storage.as_ref(), now)?;
        } else {
            refresh_texts(storage.as_ref())?;
        }
        Self::open(storage)
    }

    /// True if there is a repository at the storage.
    pub fn exists(storage: &dyn Storage) -> Result<bool> {
        Ok(read_config(storage)?.is_some())
    }

    /// What to call it in messages.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// Its files.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// What `repository.json` says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The snapshots that were there when it was opened: the index knows what they need.
    pub fn snapshots(&self) -> &SnapshotList {
        &self.snapshots
    }

    /// Reads the packs that no index names before a backup relies on them, and tells of those that are not what their names
    /// say: what they hold is stored anew.
    pub(crate) fn check_adopted(&mut self, events: &dyn Events) -> Result<()> {
        for pack in self.index.check_adopted(self.storage.as_ref(), events)? {
            let message = format!(
                "no index names it, and it is damaged ({}): what it holds is stored again; a verification lists what it hits",
                pack.reason
            );
            events.warning(Path::new(&pack_key(&pack.id)), &message);
        }
        Ok(())
    }

    /// Where its blobs are.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What was amiss when the index was loaded.
    pub fn problems(&self) -> &[IndexProblem] {
        &self.problems
    }
}

fn no_repository(storage: &dyn Storage) -> Error {
    // Whoever stands in the wrong folder sees it by the whole path.
    let location = storage.location();
    let whole = std::path::absolute(&location).map(|path| path.display().to_string());
    Error::NoRepository { location: whole.unwrap_or(location) }
}

/// `None` where there is no repository and nothing in the way of one.
fn read_config(storage: &dyn Storage) -> Result<Option<Config>> {
    let bytes = match storage.get(CONFIG, CONFIG_LIMIT) {
        Ok(bytes) => bytes,
        Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            if storage.list("snapshots")?.is_empty() && storage.list("packs")?.is_empty() {
                return Ok(None);
            }
            // What was listed may be of a run that has created it since.
            storage.get(CONFIG, CONFIG_LIMIT).map_err(|error| match error {
                Error::Storage { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::damaged(CONFIG, "it is missing; recover.sh still restores from this folder")
                }
                other => other,
            })?
        }
        Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => {
            let reason = "it is a file; a repository is a folder".to_owned();
            return Err(Error::NotARepository { location: storage.location(), reason });
        }
        Err(other) => return Err(other),
    };
    match decode_config(&bytes) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigProblem::Unsupported(what)) => Err(Error::Unsupported { what }),
        Err(ConfigProblem::Damaged(reason)) => {
            Err(Error::damaged(CONFIG, format!("{reason}; recover.sh still restores from this folder")))
        }
    }
}

fn create(storage: &dyn Storage, now: DateTime<Utc>) -> Result<()> {
    let foreign = storage.list("")?.into_iter().find(|object| !object.key.starts_with("tmp/"));
    if let Some(object) = foreign.filter(|object| !is_ours(&object.key)) {
        if read_config(storage)?.is_some() {
            // Another run was faster.
            return Ok(());
        }
        let reason = format!("it is not empty (it holds {:?}); name an empty or new folder", object.key);
        return Err(Error::NotARepository { location: storage.location(), reason });
    }
    storage.put("README", README.as_bytes())?;
    storage.put("recover.sh", RECOVER_SH.as_bytes())?;
    let id = format!("{:016x}{:016x}", random(), random());
    let chunker = ChunkerConfig { min: 1 << 20, average: 2 << 20, max: 4 << 20, seed: random() };
    // Written over that of another run, it would be of another repository than the packs of that run. Whoever comes second
    // opens what is there.
    storage.put_new(CONFIG, &encode_config(&Config { id, created: now, chunker })).map(drop)
}

/// A text beside the packs that is to be written anew.
pub(crate) struct StaleText {
    /// Its key.
    pub(crate) key: &'static str,
    /// What is wrong with it; `None` where an older version wrote it.
    pub(crate) problem: Option<String>,
    text: &'static str,
}

/// The script and the README, where an older version has put them there, or they are damaged or gone: who needs them
/// has nothing else. Those of a newer version stay.
pub(crate) fn stale_texts(storage: &dyn Storage) -> Vec<StaleText> {
    let script = storage.get("recover.sh", TEXT_LIMIT);
    let written = script.as_deref().ok().and_then(edition);
    let current = edition(RECOVER_SH.as_bytes());
    // The README has no number of its own: it came with the script.
    let is_newer = written > current;
    let is_older = written.is_some() && written < current;
    let readme = storage.get("README", TEXT_LIMIT);
    // The script comes last: as long as it is the old one, a run that was cut off before it does the rest.
    let texts = [("README", readme, README), ("recover.sh", script, RECOVER_SH)];
    let stale = |(key, found, text): (_, Result<Vec<u8>>, &'static str)| {
        let problem = match found {
            Ok(found) if is_newer || found == text.as_bytes() => return None,
            Ok(_) if is_older => None,
            Ok(_) => Some("it is not as reliab wrote it".to_owned()),
            Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Some("it is missing".to_owned())
            }
            Err(Error::Damaged { reason, .. }) => Some(reason),
            Err(error) => Some(error.told()),
        };
        Some(StaleText { key, problem, text })
    };
    texts.into_iter().filter_map(stale).collect()
}

fn refresh_texts(storage: &dyn Storage) -> Result<()> {
    stale_texts(storage).iter().try_for_each(|stale| storage.put(stale.key, stale.text.as_bytes()))
}

/// The number in the line `# recover.sh, edition N` near the top of a script; the first scripts have none.
fn edition(script: &[u8]) -> Option<u32> {
    let mut lines = script.split(|&byte| byte == b'\n').take(8);
    let number = lines.find_map(|line| line.strip_prefix(b"# recover.sh, edition "))?;
    std::str::from_utf8(number).ok()?.trim_end().parse().ok()
}

/// What a creation that was cut off may have left.
fn is_ours(key: &str) -> bool {
    matches!(key, "README" | "recover.sh")
}

/// Random bits from the operating system, by way of the standard library's hash keys.
fn random() -> u64 {
    RandomState::new().hash_one(std::time::SystemTime::now())
}
