//! Questions to processes of their own, and what becomes of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::Utc;
use reliab_common::failure::plain;
use reliab_common::session::{Job, Session};
use reliab_common::units;

use crate::answer::{Answer, Measure};
use crate::process::{Ended, Task, together};

/// The running program, even where its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Something to find out about a path.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// What.
    pub what: Measure,
    /// About which path.
    pub path: PathBuf,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The file system does not answer.
    Silent(String),
    /// It answered that this cannot be.
    Failed(String),
    /// This user may not ask, or there was nobody to ask.
    Unknown(String),
}

impl NoAnswer {
    /// What to tell.
    pub fn text(&self) -> &str {
        match self {
            Self::Silent(text) | Self::Failed(text) | Self::Unknown(text) => text,
        }
    }
}

/// Asks everything at the same time; the answers come in the order of the questions.
pub(crate) fn ask(questions: &[Question], job: &Job<'_>) -> anyhow::Result<Vec<Result<Answer, NoAnswer>>> {
    let tasks = questions.iter().map(|question| task(question, job.session)).collect();
    let ended = together(tasks, &job.stop)?;
    Ok(questions.iter().zip(ended).map(|(question, ended)| reply(question, ended)).collect())
}

fn task(question: &Question, session: &Session) -> Task {
    let mut command = Command::new(THIS_PROGRAM);
    // The word `disk` is the command's name for the front binary, and for `reliab-disk` a path that is passed over.
    command.arg("disk").arg("--measure").arg(question.what.name());
    // The child needs no configuration, and so cannot fail over one.
    command.args(["--config", "/dev/null"]);
    if let Some(dir) = &session.global.state_dir {
        let mut option = OsString::from("--state-dir=");
        option.push(dir);
        command.arg(option);
    }
    command.arg("--").arg(&question.path);
    Task { command, deadline: question.deadline }
}

fn reply(question: &Question, ended: Ended) -> Result<Answer, NoAnswer> {
    match ended {
        Ended::Done { out, err, .. } => match answers(&out).pop() {
            Some(Answer::Failed { reason, denied: true }) => Err(NoAnswer::Unknown(reason)),
            Some(Answer::Failed { reason, denied: false }) => Err(NoAnswer::Failed(reason)),
            Some(Answer::Held { .. } | Answer::Freed) | None => Err(NoAnswer::Unknown(format!(
                "the process that measures it said nothing of use: {}",
                String::from_utf8_lossy(&err).lines().next_back().unwrap_or("no error")
            ))),
            Some(answer) => Ok(answer),
        },
        Ended::Late { out, stuck } => Err(match answers(&out).pop() {
            // The other one ended, so it is not dead; a large directory takes most of a deadline.
            Some(Answer::Freed) => NoAnswer::Unknown(
                "another run measured it, and too little of the deadline was left: run them further apart"
                    .to_owned(),
            ),
            last => NoAnswer::Silent(silence(question, last, stuck)),
        }),
        Ended::NotStarted(error) => {
            Err(NoAnswer::Unknown(format!("cannot start the process that measures it: {}", plain(&error))))
        }
    }
}

/// How long it has been silent, by this process or by an earlier one that still waits.
fn silence(question: &Question, last: Option<Answer>, stuck: Option<u32>) -> String {
    if let Some(Answer::Held { pid, since }) = last {
        let waited = (Utc::now() - since).to_std().unwrap_or_default().max(question.deadline);
        let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid} waits for it)"));
        return format!("not answering for {}{pid}", units::duration(waited));
    }
    let pid = stuck.map_or_else(String::new, |pid| format!(" (process {pid} cannot be killed)"));
    format!("not answering for {}{pid}", units::duration(question.deadline))
}

fn answers(out: &[u8]) -> Vec<Answer> {
    out.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// A path made absolute by its text alone, as looking for it could hang.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let joined = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // Without a slash at the end, by which no mount point is listed.
    joined.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn question() -> Question {
        Question { what: Measure::Mount, path: "/mnt".into(), deadline: Duration::from_secs(10) }
    }

    fn done(out: &str, err: &str) -> Ended {
        Ended::Done { success: true, out: out.into(), err: err.into() }
    }

    #[test]
    fn the_last_answer_counts() {
        let out = "{\"held\":{\"pid\":1,\"since\":\"2026-01-01T00:00:00Z\"}}\n{\"directory\":{\"bytes\":7,\"unread\":0}}\n";
        assert_eq!(reply(&question(), done(out, "")), Ok(Answer::Directory { bytes: 7, unread: 0 }));
    }

    #[test]
    fn refusals_are_told_apart() {
        let failed = |denied| format!("{{\"failed\":{{\"reason\":\"so\",\"denied\":{denied}}}}}\n");
        assert_eq!(reply(&question(), done(&failed(true), "")), Err(NoAnswer::Unknown("so".into())));
        assert_eq!(reply(&question(), done(&failed(false), "")), Err(NoAnswer::Failed("so".into())));
        let nothing = reply(&question(), done("", "error: odd\n")).unwrap_err();
        assert!(nothing.text().ends_with("error: odd"), "{nothing:?}");
    }

    #[test]
    fn one_that_had_to_wait_for_another_run_says_nothing_of_the_file_system() {
        let since = Utc::now();
        let lines = [Answer::Held { pid: Some(7), since }, Answer::Freed];
        let out = lines.map(|line| serde_json::to_string(&line).unwrap() + "\n").concat();
        let late = reply(&question(), Ended::Late { out: out.clone().into(), stuck: None });
        assert!(matches!(&late, Err(NoAnswer::Unknown(why)) if why.starts_with("another run")), "{late:?}");
        let whole = out + "{\"directory\":{\"bytes\":7,\"unread\":0}}\n";
        assert_eq!(reply(&question(), done(&whole, "")), Ok(Answer::Directory { bytes: 7, unread: 0 }));
    }

    #[test]
    fn silence_is_counted_from_the_first_process_that_waits() {
        let of = |ended| reply(&question(), ended).unwrap_err().text().to_owned();
        assert_eq!(of(Ended::Late { out: vec![], stuck: None }), "not answering for 10.0 s");
        assert_eq!(
            of(Ended::Late { out: vec![], stuck: Some(7) }),
            "not answering for 10.0 s (process 7 cannot be killed)"
        );
        let since = Utc::now() - TimeDelta::hours(3);
        let held = serde_json::to_vec(&Answer::Held { pid: Some(7), since }).unwrap();
        assert_eq!(
            of(Ended::Late { out: held, stuck: None }),
            "not answering for 3 h 00 min (process 7 waits for it)"
        );
    }
}
