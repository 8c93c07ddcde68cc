//! The mail server of the tests, in Python.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use reliab_testkit::json_schema::python;
use serde_json::Value;

use super::{Process, certificates};

pub struct MailServer {
    _process: Process,
    dir: PathBuf,
    pub port: u16,
}

impl MailServer {
    /// A server with certificates in `dir`, where it keeps what it takes.
    pub fn start(dir: &Path, mode: &str, password: Option<&str>) -> Self {
        if !dir.join("ca.pem").exists() {
            certificates(dir);
        }
        let mut command = python("aiosmtpd", "python3-aiosmtpd");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/alert/receivers/smtp.py"))
            .args(["--mode", mode, "--mails"])
            .arg(dir.join("mails"))
            .arg("--certificate")
            .arg(dir.join("server.pem"))
            .arg("--key")
            .arg(dir.join("server.key"))
            .stderr(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(password) = password {
            command.args(["--password", password]);
        }
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the mail server does not start");
        Self { _process: Process(process), dir: dir.to_owned(), port }
    }

    /// The mails that were taken, in order.
    pub fn mails(&self) -> Vec<Mail> {
        let text = fs::read_to_string(self.dir.join("mails")).unwrap_or_default();
        text.lines().map(|line| Mail::of(&serde_json::from_str(line).unwrap())).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.mails().iter().map(|mail| mail.header("X-Reliab-Key").unwrap()).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Mail {
    pub to: Vec<String>,
    pub tls: bool,
    pub user: Option<String>,
    pub text: String,
}

impl Mail {
    fn of(value: &Value) -> Self {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(value["data"].as_str().unwrap()).unwrap();
        Self {
            to: serde_json::from_value(value["to"].clone()).unwrap(),
            tls: value["tls"].as_bool().unwrap(),
            user: value["user"].as_str().map(str::to_owned),
            text: String::from_utf8(bytes).unwrap(),
        }
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    /// The text as it was meant, whatever its encoding; by Python's mail parser.
    pub fn body(&self) -> String {
        let script = "import sys, email, email.policy; \
            mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default); \
            print(mail['subject']); print(mail.get_content(), end='')";
        let mut child = python("email", "python3")
            .args(["-c", script])
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), self.text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }
}
