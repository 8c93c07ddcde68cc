//! Services whose metrics are read: both formats, resets, and what is none.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use crate::support::{self, Bench, Results, answer, request, serve};
use reliab_common::fact;
use reliab_common::state::State;

const PROMETHEUS: &str = "Content-Type: text/plain; version=0.0.4\r\n";
const OPEN_METRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";

/// A server whose metrics can be changed.
fn metrics(headers: &'static str) -> (String, Arc<Mutex<String>>) {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    let address = serve(move |mut stream| {
        let head = request(&stream);
        assert!(head.contains("accept: application/openmetrics-text;version=1.0.0"), "{head}");
        let text = shared.lock().unwrap().clone();
        let _ = stream.write_all(answer("200 OK", headers, &text).as_bytes());
    });
    (format!("http://{address}/metrics"), text)
}

fn exposition(good: u32, bad: u32, fast: u32, end: &str) -> String {
    let all = good + bad;
    format!(
        "# TYPE http_requests_total counter\n\
         http_requests_total{{handler=\"/\",code=\"200\"}} {good}\n\
         http_requests_total{{handler=\"/\",code=\"503\"}} {bad}\n\
         http_requests_total{{handler=\"/other\",code=\"500\"}} 77\n\
         # TYPE http_request_duration_seconds histogram\n\
         http_request_duration_seconds_bucket{{le=\"0.1\"}} {fast}\n\
         http_request_duration_seconds_bucket{{le=\"1\"}} {all}\n\
         http_request_duration_seconds_bucket{{le=\"+Inf\"}} {all}\n\
         http_request_duration_seconds_sum 12.5\n\
         http_request_duration_seconds_count {all}\n{end}"
    )
}

fn service(url: &str) -> String {
    format!(
        "[[service]]\nname = \"checkout\"\nmetrics = \"{url}\"\nrequests = 'http_requests_total{{handler=\"/\"}}'\n"
    )
}

#[test]
fn a_service_is_counted_from_scrape_to_scrape_in_both_formats() {
    for (headers, end) in [(PROMETHEUS, ""), (OPEN_METRICS, "# EOF\n")] {
        let (url, text) = metrics(headers);
        let (bench, config) = (Bench::new(), service(&url));
        let scrape = |good, bad, fast| {
            *text.lock().unwrap() = exposition(good, bad, fast, end);
            let results = bench.results(&config);
            let service = results.service("checkout").clone();
            assert_eq!((results.exit, service["level"].as_str()), (0, Some("ok")), "{service}");
            service
        };
        let first = scrape(1000, 10, 900);
        assert_eq!(first["summary"], "first scrape: counting begins");
        assert!(first["requests"].is_null());
        let second = scrape(1080, 30, 950);
        assert_eq!((second["requests"].as_f64(), second["errors"].as_f64()), (Some(100.0), Some(20.0)));
        assert!((second["p50"].as_f64().unwrap() - 0.1).abs() < 1e-9, "{second}");
        assert!((second["p95"].as_f64().unwrap() - 0.91).abs() < 1e-9, "{second}");
        // Started anew: what is there counts whole.
        let third = scrape(5, 1, 6);
        assert_eq!((third["requests"].as_f64(), third["errors"].as_f64()), (Some(6.0), Some(1.0)));
        let fourth = scrape(5, 1, 6);
        assert_eq!((fourth["requests"].as_f64(), fourth["p95"].as_f64()), (Some(0.0), None));

        let state = State::open(&bench.path("state")).unwrap();
        let now = chrono::Utc::now();
        let values = |figure: &str| -> Vec<f64> {
            let since = now - chrono::TimeDelta::hours(1);
            let points = fact::samples(&state, "service", "checkout", figure, since, now).unwrap();
            points.into_iter().map(|point| point.value).collect()
        };
        assert_eq!(values("requests"), [100.0, 6.0, 0.0]);
        assert_eq!(values("errors"), [20.0, 1.0, 0.0]);
        assert_eq!(values("p99").len(), 2);
    }
}

#[test]
fn what_is_no_exposition_is_unknown_and_counts_nothing() {
    let (url, text) = metrics(OPEN_METRICS);
    let (bench, config) = (Bench::new(), service(&url));
    let scrape = |content: &str| {
        content.clone_into(&mut text.lock().unwrap());
        let results = bench.results(&config);
        (results.exit, results.service("checkout").clone())
    };
    let whole = exposition(10, 0, 5, "# EOF\n");
    assert_eq!(scrape(&whole).0, 0);
    for (content, problem) in [
        ("<html>login</html>", "line 1: no name of a metric"),
        (whole.trim_end_matches("# EOF\n"), "it ends without # EOF, so something is missing"),
        ("up 1\n# EOF\n", "expected a series of http_requests_total, got none that fits"),
    ] {
        let (exit, service) = scrape(content);
        assert_eq!((exit, service["level"].as_str()), (3, Some("unknown")));
        assert!(service["summary"].as_str().unwrap().contains(problem), "{service}");
    }
    // What was read before still counts.
    let (_, service) = scrape(&exposition(25, 0, 5, "# EOF\n"));
    assert_eq!(service["requests"].as_f64(), Some(15.0));
}

#[test]
fn numbers_that_are_none_cost_nothing_but_themselves() {
    let (url, text) = metrics(PROMETHEUS);
    let (good, other) = metrics(PROMETHEUS);
    let config = service(&url) + &service(&good).replace("checkout", "other");
    let bench = Bench::new();
    let scrape = |count: u32, sum: &str| {
        // Bounds so far apart that what lies between them is infinite.
        *text.lock().unwrap() = format!(
            "http_requests_total{{handler=\"/\",n=\"1\"}} {sum}\nhttp_requests_total{{handler=\"/\",n=\"2\"}} {sum}\n\
             http_request_duration_seconds_bucket{{le=\"-1.7e308\"}} 0\n\
             http_request_duration_seconds_bucket{{le=\"1.7e308\"}} {count}\n\
             http_request_duration_seconds_bucket{{le=\"+Inf\"}} {count}\nprocess_start_time_seconds NaN\n"
        );
        *other.lock().unwrap() = exposition(count, 0, count, "");
        bench.results(&config)
    };
    scrape(10, "1");
    let second = scrape(20, "5");
    let service = second.service("checkout");
    assert_eq!((service["requests"].as_f64(), service["p50"].as_f64()), (Some(8.0), None), "{service}");
    let third = scrape(30, "1.7e308");
    assert_eq!((third.exit, third.service("checkout")["level"].as_str()), (3, Some("unknown")));
    // Whatever one service says, what another says is stored.
    let state = State::open(&bench.path("state")).unwrap();
    let now = chrono::Utc::now();
    let since = now - chrono::TimeDelta::hours(1);
    let points = fact::samples(&state, "service", "other", "requests", since, now).unwrap();
    assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [10.0, 10.0]);
}

#[test]
fn a_scrape_that_fails_is_unknown() {
    let config = service(&format!("http://127.0.0.1:{}/", support::free_port())) + "timeout = \"200ms\"\n";
    let results = Bench::new().results(&config);
    assert_eq!(results.exit, 3);
    let summary = results.service("checkout")["summary"].as_str().unwrap().to_owned();
    assert!(summary.contains("expected a connection, got connection refused"), "{summary}");
}

/// The results for one text after the other, with the configuration of each.
fn scraped(headers: &'static str, steps: &[(&str, &str)]) -> Vec<Results> {
    let (url, text) = metrics(headers);
    let bench = Bench::new();
    let each = |&(content, more): &(&str, &str)| {
        content.clone_into(&mut text.lock().unwrap());
        bench.results(&format!("[[service]]\nname = \"shop\"\nmetrics = \"{url}\"\n{more}"))
    };
    steps.iter().map(each).collect()
}

#[test]
fn errors_that_cannot_be_seen_are_told_and_not_stored_as_none() {
    let requests = "requests = \"req\"\n";
    let results = scraped(PROMETHEUS, &[("req 1\n", requests), ("req 5\n", requests)]);
    let service = results[1].service("shop");
    assert_eq!((service["requests"].as_f64(), service["errors"].as_f64()), (Some(4.0), None), "{service}");
    let summary = service["summary"].as_str().unwrap();
    assert!(summary.contains("errors are not known: no request has a label `code`"), "{summary}");
    let wrong = "requests = \"req\"\nerrors = \"err\"\n";
    let results = scraped(PROMETHEUS, &[("req 1\n", wrong), ("req 5\n", wrong)]);
    for results in results {
        let summary = results.service("shop")["summary"].as_str().unwrap().to_owned();
        assert!(summary.contains("errors are not known: no series fits `errors`, err"), "{summary}");
    }
}

#[test]
fn another_selector_begins_anew() {
    let text = "few_total{code=\"200\"} 10\nmany_total{code=\"200\"} 1000010\n";
    let [few, many] = ["requests = \"few_total\"\n", "requests = \"many_total\"\n"];
    let results = scraped(PROMETHEUS, &[(text, few), (text, many), (text, many)]);
    let second = results[1].service("shop");
    assert!(second["requests"].is_null(), "{second}");
    assert!(second["summary"].as_str().unwrap().contains("counting begins anew"), "{second}");
    assert_eq!(results[2].service("shop")["requests"].as_f64(), Some(0.0));
}

#[test]
fn after_hours_without_a_scrape_counting_begins_anew() {
    let (url, text) = metrics(PROMETHEUS);
    let (bench, config) = (Bench::new(), service(&url));
    let scrape = |good| {
        *text.lock().unwrap() = exposition(good, 0, 5, "");
        bench.results(&config).service("checkout").clone()
    };
    scrape(10);
    assert_eq!(scrape(20)["requests"].as_f64(), Some(10.0));
    let state = State::open(&bench.path("state")).unwrap();
    let put_back = |hours: i64, period: i64| {
        let kept = state.cursor("service-checkout").unwrap().unwrap();
        let mut kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        kept["at"] = serde_json::json!(chrono::Utc::now() - chrono::TimeDelta::hours(hours));
        kept["period"] = serde_json::json!(period);
        state.set_cursor("service-checkout", &kept.to_string()).unwrap();
    };
    put_back(5, 60);
    let service = scrape(1020);
    assert!(service["requests"].is_null(), "{service}");
    assert!(service["summary"].as_str().unwrap().contains("counting begins anew"), "{service}");
    // Scrapes that are hours apart are counted as long as they stay so.
    put_back(5, 2 * 3600);
    assert_eq!(scrape(1030)["requests"].as_f64(), Some(10.0));
}

#[test]
fn a_series_that_is_absent_for_one_scrape_does_not_count_whole() {
    let [one, two] = ["req{code=\"200\"} 10\n", "req{code=\"200\"} 10\nreq{code=\"500\"} 1000\n"];
    let requests = "requests = \"req\"\n";
    let results = scraped(PROMETHEUS, &[(two, requests), (one, requests), (two, requests)]);
    let last = results[2].service("shop");
    assert_eq!((last["requests"].as_f64(), last["errors"].as_f64()), (Some(0.0), Some(0.0)), "{last}");
}
