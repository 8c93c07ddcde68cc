//! The rules that hold where none are configured, and what explains what.

use reliab_common::config::Rule;
use reliab_common::exit::Level;

use super::condition::JOBS;
use crate::pattern::Pattern;

/// Name, condition, and the level where it is not that of what was found.
const RULES: &[(&str, &str, Option<Level>)] = &[
    ("probe", "probe * is critical for 2 runs", None),
    ("probe-warning", "probe * is only warning for 10 runs", None),
    ("probe-unknown", "probe * is unknown for 30m", Some(Level::Warning)),
    ("service", "service * is critical for 2 runs", None),
    ("service-unknown", "service * is unknown for 30m", Some(Level::Warning)),
    ("disk", "disk * is warning", None),
    ("disk-unknown", "disk * is unknown for 30m", Some(Level::Warning)),
    ("job", "job * is failed", None),
    ("overdue", "schedule * is warning", None),
    ("outbox", "outbox older than 15m", None),
];
const BURN: (&str, &str, Option<Level>) = ("burn", "burn(*)", None);

/// The built-in rules, as if they stood in the configuration file.
pub fn rules(with_objectives: bool) -> Vec<Rule> {
    let burn = with_objectives.then_some(&BURN);
    RULES.iter().chain(burn).map(|&(name, when, level)| Rule { level, ..rule(name, when) }).collect()
}

/// Whether it holds also beside rules of the file: without it nobody hears that alerts or timers themselves stand still.
pub fn stays(name: &str) -> bool {
    matches!(name, "overdue" | "outbox")
}

/// A rule with nothing but its name and condition.
pub(crate) fn rule(name: &str, when: &str) -> Rule {
    Rule {
        name: Some(name.to_owned()),
        when: when.to_owned(),
        channels: None,
        level: None,
        because: Vec::new(),
        clear_for: None,
        remind: None,
        escalate_after: None,
        escalate_to: None,
        min_events: None,
    }
}

/// Whether an incident about `cause` usually explains one about `effect`: a full disk the jobs that failed, a failed
/// backup the drill, a failed job that it is late.
pub fn explains(cause: &str, cause_level: Level, effect: &str) -> bool {
    let (from, to) = (source(cause), source(effect));
    let late = effect.strip_prefix("schedule ");
    match from {
        "disk" => cause_level == Level::Critical && (is_job(to) || late.is_some_and(is_job)),
        // The failed run explains that no good one is there, and that there was nothing to rehearse.
        "backup" if cause != from && (to == "drill" || effect == "backup") => true,
        _ => is_job(from) && late == Some(from),
    }
}

/// Whether an incident about `cause` may explain anything at all.
pub fn may_explain(cause: &str) -> bool {
    let from = source(cause);
    from == "disk" || is_job(from)
}

fn source(subject: &str) -> &str {
    subject.split(' ').next().unwrap_or_default()
}

fn is_job(source: &str) -> bool {
    JOBS.contains(&source)
}
/// Whether one of a rule's own patterns names the cause.
pub fn named(patterns: &[Pattern], cause_rule: &str, cause: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(cause) || pattern.matches(cause_rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_rule_can_be_read() {
        for rule in rules(true) {
            super::super::parse::parse(&rule.when).unwrap();
        }
        assert_eq!(rules(true).len(), rules(false).len() + 1);
    }

    #[test]
    fn what_cannot_be_found_out_is_told_whatever_was_to_be() {
        for source in ["probe", "service", "disk"] {
            let when = format!("{source} * is unknown for 30m");
            let found = rules(false).into_iter().find(|rule| rule.when == when);
            assert_eq!(found.and_then(|rule| rule.level), Some(Level::Warning), "{source}");
        }
    }

    #[test]
    fn a_full_disk_explains_failed_jobs_and_those_what_is_late() {
        let check =
            |cause, level, effect, expected| assert_eq!(explains(cause, level, effect), expected, "{effect}");
        check("disk /", Level::Critical, "backup /srv/backups", true);
        check("disk /", Level::Warning, "backup /srv/backups", false);
        check("disk /", Level::Critical, "probe api", false);
        check("disk /", Level::Critical, "schedule backup", true);
        check("disk /", Level::Critical, "schedule probe", false);
        check("backup /srv/backups", Level::Critical, "drill /srv/backups", true);
        check("backup /srv/backups", Level::Critical, "backup", true);
        check("backup", Level::Critical, "backup", false);
        check("backup /srv/backups", Level::Critical, "schedule backup", true);
        check("verify /srv/backups", Level::Critical, "schedule verify", true);
        check("verify /srv/backups", Level::Critical, "schedule backup", false);
        check("probe api", Level::Critical, "schedule probe", false);
    }
}
