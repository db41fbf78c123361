//! Tables of Observed and Plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use conductor_client::{ApiBase, QueueName};
use jiff::Timestamp;
use runtime::cordon::Action;
use scaling::Instant;
use serde_json::json;

use super::*;
use crate::{
    ROLLOUT_STALLED,
    controller::observed::{
        Applied, Key, LiveBudget, LiveDeployment, LiveMark, LivePod, Marked, Origin, Refused,
        Share, SidecarState, Trouble, TroubleKind, Written,
    },
    cordons::{Told, Untold},
    sampling::{
        Failure, Growth, Limits, PodReading, QueueReading, Round, TaskReading, Unavailable,
    },
    worker::{Defaults, Worker},
};

mod explained;

const TICK: u64 = 5;

// === worlds ===

/// What is observed, and a clock.
#[derive(Clone)]
struct World {
    observed: Observed,
    seconds: u64,
    /// What each pod has in work, by its name.
    in_work: BTreeMap<String, u32>,
    /// What pods say that cannot be cordoned.
    untold: Option<Untold>,
    /// The names of pods whose breakers are open.
    broken: BTreeSet<String>,
    /// Sidecars are older than breakers.
    without_breakers: bool,
    /// How many tasks of each pod have worked and have failed, by its name.
    done: BTreeMap<String, (u64, u64)>,
}

/// Objects are merged, all else is replaced.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn worker(patch: Value) -> Worker {
    worker_of("sidecar:1", patch)
}

/// As an operator reads it whose own sidecar this is.
fn worker_of(sidecar: &str, patch: Value) -> Worker {
    let mut spec = json!({
        "tasks": [{"name": "greet"}],
        "concurrency": 2,
        "scaling": {"maxWait": "30s", "maxReplicas": 10},
        "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
    });
    merge(&mut spec, patch);
    let defaults = Defaults {
        conductor_url: Some(ApiBase::parse("http://conductor:8080/api").unwrap()),
        sidecar_image: sidecar.to_owned(),
        sidecar_image_pull_policy: "IfNotPresent".to_owned(),
    };
    Worker::parse(&serde_json::from_value(spec).unwrap(), &defaults).unwrap()
}

fn external(replicas: u32) -> Value {
    json!({"scaling": {"mode": "External"}, "replicas": replicas})
}

fn recommend(replicas: u32) -> Value {
    json!({"scaling": {"mode": "Recommend"}, "replicas": replicas})
}

fn queue() -> QueueName {
    QueueName::new("greet", None)
}

fn replicas(object: &Value) -> u32 {
    object["spec"]["replicas"]
        .as_u64()
        .unwrap()
        .try_into()
        .unwrap()
}

/// Whether a Deployment is paused, and for which template by the operator.
fn pause(object: &Value) -> (bool, Option<String>) {
    let mark = &object["metadata"]["annotations"][ROLLOUT_STALLED];
    let spec = &object["spec"];
    (spec["paused"] == true, mark.as_str().map(str::to_owned))
}

impl LivePod {
    fn write(&mut self, hint: &Hint) {
        for (name, value) in &hint.annotations {
            let hints = &mut self.hints;
            match value {
                _ if name == crate::LONG_TASK_HINTS => {
                    let names = value.iter().flat_map(|names| names.split(','));
                    hints.own = names.map(str::to_owned).collect();
                }
                Some(value) => {
                    hints.there.insert(name.clone(), value.clone());
                }
                None => {
                    hints.there.remove(name);
                }
            }
        }
    }
}

impl LiveDeployment {
    /// What the API server makes of it.
    fn take(&mut self, object: &Value) {
        // Of metadata alone no new generation is made.
        let wanted = replicas(object);
        let template = &object["spec"]["template"];
        let (paused, stalled_for) = pause(object);
        if (self.wanted, self.paused, &*self.template) != (wanted, paused, template) {
            self.generation += 1;
        }
        (self.wanted, self.paused, self.stalled_for) = (wanted, paused, stalled_for);
        self.template = Arc::new(template.clone());
        let annotation = |name| {
            let value = object["metadata"]["annotations"][name].as_str();
            value.map(str::to_owned)
        };
        self.stalled_by = annotation(crate::ROLLOUT_STALLED_BY);
        self.resumed_for = annotation(crate::ROLLOUT_RESUMED);
        self.origin = Origin {
            spec: annotation(crate::SPEC_HASH),
            template: annotation(crate::TEMPLATE_HASH),
            upgrade_since: annotation(crate::SIDECAR_UPGRADE),
        };
    }
}

impl World {
    /// A worker that was just made.
    fn new(patch: Value) -> Self {
        let observed = Observed {
            key: Key {
                namespace: "shop".to_owned(),
                name: "greet".to_owned(),
            },
            uid: "w".to_owned(),
            generation: 1,
            deleting: false,
            worker: Ok(Arc::new(worker(patch))),
            status: ConductorWorkerStatus::default(),
            deployment: None,
            budgets: Some(Vec::new()),
            pods: Vec::new(),
            round: None,
            shared: BTreeMap::new(),
            told: BTreeMap::new(),
            unread_since: None,
            key_of_cordons: "key".to_owned(),
            turn: Turn::default(),
            memory: Memory::default(),
            tick: Duration::from_secs(TICK),
        };
        Self {
            observed,
            seconds: 1000,
            in_work: BTreeMap::new(),
            untold: None,
            broken: BTreeSet::new(),
            without_breakers: false,
            done: BTreeMap::new(),
        }
    }

    /// One that has run for a while with so many ready pods, `pod-0` the oldest.
    fn running(pods: u32, patch: Value) -> Self {
        let mut world = Self::new(patch);
        let mut object = world.plan().deployment.unwrap();
        object["spec"]["replicas"] = json!(pods);
        let mut plan = nothing(&world.observed, world.plan().memory);
        plan.deployment = Some(object);
        plan.budget = world.plan().budget;
        plan.memory.leaving.active = Some(pods);
        world.apply(plan);
        world.catch_up();
        world
    }

    fn worker(&self) -> &Worker {
        self.observed.worker.as_ref().unwrap()
    }

    fn live(&mut self) -> &mut LiveDeployment {
        self.observed.deployment.as_mut().unwrap()
    }

    fn edit(&mut self, patch: Value) {
        self.observed.worker = Ok(Arc::new(worker(patch)));
        self.observed.generation += 1;
    }

    fn now(&self) -> Now {
        let since = Duration::from_secs(self.seconds);
        Now {
            clock: Instant::at(since),
            wall: Timestamp::UNIX_EPOCH + since,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.observed, self.now())
    }

    /// The next round: what waits, and what each pod has in work.
    fn read(&mut self, waiting: u64, in_work: &[u32]) {
        self.seconds += TICK;
        let at = self.now().clock;
        self.in_work = self
            .observed
            .pods
            .iter()
            .enumerate()
            .map(|(i, pod)| {
                let n = in_work.get(i).copied().unwrap_or_default();
                (pod.name.clone(), n)
            })
            .collect();
        for (pod, n) in &self.in_work {
            let (worked, failed) = self.done.entry(pod.clone()).or_default();
            if self.broken.contains(pod) {
                *failed += u64::from(*n);
            } else {
                *worked += u64::from(*n);
            }
        }
        let started = self
            .observed
            .pods
            .iter()
            .filter(|pod| pod.sidecar == SidecarState::Running);
        let pods = started.map(|pod| {
            let mut reading = self.says(pod);
            for task in reading.tasks.values_mut() {
                task.idle = task.in_flight == 0 && waiting == 0;
            }
            (pod.uid.clone(), reading)
        });
        let pods = pods.collect();
        let size = Some((at, waiting));
        let reading = QueueReading {
            size,
            ..QueueReading::default()
        };
        self.observed.round = Some(Round {
            at,
            queues: [(queue(), reading)].into(),
            pods,
            ..Round::default()
        });
    }

    /// What a pod's sidecar would say now.
    fn says(&self, pod: &LivePod) -> PodReading {
        let in_flight = self.in_work.get(&pod.name).copied().unwrap_or_default();
        let (worked, failed) = self.done.get(&pod.name).copied().unwrap_or_default();
        let task = TaskReading {
            in_flight,
            broken: (!self.without_breakers).then(|| self.broken.contains(&pod.name)),
            worked,
            failed,
            ..TaskReading::default()
        };
        let told = self.observed.told.get(&pod.uid);
        PodReading {
            at: self.now().clock,
            in_flight,
            cordoned: told.is_some_and(|t| t.action == Action::Cordon && t.answer.is_ok()),
            tasks: [(queue(), task)].into(),
            ..PodReading::default()
        }
    }

    fn pod(&mut self, name: &str) -> &mut LivePod {
        let mut pods = self.observed.pods.iter_mut();
        pods.find(|pod| pod.name == name).unwrap()
    }

    /// A pod has ended what it had: when it is cordoned, it turns unready.
    fn ends(&mut self, name: &str) {
        self.seconds += 1;
        self.in_work.insert(name.to_owned(), 0);
        let pod = self.pod(name).clone();
        if self.says(&pod).cordoned {
            self.pod(name).ready_since = None;
        }
    }

    /// What a pod does when it is told something.
    fn tell(&mut self, order: &Order) {
        let at = self.now().clock;
        let before = self.observed.told.get(&order.uid).cloned();
        let answer = self.untold.map_or(Ok(PodReading::default()), Err);
        let mut told = Told::after(before.as_ref(), order.action, at, answer);
        // For so long that it shows.
        told.done_since = told.done_since.map(|_| Instant::at(Duration::ZERO));
        self.observed.told.insert(order.uid.clone(), told.clone());
        if told.answer.is_ok() {
            let pod = self.pod(&order.pod).clone();
            told.answer = Ok(self.says(&pod));
            self.observed.told.insert(order.uid.clone(), told);
            if order.action == Action::Uncordon {
                self.pod(&order.pod).ready_since = pod.created;
            } else if self.in_work.get(&order.pod).is_none_or(|&n| n == 0) {
                self.pod(&order.pod).ready_since = None;
            }
        }
    }

    fn tick(&mut self, waiting: u64, in_work: &[u32]) -> Plan {
        self.read(waiting, in_work);
        self.plan()
    }

    /// Ticks alike, until fewer pods have been enough for long enough. The last one's plan
    /// is not carried out.
    fn lull(&mut self, waiting: u64, in_work: &[u32]) -> Plan {
        for _ in 0..6 {
            let plan = self.tick(waiting, in_work);
            assert_eq!(todo(&plan), (0, 0, None));
            self.apply(plan);
        }
        self.tick(waiting, in_work)
    }

    /// The queue's size cannot be read; the last one is so old.
    fn unread(&mut self, failure: Option<Failure>, age: Option<u64>) {
        let failing = failure.map(|kind| Unavailable {
            since: self.now().clock,
            kind,
            message: "refused".to_owned(),
        });
        let at = |age| Instant::at(Duration::from_secs(self.seconds - age));
        let size = age.map(|age| (at(age), 0));
        let reading = QueueReading {
            size,
            failing,
            rounds: 1,
        };
        let queues = [(queue(), reading)].into();
        self.observed.round.as_mut().unwrap().queues = queues;
    }

    /// What the API server makes of a plan; the Deployment's controller has not moved yet.
    fn apply(&mut self, plan: Plan) {
        let mut memory = plan.memory;
        for mark in plan.marks {
            self.pod(&mark.pod).mark = LiveMark {
                since: mark.since,
                labelled: mark.since.is_some(),
                cost: mark.since.map_or(0, |_| mark.cost),
                key: Some(mark.key),
            };
            let marked = Marked {
                since: mark.since,
                cost: mark.cost,
                at: self.now().clock,
            };
            memory.leaving.marked.insert(mark.uid, marked);
        }
        for order in &plan.orders {
            self.tell(order);
        }
        for hint in plan.hints {
            let at = self.now().clock;
            self.pod(&hint.pod).write(&hint);
            let sent = SentHint {
                on: hint.on,
                refused: false,
                at,
            };
            memory.hinting.sent.insert(hint.uid, sent);
        }
        if let Some(object) = plan.deployment {
            let live = self.observed.deployment.get_or_insert_default();
            live.uid = "d".to_owned();
            live.owner = Some("w".to_owned());
            live.take(&object);
            let (uid, generation) = (live.uid.clone(), live.generation);
            memory.deployment.applied = Some(Applied {
                object,
                uid,
                generation,
            });
        }
        match plan.budget {
            Some(BudgetStep::Apply(object)) => {
                let live = self.make_budget(&object);
                memory.budget.applied = Some(Applied {
                    object,
                    uid: live.uid.clone(),
                    generation: live.generation,
                });
            }
            Some(BudgetStep::Delete(uid)) => {
                memory.budget = Sent::default();
                self.budgets().retain(|budget| budget.uid != uid);
            }
            None => {}
        }
        if plan.write_status {
            self.observed.status = plan.status.clone();
            let at = self.now().clock;
            memory.written = Some(Written {
                status: plan.status,
                at,
            });
        }
        self.observed.memory = memory;
        self.observed.round = None;
    }

    /// It is written, and nobody here hears of it.
    fn apply_unanswered(&mut self, plan: Plan) {
        let deployment = plan.memory.deployment.clone();
        self.apply(Plan {
            write_status: false,
            ..plan
        });
        self.observed.memory.deployment = deployment;
    }

    fn budgets(&mut self) -> &mut Vec<LiveBudget> {
        self.observed.budgets.as_mut().unwrap()
    }

    /// What the API server has after a budget was applied.
    fn make_budget(&mut self, object: &Value) -> &LiveBudget {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let meta = &object["metadata"];
        let live = LiveBudget {
            name: text(&meta["name"]),
            uid: "b".to_owned(),
            owner: Some(text(&meta["ownerReferences"][0]["uid"])),
            generation: 1,
            selector: serde_json::from_value(object["spec"]["selector"].clone()).unwrap(),
        };
        let budgets = self.budgets();
        budgets.retain(|budget| budget.name != live.name);
        budgets.push(live);
        budgets.last().unwrap()
    }

    /// Carries plans out until nothing is left to do; how many it took.
    fn settle(&mut self) -> usize {
        for steps in 0..5 {
            let plan = self.plan();
            if plan.is_empty() {
                return steps;
            }
            self.apply(plan);
        }
        panic!("no end: {:#?}", self.plan());
    }

    /// What the Deployment's controller does in the end.
    fn catch_up(&mut self) {
        let wanted = self.live().wanted;
        let pods = &mut self.observed.pods;
        pods.sort_by_key(|pod| std::cmp::Reverse(victims::rank(pod)));
        pods.truncate(wanted.try_into().unwrap());
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        for i in u64::try_from(pods.len()).unwrap()..wanted.into() {
            let made = Some(Timestamp::UNIX_EPOCH + Duration::from_secs(i));
            let (name, uid) = (format!("pod-{i}"), format!("uid-{i}"));
            pods.push(LivePod {
                name,
                uid,
                created: made,
                ready_since: made,
                assigned: true,
                sidecar: SidecarState::Running,
                ..LivePod::default()
            });
        }
        let live = self.live();
        live.observed_generation = live.generation;
        (live.replicas, live.updated, live.ready) = (wanted, wanted, wanted);
    }
}

// === what is read from a plan ===

fn condition<'a>(plan: &'a Plan, kind: &str) -> (&'a str, &'a str) {
    let found = plan.status.conditions.iter().find(|c| c.type_ == kind);
    found.map_or(("", ""), |c| (&c.status, &c.reason))
}

fn since(plan: &Plan, kind: &str) -> String {
    let mut found = plan.status.conditions.iter().filter(|c| c.type_ == kind);
    found.next().unwrap().last_transition_time.clone()
}

fn asked(plan: &Plan) -> Option<u32> {
    plan.deployment.as_ref().map(replicas)
}

/// Pods that are to go from now on: marked, and told so.
fn marked(plan: &Plan) -> Vec<&str> {
    let marks = plan.marks.iter().filter(|mark| mark.since.is_some());
    let mut marked: Vec<&str> = marks.map(|mark| mark.pod.as_str()).collect();
    marked.sort_unstable();
    let told = |pod: &&str| {
        let mut orders = plan.orders.iter();
        orders.any(|o| o.pod == **pod && o.action == Action::Cordon)
    };
    assert!(marked.iter().all(told), "{:?}", plan.orders);
    marked
}

/// Marks, orders, and the replicas that are asked for.
fn todo(plan: &Plan) -> (usize, usize, Option<u32>) {
    (plan.marks.len(), plan.orders.len(), asked(plan))
}

fn told(plan: &Plan) -> Vec<(bool, &str)> {
    let events = plan.events.iter();
    events.map(|e| (e.warning, e.reason.as_str())).collect()
}

fn decided(plan: &Plan) -> (u32, &str) {
    let scaling = plan.status.scaling.as_ref().unwrap();
    (scaling.desired, &scaling.reason)
}

// === the number of pods ===

#[test]
fn a_new_worker_gets_a_deployment_without_pods_and_a_status() {
    let mut world = World::new(json!({}));
    let plan = world.plan();
    assert_eq!(asked(&plan), Some(0));
    assert!(plan.write_status && plan.events.is_empty());
    assert_eq!(plan.status.observed_generation, Some(1));
    assert_eq!(
        plan.status.selector,
        "conductor-oss.org/worker=greet,!conductor-oss.org/draining"
    );
    assert_eq!(condition(&plan, "Ready"), ("False", "Starting"));
    assert_eq!(condition(&plan, "Reconciling"), ("True", "Starting"));
    let unknown = ("Unknown", "NotMeasuredYet");
    assert_eq!(condition(&plan, "MetricsAvailable"), unknown);

    world.apply(plan);
    assert_eq!(asked(&world.plan()), None);
    world.catch_up();
    assert_eq!(condition(&world.plan(), "Ready"), ("True", "ScaledToZero"));
}

#[test]
fn a_backlog_raises_in_one_step() {
    for (before, waiting, after, reason) in [
        (0, 1, 1, "ScaledUp"),
        (0, 30, 4, "ScaledUp"),
        (2, 500, 10, "CappedByMaxReplicas"),
    ] {
        let mut world = World::running(before, json!({}));
        let plan = world.tick(waiting, &[2, 2]);
        assert_eq!(asked(&plan), Some(after), "{before} pods, {waiting} wait");
        assert_eq!(decided(&plan), (after, reason));
        assert_eq!(told(&plan), [(false, "Scaled")]);
        let noun = if after == 1 { "pod" } else { "pods" };
        let step = format!("{before} → {after} {noun}: ");
        assert!(plan.events[0].message.starts_with(&step));
        assert_eq!(plan.status.queue, Some(waiting));
    }
}

#[test]
fn a_restart_of_the_operator_makes_no_worker_unready() {
    let mut world = World::running(2, json!({}));
    let plan = world.plan();
    world.apply(plan);
    let since_when = since(&world.plan(), "Ready");
    world.observed.memory = Memory::default();
    world.seconds += 100;
    let plan = world.plan();
    assert_eq!(condition(&plan, "Ready").0, "True");
    assert_eq!(since(&plan, "Ready"), since_when);
}

#[test]
fn the_first_pods_are_no_rollout() {
    let mut world = World::running(0, json!({}));
    let plan = world.tick(1, &[]);
    assert_eq!(condition(&plan, "Ready"), ("False", "Starting"));
    world.apply(plan);
    // Seen here, but not yet taken up by the Deployment's controller.
    let live = world.live();
    live.generation = live.observed_generation + 1;
    assert_eq!(condition(&world.plan(), "Ready"), ("False", "Starting"));
}

#[test]
fn missing_readings_hold_the_number() {
    use Failure::{Forbidden, Unauthorized, Unreachable};
    for (failure, age, fresh) in [
        (Some(Unreachable), None, false),
        (Some(Unauthorized), None, false),
        (Some(Forbidden), Some(16), false),
        (None, Some(16), false),
        (Some(Unreachable), Some(5), true),
    ] {
        let mut world = World::running(3, json!({}));
        assert_eq!(marked(&world.lull(0, &[1, 0, 0])), ["pod-1", "pod-2"]);
        world.unread(failure, age);
        let plan = world.plan();
        let (scaling, marks, metrics) = if fresh {
            ((1, "ScaledDown"), 2, ("True", "Measured"))
        } else {
            ((3, "StaleMetrics"), 0, ("False", "StaleMetrics"))
        };
        assert_eq!((asked(&plan), decided(&plan)), (None, scaling));
        assert_eq!(plan.marks.len(), marks, "{failure:?}, {age:?}");
        assert_eq!(condition(&plan, "MetricsAvailable"), metrics);
        let healthy = failure.map_or(("True", "Connected"), |f| ("False", f.as_str()));
        assert_eq!(condition(&plan, "ConnectionHealthy"), healthy);
        // The pods run; nobody has to do anything about the worker.
        assert_eq!(condition(&plan, "Ready").0, "True");
        assert_eq!(condition(&plan, "Stalled").0, "False");
    }
}

#[test]
fn a_conductor_that_is_away_is_no_error_of_the_workers() {
    let mut world = World::running(3, json!({}));
    world.read(0, &[]);
    world.unread(Some(Failure::Unreachable), None);
    let mut growth = Growth::default();
    (growth.polls, growth.poll_errors) = (9, 9);
    world.observed.round.as_mut().unwrap().growth = [(queue(), growth)].into();
    let plan = world.plan();
    assert_eq!((asked(&plan), decided(&plan)), (None, (3, "ServerAway")));
    assert_eq!(condition(&plan, "Ready"), ("True", "ConductorUnreachable"));
    assert_eq!(condition(&plan, "Stalled").0, "False");
    assert!(told(&plan).contains(&(true, "ConductorUnreachable")));
}

#[test]
fn start_up_times_are_those_of_pods_that_were_watched() {
    let start_up = |world: &World| {
        let state = world.observed.memory.state.as_ref().unwrap();
        state.memory().start_up_seconds
    };
    let ready = |world: &mut World, name: &str| {
        let now = world.now().wall;
        world.pod(name).ready_since = Some(now);
        let plan = world.tick(0, &[1, 1, 1]);
        world.apply(plan);
    };
    // An operator that starts anew finds a pod of yesterday unready.
    let mut world = World::running(2, json!({}));
    world.seconds += 86_400;
    world.pod("pod-1").ready_since = None;
    let plan = world.tick(0, &[1, 1]);
    world.apply(plan);
    let guessed = start_up(&world);
    ready(&mut world, "pod-1");
    assert!((start_up(&world) - guessed).abs() < 1e-9);

    let made = world.now().wall;
    world.live().wanted = 3;
    world.catch_up();
    let pod = world.pod("pod-2");
    (pod.created, pod.ready_since) = (Some(made), None);
    let plan = world.tick(0, &[1, 1, 0]);
    world.apply(plan);
    ready(&mut world, "pod-2");
    let (expected, found) = (0.8 * guessed + 0.2 * 5.0, start_up(&world));
    assert!((found - expected).abs() < 1e-9, "{found}");
}

#[test]
fn an_outage_lasts_until_a_poll_succeeds() {
    let mut world = World::running(2, json!({}));
    let mut reason = |polls, poll_errors| {
        world.read(0, &[1, 1]);
        world.unread(Some(Failure::Unreachable), None);
        let growth = Growth {
            polls,
            poll_errors,
            ..Growth::default()
        };
        let round = world.observed.round.as_mut().unwrap();
        round.growth = [(queue(), growth)].into();
        let plan = world.plan();
        let reason = decided(&plan).1.to_owned();
        world.apply(plan);
        reason
    };
    let reasons = [(1, 1), (0, 0), (0, 0), (3, 2), (0, 0)].map(|(all, bad)| reason(all, bad));
    let away = "ServerAway";
    let stale = "StaleMetrics";
    assert_eq!(reasons, [away, away, away, stale, stale]);
}

#[test]
fn what_could_not_be_written_is_told_once_it_is() {
    let mut world = World::running(1, external(3));
    let plan = world.plan();
    let told_first = plan.events.clone();
    assert_eq!(told(&plan), [(false, "Scaled")]);
    // The write fails: the events are kept, and all else that the plan made is remembered.
    world.observed.memory = Memory {
        untold: plan.events,
        ..plan.memory
    };
    let plan = world.plan();
    assert_eq!(plan.events, told_first);
    world.apply(plan);
    assert!(world.plan().events.is_empty());
}

#[test]
fn a_pod_that_cannot_be_marked_is_told() {
    let mut world = World::running(1, external(1));
    let plan = world.plan();
    world.apply(plan);
    world.observed.memory.unmarked = Some(("pod-0".to_owned(), "denied by policy".to_owned()));
    let plan = world.plan();
    assert_eq!(told(&plan), [(true, "PodNotMarked")]);
    assert!(plan.events[0].message.ends_with("denied by policy"));
    world.apply(plan);
    world.observed.memory.unmarked = Some(("pod-0".to_owned(), "again".to_owned()));
    assert!(world.plan().events.is_empty(), "a moment later");
}

#[test]
fn a_schedule_keeps_more_pods_while_it_holds() {
    // The world begins at 00:16:40.
    let schedule = |cron, min| {
        json!({"scaling": {"minReplicas": 1, "schedules": [
            {"cron": cron, "duration": "10m", "minReplicas": min},
            {"cron": "0 0 * * *", "timeZone": "UTC", "duration": "1h", "minReplicas": 2},
        ]}})
    };
    for (cron, min, expected) in [
        ("10 0 * * *", 3, 3),
        // The larger one counts, and one that does not hold does not.
        ("10 0 * * *", 1, 2),
        ("0 12 * * *", 3, 2),
    ] {
        let mut world = World::running(0, schedule(cron, min));
        let plan = world.tick(0, &[]);
        assert_eq!(asked(&plan), Some(expected), "{cron}");
        assert_eq!(decided(&plan), (expected, "AtMinReplicas"));
        let message = &plan.status.scaling.as_ref().unwrap().message;
        assert!(message.contains("the schedule "), "{message}");
        // It has ended, and the pods go.
        world.apply(plan);
        world.catch_up();
        world.seconds += 3600;
        let plan = world.tick(0, &[0, 0, 0]);
        assert_eq!(decided(&plan).0, 1, "{cron}");
    }
    // More than it asks for is needed.
    let mut world = World::running(0, schedule("10 0 * * *", 3));
    assert_eq!(asked(&world.tick(500, &[])), Some(10));
}

#[test]
fn limits_of_a_definition_reach_the_decision_shared_as_the_queue_is() {
    let rate = scaling::RateLimit {
        count: 100,
        window: Duration::from_secs(60),
    };
    for (limits, expected) in [
        (
            Limits {
                at_once: Some(6),
                rate: None,
            },
            (Some(2), None),
        ),
        (
            Limits {
                at_once: None,
                rate: Some(rate),
            },
            (None, Some(34)),
        ),
        (Limits::default(), (None, None)),
    ] {
        let mut world = World::running(1, json!({}));
        let share = Share {
            with: vec![],
            own: 2,
            all: 6,
        };
        world.observed.shared = [(queue(), share)].into();
        let round = Round {
            limits: [("greet".to_owned(), limits)].into(),
            ..Round::default()
        };
        let bounds = world.worker().bounds().unwrap();
        let policy = scale::policy(
            &world.observed,
            world.worker(),
            bounds,
            &round,
            &Memory::default(),
            world.now(),
        );
        let of = &policy.tasks[0];
        assert_eq!((of.exec_limit, of.rate_limit.map(|r| r.count)), expected);
    }
}

#[test]
fn someone_else_may_say_how_many() {
    for (case, patch, asked_for, desired) in [
        ("suspend", json!({"suspend": true}), 0, (0, "Suspended")),
        ("External", external(2), 2, (2, "External")),
        ("Recommend", recommend(2), 2, (10, "CappedByMaxReplicas")),
    ] {
        let mut world = World::running(0, patch.clone());
        let plan = world.tick(500, &[]);
        let change = (asked_for > 0).then_some(asked_for);
        assert_eq!(asked(&plan), change, "{case}");
        assert_eq!(decided(&plan), desired, "{case}");

        // Fewer: those that work end what they have first.
        let mut world = World::running(5, patch.clone());
        let plan = world.tick(500, &[0, 1, 1, 1, 0]);
        let victims: &[&str] = match asked_for {
            0 => &["pod-0", "pod-1", "pod-2", "pod-3", "pod-4"],
            _ => &["pod-0", "pod-3", "pod-4"],
        };
        assert_eq!(
            (marked(&plan), asked(&plan)),
            (victims.to_vec(), None),
            "{case}"
        );
        assert_eq!(decided(&plan), desired, "{case}");
        assert_eq!(
            told(&plan),
            [(false, "Scaled"), (false, "Cordoned")],
            "{case}"
        );
        assert_eq!(
            (plan.status.replicas, plan.status.draining),
            (asked_for, 5 - asked_for)
        );
        world.apply(plan);
        let plan = world.plan();
        assert_eq!(asked(&plan), Some(3), "{case}");
        assert_eq!(told(&plan), [], "{case}");
        world.apply(plan);
        world.catch_up();
        for pod in ["pod-1", "pod-2", "pod-3"] {
            world.ends(pod);
        }
        let plan = world.tick(500, &[]);
        world.apply(plan);
        let plan = world.plan();
        assert_eq!(asked(&plan), (asked_for < 3).then_some(asked_for), "{case}");
        assert_eq!(told(&plan), [(false, "Drained")], "{case}");
    }
}

// === what is left alone ===

#[test]
fn an_invalid_spec_leaves_all_as_it_was() {
    let mut world = World::running(3, json!({}));
    let plan = world.tick(0, &[1, 1, 1]);
    world.apply(plan);
    let before = world.observed.status.clone();
    world.observed.worker = Err("spec.tasks: write at least one task".to_owned());
    world.observed.generation = 2;
    let plan = world.plan();
    assert_eq!((asked(&plan), plan.marks.len()), (None, 0));
    assert_eq!(condition(&plan, "Ready"), ("False", "InvalidSpec"));
    assert_eq!(condition(&plan, "Stalled"), ("True", "InvalidSpec"));
    assert_eq!(told(&plan), [(true, "InvalidSpec")]);
    assert_eq!(
        plan.events[0].message,
        "spec.tasks: write at least one task"
    );
    // The last good Deployment is still reported, and still the one that is kept.
    assert_eq!(plan.status.observed_generation, Some(2));
    assert_eq!((plan.status.ready_replicas, plan.status.in_flight), (3, 3));
    assert_eq!(plan.status.scaling, before.scaling);
    assert_eq!(
        plan.memory.deployment.applied,
        world.observed.memory.deployment.applied
    );
}

#[test]
fn anothers_deployment_is_not_touched() {
    for owner in [None, Some("other")] {
        let mut world = World::running(3, json!({}));
        world.observed.memory.deployment.applied = None;
        world.live().owner = owner.map(str::to_owned);
        for waiting in [0, 500] {
            let plan = world.tick(waiting, &[]);
            assert_eq!((asked(&plan), plan.marks.len()), (None, 0));
            assert_eq!(condition(&plan, "Ready"), ("False", "DeploymentExists"));
            assert_eq!(condition(&plan, "Stalled").0, "True");
            assert_eq!(told(&plan), [(true, "DeploymentExists")]);
            assert_eq!((plan.status.replicas, plan.status.ready_replicas), (0, 0));
        }
    }
}

#[test]
fn planning_on_what_a_plan_leads_to_gives_nothing_to_do() {
    type Change<'a> = &'a dyn Fn(&mut World);
    let trouble = || Trouble {
        kind: TroubleKind::ImagePull,
        message: "no image".to_owned(),
    };
    let other = Key {
        namespace: "shop".to_owned(),
        name: "other".to_owned(),
    };
    let share = Share {
        with: vec![other],
        own: 2,
        all: 4,
    };
    // How many plans it takes: one, and one more where pods must be told to go first.
    let cases: [(&str, usize, Change<'_>); 13] = [
        ("busy", 1, &|w| w.read(0, &[1, 2, 1])),
        ("backlog", 1, &|w| w.read(120, &[2, 2, 2])),
        ("fewer", 2, &|w| drop(w.lull(0, &[1, 0, 0]))),
        ("none", 2, &|w| drop(w.lull(0, &[]))),
        ("suspended", 2, &|w| w.edit(json!({"suspend": true}))),
        ("External", 2, &|w| w.edit(external(2))),
        ("Recommend", 1, &|w| w.edit(recommend(3))),
        ("invalid", 1, &|w| w.observed.worker = Err("no".to_owned())),
        ("another's", 1, &|w| w.live().owner = None),
        ("template", 1, &|w| w.edit(json!({"concurrency": 3}))),
        ("stale", 1, &|w| w.unread(Some(Failure::Refused), None)),
        ("shared", 1, &|w| {
            w.observed.shared = [(queue(), share.clone())].into();
        }),
        ("trouble", 1, &|w| {
            w.observed.pods[1].ready_since = None;
            w.observed.pods[1].trouble = Some(trouble());
        }),
    ];
    for (case, steps, change) in cases {
        let mut world = World::running(3, json!({}));
        world.read(500, &[2, 1, 0]);
        change(&mut world);
        assert_eq!(world.settle(), steps, "{case}");
        // The Deployment's controller moves: only the status follows.
        world.catch_up();
        assert_eq!(asked(&world.plan()), None, "{case}");
        world.settle();
    }
}

// === the status ===

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let mut world = World::running(3, json!({}));
    let plan = world.tick(0, &[1, 1, 1]);
    let began = since(&plan, "Ready");
    assert_eq!(condition(&plan, "Ready"), ("True", "Running"));
    world.apply(plan);
    world.seconds += 100;
    world.read(0, &[1, 1, 1]);
    world.unread(Some(Failure::Unreachable), None);
    let plan = world.plan();
    assert_eq!(condition(&plan, "Ready"), ("True", "ConductorUnreachable"));
    assert_eq!(since(&plan, "Ready"), began);
    assert_eq!(condition(&plan, "ConnectionHealthy").0, "False");
    assert_eq!(since(&plan, "ConnectionHealthy"), "1970-01-01T00:18:30Z");
}

#[test]
fn measurements_alone_are_written_once_a_minute() {
    let fixed = json!({"scaling": {"minReplicas": 3, "maxReplicas": 3}});
    for (later, waiting, written) in [
        (5, 0, false),
        (55, 0, false),
        (60, 0, true),
        // More than three are needed: another reason.
        (5, 500, true),
    ] {
        let mut world = World::running(3, fixed.clone());
        let plan = world.tick(0, &[1, 0, 0]);
        world.apply(plan);
        world.seconds += later - TICK;
        let plan = world.tick(waiting, &[1, 1, 1]);
        assert_eq!(plan.status.in_flight, 3);
        assert_eq!(plan.write_status, written, "{later} s, {waiting} wait");
    }
}

// === the Deployment ===

fn template(patch: Value) -> Value {
    let world = World::new(patch);
    deployment(&world.observed.key, "w", world.worker(), 1)["spec"]["template"].clone()
}

#[test]
fn only_what_pods_are_made_of_changes_their_template() {
    let image = json!({"spec": {"containers": [{"name": "app", "image": "greet:2"}]}});
    for (patch, changes) in [
        (json!({"scaling": {"maxWait": "2m"}}), false),
        (json!({"scaling": {"drainWithin": "2m"}}), false),
        (json!({"scaling": {"maxDrain": "2m"}}), false),
        (json!({"scaling": {"maxReplicas": 99}}), false),
        (json!({"scaling": {"minReplicas": 1}}), false),
        (external(7), false),
        (recommend(7), false),
        (json!({"suspend": true}), false),
        (json!({"tasks": [{"name": "bye"}]}), true),
        (json!({"tasks": [{"name": "greet", "path": "/a"}]}), true),
        (json!({"handler": {"port": 9000}}), true),
        (json!({"handler": {"payload": "Input"}}), true),
        (json!({"concurrency": 3}), true),
        (json!({"template": image}), true),
    ] {
        let changed = template(patch.clone()) != template(json!({}));
        assert_eq!(changed, changes, "{patch}");
    }
}

#[test]
fn the_deployment_is_the_users_template_and_the_sidecar() {
    let world = World::new(json!({
        "tasks": [{"name": "greet", "domain": "gpu", "concurrency": 1, "timeout": "90s"}],
        "template": {
            "metadata": {"name": "not a pod's", "labels": {"team": "shop"}},
            "spec": {
                "initContainers": [{"name": "proxy", "image": "proxy", "restartPolicy": "Always"}],
                "containers": [
                    {"name": "app", "image": "greet:dev", "env": [{"name": "A", "value": "b"}]},
                    {
                        "name": "logs",
                        "image": "logs",
                        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                    },
                ],
            },
        },
    }));
    let worker = world.worker();
    insta::assert_yaml_snapshot!(deployment(&world.observed.key, "w", worker, 3));
}

#[test]
fn a_handler_has_as_long_to_start_as_its_probes_give_it_and_ten_minutes() {
    for (probes, expected) in [
        (json!({}), 600),
        (json!({"startupProbe": {"tcpSocket": {"port": 1}}}), 630),
        (
            json!({"startupProbe": {
                "initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 360,
            }}),
            2420,
        ),
        (json!({"readinessProbe": {"initialDelaySeconds": 90}}), 690),
        // The API server says what is wrong with it.
        (json!({"startupProbe": {"failureThreshold": "many"}}), 630),
        (
            json!({"startupProbe": {"failureThreshold": u64::MAX, "periodSeconds": u64::MAX}}),
            1 << 30,
        ),
    ] {
        let mut app = json!({"name": "app", "image": "greet:dev"});
        merge(&mut app, probes.clone());
        let world = World::new(json!({"template": {"spec": {"containers": [app]}}}));
        let object = deployment(&world.observed.key, "w", world.worker(), 1);
        let spec = &object["spec"];
        assert_eq!(spec["progressDeadlineSeconds"], expected, "{probes}");
        assert_eq!(spec["minReadySeconds"], 10);
        let strategy = &spec["strategy"]["rollingUpdate"];
        assert_eq!(strategy, &json!({"maxUnavailable": 0, "maxSurge": "25%"}));
    }
}

#[test]
fn containers_wait_for_running_tasks() {
    let env = json!([
        {"name": "PORT", "value": "80"},
        {"name": "CONDUCTOR_SERVER_URL", "value": "http://conductor/api"},
    ]);
    let own = json!({"preStop": {"sleep": {"seconds": 1}}});
    let spec = &template(json!({"template": {"spec": {
        "initContainers": [{"name": "first", "image": "first"}],
        "containers": [{"name": "app", "env": env}, {"name": "own", "lifecycle": own}],
    }}}))["spec"];
    let stop = json!({"exec": {"command": ["worker-sidecar", "terminating"]}});
    let last = spec["initContainers"].as_array().unwrap().last().unwrap();
    assert_eq!(last["name"], "conductor-sidecar");
    assert_eq!(last["lifecycle"], json!({"preStop": stop}));
    let drain = json!({"httpGet": {"path": "/drain", "port": 2112}});
    let [app, other] = [0, 1].map(|i| &spec["containers"][i]);
    assert_eq!(app["lifecycle"], json!({"preStop": drain}));
    assert_eq!((&app["env"], &other["lifecycle"]), (&env, &own));
    // The handler alone is told its port and where the local task API is.
    assert_eq!(other.get("env"), None);
}

// === the connection ===

/// A connection with all it may have.
fn whole_connection() -> Value {
    json!({"connection": {
        "url": "https://conductor/api",
        "authSecretRef": {"name": "keys"},
        "caConfigMapRef": {"name": "ca"},
        "clientCertSecretRef": {"name": "client"},
        "headers": {"X-Tenant": "shop"},
    }})
}

#[test]
fn secrets_are_mounted_into_the_sidecar_and_into_nothing_else() {
    let mut patch = whole_connection();
    merge(
        &mut patch,
        json!({"template": {"spec": {"volumes": [{"name": "own", "emptyDir": {}}]}}}),
    );
    let world = World::new(patch);
    let object = deployment(&world.observed.key, "w", world.worker(), 1);
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(spec["volumes"][0]["name"], "own");
    assert_eq!(
        spec["volumes"][1],
        json!({"name": "conductor-connection", "projected": {"sources": [
            {"secret": {"name": "keys", "items": [
                {"key": "key", "path": "auth/key"}, {"key": "secret", "path": "auth/secret"},
            ]}},
            {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"secret": {"name": "client", "items": [
                {"key": "tls.crt", "path": "client/tls.crt"}, {"key": "tls.key", "path": "client/tls.key"},
            ]}},
        ]}})
    );
    let sidecar = &spec["initContainers"][0];
    assert_eq!(
        sidecar["volumeMounts"],
        json!([
            {"name": "conductor-connection", "mountPath": "/etc/conductor", "readOnly": true},
            {"name": "conductor-spool", "mountPath": "/var/spool/conductor-worker"},
            {"name": "conductor-cordon", "mountPath": "/etc/conductor-cordon", "readOnly": true},
        ])
    );
    let env: BTreeMap<&str, &str> = sidecar["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| Some((e["name"].as_str()?, e["value"].as_str()?)))
        .collect();
    for (name, value) in [
        ("CONDUCTOR_AUTH_DIR", "/etc/conductor/auth"),
        ("CONDUCTOR_CA_FILE", "/etc/conductor/ca.crt"),
        (
            "CONDUCTOR_CLIENT_CERT_FILE",
            "/etc/conductor/client/tls.crt",
        ),
        ("CONDUCTOR_CLIENT_KEY_FILE", "/etc/conductor/client/tls.key"),
        ("CONDUCTOR_HEADERS", r#"{"X-Tenant":"shop"}"#),
    ] {
        assert_eq!(env.get(name), Some(&value), "{name}");
    }
    let handler = spec["containers"][0].to_string();
    for word in [
        "conductor-connection",
        "/etc/conductor",
        "CONDUCTOR_AUTH",
        "CONDUCTOR_CLIENT",
    ] {
        assert!(!handler.contains(word), "{handler}");
    }
}

#[test]
fn without_references_the_spool_and_the_key_are_mounted() {
    for (size, limit) in [(None, "131072Ki"), (Some("512Ki"), "1024Ki")] {
        let world = World::new(json!({"sidecar": {"spoolSize": size}}));
        let object = deployment(&world.observed.key, "w", world.worker(), 1);
        let spec = &object["spec"]["template"]["spec"];
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "conductor-spool", "emptyDir": {"sizeLimit": limit}},
                {"name": "conductor-cordon", "downwardAPI": {"items": [{
                    "path": "key",
                    "fieldRef": {"fieldPath": "metadata.annotations['conductor-oss.org/cordon-key']"},
                }]}},
            ])
        );
        let mounts = &spec["initContainers"][0]["volumeMounts"];
        assert_eq!(mounts.as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_volume_of_the_operators_name_is_refused_where_it_needs_it() {
    for (name, mut patch) in [
        ("conductor-connection", whole_connection()),
        ("conductor-spool", json!({})),
        ("conductor-cordon", json!({})),
    ] {
        merge(
            &mut patch,
            json!({"template": {"spec": {"volumes": [{"name": name}]}}}),
        );
        let mut spec = json!({
            "connection": {"url": "http://c"},
            "tasks": [{"name": "greet"}],
            "scaling": {"maxWait": "30s"},
            "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
        });
        merge(&mut spec, patch);
        let defaults = Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        };
        let refused = Worker::parse(&serde_json::from_value(spec).unwrap(), &defaults).unwrap_err();
        assert_eq!(refused.field(), "template.spec.volumes", "{name}");
        assert!(refused.to_string().contains("give yours another name"));
    }
}

#[test]
fn a_secret_that_is_not_there_is_told_and_the_pods_are_kept() {
    for (kind, reason) in [
        (Failure::SecretNotFound, "SecretNotFound"),
        (Failure::ConfigMapNotFound, "ConfigMapNotFound"),
        (Failure::ConnectionInvalid, "ConnectionInvalid"),
    ] {
        let mut world = World::running(2, whole_connection());
        world.read(0, &[1, 1]);
        world.unread(Some(kind), None);
        let plan = world.plan();
        assert_eq!(condition(&plan, "Ready"), ("False", reason));
        assert_eq!(condition(&plan, "Stalled"), ("True", reason));
        assert_eq!(condition(&plan, "ConnectionHealthy"), ("False", reason));
        let mut found = plan.status.conditions.iter();
        let ready = found.find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.message, "refused", "one sentence");
        assert_eq!(asked(&plan), None, "the pods stay");
        world.apply(plan);
        world.settle();

        // It is there again.
        let plan = world.tick(0, &[1, 1]);
        assert_eq!(condition(&plan, "Ready").0, "True");
        assert_eq!(condition(&plan, "ConnectionHealthy").0, "True");
    }
}

#[test]
fn a_worker_that_was_just_made_waits_for_its_secret() {
    let mut world = World::new(whole_connection());
    world.settle();
    world.read(7, &[]);
    world.unread(Some(Failure::SecretNotFound), None);
    let plan = world.plan();
    assert_eq!(condition(&plan, "Ready"), ("False", "SecretNotFound"));
}

mod budget;
mod cluster;
mod deletion;
mod drain;
mod grace;
mod hints;
mod properties;
mod stall;
mod upgrade;
