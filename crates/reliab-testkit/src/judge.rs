//! Judges of restored trees that know nothing of reliab.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::scan;

/// rsync works with whole paths of at most `PATH_MAX` (4096), patterns included, so a folder of the top
/// with one below it that is deeper than this is kept from it.
const RSYNC_DEPTH: usize = 1000;

/// What rsync would change to make `b` equal to `a`, a line each; sockets, which are not backed up, do not count.
///
/// Nanoseconds, ACLs, extended attributes and hard links included. Folders that are too deep for rsync are compared
/// through [`scan`].
pub fn rsync_differences(a: &Path, b: &Path) -> Vec<String> {
    differences(a, b).unwrap_or_else(|error| vec![format!("the comparison failed: {error}")])
}

fn differences(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let mut excluded = Excluded::default();
    excluded.look(a, &mut Vec::new())?;
    let mut patterns = tempfile::NamedTempFile::new()?;
    for path in excluded.sockets.iter().chain(&excluded.deep) {
        patterns.write_all(&[b"/", &escape(path)[..], b"\0"].concat())?;
    }
    let slash = |path: &Path| {
        let mut text = path.as_os_str().to_owned();
        text.push("/");
        text
    };
    let mut from = OsString::from("--exclude-from=");
    from.push(patterns.path());
    let output = Command::new("rsync")
        .args(["-aAXHn", "--checksum", "--modify-window=-1", "--delete", "-i", "--from0"])
        .args([from, slash(a), slash(b)])
        .env("LC_ALL", "C")
        .output()?;
    let mut lines: Vec<String> = [&output.stdout, &output.stderr]
        .iter()
        .flat_map(|text| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !output.status.success() {
        lines.push(format!("rsync: {}", output.status));
    }
    let at_socket =
        excluded.sockets.iter().filter(|path| b.join(OsStr::from_bytes(path)).symlink_metadata().is_ok());
    lines.extend(at_socket.map(|path| format!("in place of a socket: {}", path.escape_ascii())));
    for deep in &excluded.deep {
        let relative = OsString::from_vec(deep.clone());
        let (a, b) = (scan::scan(&a.join(&relative))?, scan::scan(&b.join(&relative))?);
        lines.extend(scan::differences(&a, &b));
    }
    Ok(lines)
}

/// Characters that mean something in a pattern of rsync.
fn escape(path: &[u8]) -> Vec<u8> {
    let special = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
    if !path.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
        return path.to_vec();
    }
    path.iter().flat_map(|b| if special(b) { vec![b'\\', *b] } else { vec![*b] }).collect()
}

/// What rsync cannot judge.
#[derive(Default)]
struct Excluded {
    sockets: Vec<Vec<u8>>,
    /// Folders of the top in which there is one that is too deep.
    deep: BTreeSet<Vec<u8>>,
}

impl Excluded {
    fn look(&mut self, top: &Path, below: &mut Vec<u8>) -> io::Result<()> {
        for entry in fs::read_dir(top.join(OsString::from_vec(below.clone())))? {
            let entry = entry?;
            let length = below.len();
            if length > 0 {
                below.push(b'/');
            }
            below.extend_from_slice(entry.file_name().as_bytes());
            let kind = entry.file_type()?;
            if kind.is_socket() {
                self.sockets.push(below.clone());
            } else if kind.is_dir() && below.len() > RSYNC_DEPTH {
                self.deep.insert(below.split(|&b| b == b'/').next().unwrap_or_default().to_vec());
            } else if kind.is_dir() {
                self.look(top, below)?;
            }
            below.truncate(length);
        }
        Ok(())
    }
}

/// 512-byte blocks that a file takes up.
pub fn sparse_blocks(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.blocks())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn a_copy_by_rsync_itself_has_no_differences_and_every_change_to_it_is_one() {
        let scratch = tree::Scratch::new().unwrap();
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        fs::create_dir(&a).unwrap();
        tree::small(&a).unwrap();
        let copy = || {
            let arguments = ["-aAXH", "--delete", "--checksum"];
            let sides = [a.join(""), b.join("")];
            assert!(Command::new("rsync").args(arguments).args(sides).status().unwrap().success());
            assert_eq!(rsync_differences(&a, &b), Vec::<String>::new());
        };
        let check = |change: &dyn Fn(&Path)| {
            copy();
            change(&b);
            assert_ne!(rsync_differences(&a, &b), Vec::<String>::new());
        };
        check(&|b| fs::write(b.join("new"), "x").unwrap());
        check(&|b| fs::remove_file(b.join("empty")).unwrap());
        check(&|b| tree::set_mtime(&b.join("empty"), 5, 7).unwrap());
        check(&|b| tree::set_mode(&b.join("empty"), 0o751).unwrap());
        check(&|b| tree::flip_byte(&b.join("big"), 300_000).unwrap());
        check(&|b| {
            fs::remove_file(b.join("link-2")).unwrap();
            fs::copy(b.join("link-1"), b.join("link-2")).unwrap();
        });
        check(&|b| {
            fs::remove_file(b.join("symlink")).unwrap();
            std::os::unix::fs::symlink("elsewhere", b.join("symlink")).unwrap();
        });
    }
}
