//! The configuration: can it be understood, are its secrets secret, are its scheduled commands commands?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use reliab_common::config::source::NamedSecret;
use reliab_common::config::{Config, ConfigFile};
use reliab_common::failure::plain;
use reliab_common::paths::Env;
use reliab_common::secret::SecretSource;

use super::Patient;
use super::finding::Finding;
use crate::config_command::{command_problem, section_problems};

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
    let Some(file) = &patient.file else { return };
    for secret in file.secrets() {
        match &secret.source {
            SecretSource::File(_) => findings.push(secret_file(&secret, patient)),
            SecretSource::Env(name) if patient.env.var(name).is_none() => findings.push(Finding::warning(
                format!("secret {}", secret.key),
                format!("${name} is not set here"),
                "timers start jobs without your environment: put it into a file, { file = \"…\" }",
            )),
            SecretSource::Env(_) => {}
        }
    }
}

fn secret_file(secret: &NamedSecret, patient: &Patient) -> Finding {
    let subject = format!("secret {}", secret.key);
    let named = secret.source.file(&patient.env).unwrap_or_default();
    let path: PathBuf = patient.folder().join(named);
    let shown = path.display();
    let mode = match fs::metadata(&path) {
        Ok(file) => file.permissions().mode() & 0o777,
        Err(error) => {
            let text = format!("cannot read {shown}: {}", plain(&error));
            return Finding::critical(
                subject,
                text,
                format!("write the secret into {shown} and chmod 600 it"),
            );
        }
    };
    let step = format!("chmod 600 {shown}, and change the secret if others may have read it");
    if mode & 0o007 != 0 {
        Finding::critical(subject, format!("{shown} can be read by everybody (mode {mode:03o})"), step)
    } else if mode & 0o070 != 0 {
        Finding::warning(subject, format!("{shown} can be read by its group (mode {mode:03o})"), step)
    } else {
        Finding::well(subject, shown.to_string())
    }
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
