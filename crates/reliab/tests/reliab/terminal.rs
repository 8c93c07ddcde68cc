//! What people see on a terminal of 80 columns: lines that fit, and names that cannot command it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use reliab_testkit::tree::Scratch;

fn command(place: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(place).env("TERM", "xterm");
    command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache"));
    command
}

fn piped(place: &Path, args: &[&str]) -> Vec<u8> {
    let output = command(place, env!("CARGO_BIN_EXE_reliab")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What a command prints on a terminal; `None` where there is no script(1) to make one.
fn on_terminal(place: &Path, args: &str) -> Option<String> {
    let line = format!("stty cols 80 && {} {args}", env!("CARGO_BIN_EXE_reliab"));
    let output = command(place, "script").args(["-qec", &line, "/dev/null"]).output().ok()?;
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stdout));
    Some(String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n"))
}

#[test]
fn lines_fit_80_columns_and_names_are_quoted_on_a_terminal_alone() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    let name = OsStr::from_bytes(b"evil\x1b[2J\nname");
    fs::create_dir_all(place.join("data/a folder")).unwrap();
    fs::write(place.join("data").join(name), "x").unwrap();
    fs::write(place.join("data/a folder/a file of 24"), "x").unwrap();
    let host = "a-host-with-a-long-name.in.a.long-domain.example.org";
    let tags = ["--tag", "nightly", "--tag", "before-the-upgrade-of-the-database"];
    piped(place, &[&["backup", "data", "--host", host][..], &tags].concat());
    let Some(snapshots) = on_terminal(place, "snapshots") else {
        eprintln!("skipped: there is no script(1)");
        return;
    };
    // Too long for the terminal, so it was cut, and is not where nothing has to fit.
    assert!(snapshots.contains('…'), "{snapshots}");
    let whole = String::from_utf8(piped(place, &["snapshots"])).unwrap();
    assert!(whole.contains(host) && whole.contains(tags[3]) && !whole.contains('…'), "{whole}");
    let mut told = vec![snapshots];
    for args in ["ls", "ls -l latest:data", "find 'evil*'", "diff latest latest", "status"] {
        told.push(on_terminal(place, args).unwrap());
    }
    for text in &told {
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
    }
    let quoted = "data/evil\\033[2J\\nname'\n";
    assert!(told[1..4].iter().all(|text| text.contains(quoted)), "{told:#?}");
    let raw = piped(place, &["ls"]);
    assert!(raw.windows(10).any(|window| window == b"\x1b[2J\nname\n"), "{}", raw.escape_ascii());
    let json: serde_json::Value = serde_json::from_slice(&piped(place, &["ls", "--json"])).unwrap();
    let paths: Vec<_> =
        json["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str()).collect();
    assert!(paths.iter().flatten().any(|path| path.ends_with("evil%1B[2J%0Aname")), "{paths:?}");
}
