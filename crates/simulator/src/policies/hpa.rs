//! The horizontal pod autoscaler's arithmetic for external metrics, with its default behaviour.
//! <https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>

use std::collections::VecDeque;

/// Seconds between two decisions; also the period of its rate limits.
pub(super) const TICK: f64 = 15.0;
/// A deviation from the target that is none.
const TOLERANCE: f64 = 0.1;
/// Within this time the highest recommendation holds.
const DOWN_WINDOW: f64 = 300.0;
/// Pods that may be added in a period whatever their number.
const STEP_PODS: u32 = 4;

/// The part of the HPA that is remembered between decisions: in memory alone.
#[derive(Debug, Clone)]
pub struct Hpa {
    least: u32,
    most: u32,
    /// When, and how many pods.
    recommended: VecDeque<(f64, u32)>,
}

impl Hpa {
    /// With these bounds.
    pub fn new(least: u32, most: u32) -> Self {
        Self {
            least,
            most,
            recommended: VecDeque::new(),
        }
    }

    /// The replicas that one metric proposes as `AverageValue`: usage per pod against a target.
    pub fn proposal(usage: f64, target: f64, current: u32) -> u32 {
        let ratio = usage / (target * f64::from(current));
        if current > 0 && (1.0 - ratio).abs() <= TOLERANCE {
            current
        } else {
            (usage / target).ceil() as u32
        }
    }

    /// The next number of replicas. `proposals` are those of the metrics, `None` for one that
    /// cannot be read.
    pub fn next(&mut self, now: f64, current: u32, proposals: &[Option<u32>]) -> u32 {
        let known = proposals.iter().flatten().copied().max();
        let missing = proposals.iter().any(Option::is_none);
        let proposed = match known {
            Some(n) if !missing || n > current => n,
            _ => return current,
        };
        self.recommended.push_back((now, proposed));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| now - at > DOWN_WINDOW)
        {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, n)| *n).max();
        let mut next = proposed;
        if next < current {
            next = highest.unwrap_or(proposed).min(current);
        }
        // Its periods are as long as its tick: what was added before counts no more.
        let limit = (current + STEP_PODS).max(current.saturating_mul(2));
        next.min(limit).clamp(self.least, self.most)
    }

    /// It was restarted.
    pub fn forget(&mut self) {
        self.recommended.clear();
    }
}
