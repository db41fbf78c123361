//! `bench`: see the library.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bench::{
    contender::{ALL, Contender, FLOOR, Kind, OURS},
    load::Cores,
    measure::{self, instructions::Tasks},
    output, prepare,
    results::{Machine, Results},
};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

mod run;

/// What a task costs: the sidecar beside workers on Conductor's SDKs.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The core of the driver and the server.
    #[arg(long, default_value_t = 0, global = true)]
    core: usize,
    /// The core of the worker and its handler.
    #[arg(long, default_value_t = 1, global = true)]
    worker_core: usize,
    /// Where tables, plots and profiles go.
    #[arg(long, default_value = "target/bench", global = true)]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything but what takes very long; tables and a plot.
    Run(Choice),
    /// Instructions a task of the sidecar and the floor, by callgrind.
    Instructions {
        /// How many tasks more the larger of two loads has.
        #[arg(long, default_value_t = 2_000)]
        tasks: usize,
        /// The input of each, in bytes.
        #[arg(long, default_value_t = measure::INPUT)]
        size: usize,
    },
    /// Very many tasks through the sidecar: whether its memory grows.
    Churn {
        /// How many.
        #[arg(long, default_value_t = 2_000_000)]
        tasks: usize,
        /// How many of them are the warm-up.
        #[arg(long, default_value_t = 200_000)]
        warm_up: u64,
    },
    /// How long tasks of 5 ms wait for the sidecar at a real Conductor, see `make cluster`.
    PickUp {
        /// Its API's address.
        #[arg(long)]
        conductor: String,
        /// How many tasks are measured.
        #[arg(long, default_value_t = 500)]
        tasks: usize,
        /// How many come in a second, at random moments; as many as the server can stand.
        #[arg(long, default_value_t = 10.0)]
        rate: f64,
    },
    /// A fixed load with the worker run by another program: strace, perf, valgrind.
    Profile {
        /// Which worker.
        #[arg(long, default_value = OURS)]
        worker: String,
        /// How many tasks.
        #[arg(long, default_value_t = 20_000)]
        tasks: usize,
        /// The input of each, in bytes.
        #[arg(long, default_value_t = measure::INPUT)]
        size: usize,
        /// The program and its arguments; the worker's come after them.
        #[arg(last = true)]
        under: Vec<String>,
    },
    /// The tables and the plot once more, of the results that are there.
    Tell,
}

/// What is measured, of whom.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Who takes part; everybody by default.
    #[arg(long, value_delimiter = ',')]
    workers: Vec<String>,
    /// What is measured; everything by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How often the throughput is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many tasks of the light load are measured: fifty a second.
    #[arg(long, default_value_t = 1_000)]
    light_tasks: usize,
    /// For how many seconds an idle worker is watched.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Throughput,
    #[value(name = "throughput-10kb")]
    Throughput10Kb,
    Light,
    Idle,
    Memory,
    Shutdown,
}

impl Choice {
    fn takes(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn who(&self) -> Result<Vec<&'static Contender>> {
        if self.workers.is_empty() {
            return Ok(ALL.iter().collect());
        }
        let names = self.workers.iter();
        names.map(|name| Contender::named(name)).collect()
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    runtime::install_tls_provider();
    std::fs::create_dir_all(&args.out)?;
    let cores = Cores {
        ours: args.core,
        worker: args.worker_core,
    };
    if let Command::Run(choice) = &args.command {
        // Compilers may use every core.
        get(&choice.who()?)?;
    }
    pin(cores.ours)?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What was started is ended when the work is dropped.
        tokio::select! {
            done = carry_out(args.command, cores, &args.out) => done,
            _ = terminate.recv() => anyhow::bail!("ended by SIGTERM"),
            _ = interrupt.recv() => anyhow::bail!("ended by SIGINT"),
        }
    })
}

async fn carry_out(command: Command, cores: Cores, out: &Path) -> Result<()> {
    match command {
        Command::Run(choice) => {
            let results = run::everything(&choice, cores).await?;
            let text = serde_json::to_string_pretty(&results)?;
            std::fs::write(out.join("results.json"), text)?;
            tell(&results, out)
        }
        Command::Tell => {
            let text = std::fs::read_to_string(out.join("results.json"))?;
            tell(&serde_json::from_str(&text)?, out)
        }
        Command::Instructions {
            tasks: number,
            size,
        } => run::instructions(cores, Tasks { number, size }, out).await,
        Command::Churn { tasks, warm_up } => run::churn(cores, tasks, warm_up).await,
        Command::PickUp {
            conductor,
            tasks,
            rate,
        } => run::pick_up(cores, &conductor, tasks, rate).await,
        Command::Profile {
            worker,
            tasks: number,
            size,
            under,
        } => {
            let one = Contender::named(&worker)?;
            let tasks = Tasks { number, size };
            measure::instructions::under(&under, one, cores, tasks).await
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn tell(results: &Results, out: &Path) -> Result<()> {
    let page = output::table::page(results)?;
    std::fs::write(out.join("benchmark.md"), &page)?;
    output::plot::draw(results, &out.join("benchmark.svg"))?;
    println!("{page}");
    println!(
        "written to {}: benchmark.md, benchmark.svg, results.json",
        out.display()
    );
    Ok(())
}

/// Installs what the chosen workers need.
fn get(who: &[&Contender]) -> Result<()> {
    let names: BTreeSet<&str> = who.iter().filter_map(|one| one.needs()).collect();
    if names.is_empty() {
        return Ok(());
    }
    prepare::get(&names.into_iter().collect::<Vec<_>>())
}

/// This program and all it starts, unless they are put elsewhere.
fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .with_context(|| format!("there is no core {core}; two cores are needed"))
}
