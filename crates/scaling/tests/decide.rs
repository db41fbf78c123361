//! What `decide` must do, by example and by property.

use std::time::Duration;

use proptest::prelude::*;
use scaling::{
    Decision, Instant, Memory, Policy, RateLimit, Reason, Sample, State, TaskPolicy, TaskSample,
    decide,
};

const TICK: u64 = 5;

fn at(seconds: u64) -> Instant {
    Instant::at(Duration::from_secs(seconds))
}

/// W = 60 s, so D = 36 s and H = 30 s; pods of four slots.
fn policy() -> Policy {
    Policy {
        max_wait: Duration::from_secs(60),
        drain_within: None,
        min: 0,
        max: 50,
        slots: 4,
        tasks: vec![TaskPolicy::default()],
    }
}

fn sample(current: u32, queue: Option<u64>) -> Sample {
    Sample {
        current,
        ready: current,
        stats_complete: true,
        tasks: vec![TaskSample {
            queue,
            ..TaskSample::default()
        }],
        ..Sample::default()
    }
}

/// All pods busy with tasks of one second.
fn busy(current: u32, queue: u64) -> Sample {
    let slots = current * 4;
    let mut s = sample(current, Some(queue));
    s.tasks[0].running = slots;
    s.tasks[0].started = u64::from(slots) * TICK;
    s.tasks[0].ended = u64::from(slots) * TICK;
    s.tasks[0].executing_seconds = f64::from(slots) * 5.0;
    s.tasks[0].occupied_seconds = f64::from(slots) * 5.0;
    s
}

fn idle(current: u32) -> Sample {
    let mut s = sample(current, Some(0));
    s.idle = current;
    s.tasks[0].idle_slot = true;
    s
}

/// Feeds samples, one a tick, asking for what was decided.
fn run(
    policy: &Policy,
    mut state: State,
    from: u64,
    ticks: u64,
    mut next: impl FnMut(u32) -> Sample,
    mut current: u32,
) -> (Vec<Decision>, State) {
    let mut decisions = Vec::new();
    for i in 0..ticks {
        let (d, s) = decide(policy, state, &next(current), at(from + i * TICK));
        current = d.replicas;
        state = s;
        decisions.push(d);
    }
    (decisions, state)
}

#[test]
fn from_zero_to_all_that_is_needed_in_one_step() {
    let (d, _) = decide(
        &policy(),
        State::restarted(at(0)),
        &sample(0, Some(1000)),
        at(0),
    );
    // 1000 tasks of 1 s in 36 s: 28 slots; a pod needs 30 s of these, so 9 s are left: 111 slots.
    assert_eq!((d.replicas, d.reason), (28, Reason::ScaledUp));
    assert!(
        d.message().contains("0 → 28 pods: 1,000 tasks wait"),
        "{}",
        d.message()
    );
}

#[test]
fn one_task_takes_one_pod() {
    let (d, _) = decide(
        &policy(),
        State::restarted(at(0)),
        &sample(0, Some(1)),
        at(0),
    );
    assert_eq!(d.replicas, 1);
}

#[test]
fn a_steady_load_keeps_its_pods() {
    let (d, _) = run(&policy(), State::restarted(at(0)), 0, 60, |_| busy(5, 0), 5);
    let last = d.last().unwrap();
    assert_eq!((last.replicas, last.reason), (5, Reason::Steady));
}

#[test]
fn no_work_goes_to_zero_but_not_before_a_window_is_full() {
    let (d, _) = run(&policy(), State::restarted(at(0)), 0, 12, idle, 5);
    let first_zero = d.iter().position(|d| d.replicas == 0).unwrap() as u64 * TICK;
    assert_eq!(first_zero, 30);
    assert_eq!(d[1].reason, Reason::HeldByWindow);
}

#[test]
fn pods_go_one_hold_after_the_last_task_although_its_rate_is_still_remembered() {
    let seen = |_| {
        let mut s = busy(5, 0);
        s.started_up = vec![Duration::from_secs(5)];
        s
    };
    let (_, state) = run(&policy(), State::restarted(at(0)), 0, 60, seen, 5);
    // The last tasks, long ones, end between two samples.
    let end = |_| {
        let mut s = idle(5);
        s.tasks[0].ended = 20;
        s.tasks[0].executing_seconds = 100.0;
        s
    };
    let (_, state) = run(&policy(), state, 300, 1, end, 5);
    // The last pod, which that rate alone would keep for another window.
    let (d, _) = run(&policy(), state, 305, 8, idle, 1);
    let first_zero = d.iter().position(|d| d.replicas == 0).unwrap() as u64 * TICK;
    assert_eq!(first_zero + TICK, 15);
    assert!(d[2].terms.want > 0.0, "{:?}", d[2]);
}

#[test]
fn pods_that_never_get_ready_go_when_the_work_has_gone() {
    let mut waits_since = 0;
    let mut starting = |queue: u64, current: u32| {
        let mut s = sample(current, Some(queue));
        (s.ready, s.starting) = (0, current);
        s.oldest_starting = Duration::from_secs(waits_since);
        waits_since += TICK;
        s
    };
    let first = State::restarted(at(0));
    let (d, state) = run(&policy(), first, 0, 200, |n| starting(1000, n), 0);
    let asked = d.last().unwrap().replicas;
    assert!(asked > 1, "{:?}", d.last());
    // Somebody has ended the workflows.
    let (d, _) = run(&policy(), state, 1000, 8, |n| starting(0, n), asked);
    assert_eq!(d.last().unwrap().replicas, 0);
}

#[test]
fn one_long_start_up_is_no_reason_to_hold_for_hours() {
    let mut s = busy(5, 0);
    s.started_up = vec![Duration::from_secs(86_400)];
    let (_, state) = decide(&policy(), State::restarted(at(0)), &s, at(0));
    // 30 s as presumed, and a fifth of the way to a quarter of an hour.
    assert!((state.memory().start_up_seconds - 204.0).abs() < 1e-6);
    let remembered = Memory {
        start_up_seconds: 1e6,
        ..Memory::default()
    };
    let restored = State::restored(&remembered, at(0)).memory();
    assert!((restored.start_up_seconds - 900.0).abs() < 1e-6);
}

#[test]
fn a_restored_state_knows_what_was_learnt_and_lowers_nothing_at_once() {
    // Tasks of 10 s, pods that start in 5 s.
    let seen = |_| {
        let mut s = busy(5, 0);
        s.tasks[0].started = 10;
        s.tasks[0].ended = 10;
        s.started_up = vec![Duration::from_secs(5)];
        s
    };
    let (_, state) = run(&policy(), State::restarted(at(0)), 0, 100, seen, 5);
    let memory = state.memory();
    let (d, restored) = run(&policy(), State::restored(&memory, at(0)), 0, 3, idle, 5);
    assert!(d.iter().all(|d| d.replicas == 5), "{d:?}");
    let again = restored.memory();
    assert!((again.start_up_seconds - 5.0).abs() < 0.1, "{again:?}");
    assert!(
        (again.tasks[0].execution_seconds - 10.0).abs() < 0.5,
        "{again:?}"
    );

    let mut nonsense = memory;
    nonsense.start_up_seconds = f64::NAN;
    nonsense.tasks[0].execution_seconds = -1.0;
    assert_eq!(
        State::restored(&nonsense, at(0)).memory(),
        State::restored(
            &Memory {
                start_up_seconds: 30.0,
                ..nonsense
            },
            at(0)
        )
        .memory(),
    );
}

#[test]
fn an_unreadable_queue_holds_and_later_raises() {
    let (_, state) = run(&policy(), State::restarted(at(0)), 0, 20, |_| busy(5, 0), 5);
    let (d, _) = run(
        &policy(),
        state,
        100,
        12,
        |current| {
            let mut s = busy(current, 0);
            s.tasks[0].queue = None;
            s
        },
        5,
    );
    assert!(d.windows(2).all(|w| w[1].replicas >= w[0].replicas));
    assert_eq!(d[0].reason, Reason::StaleMetrics);
    assert!(
        d.iter()
            .any(|d| d.reason == Reason::RaisedBlind && d.replicas == 8)
    );
}

#[test]
fn at_zero_without_queue_sizes_one_pod_looks_after_a_while() {
    let (d, _) = run(
        &policy(),
        State::restarted(at(0)),
        0,
        10,
        |c| sample(c, None),
        0,
    );
    assert_eq!(d[5].replicas, 0, "not before W/2");
    assert_eq!((d[6].replicas, d[6].reason), (1, Reason::RaisedBlind));
    assert_eq!(d[9].replicas, 1, "and no more than one");
}

#[test]
fn delayed_tasks_start_no_pods_once_a_free_slot_saw_them() {
    let (d, _) = run(
        &policy(),
        State::restarted(at(0)),
        0,
        30,
        |c| {
            let mut s = idle(c);
            s.tasks[0].queue = Some(5000);
            s
        },
        1,
    );
    assert!(d.iter().all(|d| d.replicas == 1), "a pod stays to poll");
}

#[test]
fn limits_are_said() {
    let mut p = policy();
    p.max = 3;
    let (d, _) = decide(&p, State::restarted(at(0)), &sample(0, Some(1000)), at(0));
    assert_eq!((d.replicas, d.reason), (3, Reason::CappedByMaxReplicas));
    let mut p = policy();
    p.tasks[0].exec_limit = Some(8);
    let (d, _) = decide(&p, State::restarted(at(0)), &sample(0, Some(1000)), at(0));
    assert_eq!(d.replicas, 2);
    p.min = 4;
    let (d, _) = decide(&p, State::restarted(at(0)), &sample(0, Some(0)), at(0));
    assert_eq!((d.replicas, d.reason), (4, Reason::AtMinReplicas));
}

#[test]
fn a_type_with_few_slots_a_pod_needs_more_pods() {
    let mut p = policy();
    let (all, _) = decide(&p, State::restarted(at(0)), &sample(0, Some(400)), at(0));
    p.tasks[0].cap = Some(1);
    let (one, _) = decide(&p, State::restarted(at(0)), &sample(0, Some(400)), at(0));
    assert!(
        one.replicas >= 3 * all.replicas,
        "{} {}",
        one.replicas,
        all.replicas
    );
}

#[test]
fn execution_times_are_learnt() {
    // Tasks of 10 s: 20 slots end 2 a second.
    let seen = |queue| {
        let mut s = busy(5, queue);
        s.tasks[0].started = 10;
        s.tasks[0].ended = 10;
        s
    };
    let (_, state) = run(&policy(), State::restarted(at(0)), 0, 60, |_| seen(0), 5);
    let (d, _) = decide(&policy(), state, &seen(360), at(300));
    let s = d.terms.tasks[0].execution_seconds;
    assert!((9.0..11.0).contains(&s), "{s}");
    assert!(
        d.replicas > 25,
        "360 tasks of 10 s in 36 s are 100 slots and more"
    );
}

prop_compose! {
    fn any_task()(
        queue in prop::option::of(prop_oneof![0u64..5000, Just(u64::MAX)]),
        running in 0u32..400, leaving in 0u32..50, idle_slot: bool,
        started in prop_oneof![0u64..1000, Just(u64::MAX)], ended in 0u64..1000,
        executing_seconds in prop_oneof![0.0..2000.0, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)],
        extra in 0.0..500.0, idle_seconds in prop_oneof![0.0..2000.0, Just(f64::NAN)],
    ) -> TaskSample {
        TaskSample {
            queue, running, leaving, idle_slot, idle_seconds, started, ended, executing_seconds,
            occupied_seconds: executing_seconds + extra, ended_seconds: executing_seconds - 1.0,
        }
    }
}

prop_compose! {
    fn any_sample()(
        ready in 0u32..60, starting in 0u32..20, idle_percent in 0u32..=100,
        oldest in 0u64..600, ups in prop::collection::vec(0u64..100, 0..3),
        stats_complete: bool, server_away in prop::bool::weighted(0.1),
        tasks in prop::collection::vec(any_task(), 0..3),
    ) -> Sample {
        Sample {
            current: 0,
            ready, starting,
            idle: ready * idle_percent / 100,
            oldest_starting: Duration::from_secs(oldest),
            started_up: ups.into_iter().map(Duration::from_secs).collect(),
            stats_complete, server_away, tasks,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_seen(
        samples in prop::collection::vec((any_sample(), 0u64..30), 1..40),
        min in 0u32..5, max in 0u32..60, slots in 0u32..10,
    ) {
        let policy = Policy {
            min, max, slots,
            tasks: vec![
                TaskPolicy::default(),
                TaskPolicy {
                    cap: Some(1),
                    exec_limit: Some(20),
                    rate_limit: Some(RateLimit { count: 10, window: Duration::ZERO }),
                },
            ],
            ..policy()
        };
        let (mut state, mut now, mut current) = (State::restarted(at(0)), 0, 0);
        for (mut sample, pause) in samples {
            now += pause;
            sample.current = current;
            let (d, next) = decide(&policy, state.clone(), &sample, at(now));
            let (again, _) = decide(&policy, state, &sample, at(now));
            prop_assert_eq!(&d.replicas, &again.replicas, "the same inputs, the same decision");
            let known = sample.stats_complete
                && (0..2).all(|i| sample.tasks.get(i).is_some_and(|t| t.queue.is_some()));
            prop_assert!(known || d.replicas >= current, "lowered blindly: {d:?}");
            prop_assert!(d.replicas <= max.max(current), "above max: {d:?}");
            if d.replicas > current {
                prop_assert!(d.replicas <= max);
            }
            if !sample.server_away || sample.ready == 0 {
                prop_assert!(d.replicas >= min.min(max), "below min: {d:?}");
            }
            prop_assert!(d.terms.want.is_finite());
            prop_assert!(!d.message().is_empty());
            current = d.replicas;
            state = next;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers of tasks"
    )]
    /// A pool that is neither full nor empty, with the same numbers at each tick.
    #[test]
    fn nothing_changes_when_nothing_changes(
        pods in 1u32..40, slots in 1u32..10, share in 0.05..1.0f64, execution in 0.05..300.0f64,
        ticks in 200u64..300,
    ) {
        let policy = Policy { slots, ..policy() };
        let running = (f64::from(pods * slots) * share).ceil();
        let tasks = (running * 5.0 / execution).round();
        let seen = |current: u32| {
            let mut s = sample(current, Some(0));
            s.tasks[0] = TaskSample {
                queue: Some(0),
                running: running as u32,
                idle_slot: running < f64::from(current * slots),
                started: tasks as u64,
                ended: tasks as u64,
                executing_seconds: running * 5.0,
                occupied_seconds: running * 5.0,
                ..TaskSample::default()
            };
            s
        };
        let (d, _) = run(&policy, State::restarted(at(0)), 0, ticks, seen, pods);
        let settled = &d[100..];
        prop_assert!(settled.iter().all(|x| x.replicas == settled[0].replicas), "{d:?}");
        prop_assert!(f64::from(settled[0].replicas * slots) >= running, "{d:?}");
    }

    #[test]
    fn time_may_stand_still_or_go_back(
        samples in prop::collection::vec((any_sample(), 0u64..1000), 1..30),
    ) {
        let mut state = State::restarted(at(500));
        for (sample, when) in samples {
            let (d, next) = decide(&policy(), state, &sample, at(when));
            prop_assert!(d.terms.want.is_finite() && d.replicas <= 50, "{d:?}");
            let memory = next.memory();
            prop_assert!(memory.start_up_seconds.is_finite());
            prop_assert!(memory.tasks.iter().all(|t| t.execution_seconds.is_finite()));
            state = State::restored(&memory, at(when));
            state = decide(&policy(), state, &sample, at(when)).1;
        }
    }

    #[test]
    fn more_backlog_never_means_fewer_pods(
        ticks in 0u64..30, current in 0u32..20, a in 0u64..10_000, b in 0u64..10_000,
    ) {
        let (_, state) = run(&policy(), State::restarted(at(0)), 0, ticks, |_| busy(current, 10), current);
        let (less, more) = (a.min(b), a.max(b));
        let when = at(ticks * TICK);
        let (few, _) = decide(&policy(), state.clone(), &busy(current, less), when);
        let (many, _) = decide(&policy(), state, &busy(current, more), when);
        prop_assert!(few.replicas <= many.replicas);
    }
}
