//! Jobs as lines of a user's crontab, between two marks.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use reliab_common::failure::UsageError;

use super::calendar::cron;
use super::job::Job;

const BEGIN: &str = "# BEGIN reliab: written by reliab install --crontab, which replaces what is up to END";
const END: &str = "# END reliab";

/// The lines of all jobs, with their marks.
pub fn block(jobs: &[Job]) -> Result<String, String> {
    let lines = jobs.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{BEGIN}\n{}{END}\n", lines.concat()))
}

/// A job's line; cron has no timeout of its own.
fn line(job: &Job) -> Result<String, String> {
    let fields = cron(job.start).map_err(|error| format!("[schedule.{}]: {error}", job.name))?;
    let words: Vec<String> = job.command.iter().map(|word| shell(word)).collect();
    let folder = shell(&job.folder.display().to_string());
    let timeout = job.timeout.as_secs().max(1);
    let line =
        format!("cd {folder} && RELIAB_SCHEDULE={} timeout -k 60 {timeout} {}", job.name, words.join(" "));
    if line.contains('\n') {
        return Err(format!("[schedule.{}]: a line of a crontab cannot hold a line break", job.name));
    }
    // An unescaped `%` would end the command.
    Ok(format!("{fields} {}\n", line.replace('%', "\\%")))
}

/// A word as the shell reads it.
fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A crontab with `block` in place of the one it has, at its end if it has none; without, where `block` is empty.
pub fn merged(crontab: &str, block: &str) -> Result<String, UsageError> {
    let mark = |wanted: &str| crontab.lines().filter(|line| line.starts_with(wanted)).count();
    let begin = BEGIN.split(':').next().unwrap_or(BEGIN);
    match (mark(begin), mark(END)) {
        (0, 0) => {
            let gap = if crontab.is_empty() || crontab.ends_with('\n') { "" } else { "\n" };
            Ok(format!("{crontab}{gap}{block}"))
        }
        (1, 1) => {
            let mut lines = crontab.split_inclusive('\n');
            let before: String = lines.by_ref().take_while(|line| !line.starts_with(begin)).collect();
            let after: String = lines.skip_while(|line| !line.starts_with(END)).skip(1).collect();
            if after.is_empty() && !crontab.lines().last().is_some_and(|line| line.starts_with(END)) {
                return Err(broken());
            }
            Ok(format!("{before}{block}{after}"))
        }
        _ => Err(broken()),
    }
}

fn broken() -> UsageError {
    UsageError(format!(
        "the crontab has the marks `{END}` or `# BEGIN reliab` out of place: mend it with crontab -e"
    ))
}

/// The user's crontab; empty where there is none.
pub fn read() -> anyhow::Result<String> {
    let output =
        Command::new("crontab").arg("-l").env("LC_ALL", "C").output().context("cannot run `crontab -l`")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no crontab") {
        return Ok(String::new());
    }
    anyhow::bail!("`crontab -l` failed: {}", said.trim())
}

/// Replaces the user's crontab.
pub fn write(text: &str) -> anyhow::Result<()> {
    let mut child = Command::new("crontab")
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `crontab -`")?;
    let sent = child.stdin.take().context("crontab reads nothing")?.write_all(text.as_bytes());
    let output = child.wait_with_output().context("cannot wait for crontab")?;
    if !output.status.success() {
        anyhow::bail!("`crontab -` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    sent.context("cannot write to crontab")
}

/// Whether a crontab starts the job.
pub fn starts(crontab: &str, job: &str) -> bool {
    let word = format!("RELIAB_SCHEDULE={job} ");
    crontab.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::config::schedule::Start;
    use std::time::Duration;

    fn job(words: &[&str]) -> Job {
        Job {
            name: "deep".into(),
            tool: "verify".into(),
            command: words.iter().map(|&word| word.to_owned()).collect(),
            start: Start::At("Sun 04:00".parse().unwrap()),
            period: Duration::from_secs(7 * 86_400),
            timeout: Duration::from_secs(3600),
            folder: "/etc/reliab".into(),
            reads: vec![],
            writes: vec![],
            credentials: vec![],
            state_dir: None,
        }
    }

    #[test]
    fn percent_signs_spaces_and_quotes_reach_the_program() {
        let line = line(&job(&["/opt/my tools/reliab", "verify", "--sample", "5%", "it's"])).unwrap();
        let expected = "0 4 * * 0 cd /etc/reliab && RELIAB_SCHEDULE=deep timeout -k 60 3600 \
                        '/opt/my tools/reliab' verify --sample 5\\% 'it'\\''s'\n";
        assert_eq!(line, expected);
        assert!(super::line(&job(&["a\nb"])).is_err());
    }

    #[test]
    fn the_lines_of_others_are_kept() {
        let block = block(&[job(&["reliab", "verify"])]).unwrap();
        let others = "MAILTO=me\n5 5 * * * true\n";
        let with = merged(others, &block).unwrap();
        assert_eq!(with, format!("{others}{block}"));
        assert_eq!(merged(&with, &block).unwrap(), with);
        let between = format!("{with}6 6 * * * false\n");
        assert_eq!(merged(&between, "").unwrap(), format!("{others}6 6 * * * false\n"));
        assert_eq!(merged("no newline", "x\n").unwrap(), "no newline\nx\n");
    }

    #[test]
    fn marks_out_of_place_are_not_guessed_about() {
        let block = block(&[]).unwrap();
        for bad in [
            format!("{BEGIN}\n"),
            format!("{END}\n"),
            format!("{block}{block}"),
            format!("{END}\n{BEGIN}\nx\n"),
        ] {
            assert!(merged(&bad, &block).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_job_that_is_commented_out_is_not_started() {
        let crontab = block(&[job(&["reliab"])]).unwrap();
        assert!(starts(&crontab, "deep") && !starts(&crontab, "dee"));
        assert!(!starts(&crontab.replace("0 4", "# 0 4"), "deep"));
    }
}
