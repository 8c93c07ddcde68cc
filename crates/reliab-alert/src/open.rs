//! What every command of this crate begins with: the state, the rules, who asks.

use anyhow::Context as _;
use nix::unistd::{Uid, User};
use reliab_common::failure::UsageError;
use reliab_common::paths::{self, Env};
use reliab_common::session::Session;
use reliab_common::state::State;

use crate::rule::Rules;

/// Opens the state file.
pub(crate) fn state(session: &Session) -> anyhow::Result<State> {
    let dir = paths::state_dir(session.global.state_dir.as_deref(), &session.env)?;
    State::open(&dir).context("nothing can be said of alerts")
}

/// The rules of a configuration in which nothing is wrong.
pub(crate) fn sound_rules(session: &Session) -> anyhow::Result<Rules> {
    Rules::of(&session.config).map_err(|error| UsageError(format!("configuration: {error}")).into())
}

/// The machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who asks: the user's name, also behind sudo; where no variable has it, as the system knows the user.
pub(crate) fn person(env: &Env) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env.var(name));
    name.map_or_else(|| known_as(Uid::current()), |name| name.to_string_lossy().into_owned())
}

/// The name in the system's database of users, or the number of a user who has none.
fn known_as(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| format!("user {user}"), |user| user.name)
}

/// The number of an incident, as a command line gives it.
pub(crate) fn number(text: &str) -> Result<i64, UsageError> {
    let wrong = || format!("`{text}` is not the number of an incident: `reliab alert list` shows them");
    text.parse().map_err(|_| UsageError(wrong()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_named_by_the_environment_or_the_system() {
        let all = [("SUDO_USER", "anna"), ("USER", "root"), ("LOGNAME", "toor")];
        assert_eq!(person(&Env::fixed(true, &all)), "anna");
        assert_eq!(person(&Env::fixed(true, &all[1..])), "root");
        assert_eq!(person(&Env::fixed(true, &all[2..])), "toor");
        assert_eq!(person(&Env::fixed(true, &[])), known_as(Uid::current()));
        assert_eq!(known_as(Uid::from_raw(0)), "root");
        assert_eq!(known_as(Uid::from_raw(4_000_000_007)), "user 4000000007");
    }

    #[test]
    fn what_is_no_number_names_no_incident() {
        assert_eq!(number("7").unwrap(), 7);
        let expected = "`abc` is not the number of an incident: `reliab alert list` shows them";
        assert_eq!(number("abc").unwrap_err().to_string(), expected);
        assert!(number("99999999999999999999").is_err());
    }
}
