//! The state file: facts that tools write and status and alerts read.

mod schema;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use thiserror::Error;

use schema::MIGRATIONS;

/// The file's name in the state folder.
const FILE: &str = "state.db";
/// How long to wait for another tool's transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state file cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder or the file cannot be made.
    #[error("cannot make the state file {}", path.display())]
    Create {
        /// The state file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer reliab wrote the file.
    #[error(
        "the state file {} has version {found}, and this reliab knows versions up to {known}: \
         use the newer reliab, or another folder with --state-dir",
        path.display()
    )]
    Newer {
        /// The state file.
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// `SQLite` refused: the file is damaged, busy, full or not a database.
    #[error("cannot use the state file {}", path.display())]
    Database {
        /// The state file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// The open state file.
#[derive(Debug)]
pub struct State {
    db: Connection,
    path: PathBuf,
}

impl State {
    /// Opens the state file in the folder `dir`, making it or bringing it to the newest version if need be.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        create(dir, &path).map_err(|source| StateError::Create { path: path.clone(), source })?;
        let known = version_of(MIGRATIONS);
        match open(&path, MIGRATIONS) {
            Ok(Opened::Ready(db)) => Ok(Self { db, path }),
            Ok(Opened::Unknown(found)) => Err(StateError::Newer { path, found, known }),
            Err(source) => Err(StateError::Database { path, source }),
        }
    }

    /// The value last stored under `name`.
    pub fn cursor(&self, name: &str) -> Result<Option<String>, StateError> {
        self.with(|db| {
            db.query_row("SELECT value FROM cursor WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
    }

    /// Stores `value` under `name`, durably, in place of the one before.
    pub fn set_cursor(&self, name: &str, value: &str) -> Result<(), StateError> {
        let sql =
            "INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.with(|db| db.execute(sql, [name, value])).map(drop)
    }

    /// Lets `act` read the database; its error gets the file's path.
    pub fn with<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StateError> {
        act(&self.db).map_err(|source| StateError::Database { path: self.path.clone(), source })
    }

    /// Lets `act` change the database in one durable transaction, or not at all.
    pub fn write<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StateError> {
        self.with(|db| {
            // Immediate: a transaction that reads first could otherwise be refused without waiting.
            let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            let result = act(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// The bytes of the file and of its write-ahead log.
    pub fn size(&self) -> u64 {
        let log = self.path.with_extension("db-wal");
        [&self.path, &log].into_iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A time as the state has it, in nanoseconds since 1970; one after the year 2262 is kept as that.
pub fn nanos(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// The time of what [`nanos`] gave.
pub fn time(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}

/// What came of opening a database.
enum Opened {
    Ready(Connection),
    /// The file has this version, which is none of ours; it was not touched.
    Unknown(i64),
}

/// Makes the folder and an empty file for the owner alone; what exists keeps the mode its owner gave it.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

fn open(path: &Path, migrations: &[&str]) -> rusqlite::Result<Opened> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(PATIENCE)?;
    let found = version(&db)?;
    if !(0..=version_of(migrations)).contains(&found) {
        return Ok(Opened::Unknown(found));
    }
    use_wal(&db)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    migrate(&mut db, migrations)?;
    Ok(Opened::Ready(db))
}

/// Switches to the write-ahead log, for which `SQLite` does not itself wait for others.
fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match db.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Takes the steps that the file lacks, all or none.
fn migrate(db: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    if version(db)? == version_of(migrations) {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again: another tool may have migrated while this one waited for the lock.
    let done = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in migrations.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version_of(migrations).max(version(&transaction)?))?;
    transaction.commit()
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The schema version after all of `migrations`.
fn version_of(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn ready(path: &Path, migrations: &[&str]) -> Connection {
        match open(path, migrations).unwrap() {
            Opened::Ready(db) => db,
            Opened::Unknown(found) => panic!("version {found}"),
        }
    }

    #[test]
    fn a_new_state_is_private_durable_and_of_the_newest_version() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/state");
        let state = State::open(&folder).unwrap();
        state.set_cursor("a", "1").unwrap();
        assert_eq!(mode(&folder), 0o700);
        let len = |file| std::fs::metadata(folder.join(file)).unwrap().len();
        assert_eq!(state.size(), len("state.db") + len("state.db-wal"));
        for file in ["state.db", "state.db-wal", "state.db-shm"] {
            assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
        }
        let pragma = |name| state.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("user_version"), version_of(MIGRATIONS));
        assert_eq!(pragma("synchronous"), 2);
        let journal: String = state.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(journal, "wal");
    }

    #[test]
    fn cursors_keep_their_last_value_over_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        assert_eq!(state.cursor("verify").unwrap(), None);
        state.set_cursor("verify", "17").unwrap();
        state.set_cursor("verify", "42").unwrap();
        drop(state);
        let state = State::open(dir.path()).unwrap();
        assert_eq!(state.cursor("verify").unwrap().as_deref(), Some("42"));
        assert_eq!(state.cursor("other").unwrap(), None);
    }

    #[test]
    fn a_newer_file_is_refused_by_name_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = State::open(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "the state file {} has version 7, and this reliab knows versions up to {}: \
             use the newer reliab, or another folder with --state-dir",
            path.display(),
            version_of(MIGRATIONS)
        );
        assert_eq!(error, expected);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn migrations_go_forward_from_any_version_and_keep_the_rows() {
        let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y DEFAULT 5", "CREATE TABLE b (x)"];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        ready(&path, &steps[..1]).execute("INSERT INTO a VALUES (1)", []).unwrap();
        let db = ready(&path, &steps);
        assert_eq!(version(&db).unwrap(), 3);
        let row: (i64, i64) =
            db.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, (1, 5));
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "nonsense"];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        drop(ready(&path, &steps[..1]));
        assert!(open(&path, &steps).is_err());
        let db = ready(&path, &steps[..2]);
        assert_eq!(version(&db).unwrap(), 2);
    }

    #[test]
    fn many_tools_may_open_a_new_state_at_once() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let opener = |name: String| {
                let state = State::open(dir.path()).unwrap();
                state.set_cursor(&name, &name).unwrap();
            };
            thread::scope(|scope| {
                for number in 0..8 {
                    scope.spawn(move || opener(number.to_string()));
                }
            });
            let state = State::open(dir.path()).unwrap();
            let count: i64 =
                state.with(|db| db.query_row("SELECT count(*) FROM cursor", [], |row| row.get(0))).unwrap();
            assert_eq!(count, 8);
        }
    }

    #[test]
    fn what_is_not_a_state_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "not a database, and longer than any header of one ".repeat(9))
            .unwrap();
        let error = State::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Database { .. }), "{error}");
        let error = State::open(&dir.path().join(FILE)).unwrap_err();
        assert!(matches!(error, StateError::Create { .. }), "{error}");
    }
}
