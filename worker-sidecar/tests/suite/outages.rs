//! What waits while Conductor is away goes on when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conductor_client::Connection;
use harness::{Gateway, Reply, eventually};
use serde_json::json;
use worker_sidecar::config::Config;

use crate::{
    results::{spooled, spools},
    setup::{Running, SOON, Setup},
};

/// A sidecar's settings that reach Conductor through a gateway.
async fn through_a_gateway(setup: &Setup) -> Result<(Gateway, Config)> {
    let base = setup.server.base();
    let to = base
        .strip_prefix("http://")
        .and_then(|b| b.split('/').next());
    let gateway = Gateway::start(to.context("an address")?.parse()?).await?;
    let mut config = setup.config()?;
    config.conductor = Connection::new(format!("http://{}/api", gateway.addr()).parse()?);
    Ok((gateway, config))
}

/// Waits until so many looks at the server were not answered.
async fn looked_in_vain(running: &Running, looks: u64) -> Result<()> {
    let labels = ["/tasks/queue/size", "0"];
    eventually("looks in vain", SOON, async || {
        match running.observed("http_api_client_request_seconds", &labels) {
            n if n >= looks => Ok(()),
            n => Err(n),
        }
    })
    .await
}

/// Refused for so long that the pauses between attempts do not get longer any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_an_outage_is_sent_when_conductor_is_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut setup = Setup::new(|_| Reply::hang()).await?;
    let running = Running::start(spooled(setup.config()?, &dir))?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let embedded = setup.server.as_embedded_mut().context("embedded")?;
    embedded.go_away().await;
    setup.handler.release();
    eventually(
        "attempts at the longest distance",
        SOON,
        async || match running.counted("task_update_error") {
            n if n >= 8.0 => Ok(()),
            n => Err(n),
        },
    )
    .await?;
    ensure!(running.sidecar.stats().spooled == 1);
    let embedded = setup.server.as_embedded_mut().context("embedded")?;
    embedded.come_back().await?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    spools(&running, 0).await?;
    running.end().await
}

/// Packets vanish: an attempt that was in the air then would have ten seconds, and twice as many
/// the next time.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_hangs_is_sent_again_when_conductor_answers() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let (gateway, config) = through_a_gateway(&setup).await?;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    gateway.go_dark();
    setup.handler.release();
    looked_in_vain(&running, 2).await?;
    let attempts = running.counted("task_update_error");
    ensure!(attempts.abs() < f64::EPSILON, "{attempts} have ended");
    gateway.come_back();
    let back = Instant::now();
    let workflow = setup.server.completed(&id, SOON).await?;
    let took = back.elapsed();
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    // It has seven more by itself.
    ensure!(took < Duration::from_secs(5), "taken {took:?} later");
    running.end().await
}

/// Overdue polls are awaited, a few of them; those that lead nowhere do not count for ever.
#[tokio::test(flavor = "multi_thread")]
async fn polls_that_lead_nowhere_do_not_keep_others_back_when_conductor_answers() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let (gateway, mut config) = through_a_gateway(&setup).await?;
    // Long polls take a third of it, and those that are lost do not end before it does.
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.server.completed(&id, SOON).await?;
    gateway.go_dark();
    // Only when no more polls are sent is the server looked for.
    looked_in_vain(&running, 1).await?;
    gateway.come_back();
    let id = setup.start(2).await?;
    setup.server.completed(&id, SOON).await?;
    running.end().await
}
