//! Scenarios under policies: which to run, and what they came to.

use std::{fmt, str::FromStr};

use rayon::prelude::*;

use crate::{
    oracle::{self, Plan},
    policies::{AwsBpi, AzureTbs, Concurrency, FlinkLike, Keda, Kpa, Metric, Ours},
    policy::{Policy, ScaleDown},
    scenario::Scenario,
    score::{Figures, Row},
    workload::Workload,
    world::{Outcome, run},
};

/// A policy by its name in results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their modules say what they are")]
pub enum Name {
    Ours,
    Oracle,
    KedaTuned,
    KedaTunedDrain,
    Keda,
    KpaExec,
    KpaQueue,
    Airflow,
    AwsBpi,
    AzureTbs,
    FlinkLike,
}

/// A name that no policy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no policy is called {0:?}; there are {all}", all = Name::ALL.map(Name::as_str).join(", "))]
pub struct Unknown(String);

/// The queue lengths per pod that the tuned KEDA tries.
const TARGETS: [f64; 12] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 3000.0,
];
/// With several types, each combination of these too.
const PRODUCT: [f64; 5] = [1.0, 5.0, 20.0, 100.0, 500.0];
/// KEDA's default queue length per pod.
const DEFAULT_TARGET: f64 = 5.0;
/// A plan may miss this much more than the best one.
const SPARE_MISS: f64 = 0.01;

impl Name {
    /// Every policy.
    pub const ALL: [Self; 11] = [
        Self::Ours,
        Self::Oracle,
        Self::KedaTuned,
        Self::KedaTunedDrain,
        Self::Keda,
        Self::KpaExec,
        Self::KpaQueue,
        Self::Airflow,
        Self::AwsBpi,
        Self::AzureTbs,
        Self::FlinkLike,
    ];

    /// The name in results and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Oracle => "oracle",
            Self::KedaTuned => "keda-hpa-tuned",
            Self::KedaTunedDrain => "keda-hpa-tuned+drain",
            Self::Keda => "keda-hpa",
            Self::KpaExec => "kpa-exec",
            Self::KpaQueue => "kpa-queue",
            Self::Airflow => "airflow",
            Self::AwsBpi => "aws-bpi",
            Self::AzureTbs => "azure-tbs",
            Self::FlinkLike => "flink-like",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Name {
    type Err = Unknown;

    fn from_str(s: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == s);
        found.ok_or_else(|| Unknown(s.to_owned()))
    }
}

/// A run that was chosen, where there was a choice.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The policy.
    pub policy: Name,
    /// The targets that a tuned policy chose.
    pub chosen: String,
    /// Its figures.
    pub figures: Figures,
    /// Beside the oracle.
    pub j: f64,
}

/// A scenario with its tasks drawn.
#[derive(Debug)]
pub struct Study {
    scenario: Scenario,
    workload: Workload,
    seed: u64,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Added to the scenario's seed.
    pub seed_add: u64,
}

impl Study {
    /// Draws the tasks.
    pub fn new(scenario: Scenario, options: &Options) -> Self {
        let seed = scenario.seed.wrapping_add(options.seed_add);
        Self {
            workload: Workload::draw(&scenario, seed),
            scenario,
            seed,
        }
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Runs these policies, in their order. `oracle` is what an earlier study of the same
    /// scenario and seed found its pod-seconds to be; it is computed where it is absent.
    pub fn run(&self, policies: &[Name], oracle: Option<f64>) -> Vec<Ran> {
        let plan = (oracle.is_none() || policies.contains(&Name::Oracle)).then(|| self.oracle());
        let oracle = oracle
            .or(plan.as_ref().map(|(figures, _)| figures.pod_seconds))
            .unwrap_or(0.0);
        policies
            .par_iter()
            .map(|policy| {
                let (figures, chosen) = match (policy, &plan) {
                    (Name::Oracle, Some((figures, _))) => (*figures, String::new()),
                    _ => self.best(*policy, oracle),
                };
                Ran {
                    policy: *policy,
                    chosen,
                    figures,
                    j: figures.j(oracle),
                }
            })
            .collect()
    }

    /// Runs one policy; of the variants of a tuned one the best.
    fn best(&self, policy: Name, oracle: f64) -> (Figures, String) {
        let of_variants = self.variants(policy).into_par_iter().map(|(chosen, make)| {
            let figures = self.figures(&mut *make(&self.scenario));
            (figures, chosen)
        });
        let mut of_variants: Vec<(Figures, String)> = of_variants.collect();
        let best = (0..of_variants.len())
            .min_by(|a, b| {
                let j = |n: &usize| of_variants[*n].0.j(oracle);
                j(a).total_cmp(&j(b))
            })
            .unwrap_or(0);
        of_variants.swap_remove(best)
    }

    fn figures(&self, policy: &mut dyn Policy) -> Figures {
        let mut outcome = self.outcome(policy, None);
        Figures::of(&self.scenario, &mut outcome)
    }

    fn outcome(&self, policy: &mut dyn Policy, trace: Option<u32>) -> Outcome {
        run(&self.scenario, &self.workload, self.seed, policy, trace)
    }

    /// Of all plans the cheapest whose miss is near the smallest.
    fn oracle(&self) -> (Figures, Plan) {
        let plans = oracle::plans(&self.scenario, &self.workload);
        let runs: Vec<(Figures, Plan)> = plans
            .into_par_iter()
            .map(|plan| (self.figures(&mut plan.clone()), plan))
            .collect();
        let least = runs.iter().map(|(f, _)| f.miss).fold(1.0, f64::min);
        let good = runs
            .into_iter()
            .filter(|(f, _)| f.miss <= least + SPARE_MISS);
        good.min_by(|(a, _), (b, _)| a.pod_seconds.total_cmp(&b.pod_seconds))
            .expect("there is a plan")
    }

    /// Makes the policy, or each that a tuned one chooses from, with its name.
    fn variants(&self, policy: Name) -> Vec<(String, Make)> {
        let slots = f64::from(self.scenario.pods.slots);
        let kinds = self.scenario.types.len();
        let alone = |make: Make| vec![(String::new(), make)];
        match policy {
            Name::Ours => alone(Box::new(|s| Box::new(Ours::new(s)))),
            Name::Keda => alone(keda(
                Metric::Queues(vec![DEFAULT_TARGET; kinds]),
                ScaleDown::Blind,
            )),
            Name::Airflow => alone(keda(Metric::QueuedAndRunning(slots), ScaleDown::Blind)),
            Name::KpaExec => alone(Box::new(|s| {
                Box::new(Kpa::new(s, Concurrency::Executing))
            })),
            Name::KpaQueue => alone(Box::new(|s| {
                Box::new(Kpa::new(s, Concurrency::QueuedAndExecuting))
            })),
            Name::AwsBpi => alone(Box::new(|s| Box::new(AwsBpi::new(s)))),
            Name::AzureTbs => alone(Box::new(|s| Box::new(AzureTbs::new(s)))),
            Name::FlinkLike => alone(Box::new(|s| Box::new(FlinkLike::new(s)))),
            Name::KedaTuned => tuned(kinds, ScaleDown::Blind),
            Name::KedaTunedDrain => tuned(kinds, ScaleDown::Drain),
            Name::Oracle => Vec::new(),
        }
    }
}

type Make = Box<dyn Fn(&Scenario) -> Box<dyn Policy> + Send + Sync>;

fn keda(metric: Metric, scale_down: ScaleDown) -> Make {
    Box::new(move |s| Box::new(Keda::new(s, metric.clone(), scale_down)))
}

fn tuned(kinds: usize, scale_down: ScaleDown) -> Vec<(String, Make)> {
    let mut targets: Vec<Vec<f64>> = TARGETS.iter().map(|t| vec![*t; kinds]).collect();
    if kinds == 2 {
        for a in PRODUCT {
            targets.extend(PRODUCT.iter().map(|b| vec![a, *b]));
        }
    }
    let named = targets.into_iter().map(|targets| {
        let mut names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        names.dedup();
        if targets.len() > 1 {
            names = targets.iter().map(ToString::to_string).collect();
        }
        (names.join(","), keda(Metric::Queues(targets), scale_down))
    });
    named.collect()
}

impl Ran {
    /// As a line of results.
    pub fn row(&self, scenario: &str) -> Row {
        self.figures
            .row(scenario, self.policy.as_str(), self.chosen.clone(), self.j)
    }
}
