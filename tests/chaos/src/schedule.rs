//! When what goes wrong, and which tasks arrive meanwhile, from a seed. Pure.

use live::load::Job;

use crate::kind::Kind;

/// Something that is to go wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// Seconds after the beginning.
    pub at: f64,
    /// What.
    pub kind: Kind,
}

/// Every kind `times` times, each at a random moment between `from` and `to`, in their order.
pub fn schedule(seed: u64, kinds: &[Kind], times: usize, from: f64, to: f64) -> Vec<Planned> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let all = kinds.iter().cycle().take(kinds.len() * times);
    let mut planned: Vec<Planned> = all
        .map(|kind| Planned {
            at: from + (to - from) * dice.f64(),
            kind: *kind,
        })
        .collect();
    planned.sort_by(|a, b| a.at.total_cmp(&b.at));
    planned
}

/// How long tasks take, in seconds: most are short, a few very long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lengths {
    /// The shortest.
    pub least: f64,
    /// The longest.
    pub most: f64,
}

/// Arrivals at random moments, `rate` a second on average for `seconds`; lengths are even on a
/// logarithmic scale, so that each of 50 to 500 ms and 5 to 50 s is as frequent as the other.
pub fn arrivals(seed: u64, rate: f64, seconds: f64, lengths: Lengths) -> Vec<Job> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut at = 0.0;
    let mut jobs = Vec::new();
    loop {
        // The time to the next of independent arrivals is exponential.
        at -= (1.0 - dice.f64()).ln() / rate;
        if at >= seconds {
            return jobs;
        }
        let share = dice.f64();
        jobs.push(Job {
            at,
            seconds: lengths.least * (lengths.most / lengths.least).powf(share),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let plan = |seed| schedule(seed, &Kind::ALL, 2, 10.0, 100.0);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert_eq!(plan(7).len(), 2 * Kind::ALL.len());
        assert!(plan(7).iter().all(|p| (10.0..100.0).contains(&p.at)));
        assert!(plan(7).is_sorted_by(|a, b| a.at <= b.at));
        for kind in Kind::ALL {
            assert_eq!(plan(7).iter().filter(|p| p.kind == kind).count(), 2);
        }
    }

    #[test]
    fn arrivals_keep_their_rate_and_their_lengths() {
        let lengths = Lengths {
            least: 0.05,
            most: 60.0,
        };
        let jobs = arrivals(3, 20.0, 1000.0, lengths);
        assert!((19_000..21_000).contains(&jobs.len()), "{}", jobs.len());
        assert!(jobs.iter().all(|j| (0.05..=60.0).contains(&j.seconds)));
        let long = jobs.iter().filter(|j| j.seconds > 6.0).count();
        let share = 100 * long / jobs.len();
        assert!((30..35).contains(&share), "{share} % are longer than 6 s");
    }
}
