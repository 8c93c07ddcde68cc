//! Phases beside those of curl, on a server that takes its time where it is told to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::certificates::Certificates;
use crate::support::{Bench, dns, need, serve};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long the server takes before the handshake, the first byte and the rest of the body.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(400), Duration::from_millis(300)];

fn answer_slowly(stream: TcpStream, config: Arc<ServerConfig>) {
    thread::sleep(PAUSES[0]);
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => head.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    thread::sleep(PAUSES[1]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nbegin");
    let _ = stream.flush();
    thread::sleep(PAUSES[2]);
    let _ = stream.write_all(&[b'x'; 1995]);
    let _ = stream.flush();
}

fn slow_server(folder: &Path) -> u16 {
    Certificates::make(folder);
    let chain = CertificateDer::pem_file_iter(folder.join("good.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("good.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let address = serve(move |stream| answer_slowly(stream, Arc::clone(&config)));
    address.port()
}

/// Runs a program for which a slow server resolves names.
fn resolved_slowly(bench: &Bench, server: &str, program: &Path, args: &[&str]) -> String {
    let resolv = bench.write("resolv.conf", &format!("nameserver {server}\n"));
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let mut command = Command::new(need("unshare", "util-linux"));
    command
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(resolv)
        .arg(program)
        .args(args);
    command.current_dir(bench.path("")).env("RELIAB_STATE_DIR", bench.path("state"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn phases_are_within_a_tenth_of_curls() {
    let bench = Bench::new();
    let port = slow_server(&bench.path(""));
    let resolver = dns::start("127.0.0.155:53").ip().to_string();
    let url = format!("https://slow.test:{port}/");

    let format = "%{time_namelookup} %{time_connect} %{time_appconnect} %{time_starttransfer} %{time_total}";
    // The certificate is for localhost; neither client is asked to mind.
    let args = ["--silent", "--insecure", "--ipv4", "--output", "body", "--write-out", format, &url];
    let curl = resolved_slowly(&bench, &resolver, &need("curl", "curl"), &args);
    let times: Vec<f64> = curl.split(' ').map(|text| text.parse().unwrap()).collect();
    let &[name, connect, tls, first, total] = &times[..] else { panic!("{curl}") };

    let config = format!("[[probe]]\nname = \"slow\"\nhttp = \"{url}\"\nverify = false\nversion = \"1.1\"\n");
    bench.write("reliab.toml", &config);
    let text = resolved_slowly(&bench, &resolver, Path::new(env!("CARGO_BIN_EXE_reliab-probe")), &["--json"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let probe = &document["probes"][0];
    let phase = |name: &str| probe["phases"][name].as_f64().unwrap();

    let pairs = [
        ("dns", phase("dns"), name),
        ("tls", phase("tls"), tls - connect),
        ("first byte", phase("first_byte"), first - tls),
        ("transfer", phase("transfer"), total - first),
        ("total", probe["seconds"].as_f64().unwrap(), total),
    ];
    for (what, ours, curls) in pairs {
        assert!((ours - curls).abs() <= curls / 10.0, "{what}: {ours} here, {curls} by curl");
    }
    // A connection on loopback is too quick for shares.
    assert!(phase("connect") < 0.01 && connect - name < 0.01, "{} {}", phase("connect"), connect - name);
    let parts: f64 = ["dns", "connect", "tls", "first_byte", "transfer"].map(phase).iter().sum();
    let total = probe["seconds"].as_f64().unwrap();
    assert!(parts <= total && parts > total * 0.98, "{parts} of {total}");
}
