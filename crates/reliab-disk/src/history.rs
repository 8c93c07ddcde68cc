//! How the used part of a file system developed, as the state tells it.

use chrono::{DateTime, TimeDelta, Utc};
use reliab_common::fact::{self, Point, RAW_DAYS};
use reliab_common::state::{State, StateError};

use crate::forecast::HISTORY_DAYS;
use crate::report::SOURCE;
use crate::space::Space;

/// Types whose room is their own: it grows when somebody extends them, and not because others gave room back.
const EXTENDED: &[&str] = &["ext2", "ext3", "ext4", "jfs", "f2fs", "xfs"];
/// More by this part from one point to the next is an extension; less is the room that their own tables take.
const EXTENSION: f64 = 1.01;

/// The used part of a mount of this type, hours first, then what is kept in full, then its room now.
pub(crate) fn used(
    state: &State,
    name: &str,
    kind: &str,
    space: &Space,
    now: DateTime<Utc>,
) -> Result<Vec<Point>, StateError> {
    let Some(part) = space.used_part() else { return Ok(Vec::new()) };
    let mut used = figure(state, name, "used", now)?;
    used.push(Point { at: now, value: part });
    if !EXTENDED.contains(&kind) {
        return Ok(used);
    }
    let mut free = figure(state, name, "free", now)?;
    #[expect(clippy::cast_precision_loss, reason = "a part needs no more than 52 bits")]
    free.push(Point { at: now, value: space.free as f64 });
    Ok(without_extensions(used, &free))
}

fn figure(state: &State, name: &str, figure: &str, now: DateTime<Utc>) -> Result<Vec<Point>, StateError> {
    let from = now - TimeDelta::days(HISTORY_DAYS);
    // An hour is summed up only once all of it is old enough.
    let raw = now - TimeDelta::days(RAW_DAYS + 1);
    let mut points = fact::hourly(state, SOURCE, name, figure, from, now)?;
    points.extend(fact::samples(state, SOURCE, name, figure, raw.min(from), now)?);
    points.sort_by_key(|point| point.at);
    Ok(points)
}

/// The used parts as if the file system had always been as large as it is now: an extension is no fall of the use, and the
/// growth before it tells of the growth to come.
fn without_extensions(mut used: Vec<Point>, free: &[Point]) -> Vec<Point> {
    let usable = usable(&used, free);
    let mut scale = 1.0;
    let mut later: Option<f64> = None;
    for (point, usable) in used.iter_mut().zip(usable).rev() {
        if let Some((usable, later)) = usable.zip(later).filter(|(usable, later)| *later > usable * EXTENSION)
        {
            scale *= usable / later;
        }
        later = usable.or(later);
        point.value *= scale;
    }
    used
}

/// What users could have at each point: so much is free, and that is so large a part of it. Where nothing is free it is as
/// before.
fn usable(used: &[Point], free: &[Point]) -> Vec<Option<f64>> {
    let mut free = free.iter().peekable();
    let mut last = None;
    let mut of = |point: &Point| {
        while free.next_if(|free| free.at < point.at).is_some() {}
        let left = free.peek().filter(|free| free.at == point.at && free.value > 0.0 && point.value < 1.0);
        last = left.map(|left| left.value / (1.0 - point.value)).or(last);
        last
    };
    used.iter().map(&mut of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::forecast;

    const GIB: f64 = 1_073_741_824.0;

    fn at(hour: i32) -> DateTime<Utc> {
        "2026-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hour.into())
    }

    /// A disk that grows by a GiB a day from 60 on, and is extended from 100 to 200 GiB after so many days.
    fn extended(days: i32, extended_on: i32) -> (Vec<Point>, Vec<Point>) {
        let point = |hour: i32| {
            let used = 60.0 + f64::from(hour) / 24.0;
            let usable = if hour < extended_on * 24 { 100.0 } else { 200.0 };
            let free = Point { at: at(hour), value: (usable - used).max(0.0) * GIB };
            (Point { at: at(hour), value: f64::min(used / usable, 1.0) }, free)
        };
        (0..days * 24).map(point).unzip()
    }

    #[test]
    fn growth_is_seen_through_an_extension() {
        let (used, free) = extended(30, 20);
        let now = used[used.len() - 1].at;
        assert_eq!(forecast(&used, now), None);
        let found = forecast(&without_extensions(used, &free), now).expect("a forecast");
        // 110 GiB are left, a GiB a day.
        assert!((found.expected / 86_400.0 - 110.0).abs() < 5.0, "{found:?}");
    }

    #[test]
    fn a_disk_that_was_full_when_it_was_extended_keeps_its_history() {
        let (used, free) = extended(50, 45);
        let points = without_extensions(used, &free);
        assert!((points[0].value - 0.3).abs() < 1e-9, "{:?}", points[0]);
        // Full, and nothing free by which its room could be told.
        assert!((points[42 * 24].value - 0.5).abs() < 1e-9, "{:?}", points[42 * 24]);
    }

    #[test]
    fn what_was_not_extended_stays_as_it_is() {
        let (used, free) = extended(30, 40);
        assert_eq!(without_extensions(used.clone(), &free), used);
        assert_eq!(without_extensions(used.clone(), &[]), used);
    }
}
