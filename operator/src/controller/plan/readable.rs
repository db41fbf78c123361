//! Conditions about what can be read.

use conductor_client::QueueName;
use jiff::{SignedDuration, Timestamp};
use scaling::{Instant, Reason};

use super::{
    conditions::{Conditions, Tri, written},
    measured::size,
    scale::readings,
};
use crate::{
    controller::observed::{Now, Observed},
    sampling::{QueueReading, Round, Unavailable},
    worker::Worker,
};

/// A queue that cannot be read.
pub(super) struct Failing<'a> {
    /// Which, where others can.
    queue: Option<&'a QueueName>,
    pub(super) why: &'a Unavailable,
}

/// The first queue that cannot be read.
pub(super) fn failing(round: &Round) -> Option<Failing<'_>> {
    let mut failing = round
        .queues
        .iter()
        .filter_map(|(queue, reading)| Some((queue, reading.failing.as_ref()?)));
    let (queue, why) = failing.next()?;
    let all = failing.count() + 1 == round.queues.len();
    let queue = (!all).then_some(queue);
    Some(Failing { queue, why })
}

impl Failing<'_> {
    pub(super) fn words(&self, worker: &Worker) -> String {
        let message = &self.why.message;
        match self.queue {
            Some(queue) => format!("{}: the queue {queue}: {message}", worker.connection),
            None => format!("{}: {message}", worker.connection),
        }
    }
}

/// Whether Conductor answers.
pub(super) fn connection(
    conditions: &mut Conditions,
    worker: &Worker,
    round: Option<&Round>,
    failing: Option<&Failing<'_>>,
) {
    const TYPE: &str = "ConnectionHealthy";
    match (round, failing) {
        (_, Some(failing)) => conditions.set(
            TYPE,
            Tri::False,
            failing.why.kind.as_str(),
            failing.words(worker),
        ),
        (Some(round), None) if round.queues.values().any(|q| q.size.is_some()) => {
            conditions.set(TYPE, Tri::True, "Connected", worker.connection.to_string());
        }
        _ => conditions.keep_or(TYPE, "NotAskedYet"),
    }
}

/// Whether all is known that a decision needs.
pub(super) fn metrics(
    conditions: &mut Conditions,
    observed: &Observed,
    worker: &Worker,
    round: Option<&Round>,
    now: Now,
) {
    const TYPE: &str = "MetricsAvailable";
    let Some(round) = round else {
        conditions.keep_or(TYPE, "NotMeasuredYet");
        return;
    };
    let unread = worker
        .tasks
        .iter()
        .find(|task| size(observed, round, &task.queue, now).is_none());
    if let Some(task) = unread {
        conditions.set(
            TYPE,
            Tri::False,
            Reason::StaleMetrics.as_str(),
            unread_size(round.queues.get(&task.queue), &task.queue, now),
        );
        return;
    }
    // A pod that has just got ready will be asked at the next tick.
    let turns = f64::from(round.pods_rounds.max(1));
    let patience = 3.0 * observed.tick.as_secs_f64() * turns;
    let silent = readings(observed, round, now).find(|(pod, reading)| {
        let ready_for = pod.ready_since.map(|since| now.wall.duration_since(since));
        reading.is_none()
            && !pod.terminating
            && ready_for.is_some_and(|d| d.as_secs_f64() > patience)
    });
    match silent {
        Some((pod, _)) => conditions.set(
            TYPE,
            Tri::False,
            "SidecarUnreachable",
            format!(
                "the sidecar of {} does not answer on port {}",
                pod.name,
                api::SIDECAR_PORT
            ),
        ),
        None => conditions.set(TYPE, Tri::True, "Measured", String::new()),
    }
}

/// Since when a size cannot be read, and why. A moment, not an age: it stays what it is.
fn unread_size(reading: Option<&QueueReading>, queue: &QueueName, now: Now) -> String {
    let read = match reading.and_then(|r| r.size) {
        Some((at, _)) => format!("was last read at {}", written(wall(now, at))),
        None => "has not been read yet".to_owned(),
    };
    let why = match reading.and_then(|r| r.failing.as_ref()) {
        Some(failing) => &failing.message,
        None => "its turn has not come, or no answer has",
    };
    format!("the size of the queue {queue} {read} ({why}): the number of pods is not lowered")
}

/// When a moment was, on the clock on the wall.
pub(super) fn wall(now: Now, at: Instant) -> Timestamp {
    let ago = SignedDuration::from_secs_f64(now.clock.seconds_since(at));
    now.wall.checked_sub(ago).unwrap_or(now.wall)
}
