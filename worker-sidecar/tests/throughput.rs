//! The bar of 10,000 tasks: correctness here; `make bench` measures it.
//!
//! In a program of its own, so that it does not run beside tests that look at the clock.

#[expect(dead_code, reason = "the suite needs more of it")]
#[path = "suite/setup.rs"]
mod setup;

use anyhow::{Result, ensure};
use harness::{Reply, eventually};
use serde_json::json;

use setup::{Running, SOON, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_of_0_ms_through_32_slots() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    for n in 0..10_000 {
        setup.start(n).await?;
    }
    let mut config = setup.config()?;
    config.slots = 32;
    let running = Running::start(config)?;
    eventually("all are done", 3 * SOON, async || {
        match running.sidecar.stats().tasks[0].completed {
            10_000 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let executions = setup.handler.executions();
    ensure!(
        executions.len() == 10_000 && executions.values().all(|n| *n == 1),
        "{} tasks",
        executions.len()
    );
    let stats = running.sidecar.stats();
    ensure!(
        (stats.tasks[0].failed, stats.tasks[0].handed_back) == (0, 0),
        "{stats:?}"
    );
    running.end().await
}
