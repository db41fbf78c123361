//! A clairvoyant plan: a yardstick, not a target.
//!
//! ```text
//! workload ─> demand (every task as early as limits permit) ─> A(t)
//!     A(t), A(t − f·W) ─> taut string ─> · m ─> pods, ordered a start-up early ─> run
//! ```

mod demand;

use demand::Demand;

use crate::{
    distribution::Figures,
    observation::Observation,
    points::factor,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
    taut_string,
    workload::Workload,
};

/// Seconds between two steps of a plan.
const STEP: f64 = 1.0;
/// Shares of W by which work may be late.
const LATE: [f64; 5] = [0.0, 0.3, 0.6, 0.9, 1.0];
/// Factors on the capacity.
const MARGINS: [f64; 16] = [
    0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.7, 1.9, 2.1, 2.4, 2.7, 3.0,
];

/// A number of pods for each step of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pods: Vec<u32>,
}

/// All plans that the oracle tries.
pub(crate) fn plans(scenario: &Scenario, workload: &Workload) -> Vec<Plan> {
    let demand = Demand::of(scenario, workload);
    let start = Figures::of(&scenario.pods.start);
    let mut plans = Vec::with_capacity(LATE.len() * MARGINS.len());
    for late in LATE {
        let slopes = Slopes::new(scenario, &demand, late * scenario.target.max_wait);
        for margin in MARGINS {
            plans.push(Plan::new(scenario, &slopes, margin, start));
        }
    }
    plans
}

/// The capacity in slots, step by step.
struct Slopes {
    /// Of all types together.
    all: Vec<f64>,
    /// Of each type that a pod runs fewer of than it has slots: its cap, and its own capacity.
    capped: Vec<(u32, Vec<f64>)>,
}

impl Slopes {
    fn new(scenario: &Scenario, demand: &Demand, late: f64) -> Self {
        let steps = (scenario.duration / STEP).ceil() as usize;
        let string = |used: &dyn Fn(f64) -> f64| {
            let at = |n: usize, late: f64| used((n as f64 * STEP).min(scenario.duration) - late);
            let high: Vec<f64> = (0..=steps).map(|n| at(n, 0.0)).collect();
            let low: Vec<f64> = (0..=steps).map(|n| at(n, late)).collect();
            let mut slopes = taut_string::slopes(&low, &high);
            for slope in &mut slopes {
                *slope /= STEP;
            }
            slopes
        };
        let capped = scenario.types.iter().enumerate().filter_map(|(kind, of)| {
            let cap = of.slot_cap.filter(|cap| *cap < scenario.pods.slots)?;
            Some((cap, string(&|t| demand.used_by(kind, t))))
        });
        Self {
            capped: capped.collect(),
            all: string(&|t| demand.used(t)),
        }
    }

    fn pods(&self, step: usize, slots: u32, margin: f64) -> u32 {
        let mut pods = self.all[step] * margin / f64::from(slots);
        for (cap, slopes) in &self.capped {
            pods = pods.max(slopes[step] * margin / f64::from(*cap));
        }
        (pods - 1e-9).ceil().max(0.0) as u32
    }
}

impl Plan {
    fn new(scenario: &Scenario, slopes: &Slopes, margin: f64, start: Figures) -> Self {
        let pool = &scenario.pods;
        let needed: Vec<u32> = (0..slopes.all.len())
            .map(|step| slopes.pods(step, pool.slots, margin))
            .collect();
        let scale = |step: usize| factor(&pool.start_scale, step as f64 * STEP);
        // Ordered early; what is not needed any more goes when it is not.
        let early = (0..needed.len()).map(|step| {
            let ahead = step + (start.p90 * scale(step) / STEP).ceil() as usize;
            let needed = &needed[step..=ahead.min(needed.len() - 1)];
            needed.iter().copied().max().unwrap_or(0)
        });
        let mut pods: Vec<u32> = early.collect();
        fill_dips(&mut pods, |step| {
            (start.mean * scale(step) / STEP).floor() as usize
        });
        Self { pods }
    }
}

/// Raises dips of at most so many steps to the lower of their sides: to start the pods again
/// would take as long.
fn fill_dips(pods: &mut [u32], longest: impl Fn(usize) -> usize) {
    for from in 1..pods.len() {
        let level = pods[from - 1];
        if pods[from] >= level {
            continue;
        }
        let end = (from + longest(from)).min(pods.len() - 1);
        let back = (from + 1..=end).rev().find(|n| {
            let side = pods[*n].min(level);
            pods[from..*n].iter().all(|p| *p < side)
        });
        if let Some(back) = back {
            let side = pods[back].min(level);
            pods[from..back].fill(side);
        }
    }
}

impl Policy for Plan {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Drain
    }

    fn tick(&self) -> f64 {
        STEP
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let step = (seen.now / STEP).round() as usize;
        self.pods.get(step).copied().unwrap_or(0)
    }

    /// A plan made ahead has nothing to lose.
    fn restart(&mut self, _: &Observation) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_dips_are_filled() {
        let mut pods = [5, 2, 2, 7, 1, 1, 1, 1, 6, 0, 3, 0];
        fill_dips(&mut pods, |_| 3);
        assert_eq!(pods, [5, 5, 5, 7, 1, 1, 1, 1, 6, 3, 3, 0]);
    }
}
