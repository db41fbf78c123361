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

/// The shortest grace period, in whole seconds, of which tasks of this length have all that they
/// need: [`drain`] of it is not shorter.
pub fn for_tasks_of(longest: Duration) -> Duration {
    let whole = longest + (longest / 2).min(Duration::from_secs(10));
    Duration::from_secs(whole.as_secs() + u64::from(whole.subsec_nanos() > 0))
}

fn but_the_last(grace: Duration, longest: Duration, part: u32) -> Duration {
    grace.saturating_sub((grace / part).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_are_said_to_take_so_long_fit() {
        for (longest, grace) in [
            (0, 0),
            (9_500, 15),
            (10_000, 15),
            (19_900, 30),
            (20_000, 30),
            (60_000, 70),
            (3_600_001, 3_611),
        ] {
            let longest = Duration::from_millis(longest);
            let whole = for_tasks_of(longest);
            assert_eq!(whole, Duration::from_secs(grace));
            assert!(drain(whole) >= longest, "{longest:?}");
        }
    }

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
