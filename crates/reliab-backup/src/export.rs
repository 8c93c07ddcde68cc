//! `export`: a snapshot as a plain archive, for whoever has only tar.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use flate2::Compression;
use flate2::write::GzEncoder;
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::content::ContentReader;
use reliab_repo::event::Events;
use reliab_repo::format::entry::{Entry, Kind};
use reliab_repo::format::escape::escape;
use reliab_repo::format::linked::LinkedFile;
use reliab_repo::format::tar::{self, Body, Header};
use reliab_repo::manifest::ManifestEntry;
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help, document};
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{GapView, gaps_of, tell_gaps};
use crate::events::UiEvents;
use crate::failure::{ErrorTable, UsageError};
use crate::repo::{OpenRepository, RepoArg, Selected, of};
use crate::session::{Job, Outcome, Session};

const EXAMPLES: &str = "  \
  reliab export -o data.tar.gz                      the latest snapshot
  reliab export 1a2b3c4d:data/app -o app.tar.zst    a part of an older one
  reliab export --format tar | ssh host tar x";

/// The level for zstd and gzip: what both take for a good balance.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// Write a snapshot as a plain tar archive.
///
/// GNU tar, bsdtar and busybox read it, extended attributes and ACLs included.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// What to write [default: latest].
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    repo: RepoArg,
    /// Write to this file, or - for stdout.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file if it exists.
    #[arg(long, short)]
    force: bool,
    /// The kind of archive [default: as the file's name says, or tar].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
enum Format {
    /// Compressed with gzip
    #[value(name = "tar.gz", alias = "tgz")]
    #[serde(rename = "tar.gz")]
    TarGz,
    /// Compressed with zstd
    #[value(name = "tar.zst", alias = "tzst")]
    #[serde(rename = "tar.zst")]
    TarZst,
    /// Not compressed
    #[value(name = "tar")]
    #[serde(rename = "tar")]
    Tar,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    snapshot: String,
    output: &'a Path,
    format: Format,
    seconds: f64,
    #[serde(flatten)]
    written: &'a Written,
}

/// What was written.
#[derive(Default, Serialize)]
struct Written {
    entries: u64,
    bytes: u64,
    unreadable: Vec<GapView>,
}

impl Tool for Args {
    const NAME: &'static str = "export";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let format = self.check(ui)?;
        let repository = self.repo.open(session, ui)?;
        let selected = repository.select(self.snapshot.as_ref())?;
        session.record(&repository.folder.display().to_string(), ui, |job, ui| {
            self.export(&repository, &selected, format, job, ui)
        })
    }
}

impl Args {
    fn to_stdout(&self) -> bool {
        self.output == Path::new("-")
    }

    /// Refuses what cannot end well, before anything is read.
    fn check(&self, ui: &Ui) -> anyhow::Result<Format> {
        if self.to_stdout() && ui.is_json() {
            let text = "cannot write both the archive and --json to stdout: name a file with -o";
            return Err(UsageError(text.into()).into());
        }
        if self.to_stdout() && io::stdout().is_terminal() {
            let text = "cannot write an archive to a terminal: name a file with -o, or pipe it";
            return Err(UsageError(text.into()).into());
        }
        if self.to_stdout() && self.force {
            return Err(UsageError("cannot use --force without a file: name one with -o".into()).into());
        }
        self.require_room()?;
        match self.format.or_else(|| format_of(&self.output)) {
            Some(format) => Ok(format),
            None if self.to_stdout() => Ok(Format::Tar),
            None => {
                let file = self.output.display();
                let text = format!("cannot tell the format from the name {file}: give one with --format");
                Err(UsageError(text).into())
            }
        }
    }

    /// Refuses a file that exists, unless it may be replaced; what is no file is never replaced.
    fn require_room(&self) -> anyhow::Result<()> {
        let Ok(metadata) = std::fs::symlink_metadata(&self.output) else { return Ok(()) };
        if self.to_stdout() || (metadata.is_file() && self.force) {
            return Ok(());
        }
        let file = self.output.display();
        let text = if metadata.is_file() {
            format!("cannot write {file}: it exists; name another file, or replace it with --force")
        } else {
            format!(
                "cannot write {file}: it exists and is not a regular file; name another, or pipe the archive"
            )
        };
        Err(UsageError(text).into())
    }

    fn export(
        &self,
        repository: &OpenRepository,
        selected: &Selected,
        format: Format,
        job: &Job<'_>,
        ui: &mut Ui,
    ) -> anyhow::Result<Outcome<Exit>> {
        let started = Instant::now();
        let events = UiEvents::start(ui, &job.stop, "export");
        let source = Source { repository, selected, events: &events };
        let result = if self.to_stdout() {
            source.write(format, ui.out_writer())
        } else {
            write_file(&self.output, self.force, |file| source.write(format, file))
        };
        events.finish(ui);
        let written = result?;
        let exit = tell_gaps(ui, &written.unreadable);
        self.tell(selected, format, &written, started.elapsed(), exit, ui);
        let figures = json!({
            "snapshot": selected.stored.id.to_string(), "repository": repository.folder, "output": self.output,
            "entries": written.entries, "bytes": written.bytes, "seconds": started.elapsed().as_secs_f64(),
        });
        Ok(Outcome::new(exit, figures))
    }

    fn tell(
        &self,
        selected: &Selected,
        format: Format,
        written: &Written,
        took: Duration,
        exit: Exit,
        ui: &mut Ui,
    ) {
        let (id, seconds) = (&selected.stored.id, took.as_secs_f64());
        if ui.is_json() {
            let report = Report { snapshot: id.to_string(), output: &self.output, format, seconds, written };
            ui.json(&document(Self::NAME, exit, report));
        }
        if !self.to_stdout() {
            ui.summary(format_args!(
                "snapshot {} exported to {}: {} ({}) in {}",
                id.short(),
                self.output.display(),
                counted(written.entries, "entry", "entries"),
                units::bytes(written.bytes),
                units::duration(took),
            ));
        }
    }
}

/// The format that a file name's end says.
fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[".tar.gz", ".tgz"]) {
        Some(Format::TarGz)
    } else if ends(&[".tar.zst", ".tzst", ".tar.zstd"]) {
        Some(Format::TarZst)
    } else {
        ends(&[".tar"]).then_some(Format::Tar)
    }
}

/// Writes a file that is there whole or not at all; with `force` in place of one that is there.
fn write_file(
    path: &Path,
    force: bool,
    write: impl FnOnce(&File) -> anyhow::Result<Written>,
) -> anyhow::Result<Written> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", path.display());
    let file = tempfile::Builder::new().prefix(".reliab-export-").tempfile_in(folder).with_context(cannot)?;
    let written = write(file.as_file()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    let named = if force { file.persist(path) } else { file.persist_noclobber(path) };
    named.map_err(|error| error.error).with_context(cannot)?;
    Ok(written)
}

/// What is exported.
struct Source<'a> {
    repository: &'a OpenRepository,
    selected: &'a Selected,
    events: &'a UiEvents,
}

impl Source<'_> {
    fn write(&self, format: Format, out: impl Write) -> anyhow::Result<Written> {
        match format {
            Format::Tar => {
                let mut out = BufWriter::with_capacity(1 << 20, out);
                let written = self.write_tar(&mut out)?;
                out.flush()?;
                Ok(written)
            }
            Format::TarGz => {
                let mut out = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
                let written = self.write_tar(&mut out)?;
                out.finish()?.flush()?;
                Ok(written)
            }
            Format::TarZst => {
                let mut out = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                out.include_checksum(true)?;
                let written = self.write_tar(&mut out)?;
                out.finish()?.flush()?;
                Ok(written)
            }
        }
    }

    fn write_tar(&self, out: &mut dyn Write) -> anyhow::Result<Written> {
        let in_repository = of(&self.repository.folder);
        let mut manifest = self.repository.manifest(self.selected)?;
        let reader = ContentReader::new(&self.repository.repository).map_err(&in_repository)?;
        self.events.total(self.selected.stored.snapshot.stats.bytes);
        let mut archive = Archive::new(out, reader, self.events);
        let mut written = Written::default();
        for found in manifest.by_ref() {
            if self.events.stop_requested() {
                return Err(reliab_repo::error::Error::Interrupted.into());
            }
            let bytes = archive.put(&found, &in_repository)?;
            self.events.advance(bytes, 1);
            written.bytes += bytes;
            written.entries += 1;
        }
        archive.out.write_all(&[0; 1024])?;
        written.unreadable = gaps_of(&mut manifest);
        Ok(written)
    }
}

/// A tar archive being written.
struct Archive<'a> {
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
    fn new(out: &'a mut dyn Write, reader: ContentReader<'a>, events: &'a dyn Events) -> Self {
        Self { out, reader, events, first_names: HashMap::new(), changed: HashMap::new() }
    }

    /// Writes an entry's record, and returns the bytes of content in it.
    fn put(
        &mut self,
        found: &ManifestEntry,
        in_repository: &dyn Fn(reliab_repo::error::Error) -> anyhow::Error,
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
        let mut told = Told { out: self.out, failure: None };
        let result = self.reader.copy(found, &mut told);
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

/// Keeps the error of the output, which the engine could take for one of the repository.
struct Told<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;
    use std::sync::Mutex;

    use reliab_repo::manifest::Manifest;
    use reliab_repo::repository::Repository;
    use reliab_testkit::between_names::BetweenNames;
    use reliab_testkit::engine::local;

    use super::*;

    /// Keeps what it is warned of.
    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Events for Warned {
        fn warning(&self, path: &Path, message: &str) {
            self.0.lock().unwrap().push(format!("{}: {message}", path.display()));
        }
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
        out.write_all(&[0; 1024]).unwrap();
        let target = lab.path().join("target");
        std::fs::create_dir(&target).unwrap();
        assert!(Command::new("tar").arg("xf").arg(&path).arg("-C").arg(&target).status().unwrap().success());
        let [ax, zx, zy] = lab.restored(&target);
        assert_eq!(std::fs::read_to_string(&ax).unwrap(), "before");
        assert_eq!(std::fs::read_to_string(&zx).unwrap(), "before and after");
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&zx), inode(&zy), "these say the same");
        assert_ne!(inode(&ax), inode(&zx));
        let told = told.0.into_inner().unwrap();
        assert!(told.len() == 1 && told[0].contains("z/x: it is a file of its own"), "{told:?}");
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let appears = |_: &File| {
            std::fs::write(&path, "somebody else's").unwrap();
            Ok(Written::default())
        };
        assert!(write_file(&path, false, appears).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody else's");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
        write_file(&path, true, appears).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn the_format_is_as_the_name_says() {
        let check = |name: &str, format| assert_eq!(format_of(Path::new(name)), format, "{name}");
        check("x/data.tar.gz", Some(Format::TarGz));
        check("DATA.TGZ", Some(Format::TarGz));
        check("data.tar.zst", Some(Format::TarZst));
        check("data.tar", Some(Format::Tar));
        check("data.zip", None);
        check("-", None);
    }
}
