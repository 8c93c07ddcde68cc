//! What is left out of a backup.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags};

use super::{Root, Status};
use crate::error::{Error, Result};

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

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    LeaveOut,
}

impl Filter {
    /// Compiles the patterns, for each source once.
    pub fn new(options: FilterOptions, sources: &[PathBuf]) -> Result<Self> {
        let patterns = if options.exclude.is_empty() {
            Vec::new()
        } else {
            sources
                .iter()
                .map(|source| Ok((source.clone(), compile(&options.exclude, source)?)))
                .collect::<Result<_>>()?
        };
        Ok(Self { options, patterns })
    }

    pub(super) fn judge(&self, root: &Root, prefix: &[u8], name: &[u8], status: &Status) -> Verdict {
        let is_dir = status.kind == FileType::Directory;
        let too_large = status.kind == FileType::RegularFile
            && self.options.exclude_larger_than.is_some_and(|limit| status.size > limit);
        if too_large || (is_dir && self.options.never == Some((status.device, status.inode))) {
            return Verdict::LeaveOut;
        }
        let Some((_, patterns)) = self.patterns.iter().find(|(source, _)| *source == root.given) else {
            return Verdict::Keep;
        };
        let path = [prefix, name].concat();
        let matched = patterns.matched(Path::new(OsStr::from_bytes(&path)), is_dir);
        if matched.is_ignore() { Verdict::LeaveOut } else { Verdict::Keep }
    }

    /// True if the walk goes into the folder.
    pub(super) fn enters(&self, root: &Root, status: &Status) -> bool {
        status.kind == FileType::Directory
            && (!self.options.one_file_system || root.devices.contains(&status.device))
    }

    pub(super) fn is_cache_folder(&self, folder: &OwnedFd) -> bool {
        self.options.exclude_caches && has_cache_tag(folder)
    }
}

fn has_cache_tag(folder: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut start = [0; CACHE_TAG.len()];
    rustix::fs::openat(folder, c"CACHEDIR.TAG", flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut start))
        .is_ok_and(|len| start[..len] == *CACHE_TAG)
}

fn compile(patterns: &[String], source: &Path) -> Result<Gitignore> {
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
pub fn compile_patterns(option: &'static str, patterns: &[String]) -> Result<Gitignore> {
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

/// `/srv/app/cache` with the source `/srv/app` means `/cache`.
fn below_source(pattern: &str, source: &Path) -> Option<String> {
    let rest = pattern.strip_prefix(source.to_str()?)?;
    rest.starts_with('/').then(|| rest.to_owned())
}

fn bad_pattern(pattern: &str, error: &ignore::Error) -> Error {
    Error::Usage { option: "--exclude", value: pattern.to_owned(), reason: error.to_string() }
}

/// Reads patterns from a file: one a line, blank lines and `#` comments left out.
pub fn patterns_from(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::local("read", path))?;
    Ok(text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_excluded(pattern: &str, path: &str, is_dir: bool) -> bool {
        compile(&[pattern.to_owned()], Path::new("/srv/app")).unwrap().matched(path, is_dir).is_ignore()
    }

    #[test]
    fn patterns_match_as_in_gitignore_and_by_absolute_path() {
        let check = |pattern: &str, path: &str, is_dir: bool, excluded: bool| {
            assert_eq!(is_excluded(pattern, path, is_dir), excluded, "{pattern} {path}");
        };
        check("*.tmp", "a/b.tmp", false, true);
        check("*.tmp", "a/b.txt", false, false);
        check("cache/", "x/cache", true, true);
        check("cache/", "x/cache", false, false);
        check("/cache", "cache", true, true);
        check("/cache", "x/cache", true, false);
        check("/srv/app/cache", "cache", true, true);
        check("a/**/b", "a/x/y/b", false, true);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = compile(&["a[".to_owned()], Path::new("/x")).err().unwrap();
        assert!(error.to_string().contains("a["), "{error}");
    }
}
