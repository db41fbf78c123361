//! What pods are doing, by what they said last.

use std::{collections::BTreeMap, time::Duration};

use conductor_client::QueueName;
use runtime::cordon::Action;

use super::{
    super::{
        Because,
        scale::is_stale,
        victims::{Seen, Work},
    },
    marks::since,
};
use crate::{
    controller::observed::{LivePod, Memory, Now, Observed, SidecarState},
    cordons::{PROOF, TTL, Told, Untold},
    sampling::PodReading,
};

/// Within which time a sidecar that crashes again and again was started again at least once, and
/// heard of if that is possible: kubelet waits for five minutes at most.
const STARTED_AGAIN: Duration = Duration::from_secs(600);

/// How long a pod must have been cordoned before it is known to be unready for that, and to stay
/// so: it is probed each second, and what is read may be older than that. It may have looked
/// unready before, when it started or was busy.
pub(in super::super) const SHOWN: Duration = Duration::from_secs(3);

/// All pods that are not being deleted, by their UIDs.
pub(super) fn all<'a>(
    observed: &'a Observed,
    memory: &Memory,
    max_drain: Option<Duration>,
    now: Now,
) -> BTreeMap<&'a str, Seen<'a>> {
    let look = Look {
        observed,
        memory,
        max_drain,
        now,
    };
    // Within which 95 % of the calls end, in the slowest pod.
    let mut p95: BTreeMap<&QueueName, Duration> = BTreeMap::new();
    for reading in observed.staying().filter_map(|pod| look.reading(pod)) {
        for (queue, task) in &reading.tasks {
            if let Some(own) = task.p95 {
                let longest = p95.entry(queue).or_default();
                *longest = own.max(*longest);
            }
        }
    }
    observed
        .staying()
        .map(|pod| (&*pod.uid, look.see(pod, &p95)))
        .collect()
}

struct Look<'a> {
    observed: &'a Observed,
    memory: &'a Memory,
    max_drain: Option<Duration>,
    now: Now,
}

impl<'a> Look<'a> {
    fn told(&self, pod: &LivePod) -> Option<&'a Told> {
        self.observed.told.get(&pod.uid)
    }

    /// The last that it said.
    fn last(&self, pod: &LivePod) -> Option<&'a PodReading> {
        let sampled = self.memory.round.as_ref();
        let sampled = sampled.and_then(|round| round.pods.get(&pod.uid));
        let answered = self.told(pod).and_then(|told| told.answer.as_ref().ok());
        sampled.into_iter().chain(answered).max_by_key(|r| r.at)
    }

    /// The same, if it is not too old.
    fn reading(&self, pod: &LivePod) -> Option<&'a PodReading> {
        let last = self.last(pod)?;
        let age = self.now.clock.seconds_since(last.at);
        let rounds = self
            .memory
            .round
            .as_ref()
            .map_or(1, |round| round.pods_rounds);
        (!is_stale(age, self.observed.tick, rounds)).then_some(last)
    }

    fn see<'p>(&self, pod: &'p LivePod, p95: &BTreeMap<&QueueName, Duration>) -> Seen<'p> {
        let reading = self.reading(pod);
        let work = match reading {
            // Its turn to be asked did not come: it may have got some since.
            Some(reading) if reading.earlier && reading.in_flight == 0 => Work::Busy {
                tasks: 0,
                remaining: Duration::ZERO,
            },
            Some(reading) => Work::of(reading, |queue| p95.get(queue).copied()),
            // What it had done may be on its disk, which goes with the pod.
            None if pod.sidecar == SidecarState::Down && self.had_work(pod) => Work::Unknown,
            None if pod.sidecar != SidecarState::Running => Work::None,
            None => Work::Unknown,
        };
        let may_go = match work {
            Work::None => Some(Because::Unstarted),
            Work::Idle if self.is_unable_still(pod, reading) => Some(Because::Unable),
            _ if self.is_proven_idle(pod) => Some(Because::Idle),
            _ if self.is_overdue(pod) => Some(Because::Overdue),
            _ => None,
        };
        Seen {
            pod,
            work,
            cordoned: reading.is_some_and(|reading| reading.cordoned),
            unable: self.is_unable(pod),
            may_go,
        }
    }

    /// It had when it was heard of last, and may be heard of again.
    fn had_work(&self, pod: &LivePod) -> bool {
        self.last(pod).is_some_and(|last| {
            let age = self.now.clock.seconds_since(last.at);
            last.in_flight > 0 && age <= STARTED_AGAIN.as_secs_f64()
        })
    }

    /// Its mark, which another operator process may have made, says since when it is to go.
    fn is_overdue(&self, pod: &LivePod) -> bool {
        let within = self.max_drain.zip(since(self.memory, pod, self.now));
        within.is_some_and(|(within, since)| {
            let drained = Duration::try_from(self.now.wall.duration_since(since));
            drained.is_ok_and(|drained| drained >= within)
        })
    }

    /// It is not doing what it is told now: an order to another end says nothing about it.
    fn is_unable(&self, pod: &LivePod) -> bool {
        let Some(told) = self.told(pod) else {
            return false;
        };
        let ordered = self.memory.leaving.ordered.get(&pod.uid).filter(|ordered| {
            let is_cordon = (told.action, ordered.action) == (Action::Cordon, Action::Cordon);
            is_cordon && told.at >= ordered.since
        });
        let failing_since = told.failing_since.zip(ordered);
        told.answer == Err(Untold::Unable)
            || failing_since.is_some_and(|(since, ordered)| {
                // A cordon of which nothing is known would be over by then.
                let since = since.max(ordered.since);
                self.now.clock.seconds_since(since) >= TTL.as_secs_f64()
            })
    }

    /// It was read, and could not be told even then: one that can be reached again is told first.
    fn is_unable_still(&self, pod: &LivePod, reading: Option<&PodReading>) -> bool {
        let read_and_told = reading.zip(self.told(pod));
        self.is_unable(pod)
            && read_and_told.is_some_and(|(reading, told)| {
                told.answer == Err(Untold::Unable) || told.at >= reading.at
            })
    }

    /// It takes no tasks, had none when it was asked after it had turned unready, and can get
    /// none before its cordon ends.
    fn is_proven_idle(&self, pod: &LivePod) -> bool {
        let leaving = &self.memory.leaving;
        let (Some(told), Some(ordered), Some(&unready)) = (
            self.told(pod),
            leaving.ordered.get(&pod.uid),
            leaving.unready.get(&pod.uid),
        ) else {
            return false;
        };
        let (Ok(said), Some(since)) = (&told.answer, told.done_since) else {
            return false;
        };
        let is_shown = self.now.clock.seconds_since(since) >= SHOWN.as_secs_f64();
        let is_cordon = told.action == Action::Cordon && ordered.action == Action::Cordon;
        is_cordon
            && is_shown
            && said.cordoned
            && (said.in_flight, said.polls) == (0, 0)
            && said.at >= unready.max(ordered.since)
            && self.now.clock.seconds_since(said.at) <= PROOF.as_secs_f64()
    }
}
