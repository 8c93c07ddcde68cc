//! Receivers on loopback that answer as told, and state files with messages that are owed.

pub mod mail;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reliab_alert::deliver::{Delivered, Deliverer, Limits};
use reliab_alert::message::{IncidentLine, Kind, Message};
use reliab_alert::outbox::Point;
use reliab_common::app::Global;
use reliab_common::clock::{Clock, FixedClock, SystemClock};
use reliab_common::config::Config;
use reliab_common::exit::Level;
use reliab_common::failure::ErrorTable;
use reliab_common::paths::Env;
use reliab_common::session::Session;
use reliab_common::signal::Stop;
use reliab_common::state::{State, nanos};
use reliab_common::ui::Ui;
use rusqlite::params;
use serde_json::Value;

/// What a receiver got.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn key(&self) -> String {
        self.header("idempotency-key").unwrap().to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How a receiver answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, headers and a body.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Nothing, with the connection open.
    Hang,
    /// The connection is closed in the middle of the answer.
    Cut,
    /// The connection is closed before an answer.
    Drop,
    /// An answer that never ends.
    Endless,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Say(status, Vec::new(), "{\"message\":\"as told\"}".into())
    }

    /// The answer with which each service says yes.
    pub fn yes(path: &str) -> Self {
        let body = if path.starts_with("/services/") {
            "ok"
        } else if path.ends_with("/sendMessage") {
            "{\"ok\":true,\"result\":{\"message_id\":1}}"
        } else if path == "/" {
            "{\"id\":\"abc\",\"event\":\"message\"}"
        } else {
            "{\"status\":\"success\"}"
        };
        Self::Say(200, Vec::new(), body.into())
    }
}

/// A server that keeps what it gets and answers as `script` says, by the number of the request and the request.
pub struct Receiver {
    pub port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

type Script = dyn Fn(usize, &Got) -> Answer + Send + Sync;

impl Receiver {
    pub fn start(script: impl Fn(usize, &Got) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&got));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                thread::spawn(move || drop(serve(stream.unwrap(), &script, &kept)));
            }
        });
        Self { port, got }
    }

    /// One that says yes to everything.
    pub fn willing() -> Self {
        Self::start(|_, got| Answer::yes(&got.path))
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn keys(&self) -> Vec<String> {
        self.got().iter().map(Got::key).collect()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(mut stream: TcpStream, script: &Arc<Script>, kept: &Mutex<Vec<Got>>) -> std::io::Result<()> {
    let got = read_request(&stream)?;
    let number = {
        let mut kept = kept.lock().unwrap();
        kept.push(got.clone());
        kept.len() - 1
    };
    match script(number, &got) {
        Answer::Say(status, headers, body) => {
            write!(
                stream,
                "HTTP/1.1 {status} told\r\ncontent-length: {}\r\nconnection: close\r\n",
                body.len()
            )?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            write!(stream, "\r\n{body}")
        }
        Answer::Hang => {
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Answer::Cut => write!(stream, "HTTP/1.1 200 told\r\ncontent-length: 1000\r\n\r\n{{\"sta"),
        Answer::Drop => Ok(()),
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 told\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "1000\r\n{}\r\n", "x".repeat(4096))?;
            }
        }
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Got> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut got = Got { method, path, headers, body: Vec::new() };
    let length = got.header("content-length").map_or(0, |length| length.parse().unwrap());
    got.body.resize(length, 0);
    reader.read_exact(&mut got.body)?;
    Ok(got)
}

/// A port on which nobody listens.
pub fn refusing_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub fn noon() -> DateTime<Utc> {
    at("2026-11-22T12:00:00Z")
}

pub fn incident(id: i64, subject: &str) -> IncidentLine {
    IncidentLine {
        id,
        rule: "api-down".into(),
        subject: subject.into(),
        level: Level::Critical,
        summary: "connection refused".into(),
        began: noon() - TimeDelta::minutes(2),
        first: None,
        opened: Some(noon() - TimeDelta::minutes(1)),
        closed: None,
    }
}

pub fn message(kind: Kind, incidents: Vec<IncidentLine>) -> Message {
    Message { kind, host: "web1".into(), incidents, owed: noon(), note: String::new() }
}

/// A folder with a state file, secrets and a configuration.
pub struct Bench {
    pub dir: Folder,
    pub state: State,
    pub config: Config,
    pub env: Env,
    pub clock: FixedClock,
    pub limits: Limits,
}

/// A folder that goes with the test, or that is another process's.
pub enum Folder {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl Folder {
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Other(path) => path,
        }
    }
}

impl Bench {
    pub fn new(config: &str) -> Self {
        let mut bench = Self::of(Folder::Own(tempfile::tempdir().unwrap()), noon());
        bench.configure(config);
        bench
    }

    /// The bench of another process, at the time that it left there, or at noon.
    pub fn at(folder: &Path) -> Self {
        let now = fs::read_to_string(folder.join("now")).map_or(noon(), |now| at(&now));
        let mut bench = Self::of(Folder::Other(folder.to_owned()), now);
        let text = fs::read_to_string(folder.join("reliab.toml")).unwrap();
        bench.configure(&text);
        bench
    }

    fn of(dir: Folder, now: DateTime<Utc>) -> Self {
        let state = State::open(&dir.path().join("state")).unwrap();
        let folder = dir.path().to_str().unwrap();
        let env = Env::fixed(false, &[("PATH", "/usr/bin:/bin"), ("CREDENTIALS_DIRECTORY", folder)]);
        let [run, attempt] = [20, 5].map(Duration::from_secs);
        let limits = Limits { run, attempt, retry_within: Duration::ZERO };
        Self { dir, state, config: Config::default(), env, clock: FixedClock::new(now), limits }
    }

    pub fn configure(&mut self, config: &str) {
        let path = self.dir.path().join("reliab.toml");
        fs::write(&path, config).unwrap();
        self.config = Config::load(Some(&path), &self.env, self.dir.path()).unwrap();
    }

    /// A secret that the configuration names as `{ file = "NAME" }`.
    pub fn secret(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn owe(&self, channel: &str, key: &str, message: &Message) {
        owe(&self.state, channel, key, message, self.clock.now());
    }

    pub fn deliver(&self) -> (Delivered, String) {
        let (delivered, told) = self.try_deliver();
        (delivered.unwrap(), told)
    }

    pub fn try_deliver(&self) -> (anyhow::Result<Delivered>, String) {
        let mut ui = Ui::captured();
        let delivered = self.deliverer(&self.state, &|_| {}).deliver(&mut ui);
        (delivered, ui.captured_output().1)
    }

    /// A delivery with a state file that is opened anew, for another thread.
    pub fn elsewhere(&self) -> impl FnOnce() -> Delivered + Send + 'static {
        let (config, env, limits, dir) =
            (self.config.clone(), self.env.clone(), self.limits, self.state_dir());
        let clock = FixedClock::new(self.clock.now());
        move || {
            let state = State::open(&dir).unwrap();
            let deliverer = Deliverer {
                state: &state,
                channels: &config.channel,
                preferred: &[],
                env: &env,
                clock: &clock,
                seed: 7,
                limits,
                stop: Stop::default(),
                reached: &|_| {},
            };
            deliverer.deliver(&mut Ui::captured()).unwrap()
        }
    }

    pub fn deliverer<'a>(&'a self, state: &'a State, reached: &'a dyn Fn(Point)) -> Deliverer<'a> {
        Deliverer {
            state,
            channels: &self.config.channel,
            preferred: self.config.alert.channels.as_deref().unwrap_or_default(),
            env: &self.env,
            clock: &self.clock,
            seed: 7,
            limits: self.limits,
            stop: Stop::default(),
            reached,
        }
    }

    /// What a command knows that runs here.
    pub fn session(&self, json: bool) -> Session {
        let global = Global { state_dir: Some(self.state_dir()), json, ..Global::default() };
        Session {
            name: "alert",
            errors: &ErrorTable::COMMON,
            config: self.config.clone(),
            config_path: None,
            env: self.env.clone(),
            global,
            clock: SystemClock,
        }
    }

    /// The messages as the state has them: channel, kind, key, state, attempts, error.
    pub fn rows(&self) -> Vec<(String, String, String, String, u32, Option<String>)> {
        let sql = "SELECT channel, kind, key, state, attempts, error FROM notification ORDER BY id";
        self.state
            .with(|db| {
                db.prepare(sql)?
                    .query_map([], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
                    })?
                    .collect()
            })
            .unwrap()
    }

    pub fn states(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.3).collect()
    }

    pub fn attempts(&self) -> Vec<(String, String)> {
        let sql = "SELECT outcome, detail FROM attempt ORDER BY id";
        self.state
            .with(|db| db.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .unwrap()
    }

    /// How long after now the oldest message that is owed is due.
    pub fn wait(&self) -> TimeDelta {
        let sql = "SELECT due FROM notification WHERE state = 'owed' ORDER BY id LIMIT 1";
        let due: i64 = self.state.with(|db| db.query_row(sql, [], |row| row.get(0))).unwrap();
        reliab_common::state::time(due) - self.clock.now()
    }
}

pub fn owe(state: &State, channel: &str, key: &str, message: &Message, now: DateTime<Utc>) {
    let text = serde_json::to_string(message).unwrap();
    state
        .write(|db| {
            db.execute(
                "INSERT INTO notification (channel, kind, key, message, owed, due, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, 'owed')",
                params![channel, message.kind.name(), key, text, nanos(now)],
            )
        })
        .unwrap();
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ready` says so; fails after half a minute.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A certificate authority, and a key and a certificate for `localhost` and 127.0.0.1 that it signed.
pub fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(dir).output();
        let output = output.expect("install the Debian package openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut ca =
        vec!["req", "-x509", "-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.pem"];
    ca.extend(key);
    openssl(&ca);
    let mut request = vec!["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    request.extend(key);
    openssl(&request);
    fs::write(dir.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "server.pem",
    ]);
}
