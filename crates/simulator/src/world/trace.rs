//! A run over time, for plots.

use super::{Phase, Queue, World};
use crate::scenario::Scenario;

/// The pool at one moment of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Seconds since the start.
    pub at: f64,
    /// Queue sizes as the server counts them, all types together.
    pub queue: u64,
    /// How long the head that has waited longest has been visible, in seconds; 0 if none waits.
    pub wait: f64,
    /// Tasks that run.
    pub running: u32,
    /// The desired number of pods.
    pub desired: u32,
    /// Active pods that are ready.
    pub ready: u32,
    /// Pods that are leaving.
    pub leaving: u32,
}

/// The moments of a run, evenly spaced.
#[derive(Debug, Clone)]
pub struct Trace {
    step: f64,
    moments: Vec<Moment>,
    most: usize,
}

impl Trace {
    pub(super) fn new(scenario: &Scenario, moments: u32) -> Self {
        Self {
            step: scenario.duration / f64::from(moments.max(1)),
            moments: Vec::new(),
            most: moments as usize,
        }
    }

    pub(super) fn next_at(&self) -> Option<f64> {
        let next = self.moments.len();
        (next < self.most).then_some(next as f64 * self.step)
    }

    pub(super) fn push(&mut self, moment: Moment) {
        self.moments.push(moment);
    }

    /// The moments, from the start on.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }
}

impl World<'_> {
    pub(super) fn moment(&self) -> Moment {
        let heads = self.queues.iter().filter_map(|q| q.visible.front());
        let waits = heads.map(|head| self.now - self.attempts.visible_since(*head));
        Moment {
            at: self.now,
            queue: self.queues.iter().map(Queue::size).sum(),
            wait: waits.fold(0.0, f64::max),
            running: self.queues.iter().map(|q| q.running).sum(),
            desired: self.desired,
            ready: self.pool.ready,
            leaving: self
                .pool
                .present()
                .filter(|p| p.phase == Phase::Leaving)
                .count() as u32,
        }
    }
}
