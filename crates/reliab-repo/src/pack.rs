//! Packs being written, and the pipeline that fills them: blobs in, compressed by several threads, written in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::blob::BlobCompressor;
use crate::error::{Error, Result};
use crate::format::PACK_SIZE;
use crate::format::table::{BlobKind, PackTable, TableRow, encode_table};
use crate::id::{BlobId, ObjectHasher};
use crate::storage::{Storage, Upload, pack_key};

/// The zstd level of pages and lists, at least: they are a fiftieth of the data, and 4 % smaller than at level 3.
const METADATA_LEVEL: i32 = 6;

/// A blob on its way into a pack.
struct Job {
    sequence: u64,
    kind: BlobKind,
    id: BlobId,
    content: Vec<u8>,
}

/// A compressed blob.
struct Done {
    sequence: u64,
    row: TableRow,
    frame: Vec<u8>,
}

/// What a run added to the repository.
#[derive(Debug, Default)]
pub struct Added {
    /// The new packs.
    pub packs: Vec<PackTable>,
    /// Their bytes.
    pub bytes: u64,
    /// Their blobs.
    pub blobs: u64,
}

/// Takes blobs, compresses them on several threads and publishes packs of them in the order they came.
pub struct PackSink {
    storage: Arc<dyn Storage>,
    level: i32,
    threads: usize,
    line: Line,
    next: u64,
}

/// The threads behind a sink. They begin with the first blob: a run in which nothing changed has none.
enum Line {
    Idle,
    Running(Running),
    Ended,
}

struct Running {
    jobs: Sender<Job>,
    spare: Receiver<Vec<u8>>,
    workers: Vec<JoinHandle<Result<()>>>,
    writer: JoinHandle<Result<Added>>,
}

impl PackSink {
    /// A sink with `threads` compressing threads and one that writes.
    pub fn new(storage: Arc<dyn Storage>, level: i32, threads: usize) -> Self {
        Self { storage, level, threads, line: Line::Idle, next: 0 }
    }

    /// An empty buffer for a blob's content, used before where possible.
    pub fn buffer(&self) -> Vec<u8> {
        let Line::Running(line) = &self.line else { return Vec::new() };
        let mut buffer = line.spare.try_recv().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Hands a blob over; waits while the threads have enough to do.
    pub fn put(&mut self, kind: BlobKind, id: BlobId, content: Vec<u8>) -> Result<()> {
        if let Line::Idle = self.line {
            self.line = Line::Running(Running::start(&self.storage, self.level, self.threads));
        }
        let job = Job { sequence: self.next, kind, id, content };
        self.next += 1;
        let sent = matches!(&self.line, Line::Running(line) if line.jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Waits until all is published.
    pub fn finish(mut self) -> Result<Added> {
        self.join()
    }

    fn join(&mut self) -> Result<Added> {
        match std::mem::replace(&mut self.line, Line::Ended) {
            Line::Idle => Ok(Added::default()),
            Line::Running(line) => line.join(),
            Line::Ended => Err(Error::Panicked),
        }
    }

    /// The error that made the threads stop.
    fn failure(&mut self) -> Error {
        self.join().err().unwrap_or(Error::Panicked)
    }
}

impl Running {
    fn start(storage: &Arc<dyn Storage>, level: i32, threads: usize) -> Self {
        let (jobs, job_queue) = bounded::<Job>(threads);
        let (done, done_queue) = bounded::<Done>(threads);
        let (used, spare) = bounded(threads * 2 + 2);
        let (used_frames, spare_frames) = bounded(threads * 2 + 2);
        let given_up = Arc::new(AtomicBool::new(false));
        let workers = (0..threads)
            .map(|_| {
                let (queue, done, used) = (job_queue.clone(), done.clone(), used.clone());
                let frames = spare_frames.clone();
                let guard = WorkerGuard { given_up: Arc::clone(&given_up), finished: false };
                std::thread::spawn(move || compress_all(level, guard, &queue, &done, &used, &frames))
            })
            .collect();
        let storage = Arc::clone(storage);
        let writer = std::thread::spawn(move || write_all(storage, &done_queue, &used_frames));
        Self { jobs, spare, workers, writer }
    }

    fn join(self) -> Result<Added> {
        drop(self.jobs);
        let mut outcome = Ok(());
        for worker in self.workers {
            outcome = outcome.and(worker.join().unwrap_or(Err(Error::Panicked)));
        }
        let written = self.writer.join().unwrap_or(Err(Error::Panicked));
        // The writer's error is the cause where there is one: workers stop because it did.
        written.and_then(|added| outcome.map(|()| added))
    }
}

/// Tells the other workers when one of them ends early: what it held never comes, and all behind it would pile up.
struct WorkerGuard {
    given_up: Arc<AtomicBool>,
    finished: bool,
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if !self.finished {
            self.given_up.store(true, Ordering::Relaxed);
        }
    }
}

fn compress_all(
    level: i32,
    mut guard: WorkerGuard,
    queue: &Receiver<Job>,
    done: &Sender<Done>,
    used: &Sender<Vec<u8>>,
    frames: &Receiver<Vec<u8>>,
) -> Result<()> {
    let failed = |source| Error::Storage { action: "compress", path: "a blob".into(), source };
    let mut data = BlobCompressor::new(level).map_err(failed)?;
    let mut metadata = BlobCompressor::new(level.max(METADATA_LEVEL)).map_err(failed)?;
    for job in queue {
        if guard.given_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut frame = frames.try_recv().unwrap_or_default();
        let is_metadata = matches!(job.kind, BlobKind::Page | BlobKind::List);
        let compressor = if is_metadata { &mut metadata } else { &mut data };
        compressor.compress(&job.content, &mut frame).map_err(failed)?;
        let row = TableRow { kind: job.kind, id: job.id, stored: length(&frame), len: length(&job.content) };
        // A full or closed channel only means that the buffer is not used again.
        drop(used.try_send(job.content));
        if done.send(Done { sequence: job.sequence, row, frame }).is_err() {
            break;
        }
    }
    guard.finished = true;
    Ok(())
}

/// Blobs are at most 256 MiB (`BlobKind::limit`).
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn write_all(storage: Arc<dyn Storage>, queue: &Receiver<Done>, used: &Sender<Vec<u8>>) -> Result<Added> {
    let mut packs = PackWriter { storage, open: None, added: Added::default() };
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for done in queue {
        waiting.insert(done.sequence, done);
        while let Some(done) = waiting.remove(&next) {
            packs.write(done.row, &done.frame)?;
            // As above: only a lost chance to use the buffer again.
            drop(used.try_send(done.frame));
            next += 1;
        }
    }
    packs.close()?;
    Ok(packs.added)
}

struct PackWriter {
    storage: Arc<dyn Storage>,
    open: Option<OpenPack>,
    added: Added,
}

struct OpenPack {
    upload: Box<dyn Upload>,
    hash: ObjectHasher,
    size: u64,
    rows: Vec<TableRow>,
}

impl PackWriter {
    fn write(&mut self, row: TableRow, frame: &[u8]) -> Result<()> {
        let pack = match &mut self.open {
            Some(pack) => pack,
            none => none.insert(OpenPack {
                upload: self.storage.upload()?,
                hash: ObjectHasher::default(),
                size: 0,
                rows: Vec::new(),
            }),
        };
        pack.append(frame)?;
        pack.rows.push(row);
        if pack.size >= PACK_SIZE { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut pack) = self.open.take() else { return Ok(()) };
        pack.append(&encode_table(&pack.rows))?;
        let id = pack.hash.finish();
        pack.upload.publish(&pack_key(&id))?;
        self.added.bytes += pack.size;
        self.added.blobs += pack.rows.len() as u64;
        self.added.packs.push(PackTable { id, size: pack.size, rows: pack.rows });
        Ok(())
    }
}

impl OpenPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        let failed = |source| Error::Storage { action: "write", path: "a pack".into(), source };
        self.upload.write_all(bytes).map_err(failed)
    }
}

impl Drop for PackSink {
    /// A run that fails or is stopped still publishes the packs it has filled: the next run adopts them.
    fn drop(&mut self) {
        drop(self.join());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;

    #[test]
    fn threads_begin_with_the_first_blob() {
        let folder = tempfile::tempdir().unwrap();
        let storage = || Arc::new(LocalStorage::open(folder.path())) as Arc<dyn Storage>;
        let idle = PackSink::new(storage(), 3, 2);
        drop(idle.buffer());
        assert!(matches!(idle.line, Line::Idle));
        assert_eq!(idle.finish().unwrap().blobs, 0);
        let mut sink = PackSink::new(storage(), 3, 2);
        sink.put(BlobKind::Chunk, BlobId::of(b"text"), b"text".to_vec()).unwrap();
        assert!(matches!(sink.line, Line::Running(_)));
        assert_eq!(sink.finish().unwrap().blobs, 1);
    }
}
