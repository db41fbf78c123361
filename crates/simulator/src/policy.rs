//! What an autoscaler is to the simulation.

use crate::observation::Observation;

/// How pods are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleDown {
    /// As a ReplicaSet does: the youngest first, killed after their grace.
    Blind,
    /// The emptiest first; each finishes what it has, and may be taken back until it is gone.
    Drain,
}

/// An autoscaler.
pub trait Policy: Send {
    /// How it takes pods away.
    fn scale_down(&self) -> ScaleDown;

    /// Seconds between two looks at the pool; the first is at 0.
    fn tick(&self) -> f64;

    /// The number of active pods to have. The simulation keeps it within the pool's bounds.
    fn desired(&mut self, seen: &Observation) -> u32;

    /// It was restarted: what its real system keeps in memory is lost.
    fn restart(&mut self, seen: &Observation);
}
