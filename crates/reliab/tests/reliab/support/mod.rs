//! A scratch folder in which the real binary is run, and texts made comparable.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

/// A scratch folder with a copy of the binary, which any user may run.
pub struct Bench {
    folder: tempfile::TempDir,
    transcript: Vec<String>,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("reliab-golden-").tempdir().unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        // By another process: a file that this one had open for writing could still be so in a child of another
        // test, and then not be run.
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_reliab")).arg(folder.path()).status().unwrap();
        assert!(copied.success());
        for path in [folder.path(), &work] {
            open_to_all(path);
        }
        Self { folder, transcript: Vec::new() }
    }

    /// A path in the working folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("work").join(path)
    }

    /// Writes a file, and its folders.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The command, not yet run, in an environment that is the same everywhere.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("reliab"));
        let places = [("HOME", "home"), ("RELIAB_STATE_DIR", "../state"), ("RELIAB_CACHE_DIR", "../cache")];
        command.args(args).current_dir(self.path("")).env_clear().env("TZ", "UTC").envs(places);
        command
    }

    /// Runs a command whose transcript nobody needs.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command and adds what it was, said and returned to the transcript.
    pub fn show(&mut self, args: &[&str]) -> Output {
        let command = self.command(args);
        self.show_command(args, command)
    }

    /// The same as a user who may do nothing; `None` if this user may not become that one.
    pub fn show_as_nobody(&mut self, args: &[&str]) -> Option<Output> {
        if !is_root() {
            return Some(self.show(args));
        }
        let mut command = self.command(args);
        command
            .uid(NOBODY)
            .gid(NOBODY)
            .env("RELIAB_STATE_DIR", "../n/state")
            .env("RELIAB_CACHE_DIR", "../n/cache");
        let own = self.folder.path().join("n");
        fs::create_dir_all(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).ok()?;
        Some(self.show_command(args, command))
    }

    fn show_command(&mut self, args: &[&str], mut command: Command) -> Output {
        let output = command.output().unwrap();
        self.transcript.push(format!("$ reliab {}\n", ids(&args.join(" "))));
        for (head, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = comparable(&String::from_utf8_lossy(bytes), self.folder.path());
            if !text.is_empty() {
                self.transcript.push(format!("--- {head}\n{text}"));
            }
        }
        self.transcript.push(format!("--- exit {}\n\n", output.status.code().unwrap()));
        output
    }

    /// Compares the transcript with the file of that name; with `RELIAB_GOLDEN=write` writes it.
    pub fn compare(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let transcript = self.transcript.concat();
        if std::env::var_os("RELIAB_GOLDEN").is_some_and(|value| value == "write") {
            fs::write(path, transcript).unwrap();
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            transcript,
            expected,
            "{} differs; RELIAB_GOLDEN=write cargo test -p reliab writes it anew",
            path.display()
        );
    }
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A text without what differs between runs: the folder, ids, times, durations, sizes of compressed data.
fn comparable(text: &str, folder: &Path) -> String {
    let mut text = text.replace(folder.to_str().unwrap(), "[FOLDER]");
    for (pattern, name) in [
        ("####-##-## ##:##:## +##:##", "[TIME]"),
        ("####-##-##T##:##:##.*+##:##", "[TIME]"),
        (" * min ## s", " [TOOK]"),
        (" *.# s", " [TOOK]"),
        (" * ms", " [TOOK]"),
        ("added *.# KiB", "added [SIZE]"),
        ("added * B", "added [SIZE]"),
        (" *.# KiB read", " [SIZE] read"),
        (" * B read", " [SIZE] read"),
        (" * blobs", " [N] blobs"),
        ("add *.# KiB", "add [SIZE]"),
        ("pid *,", "pid [PID],"),
        ("seconds\": *.*", "seconds\": [SECONDS]"),
        ("added_bytes\": *", "added_bytes\": [SIZE]"),
        ("\"bytes\": *", "\"bytes\": [SIZE]"),
    ] {
        text = replace(&text, pattern, name);
    }
    between(&between(&ids(&text), "\"user\": \"", "\"", "[USER]"), "packs/", "/", "[XX]")
}

/// Replaces what stands between two texts, everywhere.
fn between(text: &str, start: &str, end: &str, with: &str) -> String {
    let mut parts = text.split(start);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once(end).map_or("", |(_, rest)| rest);
        out.push_str(&[start, with, end, rest].concat());
    }
    out
}

/// Replaces a pattern in which `#` is a digit and `*` one or more of them.
fn replace(text: &str, pattern: &str, with: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(len) = matched(rest.as_bytes(), pattern.as_bytes()) {
            out.push_str(with);
            rest = &rest[len..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// How much of the start of a text a pattern matches.
fn matched(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let Some((&first, pattern)) = pattern.split_first() else { return Some(0) };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let len = match first {
        b'#' => digits.min(1),
        b'*' => digits,
        other => usize::from(text.first() == Some(&other)),
    };
    (len > 0).then(|| matched(&text[len..], pattern).map(|rest| len + rest)).flatten()
}

/// Replaces words of 8 or more hexadecimal digits.
fn ids(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let is_id = word.len() >= 8 && word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        out.push_str(if is_id { "[ID]" } else { &word });
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}
