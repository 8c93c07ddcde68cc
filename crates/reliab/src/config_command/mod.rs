//! `config`: what holds, what may be said, and whether it is well.

mod check;
mod names;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use reliab_common::app::{Global, after_help, run_act};
use reliab_common::config::{Config, ConfigFile};
use reliab_common::failure::ErrorTable;
use reliab_common::paths::Env;

pub use check::{command_problem, section_problems};

/// The command's name, and that of the document of `config show`.
pub const NAME: &str = "config";
/// The name of the document of `config check`.
const CHECK: &str = "config-check";
/// The name of the document of `config schema`.
const SCHEMA: &str = "config-schema";

const EXAMPLES: &str = "  \
  reliab config check                        the file that is used, and whether it is well
  reliab config check --config new.toml      before it takes the place of the old one
  reliab config show                         what holds: the file, and all defaults
  reliab config schema > reliab.schema.json  for an editor that completes and checks keys";

/// Check the configuration, show what holds, or describe its keys.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES), subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What is done with the configuration.
#[derive(Debug, Subcommand)]
enum Action {
    /// Say which file is used and whether it is well, without running anything.
    ///
    /// Warns of names that nothing in the file has, and of secrets that are absent or can be read by others.
    #[command(after_help = after_help(EXAMPLES))]
    Check,
    /// Print the configuration as it holds, with all defaults, as TOML.
    ///
    /// Of secrets only the places are shown.
    #[command(after_help = after_help(EXAMPLES))]
    Show,
    /// Print a JSON Schema of the configuration file, for editors.
    #[command(after_help = after_help(EXAMPLES))]
    Schema,
}

/// The configuration, and where it was found.
struct Found {
    global: Global,
    env: Env,
    /// The file as it was found; `None` where there is none.
    file: Option<ConfigFile>,
    /// The folder from which its paths start when a timer starts a job.
    folder: PathBuf,
    config: Config,
}

impl Found {
    fn read(global: &Global) -> anyhow::Result<Self> {
        let env = Env::of_process();
        let cwd = std::env::current_dir().context("cannot tell the working folder")?;
        let file = ConfigFile::find(global.config.as_deref(), &env, &cwd)?;
        let config = file.as_ref().map_or_else(|| Ok(Config::default()), ConfigFile::parse)?;
        let folder = file.as_ref().and_then(|file| cwd.join(&file.path).parent().map(PathBuf::from));
        Ok(Self { global: global.clone(), env, file, folder: folder.unwrap_or(cwd), config })
    }
}

impl Args {
    /// Does it.
    pub fn run(self, global: &Global) -> ExitCode {
        match self.action {
            Action::Check => {
                run_act(CHECK, &ErrorTable::COMMON, global, |ui| Ok(check::check(&Found::read(global)?, ui)))
            }
            Action::Show => {
                run_act(NAME, &ErrorTable::COMMON, global, |ui| show::show(&Found::read(global)?, ui))
            }
            Action::Schema => run_act(SCHEMA, &ErrorTable::COMMON, global, |ui| Ok(show::describe(ui))),
        }
    }
}
