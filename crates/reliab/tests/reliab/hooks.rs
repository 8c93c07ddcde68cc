//! The hooks in backup/: dumps and copies of real databases, whole or not at all. Needs root, to run servers as their users.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{self, Bench};
use reliab_testkit::server::Server;
use rusqlite::{Connection, OpenFlags};

/// The numbers of a user and of its group in /etc/passwd.
fn ids(user: &str, package: &str) -> (u32, u32) {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{user}:")));
    let line = line.unwrap_or_else(|| panic!("there is no user {user}: install the package {package}"));
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// A folder of that user on the bench.
fn folder_of(bench: &Bench, name: &str, (uid, gid): (u32, u32)) -> PathBuf {
    let path = bench.path(name);
    fs::create_dir_all(&path).unwrap();
    chown(&path, Some(uid), Some(gid)).unwrap();
    path
}

/// A program of a server, as its user; what it says goes nowhere.
fn as_user(program: &Path, (uid, gid): (u32, u32)) -> Command {
    let mut command = Command::new(program);
    command.uid(uid).gid(gid).current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A hook as a timer runs it, with `reliab` in the way of programs.
fn hook(bench: &Bench, name: &str, args: &[&str]) -> Command {
    assert!(support::is_root(), "this test must be run as root");
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../backup/hooks");
    let mut command = Command::new(hooks.join(name));
    let program = bench.path("../reliab");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program.parent().unwrap().display());
    command.args(args).current_dir(bench.path("")).env_clear().env("PATH", path);
    command.env("RELIAB_STATE_DIR", bench.path("../state")).env("HOME", bench.path("home"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Who has reported in.
fn heartbeats(bench: &Bench) -> Vec<String> {
    let Ok(state) =
        Connection::open_with_flags(bench.path("../state/state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)
    else {
        return Vec::new();
    };
    let mut names = state.prepare("SELECT DISTINCT name FROM heartbeat ORDER BY name").unwrap();
    names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A hook that finds a server's socket where Debian has it.
fn with_socket(bench: &Bench, folder: &Path, place: &str, hook: &Command) -> Command {
    fs::create_dir_all(place).unwrap();
    let mut unshared = Command::new("unshare");
    unshared.args(["--mount", "sh", "-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""]);
    unshared.arg(folder).arg(place).arg(hook.get_program()).args(hook.get_args());
    unshared.current_dir(bench.path("")).env_clear();
    unshared.envs(hook.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshared
}

/// A `PostgreSQL` that lets in whom Debian's does: each user of the machine as the role of that name.
struct Postgresql {
    _server: Server,
    socket: PathBuf,
    user: (u32, u32),
}

impl Postgresql {
    fn start(bench: &Bench) -> Self {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let bin =
            versions.map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists());
        let bin = bin.expect("this test needs `postgres`: install the package postgresql");
        let user = ids("postgres", "postgresql");
        let socket = folder_of(bench, "pg", user);
        let data = socket.join("data");
        let mut init = as_user(&bin.join("initdb"), user);
        init.args(["--auth=peer", "--no-sync", "--username=postgres", "--encoding=UTF8", "-D"]).arg(&data);
        assert!(init.status().unwrap().success());
        let mut server = as_user(&bin.join("postgres"), user);
        server.arg("-D").arg(&data).arg("-k").arg(&socket);
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let postgresql = Self { _server: Server(server.spawn().unwrap()), socket, user };
        let ready = || postgresql.client("psql", &["-XAtqc", "SELECT 1"]).status().unwrap().success();
        wait_for("postgres starts", ready);
        postgresql
    }

    /// A client, run by the user postgres.
    fn client(&self, program: &str, args: &[&str]) -> Command {
        let mut command = as_user(&Path::new("/usr/bin").join(program), self.user);
        command.env("PGHOST", &self.socket).args(args).stdout(Stdio::piped());
        command
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        run(self.client("psql", &["-XAtq", "-d", database, "-c", sql]))
    }

    fn hook(&self, bench: &Bench, args: &[&str]) -> Command {
        with_socket(bench, &self.socket, "/run/postgresql", &hook(bench, "dump-postgresql", args))
    }
}

#[test]
fn a_dump_of_postgresql_can_be_restored() {
    let bench = Bench::new();
    let server = Postgresql::start(&bench);
    server.sql("postgres", "CREATE DATABASE \"odd name\"");
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    // Nobody but root may enter the folder, and the hook is started from one where the user postgres may not be.
    let folder = bench.path("data/dumps");
    let output = server.hook(&bench, &["data/dumps", "app", "odd name"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "");
    assert_eq!(names(&folder), ["app.dump", "odd name.dump"]);
    assert_eq!((mode(&folder), mode(&folder.join("app.dump"))), (0o700, 0o600));
    assert_eq!(heartbeats(&bench), ["dump app", "dump odd name"]);
    server.sql("postgres", "CREATE DATABASE again");
    let mut restore = server.client("pg_restore", &["--exit-on-error", "--dbname=again"]);
    restore.stdin(fs::File::open(folder.join("app.dump")).unwrap());
    run(restore);
    let sum = "SELECT count(*), md5(string_agg(md5, ',' ORDER BY i)) FROM t";
    assert_eq!(server.sql("again", sum), server.sql("app", sum));
}

#[test]
fn a_dump_of_postgresql_that_fails_leaves_the_last_one_and_costs_the_others_nothing() {
    let bench = Bench::new();
    let server = Postgresql::start(&bench);
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t (x int)");
    let folder = bench.path("dumps");
    bench.write("dumps/gone.dump", "the last dump");
    let failed = server.hook(&bench, &["dumps", "gone", "a/b", "password=planted", "app"]).output().unwrap();
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("gone was not dumped; the last dump is as it was"), "{text}");
    assert!(text.contains("not the plain name of a database") && !text.contains("planted"), "{text}");
    assert_eq!(names(&folder), ["app.dump", "gone.dump"]);
    assert_eq!(fs::read_to_string(folder.join("gone.dump")).unwrap(), "the last dump");
    assert_eq!(heartbeats(&bench), ["dump app"]);

    // A dump that waits for a lock is stopped, as systemd does at the job's timeout: all processes are told.
    let before = fs::read(folder.join("app.dump")).unwrap();
    let mut holder = server.client("psql", &["-Xq", "-d", "app"]);
    let mut holder = Server(holder.stdin(Stdio::piped()).spawn().unwrap());
    let mut input = holder.0.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;\n").unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                  AND relation = 't'::regclass";
    wait_for("the lock", || server.sql("app", locked).trim() == "1");
    let mut waiting = server.hook(&bench, &["dumps", "app"]);
    let mut waiting = Server(waiting.process_group(0).stderr(Stdio::null()).spawn().unwrap());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' \
                 AND wait_event_type = 'Lock'";
    wait_for("the dump waits", || server.sql("app", waits).trim() == "1");
    assert_eq!(names(&folder), [".app.new", "app.dump", "gone.dump"]);
    let group = rustix::process::Pid::from_child(&waiting.0);
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    assert!(!waiting.0.wait().unwrap().success());
    assert_eq!(names(&folder), ["app.dump", "gone.dump"]);
    assert_eq!(fs::read(folder.join("app.dump")).unwrap(), before);
}

/// A `MariaDB` that knows root by the socket, as Debian's does.
struct Mariadb {
    _server: Server,
    folder: PathBuf,
}

impl Mariadb {
    fn start(bench: &Bench) -> Self {
        assert!(Path::new("/usr/sbin/mariadbd").exists(), "install the package mariadb-server");
        let user = ids("mysql", "mariadb-server");
        let folder = folder_of(bench, "my", user);
        let (data, socket) = (folder.join("data"), folder.join("mysqld.sock"));
        let mut init = as_user(Path::new("/usr/bin/mariadb-install-db"), user);
        init.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=socket"]);
        assert!(init.arg(format!("--datadir={}", data.display())).status().unwrap().success());
        let mut server = as_user(Path::new("/usr/sbin/mariadbd"), user);
        server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
        server.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", socket.display()));
        let mariadb = Self { _server: Server(server.spawn().unwrap()), folder };
        wait_for("mariadbd starts", || {
            mariadb.client(&["-e", "SELECT 1"]).output().unwrap().status.success()
        });
        mariadb
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "-N", "--default-character-set=utf8mb4"]);
        command.arg(format!("--socket={}", self.folder.join("mysqld.sock").display())).args(args);
        command
    }

    fn sql(&self, sql: &str) -> String {
        run(self.client(&["-e", sql]))
    }

    fn hook(&self, bench: &Bench, args: &[&str]) -> Output {
        let hook = hook(bench, "dump-mariadb", args);
        with_socket(bench, &self.folder, "/run/mysqld", &hook).output().unwrap()
    }
}

#[test]
fn a_dump_of_mariadb_can_be_restored_and_one_that_fails_leaves_the_last() {
    let bench = Bench::new();
    let server = Mariadb::start(&bench);
    server.sql(
        "CREATE DATABASE app CHARACTER SET utf8mb4; CREATE DATABASE `odd name`; USE app; \
         CREATE TABLE t (id INT PRIMARY KEY, x TEXT, b BLOB) ENGINE=InnoDB; \
         INSERT INTO t SELECT seq, CONCAT('grün 😀 ', seq), UNHEX(SHA2(seq, 256)) FROM seq_1_to_5000; \
         CREATE PROCEDURE twice(n INT) SELECT 2 * n; \
         CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM t WHERE id < 0;",
    );
    bench.write("dumps/gone.sql", "the last dump");
    let output = server.hook(&bench, &["dumps", "gone", "app", "odd name"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("gone was not dumped; the last dump is as it was"), "{}", said(&output));
    let folder = bench.path("dumps");
    assert_eq!(names(&folder), ["app.sql", "gone.sql", "odd name.sql"]);
    assert_eq!(fs::read_to_string(folder.join("gone.sql")).unwrap(), "the last dump");
    assert_eq!(mode(&folder.join("app.sql")), 0o600);
    assert_eq!(heartbeats(&bench), ["dump app", "dump odd name"]);

    let first = fs::read(folder.join("app.sql")).unwrap();
    assert!(server.hook(&bench, &["dumps", "app"]).status.success());
    assert!(fs::read(folder.join("app.sql")).unwrap() == first, "the same data gives other bytes");

    server.sql("CREATE DATABASE again CHARACTER SET utf8mb4");
    let mut restore = server.client(&["again"]);
    restore.stdin(fs::File::open(folder.join("app.sql")).unwrap());
    run(restore);
    let sum = "SELECT COUNT(*), SHA2(GROUP_CONCAT(x, HEX(b) ORDER BY id), 256)";
    let of = |database: &str| {
        server.sql(&format!("SET group_concat_max_len = 100000000; {sum} FROM {database}.t"))
    };
    assert_eq!(of("again"), of("app"));
    assert_eq!(server.sql("CALL again.twice(21)").trim(), "42");
    assert_eq!(server.sql("SHOW EVENTS FROM again").lines().count(), 1);
}

/// A database with two tables that every transaction fills alike.
fn ledger(path: &Path, journal: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.pragma_update(None, "journal_mode", journal).unwrap();
    db.execute_batch(
        "PRAGMA synchronous=OFF; CREATE TABLE a (x BLOB); CREATE TABLE b (x BLOB);
         INSERT INTO a WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         SELECT randomblob(900) FROM n; INSERT INTO b SELECT x FROM a;",
    )
    .unwrap();
    db
}

#[test]
fn a_copy_of_sqlite_is_of_one_moment_while_others_write() {
    for journal in ["wal", "delete"] {
        let bench = Bench::new();
        fs::create_dir(bench.path("app")).unwrap();
        let path = bench.path("app/it's app.db");
        let db = ledger(&path, journal);
        let copying = hook(&bench, "copy-sqlite", &["copies", "app/it's app.db"]).spawn().unwrap();
        let mut copying = Server(copying);
        let mut written = 0;
        while copying.0.try_wait().unwrap().is_none() {
            let sql = "BEGIN IMMEDIATE; INSERT INTO a VALUES (randomblob(900)); \
                       INSERT INTO b VALUES (randomblob(900)); COMMIT;";
            db.execute_batch(sql).unwrap();
            written += 1;
        }
        assert!(copying.0.wait().unwrap().success(), "{journal}");
        assert!(written > 10, "{journal}: only {written} transactions while it was copied");
        assert_eq!(names(&bench.path("copies")), ["it's app.db"]);
        let copy = Connection::open(bench.path("copies/it's app.db")).unwrap();
        let of = |table: &str| -> u32 {
            copy.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert!(of("a") == of("b") && of("a") >= 4000, "{journal}: {} {}", of("a"), of("b"));
        assert_eq!(heartbeats(&bench), ["copy it's app.db"]);
    }
}

/// The application is not root: what a copy leaves beside its database must be its own.
#[test]
fn after_a_copy_the_application_can_write_as_before() {
    const NOBODY: u32 = 65_534;
    let bench = Bench::new();
    let folder = folder_of(&bench, "app", (NOBODY, NOBODY));
    let sqlite = |sql: &str| {
        let mut command = as_user(Path::new("/usr/bin/sqlite3"), (NOBODY, NOBODY));
        command.arg(folder.join("app.db")).arg(sql).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(command)
    };
    sqlite("PRAGMA journal_mode=wal; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    run(hook(&bench, "copy-sqlite", &["copies", "app/app.db"]));
    assert_eq!(sqlite("INSERT INTO t VALUES (2); SELECT count(*) FROM t").trim(), "2");
}

#[test]
fn a_copy_of_sqlite_that_fails_leaves_the_last_one() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("other")).unwrap();
    drop(ledger(&bench.path("good.db"), "delete"));
    drop(ledger(&bench.path("other/good.db"), "delete"));
    drop(ledger(&bench.path("damaged.db"), "delete"));
    let mut bytes = fs::read(bench.path("damaged.db")).unwrap();
    for page in bytes.chunks_mut(4096).skip(5).step_by(7) {
        page.fill(0xa5);
    }
    fs::write(bench.path("damaged.db"), bytes).unwrap();
    for name in ["damaged.db", "absent.db"] {
        bench.write(&format!("copies/{name}"), "the last copy");
    }
    // Somebody had opened the last copy, and was killed.
    bench.write("copies/good.db", "the last copy");
    bench.write("copies/good.db-wal", "a log of the last copy");
    let args = ["copies", "damaged.db", "absent.db", "good.db", "other/good.db"];
    let output = hook(&bench, "copy-sqlite", &args).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in ["damaged.db was not copied", "absent.db was not copied", "two files of the name good.db"]
    {
        assert!(text.contains(expected), "{text}");
    }
    let folder = bench.path("copies");
    assert_eq!(names(&folder), ["absent.db", "damaged.db", "good.db"]);
    for name in ["damaged.db", "absent.db"] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "the last copy");
    }
    assert!(!bench.path("absent.db").exists());
    let copied: u32 = Connection::open(folder.join("good.db"))
        .and_then(|db| db.query_row("SELECT count(*) FROM b", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(copied, 4000);
    assert_eq!(heartbeats(&bench), ["copy good.db"]);
}

#[test]
fn a_hook_without_what_it_needs_says_how_it_is_used() {
    let bench = Bench::new();
    for name in ["dump-postgresql", "dump-mariadb", "copy-sqlite"] {
        let output = hook(&bench, name, &["folder"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).starts_with(&format!("usage: {name} FOLDER ")), "{}", said(&output));
        assert!(!bench.path("folder").exists());
    }
}
