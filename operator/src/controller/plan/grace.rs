//! Whether tasks take longer than pods are given to end. It is only said: a change of the grace
//! period replaces pods, so nothing that is measured changes it.

use std::{collections::BTreeMap, time::Duration};

use conductor_client::QueueName;
use runtime::grace::drain;
use scaling::Instant;

use super::{
    conditions::{Conditions, Tri},
    scale::readings,
};
use crate::{
    controller::observed::{Memory, Now, Observed},
    sampling::TaskReading,
    worker::Worker,
};

/// There while tasks take longer.
pub(super) const TOO_SHORT: &str = "GraceTooShort";

/// How long the longest that was measured counts after nothing as long has been measured any more.
const KNOWN: Duration = Duration::from_secs(30 * 60);

/// What is written should be a number that people would write.
const STEP: u64 = 30;

/// How long tasks take, at most.
#[derive(Debug, Clone, PartialEq)]
pub struct Longest {
    /// Since when it is measured.
    since: Instant,
    /// The longest of each queue's tasks, and when it was last that long.
    of: BTreeMap<QueueName, (Duration, Instant)>,
}

/// Notes what the round that has just been read says.
pub(super) fn note(observed: &Observed, worker: &Worker, memory: &mut Memory, now: Now) {
    let Some(round) = &observed.round else {
        return;
    };
    let longest = memory.longest.get_or_insert(Longest {
        since: now.clock,
        of: BTreeMap::new(),
    });
    let is_known = |at: Instant| now.clock.seconds_since(at) < KNOWN.as_secs_f64();
    let has = |queue: &QueueName| worker.tasks.iter().any(|task| task.queue == *queue);
    let of = &mut longest.of;
    of.retain(|queue, (_, at)| is_known(*at) && has(queue));
    let readings = readings(observed, round, now).filter_map(|(_, reading)| reading);
    for (queue, task) in readings.flat_map(|reading| &reading.tasks) {
        let took = measured(task);
        let before = of.get(queue).map(|(before, _)| *before);
        if has(queue) && before.is_none_or(|before| took >= before) {
            of.insert(queue.clone(), (took, now.clock));
        }
    }
}

/// The longest of one pod's tasks, running ones as far as they have come.
fn measured(task: &TaskReading) -> Duration {
    task.oldest.max(task.p95).unwrap_or_default()
}

/// Whether a task in work takes longer than its pod would leave it: it has already, or others of
/// its queue have.
pub(super) fn outlasts(
    worker: &Worker,
    memory: &Memory,
    queue: &QueueName,
    task: &TaskReading,
) -> bool {
    let left = drain(worker.grace);
    let longest = memory.longest.as_ref();
    let longest = longest.and_then(|longest| longest.of.get(queue));
    task.in_flight > 0
        && (task.oldest.is_some_and(|oldest| oldest > left)
            || longest.is_some_and(|(took, _)| *took > left))
}

/// A grace period that suffices for tasks that have taken so long, and may take longer, but not
/// longer than `limit`; in seconds.
fn enough(took: Duration, limit: Option<Duration>) -> u64 {
    let half_as_long_again = took.mul_f64(1.5);
    let longest = limit.map_or(half_as_long_again, |limit| half_as_long_again.min(limit));
    let grace = longest.max(took) + Duration::from_secs(10);
    seconds(grace).next_multiple_of(STEP)
}

/// Rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Says so while it is so.
pub(super) fn tell(conditions: &mut Conditions, worker: &Worker, memory: &Memory, now: Now) {
    let left = drain(worker.grace);
    let Some(longest) = &memory.longest else {
        // Before the first round nothing is known anew.
        conditions.keep(TOO_SHORT);
        return;
    };
    let most = longest.of.iter().max_by_key(|(_, (took, _))| *took);
    match most {
        Some((queue, &(took, _))) if took > left => {
            let task = worker.tasks.iter().find(|task| task.queue == *queue);
            let limit = task.and_then(|task| task.timeout);
            let message = format!(
                "tasks of {queue} have taken {} s, {} s longer than the {} s that a grace period of {} s leaves them: when their pod goes they are handed back and begun again; write template.spec.terminationGracePeriodSeconds: {}, which replaces the pods",
                seconds(took),
                seconds(took) - left.as_secs(),
                left.as_secs(),
                worker.grace.as_secs(),
                enough(took, limit)
            );
            conditions.set(TOO_SHORT, Tri::True, TOO_SHORT, message);
        }
        // What an operator before this one measured counts as long.
        _ if now.clock.seconds_since(longest.since) < KNOWN.as_secs_f64() => {
            conditions.keep_of_this_spec(TOO_SHORT);
        }
        _ => {}
    }
}
