//! Whether a server keeps to the rate limits of its definitions.
//!
//! Conductor does so on Redis and Cassandra; on SQL it takes a limit and ignores it. Nothing in its
//! API tells which: what is started tells. Where more is started than a limit allows, it is not in
//! force, and bounds no number of pods.

use std::time::Duration;

use scaling::{Instant, RateLimit};

use crate::{
    controller::observed::{Memory, Now},
    sampling::Round,
};

/// What is started is counted for at least so long.
const COUNTED: Duration = Duration::from_secs(60);

/// Starts above the limit that are no accident: pods are asked in turns, and what the limit let
/// through at the end of one window comes together with the next.
const CLEARLY: f64 = 1.5;

/// How long a server is taken to ignore a limit after it was last seen to, in seconds.
const KNOWN: f64 = 3600.0;

/// What was started of one queue's tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Starts {
    /// Since when it is counted.
    since: Instant,
    /// How many.
    count: u64,
    /// When more were seen than the limit allows.
    above: Option<Instant>,
}

/// Counts what a round brought.
pub(super) fn note(memory: &mut Memory, round: &Round, now: Now) {
    memory.starts.retain(|q, _| round.queues.contains_key(q));
    for queue in round.queues.keys() {
        let limits = round.limits.get(queue.task_type());
        let Some(limit) = limits.and_then(|l| l.rate) else {
            memory.starts.remove(queue);
            continue;
        };
        let started = round.growth.get(queue).map_or(0, |g| g.started);
        let starts = memory.starts.entry(queue.clone()).or_insert(Starts {
            since: now.clock,
            count: 0,
            above: None,
        });
        starts.count = starts.count.saturating_add(started);
        let seconds = now.clock.seconds_since(starts.since);
        if seconds >= COUNTED.max(2 * limit.window).as_secs_f64() {
            if is_above(starts.count, seconds, limit) {
                starts.above = Some(now.clock);
            }
            (starts.since, starts.count) = (now.clock, 0);
        }
    }
}

/// Whether so many starts cannot be if the limit is in force.
fn is_above(count: u64, seconds: f64, limit: RateLimit) -> bool {
    let windows = seconds / limit.window.as_secs_f64().max(1.0) + 1.0;
    #[expect(clippy::cast_precision_loss, reason = "starts of a minute or two")]
    let count = count as f64;
    count > CLEARLY * windows * f64::from(limit.count)
}

/// Whether a server was seen to ignore the limit of a queue's task type.
pub(super) fn is_ignored(memory: &Memory, queue: &conductor_client::QueueName, now: Now) -> bool {
    let above = memory.starts.get(queue).and_then(|starts| starts.above);
    above.is_some_and(|above| now.clock.seconds_since(above) < KNOWN)
}
