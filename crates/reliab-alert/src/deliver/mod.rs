//! Delivery: what is owed goes out, each channel in its own order, all channels at once.

mod behind;
mod ending;
mod report;
mod turn;
mod unusable;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::join_all;
use reliab_common::clock::Clock;
use reliab_common::config::Channels;
use reliab_common::fact::Facts;
use reliab_common::lock::LockError;
use reliab_common::paths::Env;
use reliab_common::session::Job;
use reliab_common::signal::Stop;
use reliab_common::state::State;
use reliab_common::ui::Ui;
use serde::Serialize;
use tokio::time::Instant;

use crate::outbox::{Outbox, Point};

pub(crate) use unusable::tell_unread;

use turn::Turn;

/// The name of the lock that one deliverer at a time has.
const LOCK: &str = "deliver";

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All of it: no attempt is begun or goes on after that.
    pub run: Duration,
    /// One attempt, where its channel does not say otherwise.
    pub attempt: Duration,
    /// Until then a run waits for the next attempt; later ones are left to the next run.
    pub retry_within: Duration,
}

impl Default for Limits {
    /// Less than the minute between two runs of the timer.
    fn default() -> Self {
        let [run, attempt, retry_within] = [50, 15, 10].map(Duration::from_secs);
        Self { run, attempt, retry_within }
    }
}

/// Delivers what is owed.
pub struct Deliverer<'a> {
    /// Where the outbox is.
    pub state: &'a State,
    /// The channels.
    pub channels: &'a Channels,
    /// The channels that are told of what others refuse, before all others.
    pub preferred: &'a [String],
    /// Where secrets may be.
    pub env: &'a Env,
    /// The time of day.
    pub clock: &'a dyn Clock,
    /// Where chance begins.
    pub seed: u64,
    /// How long things may take.
    pub limits: Limits,
    /// Asks it to stop.
    pub stop: Stop,
    /// Told of every point that is passed.
    pub reached: &'a dyn Fn(Point),
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Delivered {
    /// Messages that a channel took.
    pub delivered: u32,
    /// Attempts that failed and are tried again.
    pub failed: u32,
    /// Messages that are not tried again.
    pub refused: u32,
    /// Sent, but the state could not be written: they will be sent again.
    pub unrecorded: u32,
    /// Whether another process was delivering, and nothing was done here.
    pub elsewhere: bool,
    /// The state of the outbox afterwards, for rules and status.
    #[serde(skip)]
    pub facts: Facts,
}

/// Delivers what is owed by the state of a job, unless another process is doing that.
///
/// Where the state cannot be used, all channels are told that instead.
pub fn run(job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Delivered> {
    let absent = || anyhow!("cannot deliver: the outbox is in the state file, which cannot be used");
    let result = job.recorder.state().map_or_else(|| Err(absent()), |state| run_with(state, job, ui));
    if result.is_err() {
        unusable::tell(job.session, ui)?;
    }
    result
}

fn run_with(state: &State, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Delivered> {
    let session = job.session;
    let deliverer = Deliverer {
        state,
        channels: &session.config.channel,
        preferred: session.config.alert.channels.as_deref().unwrap_or_default(),
        env: &session.env,
        clock: &session.clock,
        seed: RandomState::new().hash_one(std::process::id()),
        limits: Limits::default(),
        stop: job.stop.clone(),
        reached: &|_| {},
    };
    match session.lock(LOCK, ui) {
        Ok(_lock) => deliverer.deliver(ui),
        Err(error) if error.downcast_ref().is_some_and(|error| matches!(error, LockError::Held { .. })) => {
            let facts = deliverer.outbox().facts(session.clock.now())?;
            Ok(Delivered { elsewhere: true, facts, ..Delivered::default() })
        }
        Err(error) => Err(error),
    }
}

impl<'a> Deliverer<'a> {
    /// Delivers what is due; one channel's trouble holds up no other.
    pub fn deliver(&self, ui: &mut Ui) -> anyhow::Result<Delivered> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start to deliver")?;
        let run = Run {
            deliverer: self,
            outbox: self.outbox(),
            ui: RefCell::new(ui),
            started: RefCell::new(None),
            tally: RefCell::default(),
            repeat: std::cell::OnceCell::new(),
        };
        let result = runtime.block_on(run.all());
        // A name that is still being looked up must not keep the process from ending.
        runtime.shutdown_background();
        result?;
        let (outbox, now) = (self.outbox(), self.clock.now());
        let facts = outbox.facts(now)?;
        let tally = run.tally.into_inner();
        if tally.unrecorded == 0 {
            outbox.forget(now)?;
        }
        Ok(Delivered { facts, ..tally })
    }

    fn outbox(&self) -> Outbox<'a> {
        Outbox::new(self.state, self.reached)
    }
}

/// One run over all channels.
struct Run<'a> {
    deliverer: &'a Deliverer<'a>,
    outbox: Outbox<'a>,
    ui: RefCell<&'a mut Ui>,
    started: RefCell<Option<Instant>>,
    tally: RefCell<Delivered>,
    /// Whether this run sends what it cannot write down.
    repeat: std::cell::OnceCell<bool>,
}

impl Run<'_> {
    /// Gives every channel its turn, and another one to those that were owed more meanwhile.
    async fn all(&self) -> anyhow::Result<()> {
        self.started.replace(Some(Instant::now()));
        let mut left: BTreeSet<String> = BTreeSet::new();
        let mut trouble = None;
        loop {
            let mut names = self.outbox.channels()?;
            names.retain(|name| !left.contains(name));
            if names.is_empty() || self.is_over() {
                return trouble.map_or(Ok(()), Err);
            }
            let turns = join_all(names.iter().map(|name| self.turn(name))).await;
            for (name, turn) in names.into_iter().zip(turns) {
                match turn {
                    Ok(Turn::Drained) => {}
                    Ok(Turn::Left) => drop(left.insert(name)),
                    Err(error) => {
                        trouble.get_or_insert(error);
                        left.insert(name);
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.deliverer.stop.requested() || self.time_left(self.deliverer.limits.run).is_zero()
    }

    /// What is left of a time that began with the run.
    fn time_left(&self, limit: Duration) -> Duration {
        let elapsed = self.started.borrow().map(|started| started.elapsed()).unwrap_or_default();
        limit.saturating_sub(elapsed)
    }
}
