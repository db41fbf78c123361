//! What of the world is seen.

use std::collections::VecDeque;

use super::{Phase, World, has_room};
use crate::{
    observation::{Observation, TaskObservation},
    scenario::Scenario,
};

/// Looks at the queue sizes that are seen late.
#[derive(Debug, Default)]
pub(super) struct Looks {
    times: Vec<f64>,
    taken: VecDeque<Vec<u64>>,
    lag: f64,
}

impl Looks {
    /// For decisions at each multiple of `tick`.
    pub(super) fn times_from(&mut self, tick: f64, scenario: &Scenario) {
        self.lag = scenario.metric_lag;
        if self.lag > 0.0 {
            self.times = (0..u32::MAX)
                .map(|n| f64::from(n) * tick)
                .take_while(|t| *t < scenario.duration)
                .map(|t| t - self.lag)
                .collect();
        }
    }

    /// When late looks are taken; before the start there is nothing to see.
    pub(super) fn late(&self) -> impl Iterator<Item = f64> + use<> {
        let times = self.times.clone();
        times.into_iter().filter(|t| *t >= 0.0)
    }

    pub(super) fn take(&mut self, sizes: Vec<u64>) {
        self.taken.push_back(sizes);
    }

    /// The sizes to be seen at the decision at `now`.
    fn seen(&mut self, now: f64, fresh: impl Fn() -> Vec<u64>) -> Vec<u64> {
        if self.lag <= 0.0 {
            return fresh();
        }
        let empty = || vec![0; fresh().len()];
        if now < self.lag {
            return empty();
        }
        self.taken.pop_front().unwrap_or_else(empty)
    }
}

impl World<'_> {
    /// What can be seen now.
    pub(super) fn observe(&mut self) -> Observation {
        self.account_idle();
        let queues = &self.queues;
        let sizes = self
            .looks
            .seen(self.now, || queues.iter().map(super::Queue::size).collect());
        let blind = self.scenario.is_blind(self.now);
        let mut tasks: Vec<TaskObservation> = self
            .queues
            .iter()
            .zip(sizes)
            .zip(&self.scenario.types)
            .map(|((queue, size), of)| {
                let executing = queue.executing_seconds(self.now);
                TaskObservation {
                    queue: (!blind).then_some(size),
                    started: queue.started,
                    ended: queue.ended,
                    idle_seconds: if of.slot_cap.is_none() {
                        self.idle_seconds
                    } else {
                        0.0
                    },
                    ended_seconds: queue.ended_seconds,
                    executing_seconds: executing,
                    occupied_seconds: executing + queue.polling,
                    ..TaskObservation::default()
                }
            })
            .collect();
        let mut empty = 0;
        let mut oldest_starting: f64 = 0.0;
        for pod in self.pool.present() {
            match pod.phase {
                Phase::Starting => oldest_starting = oldest_starting.max(self.now - pod.created),
                Phase::Ready if pod.running.is_empty() => empty += 1,
                _ => (),
            }
            for running in &pod.running {
                let task = &mut tasks[running.kind as usize];
                if pod.phase == Phase::Leaving {
                    task.leaving += 1;
                } else {
                    task.running += 1;
                }
            }
            if pod.idle > 0 {
                for (kind, of) in self.scenario.types.iter().enumerate() {
                    tasks[kind].idle_slot |= has_room(pod, kind, of.slot_cap);
                }
            }
        }
        Observation {
            now: self.now,
            tasks,
            ready: self.pool.ready,
            starting: self.pool.starting,
            empty,
            oldest_starting,
            started_up: std::mem::take(&mut self.started_up),
            idle_slots: self.pool.idle.len() as u32,
            idle_seconds: self.idle_seconds,
            server_away: self.scenario.is_server_away(self.now),
            stats_complete: true,
        }
    }
}
