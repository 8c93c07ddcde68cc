//! Secrets that the configuration names: are they there, and does nobody else see them?

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use reliab_common::config::ConfigFile;
use reliab_common::config::source::NamedSecret;
use reliab_common::failure::plain;
use reliab_common::paths::Env;
use reliab_common::secret::SecretSource;

use crate::doctor::finding::Finding;

/// Looks at each secret that the file names, not into it. Relative files are looked for from `folder`.
pub fn check(file: &ConfigFile, folder: &Path, env: &Env) -> Vec<Finding> {
    let of = |secret: &NamedSecret| match &secret.source {
        SecretSource::File(_) => Some(secret_file(secret, folder, env)),
        SecretSource::Env(name) if env.var(name).is_none() => Some(Finding::warning(
            format!("secret {}", secret.key),
            format!("${name} is not set here"),
            "timers start jobs without your environment: put it into a file, { file = \"…\" }",
        )),
        SecretSource::Env(_) => None,
    };
    file.secrets().iter().filter_map(of).collect()
}

fn secret_file(secret: &NamedSecret, folder: &Path, env: &Env) -> Finding {
    let subject = format!("secret {}", secret.key);
    let path = folder.join(secret.source.file(env).unwrap_or_default());
    let shown = path.display();
    let mode = match readable(&path) {
        Ok(mode) => mode,
        Err(problem) => {
            let step = format!("write the secret into {shown} and chmod 600 it");
            return Finding::critical(subject, problem, step);
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

/// The mode of a file that can be read and has something in it; what is no plain file, such as a pipe, is not opened.
fn readable(path: &Path) -> Result<u32, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read {shown}: {}", plain(&error));
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(format!("{shown} is a folder"));
    }
    if metadata.is_file() {
        File::open(path).map_err(failed)?;
        if metadata.len() == 0 {
            return Err(format!("{shown} is empty"));
        }
    }
    Ok(metadata.permissions().mode() & 0o777)
}
