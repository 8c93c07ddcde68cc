//! What one scrape says: counters and buckets by series, kept for the next scrape to count from.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use super::selector::Selector;
use super::text::{Sample, TextError, parse};

/// More series than this are refused: a service has thousands, not hundreds of thousands.
pub(super) const SERIES: usize = 20_000;

/// Upper bounds of buckets as written, with the number of observations up to each.
pub(super) type Buckets = BTreeMap<String, f64>;

/// What is read of a service.
pub(crate) struct Wanted {
    /// The counter of requests; without it, the count of `latency`.
    pub requests: Option<Selector>,
    /// The counter of errors; without it, those of the requests whose status begins with 5.
    pub errors: Option<Selector>,
    /// The histogram or summary.
    pub latency: Selector,
}

impl Wanted {
    /// The selectors as one text: where it differs, counts cannot be compared.
    pub(super) fn text(&self) -> String {
        let text = |selector: &Option<Selector>| selector.as_ref().map(|selector| selector.text().to_owned());
        format!("{:?}", (text(&self.requests), text(&self.errors), self.latency.text()))
    }
}

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// When the process started, in seconds since 1970.
    pub started: Option<f64>,
    /// Requests by series.
    pub requests: BTreeMap<String, f64>,
    /// Failed requests by series.
    pub errors: BTreeMap<String, f64>,
    /// Whether an error would be seen, so that none means that none happened.
    #[serde(skip)]
    pub sees_errors: bool,
    /// Buckets of the latency by series.
    pub buckets: BTreeMap<String, Buckets>,
    /// Quantiles that the service computed itself, by quantile and series; they are no counters.
    #[serde(skip)]
    pub quantiles: BTreeMap<String, Vec<f64>>,
}

/// A scrape that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("more than {SERIES} series: select fewer by `requests`, `errors` and `latency`")]
    TooMany,
}

impl Reading {
    /// Takes what is wanted out of an exposition.
    pub(super) fn of(text: &str, open_metrics: bool, wanted: &Wanted) -> Result<Self, ReadingError> {
        let mut reading = Self::default();
        let mut series = 0;
        parse(text, open_metrics, |sample| {
            if series <= SERIES {
                series += usize::from(reading.take(&sample, wanted));
            }
        })?;
        if series > SERIES { Err(ReadingError::TooMany) } else { Ok(reading) }
    }

    /// Takes over the series that the scrape before had and this one lacks: one that comes back must not count whole.
    pub(super) fn remember(&mut self, before: Self) {
        // A process that started anew has none of them.
        if restarted(before.started, self.started) {
            return;
        }
        let buckets: usize = self.buckets.values().map(Buckets::len).sum();
        let mut room = SERIES.saturating_sub(self.requests.len() + self.errors.len() + buckets);
        add(&mut self.requests, before.requests, |_| 1, &mut room);
        add(&mut self.errors, before.errors, |_| 1, &mut room);
        add(&mut self.buckets, before.buckets, Buckets::len, &mut room);
    }

    /// Whether anything was wanted of the sample.
    fn take(&mut self, sample: &Sample<'_>, wanted: &Wanted) -> bool {
        if sample.name == "process_start_time_seconds" {
            self.started = Some(sample.value);
            return false;
        }
        let is_count = sample.value.is_finite() && sample.value >= 0.0;
        let requests = match &wanted.requests {
            Some(selector) => selector.fits(sample, ""),
            None => wanted.latency.fits(sample, "_count"),
        };
        let errors = match &wanted.errors {
            Some(selector) => selector.fits(sample, ""),
            None => requests && has_failed(sample),
        };
        self.sees_errors |= match &wanted.errors {
            Some(selector) => errors || selector.could_fit(sample),
            None => requests && STATUS.iter().any(|label| !sample.label(label).is_empty()),
        };
        if requests && is_count {
            self.requests.insert(key(sample, sample.name), sample.value);
        }
        if errors && is_count {
            self.errors.insert(key(sample, sample.name), sample.value);
        }
        self.take_latency(sample, &wanted.latency, is_count) || requests || errors
    }

    fn take_latency(&mut self, sample: &Sample<'_>, latency: &Selector, is_count: bool) -> bool {
        if latency.fits(sample, "_bucket") && is_count {
            let bound = sample.label("le").to_owned();
            self.buckets.entry(key(sample, &latency.name)).or_default().insert(bound, sample.value);
            return true;
        }
        // A histogram may leave its last bucket out: its count is the same.
        if latency.fits(sample, "_count") && is_count {
            let buckets = self.buckets.entry(key(sample, &latency.name)).or_default();
            buckets.entry("+Inf".into()).or_insert(sample.value);
            return true;
        }
        let quantile = sample.label("quantile");
        let is_quantile = !quantile.is_empty() && latency.fits(sample, "") && sample.value.is_finite();
        if is_quantile {
            self.quantiles.entry(quantile.to_owned()).or_default().push(sample.value);
        }
        is_quantile
    }
}

/// Whether a process started between two scrapes; one that does not say when it did counts as the same.
pub(super) fn restarted(before: Option<f64>, now: Option<f64>) -> bool {
    matches!((before, now), (Some(a), Some(b)) if (b - a).abs() > 1.0)
}

/// Adds what is absent, as long as there is room for its size.
fn add<T>(
    to: &mut BTreeMap<String, T>,
    from: BTreeMap<String, T>,
    size: impl Fn(&T) -> usize,
    room: &mut usize,
) {
    for (key, value) in from {
        let Some(left) = room.checked_sub(size(&value)) else { return };
        if let Entry::Vacant(vacant) = to.entry(key) {
            vacant.insert(value);
            *room = left;
        }
    }
}

/// Labels that tell how a request ended.
const STATUS: [&str; 3] = ["code", "status", "status_code"];

/// Without a selector of its own an error is what HTTP calls a server's error.
fn has_failed(sample: &Sample<'_>) -> bool {
    STATUS.iter().any(|label| sample.label(label).starts_with('5'))
}

/// The metric, and the labels of a series in a fixed order, bounds and quantiles apart. Values are quoted, so that no two label sets
/// give the same.
fn key(sample: &Sample<'_>, metric: &str) -> String {
    let mut labels: Vec<_> =
        sample.labels.iter().filter(|(name, _)| *name != "le" && *name != "quantile").collect();
    labels.sort();
    let labels: String = labels.iter().map(|(name, value)| format!("{name}={value:?},")).collect();
    format!("{metric}{{{labels}}}")
}
