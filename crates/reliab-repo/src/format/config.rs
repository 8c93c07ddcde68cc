//! `repository.json`: what kind of repository this is.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;

use super::{Malformed, VERSION};
use crate::id::ObjectId;

/// What `repository.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Tells repositories apart: 16 random bytes, hexadecimal.
    pub id: String,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// How large files are cut.
    pub chunker: ChunkerConfig,
}

/// Parameters of `FastCDC` v2020, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkerConfig {
    /// Smallest chunk.
    pub min: u32,
    /// Average chunk.
    pub average: u32,
    /// Largest chunk.
    pub max: u32,
    /// `XORed` into the gear table.
    pub seed: u64,
}

/// What a reader cannot go on with.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigProblem {
    /// Not what it should be.
    Damaged(Malformed),
    /// From a newer program.
    Unsupported(String),
}

impl From<Malformed> for ConfigProblem {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed)
    }
}

#[derive(Deserialize)]
struct RawVersion {
    reliab: String,
    version: u32,
    encryption: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    created: DateTime<Utc>,
    chunker: RawChunker,
}

#[derive(Deserialize)]
struct RawChunker {
    algorithm: String,
    min: u32,
    average: u32,
    max: u32,
    seed: String,
}

/// Writes `repository.json`, its checksum included.
pub fn encode_config(config: &Config) -> Vec<u8> {
    let ChunkerConfig { min, average, max, seed } = config.chunker;
    let created = config.created.to_rfc3339_opts(SecondsFormat::Secs, true);
    let text = format!(
        "{{\"reliab\":\"repository\",\"version\":{VERSION},\"id\":\"{}\",\"created\":\"{created}\",\"encryption\":null,\
         \"chunker\":{{\"algorithm\":\"fastcdc-v2020\",\"min\":{min},\"average\":{average},\"max\":{max},\"seed\":\"{seed:016x}\"}}",
        config.id
    );
    let sum = ObjectId::of(text.as_bytes());
    format!("{text},\"sha256\":\"{sum}\"}}\n").into_bytes()
}

/// Reads `repository.json`; the version is looked at before the rest, and all of it is covered by the checksum.
pub fn decode_config(bytes: &[u8]) -> Result<Config, ConfigProblem> {
    let text = std::str::from_utf8(bytes).map_err(Malformed::new)?;
    let (covered, sum) =
        text.rsplit_once(",\"sha256\":\"").ok_or_else(|| Malformed::new("it has no checksum"))?;
    if sum.trim_end().strip_suffix("\"}").and_then(ObjectId::parse) != Some(ObjectId::of(covered.as_bytes()))
    {
        return Err(Malformed::new("its checksum does not match").into());
    }
    let version: RawVersion = serde_json::from_str(text).map_err(Malformed::new)?;
    if version.reliab != "repository" {
        return Err(Malformed(format!("it describes a {}", version.reliab)).into());
    }
    if version.version != VERSION {
        return Err(ConfigProblem::Unsupported(format!("it has format version {}", version.version)));
    }
    if version.encryption.is_some() {
        return Err(ConfigProblem::Unsupported("it is encrypted".into()));
    }
    let raw: Raw = serde_json::from_str(text).map_err(Malformed::new)?;
    Ok(Config { id: raw.id, created: raw.created, chunker: decode_chunker(&raw.chunker)? })
}

fn decode_chunker(raw: &RawChunker) -> Result<ChunkerConfig, ConfigProblem> {
    if raw.algorithm != "fastcdc-v2020" {
        return Err(ConfigProblem::Unsupported(format!("it is chunked by {}", raw.algorithm)));
    }
    let seed = u64::from_str_radix(&raw.seed, 16).map_err(Malformed::new)?;
    let sizes = [raw.min, raw.average, raw.max];
    let even = sizes.iter().all(|size| size % 2 == 0);
    if !(even && 4096 <= raw.min && raw.min < raw.average && raw.average < raw.max && raw.max <= 4 << 20) {
        return Err(Malformed::new("its chunk sizes make no sense").into());
    }
    Ok(ChunkerConfig { min: raw.min, average: raw.average, max: raw.max, seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let chunker = ChunkerConfig { min: 524_288, average: 1_048_576, max: 4_194_304, seed: 0xabcd };
        Config { id: "0".repeat(32), created: DateTime::from_timestamp(1_700_000_000, 0).unwrap(), chunker }
    }

    fn resealed(change: impl Fn(String) -> String) -> Vec<u8> {
        let text = String::from_utf8(encode_config(&config())).unwrap();
        let covered = change(text.rsplit_once(",\"sha256\"").unwrap().0.to_owned());
        let sum = ObjectId::of(covered.as_bytes());
        format!("{covered},\"sha256\":\"{sum}\"}}\n").into_bytes()
    }

    #[test]
    fn config_reads_back() {
        assert_eq!(decode_config(&encode_config(&config())).unwrap(), config());
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let good = encode_config(&config());
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode_config(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn newer_and_encrypted_repositories_are_told_apart_from_damage() {
        let newer = resealed(|t| t.replace("\"version\":1", "\"version\":2"));
        assert_eq!(decode_config(&newer), Err(ConfigProblem::Unsupported("it has format version 2".into())));
        let locked = resealed(|t| t.replace("\"encryption\":null", "\"encryption\":\"age\""));
        assert_eq!(decode_config(&locked), Err(ConfigProblem::Unsupported("it is encrypted".into())));
    }
}
