//! `config check`: is it well, and does it mean what it says?

use std::path::{Path, PathBuf};

use reliab_common::app::document;
use reliab_common::config::Config;
use reliab_common::exit::{Exit, Level};
use reliab_common::failure::UsageError;
use reliab_common::paths::Env;
use reliab_common::ui::Ui;
use reliab_disk::mountinfo::MountTable;
use serde::Serialize;

use super::{CHECK, Found, names};
use crate::install::calendar::on_calendar;
use crate::secrets;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// The file; `null` where there is none.
    file: Option<PathBuf>,
    /// What keeps reliab from doing what the file says.
    problems: Vec<String>,
    /// What is likely not meant so.
    warnings: Vec<String>,
}

/// Tells what is wrong with the configuration, and what seems to be.
pub fn check(found: &Found, ui: &mut Ui) -> Exit {
    let problems = problems(&found.config, &found.env);
    let warnings = warnings(found);
    let path = found.file.as_ref().map(|file| file.path.clone());
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Usage };
    if ui.is_json() {
        ui.json(&document(CHECK, exit, Report { file: path, problems, warnings }));
        return exit;
    }
    let place =
        path.as_deref().map_or("no configuration file".into(), |path: &Path| path.display().to_string());
    problems.iter().for_each(|problem| ui.error(format_args!("{place}: {problem}")));
    warnings.iter().for_each(|warning| ui.warn(format_args!("{place}: {warning}")));
    if problems.is_empty() {
        ui.summary(match (path, warnings.len()) {
            (None, _) => format!("{place}: everything has its default"),
            (Some(_), 0) => format!("{place} is well"),
            (Some(_), 1) => format!("{place} can be used, with 1 warning"),
            (Some(_), count) => format!("{place} can be used, with {count} warnings"),
        });
    }
    exit
}

/// What can be followed, but is likely a mistake: names that nothing has, secrets that are not there or not secret.
fn warnings(found: &Found) -> Vec<String> {
    let mounted: Vec<PathBuf> =
        MountTable::read().unwrap_or_default().mounts.into_iter().map(|mount| mount.point).collect();
    let mut warnings = names::unknown(&found.config, &mounted);
    let secrets = found.file.iter().flat_map(|file| secrets::check(file, &found.folder, &found.env));
    warnings.extend(secrets.filter(|finding| finding.level != Level::Ok).map(|finding| {
        let step = finding.step.map_or(String::new(), |step| format!(": {step}"));
        format!("{}: {}{step}", finding.subject, finding.text)
    }));
    warnings
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
