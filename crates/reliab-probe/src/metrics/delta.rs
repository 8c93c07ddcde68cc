//! From two scrapes to what happened between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::histogram::Histogram;
use super::reading::{Buckets, Reading, restarted};

/// What happened between two scrapes.
pub(super) struct Delta {
    /// Requests.
    pub requests: f64,
    /// Failed ones, where they can be seen.
    pub errors: Option<f64>,
    /// Seconds that requests took: p50, p95, p99, where known.
    pub quantiles: [Option<f64>; 3],
}

/// The quantiles that are stored, with the names of their figures.
pub(super) const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

impl Delta {
    /// Whether the counts are numbers: sums may be beyond the largest.
    pub(super) fn is_counted(&self) -> bool {
        self.requests.is_finite() && self.errors.is_none_or(f64::is_finite)
    }

    /// What happened between `before` and `now`.
    pub(super) fn between(before: &Reading, now: &Reading) -> Self {
        // A process that started anew counts from zero, even if it has come further than before.
        let restarted = restarted(before.started, now.started);
        let counted = |before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>| {
            let since = |(key, &value): (&String, &f64)| grown(before.get(key).filter(|_| !restarted), value);
            // The sum of no numbers would be -0.
            now.iter().map(since).fold(0.0, |sum, count| sum + count)
        };
        let histogram = buckets(before, now, restarted);
        let quantile = |(_, share): (&str, f64)| {
            histogram.quantile(share).or_else(|| told(now, share)).filter(|value| value.is_finite())
        };
        Self {
            requests: counted(&before.requests, &now.requests),
            errors: now.sees_errors.then(|| counted(&before.errors, &now.errors)),
            quantiles: QUANTILES.map(quantile),
        }
    }
}

/// How much a counter grew; one that fell was reset and counts from zero.
fn grown(before: Option<&f64>, now: f64) -> f64 {
    match before {
        Some(&before) if before <= now => now - before,
        _ => now,
    }
}

/// A quantile that the service computed. Those of several series cannot be put together.
fn told(now: &Reading, share: f64) -> Option<f64> {
    let of_share = |(text, _): &(&String, &Vec<f64>)| text.parse() == Ok(share);
    let (_, values) = now.quantiles.iter().find(of_share)?;
    if let [value] = values[..] { Some(value) } else { None }
}

/// The observations of all series between the scrapes, by bound.
fn buckets(before: &Reading, now: &Reading, restarted: bool) -> Histogram {
    let bounds: BTreeSet<&String> = now.buckets.values().flat_map(Buckets::keys).collect();
    let mut bounds: Vec<(f64, &String)> =
        bounds.into_iter().filter_map(|text| Some((bound(text)?, text))).collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let places: HashMap<&String, usize> =
        bounds.iter().enumerate().map(|(place, (_, text))| (*text, place)).collect();
    // By how much the sum is higher from a bound on: a series without a bucket that others have has as many observations
    // up to there as in its bucket before. Series have bounds of their own at worst, so each is gone through alone.
    let mut steps = vec![0.0; bounds.len()];
    for (key, buckets) in &now.buckets {
        let before = before.buckets.get(key).filter(|before| !restarted && !was_reset(before, buckets));
        let mut own: Vec<(usize, &String, f64)> =
            buckets.iter().filter_map(|(text, &count)| Some((*places.get(text)?, text, count))).collect();
        own.sort_by_key(|(place, ..)| *place);
        let mut reached = 0.0;
        for (place, text, count) in own {
            let now = grown(before.and_then(|before| before.get(text)), count);
            steps[place] += now - reached;
            reached = now;
        }
    }
    let sums = steps.iter().scan(0.0, |sum, step| {
        *sum += step;
        Some(*sum)
    });
    Histogram::new(bounds.iter().map(|(bound, _)| *bound).zip(sums).collect())
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// A histogram was reset as a whole, also where some of its buckets have come further than before.
fn was_reset(before: &Buckets, now: &Buckets) -> bool {
    now.iter().any(|(bound, count)| before.get(bound).is_some_and(|before| before > count))
}

#[cfg(test)]
mod tests {
    use super::super::reading::Wanted;
    use super::super::selector::Selector;
    use super::*;

    fn reading(text: &str) -> Reading {
        let latency = Selector::parse("lat").unwrap();
        let wanted = Wanted { requests: Some(Selector::parse("req").unwrap()), errors: None, latency };
        Reading::of(text, false, &wanted).unwrap()
    }

    fn between(before: &str, now: &str) -> Delta {
        Delta::between(&reading(before), &reading(now))
    }

    #[test]
    fn counters_are_counted_by_series() {
        let before = "req{code=\"200\"} 100\nreq{code=\"500\"} 5\n";
        let now = "req{code=\"200\"} 150\nreq{code=\"500\"} 7\nreq{code=\"503\"} 2\n";
        let delta = between(before, now);
        assert_eq!((delta.requests, delta.errors), (54.0, Some(4.0)));
        assert_eq!(delta.quantiles, [None; 3]);
    }

    #[test]
    fn sums_beyond_the_largest_number_are_no_counts() {
        let most = "req{a=\"1\"} 1.7e308\nreq{a=\"2\"} 1.7e308\n";
        assert!(!between("req 0\n", most).is_counted());
        // Bounds so far apart that their difference is infinite.
        let lat = |count: u32| {
            format!(
                "req {count}\nlat_bucket{{le=\"-1.7e308\"}} 0\nlat_bucket{{le=\"1.7e308\"}} {count}\nlat_bucket{{le=\"+Inf\"}} {count}\n"
            )
        };
        let delta = between(&lat(0), &lat(10));
        assert!(delta.is_counted() && delta.quantiles == [None; 3], "{:?}", delta.quantiles);
    }

    #[test]
    fn series_with_bounds_of_their_own_take_no_longer_than_others() {
        use std::fmt::Write as _;
        let mut text = String::from("req 1\n");
        for number in 0..9_000 {
            writeln!(text, "lat_bucket{{s=\"{number}\",le=\"{number}.5\"}} 1").unwrap();
            writeln!(text, "lat_bucket{{s=\"{number}\",le=\"+Inf\"}} 1").unwrap();
        }
        let now = reading(&text);
        let started = std::time::Instant::now();
        let delta = Delta::between(&reading("req 0\n"), &now);
        // Each series beside each bound would take a minute.
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(delta.quantiles[0].is_some_and(|p50| (p50 - 4499.5).abs() < 2.0), "{:?}", delta.quantiles);
    }

    #[test]
    fn errors_that_cannot_be_seen_are_not_none() {
        assert_eq!(between("req 1\n", "req 5\n").errors, None);
        let none = between("req{code=\"200\"} 1\n", "req{code=\"200\"} 5\n").errors.unwrap();
        assert_eq!(none.to_bits(), 0.0_f64.to_bits(), "{none}");
    }

    #[test]
    fn a_selector_of_errors_must_have_something_to_look_at() {
        let seen = |errors: &str, text: &str| {
            let latency = Selector::parse("lat").unwrap();
            let selector = |text| Some(Selector::parse(text).unwrap());
            let wanted = Wanted { requests: selector("req"), errors: selector(errors), latency };
            Reading::of(text, false, &wanted).unwrap().sees_errors
        };
        // None has failed yet.
        assert!(seen("req{code=~\"5..\"}", "req{code=\"200\"} 5\n"));
        assert!(seen("err", "req 5\nerr 0\n"));
        assert!(!seen("err", "req 5\n"));
        assert!(!seen("req{coed=~\"5..\"}", "req{code=\"500\"} 5\n"));
    }

    #[test]
    fn a_series_that_was_absent_does_not_count_whole_when_it_comes_back() {
        let first = reading("req{code=\"200\"} 100\nreq{code=\"500\"} 1000\n");
        let mut second = reading("req{code=\"200\"} 110\n");
        second.remember(first);
        let delta = Delta::between(&second, &reading("req{code=\"200\"} 120\nreq{code=\"500\"} 1003\n"));
        assert_eq!((delta.requests, delta.errors), (13.0, Some(3.0)));
    }

    #[test]
    fn what_is_remembered_of_series_that_come_and_go_is_bounded() {
        use std::fmt::Write as _;
        let scrape = |pod: u32| {
            let mut text = format!("req 1\nlat_count{{pod=\"{pod}\"}} 1\n");
            for bound in 0..6_000 {
                writeln!(text, "lat_bucket{{pod=\"{pod}\",le=\"{bound}\"}} 1").unwrap();
            }
            reading(&text)
        };
        let mut kept = scrape(0);
        for pod in 1..8 {
            let mut next = scrape(pod);
            next.remember(kept);
            kept = next;
        }
        let buckets: usize = kept.buckets.values().map(Buckets::len).sum();
        assert!((12_000..=20_000).contains(&buckets), "{buckets}");
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let delta = between(
            "req{code=\"200\"} 100\nreq{code=\"500\"} 5\n",
            "req{code=\"200\"} 30\nreq{code=\"500\"} 6\n",
        );
        assert_eq!((delta.requests, delta.errors), (31.0, Some(1.0)));
        let start = |at: u32, value: u32| {
            format!("process_start_time_seconds {at}\nreq 1\nreq{{code=\"500\"}} {value}\n")
        };
        let errors = |before, now| between(&start(before, 10), &start(now, 12)).errors;
        assert_eq!((errors(1000, 2000), errors(1000, 1000)), (Some(12.0), Some(2.0)));
    }

    #[test]
    fn quantiles_are_of_what_happened_in_between() {
        let text = |counts: [u32; 3]| {
            let [a, b, c] = counts;
            format!(
                "lat_bucket{{le=\"0.1\"}} {a}\nlat_bucket{{le=\"1\"}} {b}\nlat_bucket{{le=\"+Inf\"}} {c}\n"
            )
        };
        let delta = between(&text([1000, 1000, 1000]), &text([1000, 1100, 1100]));
        assert!((delta.quantiles[0].unwrap() - 0.55).abs() < 1e-9);
        // After a reset in which the last bucket has already come further than before.
        let delta = between(&text([10, 10, 10]), &text([0, 100, 100]));
        assert!((delta.quantiles[0].unwrap() - 0.55).abs() < 1e-9);
        assert_eq!(between(&text([5, 6, 7]), &text([5, 6, 7])).quantiles, [None; 3]);
    }

    #[test]
    fn buckets_that_some_series_lack_are_filled_in() {
        let now = "lat_bucket{p=\"a\",le=\"0.1\"} 50\nlat_bucket{p=\"a\",le=\"+Inf\"} 100\n\
                   lat_bucket{p=\"b\",le=\"1\"} 100\nlat_count{p=\"b\"} 100\n";
        let delta = between("", now);
        // Up to 0.1: 50 of a, none of b. Up to 1: 50 and 100. All: 200.
        assert!((delta.quantiles[0].unwrap() - 0.55).abs() < 1e-9, "{:?}", delta.quantiles);
        assert!((delta.quantiles[1].unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_summary_of_one_series_tells_its_quantiles() {
        let one = "lat{quantile=\"0.5\"} 0.2\nlat{quantile=\"0.95\"} 0.7\nlat{quantile=\"0.99\"} NaN\nlat_count 5\n";
        assert_eq!(between("", one).quantiles, [Some(0.2), Some(0.7), None]);
        let two = "lat{p=\"a\",quantile=\"0.5\"} 0.2\nlat{p=\"b\",quantile=\"0.5\"} 0.3\n";
        assert_eq!(between("", two).quantiles, [None; 3]);
    }
}
