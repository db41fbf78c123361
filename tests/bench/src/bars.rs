//! What the figures should be, and whether they are. Pure.
//!
//! A bar on processor time or throughput is on a ratio, and a ratio is of figures of one round.

use crate::{
    contender::{ALL, FLOOR, Kind, OURS},
    measure::throughput::Throughput,
    results::{Results, ratio},
};

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
}

impl Bound {
    /// Whether a figure keeps to it.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::Most(most) => figure <= most,
            Self::Least(least) => figure >= least,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Most(most) => write!(f, "≤ {most}"),
            Self::Least(least) => write!(f, "≥ {least}"),
        }
    }
}

/// A bar beside what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What is bounded.
    pub what: String,
    /// The bound.
    pub bound: Bound,
    /// The figure; none if it was not measured.
    pub found: Option<f64>,
}

impl Bar {
    fn new(what: impl Into<String>, bound: Bound, found: Option<f64>) -> Self {
        Self {
            what: what.into(),
            bound,
            found,
        }
    }

    /// Whether it was met; none if it was not measured.
    pub fn holds(&self) -> Option<bool> {
        self.found.map(|found| self.bound.holds(found))
    }
}

use Bound::{Least, Most};

/// Processor time a task of the sidecar alone, to another worker's.
const CPU: &[(&str, f64)] = &[
    ("go", 0.33),
    ("java", 0.65),
    ("rust", 0.45),
    ("python", 0.06),
    (FLOOR, 1.35),
];

/// The same with inputs of 10 KB.
const CPU_10_KB: &[(&str, f64)] = &[("go", 0.16)];

/// Tasks a second on one core, the sidecar with its handler, to another worker's.
const THROUGHPUT: &[(&str, f64)] = &[("go", 2.5), ("java", 1.2), (FLOOR, 0.78)];

/// Every bar of a run.
pub fn bars(results: &Results) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut ratios = |what: &str,
                      rounds,
                      list: &[(&str, f64)],
                      bound: fn(f64) -> Bound,
                      of: fn(&Throughput) -> f64| {
        for (to, limit) in list {
            let found = ratio(rounds, OURS, to, of).map(|spread| spread.median);
            bars.push(Bar::new(format!("{what}, to {to}"), bound(*limit), found));
        }
    };
    ratios("CPU a task", &results.throughput, CPU, Most, |t| t.cpu);
    ratios(
        "CPU a task with 10 KB",
        &results.throughput_10_kb,
        CPU_10_KB,
        Most,
        |t| t.cpu,
    );
    ratios(
        "tasks a second",
        &results.throughput,
        THROUGHPUT,
        Least,
        |t| t.tasks_a_second,
    );

    let light = results.light.get(OURS);
    let idle = results.idle.get(OURS);
    let memory = results.memory.get(OURS);
    let lost = results.shutdown.get(OURS);
    let mut plain = |what: &str, bound, found| bars.push(Bar::new(what, bound, found));
    plain("pick-up p50, ms", Most(0.2), light.map(|l| l.pick_up));
    plain("pick-up p99, ms", Most(1.5), light.map(|l| l.pick_up_99));
    plain(
        "turnaround p50 over the best SDK's, ms",
        Most(0.4),
        over_best(results),
    );
    // The in-memory server has no step of its own.
    plain(
        "pick-up p99 where batches are held until they are full (SQL), ms",
        Most(10.0),
        results.light_sql.map(|l| l.pick_up_99),
    );
    plain("idle: polls a second", Most(0.25), idle.map(|i| i.polls));
    plain(
        "idle: CPU seconds a minute",
        Most(0.05),
        idle.map(|i| i.cpu),
    );
    let three = results.idle_three;
    plain(
        "idle, three types: polls a second each",
        Most(0.25),
        three.map(|i| i.polls),
    );
    plain(
        "idle, three types: CPU seconds a minute each",
        Most(0.05),
        three.map(|i| i.cpu),
    );
    plain("resident idle, MiB", Most(8.0), memory.map(|m| m.idle));
    plain(
        "resident with 64 slots busy, MiB",
        Most(16.0),
        memory.map(|m| m.busy),
    );
    plain(
        "resident with 1,000 slots busy, MiB",
        Most(40.0),
        results.memory_many,
    );
    let lost = lost.map(|l| crate::summary::count(l.in_work + l.arriving));
    plain("tasks lost at a pod's end", Most(0.0), lost);
    bars
}

fn over_best(results: &Results) -> Option<f64> {
    let ours = results.light.get(OURS)?.turnaround;
    let sdks = ALL.iter().filter(|one| one.kind == Kind::Sdk);
    let turnarounds = sdks.filter_map(|one| Some(results.light.get(one.name)?.turnaround));
    let best = turnarounds.min_by(f64::total_cmp)?;
    Some(ours - best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::light::Light, results::By};

    #[test]
    fn bounds_include_their_ends() {
        assert!(Most(2.0).holds(2.0) && !Most(2.0).holds(2.1));
        assert!(Least(2.0).holds(2.0) && !Least(2.0).holds(1.9));
    }

    #[test]
    fn nothing_measured_is_neither_met_nor_missed() {
        let bars = bars(&Results::default());
        assert_eq!(bars.len(), 21);
        assert!(bars.iter().all(|bar| bar.holds().is_none()));
    }

    #[test]
    fn turnaround_is_compared_with_the_best_sdk_and_not_with_the_floor() {
        let light = |turnaround| Light {
            pick_up: 0.1,
            pick_up_99: 0.2,
            turnaround,
        };
        let results = Results {
            light: By::from(
                [(OURS, 7.5), (FLOOR, 5.0), ("go", 9.0), ("java", 7.0)]
                    .map(|(name, t)| (name.to_owned(), light(t))),
            ),
            ..Results::default()
        };
        assert_eq!(over_best(&results), Some(0.5));
    }
}
