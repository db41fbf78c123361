//! Agreement with another simulator's results on the public files (seed 0).
//!
//! Random generators differ, and several of the policies swing: whether a pool of 60 is given up
//! a tick earlier or later decides about thousands of pod-seconds. So what is off on seed 0 is
//! looked at over more seeds, and agrees where the other simulator's figure lies among them.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, fmt::Write as _};

use rayon::prelude::*;
use simulator::{Name, Options, Row, Scenario, Study};

const FILES: [&str; 15] = [
    include_str!("../scenarios/bimodal.yaml"),
    include_str!("../scenarios/burst-from-zero.yaml"),
    include_str!("../scenarios/controller-restart.yaml"),
    include_str!("../scenarios/delayed-only.yaml"),
    include_str!("../scenarios/diurnal-x20.yaml"),
    include_str!("../scenarios/downstream-cap.yaml"),
    include_str!("../scenarios/engine-limits.yaml"),
    include_str!("../scenarios/metrics-outage.yaml"),
    include_str!("../scenarios/poison-fast-fail.yaml"),
    include_str!("../scenarios/poisson-long.yaml"),
    include_str!("../scenarios/sawtooth-4min.yaml"),
    include_str!("../scenarios/slow-start.yaml"),
    include_str!("../scenarios/slow-version.yaml"),
    include_str!("../scenarios/steady-high.yaml"),
    include_str!("../scenarios/two-types.yaml"),
];

/// Pod-seconds, and J of policies that are put in order, may differ by this share.
const NEAR: f64 = 0.10;
/// Beyond the range over the seeds by this share at most.
const BEYOND: f64 = 0.05;
/// What is off on seed 0 is looked at with these added to it.
const MORE_SEEDS: [u64; 9] = [0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000];

/// Knative's sample is a rate over a second; theirs seems to divide what was executed in all of
/// the restart by it, and asks for every pod there may be.
const SAMPLE: &str = "after a restart their concurrency is many times what runs";
/// KPA's window ends with its last sample; theirs seems to count what could not be read as 0.
const WINDOW: &str = "without queue sizes their window falls to 0, ours keeps its last samples";
/// At the default target the pool of 40 is given up a tick before the queue sizes are lost, or
/// at that moment, and then held: 1 of 25 seeds holds it as theirs does.
const HELD: &str = "whether the pool is given up just before the outage is a matter of luck";
/// Flink's rule is not fixed by the format; with its lag weighed as elsewhere, a backlog that an
/// engine's limit holds back asks for more.
const RULE: &str = "the rule's constants are a guess";

/// Where the two simulators differ, and why. A pair of policies is one whose order differs.
const EXCEPTIONS: [(&str, &str, &str); 7] = [
    ("controller-restart", "kpa-exec", SAMPLE),
    ("controller-restart", "kpa-queue", SAMPLE),
    ("engine-limits", "flink-like", RULE),
    ("metrics-outage", "keda-hpa-tuned+drain", HELD),
    ("metrics-outage", "aws-bpi/keda-hpa", HELD),
    ("metrics-outage", "kpa-queue/kpa-exec", WINDOW),
    ("metrics-outage", "kpa-queue/airflow", WINDOW),
];

fn reference() -> BTreeMap<String, Vec<Row>> {
    let mut by_scenario: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let text = include_str!("../scenarios/reference.csv");
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
        let row: Row = row.unwrap();
        by_scenario
            .entry(row.scenario.clone())
            .or_default()
            .push(row);
    }
    by_scenario
}

/// Runs these policies; the other simulator's oracle stands for ours where J is not to be exact.
fn rows(scenario: &Scenario, seed_add: u64, policies: &[Name], oracle: Option<f64>) -> Vec<Row> {
    let options = Options {
        seed_add,
        ..Options::default()
    };
    let ran = Study::new(scenario.clone(), options).run(policies, oracle);
    ran.iter().map(|r| r.row(&scenario.name)).collect()
}

/// One file beside the other simulator's lines for it: what is off, `scenario policy` or
/// `scenario policy/policy` with the figures.
fn compare(text: &str, theirs: &[Row]) -> Vec<(String, String, String)> {
    let scenario = Scenario::read(text).unwrap();
    let names: Vec<Name> = theirs.iter().map(|r| r.policy.parse().unwrap()).collect();
    let ours = rows(&scenario, 0, &names, None);
    let oracle = theirs.iter().find(|r| r.policy == "oracle").unwrap();
    let more = |name: Name| -> Vec<Row> {
        MORE_SEEDS
            .par_iter()
            .flat_map(|seed| rows(&scenario, *seed, &[name], Some(oracle.pod_seconds)))
            .collect()
    };
    let mut seen: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    let mut off = Vec::new();
    for (n, (our, their)) in ours.iter().zip(theirs).enumerate() {
        if (our.pod_seconds / their.pod_seconds - 1.0).abs() <= NEAR {
            continue;
        }
        let rows = seen.entry(n).or_insert_with(|| more(names[n]));
        let of =
            |pick: fn(f64, f64) -> f64, from| rows.iter().map(|r| r.pod_seconds).fold(from, pick);
        let (least, most) = (of(f64::min, f64::INFINITY), of(f64::max, 0.0));
        if their.pod_seconds < least * (1.0 - BEYOND) || their.pod_seconds > most * (1.0 + BEYOND) {
            off.push((
                scenario.name.clone(),
                their.policy.clone(),
                format!(
                    "pod-seconds {:.0}, over the seeds {least:.0} to {most:.0}; theirs {:.0}",
                    our.pod_seconds, their.pod_seconds
                ),
            ));
        }
    }
    for a in 0..theirs.len() {
        for b in 0..a {
            let (high, low) = if theirs[a].j > theirs[b].j {
                (a, b)
            } else {
                (b, a)
            };
            if theirs[high].j <= theirs[low].j * (1.0 + NEAR) || ours[high].j > ours[low].j {
                continue;
            }
            for n in [high, low] {
                seen.entry(n).or_insert_with(|| more(names[n]));
            }
            // In their order with at least one seed: the order is a matter of luck.
            let agrees = seen[&high].iter().zip(&seen[&low]).any(|(h, l)| h.j > l.j);
            if !agrees {
                off.push((
                    scenario.name.clone(),
                    format!("{}/{}", theirs[high].policy, theirs[low].policy),
                    format!(
                        "J {:.2} and {:.2}; theirs {:.2} and {:.2}",
                        ours[high].j, ours[low].j, theirs[high].j, theirs[low].j
                    ),
                ));
            }
        }
    }
    off
}

#[test]
fn results_agree_with_those_of_another_simulator() {
    let reference = reference();
    let off: Vec<(String, String, String)> = FILES
        .par_iter()
        .flat_map(|text| {
            let name = Scenario::read(text).unwrap().name;
            compare(text, &reference[&name])
        })
        .collect();
    let mut said = String::new();
    for (scenario, what, figures) in &off {
        if !EXCEPTIONS
            .iter()
            .any(|(s, w, _)| s == scenario && w == what)
        {
            let _ = writeln!(said, "{scenario} {what}: {figures}");
        }
    }
    for (scenario, what, why) in EXCEPTIONS {
        if !off.iter().any(|(s, w, _)| s == scenario && w == what) {
            let _ = writeln!(
                said,
                "{scenario} {what}: agrees, and is still an exception because {why}"
            );
        }
    }
    assert!(said.is_empty(), "\n{said}");
}
