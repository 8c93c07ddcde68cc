//! The table of commands, and what is the same for all of them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Subcommand};
use reliab_common::exit::{Exit, JOB_EXIT_HELP};
use reliab_common::ui::{Ui, UiOptions};
use serde::Serialize;

use crate::failure::Failure;
use crate::session::Session;
use crate::{backup, diff, export, find, ls, manifest, restore, snapshots, verify};

/// Options that every command has.
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Read the configuration from this file [default: `$RELIAB_CONFIG`, or the first found of ./reliab.toml, the user's and /etc/reliab/reliab.toml].
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub config: Option<PathBuf>,
    /// Keep the record of runs in this folder.
    #[arg(long, global = true, value_name = "DIR", display_order = 901)]
    pub state_dir: Option<PathBuf>,
    /// Keep what makes the next run fast in this folder.
    #[arg(long, global = true, value_name = "DIR", display_order = 902)]
    pub cache_dir: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long, global = true, display_order = 903)]
    pub json: bool,
    /// Print results, warnings and errors only.
    #[arg(long, short, global = true, display_order = 904)]
    pub quiet: bool,
    /// Print more about what is done.
    #[arg(long, short, global = true, conflicts_with = "quiet", display_order = 905)]
    pub verbose: bool,
    /// Show no progress, even on a terminal.
    #[arg(long, global = true, display_order = 906)]
    pub no_progress: bool,
}

impl Global {
    /// What of this concerns the output.
    pub fn ui(&self) -> UiOptions {
        let progress = self.no_progress.then_some(false);
        UiOptions { json: self.json, quiet: self.quiet, progress, verbose: self.verbose }
    }
}

/// A command: arguments that know what to do.
pub trait Tool: Args {
    /// The command's name on the command line and in `"schema"`.
    const NAME: &'static str;

    /// Does it; what it finds is printed, and an error is told by the caller.
    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit>;
}

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

            fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
                match self { $(Self::$variant(args) => args.run(session, ui),)+ }
            }
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

/// The text below a command's options: examples, then the exit codes.
pub fn after_help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{JOB_EXIT_HELP}")
}

/// The whole `main` of a binary that is one command.
pub fn main_of<T: Tool>(binary: &'static str) -> ExitCode {
    let command = T::augment_args(Global::augment_args(clap::Command::new(binary)))
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100);
    let parsed = command
        .try_get_matches()
        .and_then(|matches| Ok((Global::from_arg_matches(&matches)?, T::from_arg_matches(&matches)?)));
    match parsed {
        Ok((global, tool)) => execute(T::NAME, &global, |session, ui| tool.run(session, ui)),
        Err(error) => refuse(T::NAME, &error),
    }
}

/// Runs a command of the front binary.
pub fn run_command(command: Command, global: &Global) -> ExitCode {
    execute(command.name(), global, |session, ui| command.run(session, ui))
}

/// Tells why a command line cannot be understood, or shows the help that was asked for.
pub fn refuse(name: &str, error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        let mut ui = Ui::new(UiOptions { json: true, ..UiOptions::default() });
        let text = error.render().to_string();
        let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        ui.json(&Document {
            schema: schema(name),
            exit: Exit::Usage,
            outcome: Exit::Usage,
            body: Told { error: text },
        });
        drop(ui.finish());
    }
    // Nobody is left to be told that a terminal has gone away.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
}

fn execute(
    name: &'static str,
    global: &Global,
    act: impl FnOnce(&Session, &mut Ui) -> anyhow::Result<Exit>,
) -> ExitCode {
    let mut ui = Ui::new(global.ui());
    let result = Session::open(name, global).and_then(|session| act(&session, &mut ui));
    ui.progress().finish();
    let exit = result.unwrap_or_else(|error| tell(name, &error, &mut ui));
    match ui.finish() {
        Ok(()) => exit.into(),
        Err(error) => {
            ui.error(format_args!("cannot write to stdout: {}", crate::failure::plain(&error)));
            exit.worst(Exit::Failed).into()
        }
    }
}

/// Tells an error as text and, where asked for, as JSON.
fn tell(name: &str, error: &anyhow::Error, ui: &mut Ui) -> Exit {
    let failure = Failure::of(error);
    if ui.pipe_closed() {
        return failure.exit;
    }
    ui.error(&failure.text);
    if ui.is_json() {
        ui.json(&document(name, failure.exit, Told { error: failure.text }));
    }
    failure.exit
}

/// The body of a document about a failure.
#[derive(Serialize)]
struct Told {
    error: String,
}

/// What `--json` prints: the same beginning for every command.
#[derive(Serialize)]
pub(crate) struct Document<T> {
    schema: String,
    #[serde(serialize_with = "code")]
    exit: Exit,
    outcome: Exit,
    #[serde(flatten)]
    body: T,
}

/// The document of a command that ended with `exit`.
pub(crate) fn document<T: Serialize>(name: &str, exit: Exit, body: T) -> Document<T> {
    Document { schema: schema(name), exit, outcome: exit, body }
}

/// The name and version of what a command prints as JSON.
pub(crate) fn schema(name: &str) -> String {
    format!("reliab.{name}.v1")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn code<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}
