//! The snapshots of a repository: listing them, and finding the one that is meant.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use rustix::io::Errno;

use super::Repository;
use crate::error::{Error, Result};
use crate::format::METADATA_LIMIT;
use crate::format::snapshot::{Snapshot, decode_snapshot, encode_snapshot};
use crate::id::ObjectId;
use crate::storage::{Storage, snapshot_key};
use crate::walk::snapshot_path;

/// A snapshot and the name of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSnapshot {
    /// SHA-256 of its file.
    pub id: ObjectId,
    /// What it says.
    pub snapshot: Snapshot,
}

/// A snapshot file that cannot be used: it is damaged, or this user may not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// What its name says.
    pub id: ObjectId,
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// This user may not read it, which is no damage.
    pub is_closed: bool,
}

impl DamagedSnapshot {
    /// What keeps it from being used, in words of the caller if it is damaged.
    pub fn error(&self, reason: impl ToString) -> Error {
        if self.is_closed {
            let source = Errno::ACCESS.into();
            return Error::Storage { action: "read", path: self.key.clone(), source };
        }
        Error::damaged(&self.key, reason)
    }
}

/// All snapshots of a repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotList {
    /// Readable ones, by the time they carry.
    pub snapshots: Vec<StoredSnapshot>,
    /// Damaged ones.
    pub damaged: Vec<DamagedSnapshot>,
    /// Keys of files that do not belong among snapshots.
    pub foreign: Vec<String>,
}

/// What a person calls a snapshot: `latest`, the beginning of an id, or a date; with `:PATH` a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Before the colon that begins a path.
    pub name: String,
    /// After it, as snapshots name paths; need not be UTF-8.
    pub path: Option<Vec<u8>>,
}

impl SnapshotSpec {
    /// Parses `NAME[:PATH]`. A colon inside a time (`2026-01-02T03:04`) begins no path.
    pub fn parse(spec: &[u8]) -> Self {
        let colons = spec.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
        let ends: Vec<usize> = colons.chain([spec.len()]).collect();
        let is_time =
            |end: &usize| str::from_utf8(&spec[..*end]).is_ok_and(|name| parse_time(name).is_some());
        let end = ends.iter().copied().rev().find(is_time).unwrap_or(ends[0]);
        let name = if end == 0 && !spec.is_empty() { b"latest" } else { &spec[..end] };
        let path = spec.get(end + 1..).map(|path| snapshot_path(Path::new(OsStr::from_bytes(path))));
        Self { name: String::from_utf8_lossy(name).into_owned(), path: path.filter(|path| path != b".") }
    }
}

/// The end of the second, minute or day that a date names, in local time unless it says otherwise.
fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    if let Some(time) = parse_zoned(text) {
        return Some(time);
    }
    let text = text.replace('T', " ");
    let end = if let Ok(day) = NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
        day.checked_add_days(Days::new(1))?.and_hms_opt(0, 0, 0)?
    } else if let Ok(minute) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M") {
        minute.checked_add_signed(TimeDelta::minutes(1))?
    } else {
        let second = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok()?;
        second.checked_add_signed(TimeDelta::seconds(1))?
    };
    let last = end - TimeDelta::nanoseconds(1);
    Local.from_local_datetime(&last).latest().map(|time| time.to_utc())
}

/// A time with its zone, as RFC 3339 writes it or as tables show it, with a space before the offset. A whole second
/// means its end: what is shown of a snapshot's time is less than the time that it carries.
fn parse_zoned(text: &str) -> Option<DateTime<Utc>> {
    let joined = text.replacen(" +", "+", 1).replacen(" -", "-", 1);
    let time = DateTime::parse_from_rfc3339(&joined).ok()?.to_utc();
    let is_whole = time.timestamp_subsec_nanos() == 0;
    Some(if is_whole { time + TimeDelta::seconds(1) - TimeDelta::nanoseconds(1) } else { time })
}

impl SnapshotList {
    /// Reads all snapshots.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self> {
        let mut list = Self::default();
        for object in storage.list("snapshots")? {
            let Some(id) = object.key.strip_prefix("snapshots/").and_then(ObjectId::parse) else {
                list.foreign.push(object.key);
                continue;
            };
            match read_snapshot(storage, &object.key) {
                Ok(stored) => list.snapshots.push(stored),
                Err(Unusable { reason, is_closed }) => {
                    list.damaged.push(DamagedSnapshot { id, key: object.key, reason, is_closed });
                }
            }
        }
        list.snapshots.sort_by_key(|s| (s.snapshot.time, s.id));
        Ok(list)
    }

    /// The snapshot that `name` means: `latest`, an id prefix of four digits or more, or the last one at a date.
    pub fn find(&self, name: &str) -> Result<&StoredSnapshot> {
        let missing = |reason: String| Error::NoSnapshot { spec: name.to_owned(), reason };
        if name == "latest" {
            return self.latest(None);
        }
        if let Some(found) = self.find_id(name)? {
            return Ok(found);
        }
        if let Some(time) = parse_time(name) {
            let before = self.snapshots.iter().rev().find(|s| s.snapshot.time <= time);
            let oldest = self.snapshots.first().map(|s| s.snapshot.time.format("%F %T %:z"));
            return before.ok_or_else(|| {
                missing(oldest.map_or_else(
                    || "the repository has no snapshots yet".into(),
                    |oldest| format!("no snapshot is that old: the oldest is of {oldest}"),
                ))
            });
        }
        let is_short = name.len() < ID_DIGITS_MIN && name.bytes().all(|b| b.is_ascii_hexdigit());
        let why = if is_short { "an id needs four digits or more" } else { "no id begins so" };
        Err(missing(format!("{why}; {}", self.near(name))))
    }

    /// The latest snapshot, of one host or of all; an error if a damaged one may be newer.
    pub fn latest(&self, host: Option<&str>) -> Result<&StoredSnapshot> {
        let ends = self.ends();
        if let Some(damaged) = self.damaged.iter().find(|damaged| ends.contains(&damaged.id)) {
            let reason = format!(
                "it may be the latest, but it is damaged ({}); name a snapshot by its id",
                damaged.reason
            );
            return Err(damaged.error(reason));
        }
        let is_of = |s: &StoredSnapshot| host.is_none_or(|host| s.snapshot.host == host);
        self.latest_of(is_of).ok_or_else(|| Error::NoSnapshot {
            spec: "latest".into(),
            reason: match host.filter(|_| !self.snapshots.is_empty()) {
                Some(host) => format!("none is of host {host:?} (`reliab snapshots` lists all)"),
                None => "the repository has no snapshots yet".into(),
            },
        })
    }

    /// The newest of those that fit: of what others of them came after, whatever the clocks said, none is.
    pub fn latest_of(&self, fits: impl Fn(&StoredSnapshot) -> bool) -> Option<&StoredSnapshot> {
        let fitting: Vec<&StoredSnapshot> = self.snapshots.iter().filter(|s| fits(s)).collect();
        let older = self.older_than(&fitting);
        fitting.into_iter().rev().find(|s| !older.contains(&s.id))
    }

    /// Snapshots, readable or not, that came last: no readable one says that it came after them.
    pub fn ends(&self) -> Vec<ObjectId> {
        let older: HashSet<ObjectId> = self.snapshots.iter().flat_map(before).collect();
        let damaged = self.damaged.iter().map(|damaged| damaged.id);
        self.snapshots.iter().map(|s| s.id).chain(damaged).filter(|id| !older.contains(id)).collect()
    }

    /// What these came after, as far as readable snapshots tell.
    fn older_than(&self, these: &[&StoredSnapshot]) -> HashSet<ObjectId> {
        let by_id: HashMap<ObjectId, &StoredSnapshot> = self.snapshots.iter().map(|s| (s.id, s)).collect();
        let mut older = HashSet::new();
        let mut next: Vec<ObjectId> = these.iter().copied().flat_map(before).collect();
        while let Some(id) = next.pop() {
            if older.insert(id) {
                next.extend(by_id.get(&id).copied().into_iter().flat_map(before));
            }
        }
        older
    }

    fn find_id(&self, prefix: &str) -> Result<Option<&StoredSnapshot>> {
        let is_hex = prefix.len() >= ID_DIGITS_MIN && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Ok(None);
        }
        let prefix = prefix.to_ascii_lowercase();
        if let Some(damaged) = self.damaged.iter().find(|d| d.key.starts_with(&format!("snapshots/{prefix}")))
        {
            return Err(damaged.error(&damaged.reason));
        }
        let mut found = self.snapshots.iter().filter(|s| s.id.to_string().starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                let reason = "several ids begin so; give more digits".to_owned();
                Err(Error::NoSnapshot { spec: prefix, reason })
            }
            (first, _) => Ok(first),
        }
    }

    /// Ids that resemble a name, for an error message.
    fn near(&self, name: &str) -> String {
        if self.snapshots.is_empty() {
            return "the repository has no snapshots yet".into();
        }
        let common = |s: &&StoredSnapshot| {
            s.id.short().bytes().zip(name.to_ascii_lowercase().bytes()).filter(|(a, b)| a == b).count()
        };
        let mut near: Vec<&StoredSnapshot> = self.snapshots.iter().rev().collect();
        near.sort_by_key(|s| std::cmp::Reverse(common(s)));
        let ids: Vec<String> = near.iter().take(3).map(|s| s.id.short()).collect();
        format!("near ones: {}, latest (`reliab snapshots` lists all)", ids.join(", "))
    }
}

/// The fewest digits of an id that name a snapshot.
const ID_DIGITS_MIN: usize = 4;

/// Why a snapshot cannot be used.
struct Unusable {
    reason: String,
    is_closed: bool,
}

fn read_snapshot(storage: &dyn Storage, key: &str) -> std::result::Result<StoredSnapshot, Unusable> {
    let damaged = |reason: String| Unusable { reason, is_closed: false };
    let bytes = match storage.get(key, METADATA_LIMIT) {
        Ok(bytes) => bytes,
        Err(Error::Damaged { reason, .. }) => return Err(damaged(reason)),
        // A bad sector under one snapshot must not take the others with it.
        Err(other) => {
            let is_closed = matches!(&other, Error::Storage { source, .. } if source.kind() == ErrorKind::PermissionDenied);
            return Err(Unusable { reason: other.told(), is_closed });
        }
    };
    let id = ObjectId::of(&bytes);
    if key != snapshot_key(&id) {
        return Err(damaged("its SHA-256 is not its name".into()));
    }
    decode_snapshot(&bytes)
        .map(|snapshot| StoredSnapshot { id, snapshot })
        .map_err(|reason| damaged(reason.0))
}

/// The snapshots that this one says it came after.
fn before(stored: &StoredSnapshot) -> impl Iterator<Item = ObjectId> + '_ {
    stored.snapshot.parent.iter().chain(&stored.snapshot.after).copied()
}

impl Repository {
    /// Publishes a snapshot; everything it needs must be durable by now.
    pub fn publish_snapshot(&self, snapshot: Snapshot) -> Result<StoredSnapshot> {
        let bytes =
            encode_snapshot(&snapshot).map_err(|reason| Error::damaged("the new snapshot", reason))?;
        let id = ObjectId::of(&bytes);
        self.storage.put(&snapshot_key(&id), &bytes)?;
        Ok(StoredSnapshot { id, snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_splits_at_the_colon_that_begins_a_path() {
        let check = |text: &str, name: &str, path: Option<&str>| {
            let spec = SnapshotSpec::parse(text.as_bytes());
            let expected = (name, path.map(str::as_bytes));
            assert_eq!((spec.name.as_str(), spec.path.as_deref()), expected, "{text}");
        };
        check("latest", "latest", None);
        check("latest:data/app.db", "latest", Some("data/app.db"));
        check("latest:/data/", "latest", Some("data"));
        check(":data", "latest", Some("data"));
        check("ab12cd34:", "ab12cd34", None);
        check("2026-01-02", "2026-01-02", None);
        check("2026-01-02:data", "2026-01-02", Some("data"));
        check("2026-01-02T03:04", "2026-01-02T03:04", None);
        check("2026-01-02 03:04:05", "2026-01-02 03:04:05", None);
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", None);
        check("2026-01-02 03:04:05 +01:00", "2026-01-02 03:04:05 +01:00", None);
        check("2026-01-02T03:04:05-08:00:data", "2026-01-02T03:04:05-08:00", Some("data"));
        check("2026-01-02T03:04:data/05:06", "2026-01-02T03:04", Some("data/05:06"));
        check("latest:a:b", "latest", Some("a:b"));
        check("", "", None);
        check(":", "latest", None);
        check("ab12:./data//x/", "ab12", Some("data/x"));
        check("ab12:/", "ab12", None);
        let odd = SnapshotSpec::parse(b"2026-01-02T03:04:\xff");
        assert_eq!((odd.name.as_str(), odd.path.as_deref()), ("2026-01-02T03:04", Some(&b"\xff"[..])));
    }

    #[test]
    fn a_time_with_its_zone_means_the_end_of_its_second() {
        let check = |text: &str, expected: &str| {
            let expected = DateTime::parse_from_rfc3339(expected).unwrap();
            assert_eq!(parse_time(text), Some(expected.to_utc()), "{text}");
        };
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.999999999Z");
        check("2026-01-02 03:04:05 +01:00", "2026-01-02T02:04:05.999999999Z");
        check("2026-01-02 03:04:05 -08:00", "2026-01-02T11:04:05.999999999Z");
        check("2026-01-02T03:04:05.25Z", "2026-01-02T03:04:05.25Z");
        for far in ["+262142-12-31", "+262142-12-31 23:59", "+262142-12-31 23:59:59", "9999-12-31T23:59:60Z"]
        {
            // Whatever it means, it is no panic.
            let _ = parse_time(far);
        }
        let shown = Local.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        let end = shown.to_utc() + TimeDelta::nanoseconds(999_999_999);
        assert_eq!(parse_time(&shown.format("%Y-%m-%d %H:%M:%S %:z").to_string()), Some(end));
        assert_eq!(parse_time(&shown.format("%Y-%m-%d %H:%M:%S").to_string()), Some(end));
    }
}
