//! Azure Functions' target-based scaling.
//! <https://learn.microsoft.com/azure/azure-functions/functions-target-based-scaling>

use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
};

/// Seconds between two decisions.
const TICK: f64 = 15.0;
/// Instances that one decision may add …
const MOST_UP: u32 = 4;
/// … and take away.
const MOST_DOWN: u32 = 1;
/// Messages per instance: the default of queue triggers.
const TARGET: f64 = 16.0;

/// ceil(Q / target), a few instances at a time. It remembers nothing.
#[derive(Debug)]
pub struct AzureTbs;

impl Policy for AzureTbs {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let current = seen.active();
        let Some(queue) = seen.queue().filter(|_| seen.now > 0.0) else {
            return current;
        };
        let wanted = (queue as f64 / TARGET).ceil() as u32;
        wanted.clamp(current.saturating_sub(MOST_DOWN), current + MOST_UP)
    }

    fn restart(&mut self, _: &Observation) {}
}
