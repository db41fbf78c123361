//! A new operator adds another sidecar. Where nothing else is said each step is planned by an
//! operator that has just started: whatever is needed is in the cluster.

use super::*;

/// So many pods, by an operator with the first sidecar.
fn running(pods: u32) -> World {
    let mut world = World::running(pods, external(pods));
    world.settle();
    assert_eq!(runs(&mut world), "sidecar:1");
    world
}

/// Another operator takes over, whose own sidecar this is.
fn succeed(world: &mut World, sidecar: &str, patch: Value) {
    world.observed.worker = Ok(Arc::new(worker_of(sidecar, patch)));
    world.seconds += 100;
    restart(world);
}

fn restart(world: &mut World) {
    world.observed.memory = Memory::default();
}

fn image(template: &Value) -> &str {
    let containers = template["spec"]["initContainers"].as_array().unwrap();
    containers.last().unwrap()["image"].as_str().unwrap()
}

fn runs(world: &mut World) -> String {
    image(&world.live().template).to_owned()
}

/// Plans and carries it out; whether pods are replaced.
fn step(world: &mut World) -> (Plan, bool) {
    let before = world.live().template.clone();
    let plan = world.plan();
    world.apply(plan.clone());
    let is_replaced = world.live().template != before;
    if is_replaced {
        let live = world.live();
        live.updated = 0;
    }
    (plan, is_replaced)
}

/// Steps of operators that have just started, until nothing but their first look is left.
fn steps_of_successors(world: &mut World, n: usize) -> bool {
    let mut is_replaced = false;
    for _ in 0..n {
        restart(world);
        is_replaced |= step(world).1;
    }
    is_replaced
}

/// New pods have replaced the old ones.
fn roll(world: &mut World) {
    for pod in &mut world.observed.pods {
        pod.name += "-new";
        pod.uid += "-new";
        pod.trouble = None;
    }
    world.catch_up();
}

fn behind(plan: &Plan) -> Option<&str> {
    let mut conditions = plan.status.conditions.iter();
    let found = conditions.find(|c| c.type_ == "SidecarBehind")?;
    assert_eq!(found.status, "True");
    Some(&found.reason)
}

fn why<'a>(plan: &'a Plan, kind: &str) -> &'a str {
    let mut conditions = plan.status.conditions.iter();
    &conditions.find(|c| c.type_ == kind).unwrap().message
}

fn trouble(world: &mut World, kind: TroubleKind) {
    let message = "container conductor-sidecar: back-off".to_owned();
    world.observed.pods[0].trouble = Some(Trouble { kind, message });
}

// === OnNextRollout ===

#[test]
fn a_new_operator_restarts_no_worker() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    let (plan, is_replaced) = step(&mut world);
    assert!(!is_replaced);
    assert_eq!(behind(&plan), Some("WaitsForRollout"));
    assert_eq!(
        why(&plan, "SidecarBehind"),
        "the pods have the sidecar sidecar:1, and this operator adds sidecar:2: \
         it comes with the next change of the spec that replaces pods, or when there are none"
    );
    assert_eq!(plan.status.sidecar_image.as_deref(), Some("sidecar:1"));
    assert_eq!(plan.upgrade, Standing::Behind);
    assert_eq!(condition(&plan, "Ready").0, "True");
    assert_eq!(condition(&plan, "Reconciling").0, "False");
    // The same process has nothing left to do, and no other one restarts it either.
    assert_eq!(world.settle(), 0);
    assert!(!steps_of_successors(&mut world, 3));
    // Nor does the operator from before, if that one comes back.
    succeed(&mut world, "sidecar:1", external(3));
    let (plan, is_replaced) = step(&mut world);
    assert_eq!((behind(&plan), is_replaced), (None, false));
}

#[test]
fn the_template_stays_verbatim_with_what_the_api_server_and_times_to_come_have_added() {
    let mut world = running(3);
    let mut template = (*world.live().template).clone();
    template["spec"]["dnsPolicy"] = json!("ClusterFirst");
    template["spec"]["fieldOfATimeToCome"] = json!({"a": [1, 2]});
    let mut read = template.clone();
    read["metadata"]["creationTimestamp"] = Value::Null;
    world.live().template = Arc::new(read);
    succeed(&mut world, "sidecar:2", external(3));
    let (plan, _) = step(&mut world);
    assert_eq!(plan.deployment.unwrap()["spec"]["template"], template);

    // What others change later of what the operator renders is undone, since it is remembered what
    // was there.
    let mut theirs = template.clone();
    theirs["spec"]["terminationGracePeriodSeconds"] = json!(1);
    world.live().template = Arc::new(theirs);
    world.live().generation += 1;
    let plan = world.plan();
    assert_eq!(plan.deployment.unwrap()["spec"]["template"], template);
}

#[test]
fn a_restart_by_somebody_is_let_be_while_the_template_is_kept() {
    let mut world = running(3);
    let restarted = |world: &mut World, at: &str| {
        let mut theirs = (*world.live().template).clone();
        let annotations = &mut theirs["metadata"]["annotations"];
        annotations["kubectl.kubernetes.io/restartedAt"] = json!(at);
        world.live().template = Arc::new(theirs.clone());
        world.live().generation += 1;
        theirs
    };
    restarted(&mut world, "1");
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    // By the same process, which has made the first one its own.
    for at in ["2", "3"] {
        let theirs = restarted(&mut world, at);
        let (plan, is_replaced) = step(&mut world);
        assert!(!is_replaced, "it is being replaced for theirs already");
        assert_eq!(behind(&plan), Some("WaitsForRollout"));
        assert_eq!(plan.deployment.unwrap()["spec"]["template"], theirs);
        assert_eq!(world.settle(), 0);
        world.catch_up();
    }

    // What is rendered is not theirs, and neither is what was read before it was sent.
    let kept = (*world.live().template).clone();
    let cases: [(&str, Value); 3] = [
        ("the sidecar", json!({"initContainers": []})),
        (
            "the handler",
            json!({"containers": [{"name": "app", "image": "theirs"}]}),
        ),
        (
            "the grace period",
            json!({"terminationGracePeriodSeconds": 1}),
        ),
    ];
    for (case, patch) in cases {
        let mut theirs = kept.clone();
        merge(&mut theirs["spec"], patch);
        let mut world = world.clone();
        world.live().template = Arc::new(theirs);
        world.live().generation += 1;
        let (plan, is_replaced) = step(&mut world);
        let sent = plan.deployment.unwrap();
        assert_eq!(
            (is_replaced, &sent["spec"]["template"]),
            (true, &kept),
            "{case}"
        );
    }
    let mut before = kept;
    before["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("2");
    world.live().template = Arc::new(before);
    assert!(world.plan().deployment.is_none());
}

#[test]
fn the_sidecar_comes_with_a_change_of_the_users_and_not_with_one_of_scaling() {
    for (patch, comes) in [
        (external(5), false),
        (json!({"scaling": {"maxReplicas": 20}}), false),
        (json!({"concurrency": 3}), true),
        (
            json!({"template": {"spec": {"containers": [{"name": "app", "image": "greet:2"}]}}}),
            true,
        ),
    ] {
        let mut world = running(3);
        let mut spec = external(3);
        succeed(&mut world, "sidecar:2", spec.clone());
        step(&mut world);
        merge(&mut spec, patch.clone());
        succeed(&mut world, "sidecar:2", spec);
        let (plan, is_replaced) = step(&mut world);
        assert_eq!((is_replaced, behind(&plan).is_none()), (comes, comes));
        let expected = if comes { "sidecar:2" } else { "sidecar:1" };
        assert_eq!(runs(&mut world), expected, "{patch}");
        assert_eq!(plan.status.sidecar_image.as_deref(), Some(expected));
        assert!(!steps_of_successors(&mut world, 2), "{patch}");
    }
}

#[test]
fn what_the_operator_renders_otherwise_waits_too() {
    // The same image: the pull policy stands for all that a version adds otherwise.
    let mut world = running(3);
    let mut other = worker(external(3));
    other.sidecar.image_pull_policy = "Always".to_owned();
    world.observed.worker = Ok(Arc::new(other));
    restart(&mut world);
    let (plan, is_replaced) = step(&mut world);
    assert!(!is_replaced);
    let said = why(&plan, "SidecarBehind");
    assert!(said.starts_with("the pods have the sidecar sidecar:1 as another version"));
}

#[test]
fn an_image_of_the_users_own_moves_with_the_spec_alone() {
    let spec = |image: &str| {
        let mut spec = external(3);
        merge(&mut spec, json!({"sidecar": {"image": image}}));
        spec
    };
    let mut world = World::running(3, spec("own:1"));
    succeed(&mut world, "sidecar:2", spec("own:1"));
    let (plan, is_replaced) = step(&mut world);
    assert_eq!((behind(&plan), is_replaced), (None, false));
    succeed(&mut world, "sidecar:2", spec("own:2"));
    assert!(step(&mut world).1);
    assert_eq!(runs(&mut world), "own:2");
}

#[test]
fn a_worker_without_pods_gets_it_at_once() {
    let mut world = running(0);
    succeed(&mut world, "sidecar:2", external(0));
    let (plan, _) = step(&mut world);
    assert_eq!((behind(&plan), &*runs(&mut world)), (None, "sidecar:2"));
    // Not while one ends what it has, and not one whose first pods are on their way.
    let mut world = running(1);
    succeed(&mut world, "sidecar:2", external(0));
    assert_eq!(behind(&step(&mut world).0), Some("WaitsForRollout"));
}

#[test]
fn pods_that_do_not_start_are_not_kept() {
    use TroubleKind::{CrashLoop, ImagePull, Unschedulable};
    for (kind, rolls, none_ready, moves) in [
        // Its rollout would go on for ever with a sidecar that may be what is wrong.
        (CrashLoop, true, false, true),
        // The image from before is gone, and nothing works.
        (ImagePull, false, true, true),
        // Others work.
        (ImagePull, false, false, false),
        // A node may come.
        (Unschedulable, true, true, false),
    ] {
        let mut world = running(3);
        if rolls {
            world.live().updated = 1;
        }
        if none_ready {
            for pod in &mut world.observed.pods {
                pod.ready_since = None;
            }
        }
        trouble(&mut world, kind);
        succeed(&mut world, "sidecar:2", external(3));
        let case = format!("{kind:?} {rolls} {none_ready}");
        assert_eq!(step(&mut world).1, moves, "{case}");
    }
}

#[test]
fn what_is_refused_of_a_users_change_does_not_move_the_sidecar() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    let mut spec = external(3);
    merge(&mut spec, json!({"concurrency": 3}));
    world.observed.worker = Ok(Arc::new(worker_of("sidecar:2", spec)));
    let plan = world.plan();
    let mut memory = plan.memory;
    memory.deployment.refused = Some(Refused {
        object: plan.deployment.unwrap(),
        message: "no".to_owned(),
        at: world.now().clock,
        times: 7,
    });
    world.observed.memory = memory;
    let plan = world.plan();
    assert_eq!(condition(&plan, "Ready").1, "DeploymentRefused");
    assert_eq!(plan.status.sidecar_image.as_deref(), Some("sidecar:1"));
    assert!(plan.deployment.is_none());
}

// === a Deployment of an operator that wrote no fingerprints ===

/// As it would be there.
fn of_an_older_operator(world: &mut World) {
    world.live().origin = Origin::default();
    restart(world);
}

#[test]
fn what_an_older_operator_made_of_the_same_spec_is_kept() {
    let mut world = running(3);
    of_an_older_operator(&mut world);
    succeed(&mut world, "sidecar:2", external(3));
    let (plan, is_replaced) = step(&mut world);
    assert!(!is_replaced);
    assert_eq!(behind(&plan), Some("WaitsForRollout"));
    assert!(!steps_of_successors(&mut world, 2));
    let (plan, _) = step(&mut world);
    assert_eq!(behind(&plan), Some("WaitsForRollout"));
    // From then on changes are seen.
    let mut spec = external(3);
    merge(&mut spec, json!({"concurrency": 3}));
    succeed(&mut world, "sidecar:2", spec);
    assert!(step(&mut world).1);
}

#[test]
fn what_an_older_operator_made_as_this_one_does_is_not_behind() {
    let mut world = running(3);
    let mut template = (*world.live().template).clone();
    // What the API server adds, and what it drops.
    template["spec"]["dnsPolicy"] = json!("ClusterFirst");
    world.live().template = Arc::new(template);
    of_an_older_operator(&mut world);
    let (plan, _) = step(&mut world);
    assert_eq!(behind(&plan), None);
    assert!(world.live().origin.template.is_some());
}

#[test]
fn what_an_older_operator_made_of_another_spec_is_made_anew() {
    type Change<'a> = &'a dyn Fn(&mut World);
    let cases: [(&str, Change<'_>); 4] = [
        ("changed meanwhile", &|w| w.observed.generation += 1),
        ("no status", &|w| {
            w.observed.status = ConductorWorkerStatus::default();
        }),
        ("refused", &|w| {
            let mut conditions = w.observed.status.conditions.iter_mut();
            let ready = conditions.find(|c| c.type_ == "Ready").unwrap();
            "DeploymentRefused".clone_into(&mut ready.reason);
        }),
        ("another default connection", &|w| {
            w.observed.status.connection = Some("http://other/api".to_owned());
        }),
    ];
    for (case, change) in cases {
        let mut world = running(3);
        of_an_older_operator(&mut world);
        succeed(&mut world, "sidecar:2", external(3));
        change(&mut world);
        step(&mut world);
        assert_eq!(runs(&mut world), "sidecar:2", "{case}");
    }
}

// === Staged ===

#[test]
fn a_worker_whose_turn_it_is_gets_it_and_is_done_when_its_pods_work() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    for turn in [Turn::Unknown, Turn::Later] {
        world.observed.turn = turn;
        let (plan, is_replaced) = step(&mut world);
        assert_eq!((behind(&plan), is_replaced), (Some("WaitsForTurn"), false));
    }
    restart(&mut world);
    world.observed.turn = Turn::Now;
    let (plan, is_replaced) = step(&mut world);
    assert!(is_replaced);
    assert_eq!(told(&plan), [(false, "SidecarUpgrade")]);
    assert_eq!(
        plan.events[0].message,
        "the sidecar sidecar:1 is replaced by sidecar:2: pods are replaced in turn"
    );
    assert_eq!(behind(&plan), None);
    assert_eq!(plan.upgrade, Standing::UnderWay);
    let since = world.live().origin.upgrade_since.clone();
    assert!(since.is_some());

    // A successor at any moment takes it for what it is, whatever turn there is then.
    for turn in [Turn::Never, Turn::Unknown, Turn::Later] {
        world.observed.turn = turn;
        restart(&mut world);
        world.seconds += 1;
        let (plan, is_replaced) = step(&mut world);
        assert_eq!((plan.upgrade, is_replaced), (Standing::UnderWay, false));
        assert_eq!(world.live().origin.upgrade_since, since);
    }
    assert_eq!(world.settle(), 0);
    // The Deployment's controller has taken it up, and has not come to its end.
    world.live().observed_generation = world.live().generation;
    world.live().updated = 1;
    restart(&mut world);
    assert_eq!(step(&mut world).0.upgrade, Standing::UnderWay);

    roll(&mut world);
    restart(&mut world);
    let (plan, is_replaced) = step(&mut world);
    assert_eq!((plan.upgrade, is_replaced), (Standing::Current, false));
    assert_eq!(plan.events[0].reason, "SidecarUpgraded");
    assert_eq!(world.live().origin.upgrade_since, None);
    assert_eq!(world.settle(), 0);
    assert!(!steps_of_successors(&mut world, 2));
}

#[test]
fn what_is_read_of_before_the_upgrade_does_not_end_it() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    let before = world.live().clone();
    assert!(step(&mut world).1);
    let after = std::mem::replace(world.live(), before);
    assert_eq!(world.plan().upgrade, Standing::UnderWay);
    *world.live() = after;
    assert_eq!(world.plan().upgrade, Standing::UnderWay);
}

#[test]
fn an_upgrade_whose_answer_was_lost_goes_on() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    let plan = world.plan();
    world.apply_unanswered(plan);
    world.live().updated = 0;
    world.seconds += 5;
    for _ in 0..3 {
        let (plan, is_replaced) = step(&mut world);
        assert_eq!((plan.upgrade, is_replaced), (Standing::UnderWay, false));
        assert_eq!(runs(&mut world), "sidecar:2");
    }
}

#[test]
fn an_upgrade_that_is_over_and_was_not_noted_is_no_reason_for_another() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    roll(&mut world);
    succeed(&mut world, "sidecar:3", external(3));
    world.observed.turn = Turn::Never;
    let (plan, is_replaced) = step(&mut world);
    assert_eq!(
        (behind(&plan), is_replaced),
        (Some("WaitsForRollout"), false)
    );
    // One that is not over goes on with what is added now.
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    succeed(&mut world, "sidecar:3", external(3));
    world.observed.turn = Turn::Never;
    assert!(step(&mut world).1);
}

#[test]
fn a_worker_that_is_not_well_is_not_begun_with() {
    type Change<'a> = &'a dyn Fn(&mut World);
    let cases: [(&str, Change<'_>); 3] = [
        ("rolls", &|w| w.live().updated = 1),
        ("not seen yet", &|w| {
            w.live().generation += 1;
        }),
        ("not ready", &|w| {
            for pod in &mut w.observed.pods {
                pod.ready_since = None;
            }
        }),
    ];
    for (case, change) in cases {
        let mut world = running(3);
        succeed(&mut world, "sidecar:2", external(3));
        change(&mut world);
        step(&mut world);
        world.seconds += 60;
        world.observed.turn = Turn::Now;
        let (plan, is_replaced) = step(&mut world);
        let reason = behind(&plan);
        assert_eq!(
            (reason, is_replaced),
            (Some("WaitsUntilReady"), false),
            "{case}"
        );
    }
}

#[test]
fn pods_that_do_not_get_ready_with_it_halt_all_until_they_do() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    world.live().observed_generation = world.live().generation;
    world.live().updated = 1;
    trouble(&mut world, TroubleKind::CrashLoop);
    for _ in 0..2 {
        restart(&mut world);
        let (plan, is_replaced) = step(&mut world);
        let said = why(&plan, "SidecarUpgradeFailed");
        assert!(said.starts_with(
            "the pods do not work with the sidecar sidecar:2, so that no other worker gets it: "
        ));
        assert!(
            said.ends_with("container conductor-sidecar: back-off"),
            "{said}"
        );
        assert!(matches!(plan.upgrade, Standing::Failed { .. }) && !is_replaced);
    }

    // The operator from before comes back: it goes on with its own sidecar, whoevers turn it is.
    let mut back = world.clone();
    succeed(&mut back, "sidecar:1", external(3));
    back.observed.turn = Turn::Unknown;
    let (plan, is_replaced) = step(&mut back);
    assert!(is_replaced && back.live().origin.upgrade_since.is_some());
    assert_eq!(runs(&mut back), "sidecar:1");
    assert_eq!(behind(&plan), None);
    roll(&mut back);
    restart(&mut back);
    assert_eq!(step(&mut back).0.upgrade, Standing::Current);

    // Or it gets well by itself.
    roll(&mut world);
    restart(&mut world);
    let (plan, _) = step(&mut world);
    assert_eq!(plan.upgrade, Standing::Current);
    assert_eq!(condition(&plan, "SidecarUpgradeFailed"), ("", ""));
}

#[test]
fn a_spec_that_cannot_be_run_ends_no_halt() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    let invalid = |world: &World| {
        let mut world = world.clone();
        world.observed.worker = Err("min > max".to_owned());
        world
    };
    // It is under way.
    let mut under_way = invalid(&world);
    for _ in 0..2 {
        assert_eq!(step(&mut under_way).0.upgrade, Standing::UnderWay);
        restart(&mut under_way);
    }

    world.live().observed_generation = world.live().generation;
    world.live().updated = 1;
    trouble(&mut world, TroubleKind::CrashLoop);
    let failed = step(&mut world).0.upgrade;
    assert!(matches!(failed, Standing::Failed { .. }));
    let mut broken = invalid(&world);
    for _ in 0..2 {
        let (plan, _) = step(&mut broken);
        assert_eq!(condition(&plan, "Ready").1, "InvalidSpec");
        assert_eq!(plan.upgrade, failed);
        // Another process has it from the Deployment, and why from the status.
        restart(&mut broken);
    }
    // It gets well nevertheless.
    roll(&mut broken);
    assert_eq!(step(&mut broken).0.upgrade, Standing::Current);
    restart(&mut broken);
    assert_eq!(step(&mut broken).0.upgrade, Standing::Current);

    // One that is behind stays so, and one that is neither is nothing.
    let mut world = running(3);
    assert_eq!(step(&mut invalid(&world)).0.upgrade, Standing::Current);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    assert_eq!(step(&mut invalid(&world)).0.upgrade, Standing::Behind);
}

#[test]
fn a_failure_is_warned_of_once() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    world.live().updated = 1;
    trouble(&mut world, TroubleKind::ImagePull);
    let (plan, _) = step(&mut world);
    assert!(told(&plan).contains(&(true, "SidecarUpgradeFailed")));
    world.seconds += 20;
    let (plan, _) = step(&mut world);
    assert!(!told(&plan).contains(&(true, "SidecarUpgradeFailed")));
}

#[test]
fn while_one_fails_no_other_is_begun_not_even_without_pods() {
    let halted = || Turn::Halted {
        by: Key {
            namespace: "shop".to_owned(),
            name: "resize".to_owned(),
        },
        why: "ImagePull".to_owned(),
    };
    for pods in [0, 3] {
        let mut world = running(pods);
        succeed(&mut world, "sidecar:2", external(pods));
        world.observed.turn = halted();
        let (plan, _) = step(&mut world);
        assert_eq!(behind(&plan), Some("UpgradesHalted"));
        assert!(
            why(&plan, "SidecarBehind")
                .ends_with("it comes when shop/resize works, whose pods do not with it: ImagePull")
        );
        assert_eq!(runs(&mut world), "sidecar:1");
        // A change of the user's is theirs to roll out.
        let mut spec = external(pods);
        merge(&mut spec, json!({"concurrency": 3}));
        succeed(&mut world, "sidecar:2", spec);
        world.observed.turn = halted();
        assert_eq!(step(&mut world).0.upgrade, Standing::Current);
        assert_eq!(runs(&mut world), "sidecar:2");
    }
}

#[test]
fn a_change_of_the_users_takes_the_place_of_an_upgrade() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    step(&mut world);
    let mut spec = external(3);
    merge(&mut spec, json!({"concurrency": 3}));
    succeed(&mut world, "sidecar:2", spec);
    let (plan, is_replaced) = step(&mut world);
    assert_eq!((plan.upgrade, is_replaced), (Standing::Current, true));
    assert_eq!(world.live().origin.upgrade_since, None);
}

#[test]
fn an_upgrade_that_the_api_server_refuses_fails_and_is_not_sent_again_at_each_tick() {
    let mut world = running(3);
    succeed(&mut world, "sidecar:2", external(3));
    step(&mut world);
    world.observed.turn = Turn::Now;
    let plan = world.plan();
    let mut memory = plan.memory;
    memory.deployment.refused = Some(Refused {
        object: plan.deployment.unwrap(),
        message: "an image of a registry that is not allowed".to_owned(),
        at: world.now().clock,
        times: 7,
    });
    world.observed.memory = memory;
    for _ in 0..3 {
        world.seconds += 5;
        let (plan, _) = step(&mut world);
        assert!(plan.deployment.is_none());
        assert!(matches!(plan.upgrade, Standing::Failed { .. }));
        assert_eq!(plan.status.sidecar_image.as_deref(), Some("sidecar:1"));
    }
    world.seconds += 60;
    let sent = world.plan().deployment.unwrap();
    assert_eq!(image(&sent["spec"]["template"]), "sidecar:2");
}

// === whose turn it is ===

fn key(name: &str) -> Key {
    Key {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

#[test]
fn turns_are_given_to_so_many_workers_at_a_time() {
    use Standing::{Behind, Current, UnderWay};
    let turns = |at_once, standings: [Standing; 4]| {
        let names = ["a", "b", "c", "d"].map(key);
        let all: BTreeMap<Key, Standing> = names.clone().into_iter().zip(standings).collect();
        names.map(|name| turn(at_once, &all, &name))
    };
    let (now, later) = (|| Turn::Now, || Turn::Later);
    assert_eq!(
        turns(1, [Current, Behind, Behind, Current]),
        [later(), now(), now(), later()]
    );
    assert_eq!(
        turns(1, [UnderWay, Behind, Behind, Current]),
        [now(), later(), later(), later()]
    );
    assert_eq!(
        turns(2, [UnderWay, Behind, Behind, Current]),
        [now(), now(), now(), later()]
    );
    let failed = || Standing::Failed {
        why: "because".to_owned(),
    };
    let halted = || Turn::Halted {
        by: key("b"),
        why: "because".to_owned(),
    };
    assert_eq!(
        turns(3, [UnderWay, failed(), Behind, Current]),
        [now(), now(), halted(), halted()]
    );
}

// === several workers ===

/// Workers under one operator, which ends again and again.
struct Fleet {
    workers: Vec<World>,
    standings: BTreeMap<Key, Standing>,
    at_once: usize,
    /// Of 256 times, how often the operator ends.
    ends: u8,
    rng: fastrand::Rng,
}

impl Fleet {
    fn new(seed: u64, workers: usize, at_once: usize) -> Self {
        let workers = (0..workers).map(|i| {
            let mut world = World::new(external(2));
            world.observed.key = key(&format!("w{i}"));
            let first = world.plan();
            world.apply(first);
            world.catch_up();
            world.settle();
            succeed(&mut world, "sidecar:2", external(2));
            world
        });
        Self {
            workers: workers.collect(),
            standings: BTreeMap::new(),
            at_once,
            ends: 10,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The operator ends: what it remembers is gone.
    fn restart(&mut self) {
        self.standings.clear();
        self.workers.iter_mut().for_each(restart);
    }

    /// A worker is reconciled; now and then the operator ends half-way.
    fn reconcile(&mut self, i: usize) {
        let is_known = self.standings.len() == self.workers.len();
        let world = &mut self.workers[i];
        let key = world.observed.key.clone();
        world.seconds += 1;
        world.observed.turn = if is_known {
            turn(self.at_once, &self.standings, &key)
        } else {
            Turn::Unknown
        };
        let plan = world.plan();
        self.standings.insert(key, plan.upgrade.clone());
        if self.rng.u8(..) < self.ends {
            return self.restart();
        }
        let before = world.live().template.clone();
        world.apply(plan);
        if world.live().template != before {
            world.live().updated = 0;
        }
        if self.rng.u8(..) < self.ends {
            self.restart();
        }
    }

    fn rolling(&self) -> Vec<usize> {
        let rolls = |world: &World| {
            let live = world.observed.deployment.as_ref().unwrap();
            live.updated < live.replicas
        };
        let all = 0..self.workers.len();
        all.filter(|&i| rolls(&self.workers[i])).collect()
    }

    fn check_upgraded(&mut self) {
        for world in &mut self.workers {
            let worker = world.observed.key.to_string();
            assert_eq!(runs(world), "sidecar:2", "{worker}");
            assert_eq!(world.live().origin.upgrade_since, None, "{worker}");
        }
    }
}

#[test]
fn an_operator_that_ends_at_any_point_upgrades_all_and_never_more_at_once_than_it_may() {
    for (seed, at_once) in (0..6).zip([1, 2, 3].into_iter().cycle()) {
        let mut fleet = Fleet::new(seed, 6, at_once);
        let mut most = 0;
        for step in 0..300 {
            // It need not come to an end while it ends all the time.
            if step == 150 {
                fleet.ends = 0;
            }
            let i = fleet.rng.usize(..6);
            fleet.reconcile(i);
            let rolling = fleet.rolling();
            assert!(rolling.len() <= at_once, "seed {seed}: {rolling:?}");
            most = most.max(rolling.len());
            if let Some(&i) = rolling.first()
                && fleet.rng.u8(..) < 60
            {
                roll(&mut fleet.workers[i]);
            }
        }
        assert!(most > 0, "seed {seed}");
        fleet.check_upgraded();
    }
}

#[test]
fn an_operator_that_ends_at_any_point_begins_with_nobody_while_one_fails() {
    for seed in 0..6 {
        let mut fleet = Fleet::new(seed, 6, 3);
        let failed = loop {
            let i = fleet.rng.usize(..6);
            fleet.reconcile(i);
            if let Some(&failed) = fleet.rolling().first() {
                break failed;
            }
        };
        let world = &mut fleet.workers[failed];
        world.live().observed_generation = world.live().generation;
        trouble(world, TroubleKind::CrashLoop);
        fleet.reconcile(failed);
        let rolling = fleet.rolling();
        for _ in 0..100 {
            let i = fleet.rng.usize(..6);
            fleet.reconcile(i);
            assert_eq!(fleet.rolling(), rolling, "seed {seed}");
        }
        // It is well again, and so are all others in the end.
        fleet.ends = 0;
        for _ in 0..200 {
            if let Some(&i) = fleet.rolling().first() {
                roll(&mut fleet.workers[i]);
            }
            let i = fleet.rng.usize(..6);
            fleet.reconcile(i);
        }
        fleet.check_upgraded();
    }
}
