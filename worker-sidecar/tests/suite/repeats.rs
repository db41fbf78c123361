//! Reports that are sent more than once.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Handler, Reply, eventually};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    scripted::{Says, Scripted, task},
    setup::{LONG_GRACE, Running, SOON},
};

/// With its store away Conductor answers an update with a 500 like any mistake of a client.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_refused_is_no_storm_while_there_are_no_polls() -> Result<()> {
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let server = Scripted::start(vec![task("i", 3600)], |_| Says::Refused(500)).await?;
    let mut config = server.config(handler.port())?;
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    let sent_times = async |times: usize| {
        eventually("sent again and again", SOON, async || {
            match server.sent("tasks") {
                sent if sent.len() >= times => Ok(sent),
                sent => Err(sent.len()),
            }
        })
        .await
    };
    sent_times(1).await?;
    running.sidecar.cordon().put(Instant::now(), LONG_GRACE);
    let updates = sent_times(7).await?;
    // Half of 200, 400, 800, 1600 and 3200 ms at least.
    let took = updates[6].at - updates[1].at;
    ensure!(took >= Duration::from_secs(3), "seven within {took:?}");
    ensure!(
        updates
            .iter()
            .all(|sent| sent.body["status"] == "COMPLETED")
    );
    running.end().await
}
