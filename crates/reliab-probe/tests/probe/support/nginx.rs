//! nginx with all kinds of certificates.

use std::fmt::Write as _;
use std::fs;

use super::certificates::Certificates;
use super::{Child, daemon, free_ports, need, wait_for};

/// A running nginx.
pub struct Nginx {
    _folder: tempfile::TempDir,
    pub certificates: Certificates,
    ports: Vec<(&'static str, u16)>,
    _child: Child,
}

/// The servers: name, certificate, options of `listen`, more directives. Without a certificate: no TLS.
const SERVERS: [(&str, &str, &str, &str); 11] = [
    ("plain", "", "", ""),
    ("good", "good", "ssl", ""),
    ("late", "late", "ssl", ""),
    ("expired", "expired", "ssl", ""),
    ("other", "other", "ssl", ""),
    ("self", "self", "ssl", ""),
    ("incomplete", "incomplete", "ssl", ""),
    ("tls12", "good", "ssl", "ssl_protocols TLSv1.2;"),
    ("http2", "good", "ssl http2", ""),
    ("h2c", "", "http2", ""),
    ("client", "good", "ssl", "ssl_verify_client on; ssl_verify_depth 3;"),
];

const PLACES: &str = r#"
    default_type text/plain;
    location = / { return 200 "ready\n"; }
    location = /json { default_type application/json; return 200 '{"status":"ok","queue":7}'; }
    location = /protocol { return 200 "$server_protocol $ssl_protocol $request_method"; }
    location = /500 { return 500; }
    location = /moved { return 301 /; }
    location = /loop { return 302 /loop; }
    location = /many { MANY return 200 "many"; }
    location = /tagged { add_header X-Version "v2.1"; return 200 "tagged"; }
"#;

impl Nginx {
    pub fn start() -> Self {
        let program = need("nginx", "nginx-light");
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(folder.path());
        let base = folder.path().display().to_string();
        let names = SERVERS.map(|(name, ..)| name);
        let ports: Vec<_> = names.into_iter().zip(free_ports::<{ SERVERS.len() }>()).collect();
        let mut servers = String::new();
        for ((_, certificate, listen, more), (_, port)) in SERVERS.iter().zip(&ports) {
            let many: String = (0..300).map(|number| format!("add_header X-{number} 1; ")).collect();
            let places = PLACES.replace("MANY", &many);
            write!(servers, "server {{ listen 127.0.0.1:{port} {listen}; {more} {places}").unwrap();
            if !certificate.is_empty() {
                write!(
                    servers,
                    "ssl_certificate {base}/{certificate}.pem; ssl_certificate_key {base}/{certificate}.key;"
                )
                .unwrap();
            }
            if more.contains("ssl_verify_client") {
                write!(servers, "ssl_client_certificate {base}/ca.pem;").unwrap();
            }
            servers.push_str("}\n");
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {base}/{name};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {base}/pid; error_log {base}/error.log;\n\
             events {{ worker_connections 4096; }}\nhttp {{ access_log off; ssl_protocols TLSv1.2 TLSv1.3; {temporary}\n{servers}}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let args = ["-e", &format!("{base}/error.log"), "-c", &format!("{base}/nginx.conf")];
        let child = Child::start(daemon(&program).args(args));
        for (_, port) in &ports {
            wait_for(([127, 0, 0, 1], *port).into());
        }
        Self { _folder: folder, certificates, ports, _child: child }
    }

    pub fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(known, _)| *known == name).unwrap().1
    }

    pub fn url(&self, name: &str, path: &str) -> String {
        let scheme = if matches!(name, "plain" | "h2c") { "http" } else { "https" };
        format!("{scheme}://localhost:{}{path}", self.port(name))
    }
}
