//! A real Alertmanager: what it shows and what it passes on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::receivers::{self, Bench, Process, Receiver, incident, message, refusing_port, wait_until};
use chrono::{TimeDelta, Utc};
use reliab_alert::message::{IncidentLine, Kind, Message};
use reliab_common::exit::Level;
use serde_json::Value;

struct Manager {
    _process: Process,
    port: u16,
}

impl Manager {
    fn start(bench: &Bench, webhook: &str) -> Self {
        let config = bench.dir.path().join("alertmanager.yml");
        let text = format!(
            "route: {{ receiver: hook, group_by: [incident], group_wait: 0s, group_interval: 1s }}\n\
             receivers: [ {{ name: hook, webhook_configs: [ {{ url: '{webhook}' }} ] }} ]\n"
        );
        fs::write(&config, text).unwrap();
        let port = refusing_port();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", bench.dir.path().join("am").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install the Debian package prometheus-alertmanager");
        let manager = Self { _process: Process(child), port };
        wait_until("Alertmanager", || manager.get("/-/ready").is_some());
        manager
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    /// The labels `severity` and `subject` and the summary of every alert that is not over.
    fn alerts(&self) -> Vec<(String, String, String)> {
        let alerts: Vec<Value> = serde_json::from_str(&self.get("/api/v2/alerts").unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let labels = |alert: &Value| {
            (
                text(&alert["labels"]["severity"]),
                text(&alert["labels"]["subject"]),
                text(&alert["annotations"]["summary"]),
            )
        };
        alerts.iter().map(labels).collect()
    }
}

/// A message of now, as Alertmanager has a clock of its own.
fn of_now(kind: Kind, level: Level, closed: bool) -> Message {
    let now = Utc::now();
    let began = receivers::noon();
    let one = IncidentLine { level, began, closed: closed.then_some(now), ..incident(7, "probe api") };
    Message { owed: now, ..message(kind, vec![one]) }
}

#[test]
fn alertmanager_shows_the_alert_from_its_beginning_to_its_end() {
    let hook = Receiver::willing();
    let mut bench = Bench::new("");
    let manager = Manager::start(&bench, &hook.url());
    bench.configure(&format!(
        "[channel.am]\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{}/\"\nlabels = {{ team = \"ops\" }}\n",
        manager.port
    ));
    let send = |key: &str, message: &Message| {
        bench.clock.set(Utc::now());
        bench.owe("am", key, message);
        assert_eq!(bench.deliver().0.delivered, 1);
    };
    let sent_on = |status: &str, severity: &str| {
        let mut seen = Vec::new();
        wait_until(&format!("{severity} {status}"), || {
            seen =
                hook.got().iter().flat_map(|got| got.json()["alerts"].as_array().unwrap().clone()).collect();
            seen.iter().any(|alert| alert["status"] == status && alert["labels"]["severity"] == severity)
        });
        seen.into_iter()
            .find(|alert| alert["status"] == status && alert["labels"]["severity"] == severity)
            .unwrap()
    };
    send("k1", &of_now(Kind::Opened, Level::Warning, false));
    let shown = |level: &str, title: &str| vec![(level.to_owned(), "probe api".to_owned(), title.to_owned())];
    assert_eq!(manager.alerts(), shown("warning", "[web1] WARNING probe api: connection refused"));
    let alert = sent_on("firing", "warning");
    assert_eq!(
        (alert["labels"]["team"].as_str(), alert["annotations"]["notification"].as_str()),
        (Some("ops"), Some("k1"))
    );
    // A duplicate is the same alert.
    send("k1-again", &of_now(Kind::Opened, Level::Warning, false));
    assert_eq!(manager.alerts().len(), 1);
    // It becomes graver: one alert takes the place of the other.
    send("k2", &of_now(Kind::Escalated, Level::Critical, false));
    let alerts = manager.alerts();
    assert_eq!((alerts.len(), alerts[0].0.as_str()), (1, "critical"));
    sent_on("firing", "critical");
    send("k3", &of_now(Kind::Closed, Level::Critical, true));
    assert_eq!(manager.alerts(), []);
    sent_on("resolved", "critical");
}

#[test]
fn what_came_and_went_in_an_outage_is_shown_all_the_same() {
    let hook = Receiver::willing();
    let mut bench = Bench::new("");
    let manager = Manager::start(&bench, &hook.url());
    bench.configure(&format!(
        "[channel.am]\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n",
        manager.port
    ));
    bench.clock.set(Utc::now());
    bench.owe("am", "k", &of_now(Kind::Passed, Level::Critical, true));
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(bench.deliver().0.delivered, 1);
    let alerts = manager.alerts();
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].2.starts_with("[web1] passed: probe api was CRITICAL for"), "{alerts:?}");
    wait_until("the message of Alertmanager", || !hook.got().is_empty());
    assert_eq!(hook.got()[0].json()["alerts"][0]["status"], "firing");
}
