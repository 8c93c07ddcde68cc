//! Sizes of the databases of `PostgreSQL` and `MariaDB` servers, by their own clients.
//!
//! The clients are started without a shell; a password goes through the environment, where other users cannot see it.

use std::io;
use std::process::Command;

use anyhow::Result;
use reliab_common::config::disk::{DatabaseKind, DiskDatabase};
use reliab_common::exit::Level;
use reliab_common::failure::{plain, without_number};
use reliab_common::secret::Secret;
use reliab_common::session::Job;
use reliab_common::units;

use crate::limits::of_size;
use crate::process::{Ended, Task, together};
use crate::report::{Figures, SizeReport};

/// Databases that may not be asked have no size.
const POSTGRESQL: &str = "SELECT CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END, \
     datname FROM pg_database WHERE datallowconn ORDER BY datname";
/// Tables and indexes; `information_schema` tells no size of what is not stored.
const MARIADB: &str = "SELECT CAST(COALESCE(SUM(t.data_length + t.index_length), 0) AS UNSIGNED), s.schema_name \
     FROM information_schema.schemata s LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name \
     WHERE s.schema_name NOT IN ('information_schema', 'performance_schema') GROUP BY s.schema_name ORDER BY 2";

/// What a server says is cut to so many characters: the reason of a failure, and a row that is none.
const REASON: usize = 200;
const LINE: usize = 80;

/// Asks the servers of the configuration.
pub(crate) fn measure(job: &Job<'_>) -> Result<Vec<SizeReport>> {
    let servers = &job.session.config.disk.database;
    let mut reports = Vec::new();
    for server in servers {
        match sizes(server, job)? {
            Ok(sizes) => reports.extend(sizes.into_iter().map(|(name, bytes)| report(server, &name, bytes))),
            Err(reason) => reports.push(unknown(server, reason)),
        }
    }
    Ok(reports)
}

fn report(server: &DiskDatabase, database: &str, bytes: u64) -> SizeReport {
    let (level, limit) = of_size(bytes, server.warn, server.critical);
    let at =
        limit.map_or_else(String::new, |limit| format!(" ({} at {})", level.name(), units::bytes(limit)));
    let name = format!("{}/{database}", server.name);
    let summary = format!("{}{at}", units::bytes(bytes));
    SizeReport { kind: "database", name, level, summary, figures: Figures(vec![("bytes", bytes)]) }
}

fn unknown(server: &DiskDatabase, reason: String) -> SizeReport {
    let (name, level) = (server.name.clone(), Level::Unknown);
    SizeReport { kind: "database", name, level, summary: reason, figures: Figures::default() }
}

type Sizes = Vec<(String, u64)>;

/// The sizes by name, or why they are not known.
fn sizes(server: &DiskDatabase, job: &Job<'_>) -> Result<Result<Sizes, String>> {
    let password = match server.password.as_ref().map(|source| source.read(&job.session.env)).transpose() {
        Ok(password) => password,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let clients: &[&str] = match server.kind {
        DatabaseKind::PostgreSql => &["psql"],
        DatabaseKind::MariaDb => &["mariadb", "mysql"],
    };
    let deadline = job.session.config.disk.deadline;
    for client in clients {
        let command = command(client, server, password.as_ref(), deadline.as_secs().max(1));
        let ended = together(vec![Task { command, deadline }], &job.stop)?;
        match ended.into_iter().next() {
            Some(Ended::NotStarted(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Some(ended) => return Ok(told(ended, client)),
            None => break,
        }
    }
    Ok(Err(format!("cannot find its client: install `{}`", clients[0])))
}

fn told(ended: Ended, client: &str) -> Result<Sizes, String> {
    match ended {
        Ended::Done { success: true, out, .. } => {
            let separator = if client == "psql" { '\0' } else { '\n' };
            parse(&String::from_utf8_lossy(&out), separator).map_err(|reason| format!("{client} {reason}"))
        }
        Ended::Done { err, .. } => {
            let text = String::from_utf8_lossy(&err);
            let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            Err(format!("{client} failed: {}", shortened(without_number(line.trim()), REASON)))
        }
        Ended::Late { .. } => Err(format!("{client} had no answer in time")),
        Ended::NotStarted(error) => Err(format!("cannot start {client}: {}", plain(&error))),
    }
}

/// Rows of a size, a tab and a name; a database without a size is left out.
///
/// A name may hold a line break: `psql` ends its rows otherwise, `mariadb` escapes it.
fn parse(text: &str, separator: char) -> Result<Sizes, String> {
    let mut sizes = Sizes::new();
    let mut lines = text.split(separator).filter(|line| !line.trim().is_empty()).peekable();
    if lines.peek().is_none() {
        return Err("told of no database".to_owned());
    }
    for line in lines {
        let bytes = line.split_once('\t').map(|(bytes, name)| (bytes.parse(), name));
        match bytes {
            Some((Ok(bytes), name)) => sizes.push((name.to_owned(), bytes)),
            Some((Err(_), _)) if line.starts_with('\t') || line.starts_with("NULL\t") => {}
            _ => return Err(format!("said something that is no size: {}", shortened(line, LINE))),
        }
    }
    if sizes.is_empty() { Err("may not tell the size of any database".to_owned()) } else { Ok(sizes) }
}

/// The start of a text of a server, as it may be long.
fn shortened(text: &str, most: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

fn command(client: &str, server: &DiskDatabase, password: Option<&Secret>, seconds: u64) -> Command {
    let mut command = Command::new(client);
    let mut option = |name: &str, value: &dyn std::fmt::Display| {
        command.arg(format!("--{name}={value}"));
    };
    if let Some(host) = &server.host {
        option("host", host);
    }
    if let Some(port) = server.port {
        option("port", &port);
    }
    match server.kind {
        DatabaseKind::PostgreSql => {
            if let Some(user) = &server.user {
                option("username", user);
            }
            option("dbname", &"postgres");
            option("command", &POSTGRESQL);
            command.args([
                "--no-psqlrc",
                "--no-password",
                "--no-align",
                "--tuples-only",
                "--field-separator=\t",
                "--record-separator-zero",
            ]);
            command.env("PGCONNECT_TIMEOUT", seconds.to_string());
        }
        DatabaseKind::MariaDb => {
            if let Some(socket) = &server.socket {
                option("socket", &socket.display());
            }
            if let Some(user) = &server.user {
                option("user", user);
            }
            option("connect-timeout", &seconds);
            option("execute", &MARIADB);
            command.args(["--batch", "--skip-column-names"]);
        }
    }
    let variable = match server.kind {
        DatabaseKind::PostgreSql => "PGPASSWORD",
        DatabaseKind::MariaDb => "MYSQL_PWD",
    };
    if let Some(password) = password {
        command.env(variable, password.expose());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(kind: DatabaseKind) -> DiskDatabase {
        DiskDatabase {
            name: "main".into(),
            kind,
            host: Some("db".into()),
            socket: Some("/run/s".into()),
            port: Some(7),
            user: Some("reliab".into()),
            password: None,
            warn: Some(10),
            critical: None,
        }
    }

    #[test]
    fn a_password_is_in_the_environment_and_not_among_the_arguments() {
        for (kind, variable) in
            [(DatabaseKind::PostgreSql, "PGPASSWORD"), (DatabaseKind::MariaDb, "MYSQL_PWD")]
        {
            let secret = Secret::new("planted");
            let command = command("client", &server(kind), Some(&secret), 10);
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            assert!(
                args.contains(&"--host=db".to_owned()) && args.contains(&"--port=7".to_owned()),
                "{args:?}"
            );
            assert!(!args.iter().any(|arg| arg.contains("planted")), "{args:?}");
            let is_set = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
                name == variable && value.is_some_and(|value| value == "planted")
            };
            assert!(command.get_envs().any(is_set));
        }
    }

    #[test]
    fn sizes_are_read_and_what_has_none_is_left_out() {
        let expected: Sizes = vec![("app".into(), 7), ("odd\tname".into(), 9)];
        assert_eq!(parse("7\tapp\n\tsecret\n9\todd\tname\n", '\n'), Ok(expected));
    }

    #[test]
    fn a_name_with_a_line_break_is_one_name() {
        let expected: Sizes = vec![("a\n99\tvictim".into(), 7), ("b".into(), 8)];
        let done = Ended::Done { success: true, out: b"7\ta\n99\tvictim\x008\tb\0".to_vec(), err: vec![] };
        assert_eq!(told(done, "psql"), Ok(expected));
    }

    #[test]
    fn what_a_server_says_is_neither_long_nor_in_command_of_the_terminal() {
        let err = format!("psql: error: \u{1b}[2J{}\n", "x".repeat(100_000)).into_bytes();
        let reason = told(Ended::Done { success: false, out: vec![], err }, "psql").unwrap_err();
        assert!(reason.starts_with("psql failed: psql: error:  [2Jxx") && reason.len() < 250, "{reason}");
    }

    #[test]
    fn a_client_that_says_nothing_of_use_is_no_success() {
        let done = |out: &str| Ended::Done { success: true, out: out.into(), err: vec![] };
        let of = |out| told(done(out), "psql").unwrap_err();
        assert_eq!(of(""), "psql told of no database");
        assert_eq!(of("\n"), "psql told of no database");
        assert_eq!(of("7\tapp\0noise\0"), "psql said something that is no size: noise");
        assert_eq!(of("many\tapp\n"), "psql said something that is no size: many app");
        assert_eq!(of("\tsecret\n"), "psql may not tell the size of any database");
    }

    #[test]
    fn failures_are_told_in_one_line() {
        let done = |err: &str| Ended::Done { success: false, out: vec![], err: err.into() };
        let text = told(done("\npsql: error: refused\nIs it running?\n"), "psql").unwrap_err();
        assert_eq!(text, "psql failed: psql: error: refused");
        assert!(told(Ended::Late { out: vec![], stuck: None }, "psql").unwrap_err().contains("in time"));
    }

    #[test]
    fn limits_are_those_of_the_server() {
        let report = report(&server(DatabaseKind::PostgreSql), "app", 20);
        assert_eq!((report.level, report.name.as_str()), (Level::Warning, "main/app"));
        assert_eq!(report.summary, "20 B (warning at 10 B)");
    }
}
