//! One run of a job at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;

use crate::clock::{self, Clock};

/// How often to look again for the name of a holder that has only just taken the lock, and how long between.
const LOOKS: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// No honest lock file is longer.
const LONGEST: u64 = 64 * 1024;

/// A job's lock was not had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another run has it.
    #[error(
        "another run of this job is in progress: {}, since {}: {what} (lock {})",
        pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}")),
        clock::local(*since),
        path.display()
    )]
    Held {
        /// The process that has it, unless it could not write that down.
        pid: Option<u32>,
        /// When it took the lock.
        since: DateTime<Utc>,
        /// The command line of the process.
        what: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A job's lock, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct JobLock {
    /// The kernel releases the lock with the last handle to the open file.
    _file: File,
}

impl JobLock {
    /// Takes the lock `name` in the folder `dir`, which is made if need be, or says who has it.
    pub fn acquire(dir: &Path, name: &str, clock: &dyn Clock) -> Result<Self, LockError> {
        let path = dir.join(file_name(name));
        let fail = |source| LockError::Io { path: path.clone(), source };
        let file = open(dir, &path).map_err(fail)?;
        let mut looks = 0;
        loop {
            if try_lock(&file).map_err(fail)? {
                // What the file says is a service to others; a full disk must not stop the job.
                let _ = sign(&file, clock.now());
                return Ok(Self { _file: file });
            }
            let holder = Holder::read(&file).map_err(fail)?;
            looks += 1;
            if holder.pid.is_some() || looks == LOOKS {
                return Err(holder.into_error(path));
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

/// What a lock file says of the run that has it.
struct Holder {
    pid: Option<u32>,
    since: DateTime<Utc>,
    what: String,
}

impl Holder {
    /// Reads the three lines that [`sign`] writes; what is missing is made up for.
    fn read(file: &File) -> io::Result<Self> {
        let modified = DateTime::from(file.metadata()?.modified()?);
        let text = content(file)?;
        let mut lines = text.lines();
        let mut field = |name| lines.next()?.strip_prefix(name);
        let pid = field("pid ").and_then(|pid| pid.parse().ok());
        let since = field("since ").and_then(|since| since.parse().ok()).unwrap_or(modified);
        let what = field("command ").unwrap_or("unknown command").to_owned();
        Ok(Self { pid, since, what })
    }

    fn into_error(self, path: PathBuf) -> LockError {
        LockError::Held { pid: self.pid, since: self.since, what: self.what, path }
    }
}

fn open(dir: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes who has the lock, in one write so that nobody reads half of it.
fn sign(file: &File, now: DateTime<Utc>) -> io::Result<()> {
    let command: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let command = command.join(" ").replace(char::is_control, "?");
    let since = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    file.set_len(0)?;
    let text = format!("pid {}\nsince {since}\ncommand {command}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)
}

/// The start of the file, whatever the handle's position.
fn content(mut file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file name of its own for every lock name, which may hold any character.
fn file_name(name: &str) -> String {
    use std::fmt::Write as _;
    let mut file = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            file.push(char::from(byte));
        } else {
            let _ = write!(file, "%{byte:02X}");
        }
    }
    file + ".lock"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::testing::Child;

    const FOLDER: &str = "RELIAB_TEST_LOCK_DIR";

    fn noon() -> FixedClock {
        FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_second_run_is_told_who_has_the_lock_and_since_when() {
        let dir = tempfile::tempdir().unwrap();
        let first = JobLock::acquire(dir.path(), "backup", &noon()).unwrap();
        let error = JobLock::acquire(dir.path(), "backup", &noon()).unwrap_err();
        let text = error.to_string();
        let LockError::Held { pid, since, what, path } = error else { panic!("{error}") };
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(since, noon().now());
        assert!(what.contains("reliab_common"), "{what}");
        assert_eq!(path, dir.path().join("backup.lock"));
        let start = format!("another run of this job is in progress: pid {}, since ", std::process::id());
        assert!(text.starts_with(&start), "{text}");
        drop(first);
        JobLock::acquire(dir.path(), "backup", &noon()).unwrap();
    }

    #[test]
    fn other_jobs_are_not_locked_out() {
        let dir = tempfile::tempdir().unwrap();
        let _backup = JobLock::acquire(dir.path(), "backup /a", &noon()).unwrap();
        let _other = JobLock::acquire(dir.path(), "backup %2Fa", &noon()).unwrap();
        assert!(dir.path().join("backup%20%2Fa.lock").exists());
    }

    #[test]
    fn what_a_dead_process_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("backup.lock"), "pid 1\nsince 2020-01-01T00:00:00Z\n".repeat(99))
            .unwrap();
        let _lock = JobLock::acquire(dir.path(), "backup", &noon()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("backup.lock")).unwrap();
        assert!(
            text.starts_with(&format!("pid {}\nsince 2026-11-22T12:00:00Z\n", std::process::id())),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_holder_that_did_not_sign_is_still_a_holder() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = JobLock::acquire(dir.path(), "backup", &noon()).unwrap();
        std::fs::write(dir.path().join("backup.lock"), "").unwrap();
        let error = JobLock::acquire(dir.path(), "backup", &noon()).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: None, .. }), "{error}");
        assert!(error.to_string().contains("pid unknown, since 20"), "{error}");
    }

    #[test]
    #[ignore = "the other process of the test below"]
    fn holds_the_lock_until_killed() {
        let dir = std::env::var_os(FOLDER).unwrap();
        let _lock = JobLock::acquire(Path::new(&dir), "backup", &noon()).unwrap();
        Child::ready_and_wait();
    }

    #[test]
    fn a_killed_process_lets_go_of_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let child = Child::start("lock::tests::holds_the_lock_until_killed", &[(FOLDER, dir.path())]);
        let error = JobLock::acquire(dir.path(), "backup", &noon()).unwrap_err();
        assert!(matches!(error, LockError::Held { pid, .. } if pid == Some(child.id())), "{error}");
        child.kill();
        JobLock::acquire(dir.path(), "backup", &noon()).unwrap();
    }

    #[test]
    fn of_many_threads_one_has_the_lock_at_a_time() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (inside, entered) = (AtomicU32::new(0), AtomicU32::new(0));
        let contend = || {
            for _ in 0..50 {
                match JobLock::acquire(dir.path(), "backup", &noon()) {
                    Ok(_lock) => {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        entered.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                    Err(LockError::Held { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(contend))));
        assert!(entered.load(Ordering::SeqCst) > 0);
    }
}
