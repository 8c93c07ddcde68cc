//! A program that is told of alerts by its environment and its standard input.

use std::ffi::OsString;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::{Either, join, select};
use reliab_common::config::channel::Command as Config;
use reliab_common::paths::Env;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};

use super::webhook::Document;
use super::{Class, Outgoing, SendError, text};

/// What a program may see of the environment: the rest may hold the secrets of other channels.
const PASSED_ON: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME"];
/// No more of what the program writes is kept, in bytes.
const KEPT: usize = 4096;
/// How long to wait for the last words of a program that has ended: others may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(super) struct Command {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
}

impl Command {
    pub(super) fn new(config: &Config, env: &Env) -> Result<Self, SendError> {
        let Some((program, arguments)) = config.command.split_first() else {
            return Err(SendError::passing("its command is empty: name a program"));
        };
        let passed_on = |name| env.var(name).map(|value| (name, value.to_owned()));
        let environment = PASSED_ON.into_iter().filter_map(passed_on).collect();
        Ok(Self { program: program.clone(), arguments: arguments.to_vec(), environment })
    }

    pub(super) async fn send(&self, out: &Outgoing<'_>) -> Result<String, SendError> {
        let document = serde_json::to_vec(&Document::of(out)).unwrap_or_default();
        let failed =
            |error| SendError::passing(format!("cannot run {}: {}", self.program, text::chain(&error)));
        let mut child = self.command(out).spawn().map_err(failed)?;
        let group = Group(child.id());
        let input = child.stdin.take();
        let (status, said) = join(run(&mut child), feed(input, &document)).await.0;
        let status = status.map_err(failed)?;
        drop(group);
        judge(&self.program, status, &said)
    }

    fn command(&self, out: &Outgoing<'_>) -> tokio::process::Command {
        let message = out.message;
        let incidents: Vec<String> = message.incidents.iter().map(|one| one.id.to_string()).collect();
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RELIAB_KEY", out.key)
            .env("RELIAB_KIND", message.kind.name())
            .env("RELIAB_LEVEL", message.level().name())
            .env("RELIAB_HOST", without_nul(&message.host))
            .env("RELIAB_TITLE", message.title())
            .env("RELIAB_TEXT", out.lines().join("\n"))
            .env("RELIAB_LATE", message.late(out.now).unwrap_or_default())
            .env("RELIAB_INCIDENTS", incidents.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// No variable can hold a byte of zero.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// The program with all that it started, killed when the attempt ends, be it by its deadline.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // There is nothing left to kill where the program has ended well.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Gives the document to the program, which may not care for it.
async fn feed(input: Option<ChildStdin>, document: &[u8]) {
    if let Some(mut input) = input {
        let _ = input.write_all(document).await;
    }
}

/// Waits for the program and gathers the start of what it writes.
async fn run(child: &mut Child) -> (std::io::Result<ExitStatus>, Vec<u8>) {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut from_out, mut from_err) = (Vec::new(), Vec::new());
    let status = {
        let gathered = pin!(join(gather(out, &mut from_out), gather(err, &mut from_err)));
        match select(pin!(child.wait()), gathered).await {
            Either::Left((status, gathered)) => {
                let _ = tokio::time::timeout(LAST_WORDS, gathered).await;
                status
            }
            Either::Right((_, wait)) => wait.await,
        }
    };
    (status, if from_err.is_empty() { from_out } else { from_err })
}

/// Reads to the end, so that the program is never stopped by a full pipe, and keeps the start.
async fn gather(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = KEPT - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// What the way a program ended says of the next attempt, by sysexits.h.
fn judge(program: &str, status: ExitStatus, said: &[u8]) -> Result<String, SendError> {
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    let told = if said.is_empty() { String::new() } else { format!(": {said}") };
    if status.success() {
        return Ok(format!("{program} ended well{told}"));
    }
    let class = match status.code() {
        // EX_USAGE, EX_NOPERM, EX_CONFIG
        Some(64 | 77 | 78) => Class::Channel,
        // EX_DATAERR, EX_NOUSER, EX_NOHOST
        Some(65 | 67 | 68) => Class::Message,
        _ => Class::Passing,
    };
    Err(SendError::new(class, format!("{program} ended with {status}{told}")))
}
