//! Copies of one content cost `verify` no more than the content does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reliab_repo::error::Result;
use reliab_repo::storage::{Object, Storage, Upload};
use reliab_testkit::engine::{back_up, local, verify_all};
use reliab_testkit::generator::Generator;
use reliab_testkit::tree::{Scratch, set_xattr};

/// A storage that counts the bytes that are read of it.
struct Counted {
    storage: Arc<dyn Storage>,
    read: Arc<AtomicU64>,
}

impl Storage for Counted {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        self.storage.upload()
    }

    fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.storage.get(key, limit)?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.storage.get_range(key, offset, buf)
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.storage.list(folder)
    }

    fn sweep(&self) -> Result<()> {
        self.storage.sweep()
    }

    fn settle(&self, key: &str) -> Result<()> {
        self.storage.settle(key)
    }
}

#[test]
fn copies_of_a_file_are_read_and_hashed_once() {
    let scratch = Scratch::new().unwrap();
    let place = scratch.path();
    fs::create_dir(place.join("data")).unwrap();
    // Large ones, each with a head of its own, and small ones.
    for (name, content) in
        [("large", Generator::new(1).bytes(600_000)), ("small", Generator::new(2).bytes(40_000))]
    {
        for number in 0..100 {
            let path = place.join(format!("data/{name}-{number}"));
            fs::write(&path, &content).unwrap();
            // Attributes stand in the head.
            if name == "large" {
                set_xattr(&path, "user.number", number.to_string().as_bytes()).unwrap();
            }
        }
    }
    let storage = local(&place.join("repo"));
    back_up(&storage, &place.join("data"), &place.join("cache")).unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let counted: Arc<dyn Storage> = Arc::new(Counted { storage, read: Arc::clone(&read) });
    let report = verify_all(&counted).unwrap();
    assert_eq!(report.findings, vec![]);
    let read = read.load(Ordering::Relaxed);
    assert!(read >= 2 * 640_000, "each is read as a blob and as a file: {read}");
    assert!(read < 4 * 640_000, "{read}");
}
