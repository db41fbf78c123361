//! How long to wait after a failure. Pure: randomness is a parameter, 0 to 1.

use std::time::Duration;

/// A doubling pause with an upper end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer.
    pub max: Duration,
    /// The other side may ask for so long and no longer: it may be replaced tomorrow.
    pub longest_wish: Duration,
}

impl Backoff {
    /// After a poll that failed. Never long: a pod that asks every few seconds is no burden,
    /// and work goes on within seconds of the server's return.
    pub const POLL: Self = Self::new(Duration::from_millis(250), Duration::from_secs(4));
    /// After a poll without valid credentials: somebody has to mend them first.
    pub const UNAUTHORIZED: Self = Self::new(Duration::from_secs(1), Duration::from_secs(5));
    /// After a report that was refused, for itself alone.
    pub const REPORT: Self = Self::new(Duration::from_millis(200), Duration::from_secs(30));
    /// Between the reports that find out whether the server is back: it comes back within
    /// seconds as a rule, and finished work should not wait for it any longer.
    pub const AWAY: Self = Self::new(Duration::from_millis(100), Duration::from_millis(800));
    /// Polls of a type whose handler says that it is busy.
    pub const BUSY: Self = Self {
        longest_wish: Duration::from_secs(300),
        ..Self::new(Duration::from_secs(1), Duration::from_secs(30))
    };
    /// Polls after a call was refused by a handler that its probe calls ready: short at first,
    /// for mostly it is starting again.
    pub const REFUSED: Self = Self::new(Duration::from_millis(50), Duration::from_secs(30));

    /// One that heeds wishes of a minute.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            longest_wish: Duration::from_secs(60),
        }
    }

    /// The pause after so many failures in a row, at least 1.
    pub fn pause(self, failures: u32, random: f64) -> Duration {
        runtime::backoff::pause(self.first, self.max, failures, random)
    }

    /// The same where the other side named a time itself: never sooner than that, as far as
    /// such wishes are heeded, and up to a tenth later, since it told everybody the same.
    pub fn pause_or_later(self, failures: u32, after: Option<Duration>, random: f64) -> Duration {
        let own = self.pause(failures, random);
        match after {
            Some(after) => {
                let after = after.min(self.longest_wish);
                own.max(after.mul_f64(1.0 + random.clamp(0.0, 1.0) / 10.0))
            }
            None => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let rows = [
            (1, 1.0, 1000),
            (2, 1.0, 2000),
            (3, 1.0, 4000),
            (5, 1.0, 16_000),
            (6, 1.0, 30_000),
            (1000, 1.0, 30_000),
            (1, 0.0, 500),
            (6, 0.0, 15_000),
            (0, 1.0, 1000),
        ];
        for (failures, random, millis) in rows {
            assert_eq!(
                Backoff::BUSY.pause(failures, random),
                Duration::from_millis(millis),
                "{failures} {random}"
            );
        }
    }

    #[test]
    fn results_that_wait_are_sent_within_a_second_of_the_servers_return() {
        // A refused attempt takes no time, so the longest pause is the longest delay.
        let longest = Backoff::AWAY.pause(u32::MAX, 1.0);
        assert!(longest < Duration::from_millis(900), "{longest:?}");
        assert!(Backoff::AWAY.pause(u32::MAX, 0.0) < longest, "no lockstep");
        // And work is taken within seconds.
        assert!(Backoff::POLL.pause(u32::MAX, 1.0) < Duration::from_secs(5));
    }

    #[test]
    fn the_servers_own_time_is_honoured() {
        let rows = [
            (None, 0.0, 500),
            (Some(7), 0.0, 7000),
            (Some(7), 1.0, 7700),
            (Some(0), 1.0, 1000),
            (Some(60), 0.0, 60_000),
            (Some(61), 0.0, 60_000),
            (Some(u64::MAX), 0.0, 60_000),
            (Some(u64::MAX), 1.0, 66_000),
        ];
        for (after, random, millis) in rows {
            assert_eq!(
                Backoff::new(Duration::from_secs(1), Duration::from_secs(30)).pause_or_later(
                    1,
                    after.map(Duration::from_secs),
                    random
                ),
                Duration::from_millis(millis),
                "{after:?} {random}"
            );
        }
        let endless = Some(Duration::MAX);
        assert_eq!(
            Backoff::BUSY.pause_or_later(1, endless, 0.0),
            Duration::from_secs(300)
        );
        assert_eq!(
            Backoff::REPORT.pause_or_later(u32::MAX, endless, 0.0),
            Duration::from_secs(60)
        );
    }
}
