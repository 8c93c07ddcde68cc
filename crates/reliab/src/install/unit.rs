//! A job as a service and a timer of systemd.

use std::path::Path;

use super::calendar::{on_calendar, spread};
use super::hardening;
use super::job::Job;
use super::plan::head;

/// Tools that end like monitoring plugins: what they found is told by alerts, the run itself went well.
const CHECKS: &[&str] = &["probe", "disk", "status", "doctor"];

/// The name of a job's unit without its ending.
pub fn name(job: &str) -> String {
    format!("reliab-{job}")
}

/// The service.
pub fn service(job: &Job, user: bool) -> String {
    let mut text = format!(
        "{head}# Changes belong in a drop-in: systemctl edit {unit}.service\n\n[Unit]\nDescription=reliab job {name}\n\
         Wants=network-online.target\nAfter=network-online.target\n",
        head = head(&job.config),
        unit = name(&job.name),
        name = job.name,
    );
    let mounts = job.reads.iter().chain(&job.writes).map(|path| quoted(&path.display().to_string()));
    // A backup to a disk that is not mounted would fill the one below its mount point.
    push_list(&mut text, "RequiresMountsFor", mounts);
    text.push_str("\n[Service]\nType=oneshot\n");
    for folder in job.writes.iter().chain(&job.state_dir) {
        // Whatever is not there yet cannot be made writable for the job.
        let folder = quoted(&folder.display().to_string());
        let privileged = if user { "" } else { "+" };
        text.push_str(&format!("ExecStartPre={privileged}/bin/mkdir -p {folder}\n"));
    }
    let line: Vec<String> = job.command.iter().map(|word| quoted(word)).collect();
    text.push_str(&format!("ExecStart={}\n", line.join(" ")));
    text.push_str(&format!("Environment=RELIAB_SCHEDULE={}\n", job.name));
    text.push_str(&format!("WorkingDirectory={}\n", escaped(&job.folder.display().to_string())));
    if CHECKS.contains(&job.tool.as_str()) {
        text.push_str("SuccessExitStatus=1 2\n");
    }
    text.push_str(&format!("TimeoutStartSec={}\n", job.timeout.as_secs().max(1)));
    text.push_str("UMask=0077\n");
    if !user {
        text.push_str(&own_folders(job));
    }
    text + &hardening::lines(job, user)
}

/// State, cache, secrets, and what else may be written.
fn own_folders(job: &Job) -> String {
    let mut text = String::new();
    if job.state_dir.is_none() {
        text.push_str("StateDirectory=reliab\nStateDirectoryMode=0700\n");
    }
    text.push_str("CacheDirectory=reliab\nCacheDirectoryMode=0700\n");
    for (name, file) in &job.credentials {
        text.push_str(&format!(
            "LoadCredential={}:{}\n",
            escaped(name),
            escaped(&file.display().to_string())
        ));
    }
    // The minus: the folder is made right before the job itself starts.
    let writable = |path: &Path| quoted(&format!("-{}", path.display()));
    push_list(
        &mut text,
        "ReadWritePaths",
        job.writes.iter().chain(&job.state_dir).map(|path| writable(path)),
    );
    text
}

/// The timer.
///
/// `OnCalendar=` always has a next start; a timer that counts from its unit's last activation alone can end up
/// without any.
pub fn timer(job: &Job) -> Result<String, String> {
    let calendar = on_calendar(job.start)?;
    let spread = spread(job.period).as_secs();
    Ok(format!(
        "{head}# Changes belong in a drop-in: systemctl edit {unit}.timer\n\n[Unit]\nDescription=Timer of the reliab job {name}\n\n\
         [Timer]\nOnCalendar={calendar}\nPersistent=true\nRandomizedDelaySec={spread}\nFixedRandomDelay=true\n\
         AccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n",
        head = head(&job.config),
        unit = name(&job.name),
        name = job.name,
    ))
}

fn push_list(text: &mut String, key: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    if !values.is_empty() {
        text.push_str(&format!("{key}={}\n", values.join(" ")));
    }
}

/// A word of a command line or a list, as systemd.syntax(7) and systemd.service(5) read it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let escaped = escaped(word).replace('$', "$$");
    if !word.is_empty() && word.chars().all(is_plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A value in which `%` means itself.
fn escaped(value: &str) -> String {
    value.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_themselves_to_systemd() {
        let check = |word, expected: &str| assert_eq!(quoted(word), expected);
        check("--sample", "--sample");
        check("5%", "5%%");
        check("two words", "\"two words\"");
        check("$HOME", "\"$$HOME\"");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
        check("", "\"\"");
        check("a;b", "\"a;b\"");
    }
}
