//! The snapshot file.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Malformed, OVERLAYS_MAX, VERSION};
use crate::id::{BlobId, ObjectId};

/// A snapshot, as its file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When the run began to read the source.
    pub time: DateTime<Utc>,
    /// Host that was backed up.
    pub host: String,
    /// User who ran the backup.
    pub user: String,
    /// Program and version that wrote it.
    pub program: String,
    /// Sources, absolute, as given.
    pub paths: Vec<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// The snapshot it was compared with.
    pub parent: Option<ObjectId>,
    /// More that were there before it, readable or not: clocks do not tell which one is newer.
    pub after: Vec<ObjectId>,
    /// Lists of the base and its overlays, oldest first.
    pub layers: Vec<BlobId>,
    /// What the run did.
    pub stats: Stats,
    /// Sources that could not be read, the first of them.
    pub errors: Vec<SourceError>,
}

/// Figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Entries in the snapshot.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// Files that the parent did not have.
    pub new_files: u64,
    /// Files that differ from the parent's.
    pub changed_files: u64,
    /// Files as in the parent.
    pub unmodified_files: u64,
    /// Entries of the parent that are no more.
    pub gone: u64,
    /// Blobs this run stored.
    pub added_blobs: u64,
    /// Bytes this run added to packs.
    pub added_bytes: u64,
    /// Lines of each layer.
    pub layer_entries: Vec<u64>,
}

/// A source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceError {
    /// Its path, escaped.
    pub path: String,
    /// What went wrong.
    pub error: String,
}

impl SourceError {
    /// What is said of a file that is there, though its parts may be of different moments.
    pub const CHANGED: &str = "changed while it was read";
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    reliab: String,
    version: u32,
    time: DateTime<Utc>,
    host: String,
    user: String,
    program: String,
    paths: Vec<String>,
    tags: Vec<String>,
    parent: Option<String>,
    #[serde(default)]
    after: Vec<String>,
    layers: Vec<String>,
    stats: Stats,
    errors: Vec<SourceError>,
}

/// Writes a snapshot: JSON with one key a line.
pub fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, Malformed> {
    let text = |value: serde_json::Result<String>| value.map_err(Malformed::new);
    let after: Vec<String> = snapshot.after.iter().map(ToString::to_string).collect();
    let fields = [
        ("reliab", "\"snapshot\"".to_owned()),
        ("version", VERSION.to_string()),
        ("time", text(serde_json::to_string(&snapshot.time))?),
        ("host", text(serde_json::to_string(&snapshot.host))?),
        ("user", text(serde_json::to_string(&snapshot.user))?),
        ("program", text(serde_json::to_string(&snapshot.program))?),
        ("paths", text(serde_json::to_string(&snapshot.paths))?),
        ("tags", text(serde_json::to_string(&snapshot.tags))?),
        ("parent", text(serde_json::to_string(&snapshot.parent.map(|id| id.to_string())))?),
        ("after", text(serde_json::to_string(&after))?),
        (
            "layers",
            text(serde_json::to_string(
                &snapshot.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ))?,
        ),
        ("stats", text(serde_json::to_string(&snapshot.stats))?),
        ("errors", text(serde_json::to_string(&snapshot.errors))?),
    ];
    let is_told = |key: &str| key != "after" || !after.is_empty();
    let lines: Vec<String> = fields
        .iter()
        .filter(|(key, _)| is_told(key))
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")).into_bytes())
}

/// Reads a snapshot.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, Malformed> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(Malformed::new)?;
    if raw.reliab != "snapshot" || raw.version != VERSION {
        return Err(Malformed(format!("it is a {} of version {}", raw.reliab, raw.version)));
    }
    if raw.layers.len() > OVERLAYS_MAX + 1 {
        return Err(Malformed(format!("it has {} layers", raw.layers.len())));
    }
    let layer = |id: &String| BlobId::parse(id).ok_or_else(|| Malformed::new("bad layer id"));
    let older =
        |id: &String| ObjectId::parse(id).ok_or_else(|| Malformed::new("bad id of an older snapshot"));
    Ok(Snapshot {
        time: raw.time,
        host: raw.host,
        user: raw.user,
        program: raw.program,
        paths: raw.paths,
        tags: raw.tags,
        parent: raw.parent.as_ref().map(older).transpose()?,
        after: raw.after.iter().map(older).collect::<Result<_, _>>()?,
        layers: raw.layers.iter().map(layer).collect::<Result<_, _>>()?,
        stats: raw.stats,
        errors: raw.errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_reads_back_and_has_one_key_a_line() {
        let snapshot = Snapshot {
            time: DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap(),
            host: "web1".into(),
            user: "root".into(),
            program: "reliab 0.1.0".into(),
            paths: vec!["/srv/a b".into()],
            tags: vec!["daily".into()],
            parent: Some(ObjectId([5; 32])),
            after: vec![ObjectId([6; 32])],
            layers: vec![BlobId([1; 32]), BlobId([2; 32])],
            stats: Stats { entries: 3, layer_entries: vec![3, 1], ..Stats::default() },
            errors: vec![SourceError { path: "x%0A".into(), error: "permission denied".into() }],
        };
        // Without anything else before it, as most are, a snapshot does not speak of it.
        for (snapshot, lines) in
            [(Snapshot { after: Vec::new(), ..snapshot.clone() }, 15), (snapshot.clone(), 16)]
        {
            let bytes = encode_snapshot(&snapshot).unwrap();
            assert_eq!(decode_snapshot(&bytes).unwrap(), snapshot);
            assert_eq!(bytes.split(|&b| b == b'\n').count(), lines);
        }
        // A reader opens all layers at once.
        let of = |count| Snapshot { layers: vec![BlobId([1; 32]); count], ..snapshot.clone() };
        assert!(decode_snapshot(&encode_snapshot(&of(9)).unwrap()).is_ok());
        assert!(decode_snapshot(&encode_snapshot(&of(10)).unwrap()).is_err());
    }
}
