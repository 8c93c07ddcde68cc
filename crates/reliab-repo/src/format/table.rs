//! Pack tables and index files: lines of text that awk can read.

use super::Malformed;
use crate::id::{BlobId, ObjectId};

/// Magic of the zstd skippable frame that holds a pack's table (RFC 8878, 3.1.2).
pub const TABLE_MAGIC: u32 = 0x184D_2A5B;
/// Length of the last line, which says how long the table is.
pub const TRAILER_LEN: usize = 15;
/// Length of the skippable frame's header.
pub const FRAME_HEADER_LEN: usize = 8;

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// Records of small entries.
    Bundle,
    /// Header blocks of a large file.
    Head,
    /// A piece of a large file.
    Chunk,
    /// Blocks of files that changed in place.
    Patch,
    /// Entries.
    Page,
    /// Pages of a layer.
    List,
}

impl BlobKind {
    const ALL: [(Self, &'static str, u32); 6] = [
        (Self::Bundle, "bundle", 8 << 20),
        (Self::Head, "head", 64 << 20),
        (Self::Chunk, "chunk", 8 << 20),
        (Self::Patch, "patch", 8 << 20),
        (Self::Page, "page", 256 << 20),
        (Self::List, "list", 256 << 20),
    ];

    fn row(self) -> &'static (Self, &'static str, u32) {
        &Self::ALL[self as usize]
    }

    /// The word in tables.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    /// The most bytes its content may have.
    pub fn limit(self) -> u32 {
        self.row().2
    }

    /// The kind with this number, as `as u8` gives it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).map(|row| row.0)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.1 == word).map(|row| row.0)
    }
}

/// A blob in a pack's table. Its offset is the sum of the lengths before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// What it holds.
    pub kind: BlobKind,
    /// Its id.
    pub id: BlobId,
    /// Length of its frame in the pack, bytes.
    pub stored: u32,
    /// Length of its content, bytes.
    pub len: u32,
}

/// A pack and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackTable {
    /// The pack's name.
    pub id: ObjectId,
    /// Length of the pack file, bytes.
    pub size: u64,
    /// Its blobs in order.
    pub rows: Vec<TableRow>,
}

fn push_row(text: &mut String, row: &TableRow) {
    text.push_str(&format!("{} {} {} {}\n", row.kind.word(), row.id, row.stored, row.len));
}

fn parse_row(line: &str) -> Option<TableRow> {
    let mut words = line.split(' ');
    let kind = BlobKind::parse(words.next()?)?;
    let id = BlobId::parse(words.next()?)?;
    let stored = words.next()?.parse().ok()?;
    let len: u32 = words.next()?.parse().ok()?;
    let bounded = len <= kind.limit() && u64::from(stored) <= u64::from(kind.limit()) + (1 << 20);
    (words.next().is_none() && bounded).then_some(TableRow { kind, id, stored, len })
}

fn bad_line(line: &str) -> Malformed {
    let shown: String = line.chars().take(100).collect();
    Malformed(format!("bad line {shown:?}"))
}

/// The skippable frame that ends a pack.
pub fn encode_table(rows: &[TableRow]) -> Vec<u8> {
    let mut text = String::new();
    rows.iter().for_each(|row| push_row(&mut text, row));
    let len = text.len();
    text.push_str(&format!("table {len:08x}\n"));
    let mut frame = Vec::with_capacity(FRAME_HEADER_LEN + text.len());
    frame.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Length of the whole table frame, from the last `TRAILER_LEN` bytes of a pack.
pub fn frame_len(trailer: &[u8]) -> Result<u64, Malformed> {
    let bad = || Malformed::new("the pack does not end in a table");
    let text = std::str::from_utf8(trailer).map_err(|_| bad())?;
    let digits = text.strip_prefix("table ").and_then(|t| t.strip_suffix('\n')).ok_or_else(bad)?;
    let lines = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
    Ok(u64::from(lines) + (TRAILER_LEN + FRAME_HEADER_LEN) as u64)
}

/// The rows of a table frame.
pub fn decode_table(frame: &[u8]) -> Result<Vec<TableRow>, Malformed> {
    let (header, text) =
        frame.split_at_checked(FRAME_HEADER_LEN).ok_or_else(|| Malformed::new("the table is too short"))?;
    if header[..4] != TABLE_MAGIC.to_le_bytes() {
        return Err(Malformed::new("the table has no frame header"));
    }
    let lines = &text[..text.len().saturating_sub(TRAILER_LEN)];
    let lines = std::str::from_utf8(lines).map_err(Malformed::new)?;
    lines.lines().map(|line| parse_row(line).ok_or_else(|| bad_line(line))).collect()
}

/// The text of an index file, before compression.
pub fn encode_index(packs: &[PackTable]) -> String {
    let mut text = String::new();
    for pack in packs {
        text.push_str(&format!("pack {} {}\n", pack.id, pack.size));
        pack.rows.iter().for_each(|row| push_row(&mut text, row));
    }
    text
}

/// The packs an index file names.
pub fn decode_index(text: &[u8]) -> Result<Vec<PackTable>, Malformed> {
    let text = std::str::from_utf8(text).map_err(Malformed::new)?;
    let mut packs: Vec<PackTable> = Vec::new();
    for line in text.lines() {
        if let Some(pack) = parse_pack(line) {
            packs.push(pack);
        } else {
            let row = parse_row(line).ok_or_else(|| bad_line(line))?;
            packs.last_mut().ok_or_else(|| bad_line(line))?.rows.push(row);
        }
    }
    Ok(packs)
}

fn parse_pack(line: &str) -> Option<PackTable> {
    let (id, size) = line.strip_prefix("pack ")?.split_once(' ')?;
    Some(PackTable { id: ObjectId::parse(id)?, size: size.parse().ok()?, rows: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: BlobKind, n: u8) -> TableRow {
        TableRow { kind, id: BlobId([n; 32]), stored: 10 + u32::from(n), len: 100 }
    }

    #[test]
    fn table_is_found_from_the_end_of_a_pack_and_read_back() {
        let rows: Vec<_> = (0..6).filter_map(|n| Some(row(BlobKind::from_number(n)?, n))).collect();
        let frame = encode_table(&rows);
        let trailer = &frame[frame.len() - TRAILER_LEN..];
        assert_eq!(frame_len(trailer).unwrap(), frame.len() as u64);
        assert_eq!(decode_table(&frame).unwrap(), rows);
    }

    #[test]
    fn index_reads_back() {
        let packs = vec![
            PackTable { id: ObjectId([1; 32]), size: 77, rows: vec![row(BlobKind::Chunk, 1)] },
            PackTable { id: ObjectId([2; 32]), size: 78, rows: vec![] },
        ];
        assert_eq!(decode_index(encode_index(&packs).as_bytes()).unwrap(), packs);
    }

    #[test]
    fn nonsense_lines_are_refused() {
        let id = "0".repeat(64);
        for line in [
            "bundle".to_owned(),
            format!("bundle {id} 1"),
            format!("bundle {id} 1 2 3"),
            format!("bundle {id} -1 2"),
            format!("bundle {id} 1 99999999"),
            format!("blob {id} 1 2"),
            format!("bundle {} 1 2", "G".repeat(64)),
        ] {
            assert!(decode_index(format!("pack {id} 1\n{line}\n").as_bytes()).is_err(), "{line}");
        }
        assert!(decode_index(format!("bundle {id} 1 2\n").as_bytes()).is_err(), "row before any pack");
    }
}
