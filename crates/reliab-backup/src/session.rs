//! What a run of a command knows of its surroundings.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reliab_common::clock::{Clock, SystemClock};
use reliab_common::config::Config;
use reliab_common::exit::Exit;
use reliab_common::lock::{JobLock, LockError};
use reliab_common::paths::{self, Env};
use reliab_common::record::{Recorder, RunRecord};
use reliab_common::signal::Stop;
use reliab_common::ui::Ui;
use serde_json::{Value, json};

use crate::app::Global;
use crate::failure::{Failure, plain};

/// The configuration, the environment and the options that every command has.
pub struct Session {
    /// Name of the command.
    pub name: &'static str,
    /// The configuration file's content.
    pub config: Config,
    /// The environment.
    pub env: Env,
    /// The options that every command has.
    pub global: Global,
    /// The time of day.
    pub clock: SystemClock,
}

/// How a job ended, with the figures for its record.
pub(crate) struct Outcome {
    pub exit: Exit,
    pub figures: Value,
}

/// A run that is being recorded and can be stopped.
pub(crate) struct Job<'a> {
    pub session: &'a Session,
    pub recorder: &'a Recorder,
    pub stop: Stop,
}

impl Session {
    /// Reads the configuration.
    pub fn open(name: &'static str, global: &Global) -> anyhow::Result<Self> {
        let env = Env::of_process();
        let cwd = std::env::current_dir().context("cannot tell the working folder")?;
        let config = Config::load(global.config.as_deref(), &env, &cwd)?;
        Ok(Self { name, config, env, global: global.clone(), clock: SystemClock })
    }

    /// The folder of what can be made again; a temporary one where there is no other.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        paths::cache_dir(self.global.cache_dir.as_deref(), &self.env)
            .unwrap_or_else(|_| std::env::temp_dir().join("reliab-cache"))
    }

    /// Does a job, stoppable by signals, and records how it went.
    pub(crate) fn record(
        &self,
        job: &str,
        ui: &mut Ui,
        act: impl FnOnce(&Job<'_>, &mut Ui) -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<Exit> {
        let recorder = self.recorder(ui);
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let run = RunRecord::start(&recorder, self.name, job, &self.clock);
        let result = act(&Job { session: self, recorder: &recorder, stop }, ui);
        let finished = match &result {
            Ok(outcome) => run.finish(outcome.exit, &outcome.figures),
            Err(error) => {
                let failure = Failure::of(error);
                run.finish(failure.exit, &json!({ "error": failure.text }))
            }
        };
        if let Err(error) = finished {
            warn_of(ui, "this run is not recorded", &error.into());
        }
        result.map(|outcome| outcome.exit)
    }

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
    pub(crate) fn lock(&self, name: &str, ui: &mut Ui) -> anyhow::Result<Option<JobLock>> {
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

    /// The repository that an option, the environment or the configuration names.
    pub(crate) fn repository(&self, explicit: Option<&Path>) -> PathBuf {
        let from_env = || self.env.var("RELIAB_REPOSITORY").map(PathBuf::from);
        explicit
            .map(Path::to_owned)
            .or_else(from_env)
            .unwrap_or_else(|| self.config.backup.repository.clone())
    }
}

/// Warns of an error that does not stop the run.
fn warn_of(ui: &mut Ui, consequence: &str, error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().map(plain).collect();
    ui.warn(format_args!("{consequence}: {}", causes.join(": ")));
}

/// The number of threads to use where nobody says.
pub(crate) fn threads(explicit: Option<std::num::NonZeroUsize>) -> usize {
    explicit.or_else(|| std::thread::available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}
