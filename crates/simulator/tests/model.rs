//! The model does what FORMAT.md says of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test"
)]

use simulator::{
    Faults, Moment, Name, Observation, Options, Outcome, Policy, ScaleDown, Scenario, Study,
    Workload, run,
};

/// Asks for a number of pods at each time, and remembers what it saw.
struct Script {
    how: ScaleDown,
    tick: f64,
    pods: fn(f64) -> u32,
    seen: Vec<Observation>,
    restarts: Vec<f64>,
}

impl Script {
    fn new(how: ScaleDown, tick: f64, pods: fn(f64) -> u32) -> Self {
        Self {
            how,
            tick,
            pods,
            seen: Vec::new(),
            restarts: Vec::new(),
        }
    }

    fn at(&self, t: f64) -> &Observation {
        let found = self.seen.iter().find(|s| (s.now - t).abs() < 1e-9);
        found.unwrap_or_else(|| panic!("no look at {t}"))
    }
}

impl Policy for Script {
    fn scale_down(&self) -> ScaleDown {
        self.how
    }
    fn tick(&self) -> f64 {
        self.tick
    }
    fn desired(&mut self, seen: &Observation) -> u32 {
        self.seen.push(seen.clone());
        (self.pods)(seen.now)
    }
    fn restart(&mut self, seen: &Observation) {
        self.restarts.push(seen.now);
    }
}

fn scenario(yaml: &str) -> Scenario {
    Scenario::read(yaml).unwrap()
}

fn play(scenario: &Scenario, script: &mut Script) -> Outcome {
    played(scenario, script, 1)
}

fn played(scenario: &Scenario, script: &mut Script, seed: u64) -> Outcome {
    let workload = Workload::draw(scenario, seed);
    run(scenario, &workload, seed, script, Some(3600))
}

fn moments(outcome: &Outcome) -> &[Moment] {
    outcome.trace.as_ref().unwrap().moments()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
}

/// P(wait > 0) and mean wait of M/M/c with arrival rate `lambda` and mean service 1 (Erlang C).
fn erlang_c(servers: u32, lambda: f64) -> (f64, f64) {
    // Erlang B by its recursion, then C = B/(1 − ρ(1 − B)).
    let b = (1..=servers).fold(1.0, |b, n| lambda * b / (f64::from(n) + lambda * b));
    let c = f64::from(servers);
    let waits = b / (1.0 - lambda / c * (1.0 - b));
    (waits, waits / (c - lambda))
}

#[test]
fn waits_of_m_m_c_are_those_of_erlang_c() {
    for (pods, slots, lambda) in [
        (1, 1, 0.5),
        (5, 1, 3.5),
        (1, 5, 3.5),
        (4, 5, 16.0),
        (10, 5, 45.0),
    ] {
        let duration = 500_000.0 / lambda;
        let s = scenario(&format!(
            "
name: mmc
duration: {duration}
target: {{maxWait: 1}}
poll: {{max: 0}}
pods: {{min: {pods}, max: {pods}, initial: {pods}, slots: {slots}, start: {{dist: const, value: 1}}}}
types: [{{name: t, service: {{dist: exp, mean: 1}}, arrivals: [{{kind: poisson, from: 0, to: {duration}, rate: {lambda}}}]}}]
"
        ));
        let (mut waited, mut sum, mut tasks) = (0.0, 0.0, 0.0);
        for seed in 0..8 {
            let mut fixed = Script::new(ScaleDown::Drain, 1e6, |_| 1000);
            let outcome = played(&s, &mut fixed, seed);
            tasks += outcome.waits.len() as f64;
            sum += outcome.waits.iter().sum::<f64>();
            waited += outcome.waits.iter().filter(|w| **w > 1e-9).count() as f64;
        }
        let (share, mean) = erlang_c(pods * slots, lambda);
        let (share, mean) = (waited / tasks / share - 1.0, sum / tasks / mean - 1.0);
        assert!(
            share.abs() < 0.02 && mean.abs() < 0.02,
            "{pods}×{slots} at {lambda}: {share:+.4} {mean:+.4}"
        );
    }
}

const ONE_POD: &str =
    "pods: {min: 1, max: 1, initial: 1, slots: 4, start: {dist: const, value: 10}}";

#[test]
fn all_factors_are_fixed_at_the_start() {
    // Three at once in one pod: each start sees itself and those before.
    let s = scenario(&format!(
        "
name: factors
duration: 100
target: {{maxWait: 10}}
poll: {{max: 0}}
{ONE_POD}
downstream: {{capacity: 2}}
types:
  - name: t
    service: {{dist: const, value: 1}}
    serviceScale: [[0, 1], [10, 1], [10, 3]]
    slowdown: {{alpha: 0.5, beta: 0.5}}
    arrivals: [{{kind: trace, times: [5, 20, 20, 20]}}]
"
    ));
    let mut script = Script::new(ScaleDown::Drain, 50.0, |_| 1);
    play(&s, &mut script);
    let seen = script.at(50.0).tasks[0];
    // At 5: 1·1·(0.5 + 0.5)·1. At 20: 3·(1, 1.5, 2)·(1, 1, 3/2).
    close(seen.ended_seconds, 1.0 + 3.0 + 4.5 + 9.0);
    close(seen.executing_seconds, 17.5);
    assert_eq!((seen.started, seen.ended), (4, 4));
}

#[test]
fn a_blind_scale_down_kills_after_the_grace() {
    let s = scenario(
        "
name: kill
duration: 2000
target: {maxWait: 10}
poll: {max: 0}
pods: {max: 3, initial: 1, slots: 2, grace: 30, start: {dist: const, value: 10}}
server: {responseTimeout: 600, retryDelay: 60}
types: [{name: t, service: {dist: list, values: [25, 100]}, arrivals: [{kind: trace, times: [10, 10]}]}]
",
    );
    let mut script = Script::new(ScaleDown::Blind, 20.0, |t| {
        u32::from(!(20.0..700.0).contains(&t))
    });
    let outcome = play(&s, &mut script);
    assert_eq!((outcome.killed, outcome.unstarted), (1, 0));
    // Told to leave at 20, killed at 50, 40 s after its start at 10.
    close(outcome.wasted_seconds, 40.0);
    // Counted again from 650, visible at 710, a pod from 700 ready at 710.
    assert_eq!(script.at(640.0).tasks[0].queue, Some(0));
    assert_eq!(script.at(660.0).tasks[0].queue, Some(1));
    let mut waits = outcome.waits.clone();
    waits.sort_by(f64::total_cmp);
    close(waits[0], 0.0);
    close(waits[1], 700.0);
    // Pods: 0 to 50, and 700 to the end.
    close(outcome.pod_seconds, 50.0 + 1300.0);
    assert_eq!((outcome.changes, outcome.reversals), (2, 1));
}

#[test]
fn a_drained_pod_finishes_and_may_be_taken_back() {
    let s = scenario(
        "
name: drain
duration: 400
target: {maxWait: 10}
poll: {max: 0}
pods: {max: 3, initial: 2, slots: 1, start: {dist: const, value: 10}}
types: [{name: t, service: {dist: const, value: 100}, arrivals: [{kind: trace, times: [10, 10, 130]}]}]
",
    );
    // Down to none at 20, one back at 40 (no new pod), down again at 60.
    let mut script = Script::new(ScaleDown::Drain, 20.0, |t| match t {
        t if t < 20.0 => 2,
        t if t < 40.0 => 0,
        t if t < 60.0 => 1,
        _ => 0,
    });
    let outcome = play(&s, &mut script);
    assert_eq!(
        (outcome.killed, outcome.max_pods, outcome.unstarted),
        (0, 2, 1)
    );
    assert_eq!(script.at(40.0).tasks[0].leaving, 2);
    let back = script.at(60.0);
    assert_eq!(
        (back.ready, back.starting, back.tasks[0].leaving),
        (1, 0, 1)
    );
    // Both end their tasks at 110 and are gone then.
    close(outcome.pod_seconds, 220.0);
}

#[test]
fn drain_mode_never_kills() {
    let s = scenario(
        "
name: churn
duration: 3600
target: {maxWait: 10}
pods: {max: 20, slots: 3, start: {dist: uniform, min: 1, max: 40}}
types:
  - name: t
    service: {dist: pareto, min: 0.1, alpha: 0.8, cap: 900}
    arrivals: [{kind: poisson, from: 0, to: 3000, rate: 4}]
",
    );
    for seed in 0..10 {
        // Any numbers will do, as long as they change much.
        let mut script = Script::new(ScaleDown::Drain, 7.0, |t| {
            ((t * 0.37).sin().abs() * 20.0) as u32
        });
        let outcome = played(&s, &mut script, seed);
        assert_eq!(outcome.killed, 0);
        assert!(outcome.changes > 100 && outcome.max_pods <= 20);
    }
}

#[test]
fn the_engines_limits_hold() {
    let s = scenario(
        "
name: limits
duration: 1200
target: {maxWait: 10}
pods: {min: 20, max: 20, initial: 20, slots: 4, start: {dist: const, value: 10}}
types:
  - name: few
    service: {dist: exp, mean: 5}
    concurrentExecLimit: 7
    arrivals: [{kind: burst, at: 10, count: 2000}]
  - name: paced
    service: {dist: exp, mean: 1}
    rateLimit: {count: 30, window: 20}
    arrivals: [{kind: burst, at: 10, count: 2000}]
",
    );
    let mut script = Script::new(ScaleDown::Drain, 20.0, |_| 20);
    play(&s, &mut script);
    let mut before = 0;
    for seen in &script.seen[1..] {
        let (few, paced) = (seen.tasks[0], seen.tasks[1]);
        assert!(few.running <= 7, "{}", few.running);
        assert_eq!(
            paced.started - before,
            30,
            "at {}: every window is used whole",
            seen.now
        );
        before = paced.started;
    }
    // All but the moments between a task and the next: 7 slots of 5 s, less the polls.
    let few = script.at(1180.0).tasks[0];
    assert!(
        few.executing_seconds > 0.97 * 7.0 * 1170.0,
        "{}",
        few.executing_seconds
    );
    assert!(script.at(600.0).tasks[0].idle_slot, "others slots are idle");
}

#[test]
fn a_pod_holds_no_more_of_a_type_than_its_cap() {
    let s = scenario(
        "
name: cap
duration: 600
target: {maxWait: 10}
pods: {min: 3, max: 3, initial: 3, slots: 4, start: {dist: const, value: 10}}
types:
  - {name: big, service: {dist: exp, mean: 5}, slotCap: 1, arrivals: [{kind: burst, at: 10, count: 2000}]}
  - {name: small, service: {dist: exp, mean: 1}, arrivals: [{kind: poisson, from: 0, to: 600, rate: 2}]}
",
    );
    let mut script = Script::new(ScaleDown::Drain, 1.0, |_| 3);
    play(&s, &mut script);
    let big = |t: &Observation| t.tasks[0].running;
    assert!(
        script
            .seen
            .iter()
            .all(|t| big(t) <= 3 && !(t.now > 20.0 && t.tasks[0].idle_slot && big(t) == 3))
    );
    let last = script.at(599.0).tasks[0];
    assert!(
        last.executing_seconds > 0.97 * 3.0 * 589.0,
        "{}",
        last.executing_seconds
    );
}

#[test]
fn failing_tasks_come_back_after_their_delay() {
    let s = scenario(&format!(
        "
name: fail
duration: 300
target: {{maxWait: 10}}
poll: {{max: 0}}
{ONE_POD}
types:
  - name: t
    service: {{dist: const, value: 50}}
    fail: {{share: 1, service: {{dist: const, value: 2}}, retries: 2, retryDelay: 60}}
    arrivals: [{{kind: trace, times: [10]}}]
"
    ));
    let mut script = Script::new(ScaleDown::Drain, 5.0, |_| 1);
    let outcome = play(&s, &mut script);
    // 10–12, 72–74, 134–136; each counts as a task, delayed ones in the queue size.
    assert_eq!(outcome.waits, [0.0, 0.0, 0.0]);
    assert_eq!(script.at(15.0).tasks[0].queue, Some(1));
    assert_eq!(script.at(75.0).tasks[0].queue, Some(1));
    assert_eq!(script.at(140.0).tasks[0].queue, Some(0));
    close(script.at(295.0).tasks[0].ended_seconds, 6.0);
}

#[test]
fn delayed_tasks_are_counted_before_they_can_be_taken() {
    let s = scenario(&format!(
        "
name: delayed
duration: 300
target: {{maxWait: 10}}
poll: {{max: 0}}
{ONE_POD}
types:
  - name: t
    service: {{dist: const, value: 1}}
    arrivals:
      - {{kind: burst, at: 20, count: 3, delay: {{dist: const, value: 100}}}}
      - {{kind: burst, at: 20, count: 5, delay: {{dist: const, value: 1000}}}}
"
    ));
    let mut script = Script::new(ScaleDown::Drain, 5.0, |_| 1);
    let outcome = play(&s, &mut script);
    let looks = [15.0, 25.0, 115.0, 125.0].map(|t| script.at(t).tasks[0].queue);
    assert_eq!(looks, [Some(0), Some(8), Some(8), Some(5)]);
    assert_eq!(
        outcome.waits, [0.0; 3],
        "what never gets visible does not count"
    );
}

#[test]
fn sizes_come_late_or_not_at_all_and_restarts_are_told() {
    let s = scenario(&format!(
        "
name: blind
duration: 300
target: {{maxWait: 10}}
poll: {{max: 0}}
{ONE_POD}
metricLag: 12
outages: [{{from: 100, to: 120, kind: queue}}, {{from: 200, to: 240, kind: server}}]
restarts: [{{at: 50, down: 20}}]
types:
  - name: t
    service: {{dist: const, value: 1000}}
    arrivals: [{{kind: regular, from: 1, to: 300, interval: 1}}]
"
    ));
    let mut script = Script::new(ScaleDown::Drain, 5.0, |_| 1);
    play(&s, &mut script);
    // Four run; at 40 the size of 28 is seen: 28 arrived by then.
    assert_eq!(script.at(40.0).tasks[0].queue, Some(24));
    assert_eq!(script.at(10.0).tasks[0].queue, Some(0));
    assert_eq!(script.at(100.0).tasks[0].queue, None);
    assert!(script.at(120.0).tasks[0].queue.is_some());
    assert!(!script.at(100.0).server_away && script.at(200.0).server_away);
    assert!(script.seen.iter().all(|s| !(50.0..70.0).contains(&s.now)));
    assert_eq!(script.restarts, [70.0]);
}

#[test]
fn polls_bring_nothing_while_the_server_is_away() {
    let s = scenario(&format!(
        "
name: away
duration: 300
target: {{maxWait: 10}}
{ONE_POD}
outages: [{{from: 100, to: 150, kind: server}}]
types:
  - name: t
    service: {{dist: const, value: 1}}
    arrivals: [{{kind: poisson, from: 0, to: 290, rate: 1}}]
"
    ));
    let mut script = Script::new(ScaleDown::Drain, 1.0, |_| 1);
    play(&s, &mut script);
    let started = |t: f64| script.at(t).tasks[0].started;
    assert_eq!(started(101.0), started(150.0));
    assert_eq!(script.at(110.0).tasks[0].queue, None);
    assert!(
        started(160.0) > started(150.0) + 20,
        "idle slots are woken when it is back"
    );
}

#[test]
fn the_same_tasks_arrive_whatever_the_policy_does() {
    let s = scenario(include_str!("../scenarios/controller-restart.yaml"));
    let study = |policy| {
        let ran = Study::new(s.clone(), Options::default()).run(&[policy], Some(1.0));
        ran[0].clone()
    };
    let (a, b, c) = (study(Name::Ours), study(Name::Ours), study(Name::Airflow));
    assert_eq!(a.figures, b.figures);
    assert_eq!(a.figures.tasks, c.figures.tasks);
    assert_ne!(a.figures, c.figures);
}

#[test]
fn the_autoscaler_bears_faulty_samples() {
    let s = scenario(include_str!("../scenarios/diurnal-x20.yaml"));
    let clean = Study::new(s.clone(), Options::default()).run(&[Name::Ours], Some(1.0));
    for faults in [
        Faults {
            late: 15.0,
            ..Faults::default()
        },
        Faults {
            missing: 0.3,
            ..Faults::default()
        },
        Faults {
            stale: 0.5,
            ..Faults::default()
        },
        Faults {
            silent: 0.3,
            ..Faults::default()
        },
    ] {
        let options = Options {
            faults,
            ..Options::default()
        };
        let ran = Study::new(s.clone(), options).run(&[Name::Ours], Some(1.0));
        let (figures, clean) = (ran[0].figures, clean[0].figures);
        assert_eq!(figures.killed, 0);
        assert!(figures.miss < 0.05, "{faults:?}: {figures:?}");
        assert!(
            figures.pod_seconds < 1.6 * clean.pod_seconds,
            "{faults:?}: {figures:?}"
        );
        assert_ne!(figures, clean, "{faults:?}: nothing was spoilt");
    }
}

#[test]
fn a_trace_follows_the_pool() {
    let s = scenario(
        "
name: trace
duration: 3600
target: {maxWait: 60}
poll: {max: 0}
pods: {max: 3, slots: 1, start: {dist: const, value: 10}}
types: [{name: t, service: {dist: const, value: 100}, arrivals: [{kind: burst, at: 5, count: 3}]}]
",
    );
    let mut script = Script::new(ScaleDown::Drain, 10.0, |t| if t < 50.0 { 2 } else { 0 });
    let outcome = play(&s, &mut script);
    let at = |t: usize| moments(&outcome)[t];
    assert_eq!(
        (at(8).queue, at(8).running, at(8).desired, at(8).ready),
        (3, 0, 2, 0)
    );
    close(at(8).wait, 3.0);
    assert_eq!((at(40).queue, at(40).running, at(40).ready), (1, 2, 2));
    assert_eq!((at(60).desired, at(60).ready, at(60).leaving), (0, 0, 2));
}
