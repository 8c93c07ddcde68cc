//! What a run of a command knows of its surroundings.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::app::Global;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigFile};
use crate::exit::Ending;
use crate::fact::Facts;
use crate::failure::{ErrorTable, Failure, plain};
use crate::lock::{JobLock, LockError};
use crate::paths::{self, Env};
use crate::record::{Recorder, RunRecord};
use crate::rhythm;
use crate::signal::Stop;
use crate::state::State;
use crate::ui::Ui;
use crate::upkeep;

/// The configuration, the environment and the options that every command has.
pub struct Session {
    /// Name of the command.
    pub name: &'static str,
    /// What is said about the errors of its engine.
    pub errors: &'static ErrorTable,
    /// The configuration file's content.
    pub config: Config,
    /// The configuration file, in full; `None` where there is none.
    pub config_path: Option<PathBuf>,
    /// The environment.
    pub env: Env,
    /// The options that every command has.
    pub global: Global,
    /// The time of day.
    pub clock: SystemClock,
}

/// How a run ended, with what goes into its record.
pub struct Outcome<E> {
    /// How it ended.
    pub exit: E,
    /// What the tool measured, as JSON.
    pub figures: Value,
    /// Check results and samples for the state.
    pub facts: Facts,
}

impl<E: Ending> Outcome<E> {
    /// A run that leaves nothing but its own record.
    pub fn new(exit: E, figures: Value) -> Self {
        Self { exit, figures, facts: Facts::default() }
    }
}

/// A run that is being recorded and can be stopped.
pub struct Job<'a> {
    /// What the run knows of its surroundings.
    pub session: &'a Session,
    /// Where it is recorded.
    pub recorder: &'a Recorder,
    /// Set when a signal asks the run to end.
    pub stop: Stop,
}

impl Session {
    /// Reads the configuration.
    pub fn open(name: &'static str, errors: &'static ErrorTable, global: &Global) -> anyhow::Result<Self> {
        let env = Env::of_process();
        let cwd = std::env::current_dir().context("cannot tell the working folder")?;
        let file = ConfigFile::find(global.config.as_deref(), &env, &cwd)?;
        let config = file.as_ref().map_or_else(|| Ok(Config::default()), ConfigFile::parse)?;
        let config_path = file.map(|file| cwd.join(file.path));
        Ok(Self { name, errors, config, config_path, env, global: global.clone(), clock: SystemClock })
    }

    /// The folder of what can be made again; a temporary one where there is no other.
    pub fn cache_dir(&self) -> PathBuf {
        paths::cache_dir(self.global.cache_dir.as_deref(), &self.env)
            .unwrap_or_else(|_| std::env::temp_dir().join("reliab-cache"))
    }

    /// Does a job, stoppable by signals, and records how it went.
    pub fn record<E: Ending>(
        &self,
        job: &str,
        ui: &mut Ui,
        act: impl FnOnce(&Job<'_>, &mut Ui) -> anyhow::Result<Outcome<E>>,
    ) -> anyhow::Result<E> {
        let recorder = self.recorder(ui);
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let schedule = self.env.var(rhythm::VARIABLE).and_then(|name| name.to_str());
        let run = RunRecord::start(&recorder, self.name, job, schedule, &self.clock);
        let result = act(&Job { session: self, recorder: &recorder, stop }, ui);
        let finished = match &result {
            Ok(outcome) => run.finish(outcome.exit, &outcome.figures, &outcome.facts),
            Err(error) => {
                let failure = Failure::of(error, self.errors);
                run.fail::<E>(failure.exit, &failure.text)
            }
        };
        if let Err(error) = finished {
            warn_of(ui, "this run is not recorded", &error.into());
        } else if let Some(state) = recorder.state() {
            self.keep_up(state, ui);
        }
        result.map(|outcome| outcome.exit)
    }

    /// Does what leaves no record, stoppable by signals: a dry run has neither done the job's work nor failed to.
    pub fn unrecorded<E: Ending>(
        &self,
        ui: &mut Ui,
        act: impl FnOnce(&Job<'_>, &mut Ui) -> anyhow::Result<Outcome<E>>,
    ) -> anyhow::Result<E> {
        // What was recorded before is looked at all the same, where there is a record.
        let folder = paths::state_dir(self.global.state_dir.as_deref(), &self.env);
        let recorder = folder.map_or_else(|_| Recorder::off(), |folder| Recorder::open(&folder).0);
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        act(&Job { session: self, recorder: &recorder, stop }, ui).map(|outcome| outcome.exit)
    }

    /// Looks after overdue jobs and the state file; trouble with that is not the run's.
    fn keep_up(&self, state: &State, ui: &mut Ui) {
        let path = self.config_path.as_deref();
        if let Err(error) = upkeep::keep(state, &self.config.schedule, path, self.clock.now()) {
            warn_of(ui, "nobody looked for jobs that are overdue", &error.into());
        }
    }

    /// Opens the state, and warns where nothing can be recorded.
    fn recorder(&self, ui: &mut Ui) -> Recorder {
        match paths::state_dir(self.global.state_dir.as_deref(), &self.env) {
            Ok(dir) => {
                let (recorder, trouble) = Recorder::open(&dir);
                if let Some(error) = trouble {
                    warn_of(ui, "this run is not recorded", &error.into());
                }
                recorder
            }
            Err(error) => {
                warn_of(ui, "this run is not recorded", &error.into());
                Recorder::off()
            }
        }
    }

    /// Takes the lock of a job; where no lock can be kept the job goes on without.
    pub fn lock(&self, name: &str, ui: &mut Ui) -> anyhow::Result<Option<JobLock>> {
        let Ok(dir) = paths::state_dir(self.global.state_dir.as_deref(), &self.env) else { return Ok(None) };
        match JobLock::acquire(&dir, name, &self.clock as &dyn Clock) {
            Ok(lock) => Ok(Some(lock)),
            Err(error @ LockError::Held { .. }) => Err(error.into()),
            Err(error @ LockError::Io { .. }) => {
                warn_of(ui, "nothing keeps a second run from starting", &error.into());
                Ok(None)
            }
        }
    }
}

/// Warns of an error that does not stop the run.
fn warn_of(ui: &mut Ui, consequence: &str, error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().map(plain).collect();
    ui.warn(format_args!("{consequence}: {}", causes.join(": ")));
}

/// The number of threads to use where nobody says.
pub fn threads(explicit: Option<std::num::NonZeroUsize>) -> usize {
    explicit.or_else(|| std::thread::available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}
