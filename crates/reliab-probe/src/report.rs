//! What is told of a run: lines, one line for a monitoring plugin, JSON, facts for the state.

use std::time::Duration;

use reliab_common::exit::Level;
use reliab_common::fact::{CheckResult, Facts, Sample};
use reliab_common::units;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::finding::Finding;
use crate::run::Outcome;
use crate::target::Kind;
use crate::trace::{Phase, Seen};

const SOURCE: &str = "probe";

/// A time as probes need it: `0.4 ms`, `38 ms`, `4.3 s`.
pub(crate) fn took(time: Duration) -> String {
    let micros = time.as_micros();
    if micros < 10_000 {
        let tenths = (micros + 50) / 100;
        return format!("{}.{} ms", tenths / 10, tenths % 10);
    }
    units::duration(time)
}

/// The result of a target, as JSON and detail of the state.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    name: &'a str,
    kind: &'static str,
    target: &'a str,
    level: Level,
    summary: String,
    #[serde(flatten)]
    detail: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    /// The last attempt, from its beginning to its end.
    seconds: f64,
    phases: Map<String, Value>,
    attempts: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<&'a str>,
    findings: &'a [Finding],
    #[serde(flatten)]
    seen: &'a Seen,
}

impl Outcome {
    /// The result for JSON.
    pub(crate) fn told(&self) -> Told<'_> {
        let (name, target) = (&*self.target.name, &*self.target.shown);
        let kind = self.target.kind.name();
        Told { name, kind, target, level: self.level, summary: self.summary(), detail: self.detail() }
    }

    fn detail(&self) -> Detail<'_> {
        let phase = |phase: Phase| Some((phase.name().to_owned(), json!(self.took(phase)?.as_secs_f64())));
        Detail {
            seconds: self.total.as_secs_f64(),
            phases: Phase::ALL.into_iter().filter_map(phase).collect(),
            attempts: self.attempts(),
            earlier: self.earlier.iter().map(String::as_str).collect(),
            findings: &self.findings,
            seen: &self.seen,
        }
    }

    fn took(&self, phase: Phase) -> Option<Duration> {
        self.phases[phase as usize]
    }

    /// One line: what was expected, what came, where the time went.
    pub(crate) fn summary(&self) -> String {
        let mut parts: Vec<String> = self.findings.iter().map(Finding::text).collect();
        if parts.is_empty() {
            parts.push(self.good());
        }
        match self.attempts() {
            1 => {}
            count if self.level == Level::Ok => parts.push(format!("at attempt {count}")),
            count => parts.push(format!("in each of {count} attempts")),
        }
        parts.push(self.times());
        parts.join("; ")
    }

    /// What came, where all is well.
    fn good(&self) -> String {
        let seen = &self.seen;
        let mut good = match &self.target.kind {
            Kind::Http(_) => format!("status {}", seen.status.unwrap_or_default()),
            Kind::Dns(dns) if !seen.answers.is_empty() => {
                format!("{} {}", dns.record, seen.answers.join(", "))
            }
            Kind::Dns(_) => seen.rcode.clone().unwrap_or_default(),
            Kind::Tls(..) => seen.tls.clone().unwrap_or_default(),
            Kind::Tcp(_) | Kind::Unready(_) => "connected".to_owned(),
        };
        if let Some(certificate) = &seen.certificate {
            let days = certificate.days_left(self.at);
            good.push_str(&format!(", certificate valid for {days:.0} days"));
        }
        good
    }

    fn times(&self) -> String {
        let phase = |phase: Phase| Some(format!("{} {}", phase.label(), took(self.took(phase)?)));
        let phases: Vec<_> = Phase::ALL.into_iter().filter_map(phase).collect();
        // A probe of one phase has nothing to split.
        if phases.len() < 2 {
            took(self.total)
        } else {
            format!("{} ({})", took(self.total), phases.join(", "))
        }
    }

    /// The result as a line for people.
    pub(crate) fn line(&self) -> String {
        format!("{:<8}  {}  {}", word(self.level), self.target.name, self.summary())
    }

    /// Adds the facts for the state.
    pub(crate) fn store(&self, facts: &mut Facts) {
        let (source, target, at) = (SOURCE.to_owned(), self.target.name.clone(), self.at);
        let detail = serde_json::to_value(self.detail()).unwrap_or_default();
        let summary = self.summary();
        facts.checks.push(CheckResult { source, target, at, level: self.level, summary, detail });
        if self.level == Level::Unknown {
            // Nothing is known of the target, so nothing is said of it.
            return;
        }
        let up = if self.level == Level::Critical { 0.0 } else { 1.0 };
        let mut add = |figure: &str, unit, value| {
            let (source, target, figure) = (SOURCE.to_owned(), self.target.name.clone(), figure.to_owned());
            facts.samples.push(Sample { source, target, figure, unit, at, value });
        };
        add("up", "1", up);
        add("seconds", "s", self.total.as_secs_f64());
        for phase in Phase::ALL {
            if let Some(time) = self.took(phase) {
                add(&format!("seconds.{}", phase.name()), "s", time.as_secs_f64());
            }
        }
        if let Some(certificate) = &self.seen.certificate {
            add("certificate_days", "d", certificate.days_left(at));
        }
    }

    /// Performance data of the monitoring-plugins convention: `'label'=value;warn;critical;min;max`.
    fn performance(&self, alone: bool) -> Vec<String> {
        let seconds =
            |time: Option<Duration>| time.map(|time| time.as_secs_f64().to_string()).unwrap_or_default();
        let limits = self.target.latency.total.unwrap_or_default();
        let (warn, critical) = (seconds(limits.warn), seconds(limits.critical));
        let data = |label: &str, time: Duration| format!("'{}'={:.6}s", bare(label), time.as_secs_f64());
        if !alone {
            return vec![format!("{};{warn};{critical};0", data(&self.target.name, self.total))];
        }
        let mut all = vec![format!("{};{warn};{critical};0", data("time", self.total))];
        all.extend(Phase::ALL.into_iter().filter_map(|phase| Some(data(phase.name(), self.took(phase)?))));
        if let Some(certificate) = &self.seen.certificate {
            all.push(format!("'certificate_days'={:.1}", certificate.days_left(self.at)));
        }
        all
    }
}

/// The level as monitoring plugins write it.
pub(crate) fn word(level: Level) -> String {
    level.name().to_ascii_uppercase()
}

/// A label may have neither quotes nor an equals sign.
fn bare(label: &str) -> String {
    label.replace(['\'', '='], "_")
}

/// A check in a few words, and how it fared.
pub(crate) struct Row<'a> {
    /// The name.
    pub name: &'a str,
    /// What it is.
    pub level: Level,
    /// More.
    pub summary: &'a str,
    /// Performance data.
    pub performance: Vec<String>,
}

impl Outcome {
    /// The target's part in the line for a monitoring plugin.
    pub(crate) fn row<'a>(&'a self, summary: &'a str, alone: bool) -> Row<'a> {
        Row { name: &self.target.name, level: self.level, summary, performance: self.performance(alone) }
    }
}

/// The one line of a monitoring plugin.
pub(crate) fn nagios(rows: &[Row<'_>], level: Level) -> String {
    let text = if let [row] = rows {
        format!("{}: {}", row.name, row.summary)
    } else {
        let bad: Vec<_> = rows.iter().filter(|row| row.level != Level::Ok).collect();
        let parts = bad.iter().map(|row| format!("{} {}: {}", row.name, word(row.level), row.summary));
        std::iter::once(counted(rows)).chain(parts).collect::<Vec<_>>().join("; ")
    };
    let performance: Vec<_> = rows.iter().flat_map(|row| row.performance.clone()).collect();
    // The bar begins the performance data; the text may have none.
    format!("PROBE {} - {} | {}", word(level), text.replace('|', "/"), performance.join(" "))
}

/// How many targets there are, and how many of each level.
pub(crate) fn counted(rows: &[Row<'_>]) -> String {
    let count = |level: Level| rows.iter().filter(|row| row.level == level).count();
    let levels = Level::ALL.iter().map(|&level| (level, count(level))).filter(|&(_, count)| count > 0);
    let levels: Vec<_> = levels.map(|(level, count)| format!("{count} {}", word(level))).collect();
    let all = if rows.len() == 1 { "1 target".to_owned() } else { format!("{} targets", rows.len()) };
    if levels.is_empty() { all } else { format!("{all}: {}", levels.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_keep_a_decimal() {
        assert_eq!(took(Duration::from_micros(40)), "0.0 ms");
        assert_eq!(took(Duration::from_micros(1_250)), "1.3 ms");
        assert_eq!(took(Duration::from_millis(38)), "38 ms");
        assert_eq!(took(Duration::from_millis(4_321)), "4.3 s");
    }

    #[test]
    fn a_plugin_line_has_one_bar_and_counts() {
        let row =
            |name, level, summary| Row { name, level, summary, performance: vec![format!("'{name}'=1s")] };
        let rows = [row("a", Level::Ok, "fine"), row("b", Level::Critical, "got x|y")];
        assert_eq!(
            nagios(&rows, Level::Critical),
            "PROBE CRITICAL - 2 targets: 1 OK, 1 CRITICAL; b CRITICAL: got x/y | 'a'=1s 'b'=1s"
        );
        assert_eq!(nagios(&rows[..1], Level::Ok), "PROBE OK - a: fine | 'a'=1s");
    }
}
