//! Secrets: read from files or the environment, never shown.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::paths::Env;

/// A secret may not be longer than this many bytes.
const LIMIT: u64 = 64 * 1024;

/// A secret; it shows itself as `[secret]` only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is, as the configuration says it: `{ file = "…" }` or `{ env = "…" }`.
///
/// A relative file is looked for in `$CREDENTIALS_DIRECTORY` first (see systemd.exec(5)), then from the working folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// The content of this file, without the newline at its end.
    File(PathBuf),
    /// The value of this environment variable.
    Env(String),
}

/// The table that says where a secret is.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SourceTable {
    File(PathBuf),
    Env(String),
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("where the secret is: { file = \"…\" } or { env = \"…\" }")
    }

    /// A secret written into the configuration by mistake must not be shown in the error.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(E::custom("a secret is not written here: say where it is, { file = \"…\" } or { env = \"…\" }"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretSource, A::Error> {
        Ok(match SourceTable::deserialize(MapAccessDeserializer::new(map))? {
            SourceTable::File(path) => SecretSource::File(path),
            SourceTable::Env(name) => SecretSource::Env(name),
        })
    }
}

/// A secret cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The variable is not set.
    #[error("cannot find a secret: ${0} is not set")]
    NotSet(String),
    /// There is nothing in it, or too much, or it is not text of one line.
    #[error("cannot use the secret in {place}: {problem}")]
    Unusable {
        /// The file or variable.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl SecretSource {
    /// Reads the secret.
    pub fn read(&self, env: &Env) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => read_file(&found(path, env)),
            Self::Env(name) => {
                let value = env.var(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
                usable(value.to_string_lossy().into_owned(), &format!("${name}"))
            }
        }
    }

    /// The file, where there is one.
    pub fn file(&self, env: &Env) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(found(path, env)),
            Self::Env(_) => None,
        }
    }
}

fn found(path: &Path, env: &Env) -> PathBuf {
    let credential = env.var("CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join(path));
    credential.filter(|credential| credential.exists()).unwrap_or_else(|| path.to_owned())
}

fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let place = path.display().to_string();
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.len() > LIMIT {
        return Err(SecretError::Unusable { place, problem: "it is longer than 64 KiB" });
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| SecretError::Unusable { place: place.clone(), problem: "it is not UTF-8 text" })?;
    usable(text.trim_end_matches(['\n', '\r']).to_owned(), &place)
}

fn usable(text: String, place: &str) -> Result<Secret, SecretError> {
    let problem = if text.is_empty() {
        "it is empty"
    } else if text.contains(['\n', '\r', '\0']) {
        "it has more than one line"
    } else {
        return Ok(Secret(text));
    };
    Err(SecretError::Unusable { place: place.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secrets_are_found_in_files_credentials_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "one\n").unwrap();
        let bare = Env::fixed(false, &[("TOKEN", "two")]);
        let with = Env::fixed(false, &[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
        let read = |source: SecretSource, env| source.read(env).map(|secret| secret.expose().to_owned());
        assert_eq!(read(SecretSource::File(file), &bare).unwrap(), "one");
        assert_eq!(read(SecretSource::File("token".into()), &with).unwrap(), "one");
        assert_eq!(read(SecretSource::Env("TOKEN".into()), &bare).unwrap(), "two");
        let error = read(SecretSource::Env("ABSENT".into()), &bare).unwrap_err();
        assert_eq!(error.to_string(), "cannot find a secret: $ABSENT is not set");
    }

    #[test]
    fn unusable_secrets_are_refused_without_showing_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let env = Env::fixed(false, &[]);
        let long = "x".repeat(70_000);
        for content in [&b"\n"[..], b"planted\nplanted\n", b"planted\xff", long.as_bytes()] {
            fs::write(&file, content).unwrap();
            let error = SecretSource::File(file.clone()).read(&env).unwrap_err();
            assert!(matches!(error, SecretError::Unusable { .. }));
            assert!(!error.to_string().contains("planted"));
        }
    }

    #[test]
    fn the_configuration_names_a_file_or_a_variable() {
        #[derive(Deserialize)]
        struct Section {
            token: SecretSource,
        }
        let parse = |text| toml::from_str::<Section>(text).map(|section| section.token);
        assert_eq!(parse("token = { file = \"/run/t\" }").unwrap(), SecretSource::File("/run/t".into()));
        assert_eq!(parse("token = { env = \"T\" }").unwrap(), SecretSource::Env("T".into()));
        let error = parse("token = \"hunter2\"").unwrap_err().to_string();
        assert!(error.contains("a secret is not written here"), "{error}");
        let error = error.lines().last().unwrap();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
