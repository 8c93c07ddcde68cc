//! What a check found, as values: for the table, the documents, and the state.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;
use reliab_common::fact::{CheckResult, Facts, Sample};
use serde::Serialize;
use serde_json::{Value, json};

use crate::forecast::Forecast;
use crate::judge::{Finding, Memory, used_and_free};
use crate::limits::Limits;
use crate::mounts::Target;
use crate::space::Space;

/// The name under which facts are stored.
pub(crate) const SOURCE: &str = "disk";

/// What is known of one file system.
pub(crate) struct MountReport {
    /// The mount, or its absence.
    pub target: Target,
    /// Its room.
    pub space: Option<Space>,
    /// When it will be full.
    pub forecast: Option<Forecast>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Its thresholds.
    pub limits: Limits,
    /// What the next check must know.
    pub memory: Memory,
}

/// What is known of a directory, a file, a database, or of room for a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SizeReport {
    /// What it is, such as `sqlite`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// How bad it is.
    pub level: Level,
    /// One line for people.
    pub summary: String,
    /// Figures by name, in bytes.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Named sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(pub Vec<(&'static str, u64)>);

impl Serialize for Figures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// All that a check found.
pub(crate) struct Report {
    /// File systems, by mount point.
    pub mounts: Vec<MountReport>,
    /// Everything else, in the order of the configuration.
    pub sizes: Vec<SizeReport>,
}

impl MountReport {
    /// The mount point.
    pub fn point(&self) -> &Path {
        self.target.point()
    }

    /// How bad it is.
    pub fn level(&self) -> Level {
        worst(self.findings.iter().map(|finding| finding.level))
    }

    /// Whether it cannot be written to, by its mount or by its super block.
    pub fn is_read_only(&self) -> bool {
        matches!(&self.target, Target::Mounted(mount) if mount.is_read_only() || mount.is_super_read_only())
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        if !self.findings.is_empty() {
            let texts: Vec<&str> = self.findings.iter().map(|finding| finding.text.as_str()).collect();
            return texts.join("; ");
        }
        let mut text = self.space.as_ref().map(used_and_free).unwrap_or_default();
        if self.is_read_only() {
            text.push_str(", read-only");
        }
        if let Some(forecast) = self.forecast {
            text.push_str(&format!(", full in {}", forecast.words()));
        }
        text
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let mount = match &self.target {
            Target::Mounted(mount) => Some(mount),
            Target::Absent(_) => None,
        };
        let mut value = json!({
            "mount": self.point().to_string_lossy(),
            "device": mount.map(|mount| mount.source.to_string_lossy()),
            "type": mount.map(|mount| &mount.kind),
            "level": self.level(),
            "summary": self.summary(),
            "findings": self.findings,
            "read_only": self.is_read_only(),
            "full_in_seconds": self.forecast,
        });
        if let (Some(space), Some(map)) = (&self.space, value.as_object_mut()) {
            let room = json!({
                "size": space.size, "used": space.used(), "free": space.free,
                "used_percent": space.used_percent(), "inodes": space.inodes,
                "inodes_used": space.inodes_used(), "inodes_used_percent": space.inodes_used_percent(),
            });
            map.extend(room.as_object().cloned().unwrap_or_default());
        }
        value
    }

    fn facts(&self, at: DateTime<Utc>, facts: &mut Facts) {
        let target = name_of(self.point());
        let detail = json!({ "memory": self.memory, "full_in_seconds": self.forecast });
        facts.checks.push(check(target.clone(), at, self.level(), self.summary(), detail));
        let Some(space) = &self.space else { return };
        #[expect(clippy::cast_precision_loss, reason = "samples are floating point")]
        let free = Some(space.free as f64);
        let figures = [
            ("used", "1", space.used_part()),
            ("free", "bytes", free),
            ("inodes_used", "1", space.inodes_used_part()),
        ];
        for (figure, unit, value) in figures {
            facts.samples.extend(value.map(|value| sample(target.clone(), figure, unit, at, value)));
        }
    }
}

impl SizeReport {
    fn facts(&self, at: DateTime<Utc>, facts: &mut Facts) {
        let target = format!("{} {}", self.kind, self.name);
        facts.checks.push(check(target.clone(), at, self.level, self.summary.clone(), json!(self.figures)));
        #[expect(clippy::cast_precision_loss, reason = "samples are floating point")]
        let samples = self
            .figures
            .0
            .iter()
            .map(|&(figure, value)| sample(target.clone(), figure, "bytes", at, value as f64));
        facts.samples.extend(samples);
    }
}

impl Report {
    /// How bad it is.
    pub fn level(&self) -> Level {
        let mounts = self.mounts.iter().map(MountReport::level);
        worst(mounts.chain(self.sizes.iter().map(|size| size.level)))
    }

    /// What goes into the state.
    pub fn facts(&self, at: DateTime<Utc>) -> Facts {
        let mut facts = Facts::default();
        self.mounts.iter().for_each(|mount| mount.facts(at, &mut facts));
        self.sizes.iter().for_each(|size| size.facts(at, &mut facts));
        facts
    }

    /// Everything that is wrong, the worst first: level, what it is about, one line.
    pub fn troubles(&self) -> Vec<(Level, String, String)> {
        let mounts = self.mounts.iter().map(|mount| (mount.level(), name_of(mount.point()), mount.summary()));
        let sizes = self
            .sizes
            .iter()
            .map(|size| (size.level, format!("{} {}", size.kind, size.name), size.summary.clone()));
        let mut all: Vec<_> = mounts.chain(sizes).filter(|(level, _, _)| *level != Level::Ok).collect();
        let order = [Level::Critical, Level::Unknown, Level::Warning, Level::Ok];
        all.sort_by_key(|(level, _, _)| order.iter().position(|other| other == level));
        all
    }
}

/// The worst of levels; nothing is well.
pub(crate) fn worst(levels: impl Iterator<Item = Level>) -> Level {
    levels.fold(Level::Ok, Level::worst)
}

/// A path as the name of a target in the state.
pub(crate) fn name_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn check(target: String, at: DateTime<Utc>, level: Level, summary: String, detail: Value) -> CheckResult {
    CheckResult { source: SOURCE.to_owned(), target, at, level, summary, detail }
}

fn sample(target: String, figure: &str, unit: &'static str, at: DateTime<Utc>, value: f64) -> Sample {
    Sample { source: SOURCE.to_owned(), target, figure: figure.to_owned(), unit, at, value }
}

/// A path that was asked for and is not there.
pub(crate) fn missing(path: &Path, reason: &str) -> SizeReport {
    SizeReport {
        kind: "path",
        name: name_of(path),
        level: Level::Unknown,
        summary: reason.to_owned(),
        figures: Figures::default(),
    }
}

/// Paths as they were asked for, each with the mount that holds it.
pub(crate) type Asked = (Vec<Target>, Vec<(PathBuf, String)>);
