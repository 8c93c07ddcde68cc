//! Other processes, waited for no longer than a deadline.
//!
//! A process that asks a dead file system may be past killing: it is then left behind, and not waited for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reliab_common::signal::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// No answer is longer than this many bytes; more is cut off.
const LONGEST: usize = 4 << 20;
/// How long a process may take to die of being killed.
const GRACE: Duration = Duration::from_millis(500);
/// A process that closed its pipes is looked at so often: nothing wakes the run when it ends.
const LOOK: Duration = Duration::from_millis(10);
/// So many processes run at the same time.
const TOGETHER: usize = 32;

/// A command and how long it may take.
pub(crate) struct Task {
    /// The command; its stdin, stdout and stderr are set here.
    pub command: Command,
    /// How long it may take.
    pub deadline: Duration,
}

/// What came of a task.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It ended by itself.
    Done {
        /// Whether it said that all went well.
        success: bool,
        /// What it wrote to stdout.
        out: Vec<u8>,
        /// What it wrote to stderr.
        err: Vec<u8>,
    },
    /// It did not end in time and was killed.
    Late {
        /// What it wrote to stdout so far.
        out: Vec<u8>,
        /// Its number, if it outlived being killed.
        stuck: Option<u32>,
    },
    /// It could not be started.
    NotStarted(io::Error),
}

/// Runs tasks side by side; fails when a signal asks the run to stop.
pub(crate) fn together(tasks: Vec<Task>, stop: &Stop) -> anyhow::Result<Vec<Ended>> {
    let mut ended = Vec::with_capacity(tasks.len());
    let mut waiting = tasks.into_iter().peekable();
    while waiting.peek().is_some() {
        let mut running: Vec<Running> = waiting.by_ref().take(TOGETHER).map(Running::start).collect();
        while listen(&mut running)? {
            if stop.requested() {
                running.iter_mut().for_each(Running::kill);
                anyhow::bail!("stopped by a signal");
            }
        }
        ended.extend(running.into_iter().map(Running::end));
    }
    Ok(ended)
}

/// Waits until one of the processes says something, ends or is late; `false` when none is left.
fn listen(running: &mut [Running]) -> anyhow::Result<bool> {
    let now = Instant::now();
    running.iter_mut().for_each(|process| process.enforce(now));
    let Some(next) = running.iter().filter_map(|process| process.wake(now)).min() else { return Ok(false) };
    let patience = next.saturating_duration_since(now);
    let ready: Vec<bool> = {
        let mut fds: Vec<PollFd<'_>> = running
            .iter()
            .flat_map(Running::fds)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, Timespec::try_from(patience).ok().as_ref()) {
            Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    };
    let mut ready = ready.into_iter();
    for process in running {
        process.read(&mut ready);
    }
    Ok(true)
}

/// One end of a pipe and what came out of it.
struct Pipe<R> {
    reader: Option<R>,
    text: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self { reader, text: Vec::new() }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, which poll said there is.
    fn read(&mut self) {
        let mut part = [0; 8192];
        match self.reader.as_mut().map(|reader| reader.read(&mut part)) {
            Some(Ok(count @ 1..)) if self.text.len() + count <= LONGEST => {
                self.text.extend_from_slice(&part[..count]);
            }
            Some(Ok(1..)) | None => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Ok(_) | Err(_)) => self.reader = None,
        }
    }
}

struct Running {
    child: Result<Child, io::Error>,
    /// How it ended, once it did.
    status: Option<ExitStatus>,
    out: Pipe<std::process::ChildStdout>,
    err: Pipe<std::process::ChildStderr>,
    /// When it is killed, or once it was killed, given up.
    until: Instant,
    killed: bool,
    given_up: bool,
}

impl Running {
    fn start(task: Task) -> Self {
        let Task { mut command, deadline } = task;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn();
        let pipes = child.as_mut().ok().map(|child| (child.stdout.take(), child.stderr.take()));
        let (out, err) = pipes.unwrap_or_default();
        let (out, err) = (Pipe::new(out), Pipe::new(err));
        let until = Instant::now() + deadline;
        Self { child, status: None, out, err, until, killed: false, given_up: false }
    }

    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let open = !self.given_up;
        [self.out.fd(), self.err.fd()].into_iter().flatten().filter(move |_| open)
    }

    fn is_open(&self) -> bool {
        self.fds().next().is_some()
    }

    /// Takes one flag for each open pipe, and reads from those that are ready.
    fn read(&mut self, ready: &mut impl Iterator<Item = bool>) {
        if self.given_up {
            return;
        }
        if self.out.reader.is_some() && ready.next().unwrap_or(false) {
            self.out.read();
        }
        if self.err.reader.is_some() && ready.next().unwrap_or(false) {
            self.err.read();
        }
    }

    /// When it must be looked at next, if its pipes are still; `None` when nothing more is to come of it.
    fn wake(&self, now: Instant) -> Option<Instant> {
        if self.is_open() {
            return Some(self.until);
        }
        let waits = self.child.is_ok() && self.status.is_none() && !self.given_up;
        waits.then(|| self.until.min(now + LOOK))
    }

    /// Kills it when its time is over, and gives it up when it does not die of that.
    ///
    /// It may close its pipes and go on: it has ended only when the kernel says so.
    fn enforce(&mut self, now: Instant) {
        if (self.killed || !self.is_open()) && self.status.is_none() {
            self.status = self.child.as_mut().ok().and_then(|child| child.try_wait().ok().flatten());
        }
        if now < self.until || self.wake(now).is_none() {
            return;
        }
        if self.killed {
            self.given_up = true;
        } else {
            self.kill();
            self.until = now + GRACE;
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        if let Ok(child) = &mut self.child {
            // It may have ended by itself in this moment.
            drop(child.kill());
        }
    }

    fn end(self) -> Ended {
        let child = match self.child {
            Ok(child) => child,
            Err(error) => return Ended::NotStarted(error),
        };
        let out = self.out.text;
        if self.given_up {
            // One that died may have left its pipes to a process of its own, and is not stuck.
            let stuck = self.status.is_none().then(|| child.id());
            return Ended::Late { out, stuck };
        }
        let success = self.status.is_some_and(|status| status.success());
        if self.killed && !success {
            Ended::Late { out, stuck: None }
        } else {
            Ended::Done { success, out, err: self.err.text }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(script: &str, deadline: u64) -> Task {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Task { command, deadline: Duration::from_millis(deadline) }
    }

    #[test]
    fn what_processes_say_is_kept_apart_and_in_order() {
        let tasks = (0..40)
            .map(|number| task(&format!("echo {number}; echo e{number} >&2; exit {}", number % 2), 20_000));
        let ended = together(tasks.collect(), &Stop::default()).unwrap();
        for (number, ended) in ended.into_iter().enumerate() {
            let Ended::Done { success, out, err } = ended else { panic!("{ended:?}") };
            assert_eq!((out, err), (format!("{number}\n").into_bytes(), format!("e{number}\n").into_bytes()));
            assert_eq!(success, number % 2 == 0);
        }
    }

    #[test]
    fn late_ones_are_killed_and_the_others_not_delayed() {
        let started = Instant::now();
        let tasks = vec![
            task("echo begun; exec sleep 60", 300),
            task("echo done", 20_000),
            task("exec sleep 60", 300),
        ];
        let ended = together(tasks, &Stop::default()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert!(matches!(&ended[0], Ended::Late { out, stuck: None } if out == b"begun\n"), "{ended:?}");
        assert!(matches!(&ended[1], Ended::Done { success: true, .. }), "{ended:?}");
        assert!(matches!(&ended[2], Ended::Late { .. }), "{ended:?}");
    }

    #[test]
    fn one_that_closes_its_pipes_and_goes_on_is_late_too() {
        let started = Instant::now();
        let tasks = vec![
            task("echo begun; exec sleep 60 >&- 2>&-", 300),
            task("exec >&- 2>&-; sleep 0.2; exit 3", 20_000),
        ];
        let ended = together(tasks, &Stop::default()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert!(matches!(&ended[0], Ended::Late { out, stuck: None } if out == b"begun\n"), "{ended:?}");
        assert!(matches!(&ended[1], Ended::Done { success: false, .. }), "{ended:?}");
    }

    #[test]
    fn endless_output_is_cut_off() {
        let ended = together(vec![task("head -c 20000000 /dev/zero", 20_000)], &Stop::default()).unwrap();
        assert!(matches!(&ended[0], Ended::Done { out, .. } if out.len() <= LONGEST), "too much");
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let command = Command::new("/nonexistent/program");
        let task = Task { command, deadline: Duration::from_secs(1) };
        let ended = together(vec![task], &Stop::default()).unwrap();
        assert!(matches!(&ended[0], Ended::NotStarted(error) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        stop.request();
        let error = together(vec![task("exec sleep 60", 60_000), task("echo", 60_000)], &stop).unwrap_err();
        assert_eq!(error.to_string(), "stopped by a signal");
    }
}
