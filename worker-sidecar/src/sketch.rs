//! Quantiles of durations in little memory. Pure.

use std::time::Duration;

/// Each bucket ends a tenth above the one before: quantiles are at most 5 % off.
const GROWTH: f64 = 1.1;

/// The first bucket's end, in seconds.
const FIRST: f64 = 0.001;

/// 1.1^200 ms is more than two days.
const BUCKETS: usize = 202;

/// After so many values all weigh half, so that quantiles follow what is happening now.
const HALVE_AT: u64 = 2000;

/// Count and sum since the start, and quantiles of the recent values.
#[derive(Debug, Clone)]
pub struct Sketch {
    count: u64,
    sum: Duration,
    recent: u64,
    buckets: Box<[u32; BUCKETS]>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            count: 0,
            sum: Duration::ZERO,
            recent: 0,
            buckets: Box::new([0; BUCKETS]),
        }
    }
}

impl Sketch {
    /// Adds a value.
    pub fn add(&mut self, value: Duration) {
        self.count += 1;
        self.sum += value;
        self.buckets[bucket(value)] += 1;
        self.recent += 1;
        if self.recent >= HALVE_AT {
            for n in self.buckets.iter_mut() {
                *n /= 2;
            }
            self.recent = self.buckets.iter().copied().map(u64::from).sum();
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The value, in seconds, that a share of the recent ones do not exceed; 0 without any.
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most HALVE_AT")]
        let rank = share * self.recent as f64;
        let mut seen = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            seen += u64::from(*n);
            #[expect(clippy::cast_precision_loss, reason = "at most HALVE_AT")]
            if seen > 0 && seen as f64 >= rank {
                return middle(i);
            }
        }
        0.0
    }
}

fn bucket(value: Duration) -> usize {
    let doublings = (value.as_secs_f64() / FIRST).ln() / GROWTH.ln();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "clamped; the logarithm of 0 is -inf, which the clamp takes too"
    )]
    let index = doublings.ceil().clamp(0.0, (BUCKETS - 1) as f64) as usize;
    index
}

#[expect(clippy::cast_precision_loss, reason = "below BUCKETS")]
fn middle(bucket: usize) -> f64 {
    if bucket == 0 {
        return FIRST / 2.0;
    }
    FIRST * GROWTH.powf(bucket as f64 - 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut sketch = Sketch::default();
        assert_eq!((sketch.quantile(0.5), sketch.quantile(0.95)), (0.0, 0.0));
        for millis in 1..=1000 {
            sketch.add(Duration::from_millis(millis));
        }
        assert_eq!(sketch.count(), 1000);
        assert_eq!(sketch.sum(), Duration::from_millis(500_500));
        for (share, expected) in [(0.5, 0.5), (0.95, 0.95)] {
            let got = sketch.quantile(share);
            assert!((got / expected - 1.0).abs() < 0.06, "{share}: {got}");
        }
    }

    #[test]
    fn any_duration_has_a_bucket() {
        for value in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(1),
            Duration::MAX,
        ] {
            assert!(bucket(value) < BUCKETS);
        }
        assert!(middle(BUCKETS - 1) > 2.0 * 86_400.0);
    }

    #[test]
    fn the_past_fades() {
        let mut sketch = Sketch::default();
        for _ in 0..10_000 {
            sketch.add(Duration::from_secs(10));
        }
        for _ in 0..2_500 {
            sketch.add(Duration::from_millis(10));
        }
        assert!(sketch.quantile(0.5) < 0.02, "{}", sketch.quantile(0.5));
        assert_eq!(sketch.count(), 12_500);
    }
}
