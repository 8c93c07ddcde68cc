//! What waits behind a message that its channel does not take is told by another channel.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::Run;
use super::report::{Told, about};
use crate::message::{IncidentLine, Message};
use crate::outbox::{Owed, Report};

/// So many incidents a report names; of the others it gives the number.
const NAMED: usize = 10;

impl Run<'_> {
    /// Tells of what waits behind `head` and was not told yet: in one report, as hundreds of them would tell nobody
    /// more; a single one in a report of its own.
    pub(super) fn report_behind(&self, head: &Owed, error: &str) -> Result<()> {
        let mut told = head.id;
        for name in self.reporters() {
            told = told.max(self.outbox.told_up_to(name, &head.channel)?);
        }
        let mut untold = Vec::new();
        for owed in self.outbox.behind(&head.channel, told)? {
            let about = self.report(&owed, error)?;
            if let Told::New(report) = about {
                untold.push((owed, report));
            }
        }
        let now = self.deliverer.clock.now();
        match untold.as_slice() {
            [] => {}
            [(owed, report)] => self.outbox.owe(owed.id, report, now)?,
            [(first, report), .., (last, _)] => {
                let key = Report::key(&report.channel, &Report::waiting(&head.channel, Some(last.id)));
                let message = together(&untold, &head.channel, error);
                let report = Report { channel: report.channel.clone(), key, message };
                self.outbox.owe_about(&head.channel, (first.id, last.id), &report, now)?;
            }
        }
        self.report_reports(head, error)
    }

    /// Tells of reports that wait: each by itself, as each channel tells of a message once at most. One at least, and
    /// then as many as the time of the run allows; the next run goes on.
    fn report_reports(&self, head: &Owed, error: &str) -> Result<()> {
        let mut after = head.id;
        while let Some(behind) = self.outbox.report_behind(&head.channel, after)? {
            after = behind.id;
            if let Told::New(report) = self.report(&behind, error)? {
                self.outbox.owe(behind.id, &report, self.deliverer.clock.now())?;
                if self.is_over() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// One message about many: what is open first, the worst before the rest.
fn together(untold: &[(Owed, Report)], channel: &str, error: &str) -> Message {
    let mut lines: BTreeMap<i64, &IncidentLine> = BTreeMap::new();
    for message in untold.iter().filter_map(|(owed, _)| owed.message.as_ref().ok()) {
        // The later message knows more of an incident.
        lines.extend(message.incidents.iter().map(|one| (one.id, one)));
    }
    let mut incidents: Vec<IncidentLine> = lines.into_values().cloned().collect();
    incidents.sort_by_key(|one| (one.closed.is_some(), Reverse(one.level.code()), one.id));
    let more = incidents.len().saturating_sub(NAMED);
    incidents.truncate(NAMED);
    let mut note = format!("channel {channel} does not take {} messages: {error}", untold.len());
    if more > 0 {
        let _ = write!(note, "; and {more} more incidents: see `reliab alert list`");
    }
    Message { incidents, note, ..about(&untold[0].0, "") }
}
