//! A mount namespace of its own for each test, a scratch folder, and df as the judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const NAMESPACE: &str = "RELIAB_TEST_NAMESPACE";
const FOLDER: &str = "RELIAB_TEST_FOLDER";

/// Runs the body of the test `name` where its mounts are seen by nobody else and end with it. Needs root.
pub fn alone(name: &str, body: impl FnOnce(&Bench)) {
    if std::env::var_os(NAMESPACE).is_some_and(|value| value == name) {
        let folder = std::env::var_os(FOLDER).unwrap().into();
        body(&Bench { folder, _own: None });
        return;
    }
    // Removed out here, where nothing is mounted in it.
    let bench = Bench::new();
    assert!(is_root(), "{name} mounts file systems: run it as root");
    need("unshare", "util-linux");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(NAMESPACE, name)
        .env(FOLDER, &bench.folder)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Fails where a program is missing, with the package that has it.
pub fn need(program: &str, package: &str) {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(program).exists())
    });
    assert!(found, "this test needs `{program}`: install the package {package}");
}

/// Runs a command that must succeed, and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A scratch folder in which the program is run.
pub struct Bench {
    folder: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Bench {
    pub fn new() -> Self {
        let own = tempfile::Builder::new().prefix("reliab-disk-").tempdir().unwrap();
        Self { folder: own.path().to_owned(), _own: Some(own) }
    }

    /// A path in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The same as text.
    pub fn text(&self, path: &str) -> String {
        self.path(path).to_str().unwrap().to_owned()
    }

    /// Makes a folder.
    pub fn folder(&self, path: &str) -> String {
        fs::create_dir_all(self.path(path)).unwrap();
        self.text(path)
    }

    /// Writes the configuration.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("reliab.toml"), text).unwrap();
    }

    /// Makes a file system in a file and mounts it, by a loop device that ends with the mount.
    pub fn mount_image(&self, kind: &str, megabytes: u64, options: &str) -> String {
        let package = match kind {
            "ext4" => "e2fsprogs",
            "xfs" => "xfsprogs",
            other => &format!("{other}-progs"),
        };
        let make = format!("mkfs.{kind}");
        need(&make, package);
        let image = self.text(&format!("{kind}.img"));
        fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let make = ["/usr/sbin", "/sbin", "/usr/bin"].map(|dir| Path::new(dir).join(&make));
        let make = make.into_iter().find(|path| path.exists()).unwrap();
        run(make.to_str().unwrap(), &["-q", &image]);
        let point = self.folder(&format!("mnt-{kind}"));
        run("mount", &["-t", kind, "-o", &format!("loop,{options}"), &image, &point]);
        point
    }

    /// Mounts a tmpfs.
    pub fn mount_tmpfs(&self, name: &str, options: &str) -> String {
        let point = self.folder(name);
        run("mount", &["-t", "tmpfs", "-o", options, "scratch", &point]);
        point
    }

    /// The program, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reliab-disk"));
        command.args(args).current_dir(&self.folder);
        command.env("RELIAB_STATE_DIR", self.path("state")).env("HOME", &self.folder);
        command
    }

    /// Runs the program: exit code, stdout, stderr.
    pub fn disk(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs the program for its document.
    pub fn json(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.disk(&[&["--json"], args].concat());
        let value: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        assert_eq!(value["exit"], code, "{value}");
        value
    }

    /// What the document says of one mount.
    pub fn mount(&self, point: &str) -> Value {
        let document = self.json(&[point]);
        assert_eq!(document["mounts"].as_array().unwrap().len(), 1, "{document}");
        document["mounts"][0].clone()
    }
}

/// What df says of a mount: size, used, free, used %, inodes, used inodes, used %; `-` is null.
pub fn df(point: &str) -> Vec<Value> {
    let fields = "--output=size,used,avail,pcent,itotal,iused,ipcent";
    let text = run("df", &["-B1", fields, point]);
    let line = text.lines().nth(1).unwrap();
    let value = |word: &str| word.trim_end_matches('%').parse::<u64>().map_or(Value::Null, Value::from);
    line.split_whitespace().map(value).collect()
}

/// The same of a mount in a document.
pub fn as_df(mount: &Value) -> Vec<Value> {
    ["size", "used", "free", "used_percent", "inodes", "inodes_used", "inodes_used_percent"]
        .map(|field| mount[field].clone())
        .to_vec()
}

/// Compares a table in docs/disk.md, between its comment and the next `end`, with what was found; `RELIAB_GOLDEN=write`
/// writes it anew.
pub fn golden(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/disk.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), "<!-- end -->");
    let (head, rest) = text.split_once(&begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let new = format!("{head}{begin}{table}{end}{tail}");
    if std::env::var_os("RELIAB_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(path, new).unwrap();
    } else {
        assert_eq!(text, new, "docs/disk.md differs; RELIAB_GOLDEN=write writes it anew");
    }
}
