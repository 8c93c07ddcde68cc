//! Writing a snapshot's entries as a plain tar archive.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Write};
use std::path::Path;

use reliab_repo::content::ContentReader;
use reliab_repo::error::Error;
use reliab_repo::event::Events;
use reliab_repo::format::entry::{Entry, Kind};
use reliab_repo::format::escape::escape;
use reliab_repo::format::linked::LinkedFile;
use reliab_repo::format::tar::{self, Body, Header};
use reliab_repo::manifest::ManifestEntry;

/// A tar archive being written.
pub(crate) struct Archive<'a> {
    out: &'a mut dyn Write,
    reader: ContentReader<'a>,
    events: &'a dyn Events,
    /// The first name of each inode with several, by device and inode, and the file that it is.
    first_names: HashMap<(u64, u64), (LinkedFile, Vec<u8>)>,
    /// The first names of the other files that an inode was while its names were read.
    changed: HashMap<LinkedFile, Vec<u8>>,
}

/// What an entry is to the names that are in the archive.
enum Name {
    /// A file that has no other name there.
    First,
    /// Another name of this one.
    Link(Vec<u8>),
    /// A file of its own, though it was another name of this one on the source.
    Apart(Vec<u8>),
}

impl<'a> Archive<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, reader: ContentReader<'a>, events: &'a dyn Events) -> Self {
        Self { out, reader, events, first_names: HashMap::new(), changed: HashMap::new() }
    }

    /// Writes what every archive ends with.
    pub(crate) fn end(self) -> io::Result<()> {
        self.out.write_all(&[0; 1024])
    }

    /// Writes an entry's record, and returns the bytes of content in it.
    pub(crate) fn put(
        &mut self,
        found: &ManifestEntry,
        in_repository: &dyn Fn(Error) -> anyhow::Error,
    ) -> anyhow::Result<u64> {
        match self.name(&found.entry) {
            Name::First => {}
            Name::Link(first) => {
                self.header(found, Body::HardLink(&first))?;
                return Ok(0);
            }
            Name::Apart(first) => self.tell_apart(&found.entry.path, &first),
        }
        let Kind::File(content) = &found.entry.kind else {
            if let Some(body) = Body::special(&found.entry.kind) {
                self.header(found, body)?;
            }
            return Ok(0);
        };
        self.header(found, Body::File(content.size))?;
        let mut told = Told { out: self.out, events: self.events, failure: None };
        let result = self.reader.copy(found, &mut told);
        // A file may take longer than anybody who stops this will wait.
        if self.events.stop_requested() {
            return Err(Error::Interrupted.into());
        }
        if let Some(failure) = told.failure {
            return Err(failure.into());
        }
        result.map_err(in_repository)?;
        self.out.write_all(&[0; 512][..tar::padding(content.size)])?;
        Ok(content.size)
    }

    /// Whether the file is in the archive under another name; remembers the first one.
    fn name(&mut self, entry: &Entry) -> Name {
        let Some(file) = LinkedFile::of(entry) else { return Name::First };
        let (known, first) = match self.first_names.entry((file.device, file.inode)) {
            Slot::Vacant(slot) => {
                slot.insert((file, entry.path.clone()));
                return Name::First;
            }
            Slot::Occupied(slot) => slot.into_mut(),
        };
        if *known == file {
            return Name::Link(first.clone());
        }
        match self.changed.entry(file) {
            Slot::Occupied(slot) => Name::Link(slot.get().clone()),
            Slot::Vacant(slot) => {
                slot.insert(entry.path.clone());
                Name::Apart(first.clone())
            }
        }
    }

    fn tell_apart(&self, path: &[u8], first: &[u8]) {
        let text = format!(
            "it is a file of its own in the archive: it was another name of {}, and changed between the backup's reading of the two",
            escape(first)
        );
        self.events.warning(Path::new(escape(path).as_ref()), &text);
    }

    fn header(&mut self, found: &ManifestEntry, body: Body<'_>) -> io::Result<()> {
        let entry = &found.entry;
        let names = found.page.names.of(&entry.meta);
        let header = Header { path: &entry.path, meta: &entry.meta, names, xattrs: &entry.xattrs, body };
        let mut record = Vec::with_capacity(1024);
        tar::encode(&mut record, &header);
        self.out.write_all(&record)
    }
}

/// Keeps the error of the output, which the engine could take for one of the repository; takes no more after a stop.
struct Told<'a> {
    out: &'a mut dyn Write,
    events: &'a dyn Events,
    failure: Option<io::Error>,
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.events.stop_requested() {
            return Err(io::ErrorKind::Other.into());
        }
        match self.out.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use reliab_repo::manifest::Manifest;
    use reliab_repo::repository::Repository;
    use reliab_testkit::between_names::BetweenNames;
    use reliab_testkit::engine::{backed_up, local};

    use super::*;

    /// Keeps what it is warned of.
    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Events for Warned {
        fn warning(&self, path: &Path, message: &str) {
            self.0.lock().unwrap().push(format!("{}: {message}", path.display()));
        }
    }

    /// Counts what is written, and says stop after a mebibyte.
    struct Counted<'a>(&'a AtomicU64);

    impl Events for Counted<'_> {
        fn stop_requested(&self) -> bool {
            self.0.load(Ordering::Relaxed) > 1 << 20
        }
    }

    impl Write for Counted<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_archive_that_is_stopped_in_the_middle_of_a_file_ends_there() {
        let (scratch, _) = backed_up(|source| {
            let file = File::create(source.join("hole")).unwrap();
            file.set_len(1 << 30).unwrap();
        })
        .unwrap();
        let repository = Repository::open(local(&scratch.path().join("repo"))).unwrap();
        let snapshot = repository.snapshots().find("latest").unwrap().clone();
        let written = AtomicU64::new(0);
        let (mut out, events) = (Counted(&written), Counted(&written));
        let mut archive = Archive::new(&mut out, ContentReader::new(&repository).unwrap(), &events);
        let mut found = Manifest::open(&repository, &snapshot.snapshot, None).unwrap();
        let outcome = found.try_for_each(|found| archive.put(&found, &|error| error.into()).map(drop));
        let error = outcome.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::Interrupted)), "{error:#}");
        assert!(written.load(Ordering::Relaxed) < 2 << 20, "{written:?}");
    }

    #[test]
    fn names_of_a_file_that_changed_while_they_were_read_are_linked_to_their_like() {
        let append = |path: &Path| {
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b" and after").unwrap();
        };
        let lab = BetweenNames::new(b"before", append);
        let repository = Repository::open(local(&lab.repository())).unwrap();
        let snapshot = repository.snapshots().find("latest").unwrap().clone();
        let path = lab.path().join("all.tar");
        let mut out = File::create(&path).unwrap();
        let told = Warned::default();
        let mut archive = Archive::new(&mut out, ContentReader::new(&repository).unwrap(), &told);
        for found in Manifest::open(&repository, &snapshot.snapshot, None).unwrap() {
            archive.put(&found, &|error| error.into()).unwrap();
        }
        archive.end().unwrap();
        let target = lab.path().join("target");
        fs::create_dir(&target).unwrap();
        assert!(Command::new("tar").arg("xf").arg(&path).arg("-C").arg(&target).status().unwrap().success());
        let [ax, zx, zy] = lab.restored(&target);
        assert_eq!(fs::read_to_string(&ax).unwrap(), "before");
        assert_eq!(fs::read_to_string(&zx).unwrap(), "before and after");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&zx), inode(&zy), "these say the same");
        assert_ne!(inode(&ax), inode(&zx));
        let told = told.0.into_inner().unwrap();
        assert!(told.len() == 1 && told[0].contains("z/x: it is a file of its own"), "{told:?}");
    }
}
