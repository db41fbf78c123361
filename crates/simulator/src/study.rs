//! Scenarios under policies: what to run, and what it came to.

use rayon::prelude::*;

use crate::{
    catalogue::Name,
    faults::{Faults, Faulty},
    oracle,
    policy::Policy,
    scenario::Scenario,
    score::{Figures, Row},
    workload::Workload,
    world::{Outcome, Trace, run},
};

/// The oracle's plan may miss this much more than the best one.
const SPARE_MISS: f64 = 0.01;

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Added to the scenario's seed.
    pub seed_add: u64,
    /// What is wrong with the samples of every policy but the oracle.
    pub faults: Faults,
    /// Follow runs at so many moments.
    pub moments: Option<u32>,
}

/// A policy's run on a scenario; of a policy with variants the best one's.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The policy.
    pub policy: Name,
    /// The targets that a tuned policy chose.
    pub chosen: String,
    /// Its figures.
    pub figures: Figures,
    /// The run over time, where it was asked for.
    pub trace: Option<Trace>,
    /// Pod-seconds beside the oracle's.
    pub cost_ratio: f64,
    /// Most active pods beside the oracle's; unknown where the oracle was not run.
    pub overshoot: Option<f64>,
    /// cost ratio + 10·miss + excess.
    pub j: f64,
}

/// A scenario with its tasks drawn.
#[derive(Debug)]
pub struct Study {
    scenario: Scenario,
    workload: Workload,
    options: Options,
}

struct Run {
    chosen: String,
    figures: Figures,
    trace: Option<Trace>,
}

impl Study {
    /// Draws the tasks.
    pub fn new(scenario: Scenario, options: Options) -> Self {
        let seed = scenario.seed.wrapping_add(options.seed_add);
        Self {
            workload: Workload::draw(&scenario, seed),
            scenario,
            options,
        }
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Runs these policies, in their order. `oracle` is what an earlier study of the same
    /// scenario and seed found the oracle's pod-seconds to be: where it is given, the oracle
    /// is run only if it is one of the policies.
    pub fn run(&self, policies: &[Name], oracle: Option<f64>) -> Vec<Ran> {
        let plan = (oracle.is_none() || policies.contains(&Name::Oracle)).then(|| self.oracle());
        let pod_seconds = match (&plan, oracle) {
            (Some(plan), None) => plan.figures.pod_seconds,
            (_, given) => given.unwrap_or_default(),
        };
        let ran = policies.par_iter().map(|policy| {
            let best = match (policy, &plan) {
                (Name::Oracle, Some(plan)) => Run {
                    chosen: plan.chosen.clone(),
                    trace: plan.trace.clone(),
                    ..*plan
                },
                _ => self.best(*policy, pod_seconds),
            };
            let most = plan.as_ref().map(|plan| plan.figures.max_pods);
            let most = most.filter(|most| *most > 0);
            Ran {
                policy: *policy,
                chosen: best.chosen,
                trace: best.trace,
                cost_ratio: best.figures.cost_ratio(pod_seconds),
                overshoot: most.map(|most| f64::from(best.figures.max_pods) / f64::from(most)),
                j: best.figures.j(pod_seconds),
                figures: best.figures,
            }
        });
        ran.collect()
    }

    /// Runs every variant of a policy and takes the one of the least J.
    fn best(&self, policy: Name, oracle: f64) -> Run {
        let variants = policy.variants(&self.scenario).into_par_iter();
        let runs = variants.map(|mut variant| {
            let seed = self.seed();
            let mut faulty = Faulty::new(&mut *variant.policy, self.options.faults, seed);
            let outcome = if self.options.faults.any() {
                self.outcome(&mut faulty)
            } else {
                self.outcome(&mut *variant.policy)
            };
            self.scored(variant.chosen, outcome)
        });
        least(runs.collect(), |run| run.figures.j(oracle))
    }

    /// Of all plans the cheapest whose miss is near the smallest.
    fn oracle(&self) -> Run {
        let plans = oracle::plans(&self.scenario, &self.workload).into_par_iter();
        let mut runs: Vec<Run> = plans
            .map(|mut plan| {
                let outcome = self.outcome(&mut plan);
                self.scored(String::new(), outcome)
            })
            .collect();
        let smallest = runs.iter().map(|r| r.figures.miss).fold(1.0, f64::min);
        runs.retain(|run| run.figures.miss <= smallest + SPARE_MISS);
        least(runs, |run| run.figures.pod_seconds)
    }

    fn outcome(&self, policy: &mut dyn Policy) -> Outcome {
        let moments = self.options.moments;
        run(&self.scenario, &self.workload, self.seed(), policy, moments)
    }

    fn scored(&self, chosen: String, mut outcome: Outcome) -> Run {
        Run {
            chosen,
            figures: Figures::of(&self.scenario, &mut outcome),
            trace: outcome.trace,
        }
    }

    fn seed(&self) -> u64 {
        self.scenario.seed.wrapping_add(self.options.seed_add)
    }
}

/// The first run with the least value. There is always one: each policy has a variant, and of
/// the plans at least the one that misses least is kept.
fn least(runs: Vec<Run>, value: impl Fn(&Run) -> f64) -> Run {
    let mut runs = runs.into_iter();
    let first = runs.next().unwrap_or_else(|| Run {
        chosen: String::new(),
        figures: Figures::default(),
        trace: None,
    });
    runs.fold(first, |best, run| {
        if value(&run) < value(&best) {
            run
        } else {
            best
        }
    })
}

impl Ran {
    /// As a line of results.
    pub fn row(&self, scenario: &str) -> Row {
        self.figures
            .row(scenario, self.policy.as_str(), self.chosen.clone(), self.j)
    }
}
