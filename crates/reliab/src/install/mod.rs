//! `install`: timers of systemd or lines of a crontab, from the section `[schedule]`.

pub mod calendar;
pub mod crontab;
mod hardening;
mod job;
mod plan;
pub mod unit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reliab_common::app::{Tool, after_help, document};
use reliab_common::config::ConfigFile;
use reliab_common::exit::Exit;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::session::Session;
use reliab_common::ui::Ui;
use serde::Serialize;

use crate::systemd::Systemd;
use job::{Job, Setting};
use plan::{Action, Change};

const EXAMPLES: &str = "  \
  reliab install --print                     what would be written
  reliab install                             units in /etc/systemd/system, timers started
  reliab install --user                      the same for the user's own systemd
  reliab install --crontab                   lines in the user's crontab, for machines without systemd
  reliab install --remove                    stop the timers and take the units away";

/// Write timers for the jobs of [schedule] and start them.
///
/// Files that reliab did not write are never replaced. Running it again brings everything up to date: timers of
/// jobs that left the configuration are stopped and removed.
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// Write lines into the user's crontab in place of units.
    #[arg(long, conflicts_with_all = ["user", "dir"])]
    crontab: bool,
    /// Write units of the user's own systemd.
    #[arg(long)]
    user: bool,
    /// Write the units into DIR and start nothing.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print what would be written.
    #[arg(long, conflicts_with_all = ["remove", "dry_run"])]
    print: bool,
    /// Stop the timers and remove what was written.
    #[arg(long)]
    remove: bool,
    /// Show what would be done to which file, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// The program that timers start [default: this one].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    changes: &'a [Change],
    /// Whether systemd was told.
    started: bool,
}

impl Tool for Args {
    const NAME: &'static str = "install";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        if self.print && ui.is_json() {
            let text =
                "cannot use --json with --print, which prints the files themselves; --dry-run has JSON";
            return Err(UsageError(text.into()).into());
        }
        let jobs = if self.remove { Vec::new() } else { self.jobs(session)? };
        let config = owner(session)?;
        if self.crontab {
            return self.install_crontab(&jobs, &config, ui);
        }
        if !self.user {
            warn_of_absent(&jobs, ui);
        }
        let units = self.units(&jobs)?;
        if self.print {
            print(&units, ui);
            return Ok(Exit::Done);
        }
        let folder = self.folder(session)?;
        let changes = plan::plan(&folder, &units, &config)?;
        if let Some(foreign) = changes.iter().find(|change| change.action == Action::Foreign) {
            return Err(UsageError(plan::refusal(&foreign.path)).into());
        }
        let started = !self.dry_run && self.carry_out(&folder, &changes, ui)?;
        self.tell(&changes, started, ui);
        Ok(Exit::Done)
    }
}

impl Args {
    fn jobs(&self, session: &Session) -> anyhow::Result<Vec<Job>> {
        let Some(config_path) =
            session.config_path.as_deref().filter(|_| !session.config.schedule.is_empty())
        else {
            let file = session.config_path.as_deref().unwrap_or(Path::new("/etc/reliab/reliab.toml"));
            let text = format!(
                "nothing is scheduled: write a section such as [schedule.backup] with at = \"02:30\" \
                 into the configuration, {}",
                file.display()
            );
            return Err(UsageError(text).into());
        };
        let config_path = &std::path::absolute(config_path)?;
        let file = ConfigFile::find(Some(config_path), &session.env, Path::new("/"))?;
        let file = file.context("the configuration has gone away")?;
        let program = match &self.program {
            Some(program) => std::path::absolute(program)?,
            None => std::env::current_exe().context("cannot tell where this program is")?,
        };
        let state_dir = session.global.state_dir.as_deref().map(std::path::absolute).transpose()?;
        let setting = Setting {
            program: &program,
            config_path,
            config: &session.config,
            file: &file,
            state_dir: state_dir.as_deref(),
        };
        Ok(setting.jobs()?)
    }

    /// Names and contents of all units.
    fn units(&self, jobs: &[Job]) -> anyhow::Result<Vec<(String, String)>> {
        let mut units = Vec::new();
        for job in jobs {
            let name = unit::name(&job.name);
            let timer =
                unit::timer(job).map_err(|error| UsageError(format!("[schedule.{}]: {error}", job.name)))?;
            units.push((format!("{name}.service"), unit::service(job, self.user)));
            units.push((format!("{name}.timer"), timer));
        }
        Ok(units)
    }

    fn folder(&self, session: &Session) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        if !self.user {
            return Ok("/etc/systemd/system".into());
        }
        let set = |name| session.env.var(name).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let config = config.ok_or_else(|| UsageError("HOME is not set: name a folder with --dir".into()))?;
        Ok(config.join("systemd/user"))
    }

    /// Writes and removes files, with the timers stopped and started around it; whether systemd was told.
    fn carry_out(&self, folder: &Path, changes: &[Change], ui: &mut Ui) -> anyhow::Result<bool> {
        let systemd = Systemd { user: self.user };
        let running = self.dir.is_none() && systemd.is_running();
        let removed = timers(changes, |action| action == Action::Remove);
        if running && !removed.is_empty() {
            systemd.run(&with(&["disable", "--now"], &removed))?;
            // The times of last starts, which systemd keeps in files of its own; older ones cannot forget them.
            let _ = systemd.run(&with(&["clean", "--what=state"], &removed));
        }
        plan::apply(folder, changes)?;
        let wanted = timers(changes, |action| action != Action::Remove);
        if !running {
            if self.dir.is_none() && !wanted.is_empty() {
                ui.warn("systemd does not run here: the timers start with it, once they are enabled");
                ui.warn(format_args!("  {}", systemd.line(&with(&["enable", "--now"], &wanted))));
            }
            return Ok(false);
        }
        systemd.run(&["daemon-reload"])?;
        if !wanted.is_empty() {
            systemd.run(&with(&["enable", "--now"], &wanted))?;
        }
        // A running timer keeps its old calendar until it is started again.
        let replaced = timers(changes, |action| action == Action::Replace);
        if !replaced.is_empty() {
            systemd.run(&with(&["restart"], &replaced))?;
        }
        Ok(true)
    }

    fn tell(&self, changes: &[Change], started: bool, ui: &mut Ui) {
        if ui.is_json() {
            ui.json(&document(Self::NAME, Exit::Done, Report { changes, started }));
            return;
        }
        for change in changes {
            let verb = match (change.action, self.dry_run) {
                (Action::Write, false) => "wrote",
                (Action::Write, true) => "would write",
                (Action::Replace, false) => "replaced",
                (Action::Replace, true) => "would replace",
                (Action::Remove, false) => "removed",
                (Action::Remove, true) => "would remove",
                (Action::Keep | Action::Foreign, _) => "unchanged:",
            };
            ui.summary(format_args!("{verb} {}", change.path.display()));
        }
        if changes.is_empty() {
            ui.summary("nothing to do");
        } else if started && !self.remove {
            let line = Systemd { user: self.user }.line(&["list-timers", "'reliab-*'"]);
            ui.summary(format_args!("the timers run: {line} shows them"));
        }
        if started && self.user && !self.remove {
            ui.summary("they stop when you log out, unless you run: loginctl enable-linger");
        }
    }

    fn install_crontab(&self, jobs: &[Job], config: &Path, ui: &mut Ui) -> anyhow::Result<Exit> {
        let block =
            if self.remove { String::new() } else { crontab::block(jobs, config).map_err(UsageError)? };
        if self.print {
            ui.raw_out(block.as_bytes());
            return Ok(Exit::Done);
        }
        let before = crontab::read()?;
        let after = crontab::merged(&before, &block, config)?;
        let (action, verb) = match (before == after, self.dry_run) {
            (true, _) => (Action::Keep, "unchanged:"),
            (false, true) => (Action::Replace, "would change"),
            (false, false) => (Action::Replace, "changed"),
        };
        if before != after && !self.dry_run {
            crontab::write(&after)?;
        }
        if ui.is_json() {
            let content = String::from_utf8_lossy(&after).into_owned();
            let changes = [Change { path: "crontab".into(), action, content }];
            ui.json(&document(Self::NAME, Exit::Done, Report { changes: &changes, started: !self.dry_run }));
        } else {
            ui.summary(format_args!("{verb} the crontab: crontab -l shows it"));
        }
        Ok(Exit::Done)
    }
}

/// The configuration whose jobs these are: those of another one are left alone.
fn owner(session: &Session) -> anyhow::Result<PathBuf> {
    let Some(path) = &session.config_path else {
        let text = "no configuration is found: name the one whose timers are meant with --config; each unit \
                    says in its second line which one that is";
        return Err(UsageError(text.into()).into());
    };
    Ok(std::path::absolute(path)?)
}

/// Names each secret that is not there, once.
fn warn_of_absent(jobs: &[Job], ui: &mut Ui) {
    let absent: BTreeSet<&PathBuf> = jobs.iter().flat_map(|job| &job.absent).collect();
    for file in absent {
        ui.warn(format_args!(
            "the secret {} is not there: write it, then run reliab install again, so that systemd hands it over",
            file.display()
        ));
    }
}

fn print(units: &[(String, String)], ui: &mut Ui) {
    for (at, (name, content)) in units.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        ui.raw_out(format!("{gap}# {name}\n{content}").as_bytes());
    }
}

/// The names of the timers among the changes.
fn timers(changes: &[Change], wanted: impl Fn(Action) -> bool) -> Vec<String> {
    let names =
        changes.iter().filter(|change| wanted(change.action)).filter_map(|change| change.path.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| plan::has_ending(name, "timer"))
        .collect()
}

fn with<'a>(verb: &[&'a str], units: &'a [String]) -> Vec<&'a str> {
    verb.iter().copied().chain(units.iter().map(String::as_str)).collect()
}
