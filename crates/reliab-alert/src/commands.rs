//! The table of this crate's commands.

use std::process::ExitCode;

use clap::{Args as _, FromArgMatches, Subcommand};
use reliab_common::app::{Global, Tool, refuse, run_act, run_tool};
use reliab_common::exit::{Exit, Level};
use reliab_common::session::Session;

use crate::deliver::tell_unread;
use crate::{ack, alert, check, list, silence_command, simulate, test_command, why};

/// A command of this crate with its arguments.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the text is that of the arguments, shown as help")]
pub enum Command {
    Alert(Box<AlertArgs>),
}

/// Evaluate rules and deliver alerts; list, explain, silence them.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    evaluate: alert::Args,
}

/// What stands behind `alert`.
#[derive(Debug, Subcommand)]
enum Action {
    Check(check::Args),
    List(list::Args),
    Why(why::Args),
    Ack(ack::Args),
    Silence(silence_command::Args),
    Unsilence(silence_command::Unsilence),
    Simulate(simulate::Args),
    Test(test_command::Args),
}

impl Command {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        alert::Args::NAME
    }
}

/// Runs a command of the front binary.
pub fn run_command(command: Command, global: &Global) -> ExitCode {
    let Command::Alert(args) = command;
    run(*args, global)
}

fn run(args: AlertArgs, global: &Global) -> ExitCode {
    match args.action {
        None => evaluate(args.evaluate, global),
        Some(Action::Check(args)) => run_tool(args, global),
        Some(Action::List(args)) => run_tool(args, global),
        Some(Action::Why(args)) => run_tool(args, global),
        Some(Action::Ack(args)) => run_tool(args, global),
        Some(Action::Silence(args)) => run_tool(args, global),
        Some(Action::Unsilence(args)) => run_tool(args, global),
        Some(Action::Simulate(args)) => run_tool(args, global),
        Some(Action::Test(args)) => run_tool(args, global),
    }
}

/// Evaluates and delivers; where the configuration cannot be read, the channels in it that can be are told so.
fn evaluate(args: alert::Args, global: &Global) -> ExitCode {
    let (name, errors) = (alert::Args::NAME, alert::Args::ERRORS);
    run_act(name, errors, global, |ui| match Session::open(name, errors, global) {
        Ok(session) => args.run(&session, ui),
        Err(error) => {
            if !args.no_delivery
                && let Some(unread) = error.downcast_ref()
                && let Err(error) = tell_unread(global, unread, ui)
            {
                ui.warn(format_args!("no channel is told: {error:#}"));
            }
            Err(error)
        }
    })
}

/// Tells why a command line that begins with `alert` cannot be understood: `check` ends as a check, the rest as a job.
pub fn refuse_alert(error: &clap::Error) -> ExitCode {
    let check = std::env::args_os().skip(1).any(|word| word == "check");
    if check { refuse::<Level>(check::Args::NAME, error) } else { refuse::<Exit>(alert::Args::NAME, error) }
}

/// The whole `main` of `reliab-alert`.
pub fn main() -> ExitCode {
    let command = AlertArgs::augment_args(Global::augment_args(clap::Command::new("reliab-alert")))
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100);
    let parsed = command.try_get_matches().and_then(|matches| {
        Ok((Global::from_arg_matches(&matches)?, AlertArgs::from_arg_matches(&matches)?))
    });
    match parsed {
        Ok((global, args)) => run(args, &global),
        Err(error) => refuse_alert(&error),
    }
}
