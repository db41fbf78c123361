//! Which pods do the tasks of a queue, by what their sidecars count.

use std::{collections::BTreeMap, time::Duration};

use conductor_client::QueueName;
use scaling::Instant;

use crate::{
    controller::{
        observed::{Now, Observed},
        plan::scale::readings,
    },
    sampling::TaskReading,
};

/// What was heard of the tasks that pods have ended, by the pods' UIDs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Done(BTreeMap<String, BTreeMap<QueueName, Heard>>);

/// What one pod has said of one queue's tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Heard {
    at: Instant,
    worked: u64,
    failed: u64,
    /// When it was last heard that some had ended, if these had ended well.
    well_at: Option<Instant>,
}

impl Done {
    /// Notes what the round that has just been read says.
    pub(super) fn note(&mut self, observed: &Observed, now: Now) {
        let Some(round) = &observed.round else {
            return;
        };
        let is_there = |uid: &String| observed.pods.iter().any(|pod| pod.uid == *uid);
        self.0.retain(|uid, _| is_there(uid));
        for (pod, reading) in readings(observed, round, now) {
            let Some(reading) = reading else { continue };
            let of = self.0.entry(pod.uid.clone()).or_default();
            for (queue, task) in &reading.tasks {
                let before = of.get(queue).copied();
                if before.is_none_or(|before| before.at < reading.at) {
                    of.insert(queue.clone(), Heard::after(before, task, reading.at));
                }
            }
        }
    }

    /// Whether the last that was heard of tasks of a queue that a pod had ended was good, and is
    /// not older than this.
    pub(super) fn is_well(&self, uid: &str, queue: &QueueName, age: Duration, now: Now) -> bool {
        let heard = self.0.get(uid).and_then(|of| of.get(queue));
        let at = heard.and_then(|heard| heard.well_at);
        at.is_some_and(|at| now.clock.seconds_since(at) <= age.as_secs_f64())
    }
}

impl Heard {
    fn after(before: Option<Self>, task: &TaskReading, at: Instant) -> Self {
        let TaskReading { worked, failed, .. } = *task;
        // A sidecar that was started again counts from zero.
        let goes_on = before.filter(|before| before.worked <= worked && before.failed <= failed);
        let of = |count: fn(&Self) -> u64| goes_on.as_ref().map_or(0, count);
        let news = (worked - of(|b| b.worked), failed - of(|b| b.failed));
        let well_at = match (task.broken, news) {
            (_, (0, 0)) => before.and_then(|before| before.well_at),
            (Some(true), _) => None,
            // Its breaker looks at the last ones, and is closed: what it has counted before it was
            // known here is good enough.
            (Some(false), (worked, failed)) => (worked > failed).then_some(at),
            // It has no breaker: what it counted before may be old, and a few that worked may be
            // those before everything began to fail.
            (None, (_, failed)) => (before.is_some() && failed == 0).then_some(at),
        };
        Self {
            at,
            worked,
            failed,
            well_at,
        }
    }
}
