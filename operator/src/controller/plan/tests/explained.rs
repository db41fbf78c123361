//! What a status says of a decision: its numbers, its limits, what came before, what was learnt.

use api::{RateLimitStatus, ScalingStatus};

use super::*;
use crate::sampling::Pollers;

fn scaling(plan: &Plan) -> &ScalingStatus {
    plan.status.scaling.as_ref().unwrap()
}

fn message<'a>(plan: &'a Plan, kind: &str) -> Option<&'a str> {
    let found = plan.status.conditions.iter().find(|c| c.type_ == kind)?;
    Some(&found.message)
}

/// Carries plans out until nothing is left to do, and lets the Deployment follow.
fn carry_out(world: &mut World, plan: Plan) {
    world.apply(plan);
    world.settle();
    world.catch_up();
}

// === the numbers ===

#[test]
fn the_numbers_behind_a_decision_and_their_ages_are_told() {
    let mut world = World::running(2, json!({}));
    world.read(4_100, &[2, 2]);
    let round = world.observed.round.as_mut().unwrap();
    let at = |age| Instant::at(Duration::from_secs(world.seconds - age));
    round.queues.get_mut(&queue()).unwrap().size = Some((at(2), 4_100));
    round.pods.get_mut("uid-1").unwrap().at = at(3);
    let limits = Limits {
        at_once: Some(7),
        rate: Some(scaling::RateLimit {
            count: 9,
            window: Duration::from_secs(60),
        }),
    };
    round.limits = [("greet".to_owned(), limits)].into();
    let plan = world.plan();
    let terms = scaling(&plan).terms.unwrap();
    assert_eq!((terms.current, terms.queue, terms.running), (2, 4_100, 4));
    assert_eq!(terms.queue_age_seconds, Some(2.0));
    assert_eq!(terms.pods_age_seconds, Some(3.0));
    assert!((terms.drain_seconds - 18.0).abs() < 1e-9 && terms.start_up_seconds > 0.0);
    assert_eq!(
        scaling(&plan).measured_at.as_deref(),
        Some("1970-01-01T00:16:45Z")
    );
    let task = &plan.status.tasks[0];
    assert_eq!(task.concurrent_exec_limit, Some(7));
    let rate = RateLimitStatus {
        count: 9,
        seconds: 60,
        ignored: false,
    };
    assert_eq!(task.rate_limit, Some(rate));
    assert!(task.backlog.is_some() && task.need.is_some() && task.execution_seconds.is_some());
}

#[test]
fn a_rate_limit_that_the_server_ignores_bounds_nothing() {
    // Of a limit of 10 in 60 s; so many start in each round of 5 s.
    for (starts, ignored) in [(0, false), (1, false), (4, true)] {
        let mut world = World::running(1, json!({}));
        let mut rounds = 0;
        let is_ignored = |plan: &Plan| plan.status.tasks[0].rate_limit.unwrap().ignored;
        let limits = Limits {
            at_once: None,
            rate: Some(scaling::RateLimit {
                count: 10,
                window: Duration::from_secs(60),
            }),
        };
        let mut next = |world: &mut World, started| {
            world.read(500, &[2]);
            let round = world.observed.round.as_mut().unwrap();
            round.limits = [("greet".to_owned(), limits)].into();
            let growth = Growth {
                started,
                ..Growth::default()
            };
            round.growth = [(queue(), growth)].into();
            let plan = world.plan();
            world.apply(plan.clone());
            rounds += 1;
            plan
        };
        for _ in 0..24 {
            assert!(!is_ignored(&next(&mut world, starts)), "two windows first");
        }
        assert_eq!(is_ignored(&next(&mut world, starts)), ignored, "{starts}");
        // Nothing is started any more: for an hour it is still known.
        for later in [3_500, 200] {
            world.seconds += later;
            let known = ignored && later > 1_000;
            assert_eq!(is_ignored(&next(&mut world, 0)), known, "{starts}");
        }
    }
}

#[test]
fn the_limits_in_force_are_told() {
    for (patch, expected) in [
        (json!({}), Some((0, 10, false))),
        (json!({"scaling": {"minReplicas": 2}}), Some((2, 10, false))),
        (
            json!({"scaling": {"schedules": [{"cron": "0 0 * * *", "duration": "1h", "minReplicas": 3}]}}),
            Some((3, 10, true)),
        ),
        (recommend(2), Some((0, 10, false))),
        (external(2), None),
        (json!({"suspend": true}), None),
    ] {
        let mut world = World::running(2, patch.clone());
        let plan = world.tick(0, &[1, 1]);
        let limits = scaling(&plan).limits.as_ref();
        let told = limits.map(|l| (l.min, l.max, l.schedule.is_some()));
        assert_eq!(told, expected, "{patch}");
    }
}

// === what came before ===

/// From, to and reason of what is told.
fn told(plan: &Plan) -> Vec<(u32, u32, &str)> {
    let history = scaling(plan).history.iter();
    history.map(|c| (c.from, c.to, c.reason.as_str())).collect()
}

#[test]
fn decisions_that_change_something_are_told_and_others_are_not() {
    let mut world = World::running(1, json!({}));
    assert!(told(&world.plan()).is_empty(), "nothing was decided yet");
    let plan = world.tick(100, &[2]);
    let (more, reason) = decided(&plan);
    assert!(more > 2 && reason == "ScaledUp", "{more} {reason}");
    let first = (1, more, "ScaledUp");
    assert_eq!(told(&plan), [first]);
    let change = &scaling(&plan).history[0];
    assert_eq!(change.at, "1970-01-01T00:16:45Z");
    assert_eq!(change.message, scaling(&plan).message);
    carry_out(&mut world, plan);
    // The same number, for another of the usual reasons.
    let plan = world.tick(8, &[2, 2, 2, 2]);
    assert_eq!(decided(&plan).0, more);
    assert_ne!(decided(&plan).1, "ScaledUp");
    assert_eq!(told(&plan), [first]);
    carry_out(&mut world, plan);
    // The same number, for a reason that someone should know.
    world.seconds += 100;
    world.read(8, &[2, 2, 2, 2]);
    world.unread(Some(Failure::Unreachable), None);
    let plan = world.plan();
    assert_eq!(told(&plan), [first, (more, more, "StaleMetrics")]);
}

#[test]
fn twenty_changes_are_told_and_a_restart_of_the_operator_loses_none() {
    let mut world = World::running(0, json!({}));
    for i in 0..30 {
        let suspended = world.worker().suspend;
        world.edit(json!({"suspend": !suspended}));
        let plan = world.tick(u64::from(i % 2 == 0), &[]);
        carry_out(&mut world, plan);
    }
    let before = world.observed.status.scaling.clone().unwrap().history;
    assert_eq!(before.len(), 20);
    world.observed.memory = Memory::default();
    assert_eq!(scaling(&world.plan()).history, before);
}

// === how often it is written ===

#[test]
fn usual_reasons_come_and_go_without_a_write_of_their_own() {
    let mut world = World::running(3, json!({}));
    let plan = world.tick(0, &[2, 2, 2]);
    carry_out(&mut world, plan);
    let reason = world.observed.status.scaling.clone().unwrap().reason;
    let mut others = 0;
    for (waiting, in_work) in [(0, [1, 0, 0]), (0, [2, 2, 2]), (2, [2, 2, 1])] {
        let plan = world.tick(waiting, &in_work);
        assert_eq!(decided(&plan).0, 3);
        others += usize::from(decided(&plan).1 != reason);
        assert!(!plan.write_status, "{:?}", decided(&plan));
        world.apply(plan);
    }
    assert!(others > 0, "the reason never changed");
    // Since when it is so is not since when it was written.
    let mut written = 0;
    let mut before = world.tick(2, &[2, 2, 1]);
    for _ in 0..13 {
        let plan = world.tick(2, &[2, 2, 1]);
        if decided(&plan) == decided(&before) {
            assert_eq!(scaling(&plan).decided_at, scaling(&before).decided_at);
        }
        written += usize::from(plan.write_status);
        world.apply(plan.clone());
        before = plan;
    }
    assert_eq!(written, 1, "once a minute");
}

#[test]
fn a_pod_that_is_kept_for_a_few_tasks_is_no_news_with_each_of_them() {
    let mut world = World::running(1, json!({"scaling": {"minReplicas": 1}}));
    let plan = world.tick(0, &[0]);
    assert_eq!(decided(&plan), (1, "AtMinReplicas"));
    carry_out(&mut world, plan);
    let (mut writes, mut reasons) = (0, BTreeSet::new());
    for i in 0..24 {
        let plan = world.tick(0, &[u32::from(i % 3 == 0)]);
        reasons.insert(decided(&plan).1.to_owned());
        writes += usize::from(plan.write_status);
        assert_eq!(told(&plan).len(), 1);
        world.apply(plan);
    }
    assert!(reasons.len() > 1, "{reasons:?}");
    assert!(writes <= 2, "{writes} writes in two minutes");
}

#[test]
fn nothing_is_written_while_nothing_is_to_be_done() {
    let mut world = World::running(0, json!({}));
    let plan = world.tick(0, &[]);
    carry_out(&mut world, plan);
    for _ in 0..100 {
        let plan = world.tick(0, &[]);
        assert!(plan.is_empty(), "{plan:#?}");
        world.apply(plan);
    }
}

// === what is learnt ===

/// A world that has learnt that a task takes 4 s.
fn taught(patch: Value) -> World {
    let mut world = World::running(2, patch);
    for _ in 0..30 {
        world.read(0, &[2, 2]);
        let growth = Growth {
            started: 5,
            ended: 5,
            executing_seconds: 20.0,
            occupied_seconds: 20.0,
            ..Growth::default()
        };
        world.observed.round.as_mut().unwrap().growth = [(queue(), growth)].into();
        let plan = world.plan();
        world.apply(plan);
    }
    world
}

fn execution_seconds(plan: &Plan) -> f64 {
    plan.status.tasks[0].execution_seconds.unwrap()
}

/// The operator starts anew, so many seconds after the last status was written, and reads once.
fn restarted(mut world: World, later: u64) -> Plan {
    world.observed.memory = Memory::default();
    world.seconds += later;
    world.tick(0, &[2, 2])
}

#[test]
fn what_was_learnt_survives_a_restart_for_an_hour() {
    let world = taught(json!({}));
    let now = execution_seconds(&world.plan());
    assert!((3.0..4.1).contains(&now), "{now}");
    for (later, is_known) in [(10, true), (3_000, true), (3_700, false)] {
        let s = execution_seconds(&restarted(world.clone(), later));
        assert_eq!(
            (s - now).abs() < 0.1 * now,
            is_known,
            "{later} s later: {s}"
        );
    }
    // Nothing is lowered for that at once.
    assert!(decided(&restarted(world, 10)).0 >= 2);
}

#[test]
fn what_makes_no_sense_is_not_learnt() {
    let world = taught(json!({}));
    let text = scaling(&world.plan()).memory.clone().unwrap();
    assert!(text.len() < 300, "{text}");
    for nonsense in [
        String::new(),
        "null".to_owned(),
        "{".repeat(1_000),
        text.replace("\"version\":1", "\"version\":2"),
        text.replace("1970-", "2070-"),
        text.replace("\"tasks\":[", "\"tasks\":[[],"),
        text.replace("\"greet\"", "\"another\""),
    ] {
        assert_ne!(nonsense, text);
        let mut world = world.clone();
        world.observed.status.scaling.as_mut().unwrap().memory = Some(nonsense.clone());
        let s = execution_seconds(&restarted(world, 10));
        assert!((s - 1.0).abs() < 0.7, "{nonsense}: {s}");
    }
}

#[test]
fn what_was_learnt_stays_with_its_task_type_when_others_come() {
    let mut world = taught(json!({}));
    let now = execution_seconds(&world.plan());
    world.edit(json!({"tasks": [{"name": "another"}, {"name": "greet"}]}));
    let plan = world.tick(0, &[2, 2]);
    let s: Vec<f64> = plan
        .status
        .tasks
        .iter()
        .filter_map(|t| t.execution_seconds)
        .collect();
    assert!(
        (s[0] - 1.0).abs() < 0.1 && (s[1] - now).abs() < 0.1 * now,
        "{s:?}"
    );
}

// === conditions ===

#[test]
fn who_polls_beside_us_is_named() {
    let mut world = World::running(1, json!({}));
    world.read(0, &[1]);
    assert_eq!(message(&world.plan(), "ForeignPollers"), None);
    let round = world.observed.round.as_mut().unwrap();
    let pollers = Pollers {
        names: ["", "host-1", "host-2", "host-3", "host-4"]
            .map(str::to_owned)
            .into(),
        last_poll: 61_000,
    };
    round.pollers = [(queue(), pollers)].into();
    let plan = world.plan();
    assert_eq!(condition(&plan, "ForeignPollers").0, "True");
    assert_eq!(
        message(&plan, "ForeignPollers").unwrap(),
        "greet is also polled by somebody without a worker id, host-1, host-2 and 2 more, none of this operator's pods (last at 1970-01-01T00:01:01Z): they take a part of its tasks, which no decision knows"
    );
    assert!(plan.events.is_empty() && condition(&plan, "Ready").0 == "True");
    // A restart of the operator does not forget it before it has looked again.
    world.apply(plan);
    world.observed.memory = Memory::default();
    assert_eq!(condition(&world.plan(), "ForeignPollers").0, "True");
    assert_eq!(message(&world.tick(0, &[1]), "ForeignPollers"), None);
}

#[test]
fn a_domain_that_nobody_polls_is_told() {
    let tasks = json!([{"name": "greet", "domain": "gpu"}]);
    let zero = json!({"tasks": tasks, "scaling": {"minReplicas": 0}});
    for (pods, patch, expected) in [
        (0, zero.clone(), Some("scaling.minReplicas to 1")),
        (1, zero, None),
        (0, json!({"tasks": tasks}), None),
        (
            0,
            json!({"tasks": tasks, "suspend": true}),
            Some("suspend to false"),
        ),
        (0, json!({}), None),
    ] {
        let mut world = World::running(pods, patch.clone());
        let plan = world.tick(0, &[1]);
        let message = message(&plan, "DomainIdleFallsBack");
        assert_eq!(message.is_some(), expected.is_some(), "{patch}");
        if let (Some(message), Some(words)) = (message, expected) {
            assert!(
                message.contains("the domain gpu") && message.contains(words),
                "{message}"
            );
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_time_and_its_reason() {
    let mut world = World::running(1, json!({}));
    let plan = world.tick(0, &[1]);
    world.apply(plan);
    world.seconds += 100;
    world.read(0, &[1]);
    world.unread(Some(Failure::Forbidden), Some(100));
    assert_eq!(
        message(&world.plan(), "MetricsAvailable").unwrap(),
        "the size of the queue greet was last read at 1970-01-01T00:16:50Z (refused): the number of pods is not lowered"
    );
    world.unread(None, None);
    let said = world.plan();
    let said = message(&said, "MetricsAvailable").unwrap().to_owned();
    assert!(said.contains("greet has not been read yet"), "{said}");
}

#[test]
fn one_queue_that_is_refused_is_named() {
    let tasks = json!({"tasks": [{"name": "greet"}, {"name": "other"}]});
    let mut world = World::running(1, tasks);
    world.read(0, &[1]);
    world.unread(Some(Failure::Forbidden), None);
    let at = world.now().clock;
    let other = QueueReading {
        size: Some((at, 3)),
        ..QueueReading::default()
    };
    let round = world.observed.round.as_mut().unwrap();
    round.queues.insert(QueueName::new("other", None), other);
    let plan = world.plan();
    assert_eq!(
        condition(&plan, "ConnectionHealthy"),
        ("False", "Forbidden")
    );
    assert_eq!(
        message(&plan, "ConnectionHealthy").unwrap(),
        "http://conductor:8080/api: the queue greet: refused"
    );
}

#[test]
fn what_is_read_in_turns_is_fresh_until_its_turn_has_come_three_times() {
    // Rounds of 5 s: in how many one is read, how old it is, whether it still counts.
    for (rounds, age, fresh) in [
        (1, 15, true),
        (1, 16, false),
        (3, 45, true),
        (3, 46, false),
        (0, 15, true),
        // No longer than a minute.
        (10, 60, true),
        (10, 61, false),
    ] {
        let mut world = World::running(1, json!({}));
        world.read(0, &[1]);
        world.unread(None, Some(age));
        let round = world.observed.round.as_mut().unwrap();
        round.queues.get_mut(&queue()).unwrap().rounds = rounds;
        let metrics = condition(&world.plan(), "MetricsAvailable").0 == "True";
        assert_eq!(metrics, fresh, "a queue: {rounds} rounds, {age} s");

        world.read(0, &[1]);
        let at = Instant::at(Duration::from_secs(world.seconds - age));
        let round = world.observed.round.as_mut().unwrap();
        round.pods_rounds = rounds;
        round.pods.get_mut("uid-0").unwrap().at = at;
        let metrics = condition(&world.plan(), "MetricsAvailable").0 == "True";
        assert_eq!(metrics, fresh, "a pod: {rounds} rounds, {age} s");
    }
}

#[test]
fn a_pod_whose_turn_is_past_is_not_known_to_be_idle() {
    let mut world = World::running(3, external(2));
    world.untold = Some(Untold::Unable);
    world.read(0, &[1, 0, 0]);
    let round = world.observed.round.as_mut().unwrap();
    round.pods_rounds = 3;
    round.pods.get_mut("uid-2").unwrap().earlier = true;
    // The youngest would go otherwise.
    let plan = world.plan();
    assert_eq!(marked(&plan), ["pod-1"]);

    // It is told to take no more tasks; where it cannot be, it is not taken for idle.
    let round = world.observed.round.as_mut().unwrap();
    round.pods.get_mut("uid-1").unwrap().in_flight = 1;
    let plan = world.plan();
    assert_eq!(marked(&plan), ["pod-2"]);
    world.apply(plan);
    assert_eq!(asked(&world.plan()), None);
}

// === events and metrics ===

#[test]
fn what_was_told_a_while_ago_is_not_told_again() {
    let event = |warning, message: &str| Event {
        warning,
        reason: "Why".to_owned(),
        message: message.to_owned(),
    };
    let mut memory = Memory::default();
    let world = World::new(json!({}));
    let mut told = |warning, message, later| {
        let mut now = world.now();
        now.clock = Instant::at(Duration::from_secs(later));
        super::super::told::once(&mut memory, vec![event(warning, message)], now).len() == 1
    };
    assert!(told(true, "3 of 4", 0));
    assert!(!told(true, "2 of 4", 300), "the same warning");
    assert!(told(false, "3 → 4", 300) && told(false, "4 → 3", 310));
    assert!(!told(false, "3 → 4", 350), "word by word");
    assert!(told(false, "3 → 4", 361), "it changed once more");
    assert!(told(true, "1 of 4", 601));
}

#[test]
fn a_condition_that_flaps_is_one_event() {
    let mut world = World::running(3, json!({}));
    let mut events = 0;
    for _ in 0..10 {
        for failure in [None, Some(Failure::Unreachable)] {
            world.read(0, &[1, 1, 1]);
            if failure.is_some() {
                world.unread(failure, Some(1));
            }
            let plan = world.plan();
            events += plan
                .events
                .iter()
                .filter(|e| e.reason == "ConductorUnreachable")
                .count();
            world.apply(plan);
        }
    }
    assert_eq!(events, 1);
}

/// The series of a worker, by name.
fn series(registry: &prometheus::Registry) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in registry.gather() {
        let name = family.name().trim_start_matches("conductor_worker_");
        for metric in family.get_metric() {
            let labels: Vec<&str> = metric
                .get_label()
                .iter()
                .map(prometheus::proto::LabelPair::value)
                .collect();
            if labels.contains(&"greet") {
                all.insert(
                    format!("{name} {}", labels.join(",")),
                    metric.get_gauge().get_value(),
                );
            }
        }
    }
    all
}

#[test]
fn the_numbers_behind_a_decision_are_metrics_until_they_are_no_longer() {
    let registry = prometheus::Registry::new();
    let metrics = crate::metrics::Metrics::new(&registry).unwrap();
    let mut world = World::running(2, json!({"tasks": [{"name": "greet", "domain": "gpu"}]}));
    world.read(0, &[1, 1]);
    let round = world.observed.round.as_mut().unwrap();
    let reading = round.queues.remove(&queue()).unwrap();
    round
        .queues
        .insert(QueueName::new("greet", Some("gpu")), reading);
    let plan = world.plan();
    metrics.note(&world.observed, &plan, world.now());
    let shown = series(&registry);
    assert_eq!(shown.get("current_replicas shop,greet"), Some(&2.0));
    assert_eq!(shown.get("max_replicas shop,greet"), Some(&10.0));
    assert_eq!(shown.get("min_replicas shop,greet"), Some(&1.0));
    assert!(shown.keys().any(|k| k.starts_with("start_up_seconds")));
    assert!(shown.keys().any(|k| k.starts_with("stats_age_seconds")));
    let of_queue = |shown: &BTreeMap<String, f64>| {
        let keys = shown.keys();
        keys.filter(|k| k.starts_with("execution_seconds")).count()
    };
    assert_eq!(of_queue(&shown), 1, "{shown:?}");

    // Somebody else says how many.
    world.apply(plan);
    world.edit(external(2));
    let plan = world.tick(0, &[1, 1]);
    metrics.note(&world.observed, &plan, world.now());
    let shown = series(&registry);
    assert!(
        shown
            .keys()
            .all(|k| !k.starts_with("current") && !k.starts_with("start_up"))
    );
    assert_eq!(of_queue(&shown), 0, "{shown:?}");
    metrics.forget_gone(|_| false);
    assert!(series(&registry).is_empty());
}
