//! What a run is worth.

use serde::{Deserialize, Serialize};

use crate::{scenario::Scenario, world::Outcome};

/// A run's figures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Tasks whose wait counts.
    pub tasks: u64,
    /// Percentiles of the waits, in seconds.
    pub p50: f64,
    /// As above.
    pub p95: f64,
    /// As above.
    pub p99: f64,
    /// The longest wait.
    pub longest: f64,
    /// Share of waits above W.
    pub miss: f64,
    /// Mean of max(0, wait − W)/W.
    pub excess: f64,
    /// From creation to removal, over all pods.
    pub pod_seconds: f64,
    /// Executions killed.
    pub killed: u64,
    /// Their executed seconds.
    pub wasted_seconds: f64,
    /// Changes of the desired number, an hour.
    pub changes_h: f64,
    /// Of these, changes of direction.
    pub reversals_h: f64,
    /// Most active pods.
    pub max_pods: u32,
    /// Tasks not started by the end.
    pub unstarted: u64,
    /// From a burst to the last start among its tasks, in seconds; absent without bursts.
    pub burst_drain: Option<f64>,
}

/// One line of results; its keys are those of the reference table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in Figures")]
pub struct Row {
    pub scenario: String,
    pub policy: String,
    /// The targets that a tuned policy chose.
    pub chosen: String,
    pub tasks: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub miss: f64,
    pub excess: f64,
    pub pod_seconds: f64,
    pub killed: u64,
    pub reversals_h: f64,
    pub max_pods: u32,
    pub unstarted: u64,
    pub j: f64,
}

impl Figures {
    /// The figures of what came of a run. Sorts its waits.
    pub fn of(scenario: &Scenario, outcome: &mut Outcome) -> Self {
        let waits = &mut outcome.waits;
        waits.sort_unstable_by(f64::total_cmp);
        let goal = scenario.target.max_wait;
        let late = &waits[waits.partition_point(|w| *w <= goal)..];
        let count = waits.len().max(1) as f64;
        let hours = scenario.duration / 3600.0;
        Self {
            tasks: waits.len() as u64,
            p50: nearest_rank(waits, 0.50),
            p95: nearest_rank(waits, 0.95),
            p99: nearest_rank(waits, 0.99),
            longest: waits.last().copied().unwrap_or(0.0),
            miss: late.len() as f64 / count,
            excess: late.iter().fold(0.0, |sum, w| sum + (w - goal) / goal) / count,
            pod_seconds: outcome.pod_seconds,
            killed: outcome.killed,
            wasted_seconds: outcome.wasted_seconds,
            changes_h: outcome.changes as f64 / hours,
            reversals_h: outcome.reversals as f64 / hours,
            max_pods: outcome.max_pods,
            unstarted: outcome.unstarted,
            burst_drain: outcome.burst_drain,
        }
    }

    /// Pod-seconds beside the oracle's. Where the oracle needs none, each pod-second counts.
    pub fn cost_ratio(&self, oracle_pod_seconds: f64) -> f64 {
        if oracle_pod_seconds > 0.0 {
            self.pod_seconds / oracle_pod_seconds
        } else {
            1.0 + self.pod_seconds
        }
    }

    /// J = cost ratio + 10·miss + excess; lower is better.
    pub fn j(&self, oracle_pod_seconds: f64) -> f64 {
        self.cost_ratio(oracle_pod_seconds) + 10.0 * self.miss + self.excess
    }

    /// As a line of results, rounded to four digits.
    pub fn row(&self, scenario: &str, policy: &str, chosen: String, j: f64) -> Row {
        Row {
            scenario: scenario.to_owned(),
            policy: policy.to_owned(),
            chosen,
            tasks: self.tasks,
            p50: rounded(self.p50),
            p95: rounded(self.p95),
            p99: rounded(self.p99),
            miss: rounded(self.miss),
            excess: rounded(self.excess),
            pod_seconds: rounded(self.pod_seconds),
            killed: self.killed,
            reversals_h: rounded(self.reversals_h),
            max_pods: self.max_pods,
            unstarted: self.unstarted,
            j: rounded(j),
        }
    }
}

/// The value of rank ⌈p·n⌉ of sorted values, p from 0 to 1; 0 where there are none.
pub fn nearest_rank(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_defined() {
        let scenario = Scenario::read(
            "
name: s
duration: 1800
target: {maxWait: 10}
pods: {max: 1, slots: 1, start: {dist: const, value: 1}}
types: [{name: t, service: {dist: const, value: 1}, arrivals: []}]
",
        )
        .unwrap();
        let mut outcome = Outcome {
            waits: (1..=20).rev().map(f64::from).collect(),
            pod_seconds: 300.0,
            changes: 4,
            reversals: 2,
            ..Outcome::default()
        };
        let f = Figures::of(&scenario, &mut outcome);
        assert_eq!((f.tasks, f.p50, f.p95, f.p99), (20, 10.0, 19.0, 20.0));
        assert!((f.miss - 0.5).abs() < 1e-12);
        // (1 + … + 10)/10/20
        assert!((f.excess - 0.275).abs() < 1e-12);
        assert!((f.reversals_h - 4.0).abs() < 1e-12 && (f.changes_h - 8.0).abs() < 1e-12);
        assert!((f.j(200.0) - (1.5 + 5.0 + 0.275)).abs() < 1e-12);
        let none = Figures::of(&scenario, &mut Outcome::default());
        assert!((none.p99 + none.miss + none.excess).abs() < 1e-12);
    }
}
