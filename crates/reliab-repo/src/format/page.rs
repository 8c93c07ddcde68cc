//! Pages (entries as JSON Lines) and lists (the pages of a layer).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::bounded::{self, has_long_string};
use super::entry::{Content, Data, Entry, Extent, Kind, Large, Links, Meta, Pieces, Place, Stamp, Xattr};
use super::escape::{ESCAPED_MAX, escape, is_well_formed, unescape};
use super::{FILE_MAX, Malformed, PAGE_BYTES, PAGE_MAX, PIECE_MIN, PIECES_MAX, SEGMENTS_MAX, order};
use crate::id::{BlobId, Digest};

/// User and group names by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// User names.
    pub users: BTreeMap<u32, String>,
    /// Group names.
    pub groups: BTreeMap<u32, String>,
}

impl Names {
    /// User and group name of an entry, empty where unknown.
    pub fn of(&self, meta: &Meta) -> (&str, &str) {
        (
            self.users.get(&meta.uid).map(String::as_str).unwrap_or_default(),
            self.groups.get(&meta.gid).map(String::as_str).unwrap_or_default(),
        )
    }
}

/// A line of a page: an entry, or in an overlay one that is gone.
#[expect(clippy::large_enum_variant, reason = "nearly all lines are entries")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The entry as it is now.
    Entry(Entry),
    /// The path is gone.
    Gone(Vec<u8>),
    /// The path is gone, and all that older layers have below it.
    GoneTree(Vec<u8>),
}

impl Line {
    /// Digest of a file's content.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Entry(Entry { kind: Kind::File(content), .. }) => Some(content.digest),
            _ => None,
        }
    }

    /// Its path.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Entry(entry) => &entry.path,
            Self::Gone(path) | Self::GoneTree(path) => path,
        }
    }
}

/// A decoded page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The blobs that entries refer to by number.
    pub blobs: Vec<BlobId>,
    /// Names of the owners.
    pub names: Names,
    /// The lines, sorted by path.
    pub lines: Vec<Line>,
}

/// Writes a page: its header line, then a line an entry.
pub fn encode_page(page: &Page) -> String {
    let digests: Vec<Digest> = page.lines.iter().filter_map(Line::digest).collect();
    let mut text = encode_header(&page.blobs, &page.names, &digests);
    let mut expected = Expected::default();
    page.lines.iter().for_each(|line| encode_line(&mut text, line, &mut expected));
    text
}

/// The first line of a page, which holds the digests of its files, too: hashes compress to half among themselves and hardly
/// at all between other text.
pub fn encode_header(blobs: &[BlobId], names: &Names, digests: &[Digest]) -> String {
    let mut text = String::with_capacity(blobs.len() * 70 + digests.len() * 43 + 200);
    text.push_str("{\"page\":1,\"blobs\":[");
    for (i, id) in blobs.iter().enumerate() {
        put(&mut text, format_args!("{}\"{id}\"", comma(i)));
    }
    text.push_str("],\"users\":");
    encode_names(&mut text, &names.users);
    text.push_str(",\"groups\":");
    encode_names(&mut text, &names.groups);
    text.push_str(",\"blake3\":\"");
    let raw: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
    BASE64.encode_string(raw, &mut text);
    text.push_str("\"}\n");
    text
}

fn encode_names(text: &mut String, names: &BTreeMap<u32, String>) {
    text.push('{');
    for (i, (id, name)) in names.iter().enumerate() {
        put(text, format_args!("{}\"{id}\":\"{}\"", comma(i), escape(name.as_bytes())));
    }
    text.push('}');
}

fn comma(i: usize) -> &'static str {
    if i == 0 { "" } else { "," }
}

/// Writing to a string cannot fail.
fn put(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).unwrap_or_default();
}

/// Where the next record of each bundle would stand if it came right behind the last one.
#[derive(Default)]
pub struct Expected(BTreeMap<u32, u32>);

impl Expected {
    /// True if the record stands where it is expected; from now on the next one is expected behind it.
    fn is_next(&mut self, place: Place, size: u64) -> bool {
        let end = record_end(place.offset, size);
        self.0.insert(place.blob, end) == Some(place.offset)
    }

    /// The offset of a record that is not told.
    fn next(&self, blob: u32) -> Option<u32> {
        self.0.get(&blob).copied()
    }
}

/// Offset behind a record without extended header.
fn record_end(offset: u32, size: u64) -> u32 {
    let len = size.saturating_add(512).checked_next_multiple_of(512).and_then(|len| u32::try_from(len).ok());
    len.and_then(|len| offset.checked_add(len)).unwrap_or(u32::MAX)
}

/// Appends a line; `expected` is that of its page.
pub fn encode_line(text: &mut String, line: &Line, expected: &mut Expected) {
    let gone = |text: &mut String, path: &[u8], word| {
        put(text, format_args!("{{\"path\":\"{}\",\"type\":\"{word}\"}}\n", escape(path)));
    };
    match line {
        Line::Entry(entry) => encode_entry(text, entry, expected),
        Line::Gone(path) => gone(text, path, "gone"),
        Line::GoneTree(path) => gone(text, path, "gone-tree"),
    }
}

fn encode_entry(text: &mut String, entry: &Entry, expected: &mut Expected) {
    let meta = &entry.meta;
    text.push_str("{\"path\":\"");
    text.push_str(&escape(&entry.path));
    text.push_str("\",\"type\":\"");
    text.push_str(entry.kind.word());
    put(text, format_args!("\",\"mode\":\"{:o}\"", meta.mode));
    for (key, value) in [(",\"uid\":", u64::from(meta.uid)), (",\"gid\":", u64::from(meta.gid))] {
        put_number(text, key, value);
    }
    put_stamp(text, ",\"mtime\":[", meta.mtime);
    put_stamp(text, ",\"ctime\":[", meta.ctime);
    put_number(text, ",\"inode\":", meta.inode);
    if let Some(links) = meta.links {
        put_number(text, ",\"links\":", links.count);
        put_number(text, ",\"device\":", links.device);
    }
    encode_special(text, &entry.kind);
    encode_xattrs(text, entry);
    match &entry.kind {
        Kind::File(content) => encode_content(text, &entry.path, content, expected),
        Kind::Dir(place)
        | Kind::Symlink(place, _)
        | Kind::Fifo(place)
        | Kind::Char(place, ..)
        | Kind::Block(place, ..) => encode_place(text, *place, 0, expected),
    }
    text.push_str("}\n");
}

fn put_number(text: &mut String, key: &str, value: u64) {
    text.push_str(key);
    put(text, format_args!("{value}"));
}

fn put_stamp(text: &mut String, key: &str, stamp: Stamp) {
    text.push_str(key);
    put(text, format_args!("{},{}]", stamp.seconds, stamp.nanos));
}

fn encode_special(text: &mut String, kind: &Kind) {
    match kind {
        Kind::Symlink(_, target) => put(text, format_args!(",\"target\":\"{}\"", escape(target))),
        Kind::Char(_, major, minor) | Kind::Block(_, major, minor) => {
            put(text, format_args!(",\"rdev\":[{major},{minor}]"));
        }
        _ => {}
    }
}

fn encode_xattrs(text: &mut String, entry: &Entry) {
    if entry.xattrs.is_empty() {
        return;
    }
    text.push_str(",\"xattrs\":{");
    for (i, (name, value)) in entry.xattrs.iter().enumerate() {
        put(text, format_args!("{}\"{}\":\"{}\"", comma(i), escape(name), BASE64.encode(value)));
    }
    text.push('}');
}

fn encode_place(text: &mut String, place: Place, size: u64, expected: &mut Expected) {
    if expected.is_next(place, size) {
        put(text, format_args!(",\"at\":[{}]", place.blob));
    } else {
        put(text, format_args!(",\"at\":[{},{}]", place.blob, place.offset));
    }
}

fn encode_content(text: &mut String, path: &[u8], content: &Content, expected: &mut Expected) {
    put_number(text, ",\"size\":", content.size);
    match &content.data {
        Data::Record(place) => encode_place(text, *place, content.size, expected),
        Data::Large(large) => encode_large(text, large),
    }
    if let Some(was) = &content.was {
        let (kept, prefix) = split_was(&escape(path), &escape(was));
        put(text, format_args!(",\"was\":[{kept},\"{prefix}\"]"));
    }
    if content.restamp {
        text.push_str(",\"restamp\":true");
    }
}

/// An old path as what stands before the part that both paths end in: so all files of a renamed folder say the same.
///
/// Gives how many bytes of the new path that replaces, and the replacement.
fn split_was(path: &str, was: &str) -> (usize, String) {
    let common = path.bytes().rev().zip(was.bytes().rev()).take_while(|(a, b)| a == b).count();
    // Looked for among bytes: the common part may begin inside a character, a slash never does.
    let tail = &path.as_bytes()[path.len() - common..];
    let shared = tail.iter().position(|&b| b == b'/').map_or(0, |slash| tail.len() - slash);
    (path.len() - shared, was[..was.len() - shared].to_owned())
}

fn join_was(path: &str, kept: usize, prefix: &str) -> Result<Vec<u8>, Malformed> {
    let tail = path.get(kept..).ok_or_else(|| Malformed(format!("entry {path:?}: bad old path")))?;
    unescape(&format!("{prefix}{tail}"))
}

fn encode_large(text: &mut String, large: &Large) {
    put(text, format_args!(",\"head\":{}", large.head));
    match &large.pieces {
        Pieces::Chunks(blobs) => {
            text.push_str(",\"chunks\":[");
            for (i, blob) in blobs.iter().enumerate() {
                put(text, format_args!("{}{blob}", comma(i)));
            }
        }
        Pieces::Extents(extents) => {
            text.push_str(",\"extents\":[");
            for (i, Extent { blob, offset, len }) in extents.iter().enumerate() {
                put(text, format_args!("{}[{blob},{offset},{len}]", comma(i)));
            }
        }
    }
    text.push(']');
    if let Some(map) = &large.map {
        text.push_str(",\"map\":[");
        for (i, (offset, len)) in map.iter().enumerate() {
            put(text, format_args!("{}[{offset},{len}]", comma(i)));
        }
        text.push(']');
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeader<'a> {
    page: u32,
    blobs: Vec<RawId>,
    #[serde(borrow)]
    users: RawNames<'a>,
    #[serde(borrow)]
    groups: RawNames<'a>,
    blake3: &'a str,
}

/// Names of owners: no more than there are entries.
type RawNames<'a> = bounded::Map<u32, &'a str, PAGE_MAX>;

/// A blob's id, read where it stands.
#[derive(Deserialize)]
#[serde(try_from = "&str")]
struct RawId(BlobId);

impl TryFrom<&str> for RawId {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        BlobId::parse(text).map(Self).ok_or_else(|| "bad blob id".to_owned())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry<'a> {
    path: &'a str,
    r#type: &'a str,
    #[serde(default)]
    mode: &'a str,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    mtime: (i64, u32),
    #[serde(default)]
    ctime: (i64, u32),
    #[serde(default)]
    inode: u64,
    links: Option<u64>,
    device: Option<u64>,
    target: Option<&'a str>,
    rdev: Option<(u32, u32)>,
    #[serde(borrow, default)]
    xattrs: bounded::Map<&'a str, &'a str, XATTRS_MAX>,
    size: Option<u64>,
    at: Option<bounded::List<u32, 2>>,
    head: Option<u32>,
    chunks: Option<bounded::List<u32, PIECES_MAX>>,
    extents: Option<bounded::List<RawExtent, PIECES_MAX>>,
    map: Option<bounded::List<(u64, u64), SEGMENTS_MAX>>,
    #[serde(borrow)]
    was: Option<(usize, &'a str)>,
    #[serde(default)]
    restamp: bool,
}

/// Attributes of one entry: the kernel lists 64 KiB of names (xattr(7)).
const XATTRS_MAX: usize = 1 << 15;

/// Bytes of the names and values of one entry as they are written; a writer leaves out what is more than 4 MiB.
const XATTRS_TEXT_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(from = "(u32, u32, u32)")]
struct RawExtent(Extent);

impl From<(u32, u32, u32)> for RawExtent {
    fn from((blob, offset, len): (u32, u32, u32)) -> Self {
        Self(Extent { blob, offset, len })
    }
}

/// Reads a page of at most `PAGE_MAX` lines, of which only the last may be behind `PAGE_BYTES`; every path is checked to be
/// well formed and in order, every blob number to be in the table.
pub fn decode_page(text: &[u8]) -> Result<Page, Malformed> {
    let text = std::str::from_utf8(text).map_err(Malformed::new)?;
    let (header, rest) =
        text.split_once('\n').ok_or_else(|| Malformed::new("the page has no header line"))?;
    let raw: RawHeader<'_> = from_line(header)?;
    if raw.page != 1 {
        return Err(Malformed(format!("page version {} is not known", raw.page)));
    }
    let blobs: Vec<BlobId> = raw.blobs.into_iter().map(|id| id.0).collect();
    let names = Names { users: decode_names(raw.users)?, groups: decode_names(raw.groups)? };
    let mut expected = Expected::default();
    let (mut lines, mut at) = (Vec::new(), 0);
    for line in rest.lines() {
        // Lines that say little compress to nothing and take much room here.
        if lines.len() == PAGE_MAX {
            return Err(Malformed(format!("the page has more than {PAGE_MAX} entries")));
        }
        if at >= PAGE_BYTES {
            return Err(Malformed(format!("the page goes on behind {PAGE_BYTES} bytes of entries")));
        }
        lines.push(decode_line(line, blobs.len(), &mut expected)?);
        at += line.len() + 1;
    }
    set_digests(&mut lines, raw.blake3)?;
    if lines.windows(2).any(|pair| order::compare(pair[0].path(), pair[1].path()).is_ge()) {
        return Err(Malformed::new("the page is not sorted"));
    }
    Ok(Page { blobs, names, lines })
}

fn from_line<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Malformed> {
    if has_long_string(line) {
        return Err(Malformed::new("a text in it is too long"));
    }
    serde_json::from_str(line).map_err(Malformed::new)
}

/// The bytes that a text stands for.
fn decode_text(text: &str) -> Result<Vec<u8>, Malformed> {
    if text.len() > ESCAPED_MAX { Err(Malformed::new("a path in it is too long")) } else { unescape(text) }
}

fn decode_names(names: RawNames<'_>) -> Result<BTreeMap<u32, String>, Malformed> {
    let decode = |name: &str| String::from_utf8(decode_text(name)?).map_err(Malformed::new);
    names.0.into_iter().map(|(id, name)| Ok((id, decode(name)?))).collect()
}

/// Gives the files of a page their digests, in order.
fn set_digests(lines: &mut [Line], digests: &str) -> Result<(), Malformed> {
    let bad = || Malformed::new("the page's digests do not fit its files");
    if digests.len() > (PAGE_MAX * 32).div_ceil(3) * 4 {
        return Err(bad());
    }
    let raw = BASE64.decode(digests).map_err(Malformed::new)?;
    let (digests, []) = raw.as_chunks::<32>() else { return Err(bad()) };
    let mut digests = digests.iter();
    for line in lines {
        if let Line::Entry(Entry { kind: Kind::File(content), .. }) = line {
            content.digest = Digest(*digests.next().ok_or_else(bad)?);
        }
    }
    if digests.next().is_none() { Ok(()) } else { Err(bad()) }
}

fn decode_line(line: &str, blobs: usize, expected: &mut Expected) -> Result<Line, Malformed> {
    let mut raw: RawEntry<'_> = from_line(line)?;
    let path = decode_text(raw.path)?;
    if !is_well_formed(&path) {
        return Err(Malformed(format!("path {:?} is not allowed", raw.path)));
    }
    match raw.r#type {
        "gone" => return Ok(Line::Gone(path)),
        "gone-tree" => return Ok(Line::GoneTree(path)),
        _ => {}
    }
    let written = raw.path;
    let bad = |what: &str| Malformed(format!("entry {written:?}: {what}"));
    let meta = decode_meta(&raw).ok_or_else(|| bad("bad mode, time or links"))?;
    let xattrs = decode_xattrs(&raw)?;
    let place = match &raw.at {
        None => None,
        Some(at) => Some(decode_place(&at.0, raw.size, expected).ok_or_else(|| bad("bad place"))?),
    };
    let mut kind = decode_kind(&mut raw, place)?.ok_or_else(|| bad("fields do not fit its type"))?;
    let mut in_table = true;
    kind.for_each_blob(|blob| in_table &= (*blob as usize) < blobs);
    if !in_table {
        return Err(bad("blob number beyond the table"));
    }
    Ok(Line::Entry(Entry { path, kind, meta, xattrs }))
}

fn decode_meta(raw: &RawEntry<'_>) -> Option<Meta> {
    let mode = u32::from_str_radix(raw.mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
    let stamp = |(seconds, nanos)| (nanos < 1_000_000_000).then_some(Stamp { seconds, nanos });
    let links = match (raw.links, raw.device) {
        (Some(count), Some(device)) => Some(Links { count, device }),
        (None, None) => None,
        _ => return None,
    };
    let (mtime, ctime) = (stamp(raw.mtime)?, stamp(raw.ctime)?);
    Some(Meta { mode, uid: raw.uid, gid: raw.gid, mtime, ctime, inode: raw.inode, links })
}

fn decode_xattrs(raw: &RawEntry<'_>) -> Result<Vec<Xattr>, Malformed> {
    let decode =
        |(name, value): (&&str, &&str)| Ok((unescape(name)?, BASE64.decode(value).map_err(Malformed::new)?));
    if raw.xattrs.0.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > XATTRS_TEXT_MAX {
        return Err(Malformed::new("the attributes of an entry are too long"));
    }
    let mut xattrs = raw.xattrs.0.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    // By their names, which sort otherwise than what they are written as.
    xattrs.sort();
    Ok(xattrs)
}

/// Where a record is; what is not told is where it is expected.
fn decode_place(at: &[u32], size: Option<u64>, expected: &mut Expected) -> Option<Place> {
    let place = match *at {
        [blob, offset] => Place { blob, offset },
        [blob] => Place { blob, offset: expected.next(blob)? },
        _ => return None,
    };
    expected.is_next(place, size.unwrap_or(0));
    Some(place)
}

/// `None` where the fields do not fit the type.
fn decode_kind(raw: &mut RawEntry<'_>, place: Option<Place>) -> Result<Option<Kind>, Malformed> {
    let target = raw.target.map(decode_text).transpose()?;
    Ok(match (raw.r#type, place, target, raw.rdev) {
        ("file", place, None, None) => decode_content(raw, place)?.map(Kind::File),
        ("dir", Some(place), None, None) => Some(Kind::Dir(place)),
        ("symlink", Some(place), Some(target), None) if !target.contains(&0) => {
            Some(Kind::Symlink(place, target))
        }
        ("fifo", Some(place), None, None) => Some(Kind::Fifo(place)),
        ("char", Some(place), None, Some((major, minor))) => Some(Kind::Char(place, major, minor)),
        ("block", Some(place), None, Some((major, minor))) => Some(Kind::Block(place, major, minor)),
        _ => None,
    })
}

fn decode_content(raw: &mut RawEntry<'_>, place: Option<Place>) -> Result<Option<Content>, Malformed> {
    let was = raw.was.map(|(kept, prefix)| join_was(raw.path, kept, prefix)).transpose()?;
    let data = match (place, raw.head) {
        (Some(place), None) => Some(Data::Record(place)),
        (None, Some(head)) => decode_large(raw, head).map(Data::Large),
        _ => None,
    };
    let (Some(size), Some(data)) = (raw.size, data) else { return Ok(None) };
    // The header line has the digests of all files of the page.
    let digest = Digest([0; 32]);
    let content = Content { size, digest, data, was, restamp: raw.restamp };
    Ok(content_fits(&content).then_some(content))
}

fn decode_large(raw: &mut RawEntry<'_>, head: u32) -> Option<Large> {
    let pieces = match (raw.chunks.take(), raw.extents.take()) {
        (Some(chunks), None) => Pieces::Chunks(chunks.0),
        (None, Some(extents)) => Pieces::Extents(extents.0.into_iter().map(|extent| extent.0).collect()),
        _ => return None,
    };
    Some(Large { head, pieces, map: raw.map.take().map(|map| map.0) })
}

/// Holes are in order and inside the file, pieces are no more than there can be, and extents add up to what is stored.
fn content_fits(content: &Content) -> bool {
    if content.size > FILE_MAX {
        return false;
    }
    let Data::Large(large) = &content.data else { return true };
    let mut end = 0u64;
    for &(offset, len) in large.map.iter().flatten() {
        match offset.checked_add(len) {
            Some(next) if offset >= end && next <= content.size => end = next,
            _ => return false,
        }
    }
    let stored = large.stored_len(content.size);
    if large.pieces.len() as u64 > (PIECES_MAX as u64).min(stored / PIECE_MIN + 2) {
        return false;
    }
    match &large.pieces {
        Pieces::Chunks(_) => true,
        Pieces::Extents(extents) => {
            extents.iter().all(|e| e.offset.checked_add(e.len).is_some())
                && extents.iter().map(|e| u64::from(e.len)).sum::<u64>() == stored
        }
    }
}

/// A page as its layer's list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// The page.
    pub id: BlobId,
    /// How many lines it has.
    pub entries: u64,
    /// Path of its first line.
    pub first: Vec<u8>,
}

/// Writes a list.
pub fn encode_list(rows: &[ListRow]) -> String {
    rows.iter().map(|row| format!("{} {} {}\n", row.id, row.entries, escape(&row.first))).collect()
}

/// Reads a list; paths are checked to be in order.
pub fn decode_list(text: &[u8]) -> Result<Vec<ListRow>, Malformed> {
    let text = std::str::from_utf8(text).map_err(Malformed::new)?;
    let rows = text.lines().map(decode_list_row).collect::<Result<Vec<_>, _>>()?;
    if rows.windows(2).any(|pair| order::compare(&pair[0].first, &pair[1].first).is_ge()) {
        return Err(Malformed::new("the list is not sorted"));
    }
    Ok(rows)
}

fn decode_list_row(line: &str) -> Result<ListRow, Malformed> {
    let mut words = line.splitn(3, ' ');
    let row = (|| {
        let id = BlobId::parse(words.next()?)?;
        let entries = words.next()?.parse().ok()?;
        let first = unescape(words.next()?).ok().filter(|path| is_well_formed(path))?;
        Some(ListRow { id, entries, first })
    })();
    row.ok_or_else(|| Malformed::new("bad line in a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            mode: 0o4755,
            uid: 1000,
            gid: 100,
            mtime: Stamp { seconds: -5, nanos: 999_999_999 },
            ctime: Stamp { seconds: 1_700_000_000, nanos: 0 },
            inode: u64::MAX,
            links: Some(Links { count: 2, device: 64769 }),
        }
    }

    fn entry(path: &[u8], kind: Kind) -> Line {
        Line::Entry(Entry {
            path: path.to_vec(),
            kind,
            meta: meta(),
            // In the order of their bytes, which is not that of what is written.
            xattrs: vec![(b"user.x".to_vec(), vec![0, 255]), (b"user.\xfc".to_vec(), vec![1])],
        })
    }

    fn file(data: Data, size: u64) -> Kind {
        Kind::File(Content {
            size,
            digest: Digest([7; 32]),
            data,
            was: Some(b"old\n".to_vec()),
            restamp: true,
        })
    }

    #[test]
    fn every_kind_of_line_reads_back() {
        let place = Place { blob: 1, offset: 512 };
        let extents = Pieces::Extents(vec![
            Extent { blob: 0, offset: 5, len: 10 },
            Extent { blob: 1, offset: 0, len: 20 },
        ]);
        let lines = vec![
            entry(b"a", Kind::Dir(place)),
            entry(b"a/b", file(Data::Record(place), 3)),
            entry(
                b"a/c",
                file(Data::Large(Large { head: 0, pieces: Pieces::Chunks(vec![0, 1]), map: None }), 1 << 40),
            ),
            entry(
                b"a/d",
                file(
                    Data::Large(Large { head: 0, pieces: extents, map: Some(vec![(0, 10), (100, 20)]) }),
                    200,
                ),
            ),
            entry(b"a/e\xff", Kind::Symlink(place, b"/x\"y".to_vec())),
            entry(b"f", Kind::Fifo(place)),
            entry(b"g", Kind::Char(place, 1, 3)),
            entry(b"h", Kind::Block(place, 8, 0)),
            Line::Gone(b"i".to_vec()),
            Line::GoneTree(b"j".to_vec()),
        ];
        let mut names = Names::default();
        names.users.insert(1000, "ann".into());
        let page = Page { blobs: vec![BlobId([1; 32]), BlobId([2; 32])], names, lines };
        assert_eq!(decode_page(encode_page(&page).as_bytes()).unwrap(), page);
    }

    #[test]
    fn pages_that_lie_are_refused() {
        let check = |line: &str| {
            let text = format!(
                "{{\"page\":1,\"blobs\":[],\"users\":{{}},\"groups\":{{}},\"blake3\":\"\"}}\n{line}\n"
            );
            assert!(decode_page(text.as_bytes()).is_err(), "{line}");
        };
        check(r#"{"path":"../x","type":"gone"}"#);
        check(r#"{"path":"/x","type":"gone"}"#);
        check(r#"{"path":"x","type":"dir","mode":"755","at":[0,0]}"#);
        check(r#"{"path":"x","type":"dir","mode":"99999","at":[0,0]}"#);
        check(r#"{"path":"x","type":"what","mode":"755"}"#);
        check("{\"path\":\"b\",\"type\":\"gone\"}\n{\"path\":\"a\",\"type\":\"gone\"}");
        check(r#"{"path":"x","type":"gone","extra":1}"#);
        // More pieces than bytes would fill.
        let large = |size: usize, pieces: &str| {
            let digest = BASE64.encode([0; 32]);
            let line =
                format!(r#"{{"path":"x","type":"file","mode":"644","size":{size},"head":0,{pieces}}}"#);
            let blob = "ab".repeat(32);
            let text = format!(
                "{{\"page\":1,\"blobs\":[\"{blob}\"],\"users\":{{}},\"groups\":{{}},\"blake3\":\"{digest}\"}}\n{line}\n"
            );
            decode_page(text.as_bytes())
        };
        let chunks = |count: usize| format!("\"chunks\":[{}]", vec!["0"; count].join(","));
        let extents = |count: usize| format!("\"extents\":[{}]", vec!["[0,0,1]"; count].join(","));
        assert!(large(10_000, &chunks(21)).is_ok(), "{:?}", large(10_000, &chunks(21)));
        assert!(large(10_000, &chunks(22)).is_err());
        assert!(large(2, &extents(2)).is_ok());
        assert!(large(1000, &extents(1000)).is_err());
        check("not json");
        assert!(decode_page(b"").is_err());
    }

    #[test]
    fn a_page_has_no_more_lines_than_a_writer_makes() {
        let page = |lines: usize| {
            let lines = (0..lines).map(|number| Line::Gone(format!("{number:05}").into())).collect();
            encode_page(&Page { lines, ..Page::default() })
        };
        assert_eq!(decode_page(page(PAGE_MAX).as_bytes()).unwrap().lines.len(), PAGE_MAX);
        let refused = decode_page(page(PAGE_MAX + 1).as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("more than 1024 entries"), "{refused}");
        // The first line too many is where it ends: what stands behind it is not looked at.
        assert_eq!(decode_page((page(PAGE_MAX + 1) + "nonsense").as_bytes()), Err(refused));
    }

    #[test]
    fn old_paths_of_a_renamed_folder_are_written_alike() {
        let check = |path: &str, was: &str, kept: usize, prefix: &str| {
            assert_eq!(split_was(path, was), (kept, prefix.to_owned()), "{path} {was}");
            assert_eq!(join_was(path, kept, prefix).unwrap(), was.as_bytes());
        };
        check("new/a/x.c", "old/a/x.c", 3, "old");
        check("new/y.c", "old/y.c", 3, "old");
        check("a/x.c", "b/y.c", 5, "b/y.c");
        check("deep/er/x", "x", 9, "x");
        check("é/x", "©/x", 2, "©");
        assert!(join_was("a", 9, "b").is_err());
    }

    #[test]
    fn list_reads_back_and_must_be_sorted() {
        let row = |path: &[u8]| ListRow { id: BlobId([3; 32]), entries: 7, first: path.to_vec() };
        let rows = vec![row(b"a b"), row(b"b\n")];
        assert_eq!(decode_list(encode_list(&rows).as_bytes()).unwrap(), rows);
        assert!(decode_list(encode_list(&[row(b"b"), row(b"a")]).as_bytes()).is_err());
    }
}
