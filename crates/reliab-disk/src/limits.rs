//! Thresholds: what the configuration says, and what holds where it says nothing.

use std::time::Duration;

use reliab_common::config::disk::{DiskLimits, DiskMount};
use reliab_common::config::{Config, Disk};
use reliab_common::exit::Level;
use reliab_common::failure::UsageError;
use reliab_common::units::{self, Percent};

use crate::space::Space;

const GIB: u64 = 1 << 30;
/// Forecasts waver more than what is measured, so their levels are left later.
const CLEAR_FORECAST: f64 = 0.5;

/// When one level is reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    /// A used part of the room, 0 to 1.
    used: Option<f64>,
    /// So many bytes free.
    free: Option<u64>,
    /// Without either of these: so small a part of the room free, and no more than so many bytes.
    usual: (f64, u64),
    /// A used part of the inodes, 0 to 1.
    pub inodes: f64,
    /// Full within this time.
    pub full_in: Duration,
}

const WARN: Threshold = Threshold {
    used: None,
    free: None,
    usual: (0.2, 100 * GIB),
    inodes: 0.8,
    full_in: Duration::from_secs(7 * 86_400),
};
const CRITICAL: Threshold = Threshold {
    used: None,
    free: None,
    usual: (0.1, 50 * GIB),
    inodes: 0.9,
    full_in: Duration::from_secs(86_400),
};

/// The thresholds of one file system.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// When it gets a warning.
    pub warn: Threshold,
    /// When it is critical.
    pub critical: Threshold,
    /// How much more than a threshold must be free before its level is left, as a part of the threshold.
    clear: f64,
}

impl Threshold {
    /// With what the section says of the room, and above that what the mount says.
    fn with(&self, section: &DiskLimits, mount: Option<&DiskLimits>) -> Self {
        let used = mount.and_then(|mount| mount.used).or(section.used).map(Percent::fraction);
        let free = mount.and_then(|mount| mount.free).or(section.free);
        Self { used, free, ..self.clone() }
    }

    /// Whether the configuration says when.
    fn is_set(&self) -> bool {
        self.used.is_some() || self.free.is_some()
    }

    /// What it says by itself: the level is reached with this many bytes free, or fewer.
    fn bytes(&self, space: &Space) -> u64 {
        let usable = space.usable();
        match (self.used, self.free) {
            (None, None) => share(usable, self.usual.0).min(self.usual.1),
            (used, free) => {
                used.map_or(0, |used| share(usable, 1.0 - used)).max(free.map_or(0, |free| free.min(usable)))
            }
        }
    }

    /// The level is reached with this many inodes free, or fewer.
    pub fn free_inodes(&self, space: &Space) -> u64 {
        share(space.inodes, 1.0 - self.inodes)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a size"
)]
fn share(of: u64, part: f64) -> u64 {
    // Parts such as 1 - 0.8 are a little less than they should be.
    (of as f64 * (part + 1e-12)).max(0.0) as u64
}

impl Limits {
    /// The thresholds of a file system, with what the configuration says of it.
    pub fn of(config: &Disk, mount: Option<&DiskMount>) -> Result<Self, UsageError> {
        let mut limits = Self {
            warn: WARN.with(&config.warn, mount.map(|mount| &mount.warn)),
            critical: CRITICAL.with(&config.critical, mount.map(|mount| &mount.critical)),
            clear: config.clear.map_or(0.1, Percent::fraction),
        };
        let pair = Pair::of(config, mount);
        let inodes = pair.map(|limits| limits.inodes.map(|part| 1.0 - part.fraction()));
        let (warn, critical) = inodes.settled((1.0 - WARN.inodes, 1.0 - CRITICAL.inodes), |free| free / 2.0);
        (limits.warn.inodes, limits.critical.inodes) = (1.0 - warn, 1.0 - critical);
        let full_in = pair.map(|limits| limits.full_in);
        (limits.warn.full_in, limits.critical.full_in) =
            full_in.settled((WARN.full_in, CRITICAL.full_in), |time| time / 2);
        limits.check(mount)?;
        Ok(limits)
    }

    /// A warning that comes after what it warns of is a mistake.
    fn check(&self, mount: Option<&DiskMount>) -> Result<(), UsageError> {
        let (warn, critical) = (&self.warn, &self.critical);
        let late = if warn.used.zip(critical.used).is_some_and(|(warn, critical)| warn > critical) {
            "used"
        } else if warn.free.zip(critical.free).is_some_and(|(warn, critical)| warn < critical) {
            "free"
        } else if warn.inodes > critical.inodes {
            "inodes"
        } else if warn.full_in < critical.full_in {
            "full_in"
        } else {
            return Ok(());
        };
        let of_mount = |mount: &DiskMount| format!("[[disk.mount]] {}", mount.path.display());
        let place = mount.map_or_else(|| "[disk]".to_owned(), of_mount);
        Err(comes_after(&place, late))
    }

    /// The bytes free at which it gets a warning and at which it is critical, or fewer; the first is never the smaller.
    ///
    /// A part of the room and a number of bytes can be compared only for a disk of a known size.
    pub fn bytes(&self, space: &Space) -> (u64, u64) {
        let (warn, critical) = (self.warn.bytes(space), self.critical.bytes(space));
        if self.warn.is_set() && !self.critical.is_set() {
            (warn, if critical < warn { critical } else { warn / 2 })
        } else {
            (warn.max(critical), critical)
        }
    }

    /// The threshold of the room at which it has this level, as people say it.
    pub fn words(&self, space: &Space, of: Level) -> String {
        let (warn, critical) = self.bytes(space);
        let (threshold, bytes) =
            if of == Level::Critical { (&self.critical, critical) } else { (&self.warn, warn) };
        match threshold.used {
            Some(used) if share(space.usable(), 1.0 - used) == bytes => format!("{:.0}% used", used * 100.0),
            _ => format!("{} free", units::bytes(bytes)),
        }
    }

    /// The level of the room, given the last.
    pub fn space(&self, space: &Space, last: Level) -> Level {
        if space.usable() == 0 {
            return Level::Ok;
        }
        self.level(space.free, self.bytes(space), last)
    }

    /// The level of the inodes, given the last.
    pub fn inodes(&self, space: &Space, last: Level) -> Level {
        if space.inodes == 0 {
            return Level::Ok;
        }
        let thresholds = (self.warn.free_inodes(space), self.critical.free_inodes(space));
        self.level(space.inodes_free, thresholds, last)
    }

    #[expect(clippy::cast_precision_loss, reason = "thresholds need no more than 52 bits")]
    fn level(&self, free: u64, (warn, critical): (u64, u64), last: Level) -> Level {
        level(free as f64, (warn as f64, critical as f64), self.clear, last)
    }

    /// The level of a forecast, given the last.
    pub fn forecast(&self, full_in: Duration, last: Level) -> Level {
        let thresholds = (self.warn.full_in.as_secs_f64(), self.critical.full_in.as_secs_f64());
        level(full_in.as_secs_f64(), thresholds, CLEAR_FORECAST, last)
    }
}

/// What the configuration says of a warning and of what is critical, the mount before the section.
struct Pair<'a> {
    warn: [Option<&'a DiskLimits>; 2],
    critical: [Option<&'a DiskLimits>; 2],
}

impl<'a> Pair<'a> {
    fn of(config: &'a Disk, mount: Option<&'a DiskMount>) -> Self {
        Self {
            warn: [mount.map(|mount| &mount.warn), Some(&config.warn)],
            critical: [mount.map(|mount| &mount.critical), Some(&config.critical)],
        }
    }

    /// One key of both.
    fn map<T>(&self, key: impl Fn(&DiskLimits) -> Option<T>) -> Set<T> {
        let of = |all: &[Option<&DiskLimits>]| all.iter().flatten().find_map(|limits| key(limits));
        Set { warn: of(&self.warn), critical: of(&self.critical) }
    }
}

/// One key as it is set for a warning and for what is critical, by what is left then.
struct Set<T> {
    warn: Option<T>,
    critical: Option<T>,
}

impl<T: Copy + PartialOrd> Set<T> {
    /// With the usual values where nothing is set, moved where they would be on the wrong side of what is set.
    fn settled(self, usual: (T, T), half: impl Fn(T) -> T) -> (T, T) {
        match (self.warn, self.critical) {
            (Some(warn), None) => (warn, if usual.1 < warn { usual.1 } else { half(warn) }),
            (None, Some(critical)) => (if usual.0 > critical { usual.0 } else { critical }, critical),
            (warn, critical) => (warn.unwrap_or(usual.0), critical.unwrap_or(usual.1)),
        }
    }
}

/// Says why `reliab disk` refuses its section of the configuration.
pub fn check_config(config: &Config) -> Result<(), UsageError> {
    let disk = &config.disk;
    Limits::of(disk, None)?;
    disk.mount.iter().try_for_each(|mount| Limits::of(disk, Some(mount)).map(drop))?;
    let directories = disk
        .directory
        .iter()
        .map(|entry| ("directory", entry.path.display().to_string(), entry.warn, entry.critical));
    let files = disk
        .sqlite
        .iter()
        .map(|entry| ("sqlite", entry.path.display().to_string(), entry.warn, entry.critical));
    let databases =
        disk.database.iter().map(|entry| ("database", entry.name.clone(), entry.warn, entry.critical));
    for (kind, name, warn, critical) in directories.chain(files).chain(databases) {
        if warn.zip(critical).is_some_and(|(warn, critical)| warn > critical) {
            return Err(comes_after(&format!("[[disk.{kind}]] {name}"), "warn"));
        }
    }
    Ok(())
}

fn comes_after(place: &str, key: &str) -> UsageError {
    UsageError(format!("{place}: the warning of `{key}` comes after its critical level: change one of them"))
}

/// A level is reached at its threshold, and left only when there is more than that by the part `clear`.
fn level(left: f64, (warn, critical): (f64, f64), clear: f64, last: Level) -> Level {
    let is = |threshold: f64, had: bool| left <= threshold * if had { 1.0 + clear } else { 1.0 };
    if is(critical, last == Level::Critical) {
        Level::Critical
    } else if is(warn, matches!(last, Level::Warning | Level::Critical)) {
        Level::Warning
    } else {
        Level::Ok
    }
}

/// The level of a size that should not grow beyond a limit.
pub(crate) fn of_size(bytes: u64, warn: Option<u64>, critical: Option<u64>) -> (Level, Option<u64>) {
    let reached = |limit: &Option<u64>| limit.filter(|&limit| bytes >= limit);
    if let Some(limit) = reached(&critical) {
        (Level::Critical, Some(limit))
    } else if let Some(limit) = reached(&warn) {
        (Level::Warning, Some(limit))
    } else {
        (Level::Ok, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(size: u64, free: u64) -> Space {
        Space { size, unused: free, free, inodes: 1000, inodes_free: 500 }
    }

    fn limits(text: &str) -> Limits {
        let config: Disk = serde_json::from_str(text).unwrap();
        Limits::of(&config, config.mount.first()).unwrap()
    }

    fn level_of(limits: &Limits, size: u64, free: u64, last: Level) -> Level {
        limits.space(&space(size, free), last)
    }

    #[test]
    fn the_usual_thresholds_are_parts_of_small_disks_and_bytes_of_large_ones() {
        let usual = limits("{}");
        let check = |size: u64, warn: u64, critical: u64| {
            for (free, expected) in [
                (warn + 1, Level::Ok),
                (warn, Level::Warning),
                (critical + 1, Level::Warning),
                (critical, Level::Critical),
                (0, Level::Critical),
            ] {
                assert_eq!(level_of(&usual, size, free, Level::Ok), expected, "{free} of {size}");
            }
        };
        check(1000, 200, 100);
        check(500 * GIB, 100 * GIB, 50 * GIB);
        check(20_000 * GIB, 100 * GIB, 50 * GIB);
    }

    #[test]
    fn what_is_configured_replaces_the_usual_and_the_first_threshold_counts() {
        let used = limits(r#"{"warn": {"used": "50%"}, "critical": {"used": "60%", "free": "1GiB"}}"#);
        assert_eq!(level_of(&used, 1000 * GIB, 501 * GIB, Level::Ok), Level::Ok);
        assert_eq!(level_of(&used, 1000 * GIB, 500 * GIB, Level::Ok), Level::Warning);
        assert_eq!(level_of(&used, 1000 * GIB, 400 * GIB, Level::Ok), Level::Critical);
        assert_eq!(level_of(&used, 2 * GIB, GIB, Level::Ok), Level::Critical);
        let mount = limits(r#"{"warn": {"used": "50%"}, "mount": [{"path": "/", "warn": {"used": "70%"}}]}"#);
        assert_eq!(level_of(&mount, 1000 * GIB, 400 * GIB, Level::Ok), Level::Ok);
    }

    #[test]
    fn a_level_is_left_later_than_it_is_reached() {
        let usual = limits("{}");
        let after = |free, last| level_of(&usual, 1000, free, last);
        assert_eq!(after(201, Level::Ok), Level::Ok);
        assert_eq!(after(201, Level::Warning), Level::Warning);
        assert_eq!(after(220, Level::Critical), Level::Warning);
        assert_eq!(after(221, Level::Warning), Level::Ok);
        assert_eq!(
            (after(105, Level::Critical), after(105, Level::Warning)),
            (Level::Critical, Level::Warning)
        );
        assert_eq!(after(111, Level::Critical), Level::Warning);
        assert_eq!(after(150, Level::Unknown), Level::Warning);
    }

    #[test]
    fn inodes_and_forecasts_have_levels_too() {
        let usual = limits("{}");
        let inodes = |inodes_free| Space { inodes_free, ..space(1, 1) };
        assert_eq!(usual.inodes(&inodes(201), Level::Ok), Level::Ok);
        assert_eq!(usual.inodes(&inodes(200), Level::Ok), Level::Warning);
        assert_eq!(usual.inodes(&inodes(100), Level::Ok), Level::Critical);
        assert_eq!(usual.inodes(&Space { inodes: 0, inodes_free: 0, ..space(1, 1) }, Level::Ok), Level::Ok);
        let days = |days: u64| usual.forecast(Duration::from_secs(days * 86_400), Level::Ok);
        assert_eq!((days(8), days(7), days(1)), (Level::Ok, Level::Warning, Level::Critical));
        let held = usual.forecast(Duration::from_secs(10 * 86_400), Level::Warning);
        assert_eq!(held, Level::Warning);
    }

    #[test]
    fn warnings_after_their_critical_level_are_refused() {
        for text in [
            r#"{"warn": {"used": "95%"}, "critical": {"used": "90%"}}"#,
            r#"{"warn": {"free": "1GiB"}, "critical": {"free": "2GiB"}}"#,
            r#"{"warn": {"inodes": "95%"}, "critical": {"inodes": "90%"}}"#,
            r#"{"warn": {"full_in": "1d"}, "critical": {"full_in": "8d"}}"#,
            r#"{"critical": {"used": "80%"}, "mount": [{"path": "/a", "warn": {"used": "90%"}}]}"#,
            r#"{"directory": [{"path": "/a", "warn": "2MiB", "critical": "1MiB"}]}"#,
            r#"{"sqlite": [{"path": "/a", "warn": "2MiB", "critical": "1MiB"}]}"#,
            r#"{"database": [{"name": "a", "kind": "mariadb", "warn": "2MiB", "critical": "1MiB"}]}"#,
        ] {
            let config: Disk = serde_json::from_str(text).unwrap();
            let error = check_config(&Config { disk: config, ..Config::default() }).unwrap_err();
            assert!(error.to_string().contains("comes after"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_set_moves_what_is_not() {
        let of = |text: &str, size: u64| limits(text).bytes(&space(size, size));
        assert_eq!(of(r#"{"warn": {"used": "95%"}}"#, 1000), (50, 25));
        assert_eq!(of(r#"{"warn": {"used": "85%"}}"#, 1000), (150, 100));
        assert_eq!(of(r#"{"critical": {"used": "70%"}}"#, 1000), (300, 300));
        assert_eq!(of(r#"{"warn": {"free": "10GiB"}}"#, 1000 * GIB), (10 * GIB, 5 * GIB));
        assert_eq!(of(r#"{"critical": {"free": "200GiB"}}"#, 1000 * GIB), (200 * GIB, 200 * GIB));
        // Which of these comes first depends on the size of the disk.
        let mixed = r#"{"warn": {"used": "80%"}, "critical": {"free": "100GiB"}}"#;
        assert_eq!(of(mixed, 200 * GIB), (100 * GIB, 100 * GIB));
        assert_eq!(of(mixed, 1000 * GIB).0 / GIB, 200);
        let late = limits(r#"{"warn": {"used": "95%", "inodes": "95%", "full_in": "12h"}}"#);
        assert_eq!(late.words(&space(1000, 500), Level::Critical), "25 B free");
        assert_eq!(late.words(&space(1000, 500), Level::Warning), "95% used");
        assert!((late.critical.inodes - 0.975).abs() < 1e-9, "{late:?}");
        assert_eq!(late.critical.full_in, Duration::from_secs(6 * 3600));
        let early = limits(r#"{"critical": {"inodes": "50%", "full_in": "8d"}}"#);
        assert!((early.warn.inodes - 0.5).abs() < 1e-9, "{early:?}");
        assert_eq!(early.warn.full_in, Duration::from_secs(8 * 86_400));
    }

    #[test]
    fn sizes_have_limits() {
        assert_eq!(of_size(9, Some(10), Some(20)), (Level::Ok, None));
        assert_eq!(of_size(10, Some(10), Some(20)), (Level::Warning, Some(10)));
        assert_eq!(of_size(20, Some(10), Some(20)), (Level::Critical, Some(20)));
        assert_eq!(of_size(u64::MAX, None, None), (Level::Ok, None));
    }
}
