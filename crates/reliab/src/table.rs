//! The table from command to tool.

use std::process::ExitCode;

use clap::Subcommand;
use reliab_common::app::{Global, Tool, refuse, run_tool};
use reliab_common::exit::{Exit, Level};
use reliab_common::ui::Ui;

use crate::{completions, config_command, doctor, heartbeat, install, man};

/// Declares the commands in the order of the help; a tool is one line.
macro_rules! tools {
    ($($variant:ident = $args:ty),+ $(,)?) => {
        /// Every command with its arguments.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            #[command(flatten)]
            Backup(reliab_backup::Command),
            $($variant(Box<$args>),)+
            #[command(flatten)]
            Alert(reliab_alert::Command),
            Doctor(doctor::Args),
            Config(config_command::Args),
            Completions(completions::Args),
            Man(man::Args),
        }

        impl Command {
            /// Whether it records what it finds, so that rules may have something to say afterwards.
            pub fn records(&self) -> bool {
                match self {
                    Self::Backup(command) => ["backup", "restore", "verify"].contains(&command.name()),
                    Self::Probe(_) | Self::Disk(_) | Self::Heartbeat(_) => true,
                    _ => false,
                }
            }

            /// Runs the command.
            pub fn run(self, global: &Global) -> ExitCode {
                match self {
                    Self::Backup(command) => reliab_backup::run_command(command, global),
                    $(Self::$variant(args) => run_tool(*args, global),)+
                    Self::Alert(command) => reliab_alert::run_command(command, global),
                    Self::Doctor(args) => args.run(global),
                    Self::Config(args) => args.run(global),
                    Self::Completions(args) => told(args.run(&mut Ui::new(global.ui()))),
                    Self::Man(args) => told(args.run(&mut Ui::new(global.ui()))),
                }
            }
        }

        /// Tells why the command line of the command called `name` cannot be understood, with that command's codes.
        pub fn refused(name: &str, error: &clap::Error) -> ExitCode {
            $(if name == <$args>::NAME {
                return refuse::<<$args as Tool>::End>(name, error);
            })+
            if name == "alert" {
                return reliab_alert::refuse_alert(error);
            }
            if name == doctor::NAME {
                return refuse::<Level>(name, error);
            }
            refuse::<Exit>(name, error)
        }
    };
}

tools! {
    Probe = reliab_probe::probe::Args,
    Disk = reliab_disk::Args,
    Heartbeat = heartbeat::Args,
    Status = reliab_status::Args,
    Install = install::Args,
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
