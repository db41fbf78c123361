//! What holds of any run.
#![expect(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use simulator::{Observation, Outcome, Policy, ScaleDown, Scenario, Workload, run};

/// Asks for numbers of pods in turn.
struct Turns {
    how: ScaleDown,
    pods: Vec<u32>,
    next: usize,
    last: Option<Observation>,
    most_active: u32,
}

impl Policy for Turns {
    fn scale_down(&self) -> ScaleDown {
        self.how
    }
    fn tick(&self) -> f64 {
        13.0
    }
    fn desired(&mut self, seen: &Observation) -> u32 {
        self.most_active = self.most_active.max(seen.active());
        self.last = Some(seen.clone());
        self.next += 1;
        self.pods[self.next % self.pods.len()]
    }
    fn restart(&mut self, _: &Observation) {}
}

/// A pool of at most 9 pods with 3 slots, two types, limits and an outage or not.
fn scenarios() -> impl Strategy<Value = String> {
    (
        1_u32..200,
        0.05_f64..4.0,
        0.1_f64..60.0,
        prop::option::of(1_u32..6),
        prop::option::of(1_u32..30),
        prop::option::of(1_u32..3),
        prop::option::of(1.0_f64..20.0),
        0.0_f64..0.5,
        any::<bool>(),
    )
        .prop_map(
            |(count, rate, mean, exec, starts, cap, capacity, poll, away)| {
                let key = |name: &str, value: Option<String>| {
                    value.map_or(String::new(), |v| format!("    {name}: {v}\n"))
                };
                format!(
                    "
name: any
duration: 1300
target: {{maxWait: 30}}
poll: {{max: {poll}}}
pods: {{max: 9, initial: 2, slots: 3, start: {{dist: uniform, min: 1, max: 50}}}}
{}{}types:
  - name: a
    service: {{dist: exp, mean: {mean}}}
{}{}    arrivals: [{{kind: poisson, from: 0, to: 1200, rate: {rate}}}]
  - name: b
    service: {{dist: lognormal, mean: 3, cv: 2}}
{}    arrivals: [{{kind: burst, at: 100, count: {count}, spread: 30}}]
",
                    capacity.map_or(String::new(), |x| format!(
                        "downstream: {{capacity: {x}}}\n"
                    )),
                    if away {
                        "outages: [{from: 300, to: 400, kind: server}]\n"
                    } else {
                        ""
                    },
                    key("concurrentExecLimit", exec.map(|n| n.to_string())),
                    key(
                        "rateLimit",
                        starts.map(|n| format!("{{count: {n}, window: 20}}"))
                    ),
                    key("slotCap", cap.map(|n| n.to_string())),
                )
            },
        )
}

fn play(yaml: &str, how: ScaleDown, pods: Vec<u32>, seed: u64) -> (Outcome, Turns) {
    let scenario = Scenario::read(yaml).unwrap();
    let workload = Workload::draw(&scenario, seed);
    let mut turns = Turns {
        how,
        pods,
        next: 0,
        last: None,
        most_active: 0,
    };
    let outcome = run(&scenario, &workload, seed, &mut turns, None);
    (outcome, turns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn drained_pools_lose_nothing(
        yaml in scenarios(),
        pods in prop::collection::vec(0_u32..15, 1..8),
        seed in 0_u64..1000,
    ) {
        let (outcome, turns) = play(&yaml, ScaleDown::Drain, pods, seed);
        prop_assert_eq!(outcome.killed, 0);
        prop_assert!(outcome.max_pods <= 9 && turns.most_active <= outcome.max_pods);
        prop_assert!(outcome.waits.iter().all(|w| *w >= 0.0 && *w <= 1300.0));
        // Whoever has arrived waits, runs or has ended; the last look is after the last arrival.
        let last = turns.last.unwrap();
        let there: u64 = last
            .tasks
            .iter()
            .map(|t| t.queue.unwrap() + t.ended + u64::from(t.running + t.leaving))
            .sum();
        prop_assert_eq!(there, outcome.waits.len() as u64);
        for task in &last.tasks {
            prop_assert_eq!(task.started, task.ended + u64::from(task.running + task.leaving));
            prop_assert!(task.ended_seconds <= task.executing_seconds + 1e-6);
        }
        prop_assert!(outcome.pod_seconds >= last.tasks.iter().map(|t| t.executing_seconds).sum::<f64>() / 3.0 - 1e-6);
    }

    #[test]
    fn a_run_depends_on_its_seed_alone(
        yaml in scenarios(),
        pods in prop::collection::vec(0_u32..15, 1..8),
        seed in 0_u64..1000,
    ) {
        let (a, _) = play(&yaml, ScaleDown::Blind, pods.clone(), seed);
        let (b, _) = play(&yaml, ScaleDown::Blind, pods.clone(), seed);
        prop_assert_eq!(&a.waits, &b.waits);
        prop_assert_eq!(a.pod_seconds.to_bits(), b.pod_seconds.to_bits());
        let (drained, _) = play(&yaml, ScaleDown::Drain, pods, seed);
        prop_assert_eq!(drained.waits.len(), a.waits.len(), "the same tasks");
    }
}
