//! How long to wait before the next attempt.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// No wait is longer: what a server asks for may be a mistake, and one attempt an hour is no burden to it, while an
/// alert that waits for days is none.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// No clock that is right differs more from another.
pub const ASTRAY: TimeDelta = TimeDelta::minutes(5);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The wait after attempt number `attempt` (from 1) of message `id`: doubling from 1 s to 1 h, a quarter more or less
/// so that many machines do not come back at once, and not less than `asked` by the server.
pub fn wait(seed: u64, id: i64, attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = SHORTEST_WAIT * 2u32.saturating_pow(attempt.saturating_sub(1).min(12));
    let spread = doubled.mul_f64(0.75 + 0.5 * fraction(seed, id, attempt));
    spread.max(asked.unwrap_or_default()).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

/// The latest time at which a wait that began by now may end; a later one is that of a clock that was ahead.
pub fn latest_due(now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::from_std(LONGEST_WAIT).unwrap_or(ASTRAY) + ASTRAY
}

/// The longest wait, for what waits until somebody mends a configuration.
pub fn last_wait(seed: u64, id: i64) -> Duration {
    wait(seed, id, u32::MAX, None)
}

/// A number from 0 to 1 that differs for every attempt and is the same for the same seed.
fn fraction(seed: u64, id: i64, attempt: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (seed, id, attempt).hash(&mut hasher);
    f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_from_a_second_to_an_hour() {
        for attempt in 1..=12 {
            let base = f64::from(1u32 << (attempt - 1));
            let wait = wait(7, 1, attempt, None).as_secs_f64();
            assert!(wait >= (base * 0.75).max(1.0) && wait <= base * 1.25, "{attempt}: {wait}");
        }
        for attempt in [13, 40, u32::MAX] {
            let wait = wait(7, 1, attempt, None);
            assert!(wait >= Duration::from_secs(3000) && wait <= LONGEST_WAIT, "{attempt}: {wait:?}");
        }
    }

    #[test]
    fn waits_of_many_messages_are_spread() {
        let mut waits: Vec<_> = (0..100).map(|id| wait(7, id, 6, None)).collect();
        assert_eq!(waits, (0..100).map(|id| wait(7, id, 6, None)).collect::<Vec<_>>());
        waits.sort();
        assert!(waits[90] > waits[10] + Duration::from_secs(8), "{waits:?}");
        waits.dedup();
        assert!(waits.len() > 95);
    }

    proptest! {
        #[test]
        fn what_a_server_asks_for_is_kept_within_the_bounds(
            seed: u64, id: i64, attempt: u32, asked in proptest::option::of(0u64..200_000)
        ) {
            let asked = asked.map(Duration::from_secs);
            let wait = wait(seed, id, attempt, asked);
            prop_assert!(wait >= SHORTEST_WAIT && wait <= LONGEST_WAIT);
            prop_assert!(wait >= asked.unwrap_or_default().min(LONGEST_WAIT));
        }
    }
}
