//! Ten thousand targets in one run. Measured on request, on a quiet machine:
//! `cargo test --release -p reliab-probe --test probe -- speed --ignored --nocapture`

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::certificates::Certificates;
use crate::support::{Bench, Child, daemon, free_ports, need, wait_for};

const TARGETS: usize = 10_000;
/// The targets are on so many addresses, as one would run out of ports.
const ADDRESSES: usize = 8;
const MIB: f64 = 1_048_576.0;

/// What a run cost.
struct Cost {
    /// From the start of the first probe to the end of the last.
    probing: f64,
    /// The whole process, with the configuration read and the state written.
    whole: Duration,
    /// The most memory it had, in MiB.
    memory: f64,
    /// The most sockets it had.
    sockets: usize,
    /// How long a probe took at the median and at the 99th percentile, in milliseconds.
    probe: (f64, f64),
}

/// nginx on eight addresses, at one port with TLS and at one without.
fn server(bench: &Bench) -> (Child, u16, u16) {
    let base = bench.path("").display().to_string();
    Certificates::make(&bench.path(""));
    let [plain, secure] = free_ports();
    let mut listen = String::new();
    for address in 1..=ADDRESSES {
        write!(
            listen,
            "listen 127.0.0.{address}:{plain} backlog=4096; listen 127.0.0.{address}:{secure} ssl;"
        )
        .unwrap();
    }
    let config = format!(
        "daemon off; master_process off; pid {base}/pid; error_log {base}/error.log;\n\
         events {{ worker_connections 8192; }}\nhttp {{ access_log off; client_body_temp_path {base}/body;\n\
         proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/f; uwsgi_temp_path {base}/u; scgi_temp_path {base}/s;\n\
         ssl_protocols TLSv1.3; ssl_certificate {base}/good.pem; ssl_certificate_key {base}/good.key;\n\
         server {{ {listen} location / {{ return 200 'ready'; }} }} }}\n"
    );
    let path = bench.write("nginx.conf", &config).display().to_string();
    let nginx = need("nginx", "nginx-light");
    let child = Child::start(daemon(&nginx).args(["-e", &format!("{base}/error.log"), "-c", &path]));
    wait_for(([127, 0, 0, 1], secure).into());
    (child, plain, secure)
}

fn configure(bench: &Bench, scheme: &str, port: u16) {
    let mut config = String::new();
    for number in 0..TARGETS {
        let address = number % ADDRESSES + 1;
        writeln!(
            config,
            "[[probe]]\nname = \"t{number}\"\nhttp = \"{scheme}://127.0.0.{address}:{port}/{number}\""
        )
        .unwrap();
        if scheme == "https" {
            writeln!(config, "ca = \"ca.pem\"\nserver_name = \"localhost\"\nversion = \"1.1\"").unwrap();
        }
        config += "expect.body = \"ready\"\n";
    }
    bench.write("reliab.toml", &config);
}

fn measure(bench: &Bench) -> Cost {
    let output = fs::File::create(bench.path("out.json")).unwrap();
    let started = Instant::now();
    let mut child = bench.command(&["--json"]).stdout(output).stderr(Stdio::inherit()).spawn().unwrap();
    let (mut memory, mut sockets) = (0.0f64, 0);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        // The high-water mark only grows, so that the last look is good to within the pause.
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<f64> = mark.and_then(|mark| mark.trim_end_matches("kB").trim().parse().ok());
        memory = memory.max(kib.unwrap_or_default() * 1024.0 / MIB);
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        sockets = sockets.max(files.filter(is_socket).count());
        thread::sleep(Duration::from_millis(20));
    };
    let whole = started.elapsed();
    assert!(status.success(), "{status}");
    let document: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.path("out.json")).unwrap()).unwrap();
    let probes = document["probes"].as_array().unwrap();
    assert_eq!(probes.len(), TARGETS);
    assert!(probes.iter().all(|probe| probe["level"] == "ok" && probe["attempts"] == 1));
    let mut times: Vec<f64> = probes.iter().map(|probe| probe["seconds"].as_f64().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    Cost {
        probing: document["seconds"].as_f64().unwrap(),
        whole,
        memory,
        sockets,
        probe: (times[TARGETS / 2] * 1e3, times[TARGETS / 100 * 99] * 1e3),
    }
}

fn is_socket(file: &fs::DirEntry) -> bool {
    fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
}

#[test]
#[ignore = "measures: for a quiet machine and a release build"]
fn ten_thousand_targets() {
    let bench = Bench::new();
    let (_server, plain, secure) = server(&bench);
    for (scheme, port, least) in [("http", plain, 3000.0), ("https", secure, 0.0)] {
        configure(&bench, scheme, port);
        let cost = measure(&bench);
        #[expect(clippy::cast_precision_loss, reason = "ten thousand is exact")]
        let rate = TARGETS as f64 / cost.whole.as_secs_f64();
        println!(
            "{scheme}: {TARGETS} targets in {:.2} s, {:.2} s with configuration and state: {rate:.0} a second; {:.0} MiB, {} sockets; \
             a probe took {:.1} ms at the median, {:.1} ms at p99",
            cost.probing,
            cost.whole.as_secs_f64(),
            cost.memory,
            cost.sockets,
            cost.probe.0,
            cost.probe.1
        );
        assert!(rate >= least, "{rate:.0} a second");
        assert!(cost.memory <= 150.0, "{:.0} MiB", cost.memory);
        assert!(cost.sockets <= 256, "{} sockets", cost.sockets);
    }
}
