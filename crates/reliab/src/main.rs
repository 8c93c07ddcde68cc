//! The front door: a table from command to tool.

use std::process::ExitCode;

use clap::{Args, FromArgMatches, Subcommand};
use reliab_backup::Global;

/// Every command.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Backup(reliab_backup::Command),
}

/// The whole command line, built from the tools' own argument types.
fn command() -> clap::Command {
    let front = Global::augment_args(clap::Command::new("reliab"));
    Command::augment_subcommands(front)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Backups that are proven restorable, for services on machines their team looks after")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
}

fn main() -> ExitCode {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Ok((Global::from_arg_matches(&matches)?, Command::from_arg_matches(&matches)?)));
    match parsed {
        Ok((global, Command::Backup(command))) => reliab_backup::run_command(command, &global),
        Err(error) => reliab_backup::app::refuse("reliab", &error),
    }
}
