//! The front door: one command line for all tools.

mod after;
mod completions;
mod config_command;
mod doctor;
mod heartbeat;
mod hint;
mod install;
mod man;
mod secrets;
mod systemd;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Subcommand};
use reliab_common::app::Global;
use reliab_common::exit::{CHECK_EXIT_HELP, JOB_EXIT_HELP};

use after::After;
use table::Command;

/// The whole command line, built from the tools' own argument types.
fn command() -> clap::Command {
    let front = After::augment_args(Global::augment_args(clap::Command::new("reliab")));
    let checks = CHECK_EXIT_HELP.trim_start_matches("Exit codes:");
    Command::augment_subcommands(front)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Backups that are proven restorable, and checks that tell, for services on machines their team looks after")
        .after_help(format!("{JOB_EXIT_HELP}\n\nExit codes of probe, disk, status, doctor and alert check:{checks}"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
}

/// The command that a command line names, for the document about why it cannot be understood.
fn named(known: &clap::Command, words: &[OsString]) -> String {
    let name = words.iter().find_map(|word| known.find_subcommand(word));
    name.map_or("reliab", clap::Command::get_name).to_owned()
}

/// Tells why a command line cannot be understood.
fn refused(error: clap::Error) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let known = command();
    table::refused(&named(&known, &words), &hint::with_hint(error, &known, &words))
}

fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| {
        let (global, after) = (Global::from_arg_matches(&matches)?, After::from_arg_matches(&matches)?);
        let after = after.wanted(&matches);
        Ok((global, after, Command::from_arg_matches(&matches)?))
    });
    match parsed {
        Ok((global, after, command)) => {
            let evaluates = after && command.records();
            let exit = command.run(&global);
            if evaluates {
                after::evaluate(&global);
            }
            exit
        }
        Err(error) => refused(error),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
