//! Lines for the journal, as a service writes them: a socket that systemd names in `$JOURNAL_STREAM`.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

const CONFIG: &str = "[channel.log]\ntype = \"console\"\n[[rule]]\nname = \"broken\"\nwhen = \"disk * is\"\n";

/// Which stream of the process the journal is connected to.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    Stdout,
    Stderr,
    Neither,
}

/// Runs `reliab-alert` with two sockets, one of which is named; gives what came through each.
fn run(folder: &Path, args: &[&str], named: Named) -> (String, String) {
    let (out, to_out) = UnixStream::pair().unwrap();
    let (err, to_err) = UnixStream::pair().unwrap();
    let stat = match named {
        Named::Stdout => rustix::fs::fstat(&to_out),
        Named::Stderr => rustix::fs::fstat(&to_err),
        Named::Neither => rustix::fs::fstat(&out),
    };
    let stat = stat.unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_reliab-alert"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .envs([("RELIAB_STATE_DIR", "state"), ("PATH", "/usr/bin:/bin"), ("USER", "anna"), ("TZ", "UTC")])
        .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
        .stdout(Stdio::from(OwnedFd::from(to_out)))
        .stderr(Stdio::from(OwnedFd::from(to_err)))
        .spawn();
    let mut child = child.unwrap();
    let read = |mut stream: UnixStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text).unwrap()
    };
    let texts = (read(out), read(err));
    child.wait().unwrap();
    texts
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("reliab.toml"), CONFIG).unwrap();
    dir
}

#[test]
fn every_line_has_its_priority_where_stderr_is_the_journal_and_none_elsewhere() {
    let dir = folder();
    // The title, and what is said of one that opened.
    let (out, err) = run(dir.path(), &[], Named::Stderr);
    assert_eq!(out, "1 incident open, 1 new message owed, 1 delivered\n");
    assert!(err.lines().count() > 1, "{err}");
    assert!(err.lines().all(|line| line.starts_with("<2>")), "{err}");
    let (out, err) = run(dir.path(), &["check"], Named::Stderr);
    let expected = "<3>error: configuration: rule `broken`, at character 10: expected `warning`, `only warning`, \
         `critical`, `failed`, `down`, `unknown` or `not ok`, found the end\n<3>  disk * is\n<3>           ^\n";
    assert_eq!((out.as_str(), err.as_str()), ("", expected));
    let (out, err) = run(dir.path(), &["check"], Named::Neither);
    assert_eq!((out.as_str(), err.as_str()), ("", expected.replace("<3>", "").as_str()));
}

#[test]
fn a_command_line_that_cannot_be_understood_is_an_error_in_the_journal_too() {
    let (_, err) = run(folder().path(), &["why", "seven"], Named::Stderr);
    assert!(err.starts_with("<3>error: invalid value 'seven'"), "{err}");
    assert!(err.lines().count() > 1 && err.lines().all(|line| line.starts_with("<3>")), "{err}");
}

#[test]
fn results_on_stdout_have_theirs_and_documents_have_none() {
    let dir = folder();
    let (out, err) = run(dir.path(), &["--no-delivery"], Named::Stdout);
    assert_eq!((out.as_str(), err.as_str()), ("<5>1 incident open, 1 new message owed\n", ""));
    let (out, _) = run(dir.path(), &["list"], Named::Stdout);
    assert!(out.lines().count() == 2 && out.lines().all(|line| line.starts_with("<6>")), "{out}");
    let (out, _) = run(dir.path(), &["list", "--json"], Named::Stdout);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["schema"], "reliab.alert-list.v1");
}
