//! The end of a pod; see also `in_the_air`.

use anyhow::{Result, ensure};
use conductor_client::TaskStatus;
use harness::{Reply, eventually};
use serde_json::json;
use worker_sidecar::control;

use crate::setup::{LONG_GRACE, Running, SHORT_GRACE, SOON, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_end_and_are_reported() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(setup.start(n).await?);
    }
    let waiting = setup.start(99).await?;
    setup.at_work(4).await?;
    running.sidecar.begin_shutdown();
    ensure!(running.sidecar.stats().draining && !running.sidecar.is_ready());
    setup.handler.release();
    tokio::time::timeout(SOON, running.run).await??;
    for id in ids {
        setup.server.completed(&id, SOON).await?;
    }
    let task = setup
        .server
        .client()
        .get_workflow(&waiting, true)
        .await?
        .tasks
        .swap_remove(0);
    ensure!(
        task.status() == TaskStatus::Scheduled && task.poll_count() == 0,
        "no new work is taken"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_finish_is_handed_back_without_a_retry() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = SHORT_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.end().await?;
    let task = setup
        .server
        .client()
        .get_workflow(&id, true)
        .await?
        .tasks
        .swap_remove(0);
    ensure!(
        (task.status(), task.retry_count()) == (TaskStatus::Scheduled, 0),
        "{:?}",
        task.status()
    );
    ensure!(setup.handler.ledger()[0].abandoned, "the call was closed");
    // Another sidecar takes it up at once.
    setup.handler.set(|_| Reply::output(json!({})));
    let next = setup.run()?;
    ensure!(setup.server.completed(&id, SOON).await?.tasks.len() == 1);
    next.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_the_work_and_not_without_an_announcement() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = control::router(running.sidecar.clone(), prometheus::Registry::new());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let get = |path: &'static str| async move {
        let answer = reqwest::get(format!("http://{address}{path}")).await?;
        anyhow::Ok((answer.status().as_u16(), answer.text().await?))
    };
    setup.start(1).await?;
    setup.at_work(1).await?;
    ensure!(get("/healthz").await?.0 == 200 && get("/readyz").await?.0 == 200);
    ensure!(get("/stats").await?.1.contains(r#""inFlight":1"#));
    ensure!(
        get("/drain").await?.1.contains("the pod stays"),
        "a container that restarts alone is not held up"
    );

    let socket = control::Socket::bind(address.port())?;
    let sidecar = running.sidecar.clone();
    let announcements = tokio::spawn(async move { socket.listen(&sidecar).await });
    tokio::task::spawn_blocking(move || control::tell_terminating(address.port())).await??;
    let drain = tokio::spawn(get("/drain"));
    eventually("it is shutting down", SOON, async || {
        match get("/readyz").await {
            Ok((503, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(!drain.is_finished(), "a call is under way");
    setup.handler.release();
    ensure!(
        tokio::time::timeout(SOON, drain)
            .await??
            .is_ok_and(|(_, text)| text == "drained\n")
    );
    running.run.await?;
    announcements.abort();
    server.abort();
    Ok(())
}
