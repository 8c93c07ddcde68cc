//! Real database servers, asked by their own clients. Needs `PostgreSQL` and `MariaDB`, and root to start them as their users.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use reliab_testkit::server::Server;

use crate::support::{Bench, need};

const PASSWORD: &str = "planted-secret-7Q";

/// The number of a user in /etc/passwd, and of its group.
fn ids(user: &str) -> (u32, u32) {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{user}:")));
    let fields: Vec<&str> = line.unwrap_or_else(|| panic!("there is no user {user}")).split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

fn as_user(program: &Path, user: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let (uid, gid) = ids(user);
    let mut command = Command::new(program);
    command.uid(uid).gid(gid).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A folder of that user, which others may enter.
fn folder_of(bench: &Bench, name: &str, user: &str) -> PathBuf {
    let path = PathBuf::from(bench.folder(name));
    let (uid, gid) = ids(user);
    chown(&path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} does not start");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the check with a file system excluded, and gives the sizes by name.
fn sizes(bench: &Bench) -> Vec<(String, String, u64)> {
    let output = bench.command(&["--json"]).env("DB_PASSWORD", PASSWORD).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(!out.contains(PASSWORD), "{out}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sizes = document["sizes"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    sizes
        .map(|size| (text(&size["name"]), text(&size["summary"]), size["bytes"].as_u64().unwrap_or(0)))
        .collect()
}

/// The secret is in no file of the state.
fn check_no_secret(bench: &Bench) {
    for file in fs::read_dir(bench.path("state")).unwrap().flatten() {
        let content = fs::read(file.path()).unwrap();
        let found = content.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        assert!(!found, "{}", file.path().display());
    }
}

#[test]
fn postgresql_tells_the_sizes_of_its_databases() {
    need("psql", "postgresql-client");
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bin = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists());
    let bin = bin.expect("this test needs `postgres`: install the package postgresql");
    let bench = Bench::new();
    let folder = folder_of(&bench, "pg", "postgres");
    let (data, secret) = (folder.join("data"), folder.join("secret"));
    fs::write(&secret, PASSWORD).unwrap();
    let (uid, gid) = ids("postgres");
    chown(&secret, Some(uid), Some(gid)).unwrap();
    let mut init = as_user(&bin.join("initdb"), "postgres");
    init.args(["--auth=scram-sha-256", "--no-sync", "--username=reliab"]).arg("--pwfile").arg(&secret);
    assert!(init.arg("-D").arg(&data).status().unwrap().success());
    let mut server = as_user(&bin.join("postgres"), "postgres");
    server.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    let _server = Server(server.spawn().unwrap());
    let psql = |sql: &str| {
        let mut command = Command::new("psql");
        command.args(["-XAtq", "-U", "reliab", "-d", "postgres", "-h"]).arg(&folder).args(["-c", sql]);
        command.env("PGPASSWORD", PASSWORD).output().unwrap()
    };
    wait_for("postgres", || psql("SELECT 1").status.success());
    assert!(psql("CREATE DATABASE \"odd name\"").status.success());
    bench.configure(&format!(
        "[disk]\nexclude = [\"/*\"]\n[[disk.database]]\nname = \"main\"\nkind = \"postgresql\"\nhost = {folder:?}\n\
         user = \"reliab\"\npassword = {{ env = \"DB_PASSWORD\" }}\nwarn = \"1KiB\"\n"
    ));
    let found = sizes(&bench);
    let told = String::from_utf8(
        psql("SELECT 'main/' || datname || '|' || pg_database_size(oid) FROM pg_database WHERE datallowconn ORDER BY datname")
            .stdout,
    )
    .unwrap();
    let ours: Vec<String> = found.iter().map(|(name, _, bytes)| format!("{name}|{bytes}")).collect();
    assert_eq!(ours, told.lines().collect::<Vec<_>>());
    assert!(ours.iter().any(|line| line.starts_with("main/odd name|")), "{ours:?}");
    assert!(found[0].1.contains("(warning at 1.0 KiB)"), "{found:?}");
    let wrong = bench.command(&["--quiet"]).env("DB_PASSWORD", "wrong").output().unwrap();
    let text = String::from_utf8(wrong.stdout).unwrap();
    assert!(text.contains("UNKNOWN: database main: psql failed: ") && !text.contains("wrong"), "{text}");
    check_no_secret(&bench);
}

#[test]
fn mariadb_tells_the_sizes_of_its_databases() {
    need("mariadbd", "mariadb-server");
    need("mariadb", "mariadb-client");
    let bench = Bench::new();
    let folder = folder_of(&bench, "my", "mysql");
    let (data, socket) = (folder.join("data"), folder.join("socket"));
    let mut init = as_user(Path::new("/usr/bin/mariadb-install-db"), "mysql");
    init.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    assert!(init.arg(format!("--datadir={}", data.display())).status().unwrap().success());
    let mut server = as_user(Path::new("/usr/sbin/mariadbd"), "mysql");
    server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
    server.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", socket.display()));
    let _server = Server(server.spawn().unwrap());
    let ask = |sql: &str| {
        let mut command = Command::new("mariadb");
        command
            .args(["--no-defaults", "--batch", "-N", "-u", "root"])
            .arg(format!("--socket={}", socket.display()));
        command.args(["-e", sql]).output().unwrap()
    };
    wait_for("mariadbd", || ask("SELECT 1").status.success());
    let prepared = ask(&format!(
        "CREATE USER reliab@localhost IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO reliab@localhost; CREATE DATABASE app; \
         CREATE TABLE app.t (x LONGTEXT); INSERT INTO app.t SELECT REPEAT('x', 100000); CREATE DATABASE empty; ANALYZE TABLE app.t;"
    ));
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    bench.configure(&format!(
        "[disk]\nexclude = [\"/*\"]\n[[disk.database]]\nname = \"main\"\nkind = \"mariadb\"\nsocket = {socket:?}\n\
         user = \"reliab\"\npassword = {{ env = \"DB_PASSWORD\" }}\n"
    ));
    let found = sizes(&bench);
    let of = |name: &str| {
        found.iter().find(|(found, _, _)| found == name).unwrap_or_else(|| panic!("{found:?}")).2
    };
    let told = ask(
        "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = 'app'",
    );
    assert_eq!(of("main/app").to_string(), String::from_utf8(told.stdout).unwrap().trim());
    assert!(of("main/app") >= 16_384 && of("main/empty") == 0);
    let wrong = bench.command(&["--quiet"]).env("DB_PASSWORD", "wrong").output().unwrap();
    let text = String::from_utf8(wrong.stdout).unwrap();
    assert!(text.contains("UNKNOWN: database main: mariadb failed: ") && !text.contains("wrong"), "{text}");
    check_no_secret(&bench);
}
