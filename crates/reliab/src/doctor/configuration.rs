//! The configuration: can it be understood, are its secrets secret, are its scheduled commands commands?

use std::path::Path;

use reliab_common::config::{Config, ConfigFile};
use reliab_common::failure::plain;
use reliab_common::paths::Env;

use super::Patient;
use super::finding::Finding;
use crate::config_command::{command_problem, section_problems};
use crate::secrets;

const SUBJECT: &str = "configuration";

/// Reads the file, or says why that cannot be.
pub fn read(
    explicit: Option<&Path>,
    env: &Env,
    cwd: &Path,
    findings: &mut Vec<Finding>,
) -> (Option<ConfigFile>, Config) {
    let step = "mend the file; `reliab config check` says whether it is well";
    let file = match ConfigFile::find(explicit, env, cwd) {
        Ok(file) => file,
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map_or(String::new(), |cause| format!(": {}", plain(cause)));
            findings.push(Finding::critical(SUBJECT, format!("{error}{cause}"), step));
            None
        }
    };
    let Some(file) = file else {
        if findings.is_empty() {
            findings.push(Finding::well(SUBJECT, "there is no file; everything has its default"));
        }
        return (None, Config::default());
    };
    let file = ConfigFile { path: cwd.join(&file.path), content: file.content };
    match file.parse() {
        Ok(config) => {
            findings.push(Finding::well(SUBJECT, file.path.display().to_string()));
            (Some(file), config)
        }
        Err(error) => {
            findings.push(Finding::critical(SUBJECT, error.to_string(), step));
            (Some(file), Config::default())
        }
    }
}

/// Looks at each secret that the configuration names, not into it.
pub fn secrets(patient: &Patient, findings: &mut Vec<Finding>) {
    let file = patient.file.iter();
    findings.extend(file.flat_map(|file| secrets::check(file, &patient.folder(), &patient.env)));
}

/// A section that the tool it is for would refuse.
pub fn sections(patient: &Patient, findings: &mut Vec<Finding>) {
    let step = "mend the file; `reliab config check` says whether it is well";
    let problems = section_problems(&patient.config, &patient.env);
    findings.extend(problems.into_iter().map(|problem| Finding::critical(SUBJECT, problem, step)));
}

/// A scheduled command line that reliab itself would refuse never runs.
pub fn commands(patient: &Patient, findings: &mut Vec<Finding>) {
    for (name, job) in &patient.config.schedule {
        if let Err(error) = command_problem(name, &job.command(name)) {
            let step = format!("mend `command` in [schedule.{name}], then run: reliab install");
            findings.push(Finding::critical(format!("job {name}"), error.to_string(), step));
        }
    }
}
