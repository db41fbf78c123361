//! The measurements one after the other, with a line about each.

use std::{path::Path, time::Duration};

use bench::{
    measure::{light, memory},
    results::By,
};
use embedded_conductor::BatchFill;

use super::{
    Choice, Contender, Cores, FLOOR, Kind, Machine, OURS, Part, Result, Results, Tasks, measure,
};

/// The input of the larger tasks, in bytes.
const LARGE: usize = 10_000;
/// Slots and inputs of the sidecar that has many.
const MANY: (usize, usize) = (1_000, 4_096);

fn say(line: &str) {
    eprintln!("{line}");
}

/// All that was chosen.
pub(super) async fn everything(choice: &Choice, cores: Cores) -> Result<Results> {
    let who = choice.who()?;
    let mut results = Results {
        machine: Machine::here()?,
        ..Results::default()
    };
    let settled: Vec<_> = who
        .iter()
        .copied()
        .filter(|one| !matches!(one.kind, Kind::Defaults { .. }))
        .collect();
    for round in 0..choice.rounds {
        if choice.takes(Part::Throughput) {
            let of = throughput(&settled, cores, measure::INPUT, round).await?;
            results.throughput.push(of);
        }
        if choice.takes(Part::Throughput10Kb) {
            let of = throughput(&settled, cores, LARGE, round).await?;
            results.throughput_10_kb.push(of);
        }
    }
    for one in &who {
        if choice.takes(Part::Light) {
            let found = light::measure(one, cores, choice.light_tasks, BatchFill::Redis).await?;
            note(&mut results.light, one, found);
        }
        if choice.takes(Part::Idle) {
            let watch = Duration::from_secs(choice.idle_seconds);
            let idle = measure::idle::measure(one, cores, 1, watch).await?;
            note(&mut results.idle, one, idle);
        }
    }
    for one in &settled {
        if choice.takes(Part::Memory) {
            let memory = memory::measure(one, cores).await?;
            note(&mut results.memory, one, memory);
        }
        if choice.takes(Part::Shutdown) {
            let lost = measure::shutdown::measure(one, cores).await?;
            note(&mut results.shutdown, one, lost);
        }
    }
    ours_alone(choice, &who, cores, &mut results).await?;
    Ok(results)
}

async fn throughput(
    who: &[&Contender],
    cores: Cores,
    size: usize,
    round: usize,
) -> Result<By<measure::throughput::Throughput>> {
    let mut by = By::new();
    // Nobody is always the one that comes after a certain other.
    for number in 0..who.len() {
        let one = who[(number + round) % who.len()];
        let found = measure::throughput::measure(one, cores, size).await?;
        note(&mut by, one, found);
    }
    Ok(by)
}

fn note<T: std::fmt::Debug>(by: &mut By<T>, one: &Contender, found: T) {
    say(&format!("{:15} {found:.3?}", one.name));
    by.insert(one.name.to_owned(), found);
}

/// What is measured of the sidecar only.
async fn ours_alone(
    choice: &Choice,
    who: &[&Contender],
    cores: Cores,
    results: &mut Results,
) -> Result<()> {
    let ours = Contender::named(OURS)?;
    if !who.contains(&ours) {
        return Ok(());
    }
    if choice.takes(Part::Light) {
        let sql = light::measure(ours, cores, choice.light_tasks, BatchFill::Sql).await?;
        say(&format!("light, on SQL   {sql:.3?}"));
        results.light_sql = Some(sql);
    }
    if choice.takes(Part::Idle) {
        let watch = Duration::from_secs(choice.idle_seconds);
        let three = measure::idle::measure(ours, cores, 3, watch).await?;
        say(&format!("three types     {three:.3?}"));
        results.idle_three = Some(three);
    }
    if choice.takes(Part::Memory) {
        let (slots, size) = MANY;
        let many = memory::many(ours, cores, slots, size).await?;
        say(&format!("1,000 slots     {many:.1} MiB"));
        results.memory_many = Some(many);
    }
    Ok(())
}

/// The sidecar's instructions beside the floor's.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
pub(super) async fn instructions(cores: Cores, tasks: Tasks, out: &Path) -> Result<()> {
    let mut found = Vec::new();
    for name in [OURS, FLOOR] {
        let one = Contender::named(name)?;
        let count = measure::instructions::measure(one, cores, tasks, out).await?;
        println!("{name:8} {:7.0} instructions a task", count.each);
        found.push(count.each);
    }
    println!("ratio    {:7.2}", found[0] / found[1]);
    println!("profiles: {}/callgrind.*", out.display());
    Ok(())
}

/// Waits at a real server.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
pub(super) async fn pick_up(cores: Cores, conductor: &str, tasks: usize, rate: f64) -> Result<()> {
    let ours = Contender::named(OURS)?;
    let (p50, p99) = light::pick_up(ours, cores, conductor, tasks, rate).await?;
    println!("pick-up p50 {p50:.1} ms, p99 {p99:.1} ms, of {tasks} tasks at {rate} a second");
    Ok(())
}

/// Memory over very many tasks.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
pub(super) async fn churn(cores: Cores, tasks: usize, warm_up: u64) -> Result<()> {
    let ours = Contender::named(OURS)?;
    let seen = |point: measure::churn::Point| {
        say(&format!(
            "{:9} tasks  {:6.2} MiB",
            point.tasks, point.resident
        ));
    };
    let points = measure::churn::measure(ours, cores, tasks, seen).await?;
    let growth = measure::churn::growth(&points, warm_up);
    let growth = growth.ok_or_else(|| anyhow::anyhow!("more tasks than the warm-up are needed"))?;
    println!("{tasks} tasks: {growth:+.2} MiB after the first {warm_up}; the bar is 1 MiB");
    Ok(())
}
