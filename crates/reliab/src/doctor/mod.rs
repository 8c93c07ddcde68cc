//! `doctor`: what is wrong with this installation, and what to do about it.

mod channels;
mod clock;
mod configuration;
mod disks;
pub mod finding;
mod ping;
mod state;
mod timers;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use reliab_common::app::{Global, after_help_of, document, run_act};
use reliab_common::clock::{Clock as _, SystemClock};
use reliab_common::config::{Config, ConfigFile};
use reliab_common::exit::Level;
use reliab_common::failure::ErrorTable;
use reliab_common::paths::{self, Env};
use reliab_common::state::State;
use reliab_common::table;
use reliab_common::ui::Ui;
use serde::Serialize;

use crate::systemd::Systemd;
use finding::Finding;

/// The command's name.
pub const NAME: &str = "doctor";

const EXAMPLES: &str = "  \
  reliab doctor                              look at everything; what to do stands below each finding
  reliab doctor --quiet                      nothing, unless something is wrong
  reliab doctor --nagios                     one line, for monitoring systems";

/// Find what is wrong with this installation, and say what to do.
///
/// Looks at the configuration, secrets, the state file, the clock, timers, channels, and at which disk the
/// repository is on. It mends nothing; all it writes are notes of its own in the state file.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help_of::<Level>(EXAMPLES))]
pub struct Args {
    /// Look at the timers of the user's own systemd.
    #[arg(long)]
    user: bool,
    /// Print one line, as monitoring plugins do.
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
}

/// What there is to look at.
struct Patient {
    env: Env,
    now: DateTime<Utc>,
    /// The configuration file, in full, if there is one that can be read.
    file: Option<ConfigFile>,
    /// What it says; all defaults where it cannot be understood.
    config: Config,
    systemd: Systemd,
    state: Option<State>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
}

impl Args {
    /// Looks at everything.
    pub fn run(self, global: &Global) -> ExitCode {
        run_act(NAME, &ErrorTable::COMMON, global, |ui| self.examine(global, ui))
    }

    fn examine(&self, global: &Global, ui: &mut Ui) -> anyhow::Result<Level> {
        let env = Env::of_process();
        let cwd = std::env::current_dir().context("cannot tell the working folder")?;
        let mut findings = Vec::new();
        let (file, config) = configuration::read(global.config.as_deref(), &env, &cwd, &mut findings);
        let folder = paths::state_dir(global.state_dir.as_deref(), &env);
        let state = state::open(folder, SystemClock.now(), &mut findings);
        let systemd = Systemd { user: self.user };
        let patient = Patient { env, now: SystemClock.now(), file, config, systemd, state };
        configuration::secrets(&patient, &mut findings);
        configuration::sections(&patient, &mut findings);
        configuration::commands(&patient, &mut findings);
        clock::check(&patient, &mut findings);
        disks::check(&patient, &mut findings);
        channels::check(&patient, &mut findings);
        ping::check(&patient, &mut findings);
        timers::check(&patient, &mut findings);
        Ok(self.tell(&findings, ui))
    }

    fn tell(&self, findings: &[Finding], ui: &mut Ui) -> Level {
        let level = findings.iter().map(|finding| finding.level).fold(Level::Ok, Level::worst);
        if self.nagios {
            ui.out(one_line(findings, level));
        } else if ui.is_json() {
            ui.json(&document(NAME, level, Report { findings }));
        } else {
            let shown = findings.iter().filter(|finding| finding.level != Level::Ok || !ui.is_quiet());
            let columns = columns();
            let lines: Vec<String> = shown.flat_map(|finding| finding.lines(columns)).collect();
            lines.into_iter().for_each(|line| ui.out(line));
        }
        level
    }
}

impl Patient {
    /// The folder that relative paths of the configuration are relative to when a timer starts a job.
    fn folder(&self) -> PathBuf {
        let file = self.file.as_ref().and_then(|file| file.path.parent());
        file.map_or_else(|| std::env::current_dir().unwrap_or_default(), PathBuf::from)
    }
}

/// `$COLUMNS`, else those of the terminal; `None` where lines may have any length.
fn columns() -> Option<usize> {
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    wanted.filter(|&columns| columns > 0).or_else(table::columns)
}

fn one_line(findings: &[Finding], level: Level) -> String {
    let bad: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
    let text: Vec<String> =
        bad.iter().map(|finding| format!("{}: {}", finding.subject, finding.text)).collect();
    let text = if text.is_empty() { "nothing is wrong".into() } else { text.join("; ") };
    let text = text.replace('|', "/").replace('\n', " ");
    format!("DOCTOR {} - {text} | findings={}", level.name().to_uppercase(), bad.len())
}
