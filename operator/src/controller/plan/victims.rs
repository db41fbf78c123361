//! Which pods go first, and which of those that are to go Kubernetes would take now.
//!
//! A `ReplicaSet` that shrinks takes pods without a node before others, then those whose
//! containers are not all made, then unready ones, then those of a lower deletion cost
//! (`ActivePodsWithRanks` in Kubernetes' `controller_utils.go`). What decides after that cannot be
//! told from here, so pods that are alike up to there go together or not at all.

use std::{cmp::Ordering, ops::RangeInclusive, time::Duration};

use conductor_client::QueueName;

use crate::{controller::observed::LivePod, sampling::PodReading};

/// A pod and what it is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen<'a> {
    /// The pod.
    pub(super) pod: &'a LivePod,
    /// What it is doing.
    pub(super) work: Work,
    /// It takes no more tasks for now.
    pub(super) cordoned: bool,
    /// It does not do what it is told: it takes tasks until it is gone.
    pub(super) unable: bool,
    /// Why it may go now, if it is to go.
    pub(super) may_go: Option<Because>,
}

/// Why a pod may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Because {
    /// It takes no more tasks and has none.
    Idle,
    /// It has never worked, or has crashed.
    Unstarted,
    /// It had none a moment ago; it cannot be told to take no more.
    Unable,
    /// It has not got idle within `maxDrain`.
    Overdue,
}

impl Because {
    /// Every one, for those who count them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Unstarted, Self::Unable, Self::Overdue];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Unstarted => "unstarted",
            Self::Unable => "unable",
            Self::Overdue => "overdue",
        }
    }
}

/// What a pod is doing, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Work {
    /// It has never worked, or its sidecar has crashed: it has nothing that could be waited for.
    None,
    /// Nothing.
    Idle,
    /// Some tasks.
    Busy {
        /// How many.
        tasks: u32,
        /// How long the last of them may take, by how long others took.
        remaining: Duration,
    },
    /// It has not said for too long.
    Unknown,
}

impl Work {
    /// From what it said last, and how long calls take elsewhere.
    pub(super) fn of(reading: &PodReading, p95: impl Fn(&QueueName) -> Option<Duration>) -> Self {
        if reading.in_flight == 0 {
            return Self::Idle;
        }
        let at_work = reading.tasks.iter().filter(|(_, task)| task.in_flight > 0);
        let remaining = at_work.map(|(queue, task)| {
            // Only the oldest one's age is known; the youngest of k is about a k-th as old.
            let age = task.oldest.unwrap_or_default() / task.in_flight;
            // One that takes longer than others do may take as long again.
            p95(queue).map_or(age, |usual| usual.abs_diff(age))
        });
        Self::Busy {
            tasks: reading.in_flight,
            remaining: remaining.max().unwrap_or_default(),
        }
    }

    pub(super) fn is_busy(self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unknown)
    }
}

/// The `n` pods that go first: those that never worked, then those on nodes that are being drained
/// (they have to go anyway), then idle ones, then those with the least work left; the youngest of
/// equal ones, as the ReplicaSet would choose.
pub(super) fn first_to_go<'a>(pods: &[Seen<'a>], n: usize) -> Vec<Seen<'a>> {
    let mut pods = pods.to_vec();
    pods.sort_by(order);
    pods.truncate(n);
    pods
}

/// The `n` of these that take tasks again first: those that work, most tasks first, then idle
/// ones; after these, in the same order, those on nodes that are being drained, and those that may
/// not work at all last.
pub(super) fn first_to_stay<'a>(pods: &[Seen<'a>], n: usize) -> Vec<Seen<'a>> {
    let mut pods = pods.to_vec();
    let rank = |seen: &Seen<'_>| {
        let (work, tasks) = match seen.work {
            Work::Busy { tasks, .. } => (3, tasks),
            Work::Idle => (2, 0),
            Work::Unknown => (1, 0),
            Work::None => (0, 0),
        };
        (work > 0 && !seen.pod.on_drained_node, work, tasks)
    };
    pods.sort_by(|a, b| {
        rank(b)
            .cmp(&rank(a))
            .then(a.pod.created.cmp(&b.pod.created))
            .then(a.pod.name.cmp(&b.pod.name))
    });
    pods.truncate(n);
    pods
}

fn order(a: &Seen<'_>, b: &Seen<'_>) -> Ordering {
    // Then less remaining time and fewer tasks; an unready one does less for the queue.
    let rank = |seen: &Seen<'_>| {
        let (work, remaining, tasks) = match seen.work {
            Work::None => (0, Duration::ZERO, 0),
            Work::Idle => (
                1 + u8::from(seen.pod.ready_since.is_some()),
                Duration::ZERO,
                0,
            ),
            Work::Busy { tasks, remaining } => (3, remaining, tasks),
            Work::Unknown => (4, Duration::ZERO, 0),
        };
        let stays = work > 0 && !seen.pod.on_drained_node;
        (stays, work, remaining, tasks)
    };
    rank(a)
        .cmp(&rank(b))
        .then(a.pod.assigned.cmp(&b.pod.assigned))
        .then(b.pod.created.cmp(&a.pod.created))
        .then(a.pod.name.cmp(&b.pod.name))
}

/// What a ReplicaSet that shrinks goes by, lowest first.
pub(super) fn rank(pod: &LivePod) -> (bool, bool, bool, i32) {
    (
        pod.assigned,
        !pod.pending,
        pod.ready_since.is_some(),
        pod.mark.cost,
    )
}

/// What may be taken now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Takeable<'a> {
    /// These, and no others, would go if replicas were lowered by their number.
    pub(super) pods: Vec<&'a LivePod>,
    /// These may go too, once they cost so little: others that may not go are like them.
    pub(super) tied: Vec<(&'a LivePod, i32)>,
}

/// How much less than another a pod costs that goes before it.
const STEP: i32 = 100;

/// Which of the pods that may go would be taken before any that may not. One that works may
/// look unready in the next moment (a busy handler that answers no probe): readiness spares none.
/// `costs` are the deletion costs that a pod may have by then, since what was read may be older
/// than what was written: the lowest counts for one that may not go, the highest for one that may.
pub(super) fn takeable<'a>(
    pods: impl Iterator<Item = &'a LivePod>,
    may_go: impl Fn(&LivePod) -> bool,
    costs: impl Fn(&LivePod) -> RangeInclusive<i32>,
) -> Takeable<'a> {
    let (mut may, may_not): (Vec<&LivePod>, Vec<&LivePod>) = pods.partition(|pod| may_go(pod));
    let at_best = |pod: &LivePod| {
        let (assigned, runs, ready, _) = rank(pod);
        (assigned, runs, ready, *costs(pod).end())
    };
    may.sort_by_key(|pod| at_best(pod));
    let mut found = Takeable::default();
    let mut is_first = true;
    for pod in may {
        let own = at_best(pod);
        let at_worst = |other: &LivePod| {
            let (assigned, runs, ready, _) = rank(other);
            (assigned, runs, ready && own.2, *costs(other).start())
        };
        let before = may_not.iter().filter(|other| at_worst(other) <= own);
        let before: Vec<_> = before.map(|other| at_worst(other)).collect();
        is_first &= before.is_empty();
        if is_first {
            found.pods.push(pod);
        }
        let is_alike =
            |other: &(bool, bool, bool, i32)| (other.0, other.1, other.2) == (own.0, own.1, own.2);
        if let Some(least) = before.iter().map(|other| other.3).min()
            && before.iter().all(is_alike)
        {
            found.tied.push((pod, least.saturating_sub(STEP)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::TaskReading;

    fn pod(name: &str) -> LivePod {
        LivePod {
            name: name.to_owned(),
            assigned: true,
            ready_since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..LivePod::default()
        }
    }

    fn seen(pod: &LivePod, work: Work) -> Seen<'_> {
        Seen {
            pod,
            work,
            cordoned: false,
            unable: false,
            may_go: None,
        }
    }

    fn busy(tasks: u32, seconds: u64) -> Work {
        Work::Busy {
            tasks,
            remaining: Duration::from_secs(seconds),
        }
    }

    fn names<'a>(chosen: &[Seen<'a>]) -> Vec<&'a str> {
        chosen.iter().map(|seen| seen.pod.name.as_str()).collect()
    }

    #[test]
    fn those_go_first_that_lose_least() {
        let mut pods = ["a", "b", "c", "d", "e", "f", "g", "h"].map(pod);
        pods[1].assigned = false;
        pods[3].ready_since = None;
        pods[6].created = Some(jiff::Timestamp::UNIX_EPOCH);
        let works = [
            Work::Unknown,
            Work::None,
            Work::None,
            Work::Idle,
            busy(1, 9),
            busy(4, 2),
            Work::Idle,
            Work::Idle,
        ];
        let all: Vec<Seen<'_>> = pods.iter().zip(works).map(|(p, w)| seen(p, w)).collect();
        let wanted = ["b", "c", "d", "g", "h", "f", "e", "a"];
        assert_eq!(names(&first_to_go(&all, 9)), wanted);
        assert_eq!(names(&first_to_go(&all, 3)), wanted[..3]);
        let mut reversed = all.clone();
        reversed.reverse();
        assert_eq!(names(&first_to_go(&reversed, 9)), wanted, "in any order");
        let wanted = ["f", "e", "d", "h", "g", "a", "b", "c"];
        assert_eq!(names(&first_to_stay(&all, 9)), wanted);
    }

    #[test]
    fn those_on_nodes_that_are_drained_go_before_all_that_have_worked() {
        let mut pods = ["a", "b", "c", "d", "e", "f"].map(pod);
        for i in [1, 3, 5] {
            pods[i].on_drained_node = true;
        }
        let works = [
            Work::None,
            Work::None,
            Work::Idle,
            Work::Idle,
            busy(1, 5),
            busy(3, 9),
        ];
        let all: Vec<Seen<'_>> = pods.iter().zip(works).map(|(p, w)| seen(p, w)).collect();
        assert_eq!(names(&first_to_go(&all, 6)), ["a", "b", "d", "f", "c", "e"]);
        assert_eq!(
            names(&first_to_stay(&all, 6)),
            ["e", "c", "f", "d", "a", "b"]
        );
    }

    #[test]
    fn what_is_left_is_told_by_age_and_by_how_long_others_took() {
        let s = Duration::from_secs;
        for (tasks, remaining) in [
            (&[][..], 0),
            // The tasks of each type, the age of the oldest, and how long others took.
            (&[(1, 2, Some(10))][..], 8),
            (&[(2, 8, Some(10))], 6),
            (&[(1, 25, Some(10))], 15),
            (&[(1, 3, None)], 3),
            (&[(1, 9, Some(10)), (1, 1, Some(5)), (0, 0, Some(99))], 4),
        ] {
            let tasks = tasks.iter().enumerate().map(|(i, &(n, age, p95))| {
                let task = TaskReading {
                    in_flight: n,
                    oldest: Some(s(age)),
                    p95: p95.map(s),
                    idle: false,
                    ..TaskReading::default()
                };
                (QueueName::new(i.to_string(), None), task)
            });
            let reading = PodReading {
                in_flight: 3,
                tasks: tasks.collect(),
                ..PodReading::default()
            };
            let work = Work::of(&reading, |queue| reading.tasks[queue].p95);
            assert_eq!(work, busy(3, remaining), "{:?}", reading.tasks);
        }
        assert_eq!(Work::of(&PodReading::default(), |_| None), Work::Idle);
    }

    #[test]
    fn only_those_are_taken_that_would_go() {
        // For each pod: has a node, runs, is ready, its cost, may go; then which are taken, and
        // which would be at what cost.
        type Pod = (bool, bool, bool, i32, bool);
        type Case<'a> = (&'a [Pod], &'a [usize], &'a [(usize, i32)]);
        const WORKS: Pod = (true, true, true, 0, false);
        const WORKS_UNREADY: Pod = (true, true, false, 0, false);
        const IDLE: Pod = (true, true, false, -100, true);
        const STARTS: Pod = (true, false, false, 0, false);
        let cost = |pod: Pod, cost| (pod.0, pod.1, pod.2, cost, pod.4);
        let may_go = |pod: Pod| (pod.0, pod.1, pod.2, pod.3, true);
        let cases: [Case<'_>; 11] = [
            (&[WORKS], &[], &[]),
            (&[WORKS, IDLE], &[1], &[]),
            // Its cost spares one that looks unready, or may in a moment.
            (&[WORKS_UNREADY, IDLE], &[1], &[]),
            (&[WORKS_UNREADY, cost(IDLE, 0)], &[], &[(1, -100)]),
            (&[WORKS, cost(IDLE, 0)], &[], &[(1, -100)]),
            (
                &[cost(WORKS, -100), IDLE, IDLE],
                &[],
                &[(1, -200), (2, -200)],
            ),
            (
                &[
                    cost(WORKS_UNREADY, -700),
                    cost(WORKS, -100),
                    IDLE,
                    cost(IDLE, -800),
                ],
                &[3],
                &[(2, -800)],
            ),
            // One that starts would go first, and no cost helps.
            (&[STARTS, IDLE], &[], &[]),
            (
                &[may_go(STARTS), IDLE, (false, false, false, 0, true)],
                &[2, 0, 1],
                &[],
            ),
            // Of two that start, one.
            (&[STARTS, may_go(STARTS)], &[], &[(1, -100)]),
            // What is ready and may go all the same goes by its cost, after all that are unready.
            (
                &[cost(WORKS_UNREADY, 0), may_go(cost(WORKS, -100))],
                &[],
                &[],
            ),
        ];
        for (case, taken, tied) in cases {
            let pods: Vec<LivePod> = case
                .iter()
                .enumerate()
                .map(|(i, &(assigned, runs, ready, cost, _))| {
                    let mut pod = pod(&i.to_string());
                    pod.assigned = assigned;
                    pod.pending = !runs;
                    pod.ready_since = pod.ready_since.filter(|_| ready);
                    pod.mark.cost = cost;
                    pod
                })
                .collect();
            let may_go = |pod: &LivePod| case[pod.name.parse::<usize>().unwrap()].4;
            let costs = |pod: &LivePod| pod.mark.cost..=pod.mark.cost;
            let found = takeable(pods.iter(), may_go, costs);
            let taken: Vec<_> = taken.iter().map(|&i| &pods[i]).collect();
            let tied: Vec<_> = tied.iter().map(|&(i, cost)| (&pods[i], cost)).collect();
            assert_eq!((found.pods, found.tied), (taken, tied), "{case:?}");
        }
    }

    #[test]
    fn a_cost_that_may_have_been_written_anew_spares_and_takes_nobody() {
        let pod = |name: &str, cost| {
            let mut pod = LivePod {
                name: name.to_owned(),
                assigned: true,
                ..LivePod::default()
            };
            pod.mark.cost = cost;
            pod
        };
        let pods = [pod("works", -100), pod("idle", -200)];
        for (written, taken) in [(-200, 1), (-300, 1), (-100, 0), (0, 0)] {
            let costs = |pod: &LivePod| match &*pod.name {
                "idle" => written.min(-200)..=written.max(-200),
                _ => -100..=-100,
            };
            let found = takeable(pods.iter(), |pod| pod.name == "idle", costs);
            assert_eq!(found.pods.len(), taken, "{written}");
        }
    }
}
