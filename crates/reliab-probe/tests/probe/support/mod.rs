//! What the tests of this crate share: the binary in a scratch folder, and peers on loopback, good and hostile.

pub mod certificates;
pub mod dns;
pub mod hostile;
pub mod nginx;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A scratch folder in which the binary runs.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// What came of a run.
pub struct Run {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reliab-probe"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command
            .env("RELIAB_STATE_DIR", self.path("state"))
            .env("TZ", "UTC")
            .env("PATH", "/usr/sbin:/usr/bin:/bin");
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        ran(self.command(args).output().unwrap())
    }

    /// Runs with this configuration.
    pub fn with(&self, config: &str, args: &[&str]) -> Run {
        self.write("reliab.toml", config);
        self.run(args)
    }

    /// Runs with this configuration and gives the results by name.
    pub fn results(&self, config: &str) -> Results {
        let run = self.with(config, &["--json"]);
        let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
        Results { document, exit: run.exit }
    }
}

pub fn ran(output: Output) -> Run {
    Run {
        exit: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The document of a run.
pub struct Results {
    pub document: Value,
    pub exit: i32,
}

impl Results {
    pub fn probe(&self, name: &str) -> &Value {
        let probes = self.document["probes"].as_array().unwrap_or_else(|| panic!("{}", self.document));
        probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn service(&self, name: &str) -> &Value {
        let services = self.document["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap()
    }

    pub fn level(&self, name: &str) -> &str {
        self.probe(name)["level"].as_str().unwrap()
    }

    /// The first finding as (expected, got).
    pub fn finding(&self, name: &str) -> (&str, &str) {
        let finding = &self.probe(name)["findings"][0];
        (finding["expected"].as_str().unwrap_or_default(), finding["got"].as_str().unwrap_or_default())
    }

    /// A phase in seconds.
    pub fn phase(&self, name: &str, phase: &str) -> Option<f64> {
        self.probe(name)["phases"][phase].as_f64()
    }
}

/// A server that handles each connection in a thread of its own, for as long as the test runs.
pub fn serve_on(address: &str, handle: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
    address
}

pub fn serve(handle: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    serve_on("127.0.0.1:0", handle)
}

/// The head and the body of a request.
pub fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {
        if head.ends_with("\r\n\r\n") {
            break;
        }
    }
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = reader.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}

/// A server that answers each request with these bytes.
pub fn answers(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    serve(move |mut stream| {
        request(&stream);
        let _ = stream.write_all(&bytes);
    })
}

/// An answer with this status, headers and body.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A port of loopback on which nobody listens at the moment.
pub fn free_port() -> u16 {
    free_ports::<1>()[0]
}

/// Several ports that nobody listens on, each another one: all are taken before the first is given up.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}

/// Waits until somebody listens.
pub fn wait_for(address: SocketAddr) {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "nobody listens on {address}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A program that must be installed; the package is named if it is not.
pub fn need(program: &str, package: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is missing: install the package {package}"))
}

/// A program that ends with the thread that starts it, even if that is killed.
pub fn daemon(program: &Path) -> Command {
    let mut command = Command::new(need("setpriv", "util-linux"));
    command.args(["--pdeathsig", "KILL"]).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A child that ends with its owner.
pub struct Child(std::process::Child);

impl Child {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// URLs that lead to loopback in disguise.
pub fn redirect_target_urls(port: u16) -> Vec<String> {
    let hosts = ["[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0.0.0.0"];
    hosts.iter().map(|host| format!("http://{host}:{port}/")).collect()
}

/// A proxy that wants this authorization; it opens tunnels and passes requests on.
pub fn proxy(authorization: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let head = request(&stream);
        if !head.contains(authorization) {
            let _ = stream.write_all(answer("407 Proxy Authentication Required", "", "").as_bytes());
            return;
        }
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let authority = target.trim_start_matches("http://").split('/').next().unwrap();
        let mut peer = TcpStream::connect(authority.replace("localhost", "127.0.0.1")).unwrap();
        if head.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        } else {
            peer.write_all(
                head.replacen("http://", "/", 1).replacen(&format!("/{authority}"), "", 1).as_bytes(),
            )
            .unwrap();
        }
        let (mut from, mut to) = (stream.try_clone().unwrap(), peer.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut peer, &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    })
}
