//! Nothing to do: what a worker costs then.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::SLOTS;
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server},
    summary::count,
};

/// The task types of an idle worker; as many as are asked for, from the first.
const TYPES: [&str; 3] = ["bench", "bench2", "bench3"];

/// Until a worker has found out that there is nothing to do.
const SETTLE: Duration = Duration::from_secs(5);

/// What a worker does with nothing to do, for each task type.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Idle {
    /// Polls a second that the server saw.
    pub polls: f64,
    /// Seconds of processor time a minute, of the worker without its handler.
    pub cpu: f64,
}

/// Watches for so long. `types`: how many task types, 1 to 3.
pub async fn measure(
    contender: &Contender,
    cores: Cores,
    types: usize,
    watch: Duration,
) -> Result<Idle> {
    let types = &TYPES[..types];
    let server = Server::start(Options::default(), types).await?;
    let work = Work {
        types,
        concurrency: SLOTS,
        takes: Duration::ZERO,
    };
    let running = Running::start(contender, &server.base, cores, work).await?;
    let long = Duration::from_secs(60);
    server
        .until(long, "it polls", |counts| counts.polls > 0)
        .await?;
    tokio::time::sleep(SETTLE).await;
    let (polls, used) = (server.counts().await?.polls, running.used()?);
    tokio::time::sleep(watch).await;
    let polls = server.counts().await?.polls - polls;
    let cpu = running.used()?.worker.cpu.saturating_sub(used.worker.cpu);
    drop(running);
    let each = watch.as_secs_f64() * count(types.len());
    Ok(Idle {
        polls: count(usize::try_from(polls)?) / each,
        cpu: cpu.as_secs_f64() * 60.0 / each,
    })
}
