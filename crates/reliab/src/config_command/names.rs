//! Names in the configuration that nothing else in it has.

use std::path::{Path, PathBuf};

use reliab_alert::pattern::Pattern;
use reliab_alert::rule::Rules;
use reliab_alert::rule::condition::{Condition, JOBS};
use reliab_alert::rule::parse::parse;
use reliab_common::config::{Config, Rule};

/// The channel that needs no configuration.
const CONSOLE: &str = "console";

/// What there are names for.
struct Names<'a> {
    config: &'a Config,
    probes: Vec<&'a str>,
    /// Services whose metrics are read: of others nothing is ever found.
    services: Vec<&'a str>,
    jobs: Vec<&'a str>,
    channels: Vec<&'a str>,
    rules: Vec<String>,
    /// Of heartbeats nothing is known but which ones rules wait for.
    heartbeats: Vec<Pattern>,
    /// Where something is mounted, or should be.
    mounts: Vec<String>,
}

/// A sentence for each name that nothing has; `mounted` is where something is mounted now.
///
/// Patterns with a `*` may be meant for what is to come, so those on disks are not judged, nor `*` alone.
pub fn unknown(config: &Config, mounted: &[PathBuf]) -> Vec<String> {
    let names = Names::of(config, mounted);
    let mut found = names.channels();
    for rule in &config.rule {
        let place = format!("rule `{}`", name(rule));
        let problems = parse(&rule.when).ok().and_then(|when| names.condition(&when));
        let causes = rule.because.iter().filter_map(|pattern| names.subject(pattern));
        found.extend(problems.into_iter().chain(causes).map(|problem| format!("{place}: {problem}")));
    }
    for window in &config.maintenance {
        let place =
            window.name.as_ref().map_or("[[maintenance]]".into(), |name| format!("maintenance `{name}`"));
        let problem = window.matching.as_ref().and_then(|pattern| names.subject(pattern));
        found.extend(problem.map(|problem| format!("{place}: {problem}")));
    }
    for slo in &config.slo {
        let problem = names.measured(&Pattern::new(slo.service.as_ref().unwrap_or(&slo.name)));
        found.extend(problem.map(|problem| format!("slo `{}`: {problem}", slo.name)));
    }
    found
}

fn name(rule: &Rule) -> String {
    rule.name.clone().unwrap_or_else(|| rule.when.trim().to_owned())
}

impl<'a> Names<'a> {
    fn of(config: &'a Config, mounted: &[PathBuf]) -> Self {
        let heartbeat = |rule: &Rule| match parse(&rule.when) {
            Ok(Condition::Missing { name, .. }) => Some(name),
            Ok(Condition::State { source, target, .. }) if source == "heartbeat" => Some(target),
            _ => None,
        };
        let built_in = Rules::read(config).rules.into_iter().map(|rule| rule.name);
        let mounts = mounted.iter().chain(config.disk.mount.iter().map(|mount| &mount.path));
        Self {
            config,
            probes: config.probe.iter().map(|probe| probe.name.as_str()).collect(),
            services: config
                .service
                .iter()
                .filter(|service| service.metrics.is_some())
                .map(|service| service.name.as_str())
                .collect(),
            jobs: config.schedule.keys().map(String::as_str).collect(),
            channels: config.channel.keys().map(String::as_str).chain([CONSOLE]).collect(),
            rules: config.rule.iter().map(name).chain(built_in).collect(),
            heartbeats: config.rule.iter().filter_map(heartbeat).collect(),
            mounts: mounts.map(|path| path.display().to_string()).collect(),
        }
    }

    /// Names of channels in rules and in `[alert]`.
    fn channels(&self) -> Vec<String> {
        let alert = &self.config.alert;
        let of_alert = alert.channels.iter().flatten().map(|name| ("channels", name));
        let of_alert = of_alert.chain(alert.escalate_to.iter().map(|name| ("escalate_to", name)));
        let of_rule = |rule: &'a Rule| {
            let channels = rule.channels.iter().flatten().map(|name| ("channels", name));
            let further = rule.escalate_to.iter().flatten().map(|name| ("escalate_to", name));
            channels
                .chain(further)
                .map(move |(key, channel)| (format!("rule `{}`: `{key}`", name(rule)), channel))
        };
        let all = of_alert.map(|(key, channel)| (format!("[alert] `{key}`"), channel));
        let all = all.chain(self.config.rule.iter().flat_map(of_rule));
        all.filter_map(|(place, channel)| {
            let problem = none("channel", &Pattern::new(channel), &self.channels)?;
            Some(format!("{place}: {problem}"))
        })
        .collect()
    }

    fn condition(&self, when: &Condition) -> Option<String> {
        match when {
            Condition::State { source, target, .. }
            | Condition::Older { source, target: Some(target), .. } => self.target(source, target),
            Condition::Figure(figure) => self.measured(&figure.of),
            Condition::Burn { slo } => self.objective(slo),
            Condition::Missing { .. } | Condition::Older { target: None, .. } | Condition::Configuration => {
                None
            }
        }
    }

    fn objective(&self, pattern: &Pattern) -> Option<String> {
        let known: Vec<_> = self.config.slo.iter().map(|slo| slo.name.as_str()).collect();
        none("slo", pattern, &known)
    }

    /// What errors and latency are about.
    fn measured(&self, pattern: &Pattern) -> Option<String> {
        none("probe, and no service with `metrics`,", pattern, &[&self.services[..], &self.probes].concat())
    }

    /// What a source of results finds results about; of jobs that is more than the configuration says.
    fn target(&self, source: &str, pattern: &Pattern) -> Option<String> {
        match source {
            "probe" => none("probe", pattern, &self.probes),
            "service" => none("service with `metrics`", pattern, &self.services),
            "schedule" => none("job of [schedule]", pattern, &self.jobs),
            "slo" => self.objective(pattern),
            "disk" => self.disk(pattern.exact()?),
            _ => None,
        }
    }

    fn disk(&self, target: &str) -> Option<String> {
        let disk = &self.config.disk;
        let is_below = |path: &Path, known: &PathBuf| path.ends_with(known);
        let is_known = match target.split_once(' ') {
            Some(("directory", path)) => {
                disk.directory.iter().any(|entry| is_below(Path::new(path), &entry.path))
            }
            Some(("sqlite", path)) => disk.sqlite.iter().any(|entry| is_below(Path::new(path), &entry.path)),
            Some(("database", path)) => {
                let server = path.split('/').next().unwrap_or_default();
                disk.database.iter().any(|entry| entry.name == server)
            }
            // Whether the next backup fits is found of what was backed up.
            Some(("backup" | "drill", _)) => true,
            _ => {
                let known: Vec<&str> = self.mounts.iter().map(String::as_str).collect();
                return known.iter().all(|known| *known != target).then(|| {
                    let problem = format!("nothing is mounted on `{target}`, and no [[disk.mount]] names it");
                    problem + &meant(target, &known)
                });
            }
        };
        (!is_known).then(|| format!("no entry of [disk] is called `{target}`"))
    }

    /// A pattern on subjects, such as `probe api`, and on names of rules.
    fn subject(&self, text: &str) -> Option<String> {
        let pattern = Pattern::new(text);
        if self.rules.iter().any(|rule| pattern.matches(rule)) {
            return None;
        }
        match text.split_once(' ') {
            Some(("heartbeat", name)) => {
                let is_known = name.contains('*') || self.heartbeats.iter().any(|known| known.matches(name));
                (!is_known).then(|| format!("no rule waits for the heartbeat `{name}`"))
            }
            Some((source, target)) if is_source(source) => self.target(source, &Pattern::new(target)),
            None if is_source(text) || text.contains('*') => None,
            Some((source, _)) if source.contains('*') => None,
            _ => {
                let known: Vec<&str> = self.rules.iter().map(String::as_str).collect();
                Some(format!("nothing is called `{text}`, and no rule is{}", meant(text, &known)))
            }
        }
    }
}

/// Whether subjects may begin with this word.
fn is_source(word: &str) -> bool {
    JOBS.contains(&word)
        || ["probe", "service", "disk", "schedule", "slo", "alert", "outbox", "configuration"].contains(&word)
}

/// Says that nothing of a kind fits a pattern.
fn none(kind: &str, pattern: &Pattern, known: &[&str]) -> Option<String> {
    let text = pattern.to_string();
    let is_known = text == "*" || known.iter().any(|name| pattern.matches(name));
    (!is_known).then(|| format!("no {kind} is called `{text}`{}", meant(&text, known)))
}

/// A question after the name that was likely meant: one in which no more than a third of the letters differ.
fn meant(text: &str, known: &[&str]) -> String {
    let distance = |name: &str| strsim::damerau_levenshtein(&text.to_lowercase(), &name.to_lowercase());
    let nearest = known.iter().map(|name| (distance(name), name)).min();
    let most = (text.chars().count() / 3).max(1);
    nearest
        .filter(|(distance, _)| *distance <= most)
        .map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [channel.ops]
        type = "console"
        [channel.oncall]
        type = "console"
        [schedule.backup]
        at = "02:30"
        [[probe]]
        name = "api"
        tcp = "127.0.0.1:80"
        [[service]]
        name = "checkout"
        metrics = "http://127.0.0.1/metrics"
        [[service]]
        name = "silent"
        [[slo]]
        name = "checkout"
        objective = 99.9
        [[disk.mount]]
        path = "/srv"
        [[disk.directory]]
        path = "logs"
        [[disk.database]]
        name = "main"
        kind = "mariadb"
        [[rule]]
        name = "dump"
        when = "heartbeat pg-dump missing 26h"
    "#;

    fn unknown_in(more: &str) -> Vec<String> {
        let config = toml::from_str(&format!("{CONFIG}{more}")).unwrap();
        unknown(&config, &["/".into(), "/var".into()])
    }

    #[track_caller]
    fn check(more: &str, expected: &str) {
        assert_eq!(unknown_in(more), [expected], "{more}");
    }

    fn rule(when: &str) -> String {
        format!("[[rule]]\nname = \"r\"\nwhen = '''{when}'''\n")
    }

    #[test]
    fn names_that_something_has_are_known() {
        let conditions = [
            "probe api is down",
            "probe * is down",
            "probe a* is down",
            "service checkout is critical",
            "schedule backup is warning",
            "disk / is warning",
            "disk /srv is warning",
            "disk /mnt/* is warning",
            "disk \"directory /data/logs\" is warning",
            "disk \"database main/app\" is warning",
            "disk \"backup /elsewhere\" is warning",
            "errors(api) > 5%",
            "p95(checkout) > 200ms",
            "burn(checkout)",
            "heartbeat anything missing 1h",
            "backup /elsewhere is failed",
            "backup older than 26h",
            "outbox older than 15m",
        ];
        for when in conditions {
            assert_eq!(unknown_in(&rule(when)), [""; 0], "{when}");
        }
        for matching in [
            "*",
            "probe *",
            "probe api",
            "dump",
            "overdue",
            "backup",
            "heartbeat pg-dump",
            "backup /x",
            "slo checkout",
        ] {
            let window = format!("[[maintenance]]\nmatching = \"{matching}\"\n");
            assert_eq!(unknown_in(&window), [""; 0], "{matching}");
        }
        let lists = "channels = [\"ops\", \"console\"]\nescalate_to = [\"oncall\"]\n";
        assert_eq!(unknown_in(&format!("[alert]\n{lists}{}{lists}", rule("probe api is down"))), [""; 0]);
    }

    #[test]
    fn names_in_conditions_that_nothing_has_are_found() {
        check(&rule("probe apo is down"), "rule `r`: no probe is called `apo`; did you mean `api`?");
        check(&rule("probe web-* is down"), "rule `r`: no probe is called `web-*`");
        check(&rule("service silent is critical"), "rule `r`: no service with `metrics` is called `silent`");
        check(
            &rule("schedule bakcup is warning"),
            "rule `r`: no job of [schedule] is called `bakcup`; did you mean `backup`?",
        );
        check(
            &rule("disk /svr is warning"),
            "rule `r`: nothing is mounted on `/svr`, and no [[disk.mount]] names it; did you mean `/srv`?",
        );
        check(
            &rule("disk \"directory /data/log\" is warning"),
            "rule `r`: no entry of [disk] is called `directory /data/log`",
        );
        check(
            &rule("errors(chekout) > 5%"),
            "rule `r`: no probe, and no service with `metrics`, is called `chekout`; did you mean `checkout`?",
        );
        check(&rule("burn(chekout)"), "rule `r`: no slo is called `chekout`; did you mean `checkout`?");
    }

    #[test]
    fn names_elsewhere_that_nothing_has_are_found() {
        check(
            &format!("{}because = [\"probe apj\"]\n", rule("probe api is down")),
            "rule `r`: no probe is called `apj`; did you mean `api`?",
        );
        check(
            "[[maintenance]]\nname = \"weekly\"\nmatching = \"dmup\"\n",
            "maintenance `weekly`: nothing is called `dmup`, and no rule is; did you mean `dump`?",
        );
        check(
            "[[maintenance]]\nmatching = \"heartbeat pgdump\"\n",
            "[[maintenance]]: no rule waits for the heartbeat `pgdump`",
        );
        check(
            "[[slo]]\nname = \"shop\"\nobjective = 99\n",
            "slo `shop`: no probe, and no service with `metrics`, is called `shop`",
        );
        check(
            "[alert]\nescalate_to = [\"onkall\"]\n",
            "[alert] `escalate_to`: no channel is called `onkall`; did you mean `oncall`?",
        );
        check(
            &format!("{}channels = [\"op\"]\n", rule("probe api is down")),
            "rule `r`: `channels`: no channel is called `op`; did you mean `ops`?",
        );
    }
}
