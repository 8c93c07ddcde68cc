//! `config show` and `config schema`: what holds, and what may be said.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use reliab_alert::rule::Rules;
use reliab_common::app::document;
use reliab_common::config::schema::schema;
use reliab_common::config::shown::shown;
use reliab_common::config::{self, Config};
use reliab_common::exit::Exit;
use reliab_common::paths::{self, NoFolder};
use reliab_common::ui::Ui;
use serde::Serialize;

use super::{Found, NAME, SCHEMA};

/// What `config show --json` prints.
#[derive(Serialize)]
struct Shown {
    /// The file; `null` where there is none.
    file: Option<PathBuf>,
    /// The folder of the state; `null` where none can be told.
    state_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    /// Rules that hold besides those of the file.
    built_in_rules: Vec<String>,
    config: toml::Table,
}

/// What `config schema --json` prints.
#[derive(Serialize)]
struct Described {
    json_schema: serde_json::Value,
}

/// Prints the configuration as it holds.
pub fn show(found: &Found, ui: &mut Ui) -> anyhow::Result<Exit> {
    let rules = Rules::read(&found.config);
    let folder = |chosen: Result<PathBuf, NoFolder>| chosen.ok();
    let shown = Shown {
        file: found.file.as_ref().map(|file| file.path.clone()),
        state_dir: folder(paths::state_dir(found.global.state_dir.as_deref(), &found.env)),
        cache_dir: folder(paths::cache_dir(found.global.cache_dir.as_deref(), &found.env)),
        built_in_rules: built_in(&found.config, &rules),
        config: shown(&effective(&found.config, &rules)).context("cannot show the configuration")?,
    };
    if ui.is_json() {
        ui.json(&document(NAME, Exit::Done, shown));
    } else {
        let text = toml::to_string_pretty(&shown.config).context("cannot show the configuration")?;
        heading(&shown).iter().for_each(|line| ui.out(line));
        ui.out(format_args!("\n{}", text.trim_end()));
    }
    Ok(Exit::Done)
}

/// Prints the schema of the file.
pub fn describe(ui: &mut Ui) -> Exit {
    if ui.is_json() {
        ui.json(&document(SCHEMA, Exit::Done, Described { json_schema: schema() }));
    } else {
        ui.json(&schema());
    }
    Exit::Done
}

/// What holds and has no key in the file, as comments.
fn heading(shown: &Shown) -> Vec<String> {
    let path = |path: &Option<PathBuf>, none: &str| {
        path.as_ref().map_or_else(|| none.to_owned(), |path| path.display().to_string())
    };
    let rules = &shown.built_in_rules;
    vec![
        format!("# file: {}", path(&shown.file, "none")),
        format!("# state: {}", path(&shown.state_dir, "none; name a folder with --state-dir")),
        format!("# cache: {}", path(&shown.cache_dir, "a temporary folder")),
        format!("# built-in rules: {}", if rules.is_empty() { "none".into() } else { rules.join(", ") }),
    ]
}

fn built_in(config: &Config, rules: &Rules) -> Vec<String> {
    let own: Vec<String> = config.rule.iter().map(name).collect();
    let all = rules.rules.iter().map(|rule| rule.name.clone());
    all.filter(|name| !own.contains(name)).collect()
}

fn name(rule: &config::Rule) -> String {
    rule.name.clone().unwrap_or_else(|| rule.when.trim().to_owned())
}

/// The configuration with what rules and objectives take from elsewhere written into each.
fn effective(config: &Config, rules: &Rules) -> Config {
    let mut config = config.clone();
    config.alert.group = Some(duration(rules.group));
    config.alert.flap_budget = Some(rules.flap_budget);
    for entry in &mut config.rule {
        let name = name(entry);
        // One that cannot be followed is shown as it stands.
        let Some(rule) = rules.named(&name) else { continue };
        entry.name = Some(name);
        entry.channels = Some(rule.channels.clone());
        entry.clear_for = Some(duration(rule.clear_for));
        entry.remind = Some(duration(rule.remind));
        entry.escalate_after = rule.escalate_after.map(duration);
        entry.escalate_to = Some(rule.escalate_to.clone());
        entry.min_events = Some(rule.min_events);
    }
    for entry in &mut config.slo {
        let Some(slo) = rules.slos.iter().find(|slo| slo.name == entry.name) else { continue };
        entry.service = Some(slo.service.clone());
        entry.window = Some(duration(slo.window));
    }
    config
}

fn duration(delta: TimeDelta) -> Duration {
    delta.to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_read_as_the_same_rules() {
        let text = r#"
            [alert]
            remind = "1h"
            escalate_after = "30m"
            escalate_to = ["console"]
            [channel.ops]
            type = "console"
            [[rule]]
            when = " probe api is down "
            [[rule]]
            name = "shop"
            when = "burn(shop)"
            channels = []
            min_events = 7
            [[slo]]
            name = "shop"
            objective = 99.9
            [[probe]]
            name = "api"
            tcp = "127.0.0.1:80"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        let rules = Rules::of(&config).unwrap();
        let effective = effective(&config, &rules);
        assert_eq!(Rules::of(&effective).unwrap(), rules);
        let first = &effective.rule[0];
        assert_eq!(
            (first.name.as_deref(), first.remind),
            (Some("probe api is down"), Some(Duration::from_secs(3600)))
        );
        assert_eq!(first.channels.as_deref(), Some(&["ops".to_owned()][..]));
        assert_eq!(effective.slo[0].window, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(built_in(&config, &rules), ["overdue", "outbox", "configuration"]);
    }
}
