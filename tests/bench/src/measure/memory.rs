//! Resident memory: with nothing to do and with every slot busy.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{INPUT, SLOTS, TASK};
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server},
    summary::count,
};

/// Resident memory of a worker without its handler, in MiB.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Memory {
    /// With nothing to do, some seconds after its start.
    pub idle: f64,
    /// With 64 tasks in work.
    pub busy: f64,
}

const LONG: Duration = Duration::from_secs(60);

/// Idle, and in the second round of 64 tasks.
pub async fn measure(contender: &Contender, cores: Cores) -> Result<Memory> {
    let server = Server::start(Options::default(), &[TASK]).await?;
    let work = Work {
        types: &[TASK],
        concurrency: SLOTS,
        takes: Duration::from_secs(3),
    };
    let running = Running::start(contender, &server.base, cores, work).await?;
    server
        .until(LONG, "it polls", |counts| counts.polls > 0)
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = resident(&running)?;
    let busy = all_busy(&server, &running, SLOTS, INPUT).await?;
    drop(running);
    Ok(Memory { idle, busy })
}

/// With so many slots, all of them busy with inputs of `size` bytes; in MiB.
pub async fn many(contender: &Contender, cores: Cores, slots: usize, size: usize) -> Result<f64> {
    let server = Server::start(Options::default(), &[TASK]).await?;
    let work = Work {
        types: &[TASK],
        concurrency: slots,
        takes: Duration::from_secs(10),
    };
    let running = Running::start(contender, &server.base, cores, work).await?;
    let busy = all_busy(&server, &running, slots, size).await?;
    drop(running);
    Ok(busy)
}

/// Twice as many tasks as slots: when more than the first half are in work, all slots have
/// been used and are in use again.
async fn all_busy(server: &Server, running: &Running, slots: usize, size: usize) -> Result<f64> {
    let before = server.counts().await?.delivered;
    server.fill(TASK, 2 * slots, size).await?;
    let all = before + u64::try_from(2 * slots)?;
    server
        .until(LONG, "all slots are busy again", |counts| {
            counts.delivered >= all
        })
        .await?;
    // The last of them are on their way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    resident(running)
}

fn resident(running: &Running) -> Result<f64> {
    let kib = running.used()?.worker.resident;
    Ok(count(usize::try_from(kib)?) / 1024.0)
}
