//! Whether the pods of a version that was stopped have shown that they work.

use std::{collections::BTreeMap, time::Duration};

use scaling::Instant;

use super::{Cause, Fault};
use crate::{
    controller::observed::{LivePod, Now},
    sampling::PodReading,
};

/// How long all pods of a version that was stopped must be well before it goes on.
const WELL: Duration = Duration::from_secs(60);

/// The same where a container of theirs was started again: it may end again, and after so long the
/// kubelet forgets that it had.
const AFTER_RESTARTS: Duration = Duration::from_secs(600);

/// New pods that are well without a break.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Well {
    since: Instant,
    /// What each had counted then.
    then: BTreeMap<String, Counts>,
    /// What each has counted now.
    now: BTreeMap<String, Counts>,
}

/// What was counted of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counts {
    restarts: u32,
    /// Tasks that worked and tasks that failed, by their queues.
    tasks: BTreeMap<String, (u64, u64)>,
}

impl Counts {
    pub(super) fn of(pod: &LivePod, reading: &PodReading) -> Self {
        let tasks = reading.tasks.iter();
        let tasks = tasks.map(|(queue, task)| (queue.to_string(), (task.worked, task.failed)));
        Self {
            restarts: pod.restarts,
            tasks: tasks.collect(),
        }
    }
}

impl Well {
    /// They are well at this moment.
    pub(super) fn new(counts: BTreeMap<String, Counts>, at: Instant) -> Self {
        Self {
            since: at,
            then: counts.clone(),
            now: counts,
        }
    }

    /// The same, after they were found well before: since then, where they are the same pods and
    /// no container of theirs was started again. One that was has forgotten what it failed.
    pub(super) fn after(self, before: Option<Self>) -> Self {
        let restarts = |counts: &BTreeMap<String, Counts>| {
            let of = counts.iter();
            let of = of.map(|(uid, counts)| (uid.clone(), counts.restarts));
            of.collect::<BTreeMap<_, _>>()
        };
        match before {
            Some(before) if restarts(&before.then) == restarts(&self.now) => Self {
                now: self.now,
                ..before
            },
            _ => self,
        }
    }

    /// How long they must be well.
    pub(super) fn time(&self) -> Duration {
        if self.now.values().any(|counts| counts.restarts > 0) {
            AFTER_RESTARTS
        } else {
            WELL
        }
    }

    /// They have been well for long enough, and have done what they had failed: without a task
    /// a breaker stays closed whatever the handler is like.
    pub(super) fn is_enough(&self, cause: &Cause, now: Now) -> bool {
        let (worked, failed) = self.done(cause.queue.as_deref());
        let is_shown = match cause.fault {
            Fault::Breaker => worked > failed,
            Fault::NotReady => true,
        };
        is_shown && now.clock.seconds_since(self.since) >= self.time().as_secs_f64()
    }

    /// How many tasks of a queue, or of all, have worked and failed since then.
    fn done(&self, queue: Option<&str>) -> (u64, u64) {
        let mut sum = (0_u64, 0_u64);
        for (uid, counts) in &self.now {
            let before = self.then.get(uid);
            for (of, (worked, failed)) in &counts.tasks {
                if queue.is_none_or(|queue| queue == of) {
                    let before = before.and_then(|before| before.tasks.get(of));
                    let (w, f) = before.copied().unwrap_or_default();
                    sum.0 = sum.0.saturating_add(worked.saturating_sub(w));
                    sum.1 = sum.1.saturating_add(failed.saturating_sub(f));
                }
            }
        }
        sum
    }

    /// What it waits for.
    pub(super) fn words(&self, cause: &Cause) -> String {
        let time = self.time().as_secs();
        let ready = format!("it is continued once all new pods have been ready for {time} s");
        match (cause.fault, &cause.queue) {
            (Fault::Breaker, Some(queue)) => {
                format!("{ready}, and have done more tasks of {queue} than they failed meanwhile")
            }
            (Fault::Breaker, None) => {
                format!("{ready}, and have done more tasks than they failed meanwhile")
            }
            (Fault::NotReady, _) => format!("{ready} without a restart of a container"),
        }
    }
}
