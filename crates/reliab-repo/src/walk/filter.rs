//! What is left out of a backup.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Root, Status, join};
use crate::error::{self, Error};

/// First bytes of a CACHEDIR.TAG file (Cache Directory Tagging Specification, bford.info/cachedir).
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out, as given.
#[derive(Clone, Debug, Default)]
pub struct FilterOptions {
    /// Patterns as in `.gitignore`, relative to each source; absolute paths of the file system are understood, too.
    pub exclude: Vec<String>,
    /// Leave out what is in folders with a CACHEDIR.TAG.
    pub exclude_caches: bool,
    /// Leave out files larger than this many bytes.
    pub exclude_larger_than: Option<u64>,
    /// Do not go into folders on other file systems.
    pub one_file_system: bool,
    /// A folder (device, inode) never to back up: the repository itself.
    pub never: Option<(u64, u64)>,
}

/// Decides what is left out.
pub struct Filter {
    options: FilterOptions,
    patterns: Vec<(PathBuf, Gitignore)>,
}

/// The filter as it is for what is in one folder.
pub(super) struct InFolder<'a> {
    options: &'a FilterOptions,
    patterns: Option<&'a Gitignore>,
    /// Path below the source of the folder, and of the entry that is looked at.
    path: Vec<u8>,
    folder_len: usize,
}

impl Filter {
    /// Compiles the patterns, for each source once.
    pub fn new(options: FilterOptions, sources: &[PathBuf]) -> error::Result<Self> {
        let patterns = if options.exclude.is_empty() {
            Vec::new()
        } else {
            sources
                .iter()
                .map(|source| Ok((source.clone(), compile(&options.exclude, source)?)))
                .collect::<error::Result<_>>()?
        };
        Ok(Self { options, patterns })
    }

    /// The filter for what is in a folder, whose path below its root is given: patterns begin at the innermost source.
    pub(super) fn in_folder(&self, root: &Root, below: &[u8]) -> InFolder<'_> {
        let (given, below) = root.source_of(below);
        let of_source = self.patterns.iter().find(|(source, _)| source == given);
        let path = if below.is_empty() { Vec::new() } else { join(below, b"") };
        let folder_len = path.len();
        InFolder {
            options: &self.options,
            patterns: of_source.map(|(_, patterns)| patterns),
            path,
            folder_len,
        }
    }

    /// True if the walk goes into the folder, whose path below its root `below` gives.
    pub(super) fn enters(&self, root: &Root, status: &Status, below: impl FnOnce() -> Vec<u8>) -> bool {
        status.kind == FileType::Directory
            && (!self.options.one_file_system || root.device_of(&below()) == status.device)
    }

    pub(super) fn is_cache_folder(&self, folder: &OwnedFd) -> bool {
        self.options.exclude_caches && has_cache_tag(folder)
    }
}

impl InFolder<'_> {
    /// The status of an entry; `None` if it is left out.
    ///
    /// What is left out by its name alone is not asked for: that could fail, or wait for a server that is gone.
    /// `is_dir` is what the folder says, which need not be true.
    pub(super) fn status(
        &mut self,
        name: &[u8],
        is_dir: bool,
        stat: impl FnOnce() -> Result<Status, Errno>,
    ) -> Result<Option<Status>, Errno> {
        let matched = self.matches(name, is_dir);
        if matched && self.matches(name, !is_dir) {
            return Ok(None);
        }
        let status = match stat() {
            Ok(status) => status,
            Err(_) if matched => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let found_dir = status.kind == FileType::Directory;
        let matched = if found_dir == is_dir { matched } else { self.matches(name, found_dir) };
        Ok((!matched && !self.leaves_out(&status)).then_some(status))
    }

    fn matches(&mut self, name: &[u8], is_dir: bool) -> bool {
        let Some(patterns) = self.patterns else { return false };
        self.path.truncate(self.folder_len);
        self.path.extend_from_slice(name);
        patterns.matched(Path::new(OsStr::from_bytes(&self.path)), is_dir).is_ignore()
    }

    fn leaves_out(&self, status: &Status) -> bool {
        let identity = Some((status.device, status.inode));
        match status.kind {
            FileType::RegularFile => {
                self.options.exclude_larger_than.is_some_and(|limit| status.size > limit)
            }
            FileType::Directory => self.options.never == identity,
            _ => false,
        }
    }
}

fn has_cache_tag(folder: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut start = [0; CACHE_TAG.len()];
    rustix::fs::openat(folder, c"CACHEDIR.TAG", flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut start))
        .is_ok_and(|len| start[..len] == *CACHE_TAG)
}

fn compile(patterns: &[String], source: &Path) -> error::Result<Gitignore> {
    let absolute = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    for pattern in patterns {
        let anchored = below_source(pattern, &absolute);
        builder
            .add_line(None, anchored.as_deref().unwrap_or(pattern))
            .map_err(|error| bad_pattern(pattern, &error))?;
    }
    builder.build().map_err(|error| bad_pattern("--exclude", &error))
}

/// Compiles patterns as in `.gitignore` that are matched against paths in a snapshot.
pub fn compile_patterns(option: &'static str, patterns: &[String]) -> error::Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    let bad = |value: &str, error: &ignore::Error| Error::Usage {
        option,
        value: value.to_owned(),
        reason: error.to_string(),
    };
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| bad(pattern, &error))?;
    }
    builder.build().map_err(|error| bad("", &error))
}

/// `/srv/app/cache` with the source `/srv/app` or `/srv/app/` means `/cache`.
fn below_source(pattern: &str, source: &Path) -> Option<String> {
    let rest = pattern.strip_prefix(source.to_str()?.trim_end_matches('/'))?;
    rest.starts_with('/').then(|| rest.to_owned())
}

fn bad_pattern(pattern: &str, error: &ignore::Error) -> Error {
    Error::Usage { option: "--exclude", value: pattern.to_owned(), reason: error.to_string() }
}

/// Reads patterns from a file: one a line, blank lines and `#` comments left out.
pub fn patterns_from(path: &Path) -> error::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::local("read", path))?;
    Ok(text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::open_roots;
    use super::*;

    #[test]
    fn patterns_match_as_in_gitignore_and_by_absolute_path() {
        let check = |pattern: &str, path: &str, is_dir: bool, excluded: bool| {
            for source in ["/srv/app", "/srv/app/"] {
                let compiled = compile(&[pattern.to_owned()], Path::new(source)).unwrap();
                let matched = compiled.matched(path, is_dir).is_ignore();
                assert_eq!(matched, excluded, "{pattern} {path} in {source}");
            }
        };
        check("*.tmp", "a/b.tmp", false, true);
        check("*.tmp", "a/b.txt", false, false);
        check("cache/", "x/cache", true, true);
        check("cache/", "x/cache", false, false);
        check("/cache", "cache", true, true);
        check("/cache", "x/cache", true, false);
        check("/srv/app/cache", "cache", true, true);
        check("/srv/application", "lication", false, false);
        check("a/**/b", "a/x/y/b", false, true);
    }

    /// The kind that is kept of an entry, or why not; `found` is what `lstat` says, told as something else or not.
    fn kept(name: &str, told_dir: bool, found: Result<FileType, Errno>) -> Result<Option<FileType>, Errno> {
        let exclude = ["*.tmp", "folder/", "!kept.tmp"].map(str::to_owned).to_vec();
        let source = PathBuf::from("/");
        let options = FilterOptions { exclude, ..FilterOptions::default() };
        let filter = Filter::new(options, std::slice::from_ref(&source)).unwrap();
        let root = open_roots(&[source]).unwrap();
        let stat = || found.map(|kind| Status { kind, ..root[0].opened });
        let status = filter.in_folder(&root[0], b"in/it").status(name.as_bytes(), told_dir, stat);
        status.map(|kept| kept.map(|status| status.kind))
    }

    #[test]
    fn what_is_left_out_by_its_name_alone_is_not_looked_at() {
        let closed = Err(Errno::ACCESS);
        for told_dir in [false, true] {
            assert_eq!(kept("x.tmp", told_dir, closed), Ok(None));
            assert_eq!(kept("kept.tmp", told_dir, closed), Err(Errno::ACCESS));
            assert_eq!(kept("other", told_dir, closed), Err(Errno::ACCESS));
        }
        assert_eq!(kept("folder", true, closed), Ok(None));
        assert_eq!(kept("folder", false, closed), Err(Errno::ACCESS));
    }

    #[test]
    fn what_a_folder_says_of_a_type_decides_nothing() {
        let (file, dir) = (FileType::RegularFile, FileType::Directory);
        for told_dir in [false, true] {
            assert_eq!(kept("folder", told_dir, Ok(dir)), Ok(None));
            assert_eq!(kept("folder", told_dir, Ok(file)), Ok(Some(file)));
            assert_eq!(kept("x.tmp", told_dir, Ok(dir)), Ok(None));
            assert_eq!(kept("x", told_dir, Ok(dir)), Ok(Some(dir)));
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = compile(&["a[".to_owned()], Path::new("/x")).err().unwrap();
        assert!(error.to_string().contains("a["), "{error}");
    }
}
