//! Rules: their text, their settings, and those that hold without any configuration.

mod about;
pub mod builtin;
pub mod condition;
pub mod parse;
mod token;

use chrono::TimeDelta;
use reliab_common::config::{self, Config};
use reliab_common::exit::Level;

use crate::pattern::Pattern;
use crate::zone::{self, Window};
pub(crate) use about::CONFIGURATION;
use condition::{Condition, delta};

/// The channel of machines where none is configured.
pub(crate) const CONSOLE: &str = "console";
const USUAL_GROUP: TimeDelta = TimeDelta::minutes(1);
const USUAL_REMIND: TimeDelta = TimeDelta::hours(4);
const USUAL_CLEAR: TimeDelta = TimeDelta::minutes(1);
const USUAL_WINDOW: TimeDelta = TimeDelta::days(30);
const USUAL_FLAP_BUDGET: u32 = 4;
const USUAL_MIN_EVENTS: u32 = 3;

/// A rule that is ready to be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// When somebody is told.
    pub when: Condition,
    /// Who.
    pub channels: Vec<String>,
    /// The level of its incidents; `None`: what was found.
    pub level: Option<Level>,
    /// Subjects whose open incidents explain one of this rule.
    pub because: Vec<Pattern>,
    /// How long the condition must have gone before an incident is closed.
    pub clear_for: TimeDelta,
    /// The time between reminders; zero for none.
    pub remind: TimeDelta,
    /// When further channels are told, counted from the first message.
    pub escalate_after: Option<TimeDelta>,
    /// Those channels.
    pub escalate_to: Vec<String>,
    /// Fewer events say nothing.
    pub min_events: u32,
}

/// A service level objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Its name.
    pub name: String,
    /// The service or probe that is measured.
    pub service: String,
    /// The part of requests that may fail.
    pub budget: f64,
    /// The time over which the objective must be met.
    pub window: TimeDelta,
}

/// Everything that the configuration says on alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// The objectives.
    pub slos: Vec<Slo>,
    /// The windows of maintenance.
    pub windows: Vec<Window>,
    /// How long messages of a kind wait to share one after another was made.
    pub group: TimeDelta,
    /// How often an incident may come back before further changes are not told.
    pub flap_budget: u32,
    /// All channels that can be told.
    pub channels: Vec<String>,
    /// What is wrong with the configuration.
    pub problems: Vec<Problem>,
}

/// Something in the configuration that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule it is about.
    pub rule: Option<String>,
    /// What and where, as a sentence.
    pub text: String,
}

impl Problem {
    /// What an incident about it is about: each rule for itself, as one that is acknowledged must hide no other.
    pub fn subject(&self) -> String {
        match &self.rule {
            Some(rule) => format!("{CONFIGURATION} {rule}"),
            None => CONFIGURATION.to_owned(),
        }
    }
}

impl Rules {
    /// Reads what the configuration says on alerts; an error is a sentence that names the entry.
    pub fn of(config: &Config) -> Result<Self, String> {
        let rules = Self::read(config);
        match rules.problems.into_iter().next() {
            Some(problem) => Err(problem.text),
            None => Ok(Self { problems: Vec::new(), ..rules }),
        }
    }

    /// Reads what can be read: a mistake in one entry is a problem, which the rule `configuration` tells, and stops none
    /// of the others.
    pub fn read(config: &Config) -> Self {
        let mut problems = Vec::new();
        let mut problem = |text| problems.push(Problem { rule: None, text });
        let slos = slos(config, &mut problem);
        let mut windows = Vec::new();
        for entry in &config.maintenance {
            match zone::window(entry) {
                Ok(window) => windows.push(window),
                Err(text) => problem(text),
            }
        }
        let group = config.alert.group.map_or(USUAL_GROUP, delta);
        let flap_budget = config.alert.flap_budget.unwrap_or(USUAL_FLAP_BUDGET).max(1);
        let console = CONSOLE.to_owned();
        let channels = config.channel.keys().cloned().chain([console]).collect();
        let mut rules = Self { rules: Vec::new(), slos, windows, group, flap_budget, channels, problems };
        config.rule.iter().for_each(|entry| rules.add(entry, config));
        for entry in builtins(config, !rules.slos.is_empty()) {
            rules.add(&entry, config);
        }
        rules.watch_configuration(config);
        rules
    }

    /// Adds a rule, or the problem that it is.
    fn add(&mut self, entry: &config::Rule, config: &Config) {
        let name = name(entry);
        let text = match rule(entry, &config.alert, &usual_channels(config)) {
            Err(text) => text,
            Ok(_) if self.named(&name).is_some() => {
                format!("there are two rules of the name `{name}`: give each its own `name`")
            }
            Ok(rule) => match self.unmet(&rule) {
                Some(text) => text,
                None => return self.add_reachable(rule, config),
            },
        };
        self.problems.push(Problem { rule: Some(name), text });
    }

    /// Why a rule says nothing.
    fn unmet(&self, rule: &Rule) -> Option<String> {
        let Condition::Burn { slo } = &rule.when else { return None };
        let known = self.slos.iter().any(|known| slo.matches(&known.name));
        let missing =
            || format!("rule `{}` names no objective: add [[slo]] with name = \"{slo}\"", rule.name);
        (!known).then(missing)
    }

    /// Adds a rule; what cannot be told as it says is told on the usual channels.
    fn add_reachable(&mut self, mut rule: Rule, config: &Config) {
        let is_known = |channel: &String| self.channels.contains(channel);
        let name = rule.name.clone();
        let mut problem = |text| self.problems.push(Problem { rule: Some(name.clone()), text });
        for channel in rule.channels.iter().chain(&rule.escalate_to).filter(|&channel| !is_known(channel)) {
            problem(format!(
                "rule `{name}` tells the channel `{channel}`, which is not configured: add [channel.{channel}]"
            ));
        }
        let silent = rule.channels.is_empty();
        rule.channels.retain(is_known);
        rule.escalate_to.retain(is_known);
        let unreachable = silent && !rule.escalate_to.is_empty() && rule.escalate_after.is_none();
        if unreachable {
            problem(format!(
                "rule `{name}` has no channels, and no `escalate_after` for `escalate_to`: add it"
            ));
        }
        if rule.channels.is_empty() && (!silent || unreachable) {
            rule.channels = known_channels(config);
        }
        self.rules.push(rule);
    }

    /// The rule that tells what is wrong with the others; it holds always.
    fn watch_configuration(&mut self, config: &Config) {
        if self.knows(CONFIGURATION) {
            return;
        }
        let entry = builtin::rule(CONFIGURATION, "");
        let channels = known_channels(config);
        self.rules.push(settings(&entry, Condition::Configuration, &config.alert, &channels));
    }

    /// Whether there is a rule of this name, be it one that cannot be read.
    pub fn knows(&self, name: &str) -> bool {
        self.named(name).is_some()
            || self.problems.iter().any(|problem| problem.rule.as_deref() == Some(name))
    }

    /// The rules that cannot be read, by name.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let names = self.problems.iter().filter_map(|problem| problem.rule.as_deref());
        names.filter(|name| self.named(name).is_none())
    }

    /// The rule with this name.
    pub fn named(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

/// The built-in rules that hold; one of the file with the same name takes the place of one.
fn builtins(config: &Config, with_objectives: bool) -> Vec<config::Rule> {
    let own: Vec<String> = config.rule.iter().map(name).collect();
    let mut rules = builtin::rules(with_objectives);
    rules.retain(|rule| {
        let name = name(rule);
        let holds = config.alert.builtin.unwrap_or(own.is_empty() || builtin::stays(&name));
        holds && !own.contains(&name)
    });
    rules
}

fn slos(config: &Config, problem: &mut impl FnMut(String)) -> Vec<Slo> {
    let mut slos: Vec<Slo> = Vec::new();
    for entry in &config.slo {
        if slos.iter().any(|other| other.name == entry.name) {
            problem(format!("there are two objectives of the name `{}`", entry.name));
        } else {
            slos.push(slo(entry));
        }
    }
    slos
}

/// The usual channels that are configured; all of them if none of those is.
fn known_channels(config: &Config) -> Vec<String> {
    let mut channels = usual_channels(config);
    let silent = channels.is_empty();
    channels.retain(|channel| channel == CONSOLE || config.channel.contains_key(channel));
    if channels.is_empty() && !silent { all_channels(config) } else { channels }
}

fn usual_channels(config: &Config) -> Vec<String> {
    if let Some(channels) = &config.alert.channels {
        return channels.clone();
    }
    all_channels(config)
}

fn all_channels(config: &Config) -> Vec<String> {
    let all: Vec<String> = config.channel.keys().cloned().collect();
    if all.is_empty() { vec![CONSOLE.to_owned()] } else { all }
}

fn name(rule: &config::Rule) -> String {
    rule.name.clone().unwrap_or_else(|| rule.when.trim().to_owned())
}

fn rule(rule: &config::Rule, usual: &config::Alert, channels: &[String]) -> Result<Rule, String> {
    let when = parse::parse(&rule.when).map_err(|error| format!("rule `{}`, {error}", name(rule)))?;
    Ok(settings(rule, when, usual, channels))
}

fn settings(rule: &config::Rule, when: Condition, usual: &config::Alert, channels: &[String]) -> Rule {
    let duration = |own: Option<_>, usual: Option<_>| own.or(usual).map(delta);
    Rule {
        when,
        channels: unique(rule.channels.as_deref().unwrap_or(channels)),
        level: rule.level,
        because: rule.because.iter().map(Pattern::new).collect(),
        clear_for: duration(rule.clear_for, usual.clear_for).unwrap_or(USUAL_CLEAR),
        remind: duration(rule.remind, usual.remind).unwrap_or(USUAL_REMIND),
        escalate_after: duration(rule.escalate_after, usual.escalate_after),
        escalate_to: unique(rule.escalate_to.as_deref().unwrap_or(&usual.escalate_to)),
        min_events: rule.min_events.unwrap_or(USUAL_MIN_EVENTS),
        name: name(rule),
    }
}

/// Each name once, in the order of the file.
fn unique(names: &[String]) -> Vec<String> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(name) {
            unique.push(name.clone());
        }
    }
    unique
}

fn slo(slo: &config::Slo) -> Slo {
    Slo {
        name: slo.name.clone(),
        service: slo.service.clone().unwrap_or_else(|| slo.name.clone()),
        budget: 1.0 - slo.objective / 100.0,
        window: slo.window.map_or(USUAL_WINDOW, delta),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::config::Alert;

    fn when(text: &str) -> config::Rule {
        builtin::rule(text, text)
    }

    fn config(rules: &[&str]) -> Config {
        Config { rule: rules.iter().map(|text| when(text)).collect(), ..Config::default() }
    }

    fn names(config: &Config) -> Vec<String> {
        Rules::of(config).unwrap().rules.into_iter().map(|rule| rule.name).collect()
    }

    #[test]
    fn without_rules_the_built_in_ones_hold() {
        let own = config(&["probe api is critical"]);
        assert_eq!(names(&own), ["probe api is critical", "overdue", "outbox", "configuration"]);
        assert!(names(&config(&[])).contains(&"disk".to_owned()));
        let both = Config { alert: Alert { builtin: Some(true), ..Alert::default() }, ..own };
        assert!(names(&both).len() > 3);
        let none = Alert { builtin: Some(false), ..Alert::default() };
        assert_eq!(names(&Config { alert: none, ..config(&[]) }), ["configuration"]);
        let mut named = config(&["outbox older than 1h"]);
        named.rule[0].name = Some("outbox".into());
        assert_eq!(names(&named), ["outbox", "overdue", "configuration"]);
    }

    #[test]
    fn rules_take_from_alert_what_they_do_not_say() {
        let minute = std::time::Duration::from_secs(60);
        let alert = Alert {
            remind: Some(minute),
            clear_for: Some(minute * 7),
            channels: Some(vec!["console".into(), "console".into()]),
            ..Alert::default()
        };
        let mut config = Config { alert, ..config(&["burn(a)", "disk / is warning"]) };
        config.rule[1].remind = Some(minute * 2);
        config.slo = vec![config::Slo { name: "a".into(), service: None, objective: 99.0, window: None }];
        let rules = Rules::of(&config).unwrap();
        assert_eq!(rules.rules[0].remind, TimeDelta::minutes(1));
        assert_eq!(rules.rules[1].remind, TimeDelta::minutes(2));
        assert_eq!(rules.rules[1].clear_for, TimeDelta::minutes(7));
        assert_eq!(rules.rules[0].channels, ["console"]);
        assert_eq!((rules.slos[0].service.as_str(), rules.slos[0].window), ("a", TimeDelta::days(30)));
        assert!((rules.slos[0].budget - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_mistake_in_one_rule_stops_none_of_the_others() {
        let mut config = config(&["disk / is", "probe * is critical", "probe b is critical"]);
        config.rule[1].channels = Some(vec!["ops".into()]);
        let rules = Rules::read(&config);
        let found: Vec<_> = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
        let expected = ["probe * is critical", "probe b is critical", "overdue", "outbox", "configuration"];
        assert_eq!(found, expected);
        assert_eq!(rules.rules[0].channels, ["console"]);
        assert_eq!(rules.problems.len(), 2);
        assert!(rules.knows("disk / is"));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let check = |config: &Config, expected: &str| assert_eq!(Rules::of(config).unwrap_err(), expected);
        let twice = config(&["disk / is warning", "disk / is warning"]);
        check(&twice, "there are two rules of the name `disk / is warning`: give each its own `name`");
        check(
            &config(&["burn(checkout)"]),
            "rule `burn(checkout)` names no objective: add [[slo]] with name = \"checkout\"",
        );
        let mut absent = config(&["disk / is warning"]);
        absent.rule[0].channels = Some(vec!["ops".into()]);
        check(
            &absent,
            "rule `disk / is warning` tells the channel `ops`, which is not configured: add [channel.ops]",
        );
        let mut silent = config(&["disk / is warning"]);
        silent.rule[0].channels = Some(vec![]);
        assert!(Rules::of(&silent).is_ok());
        silent.rule[0].escalate_to = Some(vec!["console".into()]);
        check(
            &silent,
            "rule `disk / is warning` has no channels, and no `escalate_after` for `escalate_to`: add it",
        );
        assert_eq!(Rules::read(&silent).rules[0].channels, ["console"]);
        let broken = config(&["disk / is"]);
        let error = Rules::of(&broken).unwrap_err();
        assert!(error.starts_with("rule `disk / is`, at character 10: expected `warning`"), "{error}");
    }
}
