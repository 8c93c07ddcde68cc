//! What a rule may be about.

use super::condition::{CHECKS, Condition, JOB, OUTBOX};
use super::{Rule, Rules};
use crate::history::Fact;

/// The subject of what is wrong with the configuration.
pub(crate) const CONFIGURATION: &str = "configuration";

impl Rules {
    /// Whether a rule on results is about this one.
    ///
    /// A check that failed itself is told by rules on jobs; where there is none for it, by those on what it looks at.
    pub fn is_about(&self, rule: &Rule, fact: &Fact) -> bool {
        let Condition::State { source, target, .. } = &rule.when else { return false };
        match source.as_str() {
            JOB => fact.job && target.matches(&fact.source),
            "*" => target.matches(&fact.target),
            source => {
                let elsewhere = fact.is_run_of_check() && self.tells_jobs_of(source);
                source == fact.source && target.matches(&fact.target) && !elsewhere
            }
        }
    }

    /// Whether a rule may be about a subject: an incident of which it can say nothing more is not watched.
    pub fn may_be_about(&self, rule: &Rule, subject: &str) -> bool {
        let (source, name) = subject.split_once(' ').unwrap_or((subject, ""));
        match &rule.when {
            Condition::State { source: wanted, target, .. } => {
                let run = name.split_once(' ').filter(|(tool, _)| source == JOB && CHECKS.contains(tool));
                let (tool, of) = run.unwrap_or((source, name));
                match wanted.as_str() {
                    JOB => target.matches(tool) && (run.is_some() || !CHECKS.contains(&tool)),
                    "*" => target.matches(of),
                    wanted => {
                        wanted == tool && target.matches(of) && !(run.is_some() && self.tells_jobs_of(tool))
                    }
                }
            }
            Condition::Older { source: wanted, .. } if wanted == OUTBOX => subject == OUTBOX,
            Condition::Older { source: wanted, target: None, .. } => subject == wanted,
            Condition::Older { source: wanted, target: Some(target), .. } => {
                source == wanted && target.matches(name)
            }
            Condition::Missing { name: wanted, .. } => source == "heartbeat" && wanted.matches(name),
            Condition::Figure(figure) => matches!(source, "service" | "probe") && figure.of.matches(name),
            Condition::Burn { slo } => {
                source == "slo" && slo.matches(name) && self.slos.iter().any(|known| known.name == name)
            }
            Condition::Configuration => source == CONFIGURATION,
        }
    }

    /// Whether a rule on jobs tells when this tool fails.
    fn tells_jobs_of(&self, tool: &str) -> bool {
        let tells = |rule: &Rule| match &rule.when {
            Condition::State { source, target, .. } => source == JOB && target.matches(tool),
            _ => false,
        };
        self.rules.iter().any(tells)
    }
}
