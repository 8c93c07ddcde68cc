//! Conditions that time decides: ages, silence of heartbeats, figures and budgets, as of any moment.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::state::{State, StateError};
use reliab_common::units;

use super::Finding;
use super::burn;
use crate::history;
use crate::pattern::Pattern;
use crate::rule::condition::{Condition, Figure, Measure, OUTBOX, Side};
use crate::rule::{Rule, Rules};

/// A service that told nothing for longer is gone, and hides no probe of its name.
pub(super) const LATELY: TimeDelta = TimeDelta::days(1);

/// A subject and what was found of it.
pub(super) type Found = (String, Finding);

/// What a condition needs to be looked at.
pub(super) struct Moment<'a> {
    pub(super) state: &'a State,
    pub(super) rules: &'a Rules,
    pub(super) now: DateTime<Utc>,
    /// By when all that is stored had happened.
    pub(super) known: DateTime<Utc>,
    /// When the rule was first evaluated: the age of what never was.
    pub(super) known_since: DateTime<Utc>,
}

impl Moment<'_> {
    /// What holds of each subject of the rule; `held` tells of a subject whether its incident is open.
    pub(super) fn look(&self, rule: &Rule, held: &dyn Fn(&str) -> bool) -> Result<Vec<Found>, StateError> {
        match &rule.when {
            Condition::State { .. } => Ok(Vec::new()),
            Condition::Older { source, .. } if source == OUTBOX => self.outbox(rule).map(|found| vec![found]),
            Condition::Older { source, target, limit } => self.older(rule, source, target.as_ref(), *limit),
            Condition::Missing { name, limit } => self.missing(rule, name, *limit),
            Condition::Configuration => Ok(self.configuration(rule)),
            Condition::Figure(figure) => self.figure(rule, figure, held),
            Condition::Burn { slo } => self
                .rules
                .slos
                .iter()
                .filter(|known| slo.matches(&known.name))
                .map(|known| Ok((format!("slo {}", known.name), burn::look(self.state, known, self.now)?)))
                .collect(),
        }
    }

    /// Of each rule with problems the first one in one line, and how many there are.
    fn configuration(&self, rule: &Rule) -> Vec<Found> {
        let mut problems: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for problem in &self.rules.problems {
            let line = problem.text.lines().next().unwrap_or_default();
            problems.entry(problem.subject()).or_default().push(line);
        }
        let bad = |lines: &[&str]| {
            let more = match lines.len() - 1 {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            Finding::Bad(level(rule), format!("{}{more}: see `reliab config check`", lines[0]))
        };
        problems.into_iter().map(|(subject, lines)| (subject, bad(&lines))).collect()
    }

    fn outbox(&self, rule: &Rule) -> Result<Found, StateError> {
        let Condition::Older { limit, .. } = rule.when else {
            return Ok((OUTBOX.to_owned(), Finding::Nothing));
        };
        let finding = match history::owed(self.state, self.now, self.known)? {
            Some((since, count)) if self.now - since > limit => {
                let age = span(self.now - since);
                let summary =
                    format!("{count} messages not delivered, the oldest for {age} (limit {})", span(limit));
                Finding::Bad(level(rule), summary)
            }
            _ => Finding::Good,
        };
        Ok((OUTBOX.to_owned(), finding))
    }

    fn older(
        &self,
        rule: &Rule,
        source: &str,
        target: Option<&Pattern>,
        limit: TimeDelta,
    ) -> Result<Vec<Found>, StateError> {
        let age = |target: Option<&str>| {
            let last = history::last_done(self.state, source, target, self.now)?;
            Ok(self.age(rule, last, limit, "last done"))
        };
        let Some(pattern) = target else { return Ok(vec![(source.to_owned(), age(None)?)]) };
        let targets = match pattern.exact() {
            Some(name) => vec![name.to_owned()],
            None => history::targets(self.state, source, pattern, self.now)?,
        };
        targets.into_iter().map(|target| Ok((format!("{source} {target}"), age(Some(&target))?))).collect()
    }

    fn missing(&self, rule: &Rule, name: &Pattern, limit: TimeDelta) -> Result<Vec<Found>, StateError> {
        let names = match name.exact() {
            Some(name) => vec![name.to_owned()],
            None => history::heartbeats(self.state, name, self.now)?,
        };
        let found = |name: String| {
            let last = history::last_beat(self.state, &name, self.now)?;
            Ok((format!("heartbeat {name}"), self.age(rule, last, limit, "last heard of")))
        };
        names.into_iter().map(found).collect()
    }

    /// What never was counts from when the rule was first evaluated.
    fn age(&self, rule: &Rule, last: Option<DateTime<Utc>>, limit: TimeDelta, what: &str) -> Finding {
        let age = self.now - last.unwrap_or(self.known_since);
        if age <= limit {
            return Finding::Good;
        }
        let limit = span(limit);
        let summary = match last {
            Some(_) => format!("{what} {} ago (limit {limit})", span(age)),
            None => format!("never {}, watched for {} (limit {limit})", &what["last ".len()..], span(age)),
        };
        Finding::Bad(level(rule), summary)
    }

    fn figure(
        &self,
        rule: &Rule,
        figure: &Figure,
        held: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Found>, StateError> {
        let (of_service, of_probe) = match figure.what {
            Measure::Errors => ("requests".to_owned(), "up"),
            Measure::Quantile(percent) => (format!("p{percent}"), "seconds"),
        };
        let measured = |source, name| {
            history::measured(self.state, source, name, &figure.of, figure.over.max(LATELY), self.now)
        };
        let services = measured("service", &of_service)?;
        let mut probes = measured("probe", of_probe)?;
        // A service tells of every request; its probe only of its own.
        probes.retain(|probe| !services.contains(probe));
        let services = services.into_iter().map(|name| ("service", name));
        let probes = probes.into_iter().map(|name| ("probe", name));
        let mut found = Vec::new();
        for (source, name) in services.chain(probes) {
            let subject = format!("{source} {name}");
            let finding = self.judge(rule, figure, (source, &name), held(&subject))?;
            found.push((subject, finding));
        }
        Ok(found)
    }

    /// A figure is bad when it is over the whole time and over each third of it of which something is known, so that
    /// no short burst opens an incident; it is good when it is over the last third.
    fn judge(
        &self,
        rule: &Rule,
        figure: &Figure,
        of: (&str, &str),
        held: bool,
    ) -> Result<Finding, StateError> {
        let third = figure.over / 3;
        let part = |back: i32| self.value(figure.what, of, third, self.now - third * back);
        if held {
            let Some(last) = part(0)? else { return Ok(Finding::Nothing) };
            let still = figure.side.holds(last.value, figure.until.unwrap_or(figure.limit));
            return Ok(if still { bad(rule, figure, last.value) } else { Finding::Good });
        }
        let Some(whole) = self.value(figure.what, of, figure.over, self.now)? else {
            return Ok(Finding::Nothing);
        };
        if !figure.side.holds(whole.value, figure.limit) {
            return Ok(Finding::Good);
        }
        let parts: Vec<Value> = [part(0)?, part(1)?, part(2)?].into_iter().flatten().collect();
        if parts.len() < 2 || whole.events < f64::from(rule.min_events) {
            return Ok(Finding::Nothing);
        }
        let lasts = parts.iter().all(|part| figure.side.holds(part.value, figure.limit));
        Ok(if lasts { bad(rule, figure, whole.value) } else { Finding::Good })
    }

    /// The figure over `span` before `until`; `None` without any event.
    fn value(
        &self,
        what: Measure,
        of: (&str, &str),
        span: TimeDelta,
        until: DateTime<Utc>,
    ) -> Result<Option<Value>, StateError> {
        match what {
            Measure::Errors => {
                let (requests, errors) = requests(self.state, of, span, until)?;
                Ok((requests > 0.0).then(|| Value { value: errors / requests, events: requests }))
            }
            Measure::Quantile(percent) => self.quantile(percent, of, span, until),
        }
    }

    /// Of a service the median of what it told; of a probe the quantile of its own times.
    fn quantile(
        &self,
        percent: u8,
        (source, target): (&str, &str),
        span: TimeDelta,
        until: DateTime<Utc>,
    ) -> Result<Option<Value>, StateError> {
        let told = format!("p{percent}");
        let (name, percent) = if source == "service" { (told.as_str(), 50) } else { ("seconds", percent) };
        let values = history::values(self.state, (source, target, name), span, until)?;
        let events = u32::try_from(values.len()).map_or(f64::INFINITY, f64::from);
        Ok(rank(&values, percent).map(|value| Value { value, events }))
    }
}

/// A figure, and from how many events it was made.
#[derive(Clone, Copy)]
struct Value {
    value: f64,
    events: f64,
}

/// Requests and errors over `span` before `until`: counts of a service, or runs of a probe.
pub(super) fn requests(
    state: &State,
    (source, target): (&str, &str),
    span: TimeDelta,
    until: DateTime<Utc>,
) -> Result<(f64, f64), StateError> {
    let sum = |figure| history::sum(state, (source, target, figure), span, until);
    if source == "service" {
        return Ok((sum("requests")?.total, sum("errors")?.total));
    }
    let up = sum("up")?;
    let runs = f64::from(up.count);
    Ok((runs, (runs - up.total).max(0.0)))
}

/// The value at a quantile of sorted values, by the nearest rank.
fn rank(sorted: &[f64], percent: u8) -> Option<f64> {
    let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn bad(rule: &Rule, figure: &Figure, value: f64) -> Finding {
    let (name, shown): (String, fn(f64) -> String) = match figure.what {
        Measure::Errors => ("errors".to_owned(), percent),
        Measure::Quantile(percent) => (format!("p{percent}"), seconds),
    };
    let side = if figure.side == Side::Above { "above" } else { "below" };
    let (value, limit, over) = (shown(value), shown(figure.limit), span(figure.over));
    Finding::Bad(level(rule), format!("{name} {value}, {side} {limit} for {over}"))
}

/// The level of a condition that has none of its own.
fn level(rule: &Rule) -> Level {
    rule.level.unwrap_or(Level::Critical)
}

pub(super) fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn seconds(seconds: f64) -> String {
    std::time::Duration::try_from_secs_f64(seconds).map_or_else(|_| format!("{seconds} s"), units::duration)
}

pub(super) fn span(span: TimeDelta) -> String {
    units::duration(span.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_at_its_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(rank(&hundred, 95), Some(95.0));
        assert_eq!(rank(&hundred, 50), Some(50.0));
        assert_eq!(rank(&[7.0], 99), Some(7.0));
        assert_eq!(rank(&[1.0, 2.0, 3.0], 50), Some(2.0));
        assert_eq!(rank(&[], 50), None);
    }
}
