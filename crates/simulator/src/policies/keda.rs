//! KEDA: its own loop between 0 and 1, the HPA from there on.

use super::hpa::{self, Hpa};
use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Seconds between two looks of KEDA itself.
const POLLING: f64 = 30.0;
/// Inactive for longer than this, it goes to zero.
const COOLDOWN: f64 = 300.0;

/// What the scaler measures.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// The queue sizes, a trigger for each type: tasks per pod for each.
    Queues(Vec<f64>),
    /// Tasks that wait or run, of all types: tasks per pod.
    QueuedAndRunning(f64),
}

/// KEDA and the HPA that it makes.
#[derive(Debug)]
pub struct Keda {
    metric: Metric,
    scale_down: ScaleDown,
    hpa: Hpa,
    least: u32,
    /// In its object's status: survives a restart.
    last_active: Option<f64>,
}

impl Keda {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario, metric: Metric, scale_down: ScaleDown) -> Self {
        let pods = &scenario.pods;
        Self {
            metric,
            scale_down,
            hpa: Hpa::new(pods.min.max(1), pods.max),
            least: pods.min,
            last_active: None,
        }
    }

    /// Usage and target of each trigger.
    fn triggers(&self, seen: &Observation) -> Vec<(Option<f64>, f64)> {
        match &self.metric {
            Metric::Queues(targets) => seen
                .tasks
                .iter()
                .zip(targets)
                .map(|(task, target)| (task.queue.map(|q| q as f64), *target))
                .collect(),
            Metric::QueuedAndRunning(target) => {
                let running: u32 = seen.tasks.iter().map(|t| t.running + t.leaving).sum();
                let usage = seen.queue().map(|q| q as f64 + f64::from(running));
                vec![(usage, *target)]
            }
        }
    }
}

impl Policy for Keda {
    fn scale_down(&self) -> ScaleDown {
        self.scale_down
    }

    fn tick(&self) -> f64 {
        hpa::TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        if seen.now <= 0.0 {
            // Both loops look for the first time after their first period.
            return seen.active();
        }
        let triggers = self.triggers(seen);
        let mut replicas = seen.active();
        if replicas > 0 {
            let proposals: Vec<Option<u32>> = triggers
                .iter()
                .map(|(usage, target)| Some(Hpa::proposal((*usage)?, *target, replicas)))
                .collect();
            replicas = self.hpa.next(seen.now, replicas, &proposals);
        }
        if seen.now % POLLING != 0.0 {
            return replicas;
        }
        let active = triggers
            .iter()
            .any(|(usage, _)| usage.is_some_and(|u| u > 0.0));
        let error = triggers.iter().any(|(usage, _)| usage.is_none());
        if active {
            if !error || replicas == 0 {
                self.last_active = Some(seen.now);
            }
            return replicas.max(self.least.max(1));
        }
        let cooled = self
            .last_active
            .is_none_or(|last| last + COOLDOWN < seen.now);
        if !error && self.least == 0 && cooled {
            return 0;
        }
        replicas
    }

    fn restart(&mut self, _: &Observation) {
        self.hpa.forget();
    }
}
