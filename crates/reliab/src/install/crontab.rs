//! Jobs as lines of a user's crontab, between two marks.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use reliab_common::failure::UsageError;

use super::calendar::cron;
use super::job::Job;
use super::plan::owner_line;

const BEGIN: &str = "# BEGIN reliab: written by reliab install --crontab, which replaces what is up to END";
const END: &str = "# END reliab";

/// The lines of all jobs of a configuration, with their marks.
pub fn block(jobs: &[Job], config: &Path) -> Result<String, String> {
    let lines = jobs.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{BEGIN}\n{}{}{END}\n", owner_line(config), lines.concat()))
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

/// A crontab with `block` in place of the one of the same configuration, at its end if it has none; without, where
/// `block` is empty. All other lines stay as they are, whatever bytes they are of.
pub fn merged(crontab: &[u8], block: &str, config: &Path) -> Result<Vec<u8>, UsageError> {
    let (mut merged, mut open, mut is_placed) = (Vec::new(), None::<Vec<u8>>, false);
    for line in crontab.split_inclusive(|&byte| byte == b'\n') {
        let (begins, ends) = (line.starts_with(mark(BEGIN)), line.starts_with(END.as_bytes()));
        match open.take() {
            None if ends => return Err(broken()),
            None if begins => open = Some(line.to_vec()),
            None => merged.extend_from_slice(line),
            Some(_) if begins => return Err(broken()),
            Some(inside) if !ends => open = Some([&inside, line].concat()),
            Some(inside) if !is_of(&inside, config) => merged.extend([&inside, line].concat()),
            Some(_) if is_placed => return Err(broken()),
            Some(_) => {
                merged.extend_from_slice(block.as_bytes());
                is_placed = true;
            }
        }
    }
    if open.is_some() {
        return Err(broken());
    }
    if !is_placed && !block.is_empty() {
        if merged.last().is_some_and(|&last| last != b'\n') {
            merged.push(b'\n');
        }
        merged.extend_from_slice(block.as_bytes());
    }
    Ok(merged)
}

/// The part of a mark by which it is known.
fn mark(line: &str) -> &[u8] {
    line.split(':').next().unwrap_or(line).as_bytes()
}

/// Whether the lines of a block are of this configuration.
fn is_of(block: &[u8], config: &Path) -> bool {
    let after = block.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    block[after..].starts_with(owner_line(config).as_bytes())
}

fn broken() -> UsageError {
    UsageError(format!(
        "the crontab has the marks `{END}` or `# BEGIN reliab` out of place: mend it with crontab -e"
    ))
}

/// The user's crontab; empty where there is none.
pub fn read() -> anyhow::Result<Vec<u8>> {
    let output =
        Command::new("crontab").arg("-l").env("LC_ALL", "C").output().context("cannot run `crontab -l`")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no crontab") {
        return Ok(Vec::new());
    }
    anyhow::bail!("`crontab -l` failed: {}", said.trim())
}

/// Replaces the user's crontab.
pub fn write(text: &[u8]) -> anyhow::Result<()> {
    let mut child = Command::new("crontab")
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `crontab -`")?;
    let sent = child.stdin.take().context("crontab reads nothing")?.write_all(text);
    let output = child.wait_with_output().context("cannot wait for crontab")?;
    if !output.status.success() {
        anyhow::bail!("`crontab -` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    sent.context("cannot write to crontab")
}

/// Whether a crontab starts the job.
pub fn starts(crontab: &[u8], job: &str) -> bool {
    let crontab = String::from_utf8_lossy(crontab);
    let word = format!("RELIAB_SCHEDULE={job} ");
    crontab.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::config::schedule::Start;
    use std::time::Duration;

    const CONFIG: &str = "/etc/reliab/reliab.toml";

    fn job(words: &[&str]) -> Job {
        Job {
            name: "deep".into(),
            tool: "verify".into(),
            command: words.iter().map(|&word| word.to_owned()).collect(),
            start: Start::At("Sun 04:00".parse().unwrap()),
            period: Duration::from_secs(7 * 86_400),
            timeout: Duration::from_secs(3600),
            config: CONFIG.into(),
            folder: "/etc/reliab".into(),
            reads: vec![],
            writes: vec![],
            credentials: vec![],
            absent: vec![],
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

    fn merged(crontab: &[u8], block: &str) -> Result<Vec<u8>, UsageError> {
        super::merged(crontab, block, Path::new(CONFIG))
    }

    fn block(jobs: &[Job]) -> String {
        super::block(jobs, Path::new(CONFIG)).unwrap()
    }

    #[test]
    fn the_lines_of_others_are_kept_byte_by_byte() {
        let block = block(&[job(&["reliab", "verify"])]);
        let others = b"MAILTO=me\n5 5 * * * caf\xe9\n";
        let with = merged(others, &block).unwrap();
        assert_eq!(with, [&others[..], block.as_bytes()].concat());
        assert_eq!(merged(&with, &block).unwrap(), with);
        let between = [&with[..], b"6 6 * * * \xff\n"].concat();
        assert_eq!(merged(&between, "").unwrap(), [&others[..], b"6 6 * * * \xff\n"].concat());
        assert_eq!(merged(b"no newline", "x\n").unwrap(), b"no newline\nx\n");
        assert_eq!(merged(b"no newline", "").unwrap(), b"no newline");
    }

    #[test]
    fn the_block_of_another_configuration_is_kept() {
        let other = super::block(&[job(&["reliab", "verify"])], Path::new("/srv/reliab.toml")).unwrap();
        let own = block(&[job(&["reliab", "backup"])]);
        let both = merged(other.as_bytes(), &own).unwrap();
        assert_eq!(both, [other.as_bytes(), own.as_bytes()].concat());
        assert_eq!(merged(&both, "").unwrap(), other.as_bytes());
    }

    #[test]
    fn marks_out_of_place_are_not_guessed_about() {
        let block = block(&[]);
        for bad in [
            format!("{BEGIN}\n"),
            format!("{END}\n"),
            format!("{block}{block}"),
            format!("{BEGIN}\n{block}"),
            format!("{END}\n{BEGIN}\nx\n"),
        ] {
            assert!(merged(bad.as_bytes(), &block).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_job_that_is_commented_out_is_not_started() {
        let crontab = block(&[job(&["reliab"])]);
        let starts = |crontab: &str, name| super::starts(crontab.as_bytes(), name);
        assert!(starts(&crontab, "deep") && !starts(&crontab, "dee"));
        assert!(!starts(&crontab.replace("0 4", "# 0 4"), "deep"));
    }
}
