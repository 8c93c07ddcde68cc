//! Timers: is each scheduled job started, will it be again, and did it run?

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reliab_common::config::ScheduledJob;
use reliab_common::exit::Level;
use reliab_common::rhythm;
use reliab_common::units::rough;
use reliab_common::upkeep::up_for;

use super::Patient;
use super::finding::Finding;
use crate::install::{crontab, unit};
use crate::systemd::{Properties, Systemd};

const PROPERTIES: &[&str] = &[
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NextElapseUSecRealtime",
    "NextElapseUSecMonotonic",
    "Result",
    "InactiveExitTimestamp",
];

/// Looks at the timer of each job, then at whether the job ran.
pub fn check(patient: &Patient, findings: &mut Vec<Finding>) {
    let schedule = &patient.config.schedule;
    if schedule.is_empty() {
        findings.push(Finding::well("timers", "nothing is scheduled"));
        return;
    }
    let crontab = crontab::read().unwrap_or_default();
    let running = patient.systemd.is_running();
    for (name, job) in schedule {
        let units = if running { ask(patient.systemd, name, findings) } else { None };
        let in_cron = crontab::starts(&crontab, name);
        match units.filter(|(timer, _)| !matches!(get(timer, "LoadState"), "not-found" | "")) {
            Some((timer, service)) => {
                findings.push(of_timer(name, &timer, patient));
                findings.extend(of_service(name, job, &service, patient));
            }
            None if in_cron => findings.push(Finding::well(format!("timer {name}"), "a line in the crontab")),
            None => findings.push(Finding::critical(
                format!("timer {name}"),
                "there is none: nothing starts the job",
                "run: reliab install (or reliab install --crontab, where there is no systemd)",
            )),
        }
    }
    overdue(patient, findings);
}

/// What systemd says of a job's timer and service.
fn ask(systemd: Systemd, name: &str, findings: &mut Vec<Finding>) -> Option<(Properties, Properties)> {
    let name = unit::name(name);
    match systemd.show(&[format!("{name}.timer"), format!("{name}.service")], PROPERTIES) {
        Ok(units) => {
            let mut units = units.into_iter();
            units.next().zip(units.next())
        }
        Err(error) => {
            let step = "see whether systemd answers: systemctl status";
            findings.push(Finding::critical(format!("timer {name}"), format!("{error:#}"), step));
            None
        }
    }
}

fn get<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.get(name).map_or("", String::as_str)
}

fn of_timer(name: &str, timer: &Properties, patient: &Patient) -> Finding {
    let subject = format!("timer {name}");
    let unit = format!("{}.timer", unit::name(name));
    let line = |args: &[&str]| patient.systemd.line(args);
    if let Some(finding) = unloaded(&subject, &unit, timer, patient.systemd) {
        return finding;
    }
    let enabled = get(timer, "UnitFileState");
    if enabled != "enabled" {
        let text = format!("it is {enabled}, so it is not started with the machine");
        return Finding::critical(subject, text, format!("run: {}", line(&["enable", "--now", &unit])));
    }
    let active = get(timer, "ActiveState");
    if active != "active" {
        let text = format!("it is {active}: nothing starts the job");
        return Finding::critical(subject, text, format!("run: {}", line(&["start", &unit])));
    }
    // The next start is only worked out when the job has ended.
    if get(timer, "SubState") == "running" {
        return Finding::well(subject, "its job runs now");
    }
    match next_start(timer) {
        Next::Never => Finding::critical(
            subject,
            "it has no next start (NextElapse=infinity)",
            format!(
                "see which file says so, and remove it: {}; then: reliab install, and: {}",
                line(&["cat", &unit]),
                line(&["restart", &unit])
            ),
        ),
        Next::At(at) => {
            let ahead = (at - patient.now).to_std().unwrap_or_default();
            Finding::well(subject, format!("next start in {}", rough(ahead)))
        }
        Next::Some => Finding::well(subject, "it has a next start"),
    }
}

/// A unit that systemd cannot use.
fn unloaded(subject: &str, unit: &str, properties: &Properties, systemd: Systemd) -> Option<Finding> {
    let line = |args: &[&str]| systemd.line(args);
    let (text, step) = match get(properties, "LoadState") {
        "loaded" => return None,
        "masked" => ("it is masked: nothing can start it".into(), line(&["unmask", unit])),
        "not-found" => ("there is none for the timer to start".into(), "reliab install".into()),
        other => {
            let text = format!("systemd cannot load it ({other})");
            (text, format!("{}; mend or remove what it names, then: reliab install", line(&["status", unit])))
        }
    };
    Some(Finding::critical(subject, text, format!("run: {step}")))
}

/// When a timer elapses next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Never,
    At(DateTime<Utc>),
    /// It counts on a clock that says nothing to people.
    Some,
}

/// A timer has a next start on the calendar or on the monotonic clock; `infinity`, 0 and nothing are none.
fn next_start(timer: &Properties) -> Next {
    let is_set = |value: &str| !matches!(value, "" | "0" | "infinity" | "n/a");
    let realtime = get(timer, "NextElapseUSecRealtime");
    if is_set(realtime) {
        return timestamp(realtime).map_or(Next::Some, Next::At);
    }
    if is_set(get(timer, "NextElapseUSecMonotonic")) { Next::Some } else { Next::Never }
}

/// A time as `systemctl show` prints it in UTC.
fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%a %Y-%m-%d %H:%M:%S UTC").ok().map(|time| time.and_utc())
}

/// A service of type oneshot is activating for as long as its job runs; one that hangs is so for ever, and its timer
/// does not start it again.
fn of_service(name: &str, job: &ScheduledJob, service: &Properties, patient: &Patient) -> Option<Finding> {
    let unit = format!("{}.service", unit::name(name));
    let subject = format!("service {name}");
    if let Some(finding) = unloaded(&subject, &unit, service, patient.systemd) {
        return Some(finding);
    }
    if get(service, "ActiveState") == "activating" {
        let begun = timestamp(get(service, "InactiveExitTimestamp"))?;
        let since = (patient.now - begun).to_std().unwrap_or_default();
        // systemd itself ends it at the timeout; a little later it should have.
        return (since > job.timeout() + Duration::from_secs(120)).then(|| {
            Finding::critical(
                subject,
                format!("it has run for {} and is not started again before it ends", rough(since)),
                format!(
                    "see what it waits for: journalctl -u {unit}; then: {}",
                    patient.systemd.line(&["kill", "--signal=KILL", &unit])
                ),
            )
        });
    }
    let result = get(service, "Result");
    (get(service, "ActiveState") == "failed").then(|| {
        let step = format!("see why: journalctl -u {unit}");
        Finding::warning(subject, format!("its last run failed ({result})"), step)
    })
}

/// Whether the jobs ran, whoever starts them.
fn overdue(patient: &Patient, findings: &mut Vec<Finding>) {
    let Some(state) = &patient.state else { return };
    for (name, job) in &patient.config.schedule {
        let seen = state.write(|db| rhythm::seen(db, &patient.config.schedule, name, patient.now));
        let subject = format!("job {name}");
        match seen.map(|seen| rhythm::judge(job, &seen, patient.now, up_for())) {
            Ok(verdict) if verdict.level == Level::Ok => {
                findings.push(Finding::well(subject, verdict.summary));
            }
            Ok(verdict) => {
                let line = job.command(name).join(" ");
                let step = format!("run it by hand and see what it says: reliab {line}");
                findings.push(Finding::critical(subject, verdict.summary, step));
            }
            Err(error) => {
                let text = super::state::told(&error);
                findings.push(Finding::critical(subject, text, "see the finding about the state"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(realtime: &str, monotonic: &str) -> Properties {
        let pairs = [("NextElapseUSecRealtime", realtime), ("NextElapseUSecMonotonic", monotonic)];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_timer_without_a_next_start_is_told_from_one_with() {
        let at = "2026-11-25T22:22:02Z".parse().unwrap();
        assert_eq!(next_start(&timer("Wed 2026-11-25 22:22:02 UTC", "infinity")), Next::At(at));
        assert_eq!(next_start(&timer("Wed 2026-11-25 22:22:02 UTC", "0")), Next::At(at));
        assert_eq!(next_start(&timer("", "5d 3h 20min")), Next::Some);
        assert_eq!(next_start(&timer("", "infinity")), Next::Never);
        assert_eq!(next_start(&timer("", "0")), Next::Never);
        assert_eq!(next_start(&Properties::new()), Next::Never);
    }
}
