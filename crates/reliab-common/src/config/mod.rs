//! The one configuration file of all tools: how it is found and read; a module for each section.

pub mod alert;
pub mod backup;
pub mod channel;
pub mod disk;
pub mod maintenance;
pub mod ping;
pub mod probe;
pub mod rule;
pub mod schedule;
pub mod schema;
pub mod service;
pub mod shown;
pub mod slo;
pub mod source;
mod trust;
pub mod uplink;
mod values;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::paths::Env;

pub use alert::Alert;
pub use backup::Backup;
pub use channel::{Channel, Channels};
pub use disk::Disk;
pub use maintenance::Maintenance;
pub use ping::Ping;
pub use probe::Probe;
pub use rule::Rule;
pub use schedule::{Schedule, ScheduledJob};
pub use service::Service;
pub use slo::Slo;
pub use source::ConfigFile;
pub use uplink::Uplink;

/// The configuration; every part has a default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "reliab.toml")]
pub struct Config {
    /// What holds for all rules.
    pub alert: Alert,
    /// When nobody is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
    /// When somebody is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rule: Vec<Rule>,
    /// What part of requests must go well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Slo>,
    /// What is backed up, to where and how.
    pub backup: Backup,
    /// Where alerts are sent.
    pub channel: channel::Channels,
    /// Which file systems, directories and database files are watched.
    pub disk: Disk,
    /// Which jobs timers start, and when one is late.
    #[serde(serialize_with = "schedule::shown")]
    pub schedule: Schedule,
    /// What is asked over the network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<Probe>,
    /// How a run tells that its own connection is down.
    pub uplink: Uplink,
    /// Services whose own metrics are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<Service>,
    /// Who elsewhere is told that this machine still watches.
    pub ping: Option<Ping>,
}

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was found, not named, and others than root and the user decide what it says.
    #[error(
        "cannot use the configuration {}, which was found, not named: {objection}; if you trust what it says, name it \
         with --config, or {mend}",
        path.display()
    )]
    Untrusted {
        /// The file, in full.
        path: PathBuf,
        /// Why it is not trusted.
        objection: String,
        /// What would change that.
        mend: String,
    },
    /// The file says something it must not.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// The file, relative to the working folder if it is in there.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

impl Config {
    /// Reads the first configuration file there is: `explicit`, `$RELIAB_CONFIG`, the one in the working folder
    /// `cwd`, the user's, the machine's; without any, everything has its default. The last three must be trusted.
    pub fn load(explicit: Option<&Path>, env: &Env, cwd: &Path) -> Result<Self, ConfigError> {
        ConfigFile::find(explicit, env, cwd)?.map_or_else(|| Ok(Self::default()), |file| file.parse())
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let fail = |offset, message: &str| {
            let (line, column) = position(bytes, offset);
            let message = message.replace("unknown field", "unknown key").replace('\n', ", ");
            ConfigError::Content { path: path.to_owned(), line, column, message }
        };
        let text = std::str::from_utf8(bytes).map_err(|error| fail(error.valid_up_to(), "not UTF-8 text"))?;
        toml::from_str(text).map_err(|error| {
            // Of a channel's keys serde has forgotten the places when it knows which type they belong to.
            let error = channel::mistake(text).unwrap_or(error);
            fail(error.span().map_or(0, |span| span.start), error.message())
        })
    }
}

fn usual_places(env: &Env, cwd: &Path) -> impl Iterator<Item = PathBuf> {
    let user = env.user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("reliab/reliab.toml"));
    [Some(cwd.join("reliab.toml")), user, Some("/etc/reliab/reliab.toml".into())].into_iter().flatten()
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The line and the character in it of a byte offset, both from 1.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = String::from_utf8_lossy(&text[..offset.min(text.len())]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("reliab.toml"), text.as_bytes())
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(parse("[backup]\n").unwrap(), Config::default());
        let backup = Config::default().backup;
        assert_eq!((backup.sources, backup.repository), (vec!["data".into()], "backups".into()));
    }

    #[test]
    fn every_key_of_backup_is_read() {
        let text = r#"
            [backup]
            sources = ["data", "/srv/app"]
            repository = "/mnt/backups"
            exclude = ["*.tmp", "cache/"]
            exclude_caches = true
            exclude_larger_than = "1.5 GiB"
            one_file_system = true
            compression = 19
            host = "web1"
            tags = ["nightly"]
        "#;
        let expected = Backup {
            sources: vec!["data".into(), "/srv/app".into()],
            repository: "/mnt/backups".into(),
            exclude: vec!["*.tmp".into(), "cache/".into()],
            exclude_caches: true,
            exclude_larger_than: Some(3 << 29),
            one_file_system: true,
            compression: 19,
            host: Some("web1".into()),
            tags: vec!["nightly".into()],
        };
        assert_eq!(parse(text).unwrap(), Config { backup: expected, ..Config::default() });
    }

    #[test]
    fn errors_give_file_line_column_and_reason() {
        let check = |text, expected: &str| assert_eq!(parse(text).unwrap_err().to_string(), expected);
        check(
            "\n\n[backups]\n",
            "reliab.toml:3:2: unknown key `backups`, expected one of `alert`, `maintenance`, `rule`, `slo`, `backup`, \
             `channel`, `disk`, `schedule`, `probe`, `uplink`, `service`, `ping`",
        );
        check(
            "[backup]\nsource = [\"data\"]\n",
            "reliab.toml:2:1: unknown key `source`, expected one of `sources`, `repository`, `exclude`, \
             `exclude_caches`, `exclude_larger_than`, `one_file_system`, `compression`, `host`, `tags`",
        );
        check(
            "[backup]\n  compression = 20\n",
            "reliab.toml:2:17: invalid value: integer `20`, expected a level between 1 and 19",
        );
        check(
            "[backup]\nexclude_larger_than = \"much\"\n",
            "reliab.toml:2:23: `much` is not a size: write a number and a unit, such as 500M, 1.5GiB or 10GB",
        );
        check(
            "[backup]\ntags = \"é\", x\n",
            "reliab.toml:2:11: unexpected key or value, expected newline, `#`",
        );
        check("[backup]\nhost = 1\n", "reliab.toml:2:8: invalid type: integer `1`, expected a string");
        check(
            "[backup]\nhost = \n",
            "reliab.toml:2:8: string values must be quoted, expected literal string",
        );
        check("backup = 1\n", "reliab.toml:1:10: invalid type: integer `1`, expected the section [backup]");
    }

    #[test]
    fn text_that_is_not_utf_8_is_found() {
        let error = Config::parse(Path::new("r.toml"), b"[backup]\nhost = \"\xff\"").unwrap_err();
        assert_eq!(error.to_string(), "r.toml:2:9: not UTF-8 text");
    }

    /// A working folder and a home, each with a configuration naming its own host.
    fn places() -> (tempfile::TempDir, impl Fn(&str)) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let put = move |path: &str| {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("backup.host = {path:?}\n")).unwrap();
        };
        (dir, put)
    }

    #[test]
    fn the_first_file_found_in_the_documented_order_is_read() {
        let (dir, put) = places();
        let home = dir.path().join("home");
        let home = home.to_str().unwrap();
        let check = |explicit: Option<&str>, variables: &[_], expected: &str| {
            let env = Env::fixed(false, variables);
            let config = Config::load(explicit.map(Path::new), &env, dir.path()).unwrap();
            assert_eq!(config.backup.host.as_deref(), Some(expected));
        };
        put("home/.config/reliab/reliab.toml");
        check(None, &[("HOME", home)], "home/.config/reliab/reliab.toml");
        put("home/xdg/reliab/reliab.toml");
        let xdg = format!("{home}/xdg");
        check(None, &[("HOME", home), ("XDG_CONFIG_HOME", &xdg)], "home/xdg/reliab/reliab.toml");
        put("reliab.toml");
        check(None, &[("HOME", home)], "reliab.toml");
        put("env.toml");
        check(None, &[("HOME", home), ("RELIAB_CONFIG", "env.toml")], "env.toml");
        put("explicit.toml");
        check(Some("explicit.toml"), &[("RELIAB_CONFIG", "env.toml")], "explicit.toml");
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::fixed(false, &[("RELIAB_CONFIG", "absent.toml")]);
        let error = Config::load(None, &env, dir.path()).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    }
}
