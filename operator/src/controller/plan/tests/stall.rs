//! Rollouts that are stopped, and what may come in between.

use super::*;

/// A version of the handler, four pods of it.
fn version(n: u32) -> Value {
    let mut patch = external(4);
    patch["template"] =
        json!({"spec": {"containers": [{"name": "app", "image": format!("greet:{n}")}]}});
    patch
}

fn with(n: u32, patch: Value) -> Value {
    let mut whole = version(n);
    merge(&mut whole, patch);
    whole
}

/// What the Deployment's controller and kubelets do.
impl World {
    /// Four pods of version 1 work.
    fn of_version_1(patch: Value) -> Self {
        let mut world = Self::running(4, with(1, patch));
        for pod in &mut world.observed.pods {
            pod.template = Some("1".to_owned());
        }
        world.live().newest = Some("1".to_owned());
        world.step();
        world
    }

    /// A round, and its plan carried out.
    fn step(&mut self) -> Plan {
        let plan = self.tick(0, &[1; 9]);
        self.apply(plan.clone());
        plan
    }

    /// Version 2 is applied, and its first pod is ready.
    fn rolling(patch: Value) -> Self {
        let mut world = Self::of_version_1(patch.clone());
        world.edit(with(2, patch));
        let plan = world.step();
        assert!(plan.deployment.is_some());
        world.surge("2");
        world
    }

    /// The controller has made one pod of this template, which is the newest.
    fn surge(&mut self, template: &str) {
        let made = Some(self.now().wall);
        self.observed.pods.push(LivePod {
            name: format!("pod-9{template}"),
            uid: format!("uid-9{template}"),
            template: Some(template.to_owned()),
            created: made,
            ready_since: made,
            assigned: true,
            sidecar: SidecarState::Running,
            ..LivePod::default()
        });
        self.count(template);
    }

    /// The controller has taken up what was sent; this template is the newest.
    fn count(&mut self, newest: &str) {
        let pods = self.observed.pods.iter().filter(|pod| !pod.terminating);
        let templates: Vec<Option<&str>> = pods.map(|pod| pod.template.as_deref()).collect();
        let new = templates.iter().filter(|t| **t == Some(newest)).count();
        let (all, new) = (templates.len(), new);
        let live = self.live();
        live.newest = Some(newest.to_owned());
        live.observed_generation = live.generation;
        live.replicas = all.try_into().unwrap();
        live.updated = new.try_into().unwrap();
        live.ready = live.replicas;
    }

    /// Version 2 fails its tasks, and its rollout is stopped.
    fn stopped(patch: Value) -> Self {
        let mut world = Self::rolling(patch);
        world.broken.insert("pod-92".to_owned());
        let plan = world.step();
        assert!(is_paused(&plan), "{:?}", plan.deployment);
        world.count("2");
        let left = world.step();
        assert_eq!(left.deployment, None);
        world
    }

    /// Version 2 is stopped by this.
    fn stopped_by(fault: Fault) -> Self {
        if fault == Fault::Breaker {
            return Self::stopped(json!({}));
        }
        let mut world = Self::rolling(json!({}));
        let pod = world.pod("pod-92");
        (pod.ready_since, pod.trouble) = (None, Some(trouble(TroubleKind::CrashLoop)));
        let plan = world.step();
        assert_eq!(plan.counts.stopped, Some(fault));
        world.count("2");
        assert_eq!(world.step().deployment, None);
        world
    }

    /// The new pod has been well from now on, with so many restarts.
    fn mended(&mut self, restarts: u32) {
        let now = self.now().wall;
        self.broken.clear();
        let pod = self.pod("pod-92");
        (pod.ready_since, pod.trouble, pod.restarts) = (Some(now), None, restarts);
    }

    /// Rounds in which each pod ends so many tasks, until something is written or for so many
    /// seconds; after how many seconds it was.
    fn until_written(&mut self, in_work: u32, seconds: u64) -> Option<(u64, Plan)> {
        let began = self.seconds;
        while self.seconds - began < seconds {
            let plan = self.tick(0, &[in_work; 9]);
            self.apply(plan.clone());
            if plan.deployment.is_some() {
                return Some((self.seconds - began, plan));
            }
        }
        None
    }

    /// The operator ends, and another process begins.
    fn restart(&mut self) {
        self.observed.memory = Memory::default();
        self.observed.told.clear();
        self.observed.key_of_cordons = "another".to_owned();
    }

    /// The Deployment's pods are as it asks for.
    fn all_of(&mut self, template: &str) {
        let wanted = self.live().wanted;
        let pods = &mut self.observed.pods;
        pods.retain(|pod| pod.template.as_deref() == Some(template));
        pods.truncate(wanted.try_into().unwrap());
        for i in pods.len()..wanted.try_into().unwrap() {
            pods.push(LivePod {
                name: format!("pod-{template}{i}"),
                uid: format!("uid-{template}{i}"),
                template: Some(template.to_owned()),
                ready_since: Some(Timestamp::UNIX_EPOCH),
                assigned: true,
                sidecar: SidecarState::Running,
                ..LivePod::default()
            });
        }
        self.count(template);
    }
}

fn is_paused(plan: &Plan) -> bool {
    let object = plan.deployment.as_ref();
    object.is_some_and(|object| object["spec"]["paused"] == true)
}

fn image(plan: &Plan) -> &Value {
    let object = plan.deployment.as_ref().unwrap();
    &object["spec"]["template"]["spec"]["containers"][0]["image"]
}

fn message<'a>(plan: &'a Plan, kind: &str) -> &'a str {
    let mut found = plan.status.conditions.iter();
    &found.find(|c| c.type_ == kind).unwrap().message
}

fn trouble(kind: TroubleKind) -> Trouble {
    let message = "container app: back-off".to_owned();
    Trouble { kind, message }
}

// === it is stopped ===

#[test]
fn a_version_that_fails_its_tasks_is_stopped_and_the_old_pods_are_kept() {
    let mut world = World::rolling(json!({}));
    let plan = world.step();
    assert_eq!((plan.deployment.clone(), told(&plan)), (None, vec![]));
    assert_eq!(condition(&plan, "Ready"), ("False", "RollingOut"));

    world.broken.insert("pod-92".to_owned());
    let plan = world.tick(0, &[1, 1, 1, 1]);
    let object = plan.deployment.as_ref().unwrap();
    let spec = &object["spec"];
    assert_eq!((&spec["paused"], asked(&plan)), (&json!(true), Some(4)));
    // Else Kubernetes would remove all old pods of a worker that has one as soon as the new one
    // counts as available.
    assert!(spec["minReadySeconds"].as_u64().unwrap() > 86_400);
    assert!(spec["progressDeadlineSeconds"].as_u64() > spec["minReadySeconds"].as_u64());
    assert!(pause(object).1.is_some());
    for kind in ["Ready", "Stalled"] {
        assert_eq!(condition(&plan, kind).1, "RolloutStalled");
        assert_eq!(
            message(&plan, kind),
            "the rollout is stopped, and 4 pods of the version before go on: \
             apply the old spec again or a mended one, since pod-92 fails nearly every task of greet"
        );
    }
    assert_eq!(condition(&plan, "Ready").0, "False");
    assert_eq!(condition(&plan, "Stalled").0, "True");
    assert_eq!(condition(&plan, "Reconciling").0, "False");
    assert_eq!(told(&plan), [(true, "RolloutStalled")]);
    assert_eq!(plan.counts.stopped, Some(Fault::Breaker));

    world.apply(plan);
    assert!(world.plan().is_empty(), "before it is taken up");
    world.count("2");
    for _ in 0..100 {
        let plan = world.step();
        assert_eq!((todo(&plan), told(&plan)), ((0, 0, None), vec![]));
        assert_eq!(plan.counts.stopped, None, "it is one");
        assert_eq!(condition(&plan, "Ready"), ("False", "RolloutStalled"));
    }
}

#[test]
fn it_is_stopped_only_where_it_is_the_version() {
    type Change = fn(&mut World);
    let cases: [(&str, bool, Change); 11] = [
        ("as it is", true, |_| {}),
        ("a pod of the old ones fails too", true, |w| {
            w.broken.insert("pod-0".to_owned());
        }),
        ("half of the old ones fail too", false, |w| {
            w.broken.extend(["pod-0", "pod-1"].map(str::to_owned));
        }),
        ("only old ones fail", false, |w| {
            w.broken = BTreeSet::from(["pod-0".to_owned()]);
        }),
        ("old ones have not been heard of", false, |w| {
            let pods = &mut w.observed.round.as_mut().unwrap().pods;
            pods.retain(|uid, _| uid == "uid-92");
        }),
        ("what it said is old", false, |w| {
            let pods = &mut w.observed.round.as_mut().unwrap().pods;
            pods.get_mut("uid-92").unwrap().at = Instant::at(Duration::ZERO);
        }),
        ("it is on its way out", false, |w| {
            w.pod("pod-92").terminating = true;
        }),
        ("there are no old ones", false, |w| {
            for pod in &mut w.observed.pods {
                pod.template = Some("2".to_owned());
            }
        }),
        ("it is not known which is new", false, |w| {
            w.live().newest = None;
        }),
        ("the last change has not been taken up", false, |w| {
            w.live().observed_generation = 0;
        }),
        ("somebody else has paused it", false, |w| {
            w.live().paused = true;
        }),
    ];
    for (case, stopped, change) in cases {
        let mut world = World::rolling(json!({}));
        world.broken.insert("pod-92".to_owned());
        world.read(0, &[1, 1, 1, 1]);
        change(&mut world);
        // Those that were changed after they said something say it now.
        let says = world.broken.clone();
        let pods = world.observed.pods.clone();
        let round = world.observed.round.as_mut().unwrap();
        for pod in pods {
            if let Some(reading) = round.pods.get_mut(&pod.uid) {
                let task = reading.tasks.get_mut(&queue()).unwrap();
                task.broken = Some(says.contains(&pod.name));
            }
        }
        let plan = world.plan();
        assert_eq!(is_paused(&plan), stopped, "{case}");
        assert_eq!(plan.counts.stopped.is_some(), stopped, "{case}");
        let reason = condition(&plan, "Ready").1;
        assert_eq!(reason == "RolloutStalled", stopped, "{case}: {reason}");
    }
}

#[test]
fn an_old_pod_that_is_not_heard_to_do_these_tasks_is_none_that_works() {
    type Change = fn(&mut World);
    let cases: [(&str, bool, Change); 7] = [
        ("as it is", true, |_| {}),
        ("of before breakers, and they work", true, |w| {
            w.without_breakers = true;
        }),
        // Something that all versions call is away: the first rollout after an upgrade.
        ("of before breakers, and they fail too", false, |w| {
            w.without_breakers = true;
            fail(w, &["pod-0", "pod-1", "pod-2", "pod-3"], 20);
        }),
        ("of before breakers, and all but one fail", true, |w| {
            w.without_breakers = true;
            fail(w, &["pod-0", "pod-1", "pod-2"], 20);
        }),
        (
            "their breakers are not open yet, and all fail",
            false,
            |w| {
                fail(w, &["pod-0", "pod-1", "pod-2", "pod-3"], 5);
            },
        ),
        ("they have never ended one", false, |w| {
            w.done.clear();
            w.observed.memory.done = Memory::default().done;
        }),
        ("they have ended none for half an hour", false, |w| {
            let at = w.seconds;
            while w.seconds < at + 1800 {
                let plan = w.tick(0, &[]);
                w.apply(plan);
            }
            let now = w.now().wall;
            w.pod("pod-92").created = Some(now);
        }),
    ];
    for (case, stopped, change) in cases {
        let mut world = World::rolling(json!({}));
        let idle = world.tick(0, &[1; 9]);
        world.apply(idle);
        change(&mut world);
        world.broken.insert("pod-92".to_owned());
        // It has been asked before.
        let ends = u32::from(stopped);
        world.read(0, &[ends; 4]);
        let fresh = world.observed.round.as_mut().unwrap();
        let new = fresh.pods.get_mut("uid-92").unwrap();
        new.tasks.get_mut(&queue()).unwrap().broken = Some(true);
        assert_eq!(is_paused(&world.plan()), stopped, "{case}");
    }
}

/// So many of these pods' tasks fail.
fn fail(world: &mut World, pods: &[&str], n: u64) {
    for pod in pods {
        world.done.entry((*pod).to_owned()).or_default().1 += n;
    }
}

#[test]
fn a_version_that_does_not_get_ready_is_stopped() {
    use TroubleKind::{ContainerConfig, CrashLoop, ImagePull, Unschedulable};
    let late = "ReplicaSet \"greet-2\" has timed out progressing.";
    for (kind, deadline_is_over, stopped) in [
        // Slow is not stalled before Kubernetes says so.
        (None, false, None),
        (
            None,
            true,
            Some(format!("has not got ready in time: {late}")),
        ),
        (Some(Unschedulable), false, None),
        (
            Some(Unschedulable),
            true,
            Some("has not got ready in time: container app: back-off".to_owned()),
        ),
        (
            Some(CrashLoop),
            false,
            Some("does not get ready: container app: back-off".to_owned()),
        ),
        (
            Some(ImagePull),
            false,
            Some("does not get ready: container app: back-off".to_owned()),
        ),
        (
            Some(ContainerConfig),
            true,
            Some("does not get ready: container app: back-off".to_owned()),
        ),
    ] {
        let mut world = World::rolling(json!({}));
        world.pod("pod-92").ready_since = None;
        world.pod("pod-92").trouble = kind.map(trouble);
        world.live().stalled = deadline_is_over.then(|| late.to_owned());
        let plan = world.step();
        let case = format!("{kind:?} {deadline_is_over}");
        assert_eq!(is_paused(&plan), stopped.is_some(), "{case}");
        let Some(what) = stopped else { continue };
        assert_eq!(condition(&plan, "Stalled"), ("True", "RolloutStalled"));
        let message = message(&plan, "Ready");
        assert!(
            message.ends_with(&format!("since pod-92 {what}")),
            "{message}"
        );
        assert_eq!(plan.counts.stopped, Some(Fault::NotReady), "{case}");
    }

    // The old ones have the same trouble: it is not the version.
    let mut world = World::rolling(json!({}));
    for pod in ["pod-92", "pod-0"] {
        world.pod(pod).ready_since = None;
        world.pod(pod).trouble = Some(trouble(CrashLoop));
    }
    let plan = world.step();
    assert_eq!(plan.deployment, None);
    assert_eq!(condition(&plan, "Stalled"), ("True", "CrashLoop"));

    // Of the first version nothing is there that could be kept.
    let mut world = World::of_version_1(json!({}));
    world.pod("pod-3").ready_since = None;
    world.pod("pod-3").trouble = Some(trouble(ImagePull));
    world.live().stalled = Some(late.to_owned());
    let plan = world.step();
    assert_eq!(plan.deployment, None);
    assert_eq!(condition(&plan, "Stalled"), ("True", "ImagePull"));
}

#[test]
fn it_is_counted_when_it_is_applied_and_once() {
    let mut world = World::rolling(json!({}));
    world.broken.insert("pod-92".to_owned());
    for _ in 0..3 {
        let plan = world.tick(0, &[1, 1, 1, 1]);
        assert!(is_paused(&plan));
        assert_eq!(
            plan.counts.stopped,
            Some(Fault::Breaker),
            "once it is applied"
        );
        world.observed.memory = plan.memory;
    }
    let plan = world.step();
    assert_eq!(plan.counts.stopped, Some(Fault::Breaker));
    world.count("2");
    assert_eq!(world.step().counts.stopped, None);

    // Of one that was refused, and is not sent again at each tick, nothing is counted.
    let mut world = World::rolling(json!({}));
    world.broken.insert("pod-92".to_owned());
    let plan = world.tick(0, &[1, 1, 1, 1]);
    world.observed.memory = plan.memory;
    world.observed.memory.deployment.refused = Some(Refused {
        object: plan.deployment.unwrap(),
        message: "no".to_owned(),
        at: world.now().clock,
        times: 7,
    });
    let plan = world.tick(0, &[1, 1, 1, 1]);
    assert_eq!((plan.deployment, plan.counts.stopped), (None, None));
}

// === it goes on ===

#[test]
fn it_goes_on_once_all_new_pods_have_been_well_for_a_minute_without_a_break() {
    type Break = fn(&mut World);
    // After how many looks at it it goes on.
    let breaks: [(&str, Break, u32); 5] = [
        ("none", |_| {}, 4),
        (
            "broken again",
            |w| w.broken.extend(["pod-92".to_owned()]),
            13,
        ),
        ("unready", |w| w.pod("pod-92").ready_since = None, 13),
        (
            "unheard of",
            |w| w.pod("pod-92").sidecar = SidecarState::Down,
            13,
        ),
        ("unready between two looks", |_| {}, 12),
    ];
    for (case, break_it, expected) in breaks {
        let mut world = World::stopped(json!({}));
        world.broken.clear();
        let plan = world.step();
        assert!(message(&plan, "Ready").contains("continued once all new pods"));
        for _ in 0..8 {
            assert_eq!(world.step().deployment, None, "{case}");
        }
        let well = world.observed.pods.clone();
        break_it(&mut world);
        if expected == 13 {
            for _ in 0..6 {
                assert_eq!(world.step().deployment, None, "{case}");
            }
            world.broken.clear();
            world.observed.pods = well;
        } else if expected == 12 {
            let now = world.now().wall;
            world.pod("pod-92").ready_since = Some(now);
        }
        let mut looks = 1;
        let mut plan = world.step();
        while plan.deployment.is_none() && looks < 30 {
            looks += 1;
            plan = world.step();
        }
        assert_eq!(looks, expected, "{case}");
        let spec = &plan.deployment.as_ref().unwrap()["spec"];
        assert_eq!(
            (spec.get("paused"), &spec["minReadySeconds"]),
            (None, &json!(10)),
            "{case}"
        );
        assert_eq!(pause(plan.deployment.as_ref().unwrap()), (false, None));
        assert_eq!(told(&plan), [(false, "RolloutResumed")], "{case}");
        assert_eq!(condition(&plan, "Ready"), ("False", "RollingOut"));
        assert!(world.plan().is_empty());
        world.all_of("2");
        assert_eq!(condition(&world.step(), "Ready"), ("True", "Running"));
    }
}

#[test]
fn a_breaker_that_is_closed_says_nothing_until_tasks_have_worked() {
    // A sidecar that was started again, a pod that was made again, or a pause without tasks.
    let mut world = World::stopped(json!({}));
    world.mended(0);
    assert_eq!(world.until_written(0, 1000).map(|(after, _)| after), None);
    let said = world.tick(0, &[]);
    assert!(
        message(&said, "Ready").ends_with(
            "it is continued once all new pods have been ready for 60 s, \
             and have done more tasks of greet than they failed meanwhile"
        ),
        "{}",
        message(&said, "Ready")
    );
    let after = world.until_written(1, 100).map(|(after, _)| after);
    assert_eq!(after, Some(TICK), "with the first that works");

    // It fails more than it does, and not enough for the breaker.
    let mut world = World::stopped(json!({}));
    world.mended(0);
    for _ in 0..100 {
        let (worked, failed) = world.done.get_mut("pod-92").unwrap();
        *worked += 1;
        *failed += 2;
        let plan = world.tick(0, &[1, 1, 1, 1, 0]);
        assert_eq!(plan.deployment, None);
        world.apply(plan);
    }
}

#[test]
fn a_pod_that_was_started_again_or_made_again_begins_its_time_again() {
    type Change = fn(&mut World);
    let cases: [(&str, Change, u64); 3] = [
        ("none", |_| {}, 20),
        (
            "a container was started again",
            |w| w.pod("pod-92").restarts = 1,
            605,
        ),
        (
            "the pod was made again",
            |w| w.pod("pod-92").uid = "uid-again".to_owned(),
            65,
        ),
    ];
    for fault in Fault::ALL {
        for (case, change, expected) in cases {
            let mut world = World::stopped_by(fault);
            world.mended(0);
            assert!(world.until_written(1, 45).is_none());
            change(&mut world);
            let after = world.until_written(1, 2000).map(|(after, _)| after);
            assert_eq!(after, Some(expected), "{fault:?}: {case}");
        }
    }
}

#[test]
fn a_container_that_ends_every_few_minutes_is_not_well_in_between() {
    for fault in Fault::ALL {
        let mut world = World::stopped_by(fault);
        for restarts in 1..10 {
            world.mended(restarts);
            assert!(world.until_written(1, 300).is_none(), "{fault:?}");
            world.pod("pod-92").ready_since = None;
            assert!(world.until_written(1, 20).is_none(), "{fault:?}");
        }
    }
}

#[test]
fn it_goes_on_by_itself_once_for_each_template() {
    for fault in Fault::ALL {
        let mut world = World::stopped_by(fault);
        world.mended(0);
        let (_, plan) = world.until_written(1, 100).unwrap();
        assert_eq!(told(&plan), [(false, "RolloutResumed")]);
        assert!(!is_paused(&plan));
        world.count("2");
        assert_eq!(world.step().deployment, None, "it runs");
        // Another process knows it, too.
        world.restart();
        let plan = world.step();
        assert!(!is_paused(&plan));
        world.count("2");
        let mut done = world.clone();

        world.broken.insert("pod-92".to_owned());
        let (_, plan) = world.until_written(1, 20).unwrap();
        assert!(is_paused(&plan));
        world.count("2");
        world.mended(0);
        for _ in 0..2 {
            assert!(world.until_written(1, 1000).is_none());
            let plan = world.step();
            assert!(
                message(&plan, "Ready").contains(
                    "it went on by itself once and had to be stopped again, so that it stays stopped: \
                     apply the old spec again or a mended one, or write \
                     kubectl rollout resume deployment/greet"
                ),
                "{}",
                message(&plan, "Ready")
            );
            world.restart();
            assert!(is_paused(&world.step()));
            world.count("2");
        }
        // Somebody resumes it.
        let mut resumed = world.clone();
        resumed.live().paused = false;
        resumed.live().generation += 1;
        resumed.broken.insert("pod-92".to_owned());
        for _ in 0..5 {
            assert!(!is_paused(&resumed.step()));
            resumed.count("2");
        }
        // Another template may go on again.
        world.edit(version(3));
        let plan = world.step();
        assert!(!is_paused(&plan));
        assert_eq!(world.live().resumed_for, None);

        // What is written about it goes when no old pod is left.
        assert!(done.live().resumed_for.is_some());
        done.all_of("2");
        done.step();
        assert_eq!(done.live().resumed_for, None);
        assert_eq!(done.step().deployment, None);
    }
}

#[test]
fn one_that_goes_on_and_cannot_be_written_does_not_wait_again() {
    let mut world = World::stopped(json!({}));
    world.mended(0);
    assert!(world.until_written(1, 60).is_none());
    for _ in 0..5 {
        let plan = world.tick(0, &[1; 9]);
        assert!(plan.deployment.is_some() && !is_paused(&plan));
        assert_eq!(condition(&plan, "Ready").1, "RollingOut");
        world.observed.memory = plan.memory;
    }
    // It fails again before it could be written.
    world.broken.insert("pod-92".to_owned());
    let plan = world.step();
    assert_eq!((plan.deployment, plan.counts.stopped), (None, None));
    assert_eq!(condition(&world.plan(), "Ready").1, "RolloutStalled");
}

#[test]
fn it_is_known_what_was_written_though_the_answer_was_lost() {
    for fault in Fault::ALL {
        // That it goes on.
        let mut world = World::stopped_by(fault);
        world.mended(0);
        let resumed = (0..30).find_map(|_| {
            let plan = world.tick(0, &[1; 9]);
            if plan.deployment.is_some() {
                return Some(plan);
            }
            world.apply(plan);
            None
        });
        world.apply_unanswered(resumed.unwrap());
        world.count("2");
        assert!(!is_paused(&world.step()), "{fault:?}");
        world.count("2");
        world.broken.insert("pod-92".to_owned());
        let (_, plan) = world.until_written(1, 20).unwrap();
        assert!(is_paused(&plan), "{fault:?}: it is stopped again");
        world.count("2");
        world.mended(0);
        assert!(world.until_written(1, 1000).is_none(), "{fault:?}: once");
    }
    // That it was rolled out: the old spec is not stopped for it.
    let mut world = World::of_version_1(json!({}));
    world.edit(version(2));
    let plan = world.plan();
    world.apply_unanswered(plan);
    world.surge("2");
    world.broken.insert("pod-92".to_owned());
    world.edit(version(1));
    let plan = world.tick(0, &[1; 4]);
    assert_eq!((is_paused(&plan), plan.counts.stopped), (false, None));
    assert_eq!(image(&plan), "greet:1");
    // That it is stopped.
    let mut world = World::rolling(json!({}));
    world.broken.insert("pod-92".to_owned());
    let plan = world.tick(0, &[1; 4]);
    assert!(is_paused(&plan));
    world.apply_unanswered(plan);
    world.count("2");
    for _ in 0..3 {
        let plan = world.step();
        assert!(plan.deployment.is_none() || is_paused(&plan));
        assert_eq!(condition(&plan, "Ready"), ("False", "RolloutStalled"));
        world.count("2");
    }
}

#[test]
fn a_stop_that_is_refused_is_tried_again_within_seconds_and_told_when_it_is_one() {
    // An API server that has just started does not know yet who may do what.
    let mut world = World::rolling(json!({}));
    world.broken.insert("pod-92".to_owned());
    let plan = world.tick(0, &[1; 4]);
    let refused = |times: u32, plan: &Plan, world: &World| {
        let mut memory = plan.memory.clone();
        memory.untold = plan.events.clone();
        memory.deployment.refused = Some(Refused {
            object: plan.deployment.clone().unwrap(),
            message: "no".to_owned(),
            at: world.now().clock,
            times,
        });
        memory
    };
    world.observed.memory = refused(1, &plan, &world);
    let waits = world.plan();
    assert_eq!(told(&waits), [(true, "DeploymentRefused")]);
    assert_eq!(waits.deployment, None);
    assert_eq!(waits.requeue, Some(Duration::from_secs(1)));
    for (times, after) in [(5, 16), (6, 32), (7, 60), (99, 60)] {
        assert_eq!(refused_again(times), Duration::from_secs(after), "{times}");
    }
    for (times, after) in [(1, 1), (2, 2), (3, 4)] {
        world.observed.memory = refused(times, &plan, &world);
        let mut later = world.clone();
        later.seconds += after - 1;
        assert_eq!(later.plan().deployment, None, "{times}");
        later.seconds += 1;
        assert!(is_paused(&later.plan()), "{times}");
    }

    // Meanwhile Kubernetes has replaced the last old pod: there is nothing to stop any more.
    let mut late = world.clone();
    late.all_of("2");
    late.seconds += 60;
    let plan = late.plan();
    assert!(!is_paused(&plan));
    assert!(!told(&plan).contains(&(true, "RolloutStalled")));
}

#[test]
fn a_mark_that_does_not_say_why_asks_for_tasks_that_worked() {
    // Of an operator from before.
    let mut world = World::stopped_by(Fault::NotReady);
    world.restart();
    world.live().stalled_by = None;
    let plan = world.plan();
    assert!(is_paused(&plan));
    world.apply(plan);
    world.count("2");
    world.mended(0);
    assert!(world.until_written(0, 200).is_none());
    assert!(world.until_written(1, 100).is_some());
}

#[test]
fn a_deadline_that_is_still_told_stops_it_not_again() {
    let mut world = World::rolling(json!({}));
    world.pod("pod-92").ready_since = None;
    world.live().stalled = Some("too long".to_owned());
    assert!(is_paused(&world.step()));
    world.count("2");
    let now = world.now().wall;
    world.pod("pod-92").ready_since = Some(now);
    let went_on = (0..14).find(|_| world.step().deployment.is_some());
    assert!(went_on.is_some());
    world.count("2");
    for _ in 0..3 {
        assert_eq!(world.step().deployment, None, "it runs");
    }
    // The next one is late, too.
    world.pod("pod-92").ready_since = None;
    assert!(is_paused(&world.step()));
}

#[test]
fn somebody_who_resumes_it_is_not_stopped_again() {
    let mut world = World::stopped(json!({}));
    let live = world.live();
    live.paused = false;
    live.generation += 1;
    let plan = world.step();
    let object = plan.deployment.as_ref().unwrap();
    assert_eq!(object["spec"].get("paused"), None);
    assert!(pause(object).1.is_some(), "that it was stopped is kept");
    assert_eq!(condition(&plan, "Ready"), ("False", "RollingOut"));
    world.count("2");
    world.restart();
    for _ in 0..5 {
        let plan = world.step();
        assert!(!is_paused(&plan));
        world.count("2");
    }
    world.all_of("2");
    let plan = world.step();
    assert_eq!(pause(plan.deployment.as_ref().unwrap()), (false, None));
    world.count("2");
    assert_eq!(world.step().deployment, None);
}

#[test]
fn a_pause_of_somebody_elses_is_left_alone_and_told() {
    let mut world = World::rolling(json!({}));
    let live = world.live();
    live.paused = true;
    live.generation += 1;
    let plan = world.step();
    // What somebody changes is sent again; the pause is not in it, so that it stays.
    let object = plan.deployment.as_ref().unwrap();
    assert_eq!(
        (pause(object), object["spec"].get("paused")),
        ((false, None), None)
    );
    world.live().paused = true;
    world.count("2");
    let plan = world.step();
    assert_eq!(plan.deployment, None);
    assert!(message(&plan, "Ready").contains("kubectl rollout resume deployment/greet"));
}

#[test]
fn another_operator_process_goes_on_with_it() {
    let mut world = World::stopped(json!({}));
    world.restart();
    let plan = world.plan();
    assert!(is_paused(&plan));
    assert_eq!(plan.counts.stopped, None);
    assert_eq!(told(&plan), []);
    assert_eq!(condition(&plan, "Ready"), ("False", "RolloutStalled"));
    assert!(message(&plan, "Ready").ends_with("apply the old spec again or a mended one"));
    world.apply(plan);
    world.count("2");
    let plan = world.step();
    assert!(message(&plan, "Ready").ends_with("pod-92 fails nearly every task of greet"));
    // The spec was changed while there was no operator.
    let mut mended = world.clone();
    mended.restart();
    mended.edit(version(3));
    let plan = mended.step();
    assert!(!is_paused(&plan) && plan.deployment.is_some());
}

#[test]
fn an_operator_with_another_sidecar_keeps_it_stopped() {
    for fault in Fault::ALL {
        for deadline_is_over in [false, true] {
            let mut world = World::stopped_by(fault);
            world.live().stalled = deadline_is_over.then(|| "too late".to_owned());
            another_sidecar_keeps_it_stopped(world, fault);
        }
    }
}

fn another_sidecar_keeps_it_stopped(mut world: World, fault: Fault) {
    // The API server fills in what is not said: what is kept is not what was rendered.
    let live = world.live();
    let mut filled_in = (*live.template).clone();
    filled_in["spec"]["dnsPolicy"] = json!("ClusterFirst");
    live.template = Arc::new(filled_in);
    world.restart();
    world.observed.worker = Ok(Arc::new(worker_of("sidecar:2", version(2))));
    let plan = world.plan();
    assert!(is_paused(&plan), "{fault:?}: {:?}", plan.deployment);
    assert_eq!(condition(&plan, "Ready"), ("False", "RolloutStalled"));
    assert_eq!(condition(&plan, "SidecarBehind").0, "True");
    world.apply(plan);
    world.count("2");
    assert!(world.until_written(1, 200).is_none(), "{fault:?}");
    // Without a pod that is kept there is no reason to keep what does not start.
    world.observed.pods.retain(|pod| pod.name == "pod-92");
    let pod = world.pod("pod-92");
    (pod.ready_since, pod.trouble) = (None, Some(trouble(TroubleKind::CrashLoop)));
    world.count("2");
    world.restart();
    let plan = world.plan();
    assert_eq!(condition(&plan, "SidecarBehind").0, "", "{fault:?}");
    assert!(!is_paused(&plan) && plan.deployment.is_some(), "{fault:?}");
}

// === going back, at any moment ===

#[test]
fn a_mended_spec_and_the_old_one_are_rolled_out_at_once_at_any_moment() {
    type Moment = (&'static str, fn() -> World);
    let moments: [Moment; 4] = [
        ("rolling", || World::rolling(json!({}))),
        ("stalled", || World::stopped(json!({}))),
        ("not taken up", || {
            let mut world = World::of_version_1(json!({}));
            world.edit(version(2));
            world.step();
            world
        }),
        ("draining", || {
            let mut world = World::of_version_1(json!({}));
            world.edit(with(1, json!({"replicas": 2})));
            assert_eq!(marked(&world.step()).len(), 2);
            world.edit(version(2));
            assert_eq!(world.step().deployment.map(|o| replicas(&o)), Some(4));
            world.surge("2");
            world
        }),
    ];
    for (moment, world) in moments {
        for to in [1, 3] {
            let mut world = world();
            world.edit(version(to));
            let plan = world.step();
            let case = format!("{moment}, to {to}");
            assert_eq!(image(&plan), &json!(format!("greet:{to}")), "{case}");
            let object = plan.deployment.as_ref().unwrap();
            assert_eq!(pause(object), (false, None), "{case}");
            assert_eq!(object["spec"]["minReadySeconds"], 10, "{case}");
            assert_eq!(asked(&plan), Some(4), "{case}");
            assert_eq!(condition(&plan, "Ready"), ("False", "RollingOut"), "{case}");
            assert_eq!(condition(&plan, "Stalled").0, "False", "{case}");
            assert!(world.plan().is_empty(), "{case}");
            let newest = to.to_string();
            world.all_of(&newest);
            assert_eq!(
                condition(&world.step(), "Ready"),
                ("True", "Running"),
                "{case}"
            );
        }
    }
}

#[test]
fn going_back_removes_at_work_none_of_the_pods_that_a_pause_has_added() {
    let mut world = World::stopped(json!({}));
    // Kubernetes fills a paused Deployment up to maxSurge.
    let mut added = world.observed.pods[0].clone();
    (added.name, added.uid) = ("pod-5".to_owned(), "uid-5".to_owned());
    world.observed.pods.push(added);
    world.count("2");
    assert_eq!(todo(&world.step()), (0, 0, None));

    // Refused at first, and another process has to.
    world.edit(version(1));
    let plan = world.tick(0, &[1; 9]);
    assert_eq!(asked(&plan), Some(5));
    assert_eq!(
        plan.events[0].message,
        "4 → 5 pods: so many are there of the version that it goes back to, \
         and those that are too many end what they have"
    );
    world.restart();
    // Before it has read which pods are of which version all are kept.
    let mut blind = world.clone();
    blind.live().newest = None;
    assert_eq!(asked(&blind.plan()), Some(6));
    assert_eq!(asked(&world.step()), Some(5));
    world.all_of("1");
    assert_eq!(world.observed.pods.len(), 5);

    // The one that is too many ends what it has, like any other.
    let plan = world.step();
    assert_eq!((marked(&plan).len(), asked(&plan)), (1, None));
    for _ in 0..5 {
        assert_eq!(asked(&world.step()), None);
    }
    let name = marked(&plan)[0].to_owned();
    world.ends(&name);
    let plan = world.tick(0, &[]);
    world.apply(plan);
    assert_eq!(asked(&world.plan()), Some(4));
}

// === the number of pods, meanwhile ===

#[test]
fn a_stopped_rollout_is_not_lowered_and_may_be_raised() {
    let mut world = World::stopped(json!({}));
    world.edit(with(2, json!({"replicas": 1})));
    for _ in 0..5 {
        let plan = world.step();
        assert_eq!(todo(&plan), (0, 0, None));
        assert_eq!(condition(&plan, "Ready"), ("False", "RolloutStalled"));
    }
    // Not even where all old pods were deleted, and none has been made again yet.
    world.observed.pods.retain(|pod| pod.name == "pod-92");
    world.count("2");
    assert_eq!(todo(&world.step()), (0, 0, None));

    let mut world = World::stopped(json!({}));
    world.edit(with(2, json!({"replicas": 7})));
    let plan = world.step();
    assert_eq!((asked(&plan), is_paused(&plan)), (Some(7), true));

    // By itself, too: there is nothing to do for four pods.
    let auto =
        json!({"scaling": {"mode": "Auto", "maxWait": "30s", "minReplicas": 1}, "replicas": null});
    let mut world = World::stopped(auto);
    for _ in 0..20 {
        let plan = world.tick(0, &[1, 0, 0, 0]);
        assert_eq!(todo(&plan), (0, 0, None));
        world.apply(plan);
    }
    let plan = world.tick(500, &[2, 2, 2, 2]);
    assert_eq!((asked(&plan), is_paused(&plan)), (Some(10), true));
}

#[test]
fn suspend_and_resume_work_while_it_rolls_is_stopped_or_drains() {
    type Moment = (&'static str, fn() -> World);
    let moments: [Moment; 3] = [
        ("rolling", || World::rolling(json!({}))),
        ("stalled", || World::stopped(json!({}))),
        ("draining", || {
            let mut world = World::of_version_1(json!({}));
            world.edit(with(2, json!({"replicas": 2})));
            world.step();
            world.surge("2");
            world.edit(version(2));
            world
        }),
    ];
    for (moment, world) in moments {
        let mut world = world();
        let there = world.observed.pods.len();
        world.edit(with(2, json!({"suspend": true})));
        let plan = world.step();
        assert_eq!(marked(&plan).len(), there, "{moment}");
        assert_eq!(asked(&plan), None, "{moment}: they work");

        // It is taken back: they take tasks again, and all is as before.
        let mut back = world.clone();
        back.edit(version(2));
        let plan = back.step();
        let marks = plan.marks.iter().filter(|mark| mark.since.is_none());
        assert_eq!(marks.count(), there, "{moment}");
        assert_eq!(asked(&plan), None, "{moment}");
        let reason = condition(&plan, "Ready").1;
        let expected = if moment == "stalled" {
            "RolloutStalled"
        } else {
            "RollingOut"
        };
        assert_eq!(reason, expected, "{moment}");

        // All at once, when the last one is idle.
        let names: Vec<String> = world.observed.pods.iter().map(|p| p.name.clone()).collect();
        for name in &names {
            world.ends(name);
        }
        let plan = world.tick(0, &[]);
        world.apply(plan);
        let plan = world.plan();
        assert_eq!(asked(&plan), Some(0), "{moment}");
        assert_eq!(
            is_paused(&plan),
            moment == "stalled",
            "a pause ends with the pods"
        );
        world.apply(plan);
        world.all_of("2");
        let plan = world.tick(0, &[]);
        let left = plan.deployment.is_some();
        assert_eq!(left, moment == "stalled", "{moment}");
        assert!(!is_paused(&plan), "{moment}");
        assert_eq!(condition(&plan, "Ready"), ("True", "Suspended"), "{moment}");
        world.apply(plan);
        world.all_of("2");

        world.edit(version(2));
        let plan = world.tick(0, &[]);
        assert_eq!(
            (asked(&plan), is_paused(&plan)),
            (Some(4), false),
            "{moment}"
        );
        world.apply(plan);
        world.all_of("2");
        assert_eq!(
            condition(&world.step(), "Ready"),
            ("True", "Running"),
            "{moment}"
        );
    }
}

#[test]
fn deletion_waits_for_no_rollout() {
    for mut world in [World::rolling(json!({})), World::stopped(json!({}))] {
        world.observed.deleting = true;
        world.read(0, &[1, 1, 1, 1]);
        let plan = world.plan();
        assert!(plan.is_empty() && plan.requeue.is_none());
    }
}
