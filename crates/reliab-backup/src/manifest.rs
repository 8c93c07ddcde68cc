//! `manifest`: what a snapshot holds, in a form that other tools check.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::ValueEnum;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_repo::content::ContentReader;
use reliab_repo::format::entry::Kind;
use reliab_repo::id::ObjectHasher;
use reliab_repo::manifest::ManifestEntry;
use serde::Serialize;

use crate::app::{Tool, after_help, document};
use crate::engine_errors::ENGINE_ERRORS;
use crate::entries::{exit_of, gaps_of, tell_gaps};
use crate::failure::ErrorTable;
use crate::repo::{OpenRepository, RepoArg, Selected, of};
use crate::session::Session;

const EXAMPLES: &str = "  \
  reliab manifest > SHA256; cd /restored && sha256sum --check SHA256
  reliab manifest 1a2b3c4d --format b3sums     without reading any content
  reliab manifest latest:data --format mtree | (cd /restored && mtree -p .)";

/// Print what a snapshot holds, for other tools to check.
///
/// sha256sums and mtree read the content of every file; b3sums is there without.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// What to print [default: latest].
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    repo: RepoArg,
    /// The form.
    #[arg(long, value_name = "FORMAT", default_value = "sha256sums")]
    format: Format,
}

/// A form of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// For `b3sum --check`
    B3sums,
    /// For `sha256sum --check`
    Sha256sums,
    /// For mtree(8) and bsdtar
    Mtree,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    snapshot: String,
    format: Format,
    manifest: String,
}

impl Tool for Args {
    const NAME: &'static str = "manifest";
    const ERRORS: &'static ErrorTable = ENGINE_ERRORS;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let repository = self.repo.open(session, ui)?;
        let selected = repository.select(self.snapshot.as_ref())?;
        if ui.is_json() {
            let mut text = Vec::new();
            let gaps = self.print(&repository, &selected, &mut |line| {
                text.extend_from_slice(line);
                true
            })?;
            let manifest = String::from_utf8_lossy(&text).into_owned();
            let report = Report { snapshot: selected.stored.id.to_string(), format: self.format, manifest };
            ui.json(&document(Self::NAME, exit_of(&gaps), report));
            return Ok(tell_gaps(ui, &gaps));
        }
        let gaps = self.print(&repository, &selected, &mut |line| {
            ui.raw_out(line);
            !ui.pipe_closed()
        })?;
        Ok(tell_gaps(ui, &gaps))
    }
}

impl Args {
    /// Gives each line to `put`, until it wants no more.
    fn print(
        &self,
        repository: &OpenRepository,
        selected: &Selected,
        put: &mut dyn FnMut(&[u8]) -> bool,
    ) -> anyhow::Result<Vec<crate::entries::GapView>> {
        let mut manifest = repository.manifest(selected)?;
        let mut reader = ContentReader::new(&repository.repository).map_err(of(&repository.folder))?;
        let mut more = self.format != Format::Mtree || put(b"#mtree\n");
        while more && let Some(found) = manifest.next() {
            let line = self.line(&mut reader, &found).map_err(of(&repository.folder))?;
            more = line.is_none_or(|line| put(&line));
        }
        Ok(gaps_of(&mut manifest))
    }

    /// The line of an entry; `None` where the format has none for it.
    fn line(
        &self,
        reader: &mut ContentReader<'_>,
        found: &ManifestEntry,
    ) -> reliab_repo::error::Result<Option<Vec<u8>>> {
        let path = &found.entry.path;
        let content = match &found.entry.kind {
            Kind::File(content) => Some(content),
            _ => None,
        };
        Ok(match (self.format, content) {
            (Format::B3sums, Some(content)) => Some(sum_line(&content.digest.to_string(), path)),
            (Format::Sha256sums, Some(_)) => Some(sum_line(&sha256(reader, found)?, path)),
            (Format::B3sums | Format::Sha256sums, None) => None,
            (Format::Mtree, Some(_)) => Some(mtree_line(found, Some(&sha256(reader, found)?))),
            (Format::Mtree, None) => Some(mtree_line(found, None)),
        })
    }
}

fn sha256(reader: &mut ContentReader<'_>, found: &ManifestEntry) -> reliab_repo::error::Result<String> {
    let mut hasher = ObjectHasher::default();
    reader.copy(found, &mut hasher)?;
    Ok(hasher.finish().to_string())
}

/// `SUM  PATH` as sha256sum and b3sum write it: a name that would break the line is escaped, and the line marked.
fn sum_line(sum: &str, path: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'\\' => name.extend_from_slice(b"\\\\"),
            b'\n' => name.extend_from_slice(b"\\n"),
            b'\r' => name.extend_from_slice(b"\\r"),
            other => name.push(other),
        }
    }
    let mark: &[u8] = if name.len() > path.len() { b"\\" } else { b"" };
    [mark, sum.as_bytes(), b"  ", &name, b"\n"].concat()
}

/// An entry as mtree(5) has it: full paths, names in vis(3) octal.
fn mtree_line(found: &ManifestEntry, sha256: Option<&str>) -> Vec<u8> {
    let (entry, meta) = (&found.entry, &found.entry.meta);
    let path = if entry.path == b"." { ".".to_owned() } else { format!("./{}", vis(&entry.path)) };
    let kind = if entry.kind.word() == "symlink" { "link" } else { entry.kind.word() };
    let mut words =
        vec![path, format!("type={kind} mode={:04o} uid={} gid={}", meta.mode, meta.uid, meta.gid)];
    let (user, group) = found.page.names.of(meta);
    for (key, name) in [("uname", user), ("gname", group)] {
        if !name.is_empty() {
            words.push(format!("{key}={}", vis(name.as_bytes())));
        }
    }
    words.push(format!("time={}.{:09}", meta.mtime.seconds, meta.mtime.nanos));
    match &entry.kind {
        Kind::File(content) => words.push(format!("size={}", content.size)),
        Kind::Symlink(_, target) => words.push(format!("link={}", vis(target))),
        Kind::Char(_, major, minor) | Kind::Block(_, major, minor) => {
            words.push(format!("device=linux,{major},{minor}"));
        }
        Kind::Dir(_) | Kind::Fifo(_) => {}
    }
    words.extend(sha256.map(|sum| format!("sha256digest={sum}")));
    format!("{}\n", words.join(" ")).into_bytes()
}

/// Bytes that would end a word or a line, as a backslash and three octal digits.
fn vis(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && !b"\\#=*?[".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_sums_are_escaped_as_coreutils_does() {
        let check = |path: &[u8], line: &[u8]| assert_eq!(sum_line("00", path), line);
        check(b"a b", b"00  a b\n");
        check(b"a\nb", b"\\00  a\\nb\n");
        check(b"a\\b", b"\\00  a\\\\b\n");
        check(b"\xff\r", b"\\00  \xff\\r\n");
    }

    #[test]
    fn names_in_mtree_have_no_white_space() {
        assert_eq!(vis(b"a b#\n\\\xff"), "a\\040b\\043\\012\\134\\377");
    }
}
