//! Whether a configuration file that nobody named may be used.
//!
//! A configuration names commands, and reliab often runs as root. In a folder that others write into, a file that is only
//! found there would let them run what they like. Whoever names a file with `--config` or `$RELIAB_CONFIG` vouches for it.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::ConfigError;

/// The bits of a mode: who may write, that names in a folder belong to who made them, all that are shown.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const PERMISSIONS: u32 = 0o7777;

/// Who owns a file or folder, and what others may do with it.
#[derive(Clone, Copy)]
struct Access {
    owner: u32,
    mode: u32,
}

impl From<&Metadata> for Access {
    fn from(metadata: &Metadata) -> Self {
        Self { owner: metadata.uid(), mode: metadata.mode() }
    }
}

/// What speaks against a file, and what mends it.
#[derive(Debug, PartialEq, Eq)]
struct Objection {
    reason: String,
    mend: String,
}

/// Reads a file that was found, if nobody but root and the effective user can have written it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let user = rustix::process::geteuid().as_raw();
    let check = |access: Access| refuse(path, of_file(access, user));
    // Before it is opened: a pipe of somebody else's would be waited for. The link, if it is one, and what it leads to.
    check(as_link(&fs::symlink_metadata(path).map_err(failed)?))?;
    check((&fs::metadata(path).map_err(failed)?).into())?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    refuse(path, of_folder((&fs::metadata(folder).map_err(failed)?).into(), user))?;
    let mut file = File::open(path).map_err(failed)?;
    // By now the name may stand for another file: what counts is the one that is read.
    check((&file.metadata().map_err(failed)?).into())?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// The mode of a symbolic link means nothing, its owner does.
fn as_link(metadata: &Metadata) -> Access {
    let access = Access::from(metadata);
    if metadata.is_symlink() { Access { mode: 0, ..access } } else { access }
}

fn refuse(path: &Path, objection: Option<Objection>) -> Result<(), ConfigError> {
    let Some(Objection { reason, mend }) = objection else { return Ok(()) };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Err(ConfigError::Untrusted { path, objection: reason, mend })
}

fn of_file(access: Access, user: u32) -> Option<Objection> {
    let Access { owner, mode } = access;
    if !is_trusted(owner, user) {
        let reason = format!("it belongs to user {owner}");
        return Some(Objection { reason, mend: format!("`chown -h {user}` it") });
    }
    // The user's own group may be meant to write it; another's group is not known.
    let foreign = if owner == user { OTHERS_WRITE } else { GROUP_WRITES | OTHERS_WRITE };
    (mode & foreign != 0).then(|| Objection {
        reason: format!("others may write it (mode {:o})", mode & PERMISSIONS),
        mend: "`chmod go-w` it".into(),
    })
}

fn of_folder(access: Access, user: u32) -> Option<Objection> {
    let Access { owner, mode } = access;
    if !is_trusted(owner, user) {
        let reason = format!("its folder belongs to user {owner}, who can replace it");
        return Some(Objection { reason, mend: format!("`chown {user}` the folder") });
    }
    (mode & OTHERS_WRITE != 0 && mode & STICKY == 0).then(|| Objection {
        reason: format!("others can replace it in its folder (mode {:o})", mode & PERMISSIONS),
        mend: "`chmod o-w` the folder".into(),
    })
}

fn is_trusted(owner: u32, user: u32) -> bool {
    owner == 0 || owner == user
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const OTHER: u32 = 65_534;

    fn told(objection: Option<Objection>) -> String {
        objection.map_or(String::new(), |Objection { reason, mend }| format!("{reason}: {mend}"))
    }

    #[test]
    fn a_file_is_trusted_if_only_root_and_the_user_can_have_written_it() {
        let check = |owner, mode, user, expected: &str| {
            assert_eq!(told(of_file(Access { owner, mode }, user)), expected, "{owner} {mode:o} {user}");
        };
        for mode in [0o100_600, 0o100_644, 0o100_755] {
            check(0, mode, USER, "");
            check(USER, mode, USER, "");
            check(0, mode, 0, "");
        }
        check(USER, 0o100_664, USER, "");
        check(0, 0o100_664, 0, "");
        check(0, 0o100_664, USER, "others may write it (mode 664): `chmod go-w` it");
        check(USER, 0o100_666, USER, "others may write it (mode 666): `chmod go-w` it");
        check(USER, 0o100_602, USER, "others may write it (mode 602): `chmod go-w` it");
        check(OTHER, 0o100_600, 0, "it belongs to user 65534: `chown -h 0` it");
        check(OTHER, 0o100_600, USER, "it belongs to user 65534: `chown -h 1000` it");
        check(USER, 0o100_600, 0, "it belongs to user 1000: `chown -h 0` it");
    }

    #[test]
    fn a_folder_is_trusted_if_others_cannot_replace_what_is_in_it() {
        let check = |owner, mode, expected: &str| {
            assert_eq!(told(of_folder(Access { owner, mode }, USER)), expected, "{owner} {mode:o}");
        };
        check(0, 0o040_755, "");
        check(USER, 0o040_775, "");
        check(0, 0o041_777, "");
        check(0, 0o040_777, "others can replace it in its folder (mode 777): `chmod o-w` the folder");
        let theirs = "its folder belongs to user 65534, who can replace it: `chown 1000` the folder";
        check(OTHER, 0o041_755, theirs);
    }
}
