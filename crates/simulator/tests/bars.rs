//! What the autoscaler that ships must reach on the public files, beside the oracle and KEDA.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Deserialize;
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

/// What the others come to, by scenario and policy.
type Others = BTreeMap<(String, String), Other>;

#[derive(Debug, Clone, Copy, Deserialize)]
struct Other {
    pod_seconds: f64,
    miss: f64,
    p99: f64,
    j: f64,
}

/// Lines of another simulator (`seed_add` 0), or of this one, from
/// `kubectl conductor simulate crates/simulator/scenarios/*.yaml --seed-add N --json --policies
/// oracle,keda-hpa-tuned,keda-hpa-tuned+drain`: the oracle alone takes minutes.
fn others(seed_add: u64) -> Others {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        seed_add: u64,
        scenario: String,
        policy: String,
        #[serde(flatten)]
        other: Other,
    }
    let text = match seed_add {
        0 => include_str!("../scenarios/reference.csv"),
        _ => include_str!("baselines.csv"),
    };
    let lines = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    let lines = lines.map(|line: Result<Line, _>| line.unwrap());
    let of_seed = lines.filter(|line| line.seed_add == seed_add);
    of_seed
        .map(|line| ((line.scenario, line.policy), line.other))
        .collect()
}

/// This autoscaler's line for a file, its cost counted in the pods of `oracle`.
fn ours(text: &str, seed_add: u64, oracle: f64) -> Row {
    let scenario = Scenario::read(text).unwrap();
    let name = scenario.name.clone();
    let options = Options {
        seed_add,
        ..Options::default()
    };
    Study::new(scenario, options).run(&[Name::Ours], Some(oracle))[0].row(&name)
}

fn geometric_mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let n = values.len() as f64;
    (values.map(f64::ln).sum::<f64>() / n).exp()
}

#[test]
fn it_costs_little_more_than_the_oracle_and_less_than_keda() {
    for seed_add in [0, 1000, 2000] {
        holds_with(seed_add);
    }
}

fn holds_with(seed_add: u64) {
    let others = others(seed_add);
    let of = |scenario: &str, policy: &str| others[&(scenario.to_owned(), policy.to_owned())];
    let rows: Vec<Row> = FILES
        .par_iter()
        .map(|text| {
            let name = Scenario::read(text).unwrap().name;
            ours(text, seed_add, of(&name, "oracle").pod_seconds)
        })
        .collect();
    let against = |policy: &'static str, figure: fn(&Row) -> f64, theirs: fn(&Other) -> f64| {
        let ratios = rows
            .iter()
            // Waits of less than a millisecond are none.
            .map(move |row| figure(row).max(1e-3) / theirs(&of(&row.scenario, policy)).max(1e-3));
        geometric_mean(ratios)
    };
    let mean = |figure: fn(&Row) -> f64| rows.iter().map(figure).sum::<f64>() / 15.0;
    let holds = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();

    let cost = against("oracle", |row| row.pod_seconds, |o| o.pod_seconds);
    assert!(
        cost <= 1.15,
        "seed +{seed_add}: pod-seconds are {cost:.3} times the oracle's"
    );
    for row in &rows {
        let cost = row.pod_seconds / of(&row.scenario, "oracle").pod_seconds;
        assert!(
            cost <= 1.7,
            "seed +{seed_add}, {}: {cost:.2} times the oracle's",
            row.scenario
        );
        assert_eq!(row.killed, 0, "seed +{seed_add}, {}", row.scenario);
    }
    let keda = against("keda-hpa-tuned", |row| row.pod_seconds, |o| o.pod_seconds);
    assert!(
        keda <= 0.72,
        "seed +{seed_add}: pod-seconds are {keda:.3} times KEDA's"
    );
    let wait = against("keda-hpa-tuned", |row| row.p99, |o| o.p99);
    assert!(
        wait <= 0.40,
        "seed +{seed_add}: p99 waits are {wait:.3} times KEDA's"
    );
    let j = mean(|row| row.j);
    assert!(j <= 1.70, "seed +{seed_add}: mean J is {j:.3}");
    let reversals = mean(|row| row.reversals_h);
    assert!(
        reversals <= 20.0,
        "seed +{seed_add}: {reversals:.1} reversals an hour"
    );
    let in_time = holds(&|row| row.miss <= of(&row.scenario, "oracle").miss + 0.01);
    assert!(
        in_time >= 13,
        "seed +{seed_add}: as few late tasks as the oracle's on {in_time}"
    );
    let better = holds(&|row| row.j <= of(&row.scenario, "keda-hpa-tuned+drain").j);
    assert!(
        better >= 13,
        "seed +{seed_add}: no worse than KEDA that drains on {better}"
    );
}
