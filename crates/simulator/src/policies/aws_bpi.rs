//! AWS target tracking on the backlog per instance.
//! <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html>

use std::collections::VecDeque;

use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Seconds between two data points of a metric, and two decisions.
const TICK: f64 = 60.0;
/// So many data points must lie below the target before anything is taken away.
const POINTS_DOWN: usize = 15;
/// Nothing is added within this time of what was added before.
const COOLDOWN: f64 = 300.0;
/// Mean execution time before anything was seen.
const FIRST_GUESS: f64 = 1.0;

/// N = Σ Q·S̄/(W·c): the acceptable backlog of an instance is what it works off within W.
/// Its memory is in CloudWatch and survives a restart.
#[derive(Debug)]
pub struct AwsBpi {
    wait: f64,
    slots: f64,
    wanted: VecDeque<u32>,
    last_up: Option<f64>,
}

impl AwsBpi {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            wait: scenario.target.max_wait,
            slots: f64::from(scenario.pods.slots),
            wanted: VecDeque::new(),
            last_up: None,
        }
    }
}

impl Policy for AwsBpi {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let current = seen.active();
        if seen.now <= 0.0 || seen.queue().is_none() {
            return current;
        }
        let seconds = seen.tasks.iter().map(|t| {
            let mean = if t.ended > 0 {
                t.ended_seconds / t.ended as f64
            } else {
                FIRST_GUESS
            };
            t.queue.unwrap_or(0) as f64 * mean
        });
        let wanted = (seconds.sum::<f64>() / (self.wait * self.slots)).ceil() as u32;
        self.wanted.push_back(wanted);
        if self.wanted.len() > POINTS_DOWN {
            self.wanted.pop_front();
        }
        if wanted > current {
            if self.last_up.is_some_and(|at| seen.now - at < COOLDOWN) {
                return current;
            }
            self.last_up = Some(seen.now);
            return wanted;
        }
        if self.wanted.len() < POINTS_DOWN {
            return current;
        }
        let most = self.wanted.iter().copied().max().unwrap_or(wanted);
        most.min(current)
    }

    fn restart(&mut self, _: &Observation) {}
}
