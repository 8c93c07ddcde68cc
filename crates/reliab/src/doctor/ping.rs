//! The ping: does somebody elsewhere hear that this machine still watches?

use std::time::Duration;

use reliab_alert::ping::Past;
use reliab_common::units::rough;

use super::Patient;
use super::finding::Finding;
use super::state::told;

/// Whoever waits for pings takes so long without one for an outage.
const LATE: Duration = Duration::from_secs(60 * 60);
const SUBJECT: &str = "ping";

/// Asks, where a ping is configured, when one was last sent.
pub fn check(patient: &Patient, findings: &mut Vec<Finding>) {
    let (Some(_), Some(state)) = (&patient.config.ping, &patient.state) else { return };
    let past = match Past::read(state) {
        Ok(past) => past,
        Err(error) => {
            findings.push(Finding::critical(SUBJECT, told(&error), "see the finding about the state"));
            return;
        }
    };
    let last = past.as_ref().and_then(|past| past.last_sent);
    let ago = last.map(|last| (patient.now - last).to_std().unwrap_or_default());
    if let Some(ago) = ago.filter(|&ago| ago <= LATE) {
        findings.push(Finding::well(SUBJECT, format!("last sent {} ago", rough(ago))));
        return;
    }
    let text = ago.map_or("it was never sent".into(), |ago| format!("last sent {} ago", rough(ago)));
    let why = past.map(|past| format!("; the last run that tried: {}", past.summary)).unwrap_or_default();
    let step = "mend what it says, then see that it is sent: reliab alert";
    findings.push(Finding::warning(SUBJECT, text + &why, step));
}
