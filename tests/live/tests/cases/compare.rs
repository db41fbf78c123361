//! Each scenario with each contender: what is promised of ours, and a page of all.

use anyhow::{Result, ensure};
use live::{
    contender::Contender,
    figures::{figures, raises},
    load::Load,
    predict,
    results::{self, Entry},
    run::{Run, Running},
    stage::Stage,
};

pub(crate) const SCENARIOS: [(&str, &str); 3] = [
    ("burst", include_str!("../../scenarios/burst.yaml")),
    ("long", include_str!("../../scenarios/long.yaml")),
    ("mixed", include_str!("../../scenarios/mixed.yaml")),
];

/// Seconds between two looks of the operator.
const TICK: f64 = 5.0;

pub(crate) fn run(stage: &Stage, text: &str, contender: Contender) -> Result<()> {
    if contender.hpa_sync().is_some() {
        stage.keda()?;
    }
    let (setting, prediction) = predict::tuned(text, contender)?;
    let load = Load::read(text)?;
    let run = Running::set_up(stage, &load, contender, setting, &stage.conductor)?.go()?;
    let entry = Entry {
        figures: figures(&run),
        run,
        prediction,
    };
    results::keep(&entry, contender)?;
    let mut scenarios = Vec::new();
    for (_, text) in SCENARIOS {
        let load = Load::read(text)?;
        scenarios.push((load.name, load.about));
    }
    results::write(&scenarios)?;
    if contender == Contender::Operator {
        promises(&entry)?;
        if entry.run.scenario == "burst" {
            at_once(&entry.run, &entry)?;
        }
    }
    Ok(())
}

/// What holds under every load.
fn promises(entry: &Entry) -> Result<()> {
    let Entry {
        figures: f,
        prediction: p,
        ..
    } = entry;
    ensure!(f.undone == 0, "{} tasks were not done", f.undone);
    ensure!(
        f.killed == 0 && f.retries == 0,
        "{} executions were cut off, and there were {} retries",
        f.killed,
        f.retries
    );
    let off = (f.pod_seconds / p.pod_seconds - 1.0).abs();
    ensure!(
        off <= 0.25,
        "{:.0} pod-seconds, and {:.0} were predicted",
        f.pod_seconds,
        p.pod_seconds
    );
    Ok(())
}

/// What holds of a burst from zero.
fn at_once(run: &Run, entry: &Entry) -> Result<()> {
    let f = &entry.figures;
    let reaction = f.reaction.unwrap_or(f64::INFINITY);
    ensure!(
        reaction <= TICK + 2.0,
        "replicas were raised {reaction:.1} s after the first task"
    );
    // It takes the server some seconds to take so many tasks in; a decision may fall into them.
    let whole = run.outcomes.iter().map(|o| o.visible).fold(0.0, f64::max);
    let steps = raises(run)
        .into_iter()
        .filter(|(at, _)| *at > whole)
        .count();
    ensure!(
        steps <= 1,
        "the number was raised in {steps} steps after all tasks were there: {:?}",
        run.log.replicas
    );
    ensure!(
        f.longest <= run.max_wait,
        "a task waited {:.1} s, and {} s were asked for",
        f.longest,
        run.max_wait
    );
    let ends = run.outcomes.iter().filter_map(|o| o.ended);
    let last = ends.fold(0.0, f64::max);
    let zero = run.log.replicas.iter().rfind(|(_, n)| *n == 0);
    let zero = zero.map_or(f64::INFINITY, |(at, _)| *at);
    let hold = f.start_up.unwrap_or(0.0).max(15.0);
    ensure!(
        zero - last <= hold + 15.0,
        "no pods were asked for {:.1} s after the last task, with {hold:.1} s to hold them",
        zero - last
    );
    Ok(())
}
