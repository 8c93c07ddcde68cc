//! How fast the budget of errors burns.
//!
//! The method is that of Google's "Site Reliability Workbook", chapter 5, alert 6: a rate counts when it is exceeded
//! over a long and a short window, so that it is both significant and still going on. Two known failures of the plain
//! recipe are met: with few events a single error is a huge rate, so windows need a least number of events; and a
//! service with too few events for any window would never alert, so its errors are also counted.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::exit::Level;
use reliab_common::state::{State, StateError};

use super::Finding;
use super::measure::{LATELY, percent, requests, span};
use crate::history;
use crate::pattern::Pattern;
use crate::rule::Slo;

/// A pair of windows and the part of the whole budget that may burn in the long one.
struct Pair {
    long: TimeDelta,
    short: TimeDelta,
    /// The burn rate that does so when the objective's window is 30 days.
    rate: f64,
    level: Level,
}

const PAIRS: [Pair; 4] = [
    Pair { long: TimeDelta::hours(1), short: TimeDelta::minutes(5), rate: 14.4, level: Level::Critical },
    Pair { long: TimeDelta::hours(6), short: TimeDelta::minutes(30), rate: 6.0, level: Level::Critical },
    Pair { long: TimeDelta::days(1), short: TimeDelta::hours(2), rate: 3.0, level: Level::Warning },
    Pair { long: TimeDelta::days(3), short: TimeDelta::hours(6), rate: 1.0, level: Level::Warning },
];
/// With fewer requests in the long window a rate says nothing.
const MIN_EVENTS: f64 = 100.0;
/// With fewer errors in the long window neither: one error in a hundred requests is no trend.
const MIN_ERRORS: f64 = 3.0;
/// So many errors of a service with little traffic are told, over the slow windows.
const SLOW_ERRORS: f64 = 5.0;
const SLOW: (TimeDelta, TimeDelta) = (TimeDelta::days(3), TimeDelta::days(1));

/// How fast the objective's budget burns at `now`.
pub(super) fn look(state: &State, slo: &Slo, now: DateTime<Utc>) -> Result<Finding, StateError> {
    let name = Pattern::new(&slo.service);
    let service = history::measured(state, "service", "requests", &name, LATELY, now)?;
    let source = if service.is_empty() { "probe" } else { "service" };
    let over = |window| requests(state, (source, &slo.service), window, now);
    for pair in &PAIRS {
        let rate = pair.rate_for(slo);
        let burns = |(requests, errors): (f64, f64)| errors > requests * slo.budget * rate;
        // The short window first: it is cheap, and rules most pairs out.
        if !burns(over(pair.short)?) {
            continue;
        }
        let long @ (requests, errors) = over(pair.long)?;
        if burns(long) && requests >= MIN_EVENTS && errors >= MIN_ERRORS {
            return Ok(Finding::Bad(pair.level, summary(slo, pair, long)));
        }
    }
    let found = slow(slo, over)?;
    // Where values stay away that used to come nobody knows that it got well.
    let figure = if source == "service" { "requests" } else { "up" };
    let values = |window| Ok(history::sum(state, (source, &slo.service, figure), window, now)?.count);
    if found == Finding::Good && is_cut_off(values)? { Ok(Finding::Nothing) } else { Ok(found) }
}

/// Whether a short window has no values though at the rhythm of its long one it should have some.
fn is_cut_off(values: impl Fn(TimeDelta) -> Result<u32, StateError>) -> Result<bool, StateError> {
    for pair in &PAIRS {
        if values(pair.short)? > 0 {
            return Ok(false);
        }
        let expected =
            f64::from(values(pair.long)?) * pair.short.as_seconds_f64() / pair.long.as_seconds_f64();
        if expected >= 1.0 {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Pair {
    /// The burn rate that takes the same part of the budget of this objective's window; below 1 the budget lasts.
    fn rate_for(&self, slo: &Slo) -> f64 {
        (self.rate * slo.window.as_seconds_f64() / TimeDelta::days(30).as_seconds_f64()).max(1.0)
    }
}

fn summary(slo: &Slo, pair: &Pair, (requests, errors): (f64, f64)) -> String {
    let rate = errors / requests / slo.budget;
    let lasts = TimeDelta::try_seconds(clamped(slo.window.as_seconds_f64() / rate)).unwrap_or(TimeDelta::MAX);
    format!(
        "{} errors over {}, {rate:.1} times what the objective allows: the budget of {} lasts {}",
        percent(errors / requests),
        span(pair.long),
        span(slo.window),
        span(lasts)
    )
}

/// Seconds as a whole number; a century is for ever.
#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn clamped(seconds: f64) -> i64 {
    seconds.clamp(0.0, 3.2e9) as i64
}

/// Errors counted one by one, where there are too few requests for rates.
fn slow(
    slo: &Slo,
    over: impl Fn(TimeDelta) -> Result<(f64, f64), StateError>,
) -> Result<Finding, StateError> {
    let (_, recent) = over(SLOW.1)?;
    let (requests, errors) = if recent > 0.0 { over(SLOW.0)? } else { over(PAIRS[0].short)? };
    let few = requests < MIN_EVENTS;
    if recent > 0.0 && few && errors >= SLOW_ERRORS && errors > requests * slo.budget {
        let summary = format!("{errors:.0} of {requests:.0} requests failed over {}", span(SLOW.0));
        return Ok(Finding::Bad(Level::Warning, summary));
    }
    // Nothing measured is no good news: an open incident waits.
    if recent == 0.0 && requests == 0.0 && over(SLOW.1)?.0 == 0.0 {
        return Ok(Finding::Nothing);
    }
    Ok(Finding::Good)
}
