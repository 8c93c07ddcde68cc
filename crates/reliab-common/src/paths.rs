//! The places where reliab keeps things.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What the places depend on: the environment variables, and whether the user is root.
#[derive(Clone)]
pub struct Env {
    variables: HashMap<OsString, OsString>,
    root: bool,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect(), root: rustix::process::geteuid().is_root() }
    }

    /// A made-up environment, for tests.
    pub fn fixed(root: bool, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, root }
    }

    /// The value of a variable; one that is set to nothing counts as not set.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from)
    }

    /// One of the user's folders: `variable` if it is absolute (as the XDG base directory text asks), else
    /// `fallback` in the home folder.
    pub(crate) fn user_folder(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let set = self.path(variable).filter(|path| path.is_absolute());
        set.or_else(|| Some(self.path("HOME")?.join(fallback)))
    }
}

/// No folder could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no folder for the {what}: HOME is not set; give one with {option} or ${variable}")]
pub struct NoFolder {
    what: &'static str,
    option: &'static str,
    variable: &'static str,
}

/// One kind of folder and everything its choice depends on, strongest first.
struct Place {
    what: &'static str,
    option: &'static str,
    variable: &'static str,
    systemd: &'static str,
    of_root: &'static str,
    xdg: &'static str,
    in_home: &'static str,
}

const STATE: Place = Place {
    what: "state",
    option: "--state-dir",
    variable: "RELIAB_STATE_DIR",
    systemd: "STATE_DIRECTORY",
    of_root: "/var/lib/reliab",
    xdg: "XDG_STATE_HOME",
    in_home: ".local/state",
};

const CACHE: Place = Place {
    what: "cache",
    option: "--cache-dir",
    variable: "RELIAB_CACHE_DIR",
    systemd: "CACHE_DIRECTORY",
    of_root: "/var/cache/reliab",
    xdg: "XDG_CACHE_HOME",
    in_home: ".cache",
};

impl Place {
    fn choose(&self, explicit: Option<&Path>, env: &Env) -> Result<PathBuf, NoFolder> {
        explicit
            .map(Path::to_owned)
            .or_else(|| env.path(self.variable))
            .or_else(|| env.var(self.systemd).and_then(first_listed))
            .or_else(|| env.root.then(|| self.of_root.into()))
            .or_else(|| Some(env.user_folder(self.xdg, self.in_home)?.join("reliab")))
            .ok_or(NoFolder { what: self.what, option: self.option, variable: self.variable })
    }
}

/// systemd gives a list with colons when a unit names several folders; the first is the unit's own.
fn first_listed(list: &OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let first = list.as_bytes().split(|&byte| byte == b':').next()?;
    (!first.is_empty()).then(|| OsStr::from_bytes(first).into())
}

/// The folder of the state file: the option, `$RELIAB_STATE_DIR`, `$STATE_DIRECTORY`, root's, the user's.
pub fn state_dir(explicit: Option<&Path>, env: &Env) -> Result<PathBuf, NoFolder> {
    STATE.choose(explicit, env)
}

/// The folder of what can be made again: the option, `$RELIAB_CACHE_DIR`, `$CACHE_DIRECTORY`, root's, the user's.
pub fn cache_dir(explicit: Option<&Path>, env: &Env) -> Result<PathBuf, NoFolder> {
    CACHE.choose(explicit, env)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] =
        [("RELIAB_STATE_DIR", "/r"), ("STATE_DIRECTORY", "/s:/t"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];

    #[test]
    fn the_state_folder_is_found_in_the_documented_order() {
        let check = |root, variables: &[_], expected: &str| {
            assert_eq!(state_dir(None, &Env::fixed(root, variables)), Ok(expected.into()));
        };
        check(true, &ALL, "/r");
        check(true, &ALL[1..], "/s");
        check(true, &ALL[2..], "/var/lib/reliab");
        check(false, &ALL[1..], "/s");
        check(false, &ALL[2..], "/x/reliab");
        check(false, &ALL[3..], "/h/.local/state/reliab");
        check(
            false,
            &[("RELIAB_STATE_DIR", ""), ("STATE_DIRECTORY", ""), ("HOME", "/h")],
            "/h/.local/state/reliab",
        );
        check(false, &[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], "/h/.local/state/reliab");
        let explicit = state_dir(Some(Path::new("e")), &Env::fixed(true, &ALL));
        assert_eq!(explicit, Ok("e".into()));
    }

    #[test]
    fn the_cache_folder_is_found_in_the_documented_order() {
        let all = [
            ("RELIAB_CACHE_DIR", "/r"),
            ("CACHE_DIRECTORY", "/s:/t"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        let check = |root, variables: &[_], expected: &str| {
            assert_eq!(cache_dir(None, &Env::fixed(root, variables)), Ok(expected.into()));
        };
        check(true, &all, "/r");
        check(true, &all[1..], "/s");
        check(true, &all[2..], "/var/cache/reliab");
        check(false, &all[2..], "/x/reliab");
        check(false, &all[3..], "/h/.cache/reliab");
    }

    #[test]
    fn without_a_home_the_error_says_what_to_do() {
        let error = state_dir(None, &Env::fixed(false, &[])).unwrap_err();
        let expected =
            "no folder for the state: HOME is not set; give one with --state-dir or $RELIAB_STATE_DIR";
        assert_eq!(error.to_string(), expected);
    }
}
