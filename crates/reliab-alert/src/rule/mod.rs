//! Rules: their text, their settings, and those that hold without any configuration.

pub mod builtin;
pub mod condition;
pub mod parse;
mod token;

use chrono::TimeDelta;
use reliab_common::config::{self, Config};
use reliab_common::exit::Level;

use crate::pattern::Pattern;
use crate::zone::{self, Window};
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
}

impl Rules {
    /// Reads what the configuration says on alerts; an error is a sentence that names the entry.
    pub fn of(config: &Config) -> Result<Self, String> {
        let builtin = config.alert.builtin.unwrap_or(config.rule.is_empty());
        let slos = config.slo.iter().map(slo).collect::<Vec<_>>();
        let mut rules = Vec::new();
        for rule in &config.rule {
            rules.push(self::rule(rule, &config.alert, &usual_channels(config))?);
        }
        for rule in builtin.then(|| builtin::rules(!slos.is_empty())).into_iter().flatten() {
            rules.push(self::rule(&rule, &config.alert, &usual_channels(config))?);
        }
        let windows = config.maintenance.iter().map(zone::window).collect::<Result<_, _>>()?;
        let group = config.alert.group.map_or(USUAL_GROUP, delta);
        let flap_budget = config.alert.flap_budget.unwrap_or(USUAL_FLAP_BUDGET).max(1);
        let rules = Self { rules, slos, windows, group, flap_budget };
        rules.check(config)?;
        Ok(rules)
    }

    /// Whether there is a rule of this name, be it one that cannot be read.
    pub fn knows(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// The rule with this name.
    pub fn named(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// What single entries cannot know of each other.
    fn check(&self, config: &Config) -> Result<(), String> {
        for (number, rule) in self.rules.iter().enumerate() {
            if self.rules[..number].iter().any(|other| other.name == rule.name) {
                return Err(format!(
                    "there are two rules of the name `{}`: give each its own `name`",
                    rule.name
                ));
            }
            for channel in rule.channels.iter().chain(&rule.escalate_to) {
                if channel != CONSOLE && !config.channel.contains_key(channel) {
                    return Err(format!(
                        "rule `{}` tells the channel `{channel}`, which is not configured: add [channel.{channel}]",
                        rule.name
                    ));
                }
            }
            let Condition::Burn { slo } = &rule.when else { continue };
            if !self.slos.iter().any(|known| slo.matches(&known.name)) {
                return Err(format!(
                    "rule `{}` names no objective: add [[slo]] with name = \"{slo}\"",
                    rule.name
                ));
            }
        }
        for (number, slo) in self.slos.iter().enumerate() {
            if self.slos[..number].iter().any(|other| other.name == slo.name) {
                return Err(format!("there are two objectives of the name `{}`", slo.name));
            }
        }
        Ok(())
    }
}

fn usual_channels(config: &Config) -> Vec<String> {
    if let Some(channels) = &config.alert.channels {
        return channels.clone();
    }
    let all: Vec<String> = config.channel.keys().cloned().collect();
    if all.is_empty() { vec![CONSOLE.to_owned()] } else { all }
}

fn rule(rule: &config::Rule, usual: &config::Alert, channels: &[String]) -> Result<Rule, String> {
    let name = rule.name.clone().unwrap_or_else(|| rule.when.trim().to_owned());
    let when = parse::parse(&rule.when).map_err(|error| format!("rule `{name}`, {error}"))?;
    let duration = |own: Option<_>, usual: Option<_>| own.or(usual).map(delta);
    Ok(Rule {
        when,
        channels: unique(rule.channels.as_deref().unwrap_or(channels)),
        level: rule.level,
        because: rule.because.iter().map(Pattern::new).collect(),
        clear_for: duration(rule.clear_for, usual.clear_for).unwrap_or(USUAL_CLEAR),
        remind: duration(rule.remind, usual.remind).unwrap_or(USUAL_REMIND),
        escalate_after: duration(rule.escalate_after, usual.escalate_after),
        escalate_to: unique(rule.escalate_to.as_deref().unwrap_or(&usual.escalate_to)),
        min_events: rule.min_events.unwrap_or(USUAL_MIN_EVENTS),
        name,
    })
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
        assert_eq!(names(&own), ["probe api is critical"]);
        assert!(names(&config(&[])).contains(&"disk".to_owned()));
        let both = Config { alert: Alert { builtin: Some(true), ..Alert::default() }, ..own };
        assert!(names(&both).len() > 3);
        let none = Alert { builtin: Some(false), ..Alert::default() };
        assert!(names(&Config { alert: none, ..config(&[]) }).is_empty());
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
        let broken = config(&["disk / is"]);
        let error = Rules::of(&broken).unwrap_err();
        assert!(error.starts_with("rule `disk / is`, at character 10: expected `warning`"), "{error}");
    }
}
