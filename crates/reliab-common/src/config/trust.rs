//! Whether a configuration file that nobody named may be used.
//!
//! A configuration names commands, and reliab often runs as root. In a folder that others write into, a file that is only
//! found there would let them run what they like. Whoever names a file with `--config` or `$RELIAB_CONFIG` vouches for it.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// The bits of a mode that say who may write, and that names in a folder belong to who made them.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Who owns a file or folder, and what others may do with it.
#[derive(Clone, Copy)]
struct Access {
    owner: u32,
    mode: u32,
}

impl From<Metadata> for Access {
    fn from(metadata: Metadata) -> Self {
        Self { owner: metadata.uid(), mode: metadata.mode() }
    }
}

/// Reads a file that was found, if nobody but root and the effective user can have written it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let user = rustix::process::geteuid().as_raw();
    let check = |access: Access| untrusted(path, file_objection(path, access, user));
    // Before it is opened: a pipe of somebody else's would be waited for. The link, if it is one, and what it leads to.
    check(as_link(fs::symlink_metadata(path).map_err(failed)?))?;
    check(fs::metadata(path).map_err(failed)?.into())?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let access = fs::metadata(folder).map_err(failed)?.into();
    untrusted(path, folder_objection(folder, access, user))?;
    let mut file = File::open(path).map_err(failed)?;
    // By now the name may stand for another file: what counts is the one that is read.
    check(file.metadata().map_err(failed)?.into())?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// The mode of a symbolic link means nothing, its owner does.
fn as_link(metadata: Metadata) -> Access {
    let mode = if metadata.is_symlink() { 0 } else { metadata.mode() };
    Access { owner: metadata.uid(), mode }
}

fn untrusted(path: &Path, objection: Option<String>) -> Result<(), ConfigError> {
    match objection {
        Some(objection) => Err(ConfigError::Untrusted { path: whole(path), objection }),
        None => Ok(()),
    }
}

/// What speaks against a file, and the command that mends it.
fn file_objection(path: &Path, access: Access, user: u32) -> Option<String> {
    let path = whole(path);
    let path = path.display();
    if !is_trusted(access.owner, user) {
        return Some(format!("it belongs to user {}; `chown -h {user} {path}`", access.owner));
    }
    // The user's own group may be meant to write it; another's group is not known.
    let foreign = if access.owner == user { OTHERS_WRITE } else { GROUP_WRITES | OTHERS_WRITE };
    let mode = access.mode & 0o7777;
    (mode & foreign != 0).then(|| format!("others may write it (mode {mode:o}); `chmod go-w {path}`"))
}

/// What speaks against the folder of a file, and the command that mends it.
fn folder_objection(folder: &Path, access: Access, user: u32) -> Option<String> {
    let folder = whole(folder);
    let folder = folder.display();
    if !is_trusted(access.owner, user) {
        return Some(format!(
            "its folder belongs to user {}, who can replace it; `chown {user} {folder}`",
            access.owner
        ));
    }
    let mode = access.mode & 0o7777;
    (mode & OTHERS_WRITE != 0 && mode & STICKY == 0)
        .then(|| format!("others can replace it in its folder (mode {mode:o}); `chmod o-w {folder}`"))
}

fn is_trusted(owner: u32, user: u32) -> bool {
    owner == 0 || owner == user
}

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const OTHER: u32 = 65_534;

    #[test]
    fn a_file_is_trusted_if_only_root_and_the_user_can_have_written_it() {
        let check = |owner, mode, user, expected: Option<&str>| {
            let said = file_objection(Path::new("/d/reliab.toml"), Access { owner, mode }, user);
            assert_eq!(said.as_deref(), expected, "{owner} {mode:o} {user}");
        };
        for mode in [0o100_600, 0o100_644, 0o100_755] {
            check(0, mode, USER, None);
            check(USER, mode, USER, None);
            check(0, mode, 0, None);
        }
        check(USER, 0o100_664, USER, None);
        check(0, 0o100_664, 0, None);
        let chmod = "others may write it (mode 664); `chmod go-w /d/reliab.toml`";
        check(0, 0o100_664, USER, Some(chmod));
        check(USER, 0o100_666, USER, Some("others may write it (mode 666); `chmod go-w /d/reliab.toml`"));
        check(USER, 0o100_602, USER, Some("others may write it (mode 602); `chmod go-w /d/reliab.toml`"));
        check(OTHER, 0o100_600, 0, Some("it belongs to user 65534; `chown -h 0 /d/reliab.toml`"));
        check(OTHER, 0o100_600, USER, Some("it belongs to user 65534; `chown -h 1000 /d/reliab.toml`"));
        check(USER, 0o100_600, 0, Some("it belongs to user 1000; `chown -h 0 /d/reliab.toml`"));
    }

    #[test]
    fn a_folder_is_trusted_if_others_cannot_replace_what_is_in_it() {
        let check = |owner, mode, expected: Option<&str>| {
            let said = folder_objection(Path::new("/d"), Access { owner, mode }, USER);
            assert_eq!(said.as_deref(), expected, "{owner} {mode:o}");
        };
        check(0, 0o040_755, None);
        check(USER, 0o040_775, None);
        check(0, 0o041_777, None);
        check(0, 0o040_777, Some("others can replace it in its folder (mode 777); `chmod o-w /d`"));
        check(
            OTHER,
            0o041_755,
            Some("its folder belongs to user 65534, who can replace it; `chown 1000 /d`"),
        );
    }
}
