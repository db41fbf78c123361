//! What is measured: the part of a status that is never still.

use api::{ConductorWorkerStatus, ScalingTerms, TaskStatus};
use conductor_client::QueueName;
use scaling::Decision;

use super::scale::{is_stale, readings};
use crate::{
    controller::observed::{Now, Observed},
    sampling::Round,
    worker::Worker,
};

/// Writes what a round showed: the tasks, and their totals.
pub(super) fn measure(
    status: &mut ConductorWorkerStatus,
    observed: &Observed,
    worker: &Worker,
    round: &Round,
    now: Now,
) {
    status.tasks = tasks(observed, worker, round, now);
    status.queue = status.tasks.iter().map(|t| t.queue).sum();
    status.in_flight = status.tasks.iter().map(|t| t.in_flight).sum();
}

fn tasks(observed: &Observed, worker: &Worker, round: &Round, now: Now) -> Vec<TaskStatus> {
    worker
        .tasks
        .iter()
        .map(|task| TaskStatus {
            name: task.queue.task_type().to_owned(),
            domain: task.queue.domain().unwrap_or_default().to_owned(),
            queue: size(observed, round, &task.queue, now),
            in_flight: readings(observed, round, now)
                .filter_map(|(_, reading)| reading?.tasks.get(&task.queue))
                .map(|task| task.in_flight)
                .sum(),
        })
        .collect()
}

/// A queue's size, if it is not too old.
pub(super) fn size(observed: &Observed, round: &Round, queue: &QueueName, now: Now) -> Option<u64> {
    let reading = round.queues.get(queue)?;
    let (at, size) = reading.size?;
    let age = now.clock.seconds_since(at);
    (!is_stale(age, observed.tick, reading.rounds)).then_some(size)
}

/// What a decision was made from.
pub(super) fn terms(decision: &Decision) -> ScalingTerms {
    let terms = &decision.terms;
    ScalingTerms {
        load: rounded(terms.load),
        drain: rounded(terms.drain),
        need: rounded(terms.need),
        want: rounded(terms.want),
        backlog: rounded(terms.backlog),
        running: terms.running,
        execution_seconds: rounded(terms.execution_seconds()),
        start_up_seconds: rounded(terms.start_up_seconds),
    }
}

/// To what is worth reading; what fades away then becomes still.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
