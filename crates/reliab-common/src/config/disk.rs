//! The section `[disk]`: which file systems, directories and database files are watched, and when one is in trouble.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Needed, Optional, PercentText, SizeText};
use crate::secret::SecretSource;
use crate::units::Percent;

/// The section `[disk]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the section [disk]")]
pub struct Disk {
    /// When a file system gets a warning.
    pub warn: DiskLimits,
    /// When a file system is critical.
    pub critical: DiskLimits,
    /// How much more than a threshold must be free before its level is left again, as a part of the threshold.
    #[serde(with = "Optional::<PercentText>")]
    pub clear: Option<Percent>,
    /// How long a file system may take to answer.
    #[serde(with = "Needed::<DurationText>")]
    pub deadline: Duration,
    /// Mount points that are left out; one that ends in `/*` stands for all below it.
    pub exclude: Vec<PathBuf>,
    /// Types of file systems that are left out, such as `"tmpfs"`.
    pub exclude_types: Vec<String>,
    /// File systems that must be mounted, each with what is special about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount: Vec<DiskMount>,
    /// Directories whose size is watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directory: Vec<DiskDirectory>,
    /// `SQLite` files whose size is watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sqlite: Vec<DiskFile>,
    /// Database servers whose databases' sizes are watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub database: Vec<DiskDatabase>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            warn: DiskLimits::default(),
            critical: DiskLimits::default(),
            clear: None,
            deadline: Duration::from_secs(10),
            exclude: Vec::new(),
            exclude_types: Vec::new(),
            mount: Vec::new(),
            directory: Vec::new(),
            sqlite: Vec::new(),
            database: Vec::new(),
        }
    }
}

/// Thresholds of a file system; the first that is reached counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "thresholds such as { used = \"80%\", free = \"10GiB\" }")]
pub struct DiskLimits {
    /// This part is used, as df shows it.
    #[serde(with = "Optional::<PercentText>")]
    pub used: Option<Percent>,
    /// No more than this many bytes are free for users.
    #[serde(with = "Optional::<SizeText>")]
    pub free: Option<u64>,
    /// This part of the inodes is used.
    #[serde(with = "Optional::<PercentText>")]
    pub inodes: Option<Percent>,
    /// It is expected to be full within this time.
    #[serde(with = "Optional::<DurationText>")]
    pub full_in: Option<Duration>,
}

/// A file system that must be mounted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a file system such as { path = \"/srv\" }")]
pub struct DiskMount {
    /// The mount point.
    pub path: PathBuf,
    /// What must be mounted there: a device, `UUID=…`, `LABEL=…`, or the source as in /proc/self/mountinfo.
    #[serde(default)]
    pub device: Option<String>,
    /// Whether it is meant to be read-only; without it, that it was writable once is what counts.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// Whether it may be absent.
    #[serde(default)]
    pub optional: bool,
    /// When it gets a warning, in place of the same keys of the section.
    #[serde(default)]
    pub warn: DiskLimits,
    /// When it is critical, in place of the same keys of the section.
    #[serde(default)]
    pub critical: DiskLimits,
}

/// A directory whose size is watched.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a directory such as { path = \"/var/log\", warn = \"10GiB\" }")]
pub struct DiskDirectory {
    /// The directory.
    pub path: PathBuf,
    /// A warning from this many bytes on.
    #[serde(default, with = "Optional::<SizeText>")]
    pub warn: Option<u64>,
    /// Critical from this many bytes on.
    #[serde(default, with = "Optional::<SizeText>")]
    pub critical: Option<u64>,
    /// How long measuring it may take.
    #[serde(default = "five_minutes", with = "Needed::<DurationText>")]
    pub deadline: Duration,
}

/// A `SQLite` file whose size is watched.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a SQLite file such as { path = \"data/app.db\" }")]
pub struct DiskFile {
    /// The file.
    pub path: PathBuf,
    /// A warning from this many bytes on, its write-ahead log included.
    #[serde(default, with = "Optional::<SizeText>")]
    pub warn: Option<u64>,
    /// Critical from this many bytes on, its write-ahead log included.
    #[serde(default, with = "Optional::<SizeText>")]
    pub critical: Option<u64>,
}

/// The kind of a database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// `PostgreSQL`, asked with `psql`.
    PostgreSql,
    /// `MariaDB` or `MySQL`, asked with `mariadb` or `mysql`.
    MariaDb,
}

/// A database server whose databases' sizes are watched.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a database server such as { name = \"main\", kind = \"postgresql\" }"
)]
pub struct DiskDatabase {
    /// What it is called in results.
    pub name: String,
    /// Its kind.
    pub kind: DatabaseKind,
    /// The host, or for `PostgreSQL` the folder of its socket; without it, what the client takes.
    #[serde(default)]
    pub host: Option<String>,
    /// The socket of `MariaDB`.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The port.
    #[serde(default)]
    pub port: Option<u16>,
    /// The user to log in as.
    #[serde(default)]
    pub user: Option<String>,
    /// The password.
    #[serde(default)]
    pub password: Option<SecretSource>,
    /// A warning when one database has this many bytes.
    #[serde(default, with = "Optional::<SizeText>")]
    pub warn: Option<u64>,
    /// Critical when one database has this many bytes.
    #[serde(default, with = "Optional::<SizeText>")]
    pub critical: Option<u64>,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Disk, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn an_empty_section_has_its_defaults() {
        let disk = parse("").unwrap();
        assert_eq!(disk, Disk::default());
        assert_eq!(disk.deadline, Duration::from_secs(10));
    }

    #[test]
    fn every_key_is_read() {
        let disk = parse(
            r#"
            warn = { used = "80%", free = "10GiB", inodes = "85%", full_in = "7d" }
            critical.used = "90%"
            clear = "5%"
            deadline = "2s"
            exclude = ["/snap/*"]
            exclude_types = ["tmpfs"]
            [[mount]]
            path = "/srv"
            device = "UUID=1"
            read_only = true
            optional = true
            warn.used = "70%"
            critical.free = "1GiB"
            [[directory]]
            path = "/var/log"
            warn = "1GiB"
            critical = "2GiB"
            deadline = "1m"
            [[sqlite]]
            path = "data/app.db"
            warn = "1GiB"
            [[database]]
            name = "main"
            kind = "mariadb"
            host = "db"
            socket = "/run/s"
            port = 3307
            user = "reliab"
            password = { env = "PASSWORD" }
            critical = "1TiB"
            "#,
        )
        .unwrap();
        let used = |limits: &DiskLimits| limits.used.map(Percent::fraction);
        assert_eq!((used(&disk.warn), used(&disk.critical)), (Some(0.8), Some(0.9)));
        assert_eq!(disk.warn.free, Some(10 << 30));
        assert_eq!(disk.warn.full_in, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(disk.mount[0].device.as_deref(), Some("UUID=1"));
        assert_eq!((disk.mount[0].read_only, disk.mount[0].optional), (Some(true), true));
        assert_eq!(disk.directory[0].deadline, Duration::from_secs(60));
        assert_eq!(disk.sqlite[0].warn, Some(1 << 30));
        assert_eq!(disk.database[0].kind, DatabaseKind::MariaDb);
        assert_eq!(disk.database[0].password, Some(SecretSource::Env("PASSWORD".into())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text, expected: &str| assert!(parse(text).unwrap_err().contains(expected), "{text}");
        check("warn = { used = \"101%\" }", "`101%` is not a percentage between 0% and 100%");
        check("warn = { usde = \"1%\" }", "unknown field `usde`");
        check("[[mount]]\nread_only = true", "missing field `path`");
        check("[[database]]\nname = \"a\"\nkind = \"oracle\"", "unknown variant `oracle`");
    }
}
