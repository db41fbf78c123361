//! The autoscaler that ships: `scaling::decide` itself, asked as the operator asks it.

use std::time::Duration;

use scaling::{Instant, RateLimit, Sample, State, TaskPolicy, TaskSample};

use crate::{
    observation::{Observation, TaskObservation},
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Seconds between two decisions.
const TICK: f64 = 5.0;
/// A queue size this much older than a decision is used no more: three ticks.
const STALE: f64 = 3.0 * TICK;

/// The autoscaler that ships.
#[derive(Debug)]
pub struct Ours {
    policy: scaling::Policy,
    /// In `Some` but while a decision is made.
    state: Option<State>,
    /// The look before; none right after a restart.
    before: Option<Vec<TaskObservation>>,
    /// The queue sizes read last, and when.
    queues: Vec<Option<(f64, u64)>>,
}

impl Ours {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        let pods = &scenario.pods;
        let tasks = scenario.types.iter().map(|of| TaskPolicy {
            cap: of.slot_cap,
            exec_limit: of.concurrent_exec_limit,
            rate_limit: of.rate_limit.map(|r| RateLimit {
                count: r.count,
                window: seconds(r.window),
            }),
        });
        Self {
            policy: scaling::Policy {
                max_wait: seconds(scenario.target.max_wait),
                drain_within: None,
                min: pods.min,
                max: pods.max,
                slots: pods.slots,
                tasks: tasks.collect(),
            },
            state: Some(State::restarted(Instant::default())),
            before: None,
            queues: vec![None; scenario.types.len()],
        }
    }

    /// From what can be seen to what `decide` takes: growth in place of counters.
    fn sample(&mut self, seen: &Observation) -> Sample {
        let before = self.before.as_ref();
        let mut tasks = Vec::with_capacity(seen.tasks.len());
        for (kind, now) in seen.tasks.iter().enumerate() {
            if let Some(queue) = now.queue {
                self.queues[kind] = Some((seen.now, queue));
            }
            let fresh = self.queues[kind].filter(|(at, _)| seen.now - at <= STALE);
            let before = before.map_or(*now, |tasks| tasks[kind]);
            tasks.push(TaskSample {
                queue: fresh.map(|(_, queue)| queue),
                running: now.running,
                leaving: now.leaving,
                idle_slot: now.idle_slot,
                idle_seconds: now.idle_seconds - before.idle_seconds,
                started: now.started - before.started,
                ended: now.ended - before.ended,
                ended_seconds: now.ended_seconds - before.ended_seconds,
                executing_seconds: now.executing_seconds - before.executing_seconds,
                occupied_seconds: now.occupied_seconds - before.occupied_seconds,
            });
        }
        self.before = Some(seen.tasks.clone());
        Sample {
            current: seen.active(),
            ready: seen.ready,
            starting: seen.starting,
            idle: seen.empty,
            oldest_starting: seconds(seen.oldest_starting),
            started_up: seen.started_up.iter().map(|s| seconds(*s)).collect(),
            stats_complete: seen.stats_complete,
            server_away: seen.server_away && seen.ready > 0,
            tasks,
        }
    }
}

impl Policy for Ours {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Drain
    }

    fn tick(&self) -> f64 {
        TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let sample = self.sample(seen);
        let now = Instant::at(seconds(seen.now));
        let state = self.state.take().unwrap_or_else(|| State::restarted(now));
        let (decision, state) = scaling::decide(&self.policy, state, &sample, now);
        self.state = Some(state);
        decision.replicas
    }

    fn restart(&mut self, seen: &Observation) {
        let now = Instant::at(seconds(seen.now));
        let kept = self.state.as_ref().map(State::memory);
        self.state = kept.map(|memory| State::restored(&memory, now));
        self.before = None;
        self.queues.fill(None);
    }
}

fn seconds(x: f64) -> Duration {
    Duration::from_secs_f64(x.max(0.0))
}
