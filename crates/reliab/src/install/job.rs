//! A scheduled job, resolved: everything that a unit or a line of a crontab needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reliab_common::config::schedule::Start;
use reliab_common::config::{Config, ConfigFile};
use reliab_common::failure::UsageError;
use reliab_common::secret::SecretSource;

use crate::config_command::command_problem;

/// The tools after which alerts are evaluated and delivered, unless this option says no.
const EVALUATES: &[&str] = &["backup", "restore", "verify", "probe", "disk", "heartbeat"];
const NO_ALERT: &str = "--no-alert";

/// A job that is to be started by a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name in `[schedule]`.
    pub name: String,
    /// The tool it runs.
    pub tool: String,
    /// The command line, from the program on.
    pub command: Vec<String>,
    /// When it starts.
    pub start: Start,
    /// The time between two starts.
    pub period: Duration,
    /// After how long it is stopped.
    pub timeout: Duration,
    /// The configuration file, in full.
    pub config: PathBuf,
    /// The folder that relative paths are relative to: that of the configuration.
    pub folder: PathBuf,
    /// What it reads, where that is known.
    pub reads: Vec<PathBuf>,
    /// What it must be able to write, besides state and cache.
    pub writes: Vec<PathBuf>,
    /// The secrets it uses: the name in the configuration, the file.
    pub credentials: Vec<(String, PathBuf)>,
    /// Secrets it uses whose file is not there.
    pub absent: Vec<PathBuf>,
    /// The state folder, where it is not the usual one.
    pub state_dir: Option<PathBuf>,
}

/// What all jobs have in common.
pub struct Setting<'a> {
    /// The program that timers start.
    pub program: &'a Path,
    /// The configuration file, in full.
    pub config_path: &'a Path,
    /// What it says.
    pub config: &'a Config,
    /// The file as it was read.
    pub file: &'a ConfigFile,
    /// The state folder, where it is not the usual one.
    pub state_dir: Option<&'a Path>,
}

impl Setting<'_> {
    /// The jobs of `[schedule]`, by name.
    pub fn jobs(&self) -> Result<Vec<Job>, UsageError> {
        self.config.schedule.keys().map(|name| self.job(name)).collect()
    }

    fn job(&self, name: &str) -> Result<Job, UsageError> {
        let scheduled = &self.config.schedule[name];
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(is_plain) {
            let text =
                format!("[schedule.{name:?}]: a name of letters, digits, `-` and `_` can be a timer's");
            return Err(UsageError(text));
        }
        let words = scheduled.command(name);
        command_problem(name, &words)?;
        let folder = self.config_path.parent().unwrap_or(Path::new("/")).to_owned();
        let tool = scheduled.tool(name);
        let (reads, writes) = self.paths(&tool, &words, &folder);
        let secrets = self.secrets(&tool, &words, &folder);
        // systemd would not start a job at all for which a credential is missing.
        let (credentials, absent): (Vec<_>, Vec<_>) =
            secrets.into_iter().partition(|(_, file)| file.exists());
        Ok(Job {
            name: name.to_owned(),
            config: self.config_path.to_owned(),
            command: self.line(words),
            start: scheduled.start,
            period: scheduled.period(),
            timeout: scheduled.timeout(),
            reads,
            writes,
            credentials,
            absent: absent.into_iter().map(|(_, file)| file).collect(),
            state_dir: self.state_dir.map(Path::to_owned),
            tool,
            folder,
        })
    }

    fn line(&self, words: Vec<String>) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let mut line = vec![text(self.program), "--quiet".into(), "--config".into(), text(self.config_path)];
        if let Some(dir) = self.state_dir {
            line.extend(["--state-dir".into(), text(dir)]);
        }
        line.extend(words);
        line
    }

    /// What a job reads and writes, as far as its command line and the configuration say it.
    fn paths(&self, tool: &str, words: &[String], folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let backup = &self.config.backup;
        let repository = || {
            let named = option(words, "--repo").map(PathBuf::from);
            folder.join(named.unwrap_or_else(|| backup.repository.clone()))
        };
        match tool {
            "backup" => {
                let sources = backup.sources.iter().map(|source| folder.join(source)).collect();
                (sources, vec![repository()])
            }
            "restore" | "verify" => (vec![repository()], Vec::new()),
            "status" => {
                let written = option(words, "--output").map(|file| folder.join(file));
                (Vec::new(), written.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect())
            }
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// The job's secrets by plain name: systemd hands them over, so that only the job can read them.
    fn secrets(&self, tool: &str, words: &[String], folder: &Path) -> Vec<(String, PathBuf)> {
        let mut found: Vec<_> = self
            .file
            .secrets()
            .into_iter()
            .filter(|secret| uses(tool, words, &secret.key))
            .filter_map(|secret| match secret.source {
                SecretSource::File(path) if path.components().count() == 1 && path.is_relative() => {
                    Some((path.display().to_string(), folder.join(path)))
                }
                SecretSource::File(_) | SecretSource::Env(_) => None,
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Whether a job needs the secret of this key: a probe those of what it asks, and whoever alerts those of channels and of
/// the ping.
fn uses(tool: &str, words: &[String], key: &str) -> bool {
    let section = key.split(['.', '[']).next().unwrap_or_default();
    match section {
        "channel" | "ping" => {
            tool == "alert" || (EVALUATES.contains(&tool) && !words.iter().any(|word| word == NO_ALERT))
        }
        "probe" | "service" | "uplink" => tool == "probe",
        _ => true,
    }
}

/// The value of an option in a command line, as `--option VALUE` or `--option=VALUE`.
fn option<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        if word == option {
            return words.get(at + 1).map(String::as_str);
        }
        word.strip_prefix(option)?.strip_prefix('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Command;
    use clap::FromArgMatches as _;

    /// The front evaluates alerts after the same tools that are given the secrets for it.
    #[test]
    fn who_evaluates_alerts_has_the_secrets_of_channels() {
        for line in crate::command().get_subcommands() {
            let name = line.get_name().to_owned();
            let words = ["reliab", &name, "x"];
            let words = &words[..if name == "heartbeat" { 3 } else { 2 }];
            let Ok(matches) = crate::command().try_get_matches_from(words) else { continue };
            let records = Command::from_arg_matches(&matches).unwrap().records();
            assert_eq!(EVALUATES.contains(&name.as_str()), records, "{name}");
        }
        for key in ["channel.ops.url", "ping.url"] {
            assert!(uses("backup", &["backup".into()], key));
            assert!(!uses("backup", &["backup".into(), NO_ALERT.into()], key));
        }
    }
}
