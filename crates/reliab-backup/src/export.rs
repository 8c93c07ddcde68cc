//! `export`: a snapshot as a plain archive, for whoever has only tar.

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
use serde::Serialize;
use serde_json::json;

use crate::app::{Tool, after_help, document};
use crate::creation;
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{GapView, gaps_of, tell_gaps};
use crate::events::UiEvents;
use crate::failure::{ErrorTable, UsageError};
use crate::repo::{OpenRepository, RepoArg, Selected, of};
use crate::session::{Job, Outcome, Session};
use crate::tar_archive::Archive;

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
        session.record(&creation::job(&repository.folder), ui, |job, ui| {
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
        archive.end()?;
        written.unreadable = gaps_of(&mut manifest);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
