//! How long an hour takes: 100,000 tasks under each policy. The bar is 0.5 s.

use criterion::{Criterion, criterion_group, criterion_main};
use simulator::{Name, Options, Scenario, Study};

const HOUR: &str = "
name: hour
duration: 3600
target: {maxWait: 30}
pods: {max: 80, initial: 2, slots: 5, start: {dist: lognormal, mean: 20, cv: 0.3}}
types:
  - name: t
    service: {dist: lognormal, mean: 2, cv: 1}
    arrivals: [{kind: sine, from: 0, to: 3600, mean: 27.8, amplitude: 25, period: 900}]
";

fn hour(c: &mut Criterion) {
    let study = Study::new(
        Scenario::read(HOUR).expect("it is good"),
        Options::default(),
    );
    let mut group = c.benchmark_group("hour");
    group.sample_size(10);
    // The oracle and the tuned policies are many runs each.
    let single = [
        Name::Ours,
        Name::Keda,
        Name::KpaExec,
        Name::KpaQueue,
        Name::Airflow,
        Name::AwsBpi,
        Name::AzureTbs,
        Name::FlinkLike,
        Name::HpaInFlight,
    ];
    for policy in single {
        group.bench_function(policy.as_str(), |b| {
            b.iter(|| study.run(&[policy], Some(1.0)));
        });
    }
    group.finish();
}

criterion_group!(benches, hour);
criterion_main!(benches);
