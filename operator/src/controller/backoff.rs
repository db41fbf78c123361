//! How long to wait after a failed reconcile.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after that many failures in a row; `random` is from 0 to 1.
pub(super) fn pause(failures: u32, random: f64) -> Duration {
    runtime::backoff::pause(FIRST, LONGEST, failures, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_a_minute() {
        let pauses: Vec<u64> = (1..=9).map(|n| pause(n, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
    }
}
