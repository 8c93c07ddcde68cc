//! The section `[backup]`: what is backed up, to where and how.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _, Unexpected};
use serde::{Deserialize, Serialize};

use super::values::{Optional, SizeText};

/// The section `[backup]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the section [backup]")]
pub struct Backup {
    /// The files and folders to back up.
    pub sources: Vec<PathBuf>,
    /// The folder of the repository.
    pub repository: PathBuf,
    /// Patterns of what to leave out, as in `.gitignore`.
    pub exclude: Vec<String>,
    /// Whether to leave out folders with a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Files of more than this many bytes are left out; in the file, a size such as `"2GiB"`.
    #[serde(with = "Optional::<SizeText>")]
    pub exclude_larger_than: Option<u64>,
    /// Whether to stay on the file systems of the sources.
    pub one_file_system: bool,
    /// The zstd level, 1 to 19.
    #[serde(deserialize_with = "level")]
    #[schemars(range(min = 1, max = 19))]
    pub compression: i32,
    /// The host name of the snapshots, in place of the machine's.
    pub host: Option<String>,
    /// Tags of the snapshots.
    pub tags: Vec<String>,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            sources: vec!["data".into()],
            repository: "backups".into(),
            exclude: Vec::new(),
            exclude_caches: false,
            exclude_larger_than: None,
            one_file_system: false,
            compression: 3,
            host: None,
            tags: Vec::new(),
        }
    }
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let level = i32::deserialize(deserializer)?;
    let wrong = || D::Error::invalid_value(Unexpected::Signed(level.into()), &"a level between 1 and 19");
    (1..=19).contains(&level).then_some(level).ok_or_else(wrong)
}
