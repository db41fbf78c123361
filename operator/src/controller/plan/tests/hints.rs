//! What keeps node autoscalers away from pods.

use super::*;
use crate::LONG_TASK_HINTS;

const SAFE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const DISRUPT: &str = "karpenter.sh/do-not-disrupt";

/// Two pods whose tasks are left 90 s.
fn world() -> World {
    World::running(
        2,
        json!({
            "scaling": {"mode": "External"}, "replicas": 2,
            "template": {"spec": {"terminationGracePeriodSeconds": 100}},
        }),
    )
}

/// A round in which the first pod's only task has run so long; none: it has none.
fn round(world: &mut World, oldest: Option<u64>) -> Plan {
    world.read(0, &[u32::from(oldest.is_some()), 0]);
    let round = world.observed.round.as_mut().unwrap();
    let reading = round.pods.get_mut("uid-0").unwrap();
    let task = reading.tasks.get_mut(&queue()).unwrap();
    task.oldest = oldest.map(Duration::from_secs);
    world.plan()
}

fn step(world: &mut World, oldest: Option<u64>) -> Plan {
    let plan = round(world, oldest);
    world.apply(plan.clone());
    plan
}

fn written(plan: &Plan) -> Vec<(&str, Option<&str>)> {
    assert!(plan.hints.iter().all(|hint| hint.pod == "pod-0"));
    let annotations = plan.hints.iter().flat_map(|hint| &hint.annotations);
    annotations
        .map(|(name, value)| (&**name, value.as_deref()))
        .collect()
}

fn on() -> Vec<(&'static str, Option<&'static str>)> {
    let ours = "cluster-autoscaler.kubernetes.io/safe-to-evict,karpenter.sh/do-not-disrupt";
    vec![
        (SAFE, Some("false")),
        (LONG_TASK_HINTS, Some(ours)),
        (DISRUPT, Some("true")),
    ]
}

fn off() -> Vec<(&'static str, Option<&'static str>)> {
    vec![(SAFE, None), (LONG_TASK_HINTS, None), (DISRUPT, None)]
}

#[test]
fn they_are_there_while_a_task_runs_that_takes_longer_than_the_grace_period_leaves() {
    let mut world = world();
    for oldest in [None, Some(1), Some(90)] {
        assert_eq!(written(&step(&mut world, oldest)), [], "{oldest:?}");
    }
    // Once, for the pod that has it, and for no other.
    assert_eq!(written(&step(&mut world, Some(91))), on());
    for _ in 0..5 {
        assert_eq!(written(&step(&mut world, Some(100))), []);
    }
    // Once it is over, they stay for a minute, and go once.
    for _ in 0..12 {
        assert_eq!(written(&step(&mut world, None)), []);
    }
    assert_eq!(written(&step(&mut world, None)), off());
    for _ in 0..5 {
        assert_eq!(written(&step(&mut world, None)), []);
    }
    assert!(world.pod("pod-0").hints.there.is_empty());
}

#[test]
fn a_task_that_has_just_begun_counts_where_others_of_its_queue_took_long() {
    let mut world = world();
    step(&mut world, Some(95));
    for _ in 0..20 {
        step(&mut world, None);
    }
    assert!(world.pod("pod-0").hints.own.is_empty());
    assert_eq!(written(&step(&mut world, Some(1))), on());
    // Until that is forgotten.
    world.seconds += 2_000;
    for _ in 0..14 {
        step(&mut world, Some(1));
    }
    assert!(world.pod("pod-0").hints.own.is_empty());
}

#[test]
fn tasks_that_come_and_go_are_not_written_for_one_by_one() {
    let mut world = world();
    step(&mut world, Some(91));
    for i in 0..50 {
        let oldest = (i % 2 == 0).then_some(1);
        assert_eq!(written(&step(&mut world, oldest)), []);
    }
}

#[test]
fn what_the_user_wrote_is_never_touched() {
    let mut world = world();
    let theirs = (SAFE.to_owned(), "true".to_owned());
    world.pod("pod-0").hints.there = [theirs.clone()].into();
    let plan = step(&mut world, Some(91));
    let ours = vec![(LONG_TASK_HINTS, Some(DISRUPT)), (DISRUPT, Some("true"))];
    assert_eq!(written(&plan), ours);
    // Nor is what they make of ours.
    let hints = &mut world.pod("pod-0").hints;
    hints.there.insert(DISRUPT.to_owned(), "false".to_owned());
    for _ in 0..12 {
        assert_eq!(written(&step(&mut world, None)), []);
    }
    let plan = step(&mut world, None);
    assert_eq!(written(&plan), [(LONG_TASK_HINTS, None)]);
    assert_eq!(world.pod("pod-0").hints.there[SAFE], "true");

    // Both are theirs: nothing is written.
    let mut world = self::world();
    let both = [theirs, (DISRUPT.to_owned(), "true".to_owned())];
    world.pod("pod-0").hints.there = both.into();
    assert_eq!(written(&step(&mut world, Some(91))), []);
}

#[test]
fn what_is_not_known_changes_nothing() {
    for is_on in [false, true] {
        let oldest = if is_on { None } else { Some(91) };
        let changes: [&dyn Fn(&mut World); 4] = [
            &|w| w.observed.round = None,
            &|w| {
                w.observed.round.as_mut().unwrap().pods.clear();
            },
            &|w| {
                let round = w.observed.round.as_mut().unwrap();
                round.pods.get_mut("uid-0").unwrap().earlier = true;
            },
            &|w| {
                let at = Instant::at(Duration::from_secs(w.seconds - 100));
                let round = w.observed.round.as_mut().unwrap();
                round.pods.get_mut("uid-0").unwrap().at = at;
            },
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut world = world();
            if is_on {
                step(&mut world, Some(91));
            }
            for _ in 0..20 {
                round(&mut world, oldest);
                change(&mut world);
                let plan = world.plan();
                assert_eq!(written(&plan), [], "{is_on} {i}");
                world.apply(plan);
            }
        }
    }
}

#[test]
fn another_operator_takes_away_what_one_before_it_wrote() {
    let mut world = world();
    step(&mut world, Some(91));
    world.observed.memory = Memory::default();
    assert_eq!(written(&step(&mut world, Some(92))), []);
    world.observed.memory = Memory::default();
    for _ in 0..12 {
        assert_eq!(written(&step(&mut world, None)), []);
    }
    assert_eq!(written(&step(&mut world, None)), off());
}

#[test]
fn a_pod_that_is_being_deleted_is_left_alone_and_what_is_refused_is_sent_once_a_minute() {
    let mut world = world();
    world.pod("pod-0").terminating = true;
    assert_eq!(written(&step(&mut world, Some(91))), []);
    world.pod("pod-0").terminating = false;

    let mut sent = 0;
    for _ in 0..24 {
        let plan = round(&mut world, Some(91));
        sent += plan.hints.len();
        let mut memory = plan.memory;
        for hint in plan.hints {
            let at = world.now().clock;
            let (on, refused) = (false, true);
            let refused = SentHint { on, refused, at };
            memory.hinting.sent.insert(hint.uid, refused);
        }
        world.observed.memory = memory;
    }
    assert_eq!(sent, 2, "in two minutes");
}
