//! How many tasks of 0 ms a second, and what each costs.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{SLOTS, TASK};
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server},
    summary::count,
};

/// One worker's figures of one round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Throughput {
    /// Processor time of the worker, in µs a task.
    pub cpu: f64,
    /// The same with its handler's.
    pub cpu_with_handler: f64,
    /// Tasks a second, as the clock on the wall has it.
    pub tasks_a_second: f64,
    /// How much of its core the worker had, with its handler: 1 is all. Less means that it
    /// waited for the server, or that somebody else was on the core.
    pub core: f64,
    /// How much of its core the server had.
    pub server_core: f64,
    /// Polls a task.
    pub polls: f64,
}

const LONG: Duration = Duration::from_secs(300);

/// All tasks are in the queue before the worker starts, so that nothing else runs meanwhile;
/// `size` is the input's in bytes.
pub async fn measure(contender: &Contender, cores: Cores, size: usize) -> Result<Throughput> {
    let server = Server::start(Options::default(), &[TASK]).await?;
    // Some more than are measured: the end of the queue is another matter.
    let all = contender.warm_up + contender.measured + 4 * SLOTS;
    server.fill(TASK, all, size).await?;
    let work = Work {
        types: &[TASK],
        concurrency: SLOTS,
        takes: Duration::ZERO,
    };
    let running = Running::start(contender, &server.base, cores, work).await?;

    let warm = u64::try_from(contender.warm_up)?;
    let first = server.completed(warm, LONG).await?;
    let (began, before, server_before) = (Instant::now(), running.used()?, server.cpu()?);
    let measured = u64::try_from(contender.measured)?;
    let last = server.completed(first.completed + measured, LONG).await?;
    let (after, server_after, took) = (running.used()?, server.cpu()?, began.elapsed());
    drop(running);
    anyhow::ensure!(last.failed == 0, "{}: tasks failed", contender.name);

    let tasks = count(usize::try_from(last.completed - first.completed)?);
    let cpu = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64();
    let alone = cpu(before.worker.cpu, after.worker.cpu);
    let both = cpu(before.with_handler.cpu, after.with_handler.cpu);
    let polls = count(usize::try_from(last.polls - first.polls)?);
    Ok(Throughput {
        cpu: alone * 1e6 / tasks,
        cpu_with_handler: both * 1e6 / tasks,
        tasks_a_second: tasks / took.as_secs_f64(),
        core: both / took.as_secs_f64(),
        server_core: cpu(server_before, server_after) / took.as_secs_f64(),
        polls: polls / tasks,
    })
}
