//! How many pods are to work.

use std::{collections::BTreeMap, time::Duration};

use scaling::{Decision, Policy, RateLimit, Reason, Sample, TaskPolicy, TaskSample};

use super::{
    drain::{Aim, Drained, May, Split, drain, split},
    kept, rate,
    rollout::Rollout,
};
use crate::{
    controller::observed::{Decided, LivePod, Memory, Now, Observed},
    sampling::{Limits, PodReading, Round},
    worker::{Bounds, Scale, Task, Worker},
};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaled {
    /// What is wanted, or in mode Recommend would be.
    pub(super) desired: u32,
    /// Why, in one word.
    pub(super) reason: &'static str,
    /// Why, in one sentence.
    pub(super) message: String,
    /// What becomes of it.
    pub(super) drained: Drained,
    /// How far the Deployment has come.
    pub(super) rollout: Rollout,
}

/// Fewer would do, but Kubernetes would take others.
const HELD_BY_ROLLOUT: &str = "HeldByRollout";

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
    match memory.deployment.unread(live) {
        Some(sent) => u32::try_from(sent.object["spec"]["replicas"].as_u64()?).ok(),
        None => Some(live.wanted),
    }
}

/// Decides once per round, and acts on the last decision in between.
pub(super) fn scale(
    observed: &Observed,
    worker: &Worker,
    rollout: Rollout,
    memory: &mut Memory,
    now: Now,
) -> Scaled {
    if let Some(round) = &observed.round {
        match worker.bounds_at(now.wall) {
            Some(bounds) if !worker.suspend => {
                decide(observed, worker, bounds, round, rollout, memory, now);
            }
            _ => {
                memory.state = None;
                memory.decided = None;
            }
        }
        remember(observed, round, memory, now);
    }
    let mut ordered = |replicas, reason, said: &str| {
        let aim = aim(worker, rollout, replicas);
        let may = aim.may;
        let drained = drain(observed, rollout, memory, aim, now);
        let waits = waits(&drained, may);
        Scaled {
            desired: replicas,
            reason,
            message: format!("{replicas} pods: {said}{waits}"),
            drained,
            rollout,
        }
    };
    if worker.suspend {
        return ordered(0, "Suspended", "suspend is true");
    }
    match worker.scale {
        Scale::External { replicas } => ordered(
            replicas,
            "External",
            "scaling.mode is External: spec.replicas says how many",
        ),
        Scale::Recommend { replicas, .. } => {
            let ordered = ordered(replicas, "Recommend", "no recommendation yet");
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
            auto(observed, worker, bounds, rollout, memory, now)
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

/// The operator decides: raised at once, lowered by pods that have ended what they had.
fn auto(
    observed: &Observed,
    worker: &Worker,
    bounds: Bounds,
    rollout: Rollout,
    memory: &mut Memory,
    now: Now,
) -> Scaled {
    let Some(decided) = memory.decided.clone() else {
        // Before the first round, or after a restart: what there is, within reason.
        let active = split(observed, rollout, memory, now).active.max(bounds.min);
        let aim = Aim {
            may: May::Hold,
            ..aim(worker, rollout, active)
        };
        return Scaled {
            desired: active,
            reason: "Starting",
            message: format!("{active} pods: nothing has been measured yet"),
            drained: drain(observed, rollout, memory, aim, now),
            rollout,
        };
    };
    let decision = &decided.decision;
    let desired = decision.replicas.max(bounds.min);
    // An old decision says nothing about now, and one that was made blindly lowers nothing.
    let is_old = now.clock.seconds_since(decided.at) > 2.0 * observed.tick.as_secs_f64();
    let is_blind = matches!(decision.reason, Reason::StaleMetrics | Reason::ServerAway);
    let mut aim = aim(worker, rollout, desired);
    if is_old || is_blind {
        aim.may = May::Hold;
    }
    let drained = drain(observed, rollout, memory, aim, now);
    let is_held = desired < drained.active;
    let reason = match decision.reason {
        reason if is_blind => reason.as_str(),
        _ if is_held && is_old => Reason::StaleMetrics.as_str(),
        _ if is_held && aim.may != May::Lower => HELD_BY_ROLLOUT,
        Reason::ScaledDown | Reason::Steady if drained.busy > 0 => Reason::HeldByBusyPods.as_str(),
        reason => reason.as_str(),
    };
    Scaled {
        desired,
        reason,
        message: sentence(decision, worker, now) + &waits(&drained, aim.may),
        drained,
        rollout,
    }
}

/// What pods that are too many are waited for, as the end of a sentence.
fn waits(drained: &Drained, may: May) -> String {
    match drained.busy {
        0 => String::new(),
        _ if may == May::Hold => String::new(),
        1 => "; 1 pod ends what it has and goes".to_owned(),
        n => format!("; {n} pods end what they have and go"),
    }
}

/// While pods are replaced the Deployment would take old and new ones in proportion, not those
/// that are to go.
fn aim(worker: &Worker, rollout: Rollout, active: u32) -> Aim {
    let may = if rollout.is_replacing() {
        match active {
            0 => May::LowerToNone,
            _ => May::Release,
        }
    } else if rollout.is_incomplete() {
        May::Hold
    } else {
        May::Lower
    };
    Aim {
        active,
        may,
        max_drain: worker.max_drain,
    }
}

// === the decision ===

fn decide(
    observed: &Observed,
    worker: &Worker,
    bounds: Bounds,
    round: &Round,
    rollout: Rollout,
    memory: &mut Memory,
    now: Now,
) {
    let state = kept::state_for(observed, worker, memory, now);
    rate::note(memory, round, now);
    let policy = policy(observed, worker, bounds, round, memory, now);
    let split = split(observed, rollout, memory, now);
    let sample = sample(observed, worker, round, memory, &split, now);
    let (decision, state) = scaling::decide(&policy, state, &sample, now.clock);
    memory.state = Some(state);
    memory.decided = Some(Decided {
        decision,
        at: now.clock,
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
    memory: &mut Memory,
    split: &Split,
    now: Now,
) -> Sample {
    let mut sample = Sample {
        current: split.active,
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
                seen.leaving = seen.leaving.saturating_add(of_pod.in_flight);
            } else {
                seen.running = seen.running.saturating_add(of_pod.in_flight);
                seen.idle_slot |= of_pod.idle;
            }
        }
    };
    for (pod, reading) in readings(observed, round, now) {
        let leaves = pod.terminating || split.leaving.contains(&pod.uid);
        if let Some(reading) = reading {
            tasks(&mut sample, reading, leaves || reading.draining);
        }
        if leaves {
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
            // One that was made before that was not watched: it may have been ready long ago.
            let is_new = memory
                .watched_since
                .is_some_and(|since| pod.created >= Some(since));
            if is_new && !was_ready {
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
    // An outage lasts until a poll succeeds: one that is not answered, or that the server asked to
    // wait with, fails less often than once a round.
    if polls > errors {
        memory.polls_fail = false;
    } else if errors > 0 {
        memory.polls_fail = true;
    }
    sample.server_away = unreadable && memory.polls_fail;
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
fn remember(observed: &Observed, round: &Round, memory: &mut Memory, now: Now) {
    memory.watched_since.get_or_insert(now.wall);
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

pub(super) fn reading<'a>(
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
