//! What systemd says and does, through `systemctl`.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context as _;
use reliab_common::failure::UsageError;

/// The properties of a unit, by name.
pub type Properties = BTreeMap<String, String>;

/// The systemd of the machine, or that of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// Whether it is the user's.
    pub user: bool,
}

impl Systemd {
    /// Whether it runs here: not in most containers, and not where another init does.
    pub fn is_running(self) -> bool {
        let answer = self.command(&["is-system-running"]).output();
        let states = ["running", "degraded", "starting", "maintenance", "initializing"];
        answer.is_ok_and(|answer| states.contains(&String::from_utf8_lossy(&answer.stdout).trim()))
    }

    /// Lets systemctl do something.
    pub fn run(self, args: &[&str]) -> anyhow::Result<()> {
        let line = self.line(args);
        let output = self.command(args).output().with_context(|| format!("cannot run `{line}`"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(UsageError(format!("`{line}` failed: {}", said.trim().replace('\n', "; "))).into())
    }

    /// The properties of units, in their order; times are in UTC, such as `Wed 2026-11-25 22:22:02 UTC`.
    pub fn show(self, units: &[String], properties: &[&str]) -> anyhow::Result<Vec<Properties>> {
        let property = format!("--property={}", properties.join(","));
        let mut args = vec!["show", property.as_str(), "--"];
        args.extend(units.iter().map(String::as_str));
        let line = self.line(&args);
        let output = self.command(&args).output().with_context(|| format!("cannot run `{line}`"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            anyhow::bail!("`{line}` failed: {said}");
        }
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The command line that a person would write.
    pub fn line(self, args: &[&str]) -> String {
        let user = if self.user { "--user " } else { "" };
        format!("systemctl {user}{}", args.join(" "))
    }

    fn command(self, args: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        if self.user {
            command.arg("--user");
        }
        // `--timestamp=unix` is young, and the next start of a timer is told in local time even so.
        command.args(args).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

/// What `systemctl show` printed: a block of `NAME=VALUE` lines for each unit.
fn parse(text: &str) -> Vec<Properties> {
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split("\n\n")
        .map(|block| block.lines().filter_map(pair).collect::<Properties>())
        .filter(|properties| !properties.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_units() {
        let text = "Id=a.timer\nActiveState=active\n\nId=b.timer\nDescription=x=y\n";
        let units = parse(text);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0]["ActiveState"], "active");
        assert_eq!(units[1]["Description"], "x=y");
        assert_eq!(parse(""), Vec::<Properties>::new());
    }
}
