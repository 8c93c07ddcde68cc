//! Listing folders ahead of the walk: a stack of jobs, nearest in path order on top, and threads that take them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Root;
use super::filter::Filter;
use super::listing::Listing;

/// Entries that may be listed ahead and not yet walked.
const AHEAD_MAX: usize = 32 * 1024;

/// A folder to list.
pub(super) struct Job {
    pub(super) root: Arc<Root>,
    /// Path below the root.
    pub(super) below: Vec<u8>,
    state: Mutex<JobState>,
    done: Condvar,
}

enum JobState {
    Open,
    Running,
    /// Its thread panicked.
    Failed,
    Done(Box<Listing>),
    Taken,
}

impl Job {
    pub(super) fn new(root: Arc<Root>, below: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { root, below, state: Mutex::new(JobState::Open), done: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the caller is now the one to run it.
    fn claim(&self) -> bool {
        let mut state = self.state();
        let open = matches!(*state, JobState::Open);
        if open {
            *state = JobState::Running;
        }
        open
    }
}

/// A job that a thread has claimed; whatever becomes of the thread, nobody waits for it for ever.
struct Running<'a>(&'a Job);

impl Running<'_> {
    fn end(self, state: JobState) {
        *self.0.state() = state;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(*state, JobState::Running) {
            *state = JobState::Failed;
        }
        drop(state);
        self.0.done.notify_all();
    }
}

/// The jobs, and how much has been listed ahead.
pub(super) struct Ahead {
    filter: Arc<Filter>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    stack: Vec<Arc<Job>>,
    listed: usize,
    closed: bool,
}

impl Ahead {
    pub(super) fn new(filter: Arc<Filter>) -> Self {
        Self { filter, queue: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the folders in a listing to be listed ahead, and gives the jobs by entry number.
    pub(super) fn ask_for_folders(&self, listing: &Listing) -> VecDeque<(usize, Arc<Job>)> {
        let jobs = listing.folder_jobs(&self.filter);
        if !jobs.is_empty() {
            self.queue().stack.extend(jobs.iter().rev().map(|(_, job)| Arc::clone(job)));
            self.changed.notify_all();
        }
        jobs
    }

    /// What a thread does: lists folders until the walk is over.
    pub(super) fn work(&self) {
        while let Some(job) = self.next_job() {
            if !job.claim() {
                continue;
            }
            let running = Running(&job);
            let listing = Listing::read(&job, &self.filter);
            self.queue().listed += listing.held();
            running.end(JobState::Done(Box::new(listing)));
        }
    }

    fn next_job(&self) -> Option<Arc<Job>> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if queue.listed < AHEAD_MAX
                && let Some(job) = queue.stack.pop()
            {
                return Some(job);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The listing of a job: made ahead, or, if nobody has begun it, made now.
    pub(super) fn take(&self, job: &Arc<Job>) -> Listing {
        if job.claim() {
            *job.state() = JobState::Taken;
            return Listing::read(job, &self.filter);
        }
        let mut state = job.state();
        loop {
            match std::mem::replace(&mut *state, JobState::Taken) {
                JobState::Done(listing) => {
                    drop(state);
                    self.queue().listed -= listing.held();
                    self.changed.notify_all();
                    return *listing;
                }
                JobState::Taken => return Listing::default(),
                // Whoever is to have it makes it; a panic ends the run there.
                JobState::Failed => {
                    drop(state);
                    return Listing::read(job, &self.filter);
                }
                unfinished => {
                    *state = unfinished;
                    state = job.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::FilterOptions;
    use super::*;

    #[test]
    fn nobody_waits_for_a_thread_that_panicked() {
        let sources = [std::path::PathBuf::from("/proc/self/task")];
        let root = super::super::open_roots(&sources).unwrap().remove(0);
        let job = Job::new(root, Vec::new());
        assert!(job.claim());
        let thread = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _running = Running(&job);
                    panic!("as a listing might");
                })
                .join()
        });
        assert!(thread.is_err());
        let filter = Filter::new(FilterOptions::default(), &sources).unwrap();
        assert!(Ahead::new(Arc::new(filter)).take(&job).len() > 0);
    }
}
