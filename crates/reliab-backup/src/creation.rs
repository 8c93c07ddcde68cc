//! A repository that is about to be created: because it is the first backup, or because its disk is not mounted.
//!
//! The folder of a mount that is not there is empty. A new repository in it would hide that all earlier snapshots are out
//! of reach, and fill the wrong disk. The record of runs tells the two apart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use chrono::{DateTime, Utc};
use reliab_common::clock;
use reliab_common::state::{State, StateError, time};
use reliab_repo::repository::Repository;

use crate::repo::storage;

/// Whether a backup into `folder` creates the repository; an error if there was one before, unless a new one is
/// `wanted`.
///
/// Without a record of runs nobody knows of an earlier one.
pub(crate) fn is_due(folder: &Path, wanted: bool, state: Option<&State>) -> anyhow::Result<bool> {
    // What cannot be looked at is told by the engine, with its cause.
    if Repository::exists(storage(folder).as_ref()).unwrap_or(true) {
        return Ok(false);
    }
    let last = state.filter(|_| !wanted).and_then(|state| last_backup(state, folder).ok().flatten());
    if let Some(last) = last {
        bail!(
            "cannot find the repository {}: a backup went there on {}, and now there is none; is its disk mounted? \
             To begin a new repository there: --new-repository",
            whole(folder).display(),
            clock::local(last)
        );
    }
    Ok(true)
}

/// The line that tells of it.
pub(crate) fn told(folder: &Path, dry_run: bool) -> String {
    let what = if dry_run { "would create" } else { "created" };
    format!("{what} the repository {}", whole(folder).display())
}

/// Where a folder is, by whatever name: from the root, links followed as far as they lead somewhere.
pub(crate) fn location(folder: &Path) -> PathBuf {
    let whole = whole(folder);
    let found = whole.ancestors().find_map(|ancestor| {
        let below = whole.strip_prefix(ancestor).ok()?;
        let real = fs::canonicalize(ancestor).ok()?;
        // In parts: joined with nothing it would end with a slash.
        Some(real.components().chain(below.components()).collect())
    });
    found.unwrap_or(whole)
}

/// What the record calls the jobs of a repository: its path from the root, from whatever folder it was reached.
///
/// Not where links lead: that is another place while a disk is away, and the failure of then would never be made good.
pub(crate) fn job(folder: &Path) -> String {
    let whole: PathBuf = whole(folder).components().collect();
    whole.display().to_string()
}

fn whole(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// When the last backup ended that made a snapshot in the repository of this folder.
fn last_backup(state: &State, folder: &Path) -> Result<Option<DateTime<Utc>>, StateError> {
    let names = [location(folder), whole(folder)].map(|path| path.display().to_string());
    let sql = "SELECT max(ended) FROM (
            SELECT ended, CASE WHEN json_valid(figures) THEN figures ELSE '{}' END AS figures FROM run
            WHERE tool = 'backup' AND ended IS NOT NULL
        ) WHERE figures ->> '$.snapshot' IS NOT NULL
            AND (figures ->> '$.location' IN (?1, ?2) OR figures ->> '$.repository' IN (?1, ?2))";
    let last: Option<i64> = state.with(|db| db.query_row(sql, names, |row| row.get(0)))?;
    Ok(last.map(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_called_the_same_whether_its_disk_is_there_or_not() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("disk/backups", dir.path().join("link")).unwrap();
        let expected = dir.path().join("link").display().to_string();
        assert_eq!(job(&dir.path().join("link/")), expected);
        fs::create_dir_all(dir.path().join("disk/backups")).unwrap();
        assert_eq!(job(&dir.path().join("link")), expected);
    }

    #[test]
    fn a_place_is_the_same_by_whatever_name_and_whether_it_is_there_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(real.join("disk/b")).unwrap();
        std::os::unix::fs::symlink("disk", real.join("link")).unwrap();
        let expected = real.join("disk/b");
        let places = || ["disk/b", "link/b", "link/./b/"].map(|name| location(&real.join(name)));
        let check = |places: [PathBuf; 3]| {
            for place in places {
                assert_eq!(place.as_os_str(), expected.as_os_str());
            }
        };
        check(places());
        fs::remove_dir(&expected).unwrap();
        check(places());
    }
}
