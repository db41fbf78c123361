//! The policies by their names in results.

use std::{fmt, str::FromStr};

use crate::{
    policies::{AwsBpi, AzureTbs, Concurrency, FlinkLike, HpaInFlight, Keda, Kpa, Metric, Ours},
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// A policy by its name in results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// The one that ships.
    Ours,
    /// The clairvoyant plan.
    Oracle,
    /// KEDA with the best target for the very file.
    KedaTuned,
    /// The same with busy-aware scale-down.
    KedaTunedDrain,
    /// KEDA with its default target.
    Keda,
    /// Knative on tasks that run.
    KpaExec,
    /// Knative on tasks that wait or run.
    KpaQueue,
    /// KEDA as Airflow's chart sets it up.
    Airflow,
    /// AWS, backlog per instance.
    AwsBpi,
    /// Azure, target-based scaling.
    AzureTbs,
    /// Flink's rule.
    FlinkLike,
    /// The HPA alone on queue + in-flight.
    HpaInFlight,
}

/// A name that no policy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no policy is called {0:?}; write one of {all}", all = Name::ALL.map(Name::as_str).join(", "))]
pub struct Unknown(String);

/// The queue lengths per pod that the tuned KEDA tries.
const TARGETS: [f64; 12] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 3000.0,
];
/// With two types, each combination of these too.
const PRODUCT: [f64; 5] = [1.0, 5.0, 20.0, 100.0, 500.0];
/// KEDA's default queue length per pod.
const DEFAULT_TARGET: f64 = 5.0;

/// One of the ways in which a policy may be set up.
pub(crate) struct Variant {
    /// The targets, where there is a choice.
    pub(crate) chosen: String,
    pub(crate) policy: Box<dyn Policy>,
}

impl Name {
    /// Every policy.
    pub const ALL: [Self; 12] = [
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
        Self::HpaInFlight,
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
            Self::HpaInFlight => "hpa-in-flight",
        }
    }

    /// The policy, set up in each way that is to be tried; none for the oracle, whose plans
    /// need the workload.
    pub(crate) fn variants(self, scenario: &Scenario) -> Vec<Variant> {
        let kinds = scenario.types.len();
        let policy: Box<dyn Policy> = match self {
            Self::Oracle => return Vec::new(),
            Self::KedaTuned => return tuned(scenario, ScaleDown::Blind),
            Self::KedaTunedDrain => return tuned(scenario, ScaleDown::Drain),
            Self::Ours => Box::new(Ours::new(scenario)),
            Self::Keda => Box::new(Keda::new(
                scenario,
                Metric::Queues(vec![DEFAULT_TARGET; kinds]),
                ScaleDown::Blind,
            )),
            Self::KpaExec => Box::new(Kpa::new(scenario, Concurrency::Executing)),
            Self::KpaQueue => Box::new(Kpa::new(scenario, Concurrency::QueuedAndExecuting)),
            Self::Airflow => Box::new(Keda::new(
                scenario,
                Metric::QueuedAndRunning(f64::from(scenario.pods.slots)),
                ScaleDown::Blind,
            )),
            Self::AwsBpi => Box::new(AwsBpi::new(scenario)),
            Self::AzureTbs => Box::new(AzureTbs),
            Self::FlinkLike => Box::new(FlinkLike::new(scenario)),
            Self::HpaInFlight => Box::new(HpaInFlight::new(scenario)),
        };
        vec![Variant {
            chosen: String::new(),
            policy,
        }]
    }
}

fn tuned(scenario: &Scenario, scale_down: ScaleDown) -> Vec<Variant> {
    let kinds = scenario.types.len();
    let mut targets: Vec<Vec<f64>> = TARGETS.iter().map(|t| vec![*t; kinds]).collect();
    if kinds == 2 {
        for first in PRODUCT {
            targets.extend(PRODUCT.iter().map(|second| vec![first, *second]));
        }
    }
    let variants = targets.into_iter().map(|targets| {
        let words: Vec<String> = targets.iter().map(ToString::to_string).collect();
        Variant {
            chosen: words.join(","),
            policy: Box::new(Keda::new(scenario, Metric::Queues(targets), scale_down)),
        }
    });
    variants.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in Name::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let said = "keda".parse::<Name>().unwrap_err().to_string();
        assert!(said.contains("\"keda\"") && said.contains("keda-hpa-tuned+drain"));
    }

    #[test]
    fn two_types_are_tuned_by_their_product_too() {
        let one = "
name: s
duration: 10
target: {maxWait: 10}
pods: {max: 1, slots: 1, start: {dist: const, value: 1}}
types:
  - {name: a, service: {dist: const, value: 1}, arrivals: []}
";
        let two = format!("{one}  - {{name: b, service: {{dist: const, value: 1}}, arrivals: []}}");
        let tuned = |text: &str| {
            let variants = Name::KedaTuned.variants(&Scenario::read(text).unwrap());
            let chosen: Vec<String> = variants.into_iter().map(|v| v.chosen).collect();
            (chosen.len(), chosen[0].clone())
        };
        assert_eq!(tuned(one), (12, "0.5".to_owned()));
        assert_eq!(tuned(&two), (37, "0.5,0.5".to_owned()));
    }
}
