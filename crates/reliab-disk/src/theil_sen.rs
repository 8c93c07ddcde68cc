//! The slope of a line through points that outliers do not pull away.
//!
//! H. Theil (1950), P. K. Sen (1968): the median of the slopes of all pairs. Its confidence range is that of Kendall's
//! test: R. O. Gilbert, Statistical Methods for Environmental Pollution Monitoring (1987), section 16.5.

/// Quantile of the normal distribution for a range that holds the true slope in 95 of 100 cases.
const QUANTILE: f64 = 1.96;

/// A slope with its confidence range, in units of y a unit of x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slope {
    /// The lower end of the range.
    pub low: f64,
    /// The slope.
    pub middle: f64,
    /// The upper end of the range.
    pub high: f64,
}

/// The slope through points `(x, y)`; `None` for fewer than three different x.
///
/// Takes time and memory by the square of the number of points: ranks are selected, not sorted for.
#[expect(clippy::cast_precision_loss, reason = "counts of pairs are far below 2^52")]
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let mut slopes: Vec<f64> = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (at, a) in points.iter().enumerate() {
        slopes.extend(
            points[at + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0)).filter(|slope| slope.is_finite()),
        );
    }
    if slopes.len() < 3 {
        return None;
    }
    let (pairs, n) = (slopes.len() as f64, points.len() as f64);
    let spread = QUANTILE * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    Some(Slope {
        low: near(&mut slopes, (pairs - spread) / 2.0 - 1.0),
        middle: middle(&mut slopes),
        high: near(&mut slopes, f64::midpoint(pairs, spread)),
    })
}

/// The value that a sorted list would have at a rank.
fn at(values: &mut [f64], rank: usize) -> f64 {
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// The value at the rank nearest to this one, or at the nearest end.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rank is clamped")]
fn near(values: &mut [f64], rank: f64) -> f64 {
    at(values, (rank.round().max(0.0) as usize).min(values.len() - 1))
}

/// The median of a list that is not empty.
fn middle(values: &mut [f64]) -> f64 {
    let half = values.len() / 2;
    let upper = at(values, half);
    if values.len() % 2 == 1 { upper } else { f64::midpoint(at(values, half - 1), upper) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_no_doubt() {
        let points: Vec<_> = (0..10).map(|x| (f64::from(x), 3.0 + 0.5 * f64::from(x))).collect();
        let slope = slope(&points).unwrap();
        assert_eq!((slope.low, slope.middle, slope.high), (0.5, 0.5, 0.5));
    }

    #[test]
    fn outliers_do_not_pull() {
        let mut points: Vec<_> = (0..20).map(|x| (f64::from(x), f64::from(x))).collect();
        points[3].1 = 500.0;
        points[11].1 = -500.0;
        assert!((slope(&points).unwrap().middle - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_small_example_by_hand() {
        // Slopes: 3, 1, 2, -1, 1.5, 4; sorted: -1, 1, 1.5, 2, 3, 4.
        let points = [(0.0, 0.0), (1.0, 3.0), (2.0, 2.0), (3.0, 6.0)];
        let slope = slope(&points).unwrap();
        assert!((slope.middle - 1.75).abs() < 1e-9, "{slope:?}");
        assert_eq!((slope.low, slope.high), (-1.0, 4.0));
    }

    #[test]
    fn the_range_holds_the_true_slope_in_most_cases() {
        let mut seed = 1u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(seed >> 33).unwrap()) / f64::from(1u32 << 31) - 0.5
        };
        let held = (0..400).filter(|_| {
            let points: Vec<_> = (0..20).map(|x| (f64::from(x), f64::from(x) * 0.1 + noise())).collect();
            let slope = slope(&points).unwrap();
            slope.low <= 0.1 && 0.1 <= slope.high
        });
        let held = held.count();
        assert!((360..=396).contains(&held), "{held} of 400");
    }

    #[test]
    fn too_few_points_have_no_slope() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]), None);
    }
}
