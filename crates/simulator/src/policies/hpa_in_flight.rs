//! The horizontal pod autoscaler alone, on the tasks that wait or run.

use super::hpa::{self, Hpa};
use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Share of a pod's slots that is aimed at.
const UTILISATION: f64 = 0.7;

/// The HPA on queue + in-flight per pod. It never goes to zero, and brings up a first pod.
#[derive(Debug)]
pub struct HpaInFlight {
    hpa: Hpa,
    target: f64,
    least: u32,
}

impl HpaInFlight {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        let pods = &scenario.pods;
        let least = pods.min.max(1);
        Self {
            hpa: Hpa::new(least, pods.max),
            target: UTILISATION * f64::from(pods.slots),
            least,
        }
    }
}

impl Policy for HpaInFlight {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        hpa::TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let current = seen.active().max(self.least);
        if seen.now <= 0.0 || seen.active() < self.least {
            return current;
        }
        let running: u32 = seen.tasks.iter().map(|t| t.running + t.leaving).sum();
        let usage = seen.queue().map(|q| q as f64 + f64::from(running));
        let proposal = usage.map(|usage| Hpa::proposal(usage, self.target, current));
        self.hpa.next(seen.now, current, &[proposal])
    }

    fn restart(&mut self, _: &Observation) {
        self.hpa.forget();
    }
}
