//! What a run comes to. Pure.

use serde::{Deserialize, Serialize};
use simulator::nearest_rank;

use crate::run::Run;

/// A run in numbers. Times are in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Jobs.
    pub tasks: usize,
    /// Waits from the queue to a worker: the median.
    pub p50: f64,
    /// Of 95 in a hundred at most.
    pub p95: f64,
    /// Of 99 in a hundred at most.
    pub p99: f64,
    /// The longest.
    pub longest: f64,
    /// The share of waits that were longer than they should be.
    pub miss: f64,
    /// From each pod's creation to its removal, or the load's end.
    pub pod_seconds: f64,
    /// Executions that ended with their pod.
    pub killed: usize,
    /// Attempts after each job's first.
    pub retries: u32,
    /// Jobs that were not done when the load's time was over.
    pub undone: usize,
    /// Most pods at once.
    pub most_pods: u32,
    /// From the first task in the queue to the first raise of the replicas after it.
    pub reaction: Option<f64>,
    /// From a pod's creation until it was ready, the mean.
    pub start_up: Option<f64>,
}

/// The figures of a run.
pub fn figures(run: &Run) -> Figures {
    let mut waits = waits(run);
    waits.sort_by(f64::total_cmp);
    let late = waits.iter().filter(|w| **w > run.max_wait).count();
    let lives = run.log.pods.iter().map(|pod| {
        let until = pod.gone.map_or(run.duration, |at| at.min(run.duration));
        (until - pod.created.max(0.0)).max(0.0)
    });
    let killed = run.executions.iter().filter(|e| {
        let mut pods = run.log.pods.iter();
        e.ended.is_none() && pods.any(|p| p.name == e.pod && p.gone.is_some())
    });
    let start_ups = run.log.pods.iter();
    let start_ups: Vec<f64> = start_ups
        .filter_map(|p| p.ready.map(|at| at - p.created))
        .collect();
    Figures {
        tasks: waits.len(),
        p50: nearest_rank(&waits, 0.5),
        p95: nearest_rank(&waits, 0.95),
        p99: nearest_rank(&waits, 0.99),
        longest: waits.last().copied().unwrap_or(0.0),
        miss: share(late, waits.len()),
        pod_seconds: lives.sum(),
        killed: killed.count(),
        retries: run.outcomes.iter().map(|o| o.attempts.max(1) - 1).sum(),
        undone: run.outcomes.iter().filter(|o| !o.completed).count(),
        most_pods: pods(run).iter().map(|(_, n)| *n).max().unwrap_or(0),
        reaction: reaction(run),
        start_up: (!start_ups.is_empty())
            .then(|| share_of(start_ups.iter().sum(), start_ups.len())),
    }
}

/// How long each job's last attempt was in the queue, from the first moment it was there; one
/// that was not taken waited until the end.
pub fn waits(run: &Run) -> Vec<f64> {
    let outcomes = run.outcomes.iter();
    let wait =
        |o: &crate::replay::Outcome| (o.started.unwrap_or(run.duration) - o.visible).max(0.0);
    outcomes.map(wait).collect()
}

fn reaction(run: &Run) -> Option<f64> {
    let first = run
        .outcomes
        .iter()
        .map(|o| o.visible)
        .min_by(f64::total_cmp)?;
    raises(run)
        .into_iter()
        .map(|(at, _)| at - first)
        .find(|t| *t > 0.0)
}

/// The writes that raised the number of replicas: when, and to what.
pub fn raises(run: &Run) -> Vec<(f64, u32)> {
    let writes = run.log.replicas.windows(2);
    let raised = writes.filter(|pair| pair[1].1 > pair[0].1);
    raised.map(|pair| pair[1]).collect()
}

/// How many pods there are over time, leaving ones included: when, and from then on how many.
pub fn pods(run: &Run) -> Vec<(f64, u32)> {
    let mut changes: Vec<(f64, bool)> = Vec::new();
    for pod in &run.log.pods {
        changes.push((pod.created, true));
        changes.extend(pod.gone.map(|at| (at, false)));
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut n = 0_u32;
    let mut steps: Vec<(f64, u32)> = Vec::new();
    for (at, more) in changes {
        n = if more { n + 1 } else { n.saturating_sub(1) };
        steps.push((at, n));
    }
    steps
}

fn share(part: usize, of: usize) -> f64 {
    share_of(count(part), of)
}

fn share_of(sum: f64, of: usize) -> f64 {
    if of == 0 { 0.0 } else { sum / count(of) }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::Execution,
        replay::Outcome,
        watch::{Log, PodSeen},
    };

    fn pod(name: &str, created: f64, gone: Option<f64>) -> PodSeen {
        PodSeen {
            name: name.to_owned(),
            created,
            ready: Some(created + 2.0),
            leaving: gone,
            gone,
        }
    }

    fn run() -> Run {
        let outcome = |visible, started, attempts| Outcome {
            visible,
            started,
            ended: started.map(|s: f64| s + 1.0),
            attempts,
            completed: started.is_some(),
        };
        let execution = |pod: &str, ended| Execution {
            task: String::new(),
            pod: pod.to_owned(),
            began: 10.0,
            ended,
            cut: None,
        };
        Run {
            max_wait: 5.0,
            duration: 100.0,
            outcomes: vec![
                outcome(10.0, Some(12.0), 1),
                outcome(10.0, Some(16.0), 2),
                outcome(90.0, None, 1),
            ],
            log: Log {
                pods: vec![
                    pod("old", -5.0, Some(20.0)),
                    pod("new", 11.0, None),
                    pod("last", 150.0, None),
                ],
                replicas: vec![(-6.0, 1), (11.5, 2), (18.0, 1)],
            },
            executions: vec![
                execution("old", Some(11.0)),
                execution("old", None),
                execution("new", None),
            ],
            ..Run::default()
        }
    }

    #[test]
    fn waits_are_to_the_last_attempt_and_to_the_end_without_one() {
        let figures = figures(&run());
        assert_eq!(
            (figures.p50, figures.p99, figures.longest),
            (6.0, 10.0, 10.0)
        );
        assert!((figures.miss - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!((figures.retries, figures.undone), (1, 1));
    }

    #[test]
    fn pods_count_from_zero_to_the_end() {
        let figures = figures(&run());
        assert!((figures.pod_seconds - (20.0 + 89.0)).abs() < 1e-9);
        assert_eq!(figures.most_pods, 2);
        assert_eq!(figures.start_up, Some(2.0));
    }

    #[test]
    fn an_execution_is_killed_if_its_pod_is_gone() {
        assert_eq!(figures(&run()).killed, 1);
    }

    #[test]
    fn the_reaction_is_the_first_raise_after_the_first_task() {
        assert_eq!(figures(&run()).reaction, Some(1.5));
    }

    #[test]
    fn nothing_comes_to_nothing() {
        assert_eq!(figures(&Run::default()), Figures::default());
    }
}
