//! Hints for who types what another tool understands.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of restic, borg and kopia that are called otherwise here, or are not needed.
const COMMANDS: [(&[&str], &str); 15] = [
    (&["init", "create", "rcreate"], "`reliab backup` creates the repository on first use"),
    (
        &["check", "validate"],
        "`reliab verify` checks the repository, and `reliab restore --verify` what comes back",
    ),
    (
        &["list", "list-snapshots", "rlist"],
        "`reliab snapshots` lists the snapshots, and `reliab ls` what is in one",
    ),
    (&["extract", "recover"], "`reliab restore --target DIR` brings files back"),
    (&["dump", "cat", "show"], "`reliab restore SNAPSHOT:PATH --target DIR` brings one file back"),
    (&["export-tar", "tar"], "`reliab export` writes a snapshot as a tar archive"),
    (&["stats", "info", "rinfo"], "`reliab snapshots` shows the sizes of each snapshot"),
    (
        &["mount"],
        "nothing is mounted; `reliab find` and `reliab ls` look, and `reliab restore SNAPSHOT:PATH` takes a part",
    ),
    (&["unlock", "break-lock"], "nothing needs unlocking: a lock ends with the process that holds it"),
    (&["forget", "prune", "delete", "rm"], "there is no retention yet: every snapshot is kept"),
    (&["compact"], "nothing needs compacting: there is no retention yet, and every snapshot is kept"),
    (&["rebuild-index"], "an index is not needed: packs name their content themselves"),
    (
        &["repair"],
        "no command mends a repository yet; under \"Repair\" the README of reliab says how to by hand",
    ),
    (&["tag"], "tags are given when a snapshot is made: reliab backup --tag NAME"),
    (&["key", "passwd"], "nothing is encrypted yet: keep the repository on an encrypted disk"),
];

/// The error with a hint, where a command line was meant for another tool.
pub fn with_hint(mut error: clap::Error, known: &clap::Command, words: &[OsString]) -> clap::Error {
    let hint = match error.kind() {
        ErrorKind::InvalidSubcommand => text(&error, ContextKind::InvalidSubcommand).and_then(of_command),
        ErrorKind::UnknownArgument => {
            text(&error, ContextKind::InvalidArg).and_then(|option| of_place(option, known, words))
        }
        _ => None,
    };
    if let Some(hint) = hint {
        // A likeness of names would lead astray.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(hint)]));
    }
    error
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

fn of_command(name: &str) -> Option<String> {
    let (_, hint) = COMMANDS.iter().find(|(names, _)| names.contains(&name))?;
    Some((*hint).to_owned())
}

/// For an option of a command that stands before it, as restic has it.
fn of_place(option: &str, known: &clap::Command, words: &[OsString]) -> Option<String> {
    let option = option.split(['=', ' ']).next().unwrap_or(option);
    let at = words.iter().position(|word| word.to_str().is_some_and(|word| word.starts_with(option)))?;
    let name = words.iter().skip(at).find_map(|word| known.find_subcommand(word))?;
    let is_its = name.get_arguments().any(|arg| {
        let (long, short) = (arg.get_long(), arg.get_short());
        long.is_some_and(|long| option == format!("--{long}"))
            || short.is_some_and(|short| option == format!("-{short}"))
    });
    let name = name.get_name();
    is_its.then(|| format!("options of a command stand after it: reliab {name} {option} ..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let known = crate::command();
        let error = known.clone().try_get_matches_from(&words).unwrap_err();
        with_hint(error, &known, &words[1..]).render().to_string()
    }

    #[test]
    fn commands_of_other_tools_are_answered() {
        let check = |line: &str, hint: &str| {
            let told = told(line);
            assert!(
                told.contains(&format!("tip: {hint}")) && told.matches("tip:").count() == 1,
                "{line}: {told}"
            );
        };
        check("reliab init", "`reliab backup` creates");
        check("reliab check", "`reliab verify` checks");
        check("reliab unlock", "nothing needs unlocking");
        check("reliab -r /mnt/b snapshots", "options of a command stand after it: reliab snapshots -r ...");
        check(
            "reliab --repo=/mnt/b backup data",
            "options of a command stand after it: reliab backup --repo ...",
        );
        check("reliab bakcup", "a similar subcommand exists: 'backup'");
    }

    #[test]
    fn no_command_that_exists_is_hinted_at_as_another() {
        let known = crate::command();
        for name in COMMANDS.iter().flat_map(|(names, _)| *names) {
            assert!(known.find_subcommand(name).is_none(), "{name}");
        }
        let told = told("reliab --nonsense snapshots");
        assert!(!told.contains("stand after it"), "{told}");
    }
}
