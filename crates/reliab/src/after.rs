//! After a tool that recorded something: alerts are evaluated and delivered at once.

use clap::{ArgMatches, Args, FromArgMatches as _};
use reliab_alert::AlertArgs;
use reliab_common::app::Global;
use reliab_common::config::{Config, ConfigFile};
use reliab_common::paths::Env;

/// What the front door does besides running a tool.
#[derive(Debug, Args)]
pub struct After {
    /// Leave alerts to the next run of `reliab alert`.
    #[arg(long, global = true, display_order = 907, help_heading = "Options of every command")]
    no_alert: bool,
}

impl After {
    /// Whether alerts are evaluated after the tool of this command line.
    pub fn wanted(&self, matches: &ArgMatches) -> bool {
        // `disk` measures in processes of its own, which find nothing out by themselves.
        let measures = |tool: &ArgMatches| tool.try_contains_id("measure").unwrap_or(false);
        !self.no_alert && !matches.subcommand().is_some_and(|(_, tool)| measures(tool))
    }
}

/// Runs `reliab alert`, where rules or channels are configured; the tool's own exit code stands.
pub fn evaluate(global: &Global) {
    if !is_configured(global) {
        return;
    }
    let line = AlertArgs::augment_args(clap::Command::new("reliab-alert"));
    let args =
        line.try_get_matches_from(["reliab-alert"]).and_then(|line| AlertArgs::from_arg_matches(&line));
    if let Ok(args) = args {
        // Stdout is the tool's; what goes wrong is told on stderr.
        let global = Global { json: false, quiet: true, verbose: false, ..global.clone() };
        reliab_alert::run_command(reliab_alert::Command::Alert(Box::new(args)), &global);
    }
}

/// A configuration that cannot be understood was told of by the tool itself.
fn is_configured(global: &Global) -> bool {
    let Ok(cwd) = std::env::current_dir() else { return false };
    let file = ConfigFile::find(global.config.as_deref(), &Env::of_process(), &cwd);
    let config = file.ok().flatten().and_then(|file| file.parse().ok());
    config.is_some_and(|config: Config| !config.rule.is_empty() || !config.channel.is_empty())
}
