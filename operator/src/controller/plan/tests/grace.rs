//! Tasks that take longer than pods are given to end.

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn grace(seconds: u64) -> Value {
    json!({"template": {"spec": {"terminationGracePeriodSeconds": seconds}}})
}

/// A round in which the first pod's oldest task has run so long, and the second's took so long.
fn measure(world: &mut World, oldest: Option<u64>, p95: Option<u64>) -> Plan {
    world.read(0, &[1, 1]);
    let round = world.observed.round.as_mut().unwrap();
    let mut task = |uid: &str| {
        *round
            .pods
            .get_mut(uid)
            .unwrap()
            .tasks
            .get(&queue())
            .unwrap()
    };
    let (mut first, mut second) = (task("uid-0"), task("uid-1"));
    first.oldest = oldest.map(seconds);
    second.p95 = p95.map(seconds);
    for (uid, task) in [("uid-0", first), ("uid-1", second)] {
        let reading = round.pods.get_mut(uid).unwrap();
        reading.tasks = [(queue(), task)].into();
    }
    let plan = world.plan();
    world.apply(plan.clone());
    plan
}

fn said(plan: &Plan) -> Option<&str> {
    let mut conditions = plan.status.conditions.iter();
    let found = conditions.find(|c| c.type_ == "GraceTooShort")?;
    assert_eq!((&*found.status, &*found.reason), ("True", "GraceTooShort"));
    Some(&found.message)
}

#[test]
fn tasks_that_take_longer_than_the_grace_period_leaves_are_told() {
    for (grace_period, oldest, p95, too_short) in [
        (100, None, None, false),
        (100, Some(90), Some(90), false),
        (100, Some(91), None, true),
        (100, None, Some(91), true),
        (100, Some(200), Some(1), true),
        // Of a short one the last third is kept.
        (18, Some(12), None, false),
        (18, Some(13), None, true),
    ] {
        let mut world = World::running(2, grace(grace_period));
        let plan = measure(&mut world, oldest, p95);
        let case = format!("{grace_period} {oldest:?} {p95:?}");
        assert_eq!(said(&plan).is_some(), too_short, "{case}");
        let warned = told(&plan).contains(&(true, "GraceTooShort"));
        assert_eq!(warned, too_short, "{case}");
        // Neither a pod nor its template is changed for it.
        assert_eq!(todo(&plan), (0, 0, None), "{case}");
        let plan = measure(&mut world, oldest, p95);
        assert_eq!(told(&plan), [], "{case}");
    }
}

#[test]
fn it_is_said_by_how_much_and_what_to_write() {
    let mut world = World::running(2, grace(100));
    let plan = measure(&mut world, Some(95), None);
    assert_eq!(
        said(&plan).unwrap(),
        "tasks of greet have taken 95 s, 5 s longer than the 90 s that a grace period of 100 s leaves them: \
         when their pod goes they are handed back and begun again; \
         write template.spec.terminationGracePeriodSeconds: 180, which replaces the pods"
    );
    // No call takes longer than its timeout: no more than that need be left.
    let mut patch = grace(100);
    merge(
        &mut patch,
        json!({"tasks": [{"name": "greet", "timeout": "2m"}]}),
    );
    let mut world = World::running(2, patch);
    let plan = measure(&mut world, Some(95), None);
    let message = said(&plan).unwrap();
    assert!(message.contains("Seconds: 150, which"), "{message}");
    // What is written is enough for what was measured.
    world.edit(grace(150));
    let plan = measure(&mut world, Some(95), None);
    assert_eq!(said(&plan), None);
}

#[test]
fn it_is_said_until_nothing_has_taken_so_long_for_half_an_hour() {
    let mut world = World::running(2, grace(100));
    measure(&mut world, Some(95), None);
    for (later, still) in [(60, true), (1_700, true), (60, false), (60, false)] {
        world.seconds += later;
        let plan = measure(&mut world, Some(1), Some(1));
        assert_eq!(said(&plan).is_some(), still, "{later} s later");
    }
    // It goes on being measured.
    assert!(said(&measure(&mut world, Some(95), None)).is_some());
}

#[test]
fn another_operator_goes_on_saying_it_for_as_long() {
    let mut world = World::running(2, grace(100));
    measure(&mut world, Some(95), None);
    world.observed.memory = Memory::default();
    assert!(said(&world.plan()).is_some(), "before the first round");
    let plan = measure(&mut world, Some(1), Some(1));
    assert!(said(&plan).is_some());
    assert_eq!(told(&plan), [], "it was told before");
    for (later, still) in [(60, true), (1_700, true), (60, false)] {
        world.seconds += later;
        let plan = measure(&mut world, Some(1), Some(1));
        assert_eq!(said(&plan).is_some(), still, "{later} s later");
    }
}

#[test]
fn of_another_spec_nothing_is_said_that_was_not_measured() {
    let mut world = World::running(2, grace(100));
    measure(&mut world, Some(95), None);
    world.observed.memory = Memory::default();
    world.edit(grace(600));
    measure(&mut world, Some(95), None);
    assert_eq!(said(&world.plan()), None);
}
