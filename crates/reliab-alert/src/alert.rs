//! `alert`: evaluate the rules, deliver what is owed.

use chrono::TimeDelta;
use reliab_common::app::{Tool, after_help, document};
use reliab_common::clock::Clock as _;
use reliab_common::count::counted;
use reliab_common::exit::Exit;
use reliab_common::fact::{self, Facts, HOURLY_DAYS};
use reliab_common::failure::{ErrorTable, plain};
use reliab_common::session::{Job, Outcome, Session};
use reliab_common::ui::Ui;
use serde::Serialize;
use serde_json::json;

use anyhow::Context as _;

use crate::deliver::{self, Delivered};
use crate::live::{self, Evaluated};
use crate::open::host;
use crate::ping::{self, Came, Pinged};
use crate::rule::Rules;
use crate::store;

const EXAMPLES: &str = "  \
  reliab alert                           evaluate the rules and deliver what is owed, from a timer
  reliab alert --no-delivery             evaluate only; the next run delivers
  reliab alert check                     how bad is what is open, as an exit code
  reliab alert why 7                     why incident 7 was told, or was not
  reliab alert simulate --since 7d       what the rules would have told on stored history";

/// Evaluate rules over what the tools recorded, and deliver what is owed.
///
/// May be stopped anywhere and run again: no message is lost, and none is made twice. Without any [[rule]] in the
/// configuration built-in ones hold.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct Args {
    /// Evaluate only, and leave the messages to the next run.
    #[arg(long)]
    pub(crate) no_delivery: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    evaluated: Evaluated,
    delivery: Option<Delivered>,
    ping: Option<Pinged>,
}

impl Tool for Args {
    const NAME: &'static str = "alert";
    const ERRORS: &'static ErrorTable = &ErrorTable::COMMON;
    type End = Exit;

    fn run(self, session: &Session, ui: &mut Ui) -> anyhow::Result<Exit> {
        let rules = Rules::read(&session.config);
        session.record("alert", ui, |job, ui| self.act(&rules, job, ui))
    }
}

impl Args {
    /// Evaluates and delivers; what keeps the one from being done does not keep the other.
    fn act(&self, rules: &Rules, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Outcome<Exit>> {
        let evaluated = evaluate(rules, job, ui);
        let delivery = (!self.no_delivery).then(|| deliver::run(job, ui));
        let ping = delivery.as_ref().and_then(|delivery| ping(evaluated.is_ok(), delivery, job, ui));
        let pinged = ping.as_ref().map(Pinged::facts).unwrap_or_default();
        let evaluated = evaluated.inspect_err(|_| keep(delivery.as_ref(), &pinged, job, ui))?;
        let delivery = delivery.transpose().inspect_err(|_| keep(None, &pinged, job, ui))?;
        let troubled = delivery.as_ref().is_some_and(|delivered| delivered.failed + delivered.refused > 0);
        let exit = if troubled { Exit::Partial } else { Exit::Done };
        ui.summary(summary(evaluated, delivery.as_ref(), ping.as_ref()));
        let mut facts = delivery.as_ref().map(|delivered| delivered.facts.clone()).unwrap_or_default();
        facts.checks.extend(pinged.checks);
        let report = Report { evaluated, delivery, ping };
        let figures = json!(&report);
        if ui.is_json() {
            ui.json(&document(Self::NAME, exit, report));
        }
        Ok(Outcome { exit, figures, facts })
    }
}

fn evaluate(rules: &Rules, job: &Job<'_>, ui: &mut Ui) -> anyhow::Result<Evaluated> {
    let state = job.recorder.state().context("cannot evaluate rules without the state file")?;
    let now = job.session.clock.now();
    let evaluated = live::run(state, rules, &host(), now)?.unwrap_or_else(|| {
        ui.warn("other runs evaluated the rules at the same time; the next one goes on");
        Evaluated::default()
    });
    store::forget_before(state, now - TimeDelta::days(HOURLY_DAYS))?;
    Ok(evaluated)
}

/// Says elsewhere that all is well, where it is.
fn ping(evaluated: bool, delivery: &anyhow::Result<Delivered>, job: &Job<'_>, ui: &mut Ui) -> Option<Pinged> {
    let unrecorded = delivery.as_ref().map_or(0, |delivered| delivered.unrecorded);
    let channels = &job.session.config.channel;
    ping::run(job, ping::Done { evaluated, delivered: delivery.is_ok(), unrecorded, channels }, ui)
}

/// Keeps what a delivery and a ping found out in a run that ends with an error.
fn keep(delivery: Option<&anyhow::Result<Delivered>>, pinged: &Facts, job: &Job<'_>, ui: &mut Ui) {
    let Some(state) = job.recorder.state() else { return };
    let mut facts = pinged.clone();
    match delivery {
        Some(Ok(delivered)) => {
            facts.checks.extend(delivered.facts.checks.iter().cloned());
            facts.samples.extend(delivered.facts.samples.iter().cloned());
        }
        Some(Err(error)) => ui.warn(format_args!("{error:#}")),
        None => {}
    }
    if facts != Facts::default()
        && let Err(error) = state.write(|db| fact::store_all(db, None, &facts))
    {
        ui.warn(format_args!("the state of the outbox is not recorded: {}", plain(&error)));
    }
}

fn summary(evaluated: Evaluated, delivery: Option<&Delivered>, ping: Option<&Pinged>) -> String {
    let mut parts = vec![format!("{} open", counted(evaluated.open as u64, "incident", "incidents"))];
    if evaluated.pending > 0 {
        parts.push(format!("{} pending", evaluated.pending));
    }
    parts.push(format!("{} owed", counted(evaluated.owed as u64, "new message", "new messages")));
    if let Some(delivered) = delivery {
        parts.push(format!("{} delivered", delivered.delivered));
        let trouble = [(delivered.failed, "failed"), (delivered.refused, "refused")];
        parts.extend(
            trouble.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
    }
    // One that was sent a moment ago is no news.
    parts.extend(
        ping.filter(|ping| ping.outcome != Came::Recent).map(|ping| format!("ping {}", ping.summary)),
    );
    parts.join(", ")
}
