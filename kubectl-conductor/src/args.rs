//! What is typed, and what it means.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{dev, explain, load::LoadOptions, simulate::SimulateArgs};

/// The exit status of a bad value (sysexits' `EX_USAGE`).
const USAGE: u8 = 64;

/// Runs and inspects `ConductorWorker` resources.
#[derive(Debug, Parser)]
#[command(name = "kubectl-conductor", bin_name = "kubectl conductor", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs manifests on this machine: an in-memory Conductor, processes in place of pods.
    ///
    /// Takes `ConductorWorker` manifests, and Conductor's own workflow and task definitions. Ctrl-C
    /// stops taking work, waits for what runs, and ends; a second one ends at once.
    Dev(DevArgs),
    /// Says in plain words why a worker has as many pods as it has
    ///
    /// Reads the `ConductorWorker` and prints what was decided last and from which numbers, the
    /// limits in force, the decisions before, and what is not as it should be.
    Explain(ExplainArgs),
    /// Runs scenario files under the autoscaler and others, and compares what came of it
    ///
    /// Nothing is started: the pool, its tasks and the time are simulated; the decisions are
    /// those of the operator.
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
struct ExplainArgs {
    /// The worker's name
    name: String,

    /// Its namespace. Absent: the context's
    #[arg(short, long)]
    namespace: Option<String>,

    /// The context of the kubeconfig. Absent: the current one
    #[arg(long)]
    context: Option<String>,
}

#[derive(Debug, clap::Args)]
struct DevArgs {
    /// ConductorWorker manifests (YAML), workflow and task definitions (JSON or YAML)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How a worker's handler is started, once for each pod, with PORT set. Absent: its
    /// annotation conductor-oss.org/dev-command, else the container's own command and args
    #[arg(long, value_name = "[WORKER=]COMMAND")]
    command: Vec<String>,

    /// Start this many workflows, wait for them, print a summary and end
    #[arg(long, value_name = "N")]
    load: Option<usize>,

    /// Start so many workflows a second; absent: all at once
    #[arg(long, value_name = "PER SECOND", requires = "load")]
    rate: Option<f64>,

    /// The input of each workflow, a JSON object; the letter n in braces in it is the workflow's
    /// number, as in the default
    #[arg(
        long,
        value_name = "JSON",
        default_value = r#"{"name": "number {n}", "n": "{n}"}"#
    )]
    input: String,

    /// Where the in-memory Conductor listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,

    /// How often the number of pods is decided
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    tick: f64,
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => args.run(),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
    }
}

impl Args {
    /// Does what was asked: 0 if all went well, 1 if not, 64 for a bad value.
    fn run(self) -> ExitCode {
        match self.command {
            Command::Dev(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Simulate(args) => args.run(),
        }
    }
}

impl ExplainArgs {
    fn run(self) -> ExitCode {
        let Self {
            name,
            namespace,
            context,
        } = self;
        let options = explain::Options {
            name,
            namespace,
            context,
        };
        match block_on(explain::run(options)) {
            Ok(page) => {
                // Whoever reads may have read enough.
                let _ = std::io::stdout().write_all(page.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        }
    }
}

impl DevArgs {
    fn run(self) -> ExitCode {
        let Self {
            files,
            command,
            load,
            rate,
            input,
            listen,
            tick,
        } = self;
        if !(0.1..=60.0).contains(&tick) {
            return usage(&format!(
                "--tick is {tick}; write seconds from 0.1 to 60, such as 1"
            ));
        }
        if rate.is_some_and(|r| !r.is_finite() || r <= 0.0) {
            return usage("--rate must be above zero; write workflows per second, such as 20");
        }
        if load == Some(0) {
            return usage("--load is 0; write how many workflows to start, or leave it out");
        }
        if !serde_json::from_str::<serde_json::Value>(&input.replace("{n}", "0"))
            .is_ok_and(|v| v.is_object())
        {
            return usage(&format!(
                "--input is {input:?}; write a JSON object, such as {{\"name\": \"Ada\"}}"
            ));
        }
        let options = dev::Options {
            files,
            commands: command,
            load: load.map(|count| LoadOptions { count, rate, input }),
            listen,
            tick: Duration::from_secs_f64(tick),
        };
        match block_on(dev::run(options)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error),
        }
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

pub(crate) fn usage(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(USAGE)
}

pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
