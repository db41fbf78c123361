//! How a pod's grace period is divided: what is for the tasks, and what is kept for their end. The
//! sidecar goes by it, and the operator says beforehand which tasks are too long for it.
//!
//! Each limit is counted from the begin of the shutdown. A short grace period has shorter parts.

use std::time::Duration;

/// How long tasks may go on, and others may still begin: all but the last 10 s, or of a grace
/// period below 30 s all but its last third.
pub fn drain(grace: Duration) -> Duration {
    but_the_last(grace, Duration::from_secs(10), 3)
}

/// When calls are closed that still run: all but the last 3 s, or of a grace period below 12 s all
/// but its last quarter.
pub fn cut(grace: Duration) -> Duration {
    but_the_last(grace, Duration::from_secs(3), 4)
}

/// When reports end, just before kubelet kills the pod: all but the last 0.5 s, or of a grace
/// period below 10 s all but its last twentieth.
pub fn end(grace: Duration) -> Duration {
    but_the_last(grace, Duration::from_millis(500), 20)
}

fn but_the_last(grace: Duration, longest: Duration, part: u32) -> Duration {
    grace.saturating_sub((grace / part).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_grace_period_has_shorter_parts() {
        for (grace, limits) in [
            (600_000, [590_000, 597_000, 599_500]),
            (30_000, [20_000, 27_000, 29_500]),
            (12_000, [8_000, 9_000, 11_500]),
            (6_000, [4_000, 4_500, 5_700]),
            (0, [0, 0, 0]),
        ] {
            let of = Duration::from_millis(grace);
            let limits = limits.map(Duration::from_millis);
            assert_eq!([drain(of), cut(of), end(of)], limits, "{grace}");
        }
    }
}
