//! From the pods' statistics to what `scaling::decide` takes. Pure.

use std::{collections::HashMap, time::Duration};

use scaling::{Sample, TaskSample};
use worker_sidecar::stats::{Stats, TaskStats};

/// A pod as it is seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Which pod.
    pub(crate) id: u64,
    /// How long it has been there.
    pub(crate) age: Duration,
    /// From its creation to its handler being ready, once it is.
    pub(crate) started_up: Option<Duration>,
    /// It takes no more work.
    pub(crate) leaving: bool,
    /// What its sidecar says.
    pub(crate) stats: Stats,
}

impl Seen {
    /// It takes work, or could.
    pub(crate) fn is_ready(&self) -> bool {
        !self.leaving && self.started_up.is_some()
    }
}

/// What the pods' counters were at the sample before.
#[derive(Debug, Default)]
pub(crate) struct Before(HashMap<u64, Stats>);

/// The sample, and how many tasks ended since the one before. `queues` are in the order of
/// the worker's tasks, as are the tasks in the statistics.
pub(crate) fn sample(
    current: u32,
    queues: &[Option<u64>],
    pods: &[Seen],
    before: &mut Before,
) -> (Sample, u64) {
    let staying: Vec<&Seen> = pods.iter().filter(|p| !p.leaving).collect();
    let ready: Vec<&Seen> = pods.iter().filter(|p| p.is_ready()).collect();
    let starting = staying.iter().filter(|p| p.started_up.is_none());
    let mut sample = Sample {
        current,
        ready: count(ready.len()),
        starting: count(staying.len() - ready.len()),
        idle: count(ready.iter().filter(|p| p.stats.in_flight == 0).count()),
        oldest_starting: starting.map(|p| p.age).max().unwrap_or_default(),
        started_up: ready
            .iter()
            .filter(|p| !before.0.contains_key(&p.id))
            .filter_map(|p| p.started_up)
            .collect(),
        stats_complete: true,
        server_away: false,
        tasks: queues
            .iter()
            .map(|queue| TaskSample {
                queue: *queue,
                ..TaskSample::default()
            })
            .collect(),
    };
    let (mut polls, mut errors) = (0, 0);
    for pod in pods {
        let old = before.0.get(&pod.id);
        for (i, (now, task)) in pod.stats.tasks.iter().zip(&mut sample.tasks).enumerate() {
            let old = old.and_then(|stats| stats.tasks.get(i));
            let grown = |counter: fn(&TaskStats) -> u64| counter(now) - old.map_or(0, counter);
            let seconds = |counter: fn(&TaskStats) -> f64| counter(now) - old.map_or(0.0, counter);
            task.started += grown(|t| t.started);
            task.ended += grown(ended);
            task.executing_seconds += seconds(|t| t.executing_seconds);
            task.occupied_seconds += seconds(|t| t.occupied_seconds);
            task.idle_seconds += seconds(|t| t.idle_seconds);
            task.ended_seconds += seconds(|t| t.execute_seconds.sum);
            polls += grown(|t| t.polls);
            errors += grown(|t| t.poll_errors);
            if pod.leaving {
                task.leaving += count(now.in_flight);
            } else {
                task.running += count(now.in_flight);
                task.idle_slot |= now.idle && pod.is_ready();
            }
        }
    }
    let unreadable = queues.iter().all(Option::is_none);
    sample.server_away = unreadable && polls > 0 && polls == errors;
    let done = sample.tasks.iter().map(|t| t.ended).sum();
    // A pod that is still starting is not remembered, so that its start-up is seen once.
    before.0 = pods
        .iter()
        .filter(|p| p.started_up.is_some())
        .map(|p| (p.id, p.stats.clone()))
        .collect();
    (sample, done)
}

fn ended(t: &TaskStats) -> u64 {
    t.completed + t.failed + t.handed_back + t.deferred
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use worker_sidecar::stats::Digest;

    use super::*;

    fn pod(id: u64, in_flight: usize, completed: u64, started_up: Option<u64>) -> Seen {
        let task = TaskStats {
            task_type: "t".into(),
            domain: None,
            slots: 4,
            in_flight,
            oldest_start: None,
            started: completed + in_flight as u64,
            completed,
            failed: 0,
            handed_back: 0,
            deferred: 0,
            executing_seconds: 2.0,
            occupied_seconds: 3.0,
            polls: 10,
            empty_polls: 0,
            poll_errors: 0,
            idle: in_flight == 0,
            idle_seconds: 0.0,
            broken: false,
            execute_seconds: Digest::default(),
            wait_seconds: Digest::default(),
        };
        Seen {
            id,
            age: Duration::from_secs(9),
            started_up: started_up.map(Duration::from_secs),
            leaving: false,
            stats: Stats {
                version: 1,
                started_at: 0,
                observed_at: 0,
                draining: false,
                cordoned: false,
                handler_ready: started_up.is_some(),
                slots: 4,
                in_flight,
                spooled: 0,
                polls_in_flight: 0,
                tasks: vec![task],
            },
        }
    }

    #[test]
    fn counters_are_seen_as_growth_and_pods_by_their_state() {
        let mut before = Before::default();
        let mut gone = pod(4, 1, 0, Some(1));
        gone.leaving = true;
        let pods = [
            pod(1, 2, 10, Some(3)),
            pod(2, 0, 5, Some(2)),
            pod(3, 0, 0, None),
            gone,
        ];
        let (s, done) = sample(3, &[Some(7)], &pods, &mut before);
        assert_eq!((s.ready, s.starting, s.idle, done), (2, 1, 1, 15));
        assert_eq!(s.oldest_starting, Duration::from_secs(9));
        assert_eq!(
            s.started_up,
            [Duration::from_secs(3), Duration::from_secs(2)]
        );
        assert_eq!(
            (s.tasks[0].queue, s.tasks[0].running, s.tasks[0].leaving),
            (Some(7), 2, 1)
        );
        assert!(s.tasks[0].idle_slot);

        let (s, done) = sample(
            3,
            &[None],
            &[pod(1, 0, 12, Some(3)), pod(3, 0, 0, Some(4))],
            &mut before,
        );
        assert_eq!((s.tasks[0].queue, done), (None, 2));
        assert_eq!(s.started_up, [Duration::from_secs(4)], "each start-up once");
        assert!(
            (s.tasks[0].executing_seconds - 2.0).abs() < 1e-9,
            "the new pod's alone"
        );
    }
}
