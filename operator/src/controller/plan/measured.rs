//! What is measured: the part of a status that is never still.

use api::{ConductorWorkerStatus, RateLimitStatus, ScalingTerms, TaskStatus};
use conductor_client::QueueName;
use scaling::{Instant, TaskTerms};

use super::{
    rate,
    scale::{is_stale, limits, readings},
};
use crate::{
    controller::observed::{Decided, Memory, Now, Observed},
    sampling::{Limits, Round},
    worker::{Task, Worker},
};

/// Writes what a round showed: the tasks, and their totals.
pub(super) fn measure(
    status: &mut ConductorWorkerStatus,
    observed: &Observed,
    worker: &Worker,
    memory: &Memory,
    round: &Round,
    now: Now,
) {
    let decided = memory.decided.as_ref();
    let of_tasks = decided.map_or(&[][..], |d| &d.decision.terms.tasks);
    status.tasks = worker
        .tasks
        .iter()
        .enumerate()
        .map(|(i, task)| {
            let terms = of_tasks
                .get(i)
                .filter(|_| of_tasks.len() == worker.tasks.len());
            let mut status = task_status(observed, task, terms, round, now);
            if let Some(rate) = &mut status.rate_limit {
                rate.ignored = rate::is_ignored(memory, &task.queue, now);
            }
            status
        })
        .collect();
    let tasks = status.tasks.iter();
    status.queue = tasks
        .clone()
        .try_fold(0_u64, |sum, task| Some(sum.saturating_add(task.queue?)));
    status.in_flight = tasks.fold(0, |sum: u32, task| sum.saturating_add(task.in_flight));
}

fn task_status(
    observed: &Observed,
    task: &Task,
    terms: Option<&TaskTerms>,
    round: &Round,
    now: Now,
) -> TaskStatus {
    let Limits { at_once, rate } = limits(round, task);
    TaskStatus {
        name: task.queue.task_type().to_owned(),
        domain: task.queue.domain().unwrap_or_default().to_owned(),
        queue: size(observed, round, &task.queue, now),
        in_flight: readings(observed, round, now)
            .filter_map(|(_, reading)| reading?.tasks.get(&task.queue))
            .map(|task| task.in_flight)
            .sum(),
        backlog: terms.map(|t| rounded(t.backlog)),
        execution_seconds: terms.map(|t| rounded(t.execution_seconds)),
        need: terms.map(|t| rounded(t.need)),
        concurrent_exec_limit: at_once,
        rate_limit: rate.map(|rate| RateLimitStatus {
            count: rate.count,
            seconds: rate.window.as_secs(),
            ignored: false,
        }),
    }
}

/// A queue's size, if it is not too old.
pub(super) fn size(observed: &Observed, round: &Round, queue: &QueueName, now: Now) -> Option<u64> {
    let reading = round.queues.get(queue)?;
    let (at, size) = reading.size?;
    let age = now.clock.seconds_since(at);
    (!is_stale(age, observed.tick, reading.rounds)).then_some(size)
}

/// What a decision was made from, and how old that was.
pub(super) fn terms(decided: &Decided, observed: &Observed, round: Option<&Round>) -> ScalingTerms {
    let terms = &decided.decision.terms;
    let oldest = |times: &mut dyn Iterator<Item = Instant>| {
        times
            .map(|at| decided.at.seconds_since(at))
            .reduce(f64::max)
            .map(rounded)
    };
    let queues = round.into_iter().flat_map(|r| r.queues.values());
    let pods = round.into_iter().flat_map(|round| {
        let ready = observed.pods.iter().filter(|p| p.ready_since.is_some());
        ready.filter_map(|pod| round.pods.get(&pod.uid))
    });
    ScalingTerms {
        current: terms.current,
        queue: terms.queue,
        backlog: rounded(terms.backlog),
        running: terms.running,
        load: rounded(terms.load),
        drain: rounded(terms.drain),
        need: rounded(terms.need),
        want: rounded(terms.want),
        drain_seconds: rounded(terms.drain_seconds),
        execution_seconds: rounded(terms.execution_seconds()),
        start_up_seconds: rounded(terms.start_up_seconds),
        queue_age_seconds: oldest(&mut queues.filter_map(|q| Some(q.size?.0))),
        pods_age_seconds: oldest(&mut pods.map(|pod| pod.at)),
    }
}

/// To what is worth reading; what fades away then becomes still. JSON has no endless numbers.
fn rounded(value: f64) -> f64 {
    if value.is_finite() {
        (value * 1000.0).round() / 1000.0
    } else {
        0.0
    }
}
