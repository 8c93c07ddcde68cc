//! The front door: a table from command to tool.

mod completions;
mod man;

use std::process::ExitCode;

use clap::{Args, FromArgMatches, Subcommand};
use reliab_common::app::{Global, refuse};
use reliab_common::exit::{Exit, JOB_EXIT_HELP};
use reliab_common::ui::Ui;

/// Every command, in the order of the help.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Backup(reliab_backup::Command),
    Completions(completions::Args),
    Man(man::Args),
}

/// The whole command line, built from the tools' own argument types.
fn command() -> clap::Command {
    let front = Global::augment_args(clap::Command::new("reliab"));
    Command::augment_subcommands(front)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Backups that are proven restorable, for services on machines their team looks after")
        .after_help(JOB_EXIT_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
}

/// The command that a command line names, for the document about why it cannot be understood.
fn named() -> String {
    let words: Vec<String> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
    let known = command();
    let name = words.iter().find(|word| known.find_subcommand(word.as_str()).is_some());
    name.map_or_else(|| "reliab".to_owned(), Clone::clone)
}

fn main() -> ExitCode {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Ok((Global::from_arg_matches(&matches)?, Command::from_arg_matches(&matches)?)));
    match parsed {
        Ok((global, Command::Backup(command))) => reliab_backup::run_command(command, &global),
        Ok((global, Command::Completions(args))) => told(args.run(&mut Ui::new(global.ui()))),
        Ok((global, Command::Man(args))) => told(args.run(&mut Ui::new(global.ui()))),
        Err(error) => refuse::<Exit>(&named(), &error),
    }
}

/// The exit of a command that only writes; a failure is told.
fn told(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Ui::new(reliab_common::ui::UiOptions::default()).error(error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
