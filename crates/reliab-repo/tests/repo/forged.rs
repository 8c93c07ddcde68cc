//! Repositories made by an enemy, restored by `recover.sh`: what reaches tar is what the manifest says, so nothing else is written, and nothing of
//! it is ever run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use chrono::Utc;
use reliab_repo::blob::BlobCompressor;
use reliab_repo::format::entry::{Content, Data, Entry, Kind, Large, Meta, Pieces, Place, Stamp};
use reliab_repo::format::page::{Line, ListRow, Names, Page, encode_list, encode_page};
use reliab_repo::format::snapshot::{Snapshot, Stats};
use reliab_repo::format::table::{BlobKind, PackTable, TableRow, encode_table};
use reliab_repo::format::tar::{Body, Header, encode, padding};
use reliab_repo::id::{BlobId, Digest, ObjectId};
use reliab_repo::index;
use reliab_repo::repository::Repository;
use reliab_repo::storage::{Storage, pack_key};
use reliab_testkit::engine::local;
use reliab_testkit::tree::Scratch;

const EVIL: &[u8] = b"touch ../../../ran-it ran-it\n";

/// dash with the tools of this machine, with GNU tar or bsdtar; and busybox for everything but zstd.
const WAYS: [&str; 3] = ["tar", "bsdtar", "busybox"];

fn restore(way: &str, place: &Path) -> (Option<i32>, String) {
    let mut command = Command::new("dash");
    if way == "busybox" {
        let bin = place.join("bin");
        fs::create_dir(&bin).unwrap();
        assert!(Command::new("busybox").args(["--install", "-s"]).arg(&bin).status().unwrap().success());
        drop(fs::remove_file(bin.join("zstd")));
        std::os::unix::fs::symlink("/usr/bin/zstd", bin.join("zstd")).unwrap();
        command = Command::new(bin.join("sh"));
        command.env("PATH", bin);
    } else {
        command.env("RECOVER_TAR", way);
    }
    command.args(["backups/recover.sh", "restore", "--keep-going", "out"]);
    let output = command.current_dir(place).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Everything but folders.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let below = entry.file_type().unwrap().is_dir();
        if below { files.extend(files_below(&entry.path())) } else { files.push(entry.path()) }
    }
    files.sort();
    files
}

/// A pack being made by hand.
#[derive(Default)]
struct Pack {
    bytes: Vec<u8>,
    rows: Vec<TableRow>,
}

impl Pack {
    /// `told` is how long its table says that the blob is.
    fn add(&mut self, kind: BlobKind, content: &[u8], told: usize) -> BlobId {
        let mut frame = Vec::new();
        BlobCompressor::new(1).unwrap().compress(content, &mut frame).unwrap();
        let id = BlobId::of(content);
        let length = |len: usize| u32::try_from(len).unwrap();
        self.rows.push(TableRow { kind, id, stored: length(frame.len()), len: length(told) });
        self.bytes.extend_from_slice(&frame);
        id
    }

    fn store(mut self, storage: &Arc<dyn Storage>) {
        self.bytes.extend_from_slice(&encode_table(&self.rows));
        let id = ObjectId::of(&self.bytes);
        storage.put(&pack_key(&id), &self.bytes).unwrap();
        index::publish(storage, &[PackTable { id, size: self.bytes.len() as u64, rows: self.rows }]).unwrap();
    }
}

fn meta() -> Meta {
    let mtime = Stamp { seconds: 1_000_000, nanos: 5 };
    Meta { mode: 0o644, uid: 0, gid: 0, mtime, ctime: mtime, inode: 9, links: None }
}

fn record(path: &[u8], body: Body<'_>, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &Header { path, meta: &meta(), names: ("", ""), xattrs: &[], body });
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + padding(content.len() as u64), 0);
    bytes
}

fn file(path: &[u8], content: &[u8]) -> Vec<u8> {
    record(path, Body::File(content.len() as u64), content)
}

/// A record as another type, with the checksum that it then has.
fn as_type(mut record: Vec<u8>, flag: u8) -> Vec<u8> {
    record[156] = flag;
    record[148..156].fill(b' ');
    let sum: u64 = record[..512].iter().map(|&byte| u64::from(byte)).sum();
    record[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    record
}

/// A pax header with this text.
fn pax(text: &[u8]) -> Vec<u8> {
    as_type(file(b"PaxHeaders/entry", text), b'x')
}

/// A line for a file of this size.
fn line(path: &str, size: usize, data: Data) -> Line {
    let content = Content { size: size as u64, digest: Digest([0; 32]), data, was: None, restamp: false };
    Line::Entry(Entry { path: path.into(), kind: Kind::File(content), meta: meta(), xattrs: Vec::new() })
}

/// Publishes a snapshot of an honest file `a`, and of files `b`... whose bundles (or head and chunk) are forged.
struct Forgery {
    pack: Pack,
    blobs: Vec<BlobId>,
    lines: Vec<Line>,
}

impl Forgery {
    fn new() -> Self {
        let mut forgery = Self { pack: Pack::default(), blobs: Vec::new(), lines: Vec::new() };
        forgery.bundle("a", 6, &file(b"a", b"honest"), None);
        forgery
    }

    fn bundle(&mut self, path: &str, size: usize, content: &[u8], told: Option<usize>) {
        let blob = self.blob(BlobKind::Bundle, content, told);
        self.lines.push(line(path, size, Data::Record(Place { blob, offset: 0 })));
    }

    fn blob(&mut self, kind: BlobKind, content: &[u8], told: Option<usize>) -> u32 {
        self.blobs.push(self.pack.add(kind, content, told.unwrap_or(content.len())));
        u32::try_from(self.blobs.len() - 1).unwrap()
    }

    fn large(&mut self, path: &str, size: usize, head: &[u8], chunk: &[u8], told: Option<usize>) {
        let head = self.blob(BlobKind::Head, head, None);
        self.large_behind(path, size, head, chunk, told);
    }

    /// The same, behind a head that is there already.
    fn large_behind(&mut self, path: &str, size: usize, head: u32, chunk: &[u8], told: Option<usize>) {
        let chunk = self.blob(BlobKind::Chunk, chunk, told);
        let large = Large { head, pieces: Pieces::Chunks(vec![chunk]), map: None };
        self.lines.push(line(path, size, Data::Large(large)));
    }

    /// Restores what is left of it with each shell: nothing but these files is there, and nothing was run.
    fn gives(self, what: &str, paths: &[&str]) {
        self.gives_each(what, |_| paths.to_vec());
    }

    /// The same, where the ways differ.
    fn gives_each<'a>(self, what: &str, paths_of: impl Fn(&str) -> Vec<&'a str>) {
        self.gives_and(what, paths_of, |_| ());
    }

    /// The same, and looks at what was restored.
    fn gives_and<'a>(mut self, what: &str, paths_of: impl Fn(&str) -> Vec<&'a str>, look: impl Fn(&Path)) {
        let scratch = Scratch::new().unwrap();
        let place = scratch.path();
        let storage = local(&place.join("backups"));
        let repository = Repository::open_or_create(Arc::clone(&storage), Utc::now()).unwrap();
        let page = Page { blobs: self.blobs, names: Names::default(), lines: self.lines.clone() };
        let text = encode_page(&page);
        let id = self.pack.add(BlobKind::Page, text.as_bytes(), text.len());
        let row = ListRow { id, entries: self.lines.len() as u64, first: b"a".to_vec() };
        let text = encode_list(&[row]);
        let list = self.pack.add(BlobKind::List, text.as_bytes(), text.len());
        self.pack.store(&storage);
        repository
            .publish_snapshot(Snapshot {
                time: Utc::now(),
                host: "host".into(),
                user: "enemy".into(),
                program: "none".into(),
                paths: vec!["/".into()],
                tags: Vec::new(),
                parent: None,
                after: Vec::new(),
                layers: vec![list],
                stats: Stats::default(),
                errors: Vec::new(),
            })
            .unwrap();
        for way in WAYS {
            let (found_code, said) = restore(way, place);
            let paths = paths_of(way);
            let has_attributes = |line: &Line| matches!(line, Line::Entry(entry) if !entry.xattrs.is_empty());
            let code = match paths.len() == self.lines.len() {
                true if way == "busybox" && self.lines.iter().any(has_attributes) => 1,
                true => 0,
                false => 4,
            };
            assert_eq!(found_code, Some(code), "{what}, {way}: {said}");
            let found: Vec<_> = files_below(&place.join("out"))
                .iter()
                .map(|path| path.strip_prefix(place.join("out")).unwrap().to_str().unwrap().to_owned())
                .collect();
            assert_eq!(found, paths, "{what}, {way}: {said}");
            look(&place.join("out"));
            fs::remove_dir_all(place.join("out")).unwrap();
            assert!(!place.join("ran-it").exists(), "{what}, {way}");
        }
    }
}

#[test]
fn a_forgery_would_be_restored_if_it_were_honest() {
    let mut forgery = Forgery::new();
    forgery.bundle("b", 5, &file(b"b", b"small"), None);
    forgery.large("c", 1000, &file(b"c", &[7; 1000])[..512], &[7; 1024], None);
    forgery.gives("honest", &["a", "b", "c"]);
}

#[test]
fn a_record_of_another_name_or_type_never_reaches_tar() {
    let link = |path: &[u8], target: &[u8]| record(path, Body::Symlink(target), b"");
    let by_link = [link(b"x", b"../notes"), file(b"x/folders.sh", EVIL)].concat();
    let tricks = [
        ("another name", file(b"other", EVIL)),
        ("notes", file(b"notes/folders.sh", EVIL)),
        ("notes beside", file(b"../notes/folders.sh", EVIL)),
        ("a symlink to the notes", by_link),
        ("a symlink", link(b"b", b"/etc/passwd")),
        ("a hard link", record(b"b", Body::HardLink(b"a"), b"")),
        ("a long name that is another", file("ü".repeat(200).as_bytes(), EVIL)),
    ];
    for (what, bytes) in tricks {
        let mut forgery = Forgery::new();
        forgery.bundle("b", bytes.len() - 512, &bytes, None);
        forgery.gives(what, &["a"]);
    }
}

#[test]
fn tar_never_takes_content_for_headers() {
    let hidden = file(b"hidden", EVIL);
    // The size in the header is less than the manifest says.
    let bytes = [record(b"b", Body::File(0), b""), hidden.clone()].concat();
    let mut forgery = Forgery::new();
    forgery.bundle("b", hidden.len(), &bytes, None);
    forgery.gives("a short record", &["a"]);
    // No tar takes the first header, and looks for the next.
    let mut bytes = file(b"b", &hidden);
    bytes[150] ^= 1;
    let mut forgery = Forgery::new();
    forgery.bundle("b", hidden.len(), &bytes, None);
    forgery.gives("a wrong checksum", &["a"]);
    // The blob is longer than its table says.
    let honest = file(b"b", b"small");
    let bytes = [honest.clone(), hidden.clone()].concat();
    let mut forgery = Forgery::new();
    forgery.bundle("b", 5, &bytes, Some(honest.len()));
    forgery.gives("a longer bundle", &["a"]);
    let head = file(b"c", &[7; 1024])[..512].to_vec();
    let mut forgery = Forgery::new();
    forgery.large("c", 1024, &head, &[[7; 1024].to_vec(), hidden.clone()].concat(), Some(1024));
    // What is more than that is cut off.
    forgery.gives("a longer chunk", &["a", "c"]);
    // A head is not needed, so the file is restored, by the page.
    let head = record(b"c", Body::File(0), b"");
    let mut forgery = Forgery::new();
    forgery.large("c", hidden.len(), &head, &hidden, None);
    forgery.gives("a head of another size", &["a", "c"]);
}

#[test]
fn what_one_tar_reads_in_a_header_no_other_may_read_otherwise() {
    let hidden = file(b"hidden", EVIL);
    // Who knows no pax header takes the size in the block.
    let size = pax(format!("13 size={}\n", hidden.len()).as_bytes());
    let bytes = [size, record(b"b", Body::File(0), b""), hidden.clone()].concat();
    let mut forgery = Forgery::new();
    forgery.bundle("b", hidden.len(), &bytes, None);
    forgery.gives("another size behind a pax header", &["a"]);
    // Such a one also takes the name in it.
    let bytes = [pax(b"10 path=b\n"), file(b"other", EVIL)].concat();
    let mut forgery = Forgery::new();
    forgery.bundle("b", EVIL.len(), &bytes, None);
    forgery.gives("another name behind a pax header", &["a"]);
    // Where a line feed should be there is none, so tar reads the block alone.
    for end in [1, 2, 3, 4] {
        let path = "ü".repeat(60);
        let mut text = format!("130 path={path}\n").into_bytes();
        *text.last_mut().unwrap() = end;
        let bytes = [pax(&text), file(&path.as_bytes()[20..], EVIL)[512 * 2..].to_vec()].concat();
        let mut forgery = Forgery::new();
        forgery.bundle(&path, EVIL.len(), &bytes, None);
        forgery.gives("a pax header without a line feed", &["a"]);
    }
}

#[test]
fn a_record_that_was_compared_for_one_file_is_no_header_for_another() {
    let hidden = file(b"hidden", EVIL);
    // The bundle of `a` as a head: its content would stand before that of `c`.
    let mut forgery = Forgery::new();
    forgery.bundle("b", 5, &file(b"b", b"small"), None);
    forgery.large_behind("c", hidden.len(), 0, &hidden, None);
    forgery.gives("a bundle as a head", &["a", "b", "c"]);
    // The head of a shorter file.
    let head = |path: &[u8]| file(path, &[7; 1024])[..512].to_vec();
    let mut forgery = Forgery::new();
    forgery.large("c", 1024, &head(b"c"), &[7; 1024], None);
    forgery.large("d", 1024, &head(b"d"), &[7; 1024], None);
    let longer = [vec![7; 1024], hidden].concat();
    forgery.large_behind("e", longer.len(), 1, &longer, None);
    forgery.gives("the head of another file", &["a", "c", "d", "e"]);
}

#[test]
fn a_folder_that_no_line_tells_of_is_open_to_no_other_where_two_files_share_a_record() {
    let mut forgery = Forgery::new();
    forgery.bundle("d/b", 5, &file(b"d/b", b"small"), None);
    let mut second = forgery.lines[1].clone();
    if let Line::Entry(Entry { path, kind: Kind::File(content), .. }) = &mut second {
        *path = b"d/c".to_vec();
        content.was = Some(b"d/b".to_vec());
    }
    forgery.lines.push(second);
    let all = |_: &str| vec!["a", "d/b", "d/c"];
    forgery.gives_and("one record for two files", all, |out| {
        let mode = fs::metadata(out.join("d")).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o022, 0, "{mode:o}");
        assert_eq!(fs::read(out.join("d/c")).unwrap(), b"small");
    });
}

#[test]
fn a_link_with_attributes_leads_where_the_manifest_says() {
    let attribute = (b"trusted.note".to_vec(), b"x".to_vec());
    let header = Header {
        path: b"b",
        meta: &meta(),
        names: ("", ""),
        xattrs: std::slice::from_ref(&attribute),
        body: Body::Symlink(b"elsewhere"),
    };
    for (target, restored) in [("elsewhere", true), ("here", false)] {
        let mut bytes = Vec::new();
        encode(&mut bytes, &header);
        let mut forgery = Forgery::new();
        let place = Place { blob: forgery.blob(BlobKind::Bundle, &bytes, None), offset: 0 };
        let kind = Kind::Symlink(place, target.into());
        forgery.lines.push(Line::Entry(Entry {
            path: b"b".to_vec(),
            kind,
            meta: meta(),
            xattrs: vec![attribute.clone()],
        }));
        // busybox, which knows no attributes, makes it by the manifest.
        let whole = |way: &str| restored || way == "busybox";
        forgery.gives_each("a link", |way| if whole(way) { vec!["a", "b"] } else { vec!["a"] });
    }
}
