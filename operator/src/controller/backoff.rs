//! How long to wait after a failed reconcile.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after that many failures in a row: doubled each time, and between half and all of
/// it by `random`, from 0 to 1, so that what failed together is not tried again together.
pub(super) fn pause(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    whole.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
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
