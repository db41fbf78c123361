//! Knative's pod autoscaler, fed with the concurrency of pull workers.
//! <https://knative.dev/docs/serving/autoscaling/>

use std::collections::VecDeque;

use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Seconds between two samples.
const SAMPLE: f64 = 1.0;
/// Seconds between two decisions.
const DECISION: f64 = 2.0;
/// Seconds of the stable and of the panic window.
const STABLE: f64 = 60.0;
const PANIC: f64 = 6.0;
/// Panic begins where the pods wanted are this many times those ready.
const PANIC_THRESHOLD: f64 = 2.0;
/// Most pods in a step, as a multiple of those ready, and fewest, as a share.
const MOST_UP: f64 = 1000.0;
const MOST_DOWN: f64 = 2.0;
/// Share of a pod's concurrency that is aimed at.
const UTILISATION: f64 = 0.7;
/// Idle for this long beyond the stable window, the last pod goes.
const GRACE: f64 = 30.0;

/// What counts as concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Tasks that run.
    Executing,
    /// Tasks that run or wait, in its favour.
    QueuedAndExecuting,
}

/// The pod autoscaler. All of its state is in memory.
#[derive(Debug)]
pub struct Kpa {
    concurrency: Concurrency,
    target: f64,
    least: u32,
    samples: VecDeque<(f64, f64)>,
    /// The first sample since the last silence.
    first: f64,
    panic_since: Option<f64>,
    most_in_panic: u32,
    active_since: Option<f64>,
    idle_since: Option<f64>,
    /// When executing slot-seconds were looked at last, and what they were.
    before: Option<(f64, f64)>,
}

impl Kpa {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario, concurrency: Concurrency) -> Self {
        Self {
            concurrency,
            target: f64::from(scenario.pods.slots) * UTILISATION,
            least: scenario.pods.min,
            samples: VecDeque::new(),
            first: 0.0,
            panic_since: None,
            most_in_panic: 0,
            active_since: None,
            idle_since: None,
            before: None,
        }
    }

    fn sample(&mut self, seen: &Observation) {
        let executed: f64 = seen.tasks.iter().map(|t| t.executing_seconds).sum();
        let before = self.before.replace((seen.now, executed));
        let Some((at, before)) = before.filter(|(at, _)| *at < seen.now) else {
            return;
        };
        // The mean over the last second; terminating pods are not asked.
        let leaving: u32 = seen.tasks.iter().map(|t| t.leaving).sum();
        let running = ((executed - before) / (seen.now - at) - f64::from(leaving)).max(0.0);
        let x = match self.concurrency {
            Concurrency::Executing if seen.ready == 0 => return,
            Concurrency::Executing => running,
            Concurrency::QueuedAndExecuting => match seen.queue() {
                None => return,
                Some(queue) => queue as f64 + running,
            },
        };
        let silent = self
            .samples
            .back()
            .is_none_or(|(last, _)| seen.now - last >= STABLE);
        if silent {
            self.samples.clear();
            self.first = seen.now;
        }
        self.samples.push_back((seen.now, x));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| seen.now - at >= STABLE)
        {
            self.samples.pop_front();
        }
    }

    /// Mean over a window's buckets; those without a sample count as 0.
    fn mean(&self, now: f64, window: f64) -> Option<f64> {
        let (last, _) = self.samples.back()?;
        let since = now - last;
        if since >= STABLE {
            return None;
        }
        if since >= window {
            return Some(0.0);
        }
        let within = self.samples.iter().filter(|(at, _)| now - at < window);
        let sum: f64 = within.map(|(_, x)| x).sum();
        let buckets = ((last - self.first) / SAMPLE + 1.0).min((window - since) / SAMPLE);
        Some(sum / buckets)
    }

    fn decide(&mut self, seen: &Observation) -> Option<u32> {
        let stable = self.mean(seen.now, STABLE)?;
        let panic = self.mean(seen.now, PANIC)?;
        let ready = f64::from(seen.ready.max(1));
        let (up, down) = ((MOST_UP * ready).ceil(), (ready / MOST_DOWN).floor());
        let wanted = |mean: f64| (mean / self.target).ceil();
        let stable = wanted(stable).clamp(down, up);
        let over = wanted(panic) / ready >= PANIC_THRESHOLD;
        let panic = wanted(panic).clamp(down, up);
        if over {
            self.panic_since = Some(seen.now);
        } else if self.panic_since.is_some_and(|t| t + STABLE < seen.now) {
            self.panic_since = None;
            self.most_in_panic = 0;
        }
        let mut desired = stable as u32;
        if self.panic_since.is_some() {
            self.most_in_panic = self.most_in_panic.max(stable.max(panic) as u32);
            desired = self.most_in_panic;
        }
        Some(desired)
    }

    /// What of a desired 0 is done now.
    fn go_to_zero(&mut self, now: f64, current: u32) -> u32 {
        if self.least > 0 || current == 0 {
            return self.least;
        }
        if self.active_since.is_some_and(|since| now - since < STABLE) {
            return 1;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        if now - idle_since >= GRACE {
            self.active_since = None;
            0
        } else {
            current
        }
    }
}

impl Policy for Kpa {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        SAMPLE
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        self.sample(seen);
        let current = seen.active();
        if seen.now % DECISION != 0.0 {
            return current;
        }
        // The activator: whatever waits for a pool of none brings up one pod.
        let knocks = current == 0 && seen.queue().is_some_and(|q| q > 0);
        let desired = match self.decide(seen) {
            None => current.max(u32::from(knocks)),
            Some(0) if !knocks => return self.go_to_zero(seen.now, current),
            Some(n) => n.max(1),
        };
        if desired > 0 {
            self.idle_since = None;
            self.active_since.get_or_insert(seen.now);
        }
        desired
    }

    fn restart(&mut self, seen: &Observation) {
        self.samples.clear();
        self.before = None;
        self.panic_since = None;
        self.most_in_panic = 0;
        if seen.ready > 1 {
            // What was before is not known; nothing is taken away for a while.
            self.panic_since = Some(seen.now);
            self.most_in_panic = seen.ready;
        }
    }
}
