//! How many replicas, and which pods go first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use scaling::{Decision, Policy, RateLimit, Reason, Sample, TaskPolicy, TaskSample};

use super::{Mark, kept, rate, same_template};
use crate::{
    controller::observed::{Decided, LiveDeployment, LivePod, Memory, Now, Observed},
    sampling::{Limits, PodReading, Round},
    worker::{Bounds, Scale, Task, Worker},
};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaled {
    /// What the Deployment is to have.
    pub(super) replicas: u32,
    /// What is wanted, or in mode Recommend would be.
    pub(super) desired: u32,
    /// Why, in one word.
    pub(super) reason: &'static str,
    /// Why, in one sentence.
    pub(super) message: String,
    /// Pods to mark, or to unmark.
    pub(super) marks: Vec<Mark>,
}

/// What is read in turns may be as old as it takes to come round three times, but not older
/// than this, in seconds: a burst may have come and gone since.
const OLDEST: f64 = 60.0;

/// Whether a reading is too old to act on: its turn has come three times without a newer one.
/// It comes once in so many rounds.
pub(super) fn is_stale(age_seconds: f64, tick: Duration, rounds: u32) -> bool {
    let of_each_round = 3.0 * tick.as_secs_f64();
    let of_turns = of_each_round * f64::from(rounds.max(1));
    age_seconds > of_turns.min(OLDEST.max(of_each_round))
}

/// The replicas that are asked for now; none where there is no Deployment.
pub(super) fn current(observed: &Observed, memory: &Memory) -> Option<u32> {
    let live = observed.deployment.as_ref()?;
    // What was read may be older than what was sent.
    match &memory.applied {
        Some(applied) if applied.uid == live.uid && applied.generation > live.generation => {
            let sent = applied.object["spec"]["replicas"].as_u64()?;
            u32::try_from(sent).ok()
        }
        _ => Some(live.wanted),
    }
}

/// Decides once per round, and acts on the last decision in between.
pub(super) fn scale(observed: &Observed, worker: &Worker, memory: &mut Memory, now: Now) -> Scaled {
    let current = current(observed, memory);
    if let Some(round) = &observed.round {
        match worker.bounds_at(now.wall) {
            Some(bounds) if !worker.suspend => {
                decide(observed, worker, bounds, round, memory, current, now);
            }
            _ => {
                memory.state = None;
                memory.decided = None;
            }
        }
        remember(observed, round, memory);
    }
    if worker.suspend {
        return ordered(observed, memory, current, 0, "Suspended", "suspend is true");
    }
    match worker.scale {
        Scale::External { replicas } => ordered(
            observed,
            memory,
            current,
            replicas,
            "External",
            "scaling.mode is External: spec.replicas says how many",
        ),
        Scale::Recommend { replicas, .. } => {
            let said = "no recommendation yet";
            let ordered = ordered(observed, memory, current, replicas, "Recommend", said);
            match &memory.decided {
                Some(decided) => Scaled {
                    desired: decided.decision.replicas,
                    reason: decided.decision.reason.as_str(),
                    message: sentence(&decided.decision, worker, now),
                    ..ordered
                },
                None => ordered,
            }
        }
        Scale::Auto(bounds) => {
            let bounds = worker.bounds_at(now.wall).unwrap_or(bounds);
            auto(observed, worker, bounds, memory, current, now)
        }
    }
}

/// A decision in one sentence, which names the schedule where one keeps the pods.
fn sentence(decision: &Decision, worker: &Worker, now: Now) -> String {
    match worker.floor(now.wall) {
        Some(floor) => decision.message_where_kept_by(&floor.words()),
        None => decision.message(),
    }
}

/// Someone said how many: obeyed at once, the idle pods first.
fn ordered(
    observed: &Observed,
    memory: &Memory,
    current: Option<u32>,
    replicas: u32,
    reason: &'static str,
    message: &str,
) -> Scaled {
    let have = current.unwrap_or(replicas);
    let victims = match have.checked_sub(replicas) {
        // All go: there is nothing to choose.
        Some(n) if n > 0 && replicas > 0 => victims(observed, &idle(observed, memory), n),
        _ => Vec::new(),
    };
    Scaled {
        replicas,
        desired: replicas,
        reason,
        message: format!("{replicas} pods: {message}"),
        marks: marks(observed, &victims, have),
    }
}

/// The operator decides: raised at once, lowered by idle pods only.
fn auto(
    observed: &Observed,
    worker: &Worker,
    bounds: Bounds,
    memory: &Memory,
    current: Option<u32>,
    now: Now,
) -> Scaled {
    let Some(decided) = &memory.decided else {
        // Before the first round, or after a restart: what there is, within reason.
        let replicas = current.unwrap_or(0).max(bounds.min);
        return Scaled {
            replicas,
            desired: replicas,
            reason: "Starting",
            message: format!("{replicas} pods: nothing has been measured yet"),
            marks: Vec::new(),
        };
    };
    let decision = &decided.decision;
    let desired = decision.replicas.max(bounds.min);
    let have = current.unwrap_or(0);
    let hold = |reason, marks| Scaled {
        replicas: have,
        desired,
        reason,
        message: sentence(decision, worker, now),
        marks,
    };
    let reason = decision.reason.as_str();
    if desired >= have {
        return Scaled {
            replicas: desired,
            ..hold(reason, marks(observed, &[], have))
        };
    }

    // An old decision says nothing about which pods are idle now.
    if now.clock.seconds_since(decided.at) > 2.0 * observed.tick.as_secs_f64() {
        return hold(Reason::StaleMetrics.as_str(), Vec::new());
    }
    // The Deployment would take from its ReplicaSets in proportion, not the marked pods.
    if is_rolling(observed, worker, memory) {
        return hold("HeldByRollout", Vec::new());
    }
    let ends = goes_first(observed, memory, now);
    if ends.busy {
        return hold(Reason::HeldByBusyPods.as_str(), Vec::new());
    }
    let fewer = have - desired;
    let missing = have.saturating_sub(count(staying(observed).count()));
    let unready = missing.saturating_add(ends.idle);
    let victims = victims(observed, &decided.idle, fewer.saturating_sub(unready));
    let lowered = have - fewer.min(unready.saturating_add(count(victims.len())));
    if lowered == have {
        return hold(Reason::HeldByBusyPods.as_str(), marks(observed, &[], have));
    }
    // Marked first, lowered when the mark is seen here: then the ReplicaSet's controller,
    // which watches the same, has most likely seen it too.
    if victims.iter().all(|pod| pod.marked) {
        Scaled {
            replicas: lowered,
            ..hold(reason, marks(observed, &victims, have))
        }
    } else {
        hold(reason, marks(observed, &victims, have))
    }
}

/// True while pods of more than one template exist, or may soon.
pub(super) fn is_rolling(observed: &Observed, worker: &Worker, memory: &Memory) -> bool {
    let Some(live) = &observed.deployment else {
        return false;
    };
    is_behind(live, memory)
        || live.updated < live.replicas
        || !same_template(memory, observed, worker)
}

/// True while a change of the Deployment has not been taken up by its controller, or not been
/// seen here.
pub(super) fn is_behind(live: &LiveDeployment, memory: &Memory) -> bool {
    let sent = memory.applied.as_ref().filter(|a| a.uid == live.uid);
    live.observed_generation < live.generation
        || sent.is_some_and(|applied| applied.generation > live.generation)
}

// === the decision ===

fn decide(
    observed: &Observed,
    worker: &Worker,
    bounds: Bounds,
    round: &Round,
    memory: &mut Memory,
    current: Option<u32>,
    now: Now,
) {
    let state = kept::state_for(observed, worker, memory, now);
    rate::note(memory, round, now);
    let policy = policy(observed, worker, bounds, round, memory, now);
    let sample = sample(observed, worker, round, memory, current.unwrap_or(0), now);
    let (decision, state) = scaling::decide(&policy, state, &sample, now.clock);
    memory.state = Some(state);
    memory.decided = Some(Decided {
        decision,
        at: now.clock,
        idle: readings(observed, round, now)
            .filter(|(pod, reading)| is_idle(pod, *reading))
            .map(|(pod, _)| pod.uid.clone())
            .collect(),
    });
}

pub(super) fn policy(
    observed: &Observed,
    worker: &Worker,
    bounds: Bounds,
    round: &Round,
    memory: &Memory,
    now: Now,
) -> Policy {
    // A limit is for all workers of a queue together.
    let of = |task: &Task, limit: u32| match observed.shared.get(&task.queue) {
        Some(share) => part(limit.into(), share.own, share.all)
            .try_into()
            .unwrap_or(limit),
        None => limit,
    };
    Policy {
        max_wait: bounds.max_wait,
        drain_within: bounds.drain_within,
        min: bounds.min,
        max: bounds.max,
        slots: worker.slots,
        tasks: worker
            .tasks
            .iter()
            .map(|task| TaskPolicy {
                cap: task.concurrency,
                exec_limit: limits(round, task).at_once.map(|n| of(task, n)),
                rate_limit: limits(round, task)
                    .rate
                    .filter(|_| !rate::is_ignored(memory, &task.queue, now))
                    .map(|rate| RateLimit {
                        count: of(task, rate.count),
                        ..rate
                    }),
            })
            .collect(),
    }
}

/// The limits of a task's definition; none where it was not read yet.
pub(super) fn limits(round: &Round, task: &Task) -> Limits {
    let read = round.limits.get(task.queue.task_type());
    read.copied().unwrap_or_default()
}

fn sample(
    observed: &Observed,
    worker: &Worker,
    round: &Round,
    memory: &Memory,
    current: u32,
    now: Now,
) -> Sample {
    let mut sample = Sample {
        current,
        stats_complete: true,
        tasks: worker
            .tasks
            .iter()
            .map(|task| task_sample(observed, task, round, now))
            .collect(),
        ..Sample::default()
    };
    let tasks = |sample: &mut Sample, reading: &PodReading, leaving: bool| {
        for (task, seen) in worker.tasks.iter().zip(&mut sample.tasks) {
            let of_pod = reading.tasks.get(&task.queue).copied().unwrap_or_default();
            if leaving {
                seen.leaving += of_pod.in_flight;
            } else {
                seen.running += of_pod.in_flight;
                seen.idle_slot |= of_pod.idle;
            }
        }
    };
    for (pod, reading) in readings(observed, round, now) {
        if let Some(reading) = reading {
            tasks(&mut sample, reading, pod.terminating || reading.draining);
        }
        if pod.terminating {
            continue;
        }
        let was_ready = memory
            .seen_ready
            .as_ref()
            .is_some_and(|seen| seen.contains(&pod.uid));
        if pod.ready_since.is_some() {
            sample.ready += 1;
            sample.stats_complete &= reading.is_some();
            sample.idle += u32::from(is_idle(pod, reading));
            if memory.seen_ready.is_some() && !was_ready {
                sample.started_up.push(pod.age_at(pod.ready_since));
            }
        } else if was_ready {
            sample.stats_complete &= reading.is_some();
        } else {
            sample.starting += 1;
            let age = pod.age_at(Some(now.wall));
            sample.oldest_starting = sample.oldest_starting.max(age);
        }
    }
    let polls: u64 = round.growth.values().map(|g| g.polls).sum();
    let errors: u64 = round.growth.values().map(|g| g.poll_errors).sum();
    let unreadable = sample.tasks.iter().all(|t| t.queue.is_none());
    sample.server_away = unreadable && errors > 0 && errors >= polls;
    sample
}

fn task_sample(
    observed: &Observed,
    task: &crate::worker::Task,
    round: &Round,
    now: Now,
) -> TaskSample {
    let growth = round.growth.get(&task.queue).copied().unwrap_or_default();
    let queue = round.queues.get(&task.queue).and_then(|reading| {
        let (at, size) = reading.size?;
        let size = match observed.shared.get(&task.queue) {
            Some(share) => part(size, share.own, share.all),
            None => size,
        };
        let age = now.clock.seconds_since(at);
        (!is_stale(age, observed.tick, reading.rounds)).then_some(size)
    });
    TaskSample {
        queue,
        started: growth.started,
        ended: growth.ended,
        idle_seconds: growth.idle_seconds,
        ended_seconds: growth.ended_seconds,
        executing_seconds: growth.executing_seconds,
        occupied_seconds: growth.occupied_seconds,
        ..TaskSample::default()
    }
}

/// Rounded up, so that a task that waits alone is seen by each worker of its queue.
fn part(whole: u64, own: u32, all: u32) -> u64 {
    whole
        .saturating_mul(own.into())
        .div_ceil(u64::from(all.max(1)))
}

/// The round is spent; what it showed is kept for the time until the next.
fn remember(observed: &Observed, round: &Round, memory: &mut Memory) {
    let seen = memory.seen_ready.take().unwrap_or_default();
    memory.seen_ready = Some(
        observed
            .pods
            .iter()
            .filter(|pod| pod.ready_since.is_some() || seen.contains(&pod.uid))
            .map(|pod| pod.uid.clone())
            .collect(),
    );
    memory.round = Some(Round {
        growth: BTreeMap::new(),
        ..round.clone()
    });
}

// === the pods ===

/// Each pod with its reading, where there is one that is not stale.
pub(super) fn readings<'a>(
    observed: &'a Observed,
    round: &'a Round,
    now: Now,
) -> impl Iterator<Item = (&'a LivePod, Option<&'a PodReading>)> {
    observed
        .pods
        .iter()
        .map(move |pod| (pod, reading(observed, round, pod, now)))
}

fn reading<'a>(
    observed: &Observed,
    round: &'a Round,
    pod: &LivePod,
    now: Now,
) -> Option<&'a PodReading> {
    let reading = round.pods.get(&pod.uid)?;
    let age = now.clock.seconds_since(reading.at);
    (!is_stale(age, observed.tick, round.pods_rounds)).then_some(reading)
}

fn is_idle(pod: &LivePod, reading: Option<&PodReading>) -> bool {
    !pod.terminating
        && pod.ready_since.is_some()
        && reading.is_some_and(|r| r.in_flight == 0 && !r.draining && !r.earlier)
}

/// The idle pods of the last round.
fn idle(observed: &Observed, memory: &Memory) -> BTreeSet<String> {
    let Some(round) = &memory.round else {
        return BTreeSet::new();
    };
    observed
        .pods
        .iter()
        .filter(|pod| is_idle(pod, round.pods.get(&pod.uid)))
        .map(|pod| pod.uid.clone())
        .collect()
}

fn staying(observed: &Observed) -> impl Iterator<Item = &LivePod> {
    observed.pods.iter().filter(|pod| !pod.terminating)
}

struct GoesFirst {
    /// Unready pods that do no work.
    idle: u32,
    /// An unready pod works, or may: a ReplicaSet would take it before any ready one.
    busy: bool,
}

fn goes_first(observed: &Observed, memory: &Memory, now: Now) -> GoesFirst {
    let mut found = GoesFirst {
        idle: 0,
        busy: false,
    };
    for pod in staying(observed).filter(|pod| pod.ready_since.is_none()) {
        let round = memory.round.as_ref();
        let works = match round.and_then(|round| reading(observed, round, pod, now)) {
            Some(reading) => reading.in_flight > 0,
            None => pod.started,
        };
        if works {
            found.busy = true;
        } else {
            found.idle += 1;
        }
    }
    found
}

/// Idle ready pods that may go: marked ones first, so that the choice is stable, then the
/// youngest, as the ReplicaSet would choose.
fn victims<'a>(observed: &'a Observed, idle: &BTreeSet<String>, n: u32) -> Vec<&'a LivePod> {
    let mut pods: Vec<&LivePod> = staying(observed)
        .filter(|pod| pod.ready_since.is_some() && idle.contains(&pod.uid))
        .collect();
    pods.sort_by(|a, b| {
        b.marked
            .cmp(&a.marked)
            .then(b.created.cmp(&a.created))
            .then(a.name.cmp(&b.name))
    });
    pods.truncate(usize::try_from(n).unwrap_or(usize::MAX));
    pods
}

/// Marks the victims. Others lose their mark, but not while pods are still being taken away.
fn marks(observed: &Observed, victims: &[&LivePod], have: u32) -> Vec<Mark> {
    let settled = count(staying(observed).count()) <= have;
    staying(observed)
        .filter_map(|pod| {
            let victim = victims.iter().any(|v| v.uid == pod.uid);
            let change = match (victim, pod.marked) {
                (true, false) => true,
                (false, true) if settled => false,
                _ => return None,
            };
            Some(Mark {
                pod: pod.name.clone(),
                first_to_go: change,
            })
        })
        .collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl LivePod {
    /// From its making to a moment.
    fn age_at(&self, moment: Option<jiff::Timestamp>) -> Duration {
        match (self.created, moment) {
            (Some(from), Some(to)) => {
                Duration::try_from(to.duration_since(from)).unwrap_or_default()
            }
            _ => Duration::ZERO,
        }
    }
}
