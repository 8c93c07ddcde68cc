//! The overview in the text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use reliab_common::exit::Level;

use crate::overview::{JobView, Measurement, Overview};

/// Metrics with the same name stand together, as the format asks.
#[derive(Default)]
struct Metrics(BTreeMap<String, (&'static str, String)>);

/// The text.
pub(crate) fn text(overview: &Overview) -> String {
    let mut metrics = Metrics::default();
    overall(&mut metrics, overview);
    overview.jobs.iter().for_each(|job| of_job(&mut metrics, job));
    for check in &overview.checks {
        let labels = [("source", check.source.as_str()), ("target", check.target.as_str())];
        let help = "What a check found last: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";
        metrics.add("reliab_check_level", help, &labels, f64::from(check.level.code()));
        let help = "When a check was last stored.";
        metrics.add("reliab_check_timestamp_seconds", help, &labels, seconds(check.at));
    }
    for beat in &overview.heartbeats {
        let help = "When something last reported in.";
        metrics.add("reliab_heartbeat_timestamp_seconds", help, &[("name", &beat.name)], seconds(beat.at));
    }
    overview.measurements.iter().for_each(|measured| of_measurement(&mut metrics, measured));
    metrics.text()
}

fn overall(metrics: &mut Metrics, overview: &Overview) {
    let help = "The worst of everything known: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";
    metrics.add("reliab_level", help, &[], f64::from(overview.level.code()));
    metrics.add(
        "reliab_status_timestamp_seconds",
        "When these metrics were made.",
        &[],
        seconds(overview.at),
    );
    for &level in Level::ALL {
        let open = overview.incidents.iter().filter(|incident| incident.level == level).count();
        metrics.add("reliab_incidents", "Open incidents.", &[("level", level.name())], float(open as u64));
    }
    let help = "Messages that wait to be delivered.";
    metrics.add("reliab_outbox_messages", help, &[], float(overview.outbox.owed));
    let oldest = overview.oldest_wait().unwrap_or_default().as_secs_f64();
    metrics.add("reliab_outbox_oldest_seconds", "How long the oldest message waits.", &[], oldest);
    let help = "Messages that channels refused for good in the last 7 days.";
    metrics.add("reliab_outbox_refused_messages", help, &[], float(overview.outbox.refused));
    metrics.add("reliab_state_size_bytes", "Size of the state file.", &[], float(overview.state.bytes));
}

fn of_job(metrics: &mut Metrics, job: &JobView) {
    let labels = [("tool", job.tool.as_str()), ("job", job.job.as_str())];
    let help = "When the last run of a job began.";
    metrics.add("reliab_job_start_timestamp_seconds", help, &labels, seconds(job.started));
    if let Some(good) = job.last_good {
        let help = "When the last run of a job began that did its work and found no damage.";
        metrics.add("reliab_job_success_timestamp_seconds", help, &labels, seconds(good));
    }
    if let Some((ended, exit)) = job.ended.zip(job.exit) {
        let took = (ended - job.started).to_std().unwrap_or_default().as_secs_f64();
        metrics.add("reliab_job_duration_seconds", "How long the last run of a job took.", &labels, took);
        metrics.add("reliab_job_exit_code", "The exit code of the last run of a job.", &labels, exit.into());
    }
}

/// `probe` `seconds.dns` becomes `reliab_probe_phase_seconds{phase="dns"}`.
fn of_measurement(metrics: &mut Metrics, measured: &Measurement) {
    let (figure, phase) = match measured.figure.split_once('.') {
        Some((figure, phase)) => (format!("phase_{figure}"), Some(phase)),
        None => (measured.figure.clone(), None),
    };
    let suffix = match measured.unit.as_str() {
        "s" if !figure.ends_with("seconds") => "_seconds",
        "bytes" if !figure.ends_with("bytes") => "_bytes",
        _ => "",
    };
    let name = format!("reliab_{}_{}{suffix}", word(&measured.source), word(&figure));
    let mut labels = vec![("target", measured.target.as_str())];
    labels.extend(phase.map(|phase| ("phase", phase)));
    metrics.add(&name, "The last measured value.", &labels, measured.value);
}

/// A part of a metric's name.
fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl Metrics {
    fn add(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let (_, lines) = self.0.entry(name.to_owned()).or_insert_with(|| (help, String::new()));
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{name}{labels} {value}");
    }

    fn text(&self) -> String {
        let group = |(name, (help, lines)): (&String, &(&str, String))| {
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}")
        };
        self.0.iter().map(group).collect()
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53 for ages")]
fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes are below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::example;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn promtool_finds_nothing_wrong() {
        let text = text(&example());
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is in the package prometheus");
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    }

    #[test]
    fn metrics_have_the_names_and_labels_of_what_they_are() {
        let text = text(&example());
        for expected in [
            "reliab_level 2\n",
            "reliab_incidents{level=\"critical\"} 1\n",
            "reliab_job_exit_code{tool=\"backup\",job=\"backups\"} 1\n",
            "reliab_job_duration_seconds{tool=\"verify\",job=\"backups\"} 600\n",
            "reliab_check_level{source=\"probe\",target=\"a name that goes on and on\\n\\\"quoted\\\"\"} 1\n",
            "reliab_outbox_oldest_seconds 2520\n",
            "reliab_probe_phase_seconds{target=\"api\",phase=\"dns\"} 0.001\n",
            "reliab_probe_seconds{target=\"api\"} 0.031\n",
            "reliab_probe_up{target=\"api\"} 1\n",
            "reliab_disk_free_bytes{target=\"/\"} 1000000000\n",
        ] {
            assert!(text.contains(expected), "{expected}in\n{text}");
        }
    }
}
