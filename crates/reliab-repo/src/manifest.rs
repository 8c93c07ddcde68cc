//! The entries of a snapshot, in order: its layers merged while they are read.

use std::sync::Arc;

use crate::blob::BlobReader;
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::format::order;
use crate::format::page::{Line, ListRow, Names, Page, decode_list, decode_page};
use crate::format::snapshot::Snapshot;
use crate::format::table::BlobKind;
use crate::id::BlobId;
use crate::repository::Repository;

/// An entry and what its page says for all entries.
#[derive(Clone, Debug)]
pub struct ManifestEntry {
    /// The entry; its blob numbers count in `page.blobs`.
    pub entry: Entry,
    /// The page it came from.
    pub page: Arc<PageContext>,
}

/// What all entries of a page share.
#[derive(Debug, Default)]
pub struct PageContext {
    /// Blobs by number.
    pub blobs: Vec<BlobId>,
    /// Names of the owners.
    pub names: Names,
}

impl ManifestEntry {
    /// The id of a blob the entry refers to.
    pub fn blob(&self, number: u32) -> BlobId {
        self.page.blobs[number as usize]
    }
}

/// A part of the manifest that cannot be read; reading goes on behind it.
#[derive(Debug)]
pub struct Gap {
    /// Why.
    pub error: Error,
    /// The first path that is affected.
    pub first: Vec<u8>,
    /// The first path after it, `None` at the end of the layer.
    pub next: Option<Vec<u8>>,
}

/// Reads a snapshot's entries in path order.
///
/// A damaged page of the base is reported as a [`Gap`] and skipped; so is one of an overlay, where what older layers
/// say of its paths is skipped, too, since it may be out of date.
pub struct Manifest<'a> {
    layers: Vec<Layer<'a>>,
    below: Option<Vec<u8>>,
    gaps: Vec<Gap>,
}

/// One layer being read.
struct Layer<'a> {
    reader: BlobReader<'a>,
    rows: std::vec::IntoIter<ListRow>,
    lines: std::vec::IntoIter<Line>,
    context: Arc<PageContext>,
    head: Option<Line>,
    /// From a `gone-tree` line: hides what older layers have below this path.
    hides: Option<Vec<u8>>,
    /// From damaged pages: hide what older layers have in these ranges of paths.
    hides_ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl<'a> Manifest<'a> {
    /// Begins to read a snapshot; with `below` only that path and what is under it.
    pub fn open(repository: &'a Repository, snapshot: &Snapshot, below: Option<&[u8]>) -> Result<Self> {
        let mut layers = Vec::with_capacity(snapshot.layers.len());
        for list in &snapshot.layers {
            layers.push(Layer::open(repository, list, below)?);
        }
        let mut manifest = Self { layers, below: below.map(<[u8]>::to_vec), gaps: Vec::new() };
        for layer in &mut manifest.layers {
            layer.advance(&mut manifest.gaps);
        }
        Ok(manifest)
    }

    /// What could not be read so far.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// The next line as the newest layer has it, and that layer's number.
    fn next_line(&mut self) -> Option<(usize, Line)> {
        let newest = self.newest_of_first()?;
        let line = self.layers[newest].head.take()?;
        self.layers[newest].pass(&line, &mut self.gaps);
        for older in &mut self.layers[..newest] {
            // The newest line of a path counts, but what another hides below that path stays hidden.
            if let Some(passed) = older.head.take_if(|head| head.path() == line.path()) {
                older.pass(&passed, &mut self.gaps);
            }
        }
        Some((newest, line))
    }

    /// The layer whose head has the smallest path; of several the newest.
    fn newest_of_first(&self) -> Option<usize> {
        let mut best: Option<(usize, &[u8])> = None;
        for (number, layer) in self.layers.iter().enumerate() {
            let Some(path) = layer.head.as_ref().map(Line::path) else { continue };
            if best.is_none_or(|(_, first)| order::compare(path, first).is_le()) {
                best = Some((number, path));
            }
        }
        best.map(|(number, _)| number)
    }

    /// True if a newer layer says that what this layer has at `path` no longer counts.
    fn is_hidden(&self, number: usize, path: &[u8]) -> bool {
        self.layers[number + 1..].iter().any(|newer| {
            newer.hides.as_ref().is_some_and(|tree| order::is_within(path, tree))
                || newer.hides_ranges.iter().any(|(first, next)| {
                    order::compare(path, first).is_ge()
                        && next.as_ref().is_none_or(|next| order::compare(path, next).is_lt())
                })
        })
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        self.below.as_ref().is_none_or(|below| order::is_within(path, below))
    }
}

impl Iterator for Manifest<'_> {
    type Item = ManifestEntry;

    fn next(&mut self) -> Option<ManifestEntry> {
        loop {
            let page = |layer: &Layer<'_>| Arc::clone(&layer.context);
            // The context belongs to the head, so it is taken before the head moves on.
            let contexts = self.newest_of_first().map(|number| page(&self.layers[number]))?;
            let (number, line) = self.next_line()?;
            if let Line::Entry(entry) = line
                && self.is_wanted(&entry.path)
                && !self.is_hidden(number, &entry.path)
            {
                return Some(ManifestEntry { entry, page: contexts });
            }
        }
    }
}

impl<'a> Layer<'a> {
    fn open(repository: &'a Repository, list: &BlobId, below: Option<&[u8]>) -> Result<Self> {
        let mut reader = BlobReader::new(repository)?;
        let rows = read_list(&mut reader, list)?;
        let rows = match below {
            Some(below) => rows_around(rows, below),
            None => rows,
        };
        Ok(Self {
            reader,
            rows: rows.into_iter(),
            lines: Vec::new().into_iter(),
            context: Arc::default(),
            head: None,
            hides: None,
            hides_ranges: Vec::new(),
        })
    }

    /// Notes what the line that was the head hides, and goes on to the next one.
    fn pass(&mut self, line: &Line, gaps: &mut Vec<Gap>) {
        let is_hidden = |path: &[u8]| self.hides.as_ref().is_some_and(|tree| order::is_within(path, tree));
        if let Line::GoneTree(path) = line
            && !is_hidden(path)
        {
            self.hides = Some(path.clone());
        }
        self.advance(gaps);
    }

    /// Makes `head` the next line.
    fn advance(&mut self, gaps: &mut Vec<Gap>) {
        self.head = self.lines.next();
        while self.head.is_none() {
            let Some(row) = self.rows.next() else { return };
            match self.read_page(&row) {
                Ok(page) => {
                    self.context = Arc::new(PageContext { blobs: page.blobs, names: page.names });
                    self.lines = page.lines.into_iter();
                    self.head = self.lines.next();
                }
                Err(error) => {
                    let next = self.rows.as_slice().first().map(|row| row.first.clone());
                    self.hides_ranges.push((row.first.clone(), next.clone()));
                    gaps.push(Gap { error, first: row.first, next });
                }
            }
        }
    }

    fn read_page(&mut self, row: &ListRow) -> Result<Page> {
        let mut text = Vec::new();
        self.reader.read(&row.id, BlobKind::Page, &mut text)?;
        let damaged = |reason: String| Error::damaged(format!("page {}", row.id.short()), reason);
        let page = decode_page(&text).map_err(|reason| damaged(reason.0))?;
        if page.lines.first().is_none_or(|line| line.path() != row.first)
            || page.lines.len() as u64 != row.entries
        {
            return Err(damaged("it is not the page its list describes".into()));
        }
        let is_behind = |next: &ListRow| {
            page.lines.last().is_some_and(|last| order::compare(last.path(), &next.first).is_ge())
        };
        if self.rows.as_slice().first().is_some_and(is_behind) {
            return Err(damaged("it goes on behind the beginning of the next one".into()));
        }
        Ok(page)
    }
}

/// Reads the list of a layer.
pub fn read_list(reader: &mut BlobReader<'_>, id: &BlobId) -> Result<Vec<ListRow>> {
    let mut text = Vec::new();
    reader.read(id, BlobKind::List, &mut text)?;
    decode_list(&text).map_err(|reason| Error::damaged(format!("list {}", id.short()), reason))
}

/// The pages that may hold `below` or what is under it, or a `gone-tree` above it.
fn rows_around(rows: Vec<ListRow>, below: &[u8]) -> Vec<ListRow> {
    let ancestors: Vec<&[u8]> = below
        .iter()
        .enumerate()
        .filter(|&(_, &b)| b == b'/')
        .map(|(at, _)| &below[..at])
        .chain([below, b"."])
        .collect();
    let holds = |row: &ListRow, next: Option<&ListRow>| {
        let starts_before = |path: &[u8]| order::compare(&row.first, path).is_le();
        let ends_after = |path: &[u8]| next.is_none_or(|next| order::compare(&next.first, path).is_gt());
        order::is_within(&row.first, below)
            || ancestors.iter().any(|path| starts_before(path) && ends_after(path))
    };
    let keep: Vec<bool> = rows.iter().enumerate().map(|(i, row)| holds(row, rows.get(i + 1))).collect();
    rows.into_iter().zip(keep).filter_map(|(row, keep)| keep.then_some(row)).collect()
}
