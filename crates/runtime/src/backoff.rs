//! How long to wait after failures. Pure: randomness is a parameter.

use std::time::Duration;

/// The pause after so many failures in a row, at least 1: `first`, doubled with each, at most
/// `longest`; and between half and all of that by `random`, from 0 to 1, so that what failed
/// together is not tried again together.
pub fn pause(first: Duration, longest: Duration, failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}
