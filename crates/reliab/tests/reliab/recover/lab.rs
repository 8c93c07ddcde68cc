//! A repository under test, what is known of it without reliab and without the script, and the script's runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use reliab_testkit::damage::Damage;
use reliab_testkit::generator::Generator;
use reliab_testkit::scan::{ItemKind, Scan, differences, scan};
use reliab_testkit::tree::{Scratch, set_mode, set_mtime};
use serde_json::Value;

/// A shell and the only folder on its PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// dash with mawk, and nothing but the tools that the script may use.
    Dash,
    /// busybox for everything but zstd.
    Busybox,
    /// mksh, where `r` is an alias and `printf` no builtin, with the awk of the BSDs.
    Mksh,
    /// bash as sh, with gawk.
    Bash,
}

pub const SHELLS: [Shell; 2] = [Shell::Dash, Shell::Busybox];

/// These do the same, so not each test needs them.
pub const OTHERS: [Shell; 2] = [Shell::Mksh, Shell::Bash];

/// What the script may use, besides awk and a shell.
pub const TOOLS: &str = "zstd tar sort sed dd head tail tr fold od find xargs sha256sum stat ls cat mkdir rmdir rm mv cp ln \
                     chmod chown touch id wc mkfifo mknod setfattr printf";

impl Shell {
    pub fn command(self, place: &Path) -> Command {
        let bin = place.join(format!("bin-{self:?}"));
        let mut command = Command::new(bin.join("sh"));
        command.env_clear().env("PATH", bin).current_dir(place).stdin(Stdio::null());
        command
    }

    pub fn install(self, place: &Path) {
        let bin = place.join(format!("bin-{self:?}"));
        fs::create_dir(&bin).unwrap();
        let (shell, awk) = match self {
            Self::Dash => ("dash", "mawk"),
            Self::Mksh => ("mksh", "original-awk"),
            Self::Bash => ("bash", "gawk"),
            Self::Busybox => {
                succeed(Command::new("busybox").args(["--install", "-s"]).arg(&bin));
                return link(&bin, "zstd", "zstd");
            }
        };
        link(&bin, shell, "sh");
        link(&bin, awk, "awk");
        TOOLS.split_whitespace().for_each(|tool| link(&bin, tool, tool));
    }
}

/// Links a tool of this machine into a folder.
pub fn link(bin: &Path, tool: &str, name: &str) {
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("this test needs {tool}: install it"));
    symlink(found, bin.join(name)).unwrap();
}

pub fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A blob and where it lies.
#[derive(Clone, Debug)]
pub struct Blob {
    pub kind: String,
    pub id: String,
    pub pack: PathBuf,
    pub at: usize,
    pub len: usize,
}

/// A page of a layer, and the paths for which it is asked.
#[derive(Debug)]
pub struct Page {
    pub layer: usize,
    pub id: String,
    pub first: String,
    pub next: Option<String>,
}

impl Page {
    pub fn covers(&self, path: &str) -> bool {
        // Component by component, as the format orders paths.
        let key = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        key(path) >= key(&self.first) && self.next.as_ref().is_none_or(|next| key(path) < key(next))
    }
}

/// What the latest snapshot says of a path.
#[derive(Debug)]
pub struct Entry {
    pub layer: usize,
    /// The blobs without which it is lost.
    pub needs: BTreeSet<String>,
}

/// A repository of two snapshots, the second an overlay, and what is known of it without reliab and without the script.
pub struct Lab {
    pub scratch: Scratch,
    /// The id of the newer snapshot.
    pub latest: String,
    pub blobs: Vec<Blob>,
    pub layers: Vec<String>,
    pub pages: Vec<Page>,
    /// What a layer says of a path, be it still true or not.
    pub lines: Vec<(usize, String)>,
    pub entries: BTreeMap<String, Entry>,
}

impl Lab {
    /// `large` more bytes of incompressible data: 32 MiB fill a pack.
    pub fn new(large: usize) -> Self {
        let scratch = Scratch::new().unwrap();
        let place = scratch.path();
        SHELLS.iter().for_each(|shell| shell.install(place));
        tree(&place.join("data"), large);
        back_up(place);
        change(&place.join("data"));
        back_up(place);
        let lab = Self::in_scratch(scratch);
        assert_eq!(lab.layers.len(), 2);
        lab
    }

    /// A repository of a snapshot after each of these changes of `data`.
    pub fn after(changes: &[fn(&Path)]) -> Self {
        let scratch = Scratch::new().unwrap();
        let place = scratch.path();
        SHELLS.iter().for_each(|shell| shell.install(place));
        for change in changes {
            change(&place.join("data"));
            back_up(place);
        }
        Self::in_scratch(scratch)
    }

    fn in_scratch(scratch: Scratch) -> Self {
        let mut lab = Self {
            scratch,
            latest: String::new(),
            blobs: Vec::new(),
            layers: Vec::new(),
            pages: Vec::new(),
            lines: Vec::new(),
            entries: BTreeMap::new(),
        };
        lab.read();
        lab
    }

    pub fn place(&self) -> &Path {
        self.scratch.path()
    }

    pub fn repo(&self) -> PathBuf {
        self.place().join("backups")
    }

    pub fn read(&mut self) {
        for pack in files_below(&self.repo().join("packs")) {
            self.blobs.extend(table(&pack));
        }
        let mut snapshots: Vec<(Value, String)> = files_below(&self.repo().join("snapshots"))
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (serde_json::from_slice(&fs::read(path).unwrap()).unwrap(), name)
            })
            .collect();
        snapshots.sort_by_key(|(snapshot, _)| snapshot["time"].as_str().unwrap().to_owned());
        let (snapshot, latest) = snapshots.pop().unwrap();
        self.latest = latest;
        let layers = snapshot["layers"].as_array().unwrap();
        self.layers = layers.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        for layer in 0..self.layers.len() {
            self.read_layer(layer);
        }
    }

    pub fn read_layer(&mut self, layer: usize) {
        let list = self.content(&self.layers[layer]);
        let rows: Vec<Vec<&str>> = list.lines().map(|line| line.splitn(3, ' ').collect()).collect();
        for (number, row) in rows.iter().enumerate() {
            let next = rows.get(number + 1).map(|next| next[2].to_owned());
            self.pages.push(Page { layer, id: row[0].to_owned(), first: row[2].to_owned(), next });
            self.read_page(layer, &self.content(row[0]));
        }
    }

    pub fn read_page(&mut self, layer: usize, text: &str) {
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let head = lines.next().unwrap();
        for entry in lines {
            let path = entry["path"].as_str().unwrap().to_owned();
            match entry["type"].as_str().unwrap() {
                "gone" => drop(self.entries.remove(&path)),
                "gone-tree" => {
                    let below = format!("{path}/");
                    self.entries.retain(|other, _| *other != path && !other.starts_with(&below));
                }
                _ => {
                    self.lines.push((layer, path.clone()));
                    self.entries.insert(path, Entry { layer, needs: needs(&head, &entry) });
                }
            }
        }
    }

    pub fn blob(&self, id: &str) -> &Blob {
        self.blobs.iter().find(|blob| blob.id == id).unwrap()
    }

    /// A blob's bytes, as text.
    pub fn content(&self, id: &str) -> String {
        let blob = self.blob(id);
        let frame = self.place().join("frame");
        fs::write(&frame, &fs::read(&blob.pack).unwrap()[blob.at..blob.at + blob.len]).unwrap();
        let output = Command::new("zstd").args(["-dc"]).arg(&frame).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first blob of a kind that the latest snapshot needs.
    pub fn needed(&self, kind: &str) -> &Blob {
        let is_needed = |blob: &&Blob| {
            blob.kind == kind
                && (kind == "head" || self.entries.values().any(|entry| entry.needs.contains(&blob.id)))
        };
        self.blobs.iter().find(is_needed).unwrap()
    }

    /// Paths that need one of these blobs.
    pub fn users_of(&self, is_lost: impl Fn(&Blob) -> bool) -> BTreeSet<String> {
        let lost: BTreeSet<&str> =
            self.blobs.iter().filter(|blob| is_lost(blob)).map(|blob| &blob.id[..]).collect();
        let needs_one = |entry: &Entry| entry.needs.iter().any(|id| lost.contains(&id[..]));
        self.entries.iter().filter(|(_, entry)| needs_one(entry)).map(|(path, _)| path.clone()).collect()
    }

    /// Paths of which a page, or an older one that it covers, has the last word.
    pub fn told_by(&self, page: &Page) -> BTreeSet<String> {
        let told = self.entries.iter().filter(|(path, entry)| entry.layer <= page.layer && page.covers(path));
        told.map(|(path, _)| path.clone()).collect()
    }

    /// Paths that are left out without this page, and have names all the same: an older layer tells them.
    pub fn hidden_by(&self, page: &Page) -> BTreeSet<String> {
        let hidden = self.lines.iter().filter(|(layer, path)| *layer < page.layer && page.covers(path));
        hidden.map(|(_, path)| path.clone()).collect()
    }

    /// Runs the repository's own script.
    pub fn run(&self, shell: Shell, args: &[&str]) -> Outcome {
        let mut command = shell.command(self.place());
        Outcome::of(command.arg("backups/recover.sh").args(args))
    }

    /// What was restored is what was backed up, less what is lost; nothing else is there.
    pub fn is_restored(&self, target: &str, lost: &BTreeSet<String>, what: &str) {
        self.is_restored_but(target, lost, what, |_| ());
    }

    pub fn is_restored_but(&self, target: &str, lost: &BTreeSet<String>, what: &str, forget: fn(&mut Scan)) {
        let target = self.place().join(target);
        let names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["data"], "{what}");
        let is_lost = |path: &[u8]| {
            let path = if path.is_empty() { "data".to_owned() } else { format!("data/{}", escaped(path)) };
            lost.contains(&path)
        };
        let (mut expected, mut found) =
            (scan(&self.place().join("data")).unwrap(), scan(&target.join("data")).unwrap());
        for tree in [&mut expected, &mut found] {
            // Times come back to the second.
            tree.values_mut().for_each(|item| item.mtime.1 = 0);
            forget(tree);
        }
        for (path, item) in &found {
            // A folder of which nothing is known any more is there for what lies below it.
            assert!(!is_lost(path) || item.kind == ItemKind::Dir, "{what}: {path:?}");
        }
        expected.retain(|path, _| !is_lost(path));
        found.retain(|path, _| !is_lost(path));
        assert!(!expected.is_empty(), "{what}");
        assert_eq!(differences(&expected, &found), Vec::<String>::new(), "{what}");
        fs::remove_dir_all(target).unwrap();
    }

    /// Nothing is written without --keep-going, and all that would be lost is told; with it, the rest is restored.
    pub fn loses(&self, shell: Shell, options: &[&str], lost: &BTreeSet<String>, what: &str) {
        let what = format!("{what}, {shell:?}");
        assert!(!lost.is_empty(), "{what}");
        let refused = self.run(shell, &[options, &["restore", "out"]].concat());
        assert_eq!(refused.code, Some(4), "{what}: {}", refused.stderr);
        assert!(!self.place().join("out").exists(), "{what}");
        let count = format!("{} paths cannot be restored", lost.len());
        assert!(refused.stderr.contains(&count), "{what}: {count}: {}", refused.stderr);
        let told = refused.lost();
        assert!(told.len() >= lost.len().min(20), "{what}: {}", refused.stderr);
        assert!(told.iter().all(|path| lost.contains(path) || path == "... and more"), "{what}: {told:?}");
        let kept = self.run(shell, &[options, &["restore", "--keep-going", "out"]].concat());
        assert_eq!(kept.code, Some(4), "{what}: {}", kept.stderr);
        assert_eq!(&kept.lost(), lost, "{what}: {}", kept.stderr);
        self.is_restored("out", lost, &what);
    }

    /// Nothing is lost: all is restored, and the script says so.
    pub fn loses_nothing(&self, shell: Shell, options: &[&str], what: &str) {
        let what = format!("{what}, {shell:?}");
        let outcome = self.run(shell, &[options, &["restore", "out"]].concat());
        assert_eq!(outcome.code, Some(0), "{what}: {}", outcome.stderr);
        assert!(outcome.stderr.ends_with("done: everything is in out\n"), "{what}: {}", outcome.stderr);
        self.is_restored("out", &BTreeSet::new(), &what);
    }
}

/// What a run of the script came to.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let outcome = Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        for line in outcome.stdout.lines().chain(outcome.stderr.lines()) {
            // Words with a slash are paths, of whatever length.
            let words: Vec<_> = line.split(' ').filter(|word| !word.contains('/')).collect();
            assert!(words.join(" ").len() <= 80 || line.starts_with("lost: "), "a long line: {line}");
        }
        outcome
    }

    /// Paths of "lost: ..." lines.
    pub fn lost(&self) -> BTreeSet<String> {
        let lines = self.stdout.lines().chain(self.stderr.lines());
        let lost = lines.filter_map(|line| line.strip_prefix("lost: "));
        // Ranges of paths have lines of their own.
        lost.filter(|path| *path != "what the manifest says of paths from").map(str::to_owned).collect()
    }
}

/// Does something while a file is damaged.
pub fn while_damaged(path: &Path, damage: &Damage, test: impl FnOnce()) {
    let whole = fs::read(path).unwrap();
    damage.apply_to(path).unwrap();
    test();
    fs::write(path, whole).unwrap();
}

pub fn while_flipped(blob: &Blob, test: impl FnOnce()) {
    while_damaged(&blob.pack, &Damage::FlipAt(blob.at + blob.len / 2), test);
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// The table at the end of a pack, as docs/format.md describes it.
pub fn table(pack: &Path) -> Vec<Blob> {
    let bytes = fs::read(pack).unwrap();
    let (rest, end) = bytes.split_at(bytes.len() - 15);
    let length = std::str::from_utf8(end).unwrap().trim_end().strip_prefix("table ").unwrap();
    let length = usize::from_str_radix(length, 16).unwrap();
    let mut at = 0;
    let lines = std::str::from_utf8(&rest[rest.len() - length..]).unwrap().lines();
    let blob = |line: &str| {
        let word: Vec<_> = line.split(' ').collect();
        let len = word[2].parse().unwrap();
        let blob = Blob { kind: word[0].into(), id: word[1].into(), pack: pack.into(), at, len };
        at += len;
        blob
    };
    lines.map(blob).collect()
}

/// The blobs with the content of a file, and what else has bytes outside of the pages.
pub fn needs(head: &Value, entry: &Value) -> BTreeSet<String> {
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let blob = |value: &Value| head["blobs"][number(value)].as_str().unwrap().to_owned();
    if entry["type"] != "file" {
        return BTreeSet::new();
    }
    let record = entry.get("at").map(|at| blob(&at[0]));
    let list = |key: &str| entry.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let chunks = list("chunks").iter().map(blob).collect::<Vec<_>>();
    let extents = list("extents").iter().map(|extent| blob(&extent[0])).collect::<Vec<_>>();
    record.into_iter().chain(chunks).chain(extents).collect()
}

/// A path as pages have it.
pub fn escaped(path: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        0..=31 | 127.. | b'"' | b'%' | b'\\' => format!("%{byte:02X}"),
        _ => char::from(*byte).to_string(),
    };
    path.iter().map(escape).collect()
}

/// Files for several bundles and several pages, large ones, and everything that needs no bytes.
pub fn tree(data: &Path, large: usize) {
    let mut generator = Generator::new(21);
    fs::create_dir_all(data.join("many")).unwrap();
    fs::create_dir(data.join("other")).unwrap();
    for number in 0..1500 {
        fs::write(data.join(format!("many/{number:04}")), generator.bytes(number * 3)).unwrap();
    }
    fs::write(data.join("database"), generator.bytes(5 << 20)).unwrap();
    fs::write(data.join("a large file"), generator.bytes(large)).unwrap();
    for number in 0..20 {
        fs::write(data.join(format!("other/{number}")), generator.bytes(400_000)).unwrap();
    }
    fs::hard_link(data.join("other/3"), data.join("other/third")).unwrap();
    fs::hard_link(data.join("database"), data.join("other/same database")).unwrap();
    fs::write(data.join("other/new\nline and \"%41\""), "odd").unwrap();
    symlink("other", data.join("symlink")).unwrap();
    succeed(Command::new("mkfifo").arg(data.join("pipe")));
    set_mode(&data.join("other"), 0o2750).unwrap();
    set_mode(&data.join("other/5"), 0o4711).unwrap();
    set_mtime(&data.join("other"), 1_400_000_000, 0).unwrap();
    set_mtime(&data.join("symlink"), 1_300_000_000, 0).unwrap();
}

/// An overlay: bytes changed in place, a new file, a renamed one, one that is gone, another mode.
pub fn change(data: &Path) {
    let mut database = fs::read(data.join("database")).unwrap();
    database[3 << 20..(3 << 20) + 100].fill(7);
    // In place, so that the other name sees it.
    fs::write(data.join("database"), database).unwrap();
    fs::write(data.join("many/0700"), "changed").unwrap();
    fs::rename(data.join("other/7"), data.join("other/renamed")).unwrap();
    fs::remove_file(data.join("many/0900")).unwrap();
    set_mode(&data.join("many/1000"), 0o600).unwrap();
}

pub fn back_up(place: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reliab"));
    command.args(["backup", "data", "--quiet"]).current_dir(place);
    succeed(
        command.env("RELIAB_STATE_DIR", place.join("state")).env("RELIAB_CACHE_DIR", place.join("cache")),
    );
}
