//! The same endpoints, good and bad, asked by prometheus-blackbox-exporter and by us: the same verdicts.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::nginx::Nginx;
use crate::support::{Bench, Child, daemon, dns, free_port, hostile, need, wait_for};

/// An endpoint, how both ask it, and why their verdicts differ if they do.
struct Case {
    name: &'static str,
    /// Kind and keys of our probe.
    ours: String,
    /// What blackbox is pointed at.
    target: String,
    /// Its module, in the flow style of YAML.
    module: String,
    /// Whether the endpoint is good; and whether blackbox, differing, says so.
    good: bool,
    theirs: bool,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &'static str, good: bool, ours: String, target: String, module: String) {
        self.0.push(Case { name, ours, target, module, good, theirs: good });
    }

    /// The last one added is seen otherwise by blackbox.
    fn differs(&mut self) {
        let last = self.0.last_mut().unwrap();
        last.theirs = !last.good;
    }

    fn http(&mut self, name: &'static str, good: bool, url: &str, ours: &str, http: &str) {
        let module = format!("prober: http, timeout: 1s, http: {{preferred_ip_protocol: ip4, {http}}}");
        self.add(name, good, format!("http = \"{url}\"\n{ours}"), url.to_owned(), module);
    }

    fn tcp(&mut self, name: &'static str, good: bool, target: &str, (kind, ours): (&str, &str), tcp: &str) {
        let module = format!("prober: tcp, timeout: 1s, tcp: {{preferred_ip_protocol: ip4, {tcp}}}");
        self.add(name, good, format!("{kind} = \"{target}\"\n{ours}"), target.to_owned(), module);
    }

    fn dns(
        &mut self,
        name: &'static str,
        good: bool,
        server: SocketAddr,
        host: &str,
        (ours, more): (&str, &str),
    ) {
        let module =
            format!("prober: dns, timeout: 1s, dns: {{query_name: {host}.test, query_type: A, {more}}}");
        let ours = format!("dns = \"{host}.test\"\nserver = \"{server}\"\n{ours}");
        self.add(name, good, ours, server.to_string(), module);
    }
}

fn plain_http(cases: &mut Cases, nginx: &Nginx) {
    let at = |path: &str| nginx.url("plain", path);
    let closed = format!("http://127.0.0.1:{}/", free_port());
    cases.http("ok", true, &at("/"), "", "");
    cases.http("not found", false, &at("/absent"), "", "");
    cases.http("500", false, &at("/500"), "", "");
    cases.http("404 expected", true, &at("/absent"), "expect.status = 404", "valid_status_codes: [404]");
    cases.http("redirect", true, &at("/moved"), "", "");
    cases.http("redirect not followed", false, &at("/moved"), "redirects = 0", "follow_redirects: false");
    cases.http("redirect loop", false, &at("/loop"), "", "");
    cases.http(
        "body",
        true,
        &at("/"),
        "expect.regex = \"^ready\"",
        "fail_if_body_not_matches_regexp: [^ready]",
    );
    cases.http(
        "body wrong",
        false,
        &at("/"),
        "expect.regex = \"^down\"",
        "fail_if_body_not_matches_regexp: [^down]",
    );
    cases.http(
        "body unwanted",
        false,
        &at("/"),
        "expect.body_not = \"ready\"",
        "fail_if_body_matches_regexp: [ready]",
    );
    let header = "fail_if_header_not_matches: [{header: X-Version, regexp: ^v2}]";
    cases.http("header", true, &at("/tagged"), "expect.header = { X-Version = \"^v2\" }", header);
    cases.http("header absent", false, &at("/"), "expect.header = { X-Version = \"^v2\" }", header);
    let posted = (
        "method = \"POST\"\nbody = \"x\"\nexpect.body = \"POST\"",
        "method: POST, body: x, fail_if_body_not_matches_regexp: [POST]",
    );
    cases.http("post", true, &at("/protocol"), posted.0, posted.1);
    cases.http("closed port", false, &closed, "", "");
    let dead = hostile::redirect_to(&closed);
    cases.http("redirect to a closed port", false, &format!("http://{dead}/"), "", "");
}

fn hostile_http(cases: &mut Cases) {
    let url = |address: SocketAddr| format!("http://{address}/");
    let contains = (
        "expect.regex = \"x\"",
        "fail_if_body_not_matches_regexp: [x], body_size_limit: 1MB, compression: gzip, headers: {Accept-Encoding: gzip}",
    );
    cases.http("slow headers", false, &url(hostile::slow_headers()), "", "");
    cases.http("slow body", false, &url(hostile::slow_body()), "", "");
    cases.http("endless body", false, &url(hostile::endless_body()), "", "");
    cases.http("packed body", true, &url(hostile::gzip(1000)), contains.0, contains.1);
    cases.http("gzip bomb", false, &url(hostile::gzip(64 << 20)), contains.0, contains.1);
    cases.http("endless redirects", false, &url(hostile::endless_redirects()), "", "");
    cases.http("redirect to a file", false, &url(hostile::redirect_to("file:///etc/passwd")), "", "");
    cases.http("bad chunks", false, &url(hostile::bad_chunking()), "", "");
    cases.http("cut body", false, &url(hostile::cut_body()), "", "");
    cases.http("silent", false, &url(hostile::silent()), "", "");
    cases.http("hangs up", false, &url(hostile::hangs_up()), "", "");
    cases.http("not HTTP", false, &url(hostile::not_http()), "", "");
    cases.http("10,000 headers", false, &url(hostile::many_headers()), "", "");
    cases.differs();
}

fn tls(cases: &mut Cases, nginx: &Nginx) {
    let certificates = &nginx.certificates;
    let (ca, file) = (format!("ca = \"{}\"", certificates.ca()), format!("ca_file: {}", certificates.ca()));
    let trusted = format!("tls_config: {{{file}}}");
    for (name, good) in [
        ("good", true),
        ("expired", false),
        ("other", false),
        ("self", false),
        ("incomplete", false),
        ("tls12", true),
        ("http2", true),
    ] {
        cases.http(name, good, &nginx.url(name, "/"), &ca, &trusted);
    }
    let (cert, key) = (certificates.file("client.pem"), certificates.file("client.key"));
    let ours = format!("{ca}\nclient_cert = \"{cert}\"\nclient_key = \"{key}\"");
    let theirs = format!("tls_config: {{{file}, cert_file: {cert}, key_file: {key}}}");
    cases.http("client certificate", true, &nginx.url("client", "/"), &ours, &theirs);
    cases.http("client certificate absent", false, &nginx.url("client", "/"), &ca, &trusted);
    cases.http(
        "self-signed, not verified",
        true,
        &nginx.url("self", "/"),
        "verify = false",
        "tls_config: {insecure_skip_verify: true}",
    );
    cases.http(
        "expired, not verified",
        false,
        &nginx.url("expired", "/"),
        "verify = false",
        "tls_config: {insecure_skip_verify: true}",
    );
    cases.differs();
    cases.http(
        "TLS on a plain port",
        false,
        &nginx.url("plain", "/").replace("http", "https"),
        &ca,
        &trusted,
    );
    for (name, good) in [("good", true), ("expired", false)] {
        let target = format!("localhost:{}", nginx.port(name));
        let title = if good { "TLS alone" } else { "TLS alone, expired" };
        cases.tcp(title, good, &target, ("tls", &ca), &format!("tls: true, {trusted}"));
    }
}

fn sockets(cases: &mut Cases) {
    let greets = hostile::greets().to_string();
    cases.tcp("port open", true, &greets, ("tcp", ""), "");
    cases.tcp("port closed", false, &format!("127.0.0.1:{}", free_port()), ("tcp", ""), "");
    cases.tcp(
        "greeting",
        true,
        &greets,
        ("tcp", "expect.regex = \"^220 \""),
        "query_response: [{expect: '^220 '}]",
    );
    cases.tcp(
        "greeting wrong",
        false,
        &greets,
        ("tcp", "expect.regex = \"^554 \""),
        "query_response: [{expect: '^554 '}]",
    );
    let server = dns::start("127.0.0.1:0");
    let answer = (
        "expect.answer = \"192.0.2.7\"",
        "validate_answer_rrs: {fail_if_not_matches_regexp: ['192\\.0\\.2\\.[78]$']}",
    );
    cases.dns("name", true, server, "good", answer);
    cases.dns("name absent", false, server, "nx", ("", ""));
    cases.dns(
        "name absent, as expected",
        true,
        server,
        "nx",
        ("expect.rcode = \"NXDOMAIN\"", "valid_rcodes: [NXDOMAIN]"),
    );
    cases.dns("DNS fails", false, server, "fail", ("", ""));
    cases.dns("DNS silent", false, server, "silent", ("", ""));
    cases.dns("address wrong", false, server, "local", ("expect.answer = \"192.0.2.7\"", answer.1));
    cases.dns("no record", false, server, "none", ("", ""));
    cases.differs();
}

/// A running blackbox exporter with these modules.
fn start(bench: &Bench, cases: &Cases) -> (Child, SocketAddr) {
    let program = need("prometheus-blackbox-exporter", "prometheus-blackbox-exporter");
    let mut config = String::from("modules:\n");
    for (index, case) in cases.0.iter().enumerate() {
        writeln!(config, "  m{index}: {{{}}}", case.module.replace(", }", "}")).unwrap();
    }
    let path = bench.write("blackbox.yml", &config);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let args = [format!("--config.file={}", path.display()), format!("--web.listen-address={address}")];
    let child = Child::start(daemon(&program).args(args));
    wait_for(address);
    (child, address)
}

fn ask(exporter: SocketAddr, index: usize, case: &Case) -> (bool, String) {
    let mut stream = TcpStream::connect(exporter).unwrap();
    let target = case.target.replace(':', "%3A").replace('/', "%2F");
    write!(stream, "GET /probe?module=m{index}&debug=true&target={target} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("probe_success"), "{}: {text}", case.name);
    (text.contains("probe_success 1"), text)
}

#[test]
fn verdicts_are_those_of_the_blackbox_exporter() {
    let (bench, nginx) = (Bench::new(), Nginx::start());
    let mut cases = Cases::default();
    plain_http(&mut cases, &nginx);
    hostile_http(&mut cases);
    tls(&mut cases, &nginx);
    sockets(&mut cases);
    assert!(cases.0.len() >= 40, "{}", cases.0.len());
    let mut config = String::new();
    for case in &cases.0 {
        let ours = &case.ours;
        writeln!(config, "[[probe]]\nname = \"{}\"\ntimeout = \"1s\"\nretries = 0\n{ours}", case.name)
            .unwrap();
    }
    let results = bench.results(&config);
    let (_child, exporter) = start(&bench, &cases);
    let mut wrong = Vec::new();
    for (index, case) in cases.0.iter().enumerate() {
        let ours = results.level(case.name) == "ok";
        let (theirs, text) = ask(exporter, index, case);
        if (ours, theirs) != (case.good, case.theirs) {
            let (name, finding) = (case.name, results.finding(case.name));
            wrong.push(format!("{name}: ours {ours} {finding:?}, theirs {theirs}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "of {} endpoints:\n{}", cases.0.len(), wrong.join("\n"));
}
