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
/// So many data points in a row must lie above the target before anything is added to a pool
/// that is not empty …
const POINTS_UP: usize = 3;
/// … and below it before anything is taken away.
const POINTS_DOWN: usize = 15;
/// Mean execution time before anything was seen.
const FIRST_GUESS: f64 = 1.0;

/// N = Q·S̄/(W·c): the acceptable backlog of an instance is what it works off within W.
/// Its memory is in a metrics store and survives a restart.
#[derive(Debug)]
pub struct AwsBpi {
    wait: f64,
    slots: f64,
    wanted: VecDeque<u32>,
}

impl AwsBpi {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            wait: scenario.target.max_wait,
            slots: f64::from(scenario.pods.slots),
            wanted: VecDeque::new(),
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
        let queue = seen.queue().unwrap_or(0) as f64;
        let ended: u64 = seen.tasks.iter().map(|t| t.ended).sum();
        let mean = if ended > 0 {
            seen.tasks.iter().map(|t| t.ended_seconds).sum::<f64>() / ended as f64
        } else {
            FIRST_GUESS
        };
        let wanted = (queue * mean / (self.wait * self.slots)).ceil() as u32;
        self.wanted.push_back(wanted);
        if self.wanted.len() > POINTS_DOWN {
            self.wanted.pop_front();
        }
        if wanted > current {
            let tail = self.wanted.iter().rev().take(POINTS_UP);
            let above = tail.filter(|w| **w > current).count();
            return if current == 0 || above == POINTS_UP {
                wanted
            } else {
                current
            };
        }
        if self.wanted.len() < POINTS_DOWN {
            return current;
        }
        let most = self.wanted.iter().copied().max().unwrap_or(wanted);
        most.min(current)
    }

    fn restart(&mut self, _: &Observation) {}
}
