//! Thresholds: what the configuration says, and what holds where it says nothing.

use std::time::Duration;

use reliab_common::config::Disk;
use reliab_common::config::disk::{DiskLimits, DiskMount};
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
    /// With what the section says, and above that what the mount says.
    fn with(&self, section: &DiskLimits, mount: Option<&DiskLimits>) -> Self {
        let part = |limits: &DiskLimits, field: fn(&DiskLimits) -> Option<Percent>| {
            field(limits).map(Percent::fraction)
        };
        let parts = |field| mount.and_then(|mount| part(mount, field)).or_else(|| part(section, field));
        Self {
            used: parts(|limits| limits.used),
            free: mount.and_then(|mount| mount.free).or(section.free),
            usual: self.usual,
            inodes: parts(|limits| limits.inodes).unwrap_or(self.inodes),
            full_in: mount.and_then(|mount| mount.full_in).or(section.full_in).unwrap_or(self.full_in),
        }
    }

    /// The level is reached with this many bytes free, or fewer.
    pub fn bytes(&self, space: &Space) -> u64 {
        let usable = space.usable();
        match (self.used, self.free) {
            (None, None) => share(usable, self.usual.0).min(self.usual.1),
            (used, free) => {
                used.map_or(0, |used| share(usable, 1.0 - used)).max(free.map_or(0, |free| free.min(usable)))
            }
        }
    }

    /// The threshold of space as people say it.
    pub fn words(&self, space: &Space) -> String {
        let bytes = self.bytes(space);
        match (self.used, self.free) {
            (Some(used), _) if share(space.usable(), 1.0 - used) == bytes => {
                format!("{:.0}% used", used * 100.0)
            }
            _ => format!("{} free", units::bytes(bytes)),
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
        let limits = Self {
            warn: WARN.with(&config.warn, mount.map(|mount| &mount.warn)),
            critical: CRITICAL.with(&config.critical, mount.map(|mount| &mount.critical)),
            clear: config.clear.map_or(0.1, Percent::fraction),
        };
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
        let place = mount
            .map_or_else(|| "[disk]".to_owned(), |mount| format!("[[disk.mount]] {}", mount.path.display()));
        Err(UsageError(format!(
            "{place}: the warning of `{late}` comes after its critical level: change one of them"
        )))
    }

    /// The level of the room, given the last.
    pub fn space(&self, space: &Space, last: Level) -> Level {
        if space.usable() == 0 {
            return Level::Ok;
        }
        let thresholds = (self.warn.bytes(space), self.critical.bytes(space));
        self.level(space.free, thresholds, last)
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
            r#"{"warn": {"inodes": "95%"}}"#,
            r#"{"critical": {"full_in": "8d"}}"#,
        ] {
            let config: Disk = serde_json::from_str(text).unwrap();
            let error = Limits::of(&config, None).unwrap_err();
            assert!(error.to_string().contains("comes after"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_have_limits() {
        assert_eq!(of_size(9, Some(10), Some(20)), (Level::Ok, None));
        assert_eq!(of_size(10, Some(10), Some(20)), (Level::Warning, Some(10)));
        assert_eq!(of_size(20, Some(10), Some(20)), (Level::Critical, Some(20)));
        assert_eq!(of_size(u64::MAX, None, None), (Level::Ok, None));
    }
}
