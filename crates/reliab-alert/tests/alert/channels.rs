//! What each kind of channel sends, held against the schemas of the services; and what never leaves: secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::receivers::{self, Answer, Bench, Got, Receiver, at, incident, message, refusing_port};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use clap::{Args as _, FromArgMatches as _};
use reliab_alert::message::{IncidentLine, Kind, Message};
use reliab_alert::test_command;
use reliab_common::app::Tool as _;
use reliab_common::exit::{Exit, Level};
use reliab_common::ui::{Ui, UiOptions};
use reliab_testkit::json_schema::{self, python};
use serde_json::{Value, json};

/// The kinds that speak HTTP, with the path of their requests.
const SERVICES: [&str; 8] =
    ["webhook", "slack", "discord", "telegram", "pagerduty", "ntfy", "alertmanager", "opsgenie"];

/// Every secret of the configuration below, each with its mark.
fn plant(bench: &Bench, url: &str) {
    for (name, text) in [
        ("hook-key", "planted-hook-key".to_owned()),
        ("hook-token", "planted-hook-token".into()),
        ("hook-url", format!("{url}/hooks/planted-hook-path?planted=query")),
        ("slack", format!("{url}/services/T0/B0/planted-slack")),
        ("discord", format!("{url}/api/webhooks/1/planted-discord")),
        ("telegram", "42:planted-telegram".into()),
        ("pagerduty", "planted-pagerduty-00000000000000".into()),
        ("topic", "planted-topic".into()),
        ("ntfy", "planted-ntfy".into()),
        ("am", "planted-am-password".into()),
        ("opsgenie", "planted-opsgenie".into()),
        ("smtp", "planted-smtp".into()),
    ] {
        bench.secret(name, &text);
    }
}

fn config(url: &str) -> String {
    format!(
        r#"
        [channel.webhook]
        type = "webhook"
        url = {{ file = "hook-url" }}
        secret = {{ file = "hook-key" }}
        token = {{ file = "hook-token" }}
        [channel.slack]
        type = "slack"
        url = {{ file = "slack" }}
        [channel.discord]
        type = "discord"
        url = {{ file = "discord" }}
        [channel.telegram]
        type = "telegram"
        token = {{ file = "telegram" }}
        chat = "-100"
        url = "{url}"
        [channel.pagerduty]
        type = "pagerduty"
        routing_key = {{ file = "pagerduty" }}
        url = "{url}/pd"
        [channel.ntfy]
        type = "ntfy"
        topic = {{ file = "topic" }}
        token = {{ file = "ntfy" }}
        url = "{url}"
        [channel.alertmanager]
        type = "alertmanager"
        url = "{url}/am"
        user = "reliab"
        password = {{ file = "am" }}
        [channel.opsgenie]
        type = "opsgenie"
        api_key = {{ file = "opsgenie" }}
        url = "{url}/og"
        "#
    )
}

fn bench(url: &str) -> Bench {
    let mut bench = Bench::new("");
    plant(&bench, url);
    bench.configure(&config(url));
    bench
}

/// The kind of channel that a request is from.
fn kind_of(got: &Got) -> &'static str {
    let starts = [
        ("/hooks/", "webhook"),
        ("/services/", "slack"),
        ("/api/webhooks/", "discord"),
        ("/bot", "telegram"),
        ("/pd/v2/enqueue", "pagerduty"),
        ("/am/api/v2/alerts", "alertmanager"),
        ("/og/v2/alerts", "opsgenie"),
        ("/", "ntfy"),
    ];
    starts.into_iter().find(|(start, _)| got.path.starts_with(start)).unwrap().1
}

/// Messages of every kind: plain, empty, many, and with all that a hostile server may have put into what was measured.
fn messages() -> Vec<Message> {
    let hostile =
        "@everyone <!channel> <@U1> & <script> *b* _i_ `c` [l](http://x) \\ ../ \u{202e}😀\r\n\0\x1b[31m";
    let closed = Some(receivers::noon());
    let long = |id: i64| IncidentLine {
        summary: hostile.repeat(20),
        subject: format!("probe {}", "ß&<".repeat(200)),
        rule: "r".repeat(900),
        closed,
        ..incident(id, "")
    };
    let mut messages = Vec::new();
    for &kind in Kind::ALL {
        messages.push(message(kind, vec![incident(7, "probe api")]));
        messages.push(message(
            kind,
            vec![IncidentLine { closed, level: Level::Warning, ..incident(8, hostile) }],
        ));
        messages.push(Message { note: hostile.repeat(30), ..message(kind, (100..170).map(long).collect()) });
    }
    messages.push(message(Kind::Test, Vec::new()));
    messages.push(Message { note: "x".into(), ..message(Kind::Undeliverable, Vec::new()) });
    messages
}

/// Holds values against the schema of their service; gives what is wrong.
fn violations(pairs: &[(String, Value)]) -> Vec<String> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas"));
    let schema = |service: &str| {
        let text = fs::read(folder.join(service).with_extension("json")).unwrap();
        (service.to_owned(), serde_json::from_slice(&text).unwrap())
    };
    let schemas = pairs.iter().map(|(service, _)| schema(service)).collect();
    let found = json_schema::violations(&schemas, pairs).unwrap();
    pairs
        .iter()
        .zip(found)
        .flat_map(|((service, _), found)| found.into_iter().map(move |text| format!("{service}: {text}")))
        .collect()
}

#[test]
fn every_payload_is_as_the_service_documents_it() {
    let receiver = Receiver::willing();
    let mut bench = bench(&receiver.url());
    bench.limits.run = Duration::from_secs(100);
    let messages = messages();
    for (number, message) in messages.iter().enumerate() {
        for service in SERVICES {
            bench.owe(service, &format!("{service}/{number}"), message);
        }
    }
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered as usize, told.as_str()), (messages.len() * SERVICES.len(), ""));
    let got = receiver.got();
    let pairs: Vec<_> = got.iter().map(|got| (kind_of(got).to_owned(), got.json())).collect();
    for service in SERVICES {
        assert!(pairs.iter().filter(|(kind, _)| kind == service).count() >= messages.len(), "{service}");
    }
    assert_eq!(violations(&pairs), Vec::<String>::new());
    for (kind, value) in &pairs {
        match kind.as_str() {
            "telegram" => assert!(value["text"].as_str().unwrap().encode_utf16().count() <= 4096),
            "ntfy" => assert!(value["message"].as_str().unwrap().len() <= 4096),
            _ => {}
        }
    }
    // The judge can say no: the same values, each without one thing that must be there.
    let broken: Vec<_> = pairs.iter().take(400).map(|(kind, _)| (kind.clone(), json!({ "x": 1 }))).collect();
    assert!(violations(&broken).len() >= broken.len());
}

#[test]
fn requests_carry_key_signature_and_credentials() {
    let receiver = Receiver::willing();
    let bench = bench(&receiver.url());
    for service in SERVICES {
        bench.owe(
            service,
            &format!("web1/{service}"),
            &message(Kind::Opened, vec![incident(7, "probe api")]),
        );
    }
    bench.deliver();
    let got = receiver.got();
    let of = |service: &str| got.iter().find(|got| kind_of(got) == service).unwrap();
    for service in SERVICES {
        assert_eq!(of(service).key(), format!("web1/{service}"));
        assert_eq!(of(service).header("content-type"), Some("application/json"));
    }
    let hook = of("webhook");
    assert_eq!(hook.header("authorization"), Some("Bearer planted-hook-token"));
    let output = python("hmac", "python3")
        .args([
            "-c",
            "import hmac,sys;print(hmac.new(b'planted-hook-key',sys.argv[1].encode(),'sha256').hexdigest())",
        ])
        .arg(String::from_utf8(hook.body.clone()).unwrap())
        .output()
        .unwrap();
    let expected = format!("sha256={}", String::from_utf8(output.stdout).unwrap().trim());
    assert_eq!(hook.header("x-reliab-signature"), Some(expected.as_str()));
    assert_eq!(of("telegram").path, "/bot42:planted-telegram/sendMessage");
    assert_eq!(of("ntfy").header("authorization"), Some("Bearer planted-ntfy"));
    assert_eq!(
        of("ntfy").header("x-sequence-id"),
        Some("5b39fe4f55a7f3e5e04e658447b3410942b9c4fecd0a884f4c7f2b939f0db968")
    );
    assert_eq!(
        of("alertmanager").header("authorization"),
        Some("Basic cmVsaWFiOnBsYW50ZWQtYW0tcGFzc3dvcmQ=")
    );
    assert_eq!(of("opsgenie").header("authorization"), Some("GenieKey planted-opsgenie"));
}

#[test]
fn an_incident_has_one_key_over_its_life_where_services_keep_incidents() {
    let receiver = Receiver::willing();
    let bench = bench(&receiver.url());
    let closed = IncidentLine { closed: Some(receivers::noon()), ..incident(7, "probe api") };
    for service in ["pagerduty", "opsgenie"] {
        for (key, kind) in [("opened", Kind::Opened), ("reminder", Kind::Reminder), ("closed", Kind::Closed)]
        {
            bench.owe(service, &format!("{service}:{key}"), &message(kind, vec![closed.clone()]));
        }
        bench.owe(service, &format!("{service}:passed"), &message(Kind::Passed, vec![closed.clone()]));
    }
    bench.deliver();
    let got = receiver.got();
    let expected = format!("reliab-web1-7-{}", at("2026-11-22T11:58:00Z").timestamp());
    let pagerduty: Vec<_> = got
        .iter()
        .filter(|got| kind_of(got) == "pagerduty")
        .map(|got| (got.json()["event_action"].as_str().unwrap().to_owned(), got.json()["dedup_key"].clone()))
        .collect();
    let actions = ["trigger", "trigger", "resolve", "trigger", "resolve"];
    assert_eq!(pagerduty, actions.map(|action| (action.to_owned(), Value::from(expected.as_str()))));
    let opsgenie: Vec<_> = got.iter().filter(|got| kind_of(got) == "opsgenie").collect();
    let close = format!("/og/v2/alerts/{expected}/close?identifierType=alias");
    let paths: Vec<_> = opsgenie.iter().map(|got| got.path.as_str()).collect();
    assert_eq!(paths, ["/og/v2/alerts", "/og/v2/alerts", &close, "/og/v2/alerts", &close]);
    assert_eq!(opsgenie[0].json()["alias"], expected.as_str());
}

#[test]
fn every_service_that_fails_is_tried_again_or_told_of() {
    let check = |answer: Answer, states: &str, error: &str| {
        let told_answer = answer.clone();
        let receiver = Receiver::start(move |_, _| told_answer.clone());
        let mut bench = bench(&receiver.url());
        bench.limits.attempt = Duration::from_secs(2);
        for service in SERVICES {
            bench.owe(service, service, &message(Kind::Opened, vec![incident(7, "probe api")]));
        }
        bench.limits.run = Duration::from_secs(3);
        let (_, told) = bench.deliver();
        for service in SERVICES {
            let row = bench.rows().into_iter().find(|row| row.2 == service).unwrap();
            assert_eq!(row.3, states, "{service} {answer:?}: {told}");
            assert!(
                row.5.as_deref().unwrap_or_default().contains(error),
                "{service} {answer:?}: {:?}",
                row.5
            );
        }
    };
    for status in [301, 302, 408, 425, 429, 500, 502, 503, 504] {
        check(Answer::status(status), "owed", &format!("answered {status}: "));
    }
    for status in [400, 413, 422] {
        check(Answer::status(status), "refused", &format!("answered {status}: "));
    }
    // Told by another channel, and kept until the key or the address is right.
    for status in [401, 403, 404, 410] {
        check(Answer::status(status), "owed", &format!("answered {status}: "));
    }
    check(Answer::Hang, "owed", "no answer within 2.0 s");
    check(Answer::Drop, "owed", "error sending request");
    check(Answer::Cut, "owed", "");
}

#[test]
fn a_good_status_that_is_not_the_services_own_yes_is_no_receipt() {
    let receiver = Receiver::start(|_, _| Answer::Say(200, Vec::new(), "<html>please log in</html>".into()));
    let bench = bench(&receiver.url());
    for service in ["slack", "telegram", "ntfy"] {
        bench.owe(service, service, &message(Kind::Opened, Vec::new()));
    }
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.failed), (0, 3));
    assert!(told.contains("which is not how this service says yes"), "{told}");
}

#[test]
fn an_answer_without_end_is_read_to_a_bound() {
    let receiver = Receiver::start(|_, _| Answer::Endless);
    let bench = bench(&receiver.url());
    bench.owe("webhook", "k", &message(Kind::Opened, Vec::new()));
    assert_eq!(bench.deliver().0.delivered, 1);
    assert!(bench.attempts()[0].1.chars().count() <= 300);
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::willing();
    let target = elsewhere.url();
    let receiver =
        Receiver::start(move |_, _| Answer::Say(307, vec![("location", target.clone())], String::new()));
    let bench = bench(&receiver.url());
    bench.owe("webhook", "k", &message(Kind::Opened, Vec::new()));
    assert_eq!(bench.deliver().0.failed, 1);
    assert!(elsewhere.got().is_empty());
}

#[test]
fn services_that_are_sent_a_secret_must_be_encrypted_or_here() {
    let mut bench = Bench::new("");
    plant(&bench, "http://example.org");
    // Without the sections that the configuration itself refuses.
    let text = config("http://example.org").replace("token = { file = \"ntfy\" }", "");
    let text = text.replace("topic = { file = \"topic\" }", "topic = \"open\"");
    let text = text.replace("user = \"reliab\"", "").replace("password = { file = \"am\" }", "");
    bench.configure(&text);
    for service in ["webhook", "slack", "discord", "telegram", "pagerduty", "opsgenie"] {
        bench.owe(service, service, &message(Kind::Opened, Vec::new()));
    }
    bench.limits.attempt = Duration::from_secs(1);
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.failed), (0, 6));
    assert_eq!(told.matches("its URL must begin with https://").count(), 6, "{told}");
}

#[test]
fn a_message_about_many_incidents_goes_on_where_an_attempt_was_cut_off() {
    for service in ["pagerduty", "opsgenie"] {
        // Busy in the middle, and one that is refused for good.
        let receiver = Receiver::start(move |number, got| {
            std::thread::sleep(Duration::from_millis(20));
            let bad = String::from_utf8_lossy(&got.body).contains("probe 123:");
            match number {
                250 => Answer::Say(429, vec![("retry-after", "7".into())], String::new()),
                _ if bad => Answer::status(400),
                _ => Answer::yes(&got.path),
            }
        });
        let other = Receiver::willing();
        let mut bench = bench(&receiver.url());
        let hook = format!("[channel.b]\ntype = \"webhook\"\nurl = \"{}\"\n", other.url());
        bench.configure(&(config(&receiver.url()) + "[alert]\nchannels = [\"b\"]\n" + &hook));
        bench.limits.run = Duration::from_secs(3);
        let incidents = (0..500).map(|id| incident(id, &format!("probe {id}"))).collect();
        bench.owe(service, "k", &message(Kind::Opened, incidents));
        let mut runs = 0;
        while bench.states()[0] == "owed" {
            runs += 1;
            assert!(runs < 20, "{:?}", bench.rows());
            bench.deliver();
            bench.clock.advance(TimeDelta::minutes(1));
        }
        // All but what was under way when a run ended were asked for once.
        let requests = receiver.got().len();
        assert!((501..501 + runs).contains(&requests), "{requests} requests in {runs} runs");
        assert!(runs > 2, "{runs}");
        assert_eq!(bench.states()[0], "refused");
        let error = bench.rows()[0].5.clone().unwrap();
        assert!(error.starts_with("1 of 500 events were refused, the first: answered 400: "), "{error}");
        assert_eq!(other.keys(), ["undeliverable:b:k"]);
    }
}

#[test]
fn the_death_of_a_deliverer_costs_a_message_of_many_requests_nothing() {
    let receiver =
        Receiver::start(|number, got| if number == 3 { Answer::status(503) } else { Answer::yes(&got.path) });
    let bench = bench(&receiver.url());
    bench.owe("pagerduty", "k", &message(Kind::Opened, (0..5).map(|id| incident(id, "probe")).collect()));
    bench.deliver();
    // As who is killed leaves it: begun, and not ended.
    bench.state.write(|db| db.execute("UPDATE notification SET attempts = attempts + 1", [])).unwrap();
    bench.clock.advance(TimeDelta::minutes(1));
    assert_eq!(bench.deliver().0.delivered, 1);
    assert_eq!(receiver.got().len(), 4 + 2);
}

#[test]
fn what_tells_of_a_message_that_was_not_taken_leaves_no_incident_open_that_nobody_ends() {
    let receiver = Receiver::willing();
    let bench = bench(&receiver.url());
    let over = IncidentLine { closed: Some(receivers::noon()), ..incident(7, "probe api") };
    bench.owe("pagerduty", "over", &message(Kind::Undeliverable, vec![over.clone()]));
    bench.owe("pagerduty", "open", &message(Kind::Undeliverable, vec![over.clone(), incident(8, "disk /")]));
    bench.owe("opsgenie", "og", &message(Kind::Undeliverable, vec![over]));
    bench.deliver();
    let got = receiver.got();
    let events: Vec<_> = got
        .iter()
        .filter(|got| kind_of(got) == "pagerduty")
        .map(Got::json)
        .map(|event| {
            (event["event_action"].clone(), event["dedup_key"].clone(), event["payload"]["severity"].clone())
        })
        .collect();
    let event = |action: &str, key: &str, severity: Value| (action.into(), key.into(), severity);
    let expected = [
        event("trigger", "over", "warning".into()),
        event("resolve", "over", Value::Null),
        event("trigger", "open", "critical".into()),
    ];
    assert_eq!(events, expected);
    let opsgenie: Vec<_> = got.iter().filter(|got| kind_of(got) == "opsgenie").collect();
    assert_eq!((opsgenie.len(), opsgenie[0].json()["priority"].clone()), (2, "P3".into()));
}

#[test]
fn a_webhook_with_a_certificate_of_ones_own_is_trusted_when_told() {
    let mut bench = Bench::new("");
    receivers::certificates(bench.dir.path());
    let script = "import http.server, ssl, sys\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n    \
            def do_POST(self):\n        \
                self.rfile.read(int(self.headers['content-length']))\n        \
                self.send_response(204)\n        self.end_headers()\n\
        server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n\
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        context.load_cert_chain('server.pem', 'server.key')\n\
        server.socket = context.wrap_socket(server.socket, server_side=True)\n\
        print(server.server_address[1], flush=True)\nserver.serve_forever()\n";
    let mut child = python("ssl", "python3")
        .args(["-c", script])
        .current_dir(bench.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut port)
        .unwrap();
    let _process = receivers::Process(child);
    let plain = format!("[channel.a]\ntype = \"webhook\"\nurl = \"https://localhost:{}/\"\n", port.trim());
    bench.configure(&plain);
    bench.owe("a", "k", &message(Kind::Opened, Vec::new()));
    let (delivered, told) = bench.deliver();
    assert_eq!(delivered.delivered, 0);
    assert!(told.contains("invalid peer certificate: UnknownIssuer"), "{told}");
    bench.clock.advance(bench.wait());
    bench.configure(&format!("{plain}ca = \"{}\"\n", bench.dir.path().join("ca.pem").display()));
    let (delivered, told) = bench.deliver();
    assert_eq!(delivered.delivered, 1, "{told}");
}

fn script(dir: &Path, text: &str) -> String {
    let path = dir.join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn command_bench(text: &str) -> Bench {
    let mut bench = Bench::new("");
    let path = script(bench.dir.path(), text);
    let out = bench.dir.path().join("out");
    bench.configure(&format!(
        "[channel.a]\ntype = \"command\"\ncommand = [\"{path}\", \"$(id)\", \"{}\"]\ntimeout = \"2s\"\n",
        out.display()
    ));
    bench
}

#[test]
fn a_command_is_told_by_environment_and_standard_input_and_no_shell_reads_its_arguments() {
    let bench = command_bench("{ echo \"$1\"; env | sort; cat; } > \"$2\"; echo paged somebody");
    let summary = "$(touch /tmp/x) `id`".to_owned();
    let one = IncidentLine { summary, ..incident(7, "probe api") };
    bench.owe("a", "k", &message(Kind::Opened, vec![one, incident(9, "disk /")]));
    bench.clock.advance(TimeDelta::hours(1));
    assert_eq!(bench.deliver().0.delivered, 1);
    assert!(bench.attempts()[0].1.ends_with("ended well: paged somebody"), "{:?}", bench.attempts());
    let out = fs::read_to_string(bench.dir.path().join("out")).unwrap();
    assert!(out.starts_with("$(id)\n"), "{out}");
    for line in [
        "RELIAB_KEY=k",
        "RELIAB_KIND=opened",
        "RELIAB_LEVEL=critical",
        "RELIAB_HOST=web1",
        "RELIAB_INCIDENTS=7 9",
        "RELIAB_LATE=delivered 1 h 00 min late",
        "RELIAB_TITLE=[web1] CRITICAL 2 incidents opened: probe api, disk /",
        "PATH=/usr/bin:/bin",
    ] {
        assert!(out.lines().any(|known| known == line), "{line} in {out}");
    }
    // What else is in the environment may be another channel's secret.
    assert!(!out.contains("CREDENTIALS_DIRECTORY"), "{out}");
    let document: Value = serde_json::from_str(&out[out.find("{\"schema\"").unwrap()..]).unwrap();
    assert_eq!(violations(&[("webhook".into(), document)]), Vec::<String>::new());
}

#[test]
fn a_command_that_fails_is_judged_by_its_exit() {
    let check = |text: &str, state: &str, error: &str| {
        let bench = command_bench(text);
        bench.owe("a", "k", &message(Kind::Opened, Vec::new()));
        let started = Instant::now();
        bench.deliver();
        assert!(started.elapsed() < Duration::from_secs(4), "{text}");
        let row = bench.rows().remove(0);
        let told = row.5.unwrap_or_default();
        assert_eq!(row.3, state, "{text}: {told}");
        assert!(told.contains(error) && told.chars().count() <= 300, "{text}: {told}");
    };
    check("echo no route >&2; exit 1", "owed", "ended with exit status: 1: no route");
    check("exit 75", "owed", "exit status: 75");
    check("exit 65", "refused", "exit status: 65");
    check("exit 78", "owed", "exit status: 78");
    check("kill -9 $$", "owed", "signal: 9");
    check("sleep 60", "owed", "no answer within 2.0 s");
    check("head -c 100000000 /dev/zero | tr '\\0' x; exit 1", "owed", "xxx");
    check("sleep 60 & exit 0", "delivered", "");
    check("exec 0<&-; exit 0", "delivered", "");
}

#[test]
fn a_command_that_is_late_is_killed_with_all_that_it_started() {
    let bench = command_bench("sh -c 'echo $$ > \"$0\"; sleep 60' \"$2\"; true");
    bench.owe("a", "k", &message(Kind::Opened, Vec::new()));
    bench.deliver();
    let pid = fs::read_to_string(bench.dir.path().join("out")).unwrap();
    let status = format!("/proc/{}/stat", pid.trim());
    receivers::wait_until("the end of the child", || {
        fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_command_has_all_of_its_time_also_at_the_end_of_a_run() {
    let mut bench = command_bench("sleep 1.5; echo \"$RELIAB_KEY\" >> \"$2\"");
    bench.limits.run = Duration::from_secs(3);
    for key in ["k1", "k2"] {
        bench.owe("a", key, &message(Kind::Opened, Vec::new()));
    }
    let delivered = bench.deliver().0;
    assert_eq!((delivered.delivered, delivered.failed), (1, 0));
    assert_eq!(bench.deliver().0.delivered, 1);
    assert_eq!(fs::read_to_string(bench.dir.path().join("out")).unwrap(), "k1\nk2\n");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new("[channel.a]\ntype = \"command\"\ncommand = [\"/absent/page\"]\n");
    bench.owe("a", "k", &message(Kind::Opened, Vec::new()));
    let (delivered, told) = bench.deliver();
    assert_eq!(delivered.failed, 1);
    assert!(told.contains("channel a: cannot run /absent/page: No such file or directory"), "{told}");
}

#[test]
fn the_console_writes_to_stderr_with_priorities_for_the_journal() {
    let bench = Bench::new("[channel.a]\ntype = \"console\"\n");
    let one = || message(Kind::Opened, vec![incident(7, "probe api")]);
    bench.owe("a", "k1", &one());
    let (_, told) = bench.deliver();
    assert!(
        told.starts_with("[web1] CRITICAL probe api: connection refused\nCRITICAL probe api: "),
        "{told}"
    );
    bench.owe("a", "k2", &one());
    bench.owe("a", "k3", &message(Kind::Closed, vec![incident(7, "probe api")]));
    let mut ui = Ui::captured_for_journal(UiOptions::default());
    bench.deliverer(&bench.state, &|_| {}).deliver(&mut ui).unwrap();
    let told = ui.captured_output().1;
    assert!(told.lines().all(|line| line.starts_with("<2>") || line.starts_with("<5>")), "{told}");
    assert!(told.starts_with("<2>[web1] CRITICAL probe api"), "{told}");
    assert!(told.contains("\n<5>[web1] resolved: probe api"), "{told}");
}

/// Runs `alert test` as a command does; gives its end, stdout and stderr.
fn alert_test(bench: &Bench, channel: &str, json: bool) -> (anyhow::Result<Exit>, String, String) {
    let command = test_command::Args::augment_args(clap::Command::new("test"));
    let matches = command.try_get_matches_from(["test", channel]).unwrap();
    let args = test_command::Args::from_arg_matches(&matches).unwrap();
    let session = bench.session(json);
    let mut ui = Ui::captured_with(UiOptions { json, ..UiOptions::default() });
    let result = args.run(&session, &mut ui);
    let (out, err) = ui.captured_output();
    (result, out, err)
}

#[test]
fn alert_test_sends_at_once_past_what_is_held_back_and_keeps_that_it_did() {
    let receiver = Receiver::willing();
    let bench = bench(&receiver.url());
    bench.owe("slack", "held", &message(Kind::Opened, Vec::new()));
    let (result, out, err) = alert_test(&bench, "slack", false);
    assert_eq!((result.unwrap(), err.as_str()), (Exit::Done, ""));
    assert!(out.starts_with("slack (slack): taken in "), "{out}");
    assert_eq!(receiver.got().len(), 1);
    assert!(receiver.got()[0].json()["text"].as_str().unwrap().ends_with("test message"));
    let rows = bench.rows();
    assert_eq!((rows[1].1.as_str(), rows[1].3.as_str()), ("test", "delivered"));
    assert_eq!(rows[0].3, "owed");
    let (result, out, _) = alert_test(&bench, "pagerduty", true);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((result.unwrap(), document["schema"].as_str()), (Exit::Done, Some("reliab.alert-test.v1")));
    assert_eq!((document["delivered"].as_bool(), document["kind"].as_str()), (Some(true), Some("pagerduty")));
    let (result, ..) = alert_test(&bench, "fax", false);
    let expected = "no channel `fax`: there is alertmanager, discord, ntfy, opsgenie, pagerduty, slack, telegram, webhook";
    assert_eq!(result.unwrap_err().to_string(), expected);
}

/// How a word looks in base64 by where it begins, without the characters that hold bits of its neighbours.
fn in_base64(word: &str) -> impl Iterator<Item = String> {
    (0..3).map(move |before| {
        let text = STANDARD.encode(format!("{}{word}", "x".repeat(before)));
        let known = (8 * before).div_ceil(6)..8 * (before + word.len()) / 6;
        text[known].to_owned()
    })
}

#[test]
fn a_word_is_found_in_base64_wherever_it_begins() {
    let found: Vec<_> = in_base64("planted").collect();
    for (before, found) in found.iter().enumerate() {
        assert!(
            found.len() >= 8
                && STANDARD.encode(format!("{}planted!", "?".repeat(before))).contains(found.as_str())
        );
    }
}

#[test]
fn no_secret_is_shown_anywhere_whatever_the_other_side_says() {
    // It says all that it knows.
    let echo = |status| {
        move |_, got: &Got| {
            let body = String::from_utf8_lossy(&got.body);
            let authorization = got.header("authorization").unwrap_or_default();
            let text = format!("{} {authorization} {:?} {body}", got.path, got.headers);
            Answer::Say(status, Vec::new(), text)
        }
    };
    let mut shown = String::new();
    for answer in [Some(400), Some(401), Some(503), Some(200), None] {
        let receiver = answer.map(|status| Receiver::start(echo(status)));
        let port = receiver.as_ref().map_or_else(refusing_port, |receiver| receiver.port);
        let mut bench = bench(&format!("http://127.0.0.1:{port}"));
        let mail = format!(
            "[channel.mail]\ntype = \"email\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n\
             smtp = {{ host = \"localhost\", port = {}, user = \"u\", password = {{ file = \"smtp\" }} }}\n",
            refusing_port()
        );
        bench.configure(&(config(&format!("http://127.0.0.1:{port}")) + &mail));
        bench.limits.attempt = Duration::from_secs(2);
        for service in SERVICES.iter().chain(&["mail"]) {
            bench.owe(service, service, &message(Kind::Opened, vec![incident(7, "probe api")]));
        }
        let (delivered, told) = bench.try_deliver();
        shown += &format!("{delivered:?} {told}");
        for service in SERVICES.iter().chain(&["mail"]) {
            for json in [false, true] {
                let (result, out, err) = alert_test(&bench, service, json);
                shown += &format!("{result:?} {out} {err}");
            }
        }
        for file in ["state.db", "state.db-wal", "deliver.lock"] {
            let bytes = fs::read(bench.state_dir().join(file)).unwrap_or_default();
            shown += &String::from_utf8_lossy(&bytes);
        }
        shown += &format!("{:?} {:?} {:?}", bench.rows(), bench.attempts(), bench.config);
    }
    for planted in std::iter::once("planted".to_owned()).chain(in_base64("planted")) {
        let planted = planted.as_str();
        if let Some(place) = shown.find(planted) {
            let start = shown[..place].char_indices().rev().nth(300).map_or(0, |(at, _)| at);
            panic!("{}", &shown[start..place + planted.len()]);
        }
    }
    assert!(shown.contains("[secret]") && shown.contains("answered 503"), "the servers were not asked");
}
