//! 10,000 tasks of 0 ms through one sidecar with 32 slots, on the in-memory Conductor.
//!
//! `cargo bench -p worker-sidecar` prints the throughput beside that of a bare loop over the same
//! client without a handler, taken in the same run, and the sidecar's own CPU time per task
//! and memory, read from /proc. The ratio is what can be compared between machines.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use conductor_client::{BatchPoll, Client, TaskResult, UpdateStatus};
use embedded_conductor::{Embedded, Options};
use futures::{StreamExt as _, stream};
use harness::{Handler, Reply, eventually};
use serde_json::json;

const TASKS: usize = 10_000;
const SLOTS: usize = 32;
const LONG: Duration = Duration::from_secs(120);

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
#[tokio::main]
async fn main() -> Result<()> {
    runtime::install_tls_provider();
    let idle = idle().await?;
    println!("idle: {:.1} MiB resident", idle.resident_mib);
    for run in 1..=3 {
        let bare = bare().await?;
        let (sidecar, used) = sidecar().await?;
        println!(
            "run {run}: sidecar {sidecar:.0} tasks/s, bare client loop {bare:.0} tasks/s, ratio {:.2}; \
             sidecar CPU {:.0} µs/task, {:.1} MiB resident at the end",
            sidecar / bare,
            used.cpu.as_secs_f64() * 1e6 / number(TASKS),
            used.resident_mib,
        );
    }
    Ok(())
}

/// What a process has used.
struct Used {
    cpu: Duration,
    resident_mib: f64,
}

async fn filled(name: &str) -> Result<(Embedded, Client)> {
    let embedded = Embedded::start(Options {
        close_after: None,
        ..Options::default()
    })
    .await?;
    let client = Client::new(embedded.base().parse()?)?;
    let workflow = conductor_client::WorkflowDef::sequence(name, [(name, "task")]);
    client.register_workflow_defs(&[workflow]).await?;
    let start = conductor_client::StartWorkflow {
        name: name.to_owned(),
        ..Default::default()
    };
    stream::iter(0..TASKS)
        .map(|_| client.start_workflow(&start))
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    Ok((embedded, client))
}

/// Polls and completes without a handler: what the server and the client alone take.
async fn bare() -> Result<f64> {
    let (embedded, client) = filled("bare").await?;
    let began = Instant::now();
    let mut done = 0;
    while done < TASKS {
        let poll = BatchPoll {
            task_type: "bare",
            worker_id: "w",
            domain: None,
            count: SLOTS,
            wait: Duration::ZERO,
        };
        let tasks = client.batch_poll(poll).await?;
        let update = |task: conductor_client::Task| {
            let client = client.clone();
            async move {
                client
                    .update_task(&TaskResult {
                        workflow_instance_id: task.workflow_id().to_owned(),
                        task_id: task.task_id().to_owned(),
                        status: UpdateStatus::Completed,
                        worker_id: "w".to_owned(),
                        output_data: None,
                        reason_for_incompletion: None,
                        callback_after_seconds: 0,
                        logs: Vec::new(),
                    })
                    .await
            }
        };
        done += tasks.len();
        for sent in futures::future::join_all(tasks.into_iter().map(update)).await {
            sent?;
        }
    }
    let took = began.elapsed();
    embedded.stop().await;
    Ok(number(TASKS) / took.as_secs_f64())
}

/// The program, as it runs in a pod.
async fn sidecar() -> Result<(f64, Used)> {
    let (embedded, _) = filled("bench").await?;
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let mut child = program(&embedded.base(), handler.port())?;
    let began = Instant::now();
    eventually("all tasks are done", LONG, async || {
        match embedded.counts().completed {
            n if n >= u64::try_from(TASKS).unwrap_or(u64::MAX) => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let took = began.elapsed();
    let used = used(child.id().context("the sidecar has ended")?)?;
    child.kill().await?;
    let executions = handler.executions();
    ensure!(
        executions.len() == TASKS && executions.values().all(|n| *n == 1),
        "lost or executed twice"
    );
    embedded.stop().await;
    Ok((number(TASKS) / took.as_secs_f64(), used))
}

/// The program with nothing to do, some seconds after its start.
async fn idle() -> Result<Used> {
    let embedded = Embedded::start(Options::default()).await?;
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let mut child = program(&embedded.base(), handler.port())?;
    eventually("it polls", LONG, async || match embedded.counts().polls {
        0..3 => Err("hardly any polls"),
        _ => Ok(()),
    })
    .await?;
    let used = used(child.id().context("the sidecar has ended")?)?;
    child.kill().await?;
    Ok(used)
}

fn program(base: &str, handler: u16) -> Result<tokio::process::Child> {
    Ok(
        tokio::process::Command::new(env!("CARGO_BIN_EXE_worker-sidecar"))
            .env("LOCAL_API_PORT", "0")
            .env_clear()
            .env("CONDUCTOR_SERVER_URL", base)
            .env("CONDUCTOR_TASKS", r#"[{"name":"bench"}]"#)
            .env("CONDUCTOR_CONCURRENCY", SLOTS.to_string())
            .env("HANDLER_PORT", handler.to_string())
            .env("LISTEN", "127.0.0.1:0")
            .env("LOG_LEVEL", "warn")
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?,
    )
}

/// From /proc: user and system time in clock ticks of 10 ms, resident memory in KiB.
fn used(process: u32) -> Result<Used> {
    let proc = PathBuf::from(format!("/proc/{process}"));
    let stat = std::fs::read_to_string(proc.join("stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let status = std::fs::read_to_string(proc.join("status"))?;
    let resident = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = resident.trim().trim_end_matches("kB").trim().parse()?;
    Ok(Used {
        cpu: Duration::from_millis(ticks * 10),
        resident_mib: kib / 1024.0,
    })
}

fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
