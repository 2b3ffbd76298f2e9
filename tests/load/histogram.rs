//! Latencies in buckets of at most 1.6 % width: constant memory however long the run.

use std::time::Duration;

/// Buckets per power of two.
const PER_OCTAVE: u64 = 64;
/// 2^40 µs is 12 days.
const OCTAVES: u64 = 40;

/// Counts of microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        let buckets = usize::try_from(PER_OCTAVE * OCTAVES).unwrap_or(0);
        Self { counts: vec![0; buckets], total: 0, sum_us: 0, max_us: 0 }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
        }
        self.total += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum_us as f64 / self.total as f64 / 1_000.0 }
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1_000.0
    }

    /// The latency that the share `quantile` (0 to 1) of requests did not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let rank = (self.total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (upper(index).min(self.max_us)) as f64 / 1_000.0;
            }
        }
        self.max_ms()
    }
}

fn bucket(us: u64) -> usize {
    let octave = u64::from(us.ilog2());
    let shift = octave.saturating_sub(6);
    // Below 2^6 µs each microsecond has its own bucket.
    let index =
        if octave < 6 { us } else { (octave - 5) * PER_OCTAVE + (us >> shift) - PER_OCTAVE };
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    let (octave, within) = (index / PER_OCTAVE, index % PER_OCTAVE);
    if octave == 0 {
        return within;
    }
    ((within + PER_OCTAVE + 1) << (octave - 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket() {
        for us in (1..100_000).chain([1 << 20, (1 << 30) + 12_345]) {
            let top = upper(bucket(us));
            assert!(top >= us && top - us <= us / 32, "{us} -> {top}");
        }
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        assert!((histogram.quantile_ms(0.5) / 5_000.0 - 1.0).abs() < 0.02);
        assert!((histogram.quantile_ms(0.999) / 9_990.0 - 1.0).abs() < 0.02);
        assert_eq!(histogram.count(), 10_000);
    }
}
