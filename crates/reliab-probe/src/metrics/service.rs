//! The scrape of a service: from its answer to facts.

use chrono::{DateTime, TimeDelta, Utc};
use hyper::header::CONTENT_TYPE;
use reliab_common::exit::Level;
use reliab_common::fact::{CheckResult, Facts, Sample};
use reliab_common::state::State;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::delta::{Delta, QUANTILES};
use super::reading::Reading;
pub(crate) use super::reading::Wanted;
use crate::finding::{Finding, excerpt};
use crate::report::{Row, took};
use crate::run::Outcome;

const SOURCE: &str = "service";
/// What is asked for: both formats, the one with a clear end first.
pub(crate) const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Counting begins anew where the last scrape is older than this many times the span between the two before it: what
/// happened in hours without a scrape did not happen now.
const PERIODS: i64 = 4;
/// A span up to this is counted in any case, as scrapes by hand come soon after another.
const SPAN: TimeDelta = TimeDelta::minutes(15);

/// What a scrape found.
#[derive(Serialize)]
pub(crate) struct Scraped {
    name: String,
    level: Level,
    summary: String,
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    /// What the next scrape counts from.
    #[serde(skip)]
    kept: Option<Kept>,
}

/// A reading in the state.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: DateTime<Utc>,
    /// What was read where: counts of something else cannot be compared.
    #[serde(default)]
    of: String,
    /// Seconds since the scrape before.
    #[serde(default)]
    period: i64,
    reading: Reading,
}

impl Kept {
    /// Why nothing can be counted from `before` on.
    fn anew(&self, before: &Self) -> Option<String> {
        let since = self.at - before.at;
        let limit =
            SPAN.max(TimeDelta::try_seconds(before.period.saturating_mul(PERIODS)).unwrap_or_default());
        if self.of != before.of {
            Some("other metrics than in the last scrape: counting begins anew".into())
        } else if since > limit {
            let ago = took(since.to_std().unwrap_or_default());
            Some(format!("the last scrape was {ago} ago: counting begins anew"))
        } else {
            None
        }
    }
}

/// Reads a service's metrics and counts from its last scrape on.
pub(crate) fn scraped(outcome: &Outcome, wanted: &Wanted, state: Option<&State>) -> Scraped {
    let name = outcome.target.name.clone();
    let nothing = |level, summary: String, kept| Scraped {
        name: name.clone(),
        level,
        summary,
        at: outcome.at,
        requests: None,
        errors: None,
        p50: None,
        p95: None,
        p99: None,
        kept,
    };
    let reading = match read(outcome, wanted) {
        Ok(reading) => reading,
        // What a service does is not known while its metrics cannot be read; whether it is up, its probes tell.
        Err(problem) => return nothing(Level::Unknown, problem, None),
    };
    let note = unseen(&reading, wanted).map(|note| format!("; {note}")).unwrap_or_default();
    let of = format!("{} {}", outcome.target.shown, wanted.text());
    let mut kept = Kept { at: outcome.at, of, period: 0, reading };
    let Some(before) = state.and_then(|state| last(state, &name)) else {
        return nothing(Level::Ok, format!("first scrape: counting begins{note}"), Some(kept));
    };
    kept.period = (kept.at - before.at).num_seconds();
    if let Some(reason) = kept.anew(&before) {
        return nothing(Level::Ok, reason + &note, Some(kept));
    }
    let delta = Delta::between(&before.reading, &kept.reading);
    if !delta.is_counted() {
        let problem = "expected counts, got some whose sum is beyond the largest number";
        return nothing(Level::Unknown, problem.to_owned(), None);
    }
    let summary = summary(&delta, outcome.at - before.at) + &note;
    kept.reading.remember(before.reading);
    let [p50, p95, p99] = delta.quantiles;
    let (requests, errors) = (Some(delta.requests), delta.errors);
    Scraped { requests, errors, p50, p95, p99, ..nothing(Level::Ok, summary, Some(kept)) }
}

/// Why errors are not counted. The rest is worth having all the same.
fn unseen(reading: &Reading, wanted: &Wanted) -> Option<String> {
    let reason = match &wanted.errors {
        Some(selector) => format!("no series fits `errors`, {}", excerpt(selector.text())),
        None => "no request has a label `code`, `status` or `status_code`; set `errors`".into(),
    };
    (!reading.sees_errors).then(|| format!("errors are not known: {reason}"))
}

fn read(outcome: &Outcome, wanted: &Wanted) -> Result<Reading, String> {
    let Some(answer) = outcome.answer.as_ref().filter(|_| outcome.level == Level::Ok) else {
        return Err(outcome.findings.iter().map(Finding::text).collect::<Vec<_>>().join("; "));
    };
    let kind =
        answer.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let open_metrics = kind.is_some_and(|kind| kind.starts_with("application/openmetrics-text"));
    let text =
        std::str::from_utf8(&answer.body).map_err(|_| "expected metrics as text, got what is not UTF-8")?;
    let reading = Reading::of(text, open_metrics, wanted);
    let reading =
        reading.map_err(|error| format!("expected metrics of Prometheus, got what is none: {error}"))?;
    if reading.requests.is_empty() {
        let wanted = wanted
            .requests
            .as_ref()
            .map_or_else(|| format!("{}_count", wanted.latency.name), |selector| selector.name.clone());
        return Err(format!("expected a series of {}, got none that fits", excerpt(&wanted)));
    }
    Ok(reading)
}

fn summary(delta: &Delta, since: chrono::TimeDelta) -> String {
    let mut summary = format!("{} requests", delta.requests);
    if let Some(errors) = delta.errors {
        let share = if delta.requests > 0.0 { errors / delta.requests * 100.0 } else { 0.0 };
        summary.push_str(&format!(", {errors} errors ({share:.1} %)"));
    }
    for ((name, _), value) in QUANTILES.into_iter().zip(delta.quantiles) {
        if let Some(time) = value.and_then(|value| std::time::Duration::try_from_secs_f64(value).ok()) {
            summary.push_str(&format!(", {name} {}", took(time)));
        }
    }
    summary + &format!(" in {}", took(since.to_std().unwrap_or_default()))
}

fn cursor(name: &str) -> String {
    format!("service-{name}")
}

/// What the last scrape read; one that cannot be read is as good as none.
fn last(state: &State, name: &str) -> Option<Kept> {
    serde_json::from_str(&state.cursor(&cursor(name)).ok()??).ok()
}

impl Scraped {
    /// What was found of the service.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The result as a line for people.
    pub(crate) fn line(&self) -> String {
        format!("{:<8}  {}  {}", crate::report::word(self.level), self.name, self.summary)
    }

    /// The service's part in the line for a monitoring plugin.
    pub(crate) fn row(&self) -> Row<'_> {
        let performance = self.figures().into_iter().map(|(figure, unit, value)| {
            let unit = if unit == "s" { "s" } else { "" };
            format!("'{}.{figure}'={value}{unit}", self.name.replace(['\'', '='], "_"))
        });
        Row {
            name: &self.name,
            level: self.level,
            summary: &self.summary,
            performance: performance.collect(),
        }
    }

    fn figures(&self) -> Vec<(&'static str, &'static str, f64)> {
        let all = [
            ("requests", "1", self.requests),
            ("errors", "1", self.errors),
            ("p50", "s", self.p50),
            ("p95", "s", self.p95),
            ("p99", "s", self.p99),
        ];
        all.into_iter().filter_map(|(figure, unit, value)| Some((figure, unit, value?))).collect()
    }

    /// Adds the facts for the state.
    pub(crate) fn store(&self, facts: &mut Facts) {
        let (source, target, at) = (SOURCE.to_owned(), self.name.clone(), self.at);
        let figures = self.figures();
        let detail = figures.iter().map(|&(figure, _, value)| (figure.to_owned(), json!(value))).collect();
        let (level, summary) = (self.level, self.summary.clone());
        facts.checks.push(CheckResult { source, target, at, level, summary, detail });
        facts.samples.extend(figures.into_iter().map(|(figure, unit, value)| {
            let (source, target, figure) = (SOURCE.to_owned(), self.name.clone(), figure.to_owned());
            Sample { source, target, figure, unit, at, value }
        }));
    }

    /// Keeps what the next scrape counts from. It is stored before the counts are: a run that is cut off in between
    /// loses them, and none is counted twice.
    pub(crate) fn keep(&self, state: &State) -> anyhow::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        state.set_cursor(&cursor(&self.name), &serde_json::to_string(kept)?)?;
        Ok(())
    }
}
