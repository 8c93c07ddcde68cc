//! `config`: is the configuration well?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use reliab_common::app::{Global, after_help, document, run_act};
use reliab_common::config::{Config, ConfigFile};
use reliab_common::exit::Exit;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::paths::Env;
use reliab_common::ui::Ui;
use serde::Serialize;

use crate::install::calendar::on_calendar;

/// The command's name.
pub const NAME: &str = "config";

const EXAMPLES: &str = "  \
  reliab config check                        the file that is used, and whether it is well
  reliab config check --config new.toml      before it takes the place of the old one";

/// Check the configuration.
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
    #[command(after_help = after_help(EXAMPLES))]
    Check,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// The file; `null` where there is none.
    file: Option<PathBuf>,
    problems: Vec<String>,
}

impl Args {
    /// Does it.
    pub fn run(self, global: &Global) -> ExitCode {
        run_act(NAME, &ErrorTable::COMMON, global, |ui| match self.action {
            Action::Check => check(global, ui),
        })
    }
}

fn check(global: &Global, ui: &mut Ui) -> anyhow::Result<Exit> {
    let env = Env::of_process();
    let cwd = std::env::current_dir().context("cannot tell the working folder")?;
    let file = ConfigFile::find(global.config.as_deref(), &env, &cwd)?;
    let config = file.as_ref().map_or_else(|| Ok(Config::default()), ConfigFile::parse)?;
    let problems = problems(&config, &env);
    let path = file.map(|file| file.path);
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Usage };
    if ui.is_json() {
        ui.json(&document(NAME, exit, Report { file: path, problems }));
        return Ok(exit);
    }
    let place =
        path.as_deref().map_or("no configuration file".into(), |path: &Path| path.display().to_string());
    if problems.is_empty() {
        ui.summary(match path {
            Some(_) => format!("{place} is well"),
            None => format!("{place}: everything has its default"),
        });
    }
    problems.iter().for_each(|problem| ui.error(format_args!("{place}: {problem}")));
    Ok(exit)
}

/// What only the parts of reliab that use a section can tell.
fn problems(config: &Config, env: &Env) -> Vec<String> {
    let mut problems = section_problems(config, env);
    problems.extend(
        config
            .schedule
            .iter()
            .filter_map(|(name, job)| command_problem(name, &job.command(name)).err())
            .map(|error| error.0),
    );
    problems
}

/// The same without the command lines of scheduled jobs.
pub fn section_problems(config: &Config, env: &Env) -> Vec<String> {
    let mut problems = reliab_probe::check_config(config, env);
    problems.extend(reliab_disk::check_config(config).err().map(|error| error.0));
    problems.extend(reliab_alert::rule::Rules::of(config).err());
    problems.extend(config.schedule.iter().filter_map(|(name, job)| {
        on_calendar(job.start).err().map(|error| format!("[schedule.{name}]: {error}"))
    }));
    problems
}

/// Says why reliab would refuse the command line of a scheduled job.
pub fn command_problem(name: &str, words: &[String]) -> Result<(), UsageError> {
    let line = ["reliab".to_owned()].into_iter().chain(words.iter().cloned());
    let Err(error) = crate::command().try_get_matches_from(line) else { return Ok(()) };
    let said = error.render().to_string();
    let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Err(UsageError(format!("[schedule.{name}]: `reliab {}`: {said}", words.join(" "))))
}
