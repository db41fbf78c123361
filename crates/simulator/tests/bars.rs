//! What the autoscaler that ships must reach on the public files, beside the oracle and KEDA of
//! another simulator (seed 0).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

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

/// The other simulator's lines by scenario and policy.
fn reference() -> BTreeMap<(String, String), Row> {
    csv::Reader::from_reader(include_str!("../scenarios/reference.csv").as_bytes())
        .deserialize()
        .map(|row: Result<Row, _>| {
            let row = row.unwrap();
            ((row.scenario.clone(), row.policy.clone()), row)
        })
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
    let reference = reference();
    let of = |scenario: &str, policy: &str| &reference[&(scenario.to_owned(), policy.to_owned())];
    let rows: Vec<Row> = FILES
        .par_iter()
        .map(|text| {
            let name = Scenario::read(text).unwrap().name;
            ours(text, 0, of(&name, "oracle").pod_seconds)
        })
        .collect();
    let against = |policy: &'static str, figure: fn(&Row) -> f64| {
        let ratios = rows.iter().map(move |row| {
            let theirs = figure(of(&row.scenario, policy));
            figure(row) / theirs
        });
        geometric_mean(ratios)
    };
    let mean = |figure: fn(&Row) -> f64| rows.iter().map(figure).sum::<f64>() / 15.0;
    let holds = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();

    let cost = against("oracle", |row| row.pod_seconds);
    assert!(cost <= 1.15, "pod-seconds are {cost:.3} times the oracle's");
    for row in &rows {
        let cost = row.pod_seconds / of(&row.scenario, "oracle").pod_seconds;
        assert!(
            cost <= 1.7,
            "{}: {cost:.2} times the oracle's",
            row.scenario
        );
        assert_eq!(row.killed, 0, "{}", row.scenario);
    }
    let keda = against("keda-hpa-tuned", |row| row.pod_seconds);
    assert!(keda <= 0.72, "pod-seconds are {keda:.3} times KEDA's");
    let wait = against("keda-hpa-tuned", |row| row.p99);
    assert!(wait <= 0.40, "p99 waits are {wait:.3} times KEDA's");
    let j = mean(|row| row.j);
    assert!(j <= 1.70, "mean J is {j:.3}");
    let reversals = mean(|row| row.reversals_h);
    assert!(reversals <= 20.0, "{reversals:.1} reversals an hour");
    let in_time = holds(&|row| row.miss <= of(&row.scenario, "oracle").miss + 0.01);
    assert!(
        in_time >= 13,
        "as few late tasks as the oracle's on {in_time}"
    );
    let better = holds(&|row| row.j <= of(&row.scenario, "keda-hpa-tuned+drain").j);
    assert!(better >= 13, "no worse than KEDA that drains on {better}");
}

#[test]
fn it_kills_nothing_whatever_the_seed() {
    let rows: Vec<Row> = FILES
        .par_iter()
        .flat_map(|text| [1000, 2000].map(|seed| ours(text, seed, 1.0)))
        .collect();
    for row in rows {
        assert_eq!(row.killed, 0, "{}", row.scenario);
    }
}
