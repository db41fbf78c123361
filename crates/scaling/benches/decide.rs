//! What a decision costs: one worker, one tick, windows full.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scaling::{Instant, Policy, Sample, State, TaskPolicy, TaskSample, decide};

fn at(tick: u64) -> Instant {
    Instant::at(Duration::from_secs(5 * tick))
}

fn policy(types: usize, max_wait: u64) -> Policy {
    Policy {
        max_wait: Duration::from_secs(max_wait),
        drain_within: None,
        min: 0,
        max: 1000,
        slots: 10,
        tasks: vec![TaskPolicy::default(); types],
    }
}

/// A load that swings, so that no branch is always the same.
fn sample(types: usize, tick: u64, current: u32) -> Sample {
    let swing = tick % 17;
    Sample {
        current,
        ready: current,
        idle: 0,
        stats_complete: true,
        tasks: (0..types)
            .map(|_| TaskSample {
                queue: Some(40 * swing),
                running: current * 5,
                started: 100 + swing,
                ended: 100,
                executing_seconds: 25.0 * f64::from(current),
                occupied_seconds: 26.0 * f64::from(current),
                ..TaskSample::default()
            })
            .collect(),
        ..Sample::default()
    }
}

/// The state and the replicas after 1,000 ticks.
fn warm(policy: &Policy) -> (State, u32) {
    let (mut state, mut current) = (State::restarted(at(0)), 0);
    for tick in 0..1000 {
        let seen = sample(policy.tasks.len(), tick, current);
        let (decision, next) = decide(policy, state, &seen, at(tick));
        (state, current) = (next, decision.replicas);
    }
    (state, current)
}

fn decisions(c: &mut Criterion) {
    for (name, types, max_wait) in [
        ("one type, maxWait 60 s", 1, 60),
        ("ten types, maxWait 60 s", 10, 60),
        ("one type, maxWait 1 h", 1, 3600),
    ] {
        let policy = policy(types, max_wait);
        let (state, current) = warm(&policy);
        let seen = sample(types, 1000, current);
        c.bench_function(name, |b| {
            b.iter_batched(
                || state.clone(),
                |state| decide(&policy, state, black_box(&seen), at(1000)),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
