//! How many requests a server may get. Pure; time is an argument.

use scaling::Instant;

/// A server's requests: so many a second, and as many at once as come together in one tick.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    per_second: f64,
    most: f64,
    left: f64,
    counted: Instant,
}

impl Budget {
    /// Full. At least one request a tick is allowed.
    pub(super) fn new(per_second: f64, tick_seconds: f64, now: Instant) -> Self {
        let most = (per_second * tick_seconds).max(1.0);
        Self {
            per_second,
            most,
            left: most,
            counted: now,
        }
    }

    /// Takes one request, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let grown = self.per_second * now.seconds_since(self.counted);
        self.left = (self.left + grown).min(self.most);
        self.counted = self.counted.max(now);
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::at(Duration::from_millis(millis))
    }

    #[test]
    fn a_tick_may_come_at_once_and_no_more_than_a_second_has() {
        let mut budget = Budget::new(2.0, 5.0, at(0));
        assert_eq!((0..50).filter(|_| budget.take(at(0))).count(), 10);
        assert_eq!((0..50).filter(|_| budget.take(at(1_500))).count(), 3);
        // It does not save up for longer than a tick, and time that goes back gives nothing.
        assert_eq!((0..50).filter(|_| budget.take(at(60_000))).count(), 10);
        assert!(!budget.take(at(0)) && !budget.take(at(60_400)));
        assert!(budget.take(at(60_500)));
    }

    #[test]
    fn a_small_budget_still_allows_one_request() {
        let mut budget = Budget::new(0.1, 5.0, at(0));
        assert!(budget.take(at(0)) && !budget.take(at(5_000)) && budget.take(at(10_000)));
    }
}
