//! What is told of a restore: its troubles, its document, its summary.

use std::path::Path;
use std::time::Duration;

use reliab_common::count::{count, counted};
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use reliab_common::units;
use reliab_repo::format::snapshot::SourceError;
use reliab_repo::restore::{Preview, RestoreReport, Skipped};
use serde::Serialize;

use super::Options;
use crate::events::Warnings;
use crate::listing::Previewed;
use crate::repo::{OpenRepository, Selected, command};

/// Entries that could not be restored and are shown as text.
const SHOWN: usize = 100;

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    snapshot: String,
    time: String,
    repository: &'a Path,
    /// `None` for a rehearsal.
    target: Option<&'a Path>,
    dry_run: bool,
    rehearsal: bool,
    /// Whether what was restored was read back.
    verified: bool,
    seconds: f64,
    /// `None` if nothing was read back.
    verify_seconds: Option<f64>,
    #[serde(flatten)]
    done: &'a RestoreReport,
    /// What a dry run would do with each path; `None` after any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<&'a [Previewed]>,
    /// What was read back and differs from the snapshot.
    differences: &'a [Skipped],
    #[serde(flatten)]
    warnings: Warnings,
}

/// What was done, and how long it took.
pub(super) struct Done {
    pub report: RestoreReport,
    /// What a dry run would do with each path, where the result is a document.
    pub paths: Option<Vec<Previewed>>,
    pub differences: Vec<Skipped>,
    pub took: Duration,
    pub verify_took: Option<Duration>,
    pub warnings: Warnings,
}

impl Done {
    /// What differs after a restore without complaint is damage, whoever did it; what may not be read back need not differ.
    pub fn exit(&self) -> Exit {
        let Self { report, differences, .. } = self;
        let is_damage = differences.iter().chain(&report.skipped).any(|entry| entry.damaged);
        let is_all = differences.is_empty() && report.skipped.is_empty() && report.attributes.is_empty();
        match (is_damage, is_all) {
            (true, _) => Exit::Damaged,
            (false, false) => Exit::Partial,
            (false, true) => Exit::Done,
        }
    }

    /// Tells what was not done, and what need not be looked for in the restored tree.
    pub fn tell_troubles(
        &self,
        repository: &OpenRepository,
        selected: &Selected,
        options: &Options,
        ui: &mut Ui,
    ) {
        let not_restored = if options.engine.dry_run { "would not be restored" } else { "not restored" };
        let (wrong, unread): (Vec<_>, Vec<_>) = self.differences.iter().partition(|found| found.damaged);
        for (kind, entries) in [
            (not_restored, self.report.skipped.iter().collect::<Vec<_>>()),
            ("restored in part", self.report.attributes.iter().collect()),
            ("wrong after the restore", wrong),
            ("not verified", unread),
        ] {
            for entry in entries.iter().take(SHOWN) {
                ui.error(format_args!("{kind}: {}: {}", entry.path, entry.reason));
            }
            if let Some(more @ 1..) = entries.len().checked_sub(SHOWN) {
                ui.error(format_args!("and {more} more {kind}"));
            }
        }
        let errors = &selected.stored.snapshot.errors;
        let unread = errors.iter().filter(|error| error.error != SourceError::CHANGED).count() as u64;
        if unread > 0 {
            let what = counted(unread, "path", "paths");
            ui.warn(format_args!(
                "{what} could not be read when the snapshot was made: \"errors\" of snapshots/{} names them",
                selected.stored.id
            ));
        }
        if self.report.owners_skipped {
            ui.note("owners were not restored: that needs root");
        }
        if let Some(text) = self.next_step(&command("verify", &repository.folder)) {
            ui.warn(text);
        }
    }

    /// Where to go on after damage.
    fn next_step(&self, verify: &str) -> Option<String> {
        let is_damage = |entries: &[Skipped]| entries.iter().any(|entry| entry.damaged);
        if is_damage(&self.report.skipped) {
            return Some(format!(
                "the repository is damaged: {verify} lists what is damaged and what it hits"
            ));
        }
        is_damage(&self.differences).then(|| {
            format!(
                "{verify} tells whether the repository is damaged; if it is not, what was written was altered"
            )
        })
    }

    /// What `--json` prints.
    pub fn document<'a>(
        &'a self,
        repository: &'a OpenRepository,
        selected: &Selected,
        options: &'a Options,
    ) -> Report<'a> {
        Report {
            snapshot: selected.stored.id.to_string(),
            time: selected.stored.snapshot.time.to_rfc3339(),
            repository: &repository.folder,
            target: (!options.rehearsal).then_some(&options.engine.target),
            dry_run: options.engine.dry_run,
            rehearsal: options.rehearsal,
            verified: options.verify,
            seconds: self.took.as_secs_f64(),
            verify_seconds: self.verify_took.map(|took| took.as_secs_f64()),
            done: &self.report,
            paths: self.paths.as_deref(),
            differences: &self.differences,
            warnings: self.warnings.clone(),
        }
    }

    /// What was done, in two lines at most.
    pub fn summary(&self, selected: &Selected, options: &Options) -> String {
        let name = match (options.rehearsal, options.engine.dry_run) {
            (true, _) => "rehearsal: restored ",
            (_, true) => "dry run: would restore ",
            _ => "restored ",
        };
        let mut parts = vec![format!(
            "{name}snapshot {}: {} ({}) in {}",
            selected.stored.id.short(),
            counted(self.report.entries, "entry", "entries"),
            units::bytes(self.report.bytes),
            units::duration(self.took),
        )];
        parts.extend(self.report.preview.map(previewed));
        if self.report.kept > 0 {
            parts.push(format!("{} kept", counted(self.report.kept, "file", "files")));
        }
        if !self.report.skipped.is_empty() {
            let skipped = self.report.skipped.len() as u64;
            parts.push(format!("{} not restored", counted(skipped, "entry", "entries")));
        }
        parts.extend(self.read_back());
        if options.rehearsal {
            parts.push("scratch folder removed".to_owned());
        }
        // The first part may be all there is; the rest has a line of its own, to fit 80 columns.
        let rest = parts.split_off(1);
        if rest.is_empty() { parts.concat() } else { format!("{}\n  {}", parts.concat(), rest.join("; ")) }
    }

    /// What reading back came to.
    fn read_back(&self) -> Option<String> {
        let took = self.verify_took?;
        let wrong = self.differences.iter().filter(|found| found.damaged).count() as u64;
        let unread = self.differences.len() as u64 - wrong;
        let result = match (wrong, unread, self.report.skipped.is_empty()) {
            (0, 0, true) => "every byte is as it was".to_owned(),
            (0, 0, false) => "the rest is as it was".to_owned(),
            (0, unread, _) => {
                format!("{} not verified, the rest is as it was", counted(unread, "entry", "entries"))
            }
            (wrong, ..) => format!("{} wrong", counted(wrong, "entry is", "entries are")),
        };
        Some(format!("read back in {}: {result}", units::duration(took)))
    }
}

/// What a dry run found in the target.
fn previewed(preview: Preview) -> String {
    let there = match preview.existing_dirs {
        0 => String::new(),
        dirs => format!(", {} there already", counted(dirs, "folder", "folders")),
    };
    format!("{} new, {} overwritten{there}", count(preview.created), count(preview.overwritten))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_says_where_to_go_on_and_what_a_target_did_not_take_does_not() {
        let told = |skipped: Option<bool>, different: Option<bool>| {
            let entries = |damaged: Option<bool>| {
                let entry = |damaged| Skipped { path: "a".to_owned(), reason: String::new(), damaged };
                damaged.map(entry).into_iter().collect::<Vec<_>>()
            };
            let done = Done {
                report: RestoreReport { skipped: entries(skipped), ..RestoreReport::default() },
                paths: None,
                differences: entries(different),
                took: Duration::ZERO,
                verify_took: None,
                warnings: Warnings::default(),
            };
            done.next_step("`v`")
        };
        assert_eq!(told(None, None), None);
        assert_eq!(told(Some(false), Some(false)), None);
        let known = "the repository is damaged: `v` lists what is damaged and what it hits";
        assert_eq!(told(Some(true), Some(true)).as_deref(), Some(known));
        let unknown = told(Some(false), Some(true)).unwrap();
        assert!(unknown.starts_with("`v` tells whether the repository is damaged; "), "{unknown}");
    }
}
