//! `probe`: is it up, and as it should be?

use std::time::{Duration, Instant};

use reliab_common::app::{Tool, after_help_of, document};
use reliab_common::config::probe::LatencyLimit;
use reliab_common::config::{Config, Probe};
use reliab_common::exit::Level;
use reliab_common::fact::Facts;
use reliab_common::failure::{ErrorTable, UsageError};
use reliab_common::paths::Env;
use reliab_common::session::{Job, Outcome as Ended, Session};
use reliab_common::ui::Ui;
use reliab_common::units;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::json;

use crate::metrics::service::{Scraped, Wanted, scraped};
use crate::report::{Row, Told, counted, nagios, took};
use crate::resolve::{Resolver, probe_of, scrape};
use crate::run::{self, Outcome};
use crate::target::Target;

const EXAMPLES: &str = "  \
  reliab probe                               every [[probe]] and [[service]] of the configuration
  reliab probe api shop                      these two
  reliab probe https://example.org/healthz   a URL, not in the configuration
  reliab probe tcp://127.0.0.1:5432 tls://example.org 'dns://example.org?type=MX'
  reliab probe --nagios api                  one line for a monitoring system";

/// The name under which a run as a whole is recorded; no probe can have it by accident.
const JOB: &str = "(run)";
/// Files that are open besides sockets: state, resolver, output.
const OTHER_FILES: u64 = 128;

/// Ask services over HTTP(S), TCP, TLS and DNS whether they are up and as they should be.
///
/// Without names all probes of the configuration are asked, and the metrics of all services are read. A probe that
/// fails is tried again before it counts.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help_of::<Level>(EXAMPLES))]
pub struct Args {
    /// Names of probes and services, or URLs (http, https, tcp, tls, dns).
    #[arg(value_name = "NAME|URL")]
    targets: Vec<String>,
    /// Most sockets that are open at a time.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_sockets: u32,
    /// For URLs: how long an attempt may take [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    timeout: Option<Duration>,
    /// For URLs: how many more attempts there are after one that failed [default: 2].
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// For http and https URLs: the status expected, such as 200 or 200-399 [default: 200-299].
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// For URLs: an answer that takes longer is a warning.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    warn: Option<Duration>,
    /// For URLs: an answer that takes longer is critical.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    critical: Option<Duration>,
    /// Print one line as monitoring plugins do, with performance data.
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
}

/// What is to be done: targets, and what is read of those that are scrapes.
struct Plan {
    targets: Vec<Target>,
    /// For the last targets, in their order.
    scrapes: Vec<Wanted>,
    references: Vec<Target>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    seconds: f64,
    probes: Vec<Told<'a>>,
    services: &'a [Scraped],
}

impl Tool for Args {
    const NAME: &'static str = "probe";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Level;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Level> {
        let plan = self.plan(session)?;
        if plan.targets.is_empty() {
            let text =
                "there is nothing to probe: give a URL, or write [[probe]] sections in the configuration";
            return Err(UsageError(text.into()).into());
        }
        allow_sockets(self.max_sockets)?;
        session.record(JOB, ui, |job, ui| self.probe(plan, job, ui))
    }
}

impl Args {
    fn plan(&self, session: &Session) -> anyhow::Result<Plan> {
        check_unique(&session.config)?;
        let mut resolver = Resolver::new(&session.env);
        let (probes, names) = self.wanted(&session.config)?;
        let mut targets = Vec::new();
        for probe in &probes {
            targets.push(resolver.target(probe)?);
        }
        let mut scrapes = Vec::new();
        for service in &session.config.service {
            let is_wanted = names.as_ref().is_none_or(|names| names.contains(&service.name.as_str()));
            if let (true, Some((target, wanted))) = (is_wanted, scrape(&mut resolver, service)?) {
                targets.push(target);
                scrapes.push(wanted);
            }
        }
        Ok(Plan { targets, scrapes, references: references(&session.config, &mut resolver)? })
    }

    /// The probes asked for, and the names given; `None`: no names, so everything.
    fn wanted(&self, config: &Config) -> Result<(Vec<Probe>, Option<Vec<&str>>), UsageError> {
        let (urls, names): (Vec<&str>, Vec<&str>) =
            self.targets.iter().map(String::as_str).partition(|text| text.contains("://"));
        if urls.is_empty() {
            self.refuse_url_options()?;
        }
        if names.is_empty() && urls.is_empty() {
            return Ok((config.probe.clone(), None));
        }
        let mut probes = Vec::new();
        for &name in &names {
            let probe = config.probe.iter().find(|probe| probe.name == name);
            let is_service =
                config.service.iter().any(|service| service.name == name && service.metrics.is_some());
            if probe.is_none() && !is_service {
                return Err(unnamed(name));
            }
            probes.extend(probe.cloned());
        }
        for url in urls {
            probes.push(self.ad_hoc(url)?);
        }
        Ok((probes, Some(names)))
    }

    fn refuse_url_options(&self) -> Result<(), UsageError> {
        let options = [
            ("--timeout", self.timeout.is_some()),
            ("--retries", self.retries.is_some()),
            ("--status", self.status.is_some()),
            ("--warn", self.warn.is_some()),
            ("--critical", self.critical.is_some()),
        ];
        let given = options.into_iter().find(|(_, given)| *given);
        given.map_or(Ok(()), |(option, _)| {
            Err(UsageError(format!(
                "{option} is for URLs; what has a name has its settings in the configuration"
            )))
        })
    }

    fn ad_hoc(&self, url: &str) -> Result<Probe, UsageError> {
        let mut probe = probe_of(url).map_err(UsageError)?;
        probe.timeout = self.timeout.unwrap_or(probe.timeout);
        probe.retries = self.retries.unwrap_or(probe.retries);
        if probe.http.is_some() {
            probe.expect.status.extend(self.status.clone());
        }
        if self.warn.is_some() || self.critical.is_some() {
            probe.expect.latency = Some(LatencyLimit { warn: self.warn, critical: self.critical });
        }
        Ok(probe)
    }

    fn probe(&self, plan: Plan, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Ended<Level>> {
        let started = Instant::now();
        let progress = ui.progress();
        progress.start("probe", None);
        let sockets = self.max_sockets as usize;
        let mut outcomes = run::run(plan.targets, plan.references, sockets, &job.stop, &progress)?;
        progress.finish();
        let answers = outcomes.split_off(outcomes.len() - plan.scrapes.len());
        let state = job.recorder.state();
        let services: Vec<_> = answers
            .iter()
            .zip(&plan.scrapes)
            .map(|(answer, wanted)| scraped(answer, wanted, state))
            .collect();
        let took = started.elapsed();
        let levels = outcomes.iter().map(|outcome| outcome.level).chain(services.iter().map(Scraped::level));
        let level = levels.fold(Level::Ok, Level::worst);
        self.tell(&outcomes, &services, level, took, ui);
        let mut facts = Facts::default();
        outcomes.iter().for_each(|outcome| outcome.store(&mut facts));
        services.iter().for_each(|service| service.store(&mut facts));
        for service in &services {
            if let Some(Err(error)) = state.map(|state| service.keep(state)) {
                ui.warn(format_args!("the next scrape will count from an older one: {error}"));
            }
        }
        let figures = json!({
            "seconds": took.as_secs_f64(), "targets": outcomes.len() + services.len(),
            "attempts": outcomes.iter().map(Outcome::attempts).sum::<usize>(),
        });
        Ok(Ended { exit: level, figures, facts })
    }

    fn tell(&self, outcomes: &[Outcome], services: &[Scraped], level: Level, time: Duration, ui: &mut Ui) {
        if ui.is_json() {
            let probes = outcomes.iter().map(Outcome::told).collect();
            ui.json(&document(Self::NAME, level, Report { seconds: time.as_secs_f64(), probes, services }));
            return;
        }
        let alone = outcomes.len() + services.len() == 1;
        let summaries: Vec<String> = outcomes.iter().map(Outcome::summary).collect();
        let rows = outcomes.iter().zip(&summaries).map(|(outcome, summary)| outcome.row(summary, alone));
        let rows: Vec<Row<'_>> = rows.chain(services.iter().map(Scraped::row)).collect();
        if self.nagios {
            ui.out(nagios(&rows, level));
            return;
        }
        // Results that are not well are told in any case; the others to a person, or where there is but one.
        let lines = outcomes.iter().map(|outcome| (outcome.level, outcome.line()));
        let lines = lines.chain(services.iter().map(|service| (service.level(), service.line())));
        let is_watched = ui.for_person();
        for (of_line, line) in lines {
            if of_line != Level::Ok {
                ui.out(line);
            } else if alone || is_watched {
                ui.summary(line);
            }
        }
        if !alone {
            ui.summary(format_args!("{} in {}", counted(&rows), took(time)));
        }
    }
}

/// The references of the uplink; one attempt each is enough.
fn references(config: &Config, resolver: &mut Resolver<'_>) -> Result<Vec<Target>, UsageError> {
    let target = |text: &String| {
        let probe =
            probe_of(text).map_err(|problem| UsageError(format!("[uplink] references: {problem}")))?;
        resolver.target(&Probe { retries: 0, ..probe })
    };
    config.uplink.references.iter().map(target).collect()
}

/// Two of a name could not be told apart in the state.
fn check_unique(config: &Config) -> Result<(), UsageError> {
    let probes: Vec<&str> = config.probe.iter().map(|probe| probe.name.as_str()).collect();
    let services: Vec<&str> = config.service.iter().map(|service| service.name.as_str()).collect();
    for (what, mut names) in [("probes", probes), ("services", services)] {
        names.sort_unstable();
        let twice = names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next);
        if let Some((name, _)) = twice {
            return Err(UsageError(format!("two {what} are named `{name}`")));
        }
    }
    Ok(())
}

/// What is told of a name that the configuration does not have.
fn unnamed(name: &str) -> UsageError {
    let is_endpoint = probe_of(name).is_ok();
    let hint = if is_endpoint { format!(": give a URL such as tcp://{name}") } else { String::new() };
    UsageError(format!("no probe, and no service with metrics, is named `{name}` in the configuration{hint}"))
}

/// Raises the limit of open files if the sockets need it.
fn allow_sockets(max_sockets: u32) -> Result<(), UsageError> {
    let needed = u64::from(max_sockets) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let most = limit.maximum.unwrap_or_default().saturating_sub(OTHER_FILES);
        UsageError(format!(
            "--max-sockets {max_sockets} is more than this user may open; {most} are possible"
        ))
    })
}

/// Everything that is wrong with the sections `[[probe]]`, `[[service]]` and `[uplink]`; secrets are not read by it
/// where they cannot be.
pub fn check_config(config: &Config, env: &Env) -> Vec<String> {
    let mut resolver = Resolver::new(env);
    let mut problems: Vec<_> = check_unique(config).err().into_iter().collect();
    problems.extend(config.probe.iter().filter_map(|probe| resolver.target(probe).err()));
    problems.extend(config.service.iter().filter_map(|service| scrape(&mut resolver, service).err()));
    problems.extend(references(config, &mut resolver).err());
    problems.into_iter().map(|problem| problem.0).collect()
}
