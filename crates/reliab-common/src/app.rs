//! What is the same for all commands: their options, their `main`, how they end, the documents they print.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches};
use serde::Serialize;

use crate::clock::{Clock as _, SystemClock};
use crate::exit::{Ending, Exit};
use crate::failure::{ErrorTable, Failure};
use crate::paths::{self, Env};
use crate::rhythm;
use crate::session::Session;
use crate::state::{State, StateError};
use crate::ui::{Priority, Ui, UiOptions};

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

    /// What is said about the errors of its engine.
    const ERRORS: &'static ErrorTable;

    /// How it ends: as a job or as a check.
    type End: Ending;

    /// Does it; what it finds is printed, and an error is told by the caller.
    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Self::End>;
}

/// The text below a job's options: examples, then the exit codes.
pub fn after_help(examples: &str) -> String {
    after_help_of::<Exit>(examples)
}

/// The text below the options of a command that ends in its own way: examples, then the exit codes.
pub fn after_help_of<E: Ending>(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{}", E::HELP)
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
        Ok((global, tool)) => run_tool(tool, &global),
        Err(error) => refuse::<T::End>(T::NAME, &error),
    }
}

/// Runs a command whose line was understood.
pub fn run_tool<T: Tool>(tool: T, global: &Global) -> ExitCode {
    run_act(T::NAME, T::ERRORS, global, |ui| {
        Session::open(T::NAME, T::ERRORS, global).and_then(|session| tool.run(&session, ui))
    })
}

/// Runs a command that must also work where the configuration does not.
pub fn run_act<E: Ending>(
    name: &'static str,
    errors: &ErrorTable,
    global: &Global,
    act: impl FnOnce(&mut Ui) -> anyhow::Result<E>,
) -> ExitCode {
    let mut ui = Ui::new(global.ui());
    let result = act(&mut ui);
    ui.progress().finish();
    // An error is no verdict, also where both end with the same code.
    let did_its_work = result.as_ref().is_ok_and(|end| rhythm::is_good(end.name()));
    let end = result.unwrap_or_else(|error| tell(name, errors, &error, &mut ui));
    if did_its_work && let Err(error) = note_scheduled(name, global) {
        ui.warn(format_args!("this run will be missed: {}", crate::failure::plain(&error)));
    }
    match ui.finish() {
        Ok(()) => ExitCode::from(end.code()),
        Err(error) => {
            ui.error(format_args!("cannot write to stdout: {}", crate::failure::plain(&error)));
            ExitCode::from(end.worst(E::failed(Exit::Failed)).code())
        }
    }
}

/// Notes that a job of `[schedule]` did its work, also one whose tool records no runs.
fn note_scheduled(name: &str, global: &Global) -> Result<(), StateError> {
    let env = Env::of_process();
    let Some(job) = env.var(rhythm::VARIABLE).and_then(|name| name.to_str()) else { return Ok(()) };
    // Without a folder for the state, the tool itself has said so.
    let Ok(folder) = paths::state_dir(global.state_dir.as_deref(), &env) else { return Ok(()) };
    // `alert-check` is the tool `alert`.
    let tool = name.split('-').next().unwrap_or(name);
    rhythm::note(&State::open(&folder)?, job, tool, SystemClock.now())
}

/// Tells why a command line cannot be understood, or shows the help that was asked for.
pub fn refuse<E: Ending>(name: &str, error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    let end = E::failed(Exit::Usage);
    let mut ui = Ui::new(UiOptions { json: wants_json, ..UiOptions::default() });
    let text = error.render().to_string();
    if error.use_stderr() && wants_json {
        let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        ui.json(&document(name, end, Told { error: text }));
        drop(ui.finish());
    }
    if error.use_stderr() && ui.tells_journal() {
        drop(ui.deliver(Priority::Error, text.trim_end()));
        return ExitCode::from(end.code());
    }
    // Nobody is left to be told that a terminal has gone away.
    drop(error.print());
    if error.use_stderr() { ExitCode::from(end.code()) } else { ExitCode::SUCCESS }
}

/// Tells an error as text and, where asked for, as JSON.
fn tell<E: Ending>(name: &str, errors: &ErrorTable, error: &anyhow::Error, ui: &mut Ui) -> E {
    let failure = Failure::of(error, errors);
    let end = E::failed(failure.exit);
    if ui.pipe_closed() {
        return end;
    }
    ui.error(&failure.text);
    if ui.is_json() {
        ui.json(&document(name, end, Told { error: failure.text }));
    }
    end
}

/// The body of a document about a failure.
#[derive(Serialize)]
struct Told {
    error: String,
}

/// What `--json` prints: the same beginning for every command.
#[derive(Serialize)]
pub struct Document<T> {
    schema: String,
    exit: u8,
    outcome: &'static str,
    #[serde(flatten)]
    body: T,
}

/// The document of a command that ended so.
pub fn document<E: Ending, T: Serialize>(name: &str, end: E, body: T) -> Document<T> {
    Document { schema: schema(name), exit: end.code(), outcome: end.name(), body }
}

/// The name and version of what a command prints as JSON.
pub fn schema(name: &str) -> String {
    format!("reliab.{name}.v1")
}
