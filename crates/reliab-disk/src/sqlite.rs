//! `SQLite` files: how large they are, how much of that is free, and whether they are whole.
//!
//! Sizes are read from the file's header (see <https://sqlite.org/fileformat2.html>, section 1.3), which takes no lock and
//! leaves nothing beside the file. What the write-ahead log holds is not in the header until a checkpoint.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;
/// Findings of a check that are kept; `SQLite` itself stops at 100.
const FINDINGS: usize = 100;
/// How long to wait for a writer's lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large a `SQLite` file is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SqliteSize {
    /// The file.
    pub bytes: u64,
    /// Pages in it that nothing uses; `VACUUM` gives them back.
    pub free: u64,
    /// Its write-ahead log.
    pub wal: u64,
    /// One page.
    pub page: u64,
}

impl SqliteSize {
    /// The file and its write-ahead log.
    pub fn total(&self) -> u64 {
        self.bytes.saturating_add(self.wal)
    }
}

/// Measures a file; an empty file is an empty database.
pub(crate) fn size(path: &Path) -> io::Result<SqliteSize> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        // To open a pipe is to wait for whoever writes to it.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let bytes = found.len();
    let mut file = File::open(path)?;
    let wal = match fs::metadata(beside(path, "-wal")) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let mut header = Vec::with_capacity(HEADER);
    Read::by_ref(&mut file).take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(SqliteSize { wal, ..SqliteSize::default() });
    }
    let not_one = || io::Error::new(io::ErrorKind::InvalidData, "not a SQLite database");
    let (page, free) = parse(&header).ok_or_else(not_one)?;
    Ok(SqliteSize { bytes, free: page.saturating_mul(free).min(bytes), wal, page })
}

/// The size of a page and the number of free ones.
fn parse(header: &[u8]) -> Option<(u64, u64)> {
    if header.len() < HEADER || !header.starts_with(MAGIC) {
        return None;
    }
    let page = match u16::from_be_bytes(header.get(16..18)?.try_into().ok()?) {
        1 => 65_536,
        size if size >= 512 && size.is_power_of_two() => u64::from(size),
        _ => return None,
    };
    let free = u32::from_be_bytes(header.get(36..40)?.try_into().ok()?);
    Some((page, u64::from(free)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether a file is whole.
#[derive(Debug, PartialEq)]
pub(crate) enum Condition {
    /// It is.
    Whole,
    /// What is wrong with it.
    Damaged(Vec<String>),
    /// It cannot be checked now, such as one that is locked by a writer, and why.
    Unknown(String),
}

/// What `PRAGMA quick_check` finds.
pub(crate) fn quick_check(path: &Path) -> Condition {
    match findings(path) {
        Ok(found) if found.is_empty() => Condition::Whole,
        Ok(found) => Condition::Damaged(found),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Condition::Damaged(vec![error.to_string()])
            }
            _ => Condition::Unknown(format!("cannot be checked: {error}")),
        },
    }
}

fn findings(path: &Path) -> rusqlite::Result<Vec<String>> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(PATIENCE)?;
    // The file may come from anybody: what its schema says is not to be run.
    db.pragma_update(None, "trusted_schema", false)?;
    let mut found: Vec<String> =
        db.prepare("PRAGMA quick_check")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    found.retain(|line| line != "ok");
    found.truncate(FINDINGS);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn database(pragmas: &str) -> (tempfile::TempDir, PathBuf, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(pragmas).unwrap();
        db.execute_batch(
            "CREATE TABLE t (x); CREATE INDEX i ON t (x);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO t SELECT hex(randomblob(200)) FROM n;
             DELETE FROM t WHERE rowid > 100;",
        )
        .unwrap();
        (dir, path, db)
    }

    fn pragma(db: &Connection, name: &str) -> u64 {
        let value: i64 = db.pragma_query_value(None, name, |row| row.get(0)).unwrap();
        value.unsigned_abs()
    }

    #[test]
    fn sizes_are_those_that_sqlite_tells() {
        for page in [512, 4096, 65_536] {
            let (_dir, path, db) = database(&format!("PRAGMA page_size = {page}"));
            let size = size(&path).unwrap();
            assert_eq!(size.page, page);
            assert_eq!(size.bytes, pragma(&db, "page_count") * page);
            assert_eq!(size.free, pragma(&db, "freelist_count") * page);
            assert!(size.free > 0 || page == 65_536);
            assert_eq!(size.wal, 0);
        }
    }

    #[test]
    fn the_write_ahead_log_counts() {
        let (_dir, path, db) = database("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
        let size = size(&path).unwrap();
        assert_eq!(size.wal, fs::metadata(beside(&path, "-wal")).unwrap().len());
        assert!(size.wal > 0 && size.total() == size.bytes + size.wal);
        drop(db);
    }

    #[test]
    fn an_empty_file_is_an_empty_database_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "").unwrap();
        assert_eq!(size(&path).unwrap(), SqliteSize::default());
        for content in [&b"SQLite format 3"[..], &[0; 200], b"SQLite format 3\0\0\0"] {
            fs::write(&path, content).unwrap();
            assert_eq!(size(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(size(&dir.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_check_finds_damage_and_changes_nothing() {
        let (_dir, path, db) = database("PRAGMA page_size = 4096");
        drop(db);
        assert_eq!(quick_check(&path), Condition::Whole);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff; 64], 4096).unwrap();
        let before = fs::read(&path).unwrap();
        let found = quick_check(&path);
        assert!(matches!(&found, Condition::Damaged(found) if !found.is_empty()), "{found:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::write(&path, "no database, and long enough to be read as one".repeat(9)).unwrap();
        assert!(matches!(quick_check(&path), Condition::Damaged(_)));
    }

    #[test]
    fn what_cannot_be_checked_is_not_damaged() {
        let (_dir, path, db) = database("PRAGMA page_size = 4096");
        assert!(matches!(quick_check(&path.with_extension("absent")), Condition::Unknown(_)));
        db.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let found = quick_check(&path);
        assert!(matches!(&found, Condition::Unknown(why) if why.contains("locked")), "{found:?}");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert_eq!(size(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
