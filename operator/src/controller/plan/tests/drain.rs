//! Fewer pods, and none of them at work.

use super::*;
use crate::{controller::observed::Leaving, worker::Scale};

const NONE: [&str; 0] = [];

fn released(plan: &Plan) -> Vec<&str> {
    let marks = plan.marks.iter().filter(|mark| mark.since.is_none());
    let mut released: Vec<&str> = marks.map(|mark| mark.pod.as_str()).collect();
    released.sort_unstable();
    let told = |pod: &&str| {
        let mut orders = plan.orders.iter();
        orders.any(|o| o.pod == **pod && o.action == Action::Uncordon)
    };
    assert!(released.iter().all(told), "{:?}", plan.orders);
    released
}

impl World {
    fn names(&self) -> Vec<&str> {
        self.observed.pods.iter().map(|p| p.name.as_str()).collect()
    }

    /// Plans and carries out, as often as there is something to do, and the Deployment's
    /// controller with it.
    fn go_on(&mut self) {
        for _ in 0..20 {
            let plan = self.plan();
            if plan.is_empty() {
                return;
            }
            self.apply(plan);
            self.catch_up();
        }
        panic!("no end: {:#?}", self.plan());
    }
}

#[test]
fn idle_pods_take_no_more_tasks_and_then_go() {
    for (waiting, in_work, victims, left) in [
        // The youngest go.
        (1, [0, 0, 0, 0], &["pod-1", "pod-2", "pod-3"][..], 1),
        (0, [0, 1, 0, 0], &["pod-0", "pod-2", "pod-3"], 1),
        (0, [0, 0, 0, 0], &["pod-0", "pod-1", "pod-2", "pod-3"], 0),
    ] {
        let mut world = World::running(4, json!({}));
        let plan = world.lull(waiting, &in_work);
        assert_eq!((marked(&plan), asked(&plan)), (victims.to_vec(), None));
        assert_eq!(told(&plan), [(false, "Scaled"), (false, "Cordoned")]);
        let counts = |plan: &Plan| (plan.status.replicas, plan.status.draining);
        assert_eq!(counts(&plan), (left, 4 - left));
        // Nothing of it is seen yet.
        let mut unseen = world.clone();
        unseen.apply(plan.clone());
        unseen.observed.pods.clone_from(&world.observed.pods);
        assert_eq!(todo(&unseen.plan()), (0, 0, None));
        assert_eq!(told(&unseen.plan()), []);

        world.apply(plan);
        let plan = world.plan();
        assert_eq!((marked(&plan), asked(&plan)), (Vec::new(), Some(left)));
        assert_eq!(told(&plan), [(false, "Drained")]);
        assert_eq!(plan.counts.taken, vec![Because::Idle; victims.len()]);
        world.apply(plan);
        // They are there until Kubernetes has taken them.
        let plan = world.plan();
        assert_eq!(
            (todo(&plan), counts(&plan)),
            ((0, 0, None), (left, 4 - left))
        );
        world.catch_up();
        assert!(victims.iter().all(|v| !world.names().contains(v)));
        world.go_on();
        assert_eq!(counts(&world.plan()), (left, 0));
    }
}

#[test]
fn busy_pods_end_what_they_have_first() {
    let mut world = World::running(3, json!({}));
    let plan = world.lull(0, &[1, 2, 1]);
    assert_eq!(
        (marked(&plan), asked(&plan)),
        (vec!["pod-0", "pod-2"], None)
    );
    assert_eq!(decided(&plan), (1, "HeldByBusyPods"));
    world.apply(plan);
    for _ in 0..50 {
        let plan = world.tick(0, &[1, 2, 1]);
        assert_eq!(
            (plan.marks.len(), plan.orders.len(), asked(&plan)),
            (0, 2, None),
            "renewed"
        );
        assert_eq!(told(&plan), []);
        world.apply(plan);
    }
    world.ends("pod-2");
    let plan = world.plan();
    assert_eq!(asked(&plan), None, "it must say once more that it is idle");
    assert_eq!(plan.orders.len(), 1);
    world.apply(plan);
    // The other works, and may look unready too: this one must go before it.
    let plan = world.plan();
    assert_eq!((marks(&plan), asked(&plan)), (vec![("pod-2", -200)], None));
    world.apply(plan);
    let plan = world.plan();
    assert_eq!((asked(&plan), told(&plan)), (Some(2), Vec::new()));
    world.apply(plan);
    world.catch_up();
    assert_eq!(world.names(), ["pod-0", "pod-1"]);
    world.ends("pod-0");
    world.go_on();
    assert_eq!(world.names(), ["pod-1"]);
}

#[test]
fn a_pod_that_was_cordoned_a_moment_ago_may_be_unready_for_another_reason() {
    // It started, or was busy, and may look ready once more before the kubelet asks it again.
    let mut world = World::running(2, external(1));
    world.pod("pod-1").ready_since = None;
    let plan = world.tick(0, &[1, 0]);
    assert_eq!(marked(&plan), ["pod-1"]);
    world.apply(plan);
    let since = world.seconds;
    let told = world.observed.told.get_mut("uid-1").unwrap();
    told.done_since = Some(Instant::at(Duration::from_secs(since)));
    while world.seconds < since + super::super::drain::SHOWN.as_secs() {
        assert_eq!(asked(&world.plan()), None);
        world.seconds += 1;
    }
    assert_eq!(asked(&world.plan()), Some(1));
}

#[test]
fn a_cordon_is_renewed_until_the_pod_is_gone() {
    for tick in [1, 5, 300] {
        let mut world = World::running(2, external(1));
        world.observed.tick = Duration::from_secs(tick);
        world.tick(0, &[0, 1]);
        world.settle();
        let cordoned_for = |world: &World| {
            let told = world.observed.told.get("uid-0");
            told.map(|told| world.now().clock.seconds_since(told.at))
        };
        assert_eq!(cordoned_for(&world), Some(0.0));
        // Replicas are lowered, but Kubernetes takes its time.
        assert_eq!(world.live().wanted, 1);
        for _ in 0..100 {
            let plan = world.plan();
            let requeue = plan.requeue.unwrap().as_secs();
            world.apply(plan);
            assert!(cordoned_for(&world).unwrap() < 15.0);
            world.seconds += requeue;
        }
        assert_eq!(world.live().wanted, 1);
    }
}

#[test]
fn while_nothing_can_be_read_from_the_api_server_cordons_end_by_themselves() {
    let mut world = World::running(3, external(3));
    world.edit(external(2));
    let plan = world.tick(0, &[1, 1, 1]);
    assert_eq!(marked(&plan), ["pod-2"]);
    world.apply(plan);
    let since = world.now().clock;
    world.observed.unread_since = Some(since);
    let cordons = |plan: &Plan| {
        let orders = plan.orders.iter();
        orders.filter(|o| o.action == Action::Cordon).count()
    };
    let mut last = since;
    for _ in 0..60 {
        let plan = world.tick(0, &[1, 1, 1]);
        if cordons(&plan) > 0 {
            last = world.now().clock;
        }
        world.apply(plan);
    }
    // Then it takes as long as a cordon does.
    let told_for = last.seconds_since(since);
    assert!((20.0..30.0).contains(&told_for), "{told_for} s");
    // Pods that are to take tasks again are told so also then.
    let mut back = world.clone();
    back.edit(external(3));
    let plan = back.tick(0, &[1, 1, 1]);
    assert_eq!(released(&plan), ["pod-2"]);

    world.observed.unread_since = None;
    assert_eq!(cordons(&world.tick(0, &[1, 1, 1])), 1);
}

#[test]
fn when_load_returns_those_with_most_tasks_come_back_at_once() {
    let mut world = World::running(4, external(1));
    let plan = world.tick(0, &[3, 1, 2, 2]);
    assert_eq!(marked(&plan), ["pod-1", "pod-2", "pod-3"]);
    world.apply(plan);
    world.edit(external(2));
    let plan = world.plan();
    assert_eq!((released(&plan), asked(&plan)), (vec!["pod-2"], None));
    assert_eq!(told(&plan), [(false, "Scaled"), (false, "Uncordoned")]);
    world.apply(plan);
    assert!(world.plan().is_empty());

    // More than those that come back: new pods besides.
    world.edit(external(6));
    let plan = world.plan();
    assert_eq!(
        (released(&plan), asked(&plan)),
        (vec!["pod-1", "pod-3"], Some(6))
    );
    world.apply(plan);
    world.catch_up();
    assert_eq!(world.names().len(), 6);
    world.go_on();
    assert!(
        world
            .observed
            .pods
            .iter()
            .all(|pod| pod.mark.since.is_none())
    );
}

#[test]
fn a_pod_that_is_being_removed_does_not_come_back() {
    let mut world = World::running(3, external(2));
    world.tick(0, &[1, 0, 1]);
    world.settle();
    assert_eq!(world.live().wanted, 2);
    world.edit(external(3));
    let plan = world.plan();
    // It may still be spared, so that it is told to take tasks again once that is certain.
    assert_eq!((released(&plan), asked(&plan)), (vec![], Some(3)));
    world.apply(plan);
    world.go_on();
    assert_eq!(world.names(), ["pod-0", "pod-1", "pod-2"]);
    assert!(
        world
            .observed
            .pods
            .iter()
            .all(|pod| pod.mark.since.is_none())
    );
}

#[test]
fn a_restart_of_the_operator_goes_on_or_undoes_it() {
    for (wanted, back) in [(1, &NONE[..]), (3, &["pod-0", "pod-2"])] {
        let mut world = World::running(3, external(1));
        let plan = world.tick(0, &[1, 2, 1]);
        world.apply(plan);
        let since = world.pod("pod-0").mark.since;
        assert!(since.is_some());

        world.observed.memory = Memory::default();
        world.observed.told.clear();
        world.observed.key_of_cordons = "another".to_owned();
        world.seconds += 7;
        world.edit(external(wanted));
        let plan = world.plan();
        assert_eq!(released(&plan), back);
        let keys: Vec<&str> = plan.marks.iter().map(|mark| &*mark.key).collect();
        assert_eq!(keys, ["another", "another"]);
        let actions: Vec<Action> = plan.orders.iter().map(|order| order.action).collect();
        let action = if wanted == 1 {
            Action::Cordon
        } else {
            Action::Uncordon
        };
        assert_eq!(actions, [action, action]);
        world.apply(plan);
        let expected = since.filter(|_| wanted == 1);
        assert_eq!(world.pod("pod-0").mark.since, expected);
        for pod in ["pod-0", "pod-2"] {
            world.ends(pod);
        }
        world.seconds += TICK;
        world.go_on();
        assert_eq!(world.names().len(), usize::try_from(wanted).unwrap());
    }
}

#[test]
fn a_pod_that_says_it_is_cordoned_and_is_not_to_go_is_told_so() {
    let mut world = World::running(2, external(2));
    world.read(0, &[1, 1]);
    let round = world.observed.round.as_mut().unwrap();
    round.pods.get_mut("uid-1").unwrap().cordoned = true;
    let plan = world.plan();
    let orders: Vec<_> = plan.orders.iter().map(|o| (&*o.pod, o.action)).collect();
    assert_eq!(orders, [("pod-1", Action::Uncordon)]);
    world.apply(plan);
    assert!(world.plan().is_empty());
}

#[test]
fn a_pod_that_cannot_be_cordoned_goes_when_it_is_idle() {
    // What it answers, and after how many ticks that is taken for its last word.
    for (untold, patience) in [(Untold::Unable, 0), (Untold::Failed, 5), (Untold::NoKey, 5)] {
        let mut world = World::running(2, external(1));
        world.untold = Some(untold);
        let plan = world.tick(0, &[1, 0]);
        assert_eq!(marked(&plan), ["pod-1"]);
        world.apply(plan);
        for tick in 0..patience {
            let plan = world.tick(0, &[1, 0]);
            assert_eq!(asked(&plan), None, "{untold:?} {tick}");
            world.apply(plan);
        }
        // It works again, and another pod is idle by now.
        let plan = world.tick(0, &[0, 1]);
        assert_eq!((asked(&plan), marked(&plan)), (None, vec!["pod-0"]));
        world.apply(plan);
        for _ in 0..patience {
            let plan = world.tick(0, &[0, 1]);
            world.apply(plan);
        }
        let mut plan = world.tick(0, &[0, 1]);
        if untold != Untold::Unable {
            // It may be one that can be told by now.
            assert_eq!(asked(&plan), None, "{untold:?}");
            world.apply(plan);
            let mut reached = world.clone();
            reached.untold = None;
            reached.seconds += TICK;
            let answered = reached.plan();
            assert_eq!(answered.orders.len(), 1);
            reached.apply(answered);
            let taken = reached.plan().counts.taken;
            assert!(!taken.contains(&Because::Unable), "{untold:?}");
            plan = world.plan();
        }
        assert_eq!(asked(&plan), Some(1), "{untold:?}");
        assert_eq!(plan.counts.taken, [Because::Unable]);
        world.apply(plan);
        world.catch_up();
        assert_eq!(world.names(), ["pod-1"]);
    }
}

#[test]
fn that_a_pod_could_not_be_told_long_ago_says_nothing() {
    let mut world = World::running(1, external(0));
    world.untold = Some(Untold::Failed);
    for _ in 0..9 {
        let plan = world.tick(0, &[1]);
        world.apply(plan);
    }
    // It comes back, which it is not told either, and is to go once more.
    world.edit(external(1));
    let plan = world.tick(0, &[1]);
    assert_eq!(released(&plan), ["pod-0"]);
    world.apply(plan);
    world.seconds += 60;
    world.untold = None;
    world.edit(external(0));
    let plan = world.tick(0, &[0]);
    assert_eq!((marked(&plan), asked(&plan)), (vec!["pod-0"], None));
    world.apply(plan);
    let plan = world.plan();
    assert_eq!(
        (asked(&plan), &*plan.counts.taken),
        (Some(0), &[Because::Idle][..])
    );
}

#[test]
fn a_pod_that_cannot_be_cordoned_is_not_taken_where_one_at_work_would_go_first() {
    let mut world = World::running(3, external(2));
    world.untold = Some(Untold::Unable);
    world.pod("pod-1").ready_since = None;
    for _ in 0..9 {
        let plan = world.tick(0, &[1, 1, 0]);
        assert_eq!(asked(&plan), None);
        world.apply(plan);
    }
    world.pod("pod-1").ready_since = Some(Timestamp::UNIX_EPOCH);
    let plan = world.tick(0, &[1, 1, 0]);
    assert_eq!(asked(&plan), Some(2));
}

#[test]
fn pods_that_never_worked_go_at_once_and_in_place_of_others() {
    let mut world = World::running(4, external(3));
    let starts = |world: &mut World, name: &str| {
        let pod = world.pod(name);
        (pod.ready_since, pod.sidecar, pod.pending) = (None, SidecarState::Unstarted, true);
    };
    starts(&mut world, "pod-2");
    let plan = world.tick(0, &[1, 1, 0, 0]);
    assert_eq!(
        (todo(&plan), &*plan.counts.taken),
        ((0, 0, Some(3)), &[Because::Unstarted][..])
    );

    // Of two that start, one: it is marked first, since they are alike.
    let mut both = world.clone();
    starts(&mut both, "pod-3");
    both.read(0, &[1, 1, 0, 0]);
    let plan = both.plan();
    assert_eq!((marks(&plan), asked(&plan)), (vec![("pod-3", -200)], None));
    both.apply(plan);
    assert_eq!(asked(&both.plan()), Some(3));

    // A pod that was to go is deleted by someone, and Kubernetes makes another.
    let mut world = World::running(3, external(1));
    let plan = world.tick(0, &[2, 1, 1]);
    assert_eq!(marked(&plan), ["pod-1", "pod-2"]);
    world.apply(plan);
    let made = world.pod("pod-0");
    (made.name, made.uid) = ("pod-9".to_owned(), "uid-9".to_owned());
    starts(&mut world, "pod-9");
    let plan = world.plan();
    assert_eq!(released(&plan), ["pod-1"]);
    assert_eq!(
        asked(&plan),
        Some(2),
        "the one that starts goes in its place"
    );
    world.apply(plan);
    world.catch_up();
    assert_eq!(world.names(), ["pod-1", "pod-2"]);
    assert!(world.plan().marks.is_empty());
}

fn marks(plan: &Plan) -> Vec<(&str, i32)> {
    plan.marks
        .iter()
        .map(|mark| (&*mark.pod, mark.cost))
        .collect()
}

#[test]
fn an_unready_pod_is_idle_only_when_it_is_known_to_be() {
    use SidecarState::{Down, Running, Unstarted};
    // How old its last reading is, how many tasks it had then, what its sidecar does, and what is
    // left at once.
    for (age, tasks, sidecar, left) in [
        (Some(TICK), 1, Running, None),
        (Some(3 * TICK), 1, Down, None),
        (Some(3 * TICK + 1), 1, Running, None),
        // It may have results on its disk, and comes back.
        (Some(3 * TICK + 1), 1, Down, None),
        (Some(600), 1, Down, None),
        (Some(601), 1, Down, Some(2)),
        (Some(3 * TICK + 1), 0, Down, Some(2)),
        (Some(3 * TICK + 1), 1, Unstarted, Some(2)),
        (None, 1, Running, None),
        (None, 1, Down, Some(2)),
        (None, 1, Unstarted, Some(2)),
    ] {
        let mut world = World::running(3, external(2));
        world.seconds += 600;
        world.tick(0, &[1, 1, tasks]);
        world.observed.memory = world.plan().memory;
        let pod = world.pod("pod-2");
        (pod.ready_since, pod.sidecar) = (None, sidecar);
        let at = age.map(|age| Instant::at(Duration::from_secs(world.seconds - age)));
        let round = world.observed.memory.round.as_mut().unwrap();
        match at {
            Some(at) => round.pods.get_mut("uid-2").unwrap().at = at,
            None => drop(round.pods.remove("uid-2")),
        }
        world.observed.round = None;
        // It must be told apart from those that work first.
        let plan = world.plan();
        world.apply(plan);
        assert_eq!(asked(&world.plan()), left, "{age:?}, {tasks}, {sidecar:?}");
    }
}

#[test]
fn nothing_is_taken_while_a_rollout_is_incomplete() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 3] = [
        ("old pods are there", |w| w.live().updated = 2),
        ("not taken up", |w| w.live().observed_generation = 0),
        ("not sent", |w| w.edit(json!({"concurrency": 3}))),
    ];
    for (case, change) in cases {
        let mut world = World::running(4, json!({}));
        let plan = world.lull(0, &[1, 0, 0, 0]);
        assert_eq!(plan.marks.len(), 3, "{case}");
        let mut begun = world.clone();
        begun.apply(plan);
        change(&mut world);
        let plan = world.plan();
        assert_eq!(decided(&plan), (1, "HeldByRollout"), "{case}");
        let sent = (case == "not sent").then_some(4);
        assert_eq!(todo(&plan), (0, 0, sent), "{case}");

        // It begins while pods drain: they come back, for the new ones must get ready.
        change(&mut begun);
        let plan = begun.plan();
        if case == "not taken up" {
            assert_eq!(todo(&plan), (0, 0, None), "{case}");
        } else {
            assert_eq!((released(&plan).len(), asked(&plan)), (3, sent), "{case}");
            assert_eq!(plan.status.draining, 0, "{case}");
        }
    }
}

#[test]
fn all_pods_go_at_once_or_none_while_a_rollout_is_incomplete() {
    let mut world = World::running(3, json!({}));
    world.tick(0, &[0, 1, 0]);
    world.edit(json!({"suspend": true}));
    world.live().updated = 1;
    let plan = world.plan();
    assert_eq!((marked(&plan).len(), asked(&plan)), (3, None));
    world.apply(plan);
    assert_eq!(asked(&world.plan()), None, "one works");
    world.ends("pod-1");
    let plan = world.tick(0, &[]);
    world.apply(plan);
    assert_eq!(asked(&world.plan()), Some(0));
}

#[test]
fn a_pod_that_takes_longer_than_is_allowed_goes_as_it_is() {
    let with = |patch: Value| {
        let mut wanted = external(1);
        merge(&mut wanted, json!({"scaling": patch}));
        wanted
    };
    let mut world = World::running(3, with(json!({"maxDrain": "1m"})));
    let plan = world.tick(0, &[2, 1, 1]);
    assert_eq!(marked(&plan), ["pod-1", "pod-2"]);
    world.apply(plan);
    for tick in 1..=12 {
        world.read(0, &[2, 1, 1]);
        // One is not heard of: that is no reason to wait longer.
        world.untold = Some(Untold::Failed);
        world.observed.round.as_mut().unwrap().pods.remove("uid-2");
        // Another process of the operator's goes on counting.
        if tick == 5 {
            world.observed.memory.leaving = Leaving::default();
        }
        let plan = world.plan();
        if tick < 12 {
            assert_eq!(asked(&plan), None, "{tick}");
            world.apply(plan);
            continue;
        }
        assert_eq!(asked(&plan), Some(1));
        assert_eq!(plan.counts.taken, [Because::Overdue; 2]);
        assert!(told(&plan).contains(&(true, "DrainOverdue")));
        world.apply(plan);
    }
    world.catch_up();
    assert_eq!(world.names(), ["pod-0"]);

    // Without it, a pod is waited for as long as it takes.
    let mut world = World::running(2, with(json!({})));
    for _ in 0..1000 {
        let plan = world.tick(0, &[1, 1]);
        assert_eq!(asked(&plan), None);
        world.apply(plan);
    }
}

#[test]
fn an_overdue_pod_goes_before_one_that_is_not() {
    let mut patch = external(2);
    merge(&mut patch, json!({"scaling": {"maxDrain": "1m"}}));
    let mut world = World::running(3, patch.clone());
    let plan = world.tick(0, &[1, 2, 2]);
    assert_eq!(marked(&plan), ["pod-0"]);
    world.apply(plan);
    for _ in 0..6 {
        let plan = world.tick(0, &[1, 2, 2]);
        world.apply(plan);
    }
    patch["replicas"] = json!(1);
    world.edit(patch);
    let plan = world.tick(0, &[1, 2, 2]);
    assert_eq!(marked(&plan), ["pod-2"]);
    world.apply(plan);
    for _ in 0..4 {
        let plan = world.tick(0, &[1, 2, 2]);
        assert_eq!(marks(&plan), []);
        world.apply(plan);
    }
    // Both are ready and cost the same: it is told apart first.
    let plan = world.tick(0, &[1, 2, 2]);
    assert_eq!((marks(&plan), asked(&plan)), (vec![("pod-0", -200)], None));
    world.apply(plan);
    let plan = world.plan();
    assert_eq!(
        (asked(&plan), &*plan.counts.taken),
        (Some(2), &[Because::Overdue][..])
    );
    world.apply(plan);
    world.catch_up();
    assert_eq!(world.names(), ["pod-1", "pod-2"]);
}

#[test]
fn who_went_is_looked_at() {
    for wrong in [false, true] {
        let mut world = World::running(3, external(2));
        world.tick(0, &[1, 1, 0]);
        world.settle();
        assert_eq!(world.live().wanted, 2);
        world.catch_up();
        if wrong {
            world.pod("pod-1").name = "pod-2".to_owned();
            world.pod("pod-2").uid = "uid-2".to_owned();
        }
        let plan = world.plan();
        let expected: &[_] = if wrong {
            &[(false, "Uncordoned"), (true, "OtherPodRemoved")]
        } else {
            &[]
        };
        assert_eq!(told(&plan), expected);
        assert_eq!(plan.counts.spared, usize::from(wrong));
        world.apply(plan);
        assert_eq!(told(&world.plan()), []);
    }
}

#[test]
fn what_is_decided_is_about_pods_that_stay() {
    let mut world = World::running(4, json!({}));
    let plan = world.lull(0, &[1, 1, 0, 0]);
    assert_eq!(marked(&plan).len(), 3);
    world.apply(plan);
    let plan = world.tick(0, &[1, 1, 0, 0]);
    let terms = &plan.memory.decided.as_ref().unwrap().decision.terms;
    assert_eq!((terms.current, terms.running), (1, 1));
    assert_eq!(decided(&plan).0, 1);
    assert!(matches!(world.worker().scale, Scale::Auto(_)));
}
