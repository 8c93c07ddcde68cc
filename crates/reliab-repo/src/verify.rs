//! Verify (being written).

use serde::Serialize;

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
