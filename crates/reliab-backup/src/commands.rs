//! The table of this crate's commands.

use std::process::ExitCode;

use clap::Subcommand;
use reliab_common::app::{Global, Tool, run_tool};

use crate::{backup, diff, export, find, ls, manifest, restore, snapshots, verify};

/// Declares the commands in the order of the help.
macro_rules! commands {
    ($($variant:ident = $module:ident),+ $(,)?) => {
        /// A command of this crate with its arguments.
        #[derive(Debug, Subcommand)]
        #[expect(missing_docs, reason = "each variant's text is that of its arguments, shown as help")]
        pub enum Command {
            $($variant(Box<$module::Args>),)+
        }

        impl Command {
            /// The command's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $module::Args::NAME,)+ }
            }
        }

        /// Runs a command of the front binary.
        pub fn run_command(command: Command, global: &Global) -> ExitCode {
            match command { $(Command::$variant(args) => run_tool(*args, global),)+ }
        }
    };
}

commands! {
    Backup = backup,
    Restore = restore,
    Verify = verify,
    Snapshots = snapshots,
    Ls = ls,
    Find = find,
    Diff = diff,
    Manifest = manifest,
    Export = export,
}
