//! The clock: alerts, timers and certificates all depend on it.

use std::fs;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::clock::local;
use reliab_common::state::time;
use reliab_common::units::rough;

use super::Patient;
use super::finding::Finding;

const SUBJECT: &str = "clock";
/// Nothing that happened can lie further ahead than this.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
const STEP: &str = "set the clock and keep it right: timedatectl set-ntp true, or install chrony";

/// Compares the clock with the times of what has happened, and asks whether it is kept right.
pub fn check(patient: &Patient, findings: &mut Vec<Finding>) {
    let latest = past(patient).into_iter().max_by_key(|(_, at)| *at);
    if let Some((what, at)) = latest.filter(|(_, at)| *at - patient.now > TOLERANCE) {
        let ahead = rough((at - patient.now).to_std().unwrap_or_default());
        let text = format!("it is {}, but {what} is from {}, {ahead} ahead", local(patient.now), local(at));
        findings.push(Finding::critical(SUBJECT, text, STEP));
    } else if synchronized() == Some(false) {
        findings.push(Finding::warning(SUBJECT, "it is not kept right over the network", STEP));
    } else {
        findings.push(Finding::well(SUBJECT, local(patient.now)));
    }
}

/// Things that have happened, and when.
fn past(patient: &Patient) -> Vec<(&'static str, DateTime<Utc>)> {
    let modified =
        |path: std::path::PathBuf| Some(DateTime::<Utc>::from(fs::metadata(path).ok()?.modified().ok()?));
    let program = std::env::current_exe().ok().and_then(modified);
    let file = patient.file.as_ref().and_then(|file| modified(file.path.clone()));
    let run = patient.state.as_ref().and_then(|state| {
        let latest = state
            .with(|db| db.query_row("SELECT max(started) FROM run", [], |row| row.get::<_, Option<i64>>(0)));
        latest.ok().flatten().map(time)
    });
    let all = [("this program", program), ("the configuration", file), ("the last recorded run", run)];
    all.into_iter().filter_map(|(what, at)| Some((what, at?))).collect()
}

/// Whether something keeps the clock right; `None` where nobody knows.
fn synchronized() -> Option<bool> {
    let output =
        Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
