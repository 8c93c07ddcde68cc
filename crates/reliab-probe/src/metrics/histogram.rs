//! Quantiles of a histogram, as Prometheus estimates them.

/// Observations up to each bound, in the order of bounds; the last bound is infinite.
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// A histogram of bounds and counts; counts that fall are raised to the one before, as rounding and buckets read
    /// at different moments make them.
    pub(super) fn new(mut buckets: Vec<(f64, f64)>) -> Self {
        buckets.retain(|(bound, count)| !bound.is_nan() && count.is_finite());
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut most = 0.0;
        for (_, count) in &mut buckets {
            most = f64::max(most, *count);
            *count = most;
        }
        Self(buckets)
    }

    /// How many observations there are.
    pub(super) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |&(_, count)| count)
    }

    /// The value under which a share of the observations lies, linear within a bucket; in the last one, its lower
    /// bound. See `histogram_quantile` of Prometheus.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.count();
        let (last, _) = *self.0.last()?;
        if total <= 0.0 || self.0.len() < 2 || last.is_finite() {
            return None;
        }
        let rank = share * total;
        let index = self.0.iter().position(|&(_, count)| count >= rank)?;
        let (upper, count) = self.0[index];
        let below = index.checked_sub(1).map(|before| self.0[before]);
        if upper.is_infinite() {
            return below.map(|(bound, _)| bound);
        }
        let (lower, before) = match below {
            Some(below) => below,
            None if upper <= 0.0 => return Some(upper),
            None => (0.0, 0.0),
        };
        let within = count - before;
        Some(if within > 0.0 { lower + (upper - lower) * (rank - before) / within } else { upper })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn close(a: Option<f64>, b: f64) {
        assert!((a.unwrap() - b).abs() < 1e-9, "{a:?} is not {b}");
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let histogram = Histogram::new(vec![(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (INF, 100.0)]);
        close(histogram.quantile(0.5), 0.1);
        close(histogram.quantile(0.25), 0.05);
        close(histogram.quantile(0.7), 0.3);
        close(histogram.quantile(0.95), 0.75);
    }

    #[test]
    fn beyond_the_last_finite_bound_that_bound_is_told() {
        let histogram = Histogram::new(vec![(0.1, 1.0), (INF, 100.0)]);
        close(histogram.quantile(0.99), 0.1);
    }

    #[test]
    fn what_says_nothing_gives_nothing() {
        assert_eq!(Histogram::new(vec![]).quantile(0.5), None);
        assert_eq!(Histogram::new(vec![(INF, 10.0)]).quantile(0.5), None);
        assert_eq!(Histogram::new(vec![(0.1, 0.0), (INF, 0.0)]).quantile(0.5), None);
        assert_eq!(Histogram::new(vec![(0.1, 3.0), (0.5, 4.0)]).quantile(0.5), None);
    }

    #[test]
    fn counts_that_fall_do_no_harm() {
        let histogram = Histogram::new(vec![(0.1, 50.0), (0.5, 49.0), (f64::NAN, 1.0), (INF, 100.0)]);
        close(histogram.quantile(0.5), 0.1);
        close(histogram.quantile(0.99), 0.5);
    }
}
