//! `status`: its arguments, and what each of them shows.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reliab_common::app::{Tool, after_help_of, document};
use reliab_common::clock::Clock as _;
use reliab_common::exit::Level;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::paths;
use reliab_common::rhythm;
use reliab_common::session::Session;
use reliab_common::state::State;
use reliab_common::table::columns;
use reliab_common::ui::Ui;
use reliab_common::upkeep::up_for;
use serde_json::json;

use crate::due::Due;
use crate::overview::Overview;
use crate::{forget, prometheus, terminal};

const EXAMPLES: &str = "  \
  reliab status                              jobs, checks, open incidents and waiting messages
  reliab status --nagios                     the worst of it in one line
  reliab status --prometheus                 as text for Prometheus
  reliab status --prometheus --output /var/lib/prometheus/node-exporter/reliab.prom
  reliab status --forget 'backup /mnt/try'   a job that was tried, failed and is none";

/// Show what is known: jobs and when they ran, checks, open incidents, messages that wait.
///
/// A scheduled job that is late is CRITICAL, and a result that its job did not repeat in time is a WARNING at least.
/// It reads the state file; all it may note there is since when a job is scheduled, and what to forget. The exit code is that of the worst thing shown.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help_of::<Level>(EXAMPLES))]
pub struct Args {
    /// Print one line with performance data, as monitoring plugins do.
    #[arg(long, conflicts_with_all = ["json", "prometheus"])]
    nagios: bool,
    /// Print metrics in the text format of Prometheus.
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    /// Write the metrics to FILE in one step, for the textfile collector of Prometheus' node exporter.
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    output: Option<PathBuf>,
    /// Show JOB no more until it runs again, such as one that was only tried: its tool and name, as they are shown.
    #[arg(long, value_name = "JOB", conflicts_with_all = ["nagios", "prometheus"])]
    forget: Option<String>,
}

impl Tool for Args {
    const NAME: &'static str = "status";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Level;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Level> {
        let folder = paths::state_dir(session.global.state_dir.as_deref(), &session.env)?;
        let file = folder.join("state.db");
        if !file.exists() {
            let text = format!("nothing was recorded yet: there is no {}; run a job first", file.display());
            return Err(UsageError(text).into());
        }
        let state = State::open(&folder)?;
        let due = Due {
            schedule: &session.config.schedule,
            now: session.clock.now(),
            up: up_for(),
            own: session.env.var(rhythm::VARIABLE).and_then(|name| name.to_str()),
        };
        let overview = Overview::read(&state, &due)?;
        let Some(name) = &self.forget else { return self.show(&overview, ui) };
        let job = forget::find(&overview, &state, &session.config.schedule, name)?;
        forget::forget(&state, job, session.clock.now())?;
        if ui.is_json() {
            ui.json(&document(
                Self::NAME,
                Level::Ok,
                json!({ "forgotten": { "tool": job.tool, "job": job.job } }),
            ));
        }
        ui.summary(format_args!("forgot {name}: it is shown again when it runs"));
        Ok(Level::Ok)
    }
}

impl Args {
    fn show(&self, overview: &Overview, ui: &mut Ui) -> anyhow::Result<Level> {
        let level = overview.level;
        if self.nagios {
            ui.out(terminal::one_line(overview));
            return Ok(level);
        }
        if self.prometheus {
            let text = prometheus::text(overview);
            let Some(file) = &self.output else {
                ui.raw_out(text.as_bytes());
                return Ok(level);
            };
            write_whole(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
            // Whoever writes metrics wants to know that they were written; the level is among them.
            return Ok(Level::Ok);
        }
        if ui.is_json() {
            ui.json(&document(Self::NAME, level, overview));
        } else if !ui.is_quiet() || level != Level::Ok {
            terminal::lines(overview, columns()).into_iter().for_each(|line| ui.out(line));
            if let Some(job) =
                overview.jobs.iter().find(|job| job.level != Level::Ok && job.last_good.is_none())
            {
                let name = job.name().replace('\'', "'\\''");
                ui.note(format_args!("of a job that was only tried: `reliab status --forget '{name}'`"));
            }
        }
        Ok(level)
    }
}

/// Writes a file that others read at any moment: they see the old one or the new one, never a part.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The collector reads files that end in `.prom` only, which a temporary one does not.
    let mut file = tempfile::Builder::new().prefix(".reliab-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    // Another user reads it.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_metrics_is_replaced_whole_and_readable_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reliab.prom");
        write_whole(&path, "one\n").unwrap();
        write_whole(&path, "two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_whole(&dir.path().join("absent/reliab.prom"), "x").is_err());
    }
}
