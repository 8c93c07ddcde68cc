//! The configuration as it holds, for people to read: defaults filled in, secrets left out.

use toml::{Table, Value};

use super::Config;

/// What stands in the place of a secret that was written into the file.
const HIDDEN: &str = "[secret]";

/// Parts of names under which secrets travel, in headers and in what follows the `?` of a URL.
const TELLING: &[&str] = &["auth", "cookie", "key", "pass", "secret", "sig", "token"];

/// All keys and their values, as the file could have them. Of secrets only the places are named; what looks like one that
/// was written into a URL or a header is hidden.
pub fn shown(config: &Config) -> Result<Table, toml::ser::Error> {
    let mut table = Table::try_from(config)?;
    table.iter_mut().for_each(|(_, value)| hide(value));
    drop_empty(&mut table);
    Ok(table)
}

/// Tables in which nothing is said take room and say nothing.
fn drop_empty(table: &mut Table) {
    for (_, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => drop_empty(inner),
            Value::Array(values) => values.iter_mut().filter_map(Value::as_table_mut).for_each(drop_empty),
            _ => {}
        }
    }
    table.retain(|_, value| !value.as_table().is_some_and(Table::is_empty));
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_secrets(text),
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Table(table) => {
            if let Some(Value::Table(headers)) = table.get_mut("headers") {
                let telling = headers.iter_mut().filter(|(name, value)| value.is_str() && is_telling(name));
                telling.for_each(|(_, value)| *value = HIDDEN.into());
            }
            table.iter_mut().for_each(|(_, value)| hide(value));
        }
        _ => {}
    }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|part| name.contains(part))
}

/// The text without user and password of a URL, and without the values of telling names behind its `?`.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = authority.rsplit_once('@').map(|(_, host)| format!("{HIDDEN}@{host}"));
    let authority = host.unwrap_or_else(|| authority.to_owned());
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{authority}{rest}") };
    let pairs: Vec<String> = query.split('&').map(pair).collect();
    format!("{scheme}://{authority}{path}?{}", pairs.join("&"))
}

fn pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_telling(name) => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn told(config: &Config) -> String {
        toml::to_string_pretty(&shown(config).unwrap()).unwrap()
    }

    /// Every section, and most keys.
    const ALL: &str = r#"
        [alert]
        channels = []
        remind = "4h"
        [[maintenance]]
        matching = "probe *"
        start = "02:00"
        end = "04:00"
        [[rule]]
        name = "api"
        when = "probe api is critical for 2 runs"
        level = "warning"
        escalate_to = []
        [[slo]]
        name = "api"
        objective = 99.9
        window = "30d"
        [backup]
        exclude_larger_than = "1.5GiB"
        [channel.mail]
        type = "email"
        from = "a@example.org"
        to = ["b@example.org"]
        smtp = { host = "mail", tls = "none", user = "u", password = { file = "smtp" } }
        [channel.chat]
        type = "slack"
        url = { env = "SLACK_URL" }
        [channel.topic]
        type = "ntfy"
        topic = "plain"
        [channel.script]
        type = "command"
        command = ["page"]
        timeout = "5s"
        [channel.log]
        type = "console"
        [disk]
        warn = { used = "7%", free = "10GiB", full_in = "7d" }
        mount = [{ path = "/srv", critical = { inodes = "12.5%" } }]
        directory = [{ path = "/var/log", warn = "1500" }]
        database = [{ name = "main", kind = "mariadb", password = { env = "DB" } }]
        [schedule.probe]
        every = "90s"
        [schedule.nightly]
        at = "Sun 04:00"
        command = ["backup"]
        [[probe]]
        name = "api"
        http = "https://api.example.org/"
        ip = 6
        version = "2"
        headers = { Accept = "text/plain", Authorization = { file = "token" } }
        timeouts = { first_byte = "250ms" }
        [probe.expect]
        status = [200, "301-302"]
        latency = "500ms"
        cert_days = { warn = 20, critical = 7 }
        [uplink]
        references = ["https://example.org/"]
        [[service]]
        name = "app"
        metrics = "http://127.0.0.1/metrics"
        bearer = { file = "bearer" }
    "#;

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        let config = read(ALL);
        let text = told(&config);
        let again = read(&text);
        // What follows from a job's rhythm is written out, and follows no more.
        assert_eq!(
            Config { schedule: crate::config::Schedule::new(), ..again.clone() },
            Config { schedule: crate::config::Schedule::new(), ..config }
        );
        assert_eq!(told(&again), text);
        let job = &again.schedule["probe"];
        assert_eq!(
            (job.command("x"), job.late_after().as_secs(), job.timeout().as_secs()),
            (vec!["probe".to_owned()], 390, 600)
        );
        assert_eq!(again.schedule["nightly"].start.to_string(), "at Sun 04:00");
    }

    #[test]
    fn defaults_are_shown() {
        let text = told(&Config::default());
        assert!(
            text.contains("repository = \"backups\"\n") && text.contains("deadline = \"10s\"\n"),
            "{text}"
        );
        assert_eq!(read(&text), Config::default());
    }

    #[test]
    fn of_secrets_only_the_places_are_shown() {
        let text = told(&read(ALL));
        for place in [
            "file = \"smtp\"",
            "env = \"SLACK_URL\"",
            "file = \"bearer\"",
            "env = \"DB\"",
            "file = \"token\"",
        ] {
            assert!(text.contains(place), "{place}: {text}");
        }
        let text = told(&read(
            r#"
            [channel.hook]
            type = "webhook"
            url = "https://example.org/in?team=ops&api_key=planted#x"
            [[probe]]
            name = "api"
            http = "https://me:planted@api.example.org/a?b=c"
            headers = { Authorization = "Bearer planted", X-Api-Key = "planted", Accept = "text/plain" }
            proxy = "http://planted@proxy"
            "#,
        ));
        assert!(!text.contains("planted"), "{text}");
        for kept in [
            "https://example.org/in?team=ops&api_key=[secret]",
            "https://[secret]@api.example.org/a?b=c",
            "http://[secret]@proxy",
            "Accept = \"text/plain\"",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
