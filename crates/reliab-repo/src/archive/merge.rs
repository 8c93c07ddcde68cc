//! The join of the walk with the parent's entries, block by block.

use std::iter::Peekable;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::file::REPLACED;
use super::parent::Parent;
use super::store::Store;
use crate::cache::{BlockRow, CachedEntry};
use crate::error::{Error, Result};
use crate::format::entry::{Kind, Stamp};
use crate::format::escape::{escape, is_well_formed};
use crate::format::order;
use crate::format::page::Line;
use crate::status;
use crate::walk::{WalkItem, Walked};

/// Entries gathered before a block is looked into anyway.
const GATHER_MAX: usize = 4096;

/// A run's comparison with its parent.
pub(super) struct Merge<'a> {
    pub(super) store: Store<'a>,
    pub(super) parent: Option<Parent>,
    /// When the run began to read the source.
    pub(super) start: Stamp,
    /// The run's numbers of the parent's blobs.
    renumbered: Vec<u32>,
    outcome: Outcome,
    next_block: usize,
}

/// What the join found.
#[derive(Default)]
pub(super) struct Outcome {
    /// Entries that are no more, in order, subtrees as one.
    pub(super) gone: Vec<Gone>,
    /// Entries that are new or different.
    pub(super) changed: u64,
    /// Something is left below a folder that is gone: a fresh base tells it, as an overlay in which one page hides what stands
    /// on the next would bring back more than that if the first were lost.
    pub(super) within_gone: bool,
}

/// A path that is gone. There may be a million of them, so it is kept short: a line takes four times as much.
pub(super) struct Gone {
    pub(super) path: Box<[u8]>,
    /// And all below it.
    is_tree: bool,
}

impl Gone {
    /// The tree, if it is gone with all below it.
    fn tree(&self) -> Option<&[u8]> {
        self.is_tree.then_some(&self.path)
    }

    /// As an overlay tells it.
    pub(super) fn line(&self) -> Line {
        let path = self.path.to_vec();
        if self.is_tree { Line::GoneTree(path) } else { Line::Gone(path) }
    }
}

const UNSET: u32 = u32::MAX;

impl<'a> Merge<'a> {
    pub(super) fn new(store: Store<'a>, parent: Option<Parent>, start: Stamp) -> Self {
        let blobs = parent.as_ref().map_or(0, |parent| parent.cache.directory().blobs.len());
        Self {
            store,
            parent,
            start,
            renumbered: vec![UNSET; blobs],
            outcome: Outcome::default(),
            next_block: 0,
        }
    }

    /// Walks the source to its end.
    pub(super) fn run(&mut self, walk: impl Iterator<Item = WalkItem>) -> Result<()> {
        let mut walk = walk.peekable();
        let blocks =
            self.parent.as_ref().map_or_else(Vec::new, |parent| parent.cache.directory().blocks.clone());
        for number in 0..blocks.len().max(1) {
            self.next_block = number;
            let end = blocks.get(number + 1).map(|block| &block.first[..]);
            self.block(blocks.get(number), end, &mut walk)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(Store<'a>, Option<Parent>, Outcome)> {
        match &self.parent {
            // Even an empty source has a (then empty) manifest.
            None => drop(self.store.cache()?),
            // A fresh base will be written from the new cache, so it must hold everything.
            Some(parent) if !parent.layers_whole => {
                self.next_block = parent.cache.directory().blocks.len();
                self.begin_cache()?;
            }
            Some(_) => {}
        }
        self.store.close_open_blobs()?;
        Ok((self.store, self.parent, self.outcome))
    }

    /// Joins the part of the walk before `end` with one block of the parent.
    fn block(
        &mut self,
        block: Option<&BlockRow>,
        end: Option<&[u8]>,
        walk: &mut Peekable<impl Iterator<Item = WalkItem>>,
    ) -> Result<()> {
        let gathered = gather(block, end, walk);
        if let Some(block) = block
            && self.is_unchanged(block, &gathered, end, walk)
        {
            let sockets = gathered.iter().flatten().filter(|walked| is_socket(walked));
            sockets.for_each(|walked| self.tell_socket(walked));
            return self.keep_block(block);
        }
        self.begin_cache()?;
        let old = match (&self.parent, block) {
            (Some(parent), Some(block)) => parent.cache.read_block(block)?,
            _ => Vec::new(),
        };
        let mut old = old.into_iter().peekable();
        for item in gathered {
            self.item(item, &mut old)?;
        }
        while let Some(item) = walk.next_if(|item| is_before(item, end)) {
            self.item(item, &mut old)?;
        }
        old.for_each(|entry| self.gone(&entry));
        Ok(())
    }

    fn is_unchanged(
        &self,
        block: &BlockRow,
        gathered: &[WalkItem],
        end: Option<&[u8]>,
        walk: &mut Peekable<impl Iterator<Item = WalkItem>>,
    ) -> bool {
        let trusted = self.parent.as_ref().is_some_and(|parent| parent.is_trusted(block));
        if !trusted || walk.peek().is_some_and(|item| is_before(item, end)) {
            return false;
        }
        let mut identity = Vec::with_capacity(gathered.len() * 160);
        for item in gathered {
            let Ok(walked) = item else { return false };
            if is_socket(walked) {
                // No block has any.
                continue;
            }
            status::fingerprint_of_walked(&mut identity, walked);
        }
        *blake3::hash(&identity).as_bytes() == block.fingerprint
    }

    /// Takes over a block as it is; it is decoded only if the run writes a new cache.
    fn keep_block(&mut self, block: &BlockRow) -> Result<()> {
        self.stop_if_asked()?;
        self.store.events.advance(block.bytes, block.entries);
        self.store.stats.unmodified_files += block.files;
        if self.store.has_cache() {
            return self.copy_block(block);
        }
        let stats = &mut self.store.stats;
        stats.entries += block.entries;
        stats.files += block.files;
        stats.dirs += block.dirs;
        stats.bytes += block.bytes;
        Ok(())
    }

    fn copy_block(&mut self, block: &BlockRow) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        for old in parent.cache.read_block(block)? {
            self.keep(old)?;
        }
        Ok(())
    }

    /// Takes over an entry as it is.
    fn keep(&mut self, old: CachedEntry) -> Result<()> {
        let entry = self.renumber(old)?;
        self.look_for_gone(&entry.entry.path);
        self.store.push(&entry)
    }

    /// Begins the new cache with the blocks that were kept so far.
    fn begin_cache(&mut self) -> Result<()> {
        if self.store.has_cache() {
            return Ok(());
        }
        self.store.cache()?;
        let Some(parent) = &self.parent else { return Ok(()) };
        let kept = parent.cache.directory().blocks[..self.next_block].to_vec();
        for block in &kept {
            let stats = self.store.stats.clone();
            self.copy_block(block)?;
            // They were counted when they were kept.
            self.store.stats = stats;
        }
        Ok(())
    }

    /// Notes an entry below a folder that was gone when its turn came: that line of an overlay would hide it.
    fn look_for_gone(&mut self, path: &[u8]) {
        if let Some(tree) = self.outcome.gone.last().and_then(Gone::tree) {
            self.outcome.within_gone |= order::is_within(path, tree);
        }
    }

    /// Gives the parent's blobs the run's numbers.
    pub(super) fn renumber(&mut self, mut old: CachedEntry) -> Result<CachedEntry> {
        let Some(parent) = &self.parent else { return Ok(old) };
        let blobs = &mut self.store.cache()?.blobs;
        let ids = &parent.cache.directory().blobs;
        let renumbered = &mut self.renumbered;
        old.entry.kind.for_each_blob(|blob| {
            let new = &mut renumbered[*blob as usize];
            if *new == UNSET {
                *new = blobs.number(&ids[*blob as usize]);
            }
            *blob = *new;
        });
        old.changed = false;
        Ok(old)
    }

    fn item(&mut self, item: WalkItem, old: &mut Peekable<std::vec::IntoIter<CachedEntry>>) -> Result<()> {
        self.stop_if_asked()?;
        let path = match &item {
            Ok(walked) => &walked.path,
            Err(failed) => &failed.path,
        };
        while let Some(entry) = old.next_if(|old| order::compare(&old.entry.path, path).is_lt()) {
            self.gone(&entry);
        }
        match item {
            Ok(walked) => {
                let same = old.next_if(|old| old.entry.path == walked.path);
                self.walked(&walked, same)
            }
            Err(failed) => {
                self.unreadable(&failed.path, &failed.error);
                Ok(())
            }
        }
    }

    fn unreadable(&mut self, path: &[u8], error: &std::io::Error) {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => self.store.note(path, "vanished while it was read"),
            // A folder when its own was listed, and something else since.
            Some(Errno::NOTDIR | Errno::LOOP) => self.store.source_error(path, &REPLACED),
            _ => self.store.source_error(path, error),
        }
    }

    fn walked(&mut self, walked: &Walked, old: Option<CachedEntry>) -> Result<()> {
        if !is_well_formed(&walked.path) {
            self.store.source_error(&walked.path, &"its path is too long to be stored");
            return Ok(());
        }
        let kept = old
            .as_ref()
            .filter(|old| status::is_unchanged(&walked.status, old))
            .filter(|old| !self.parent.as_ref().is_some_and(|parent| parent.must_reread(&old.entry)));
        if let Some(kept) = kept {
            if matches!(kept.entry.kind, Kind::File(_)) {
                self.store.stats.unmodified_files += 1;
            }
            self.store.events.advance(kept.entry.size(), 1);
            return self.keep(kept.clone());
        }
        if is_socket(walked) {
            self.tell_socket(walked);
            old.iter().for_each(|old| self.gone(old));
            return Ok(());
        }
        if let Some(new) = self.read(walked, old.as_ref())? {
            return self.changed(new, old);
        }
        old.iter().for_each(|old| self.gone(old));
        Ok(())
    }

    fn tell_socket(&self, walked: &Walked) {
        let path = escape(&walked.path);
        self.store
            .events
            .warning(std::path::Path::new(path.as_ref()), "is a socket; sockets are not backed up");
    }

    /// Adds an entry that was looked at again, which may turn out to be as it was.
    fn changed(&mut self, mut new: CachedEntry, old: Option<CachedEntry>) -> Result<()> {
        let is_file = matches!(new.entry.kind, Kind::File(_));
        let is_new = old.is_none();
        let old = old.map(|old| self.renumber(old)).transpose()?;
        // Stored elsewhere, as its bundle is emptied, a file is as it was.
        let differs = old.as_ref().is_none_or(|old| !old.entry.says_the_same(&new.entry));
        self.store.events.entry(old.as_ref().map(|old| &old.entry), Some(&new.entry));
        self.look_for_gone(&new.entry.path);
        new.changed = old.is_none_or(|old| old.entry != new.entry);
        let stats = &mut self.store.stats;
        match (is_file, is_new, differs) {
            (true, true, _) => stats.new_files += 1,
            (true, false, true) => stats.changed_files += 1,
            (true, false, false) => stats.unmodified_files += 1,
            _ => {}
        }
        self.outcome.changed += u64::from(new.changed);
        self.store.events.advance(new.entry.size(), 1);
        self.store.push(&new)
    }

    fn gone(&mut self, old: &CachedEntry) {
        self.store.stats.gone += 1;
        self.store.events.entry(Some(&old.entry), None);
        self.store.forget_blocks(&old.entry);
        let path = &old.entry.path;
        if let Some(tree) = self.outcome.gone.last().and_then(Gone::tree)
            && order::is_within(path, tree)
        {
            return;
        }
        self.outcome.gone.push(Gone { path: path.as_slice().into(), is_tree: old.entry.is_dir() });
    }

    pub(super) fn stop_if_asked(&self) -> Result<()> {
        if self.store.events.stop_requested() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

fn is_socket(walked: &Walked) -> bool {
    walked.status.kind == FileType::Socket
}

/// Takes the items before `end` from the walk, up to a bound.
fn gather(
    block: Option<&BlockRow>,
    end: Option<&[u8]>,
    walk: &mut Peekable<impl Iterator<Item = WalkItem>>,
) -> Vec<WalkItem> {
    let Some(block) = block else { return Vec::new() };
    let mut gathered = Vec::with_capacity(usize::try_from(block.entries).unwrap_or(0).min(GATHER_MAX));
    while gathered.len() < GATHER_MAX
        && let Some(item) = walk.next_if(|item| is_before(item, end))
    {
        gathered.push(item);
    }
    gathered
}

fn is_before(item: &WalkItem, end: Option<&[u8]>) -> bool {
    let path = match item {
        Ok(walked) => &walked.path,
        Err(failed) => &failed.path,
    };
    end.is_none_or(|end| order::compare(path, end).is_lt())
}
