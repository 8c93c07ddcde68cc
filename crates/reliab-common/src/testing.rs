//! A second process for tests: this test binary again, running one of its ignored tests.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const READY: &str = "ready for the test";

/// A running second process, killed when dropped.
pub(crate) struct Child {
    process: process::Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts the ignored test `test` and waits until it says that it is ready.
    pub(crate) fn start<V: AsRef<OsStr>>(test: &str, env: &[(&str, V)]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut child = Self { process, lines };
        child.wait_until_ready();
        child
    }

    /// Said by the second process.
    pub(crate) fn ready() {
        let mut out = std::io::stdout();
        writeln!(out, "\n{READY}").unwrap();
        out.flush().unwrap();
    }

    /// Said by the second process, which then waits for its end.
    pub(crate) fn ready_and_wait() {
        Self::ready();
        thread::sleep(Duration::from_secs(60));
    }

    pub(crate) fn wait_until_ready(&mut self) {
        assert!(self.lines.any(|line| line.unwrap() == READY), "the second process ended early");
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
