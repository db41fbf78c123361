//! Complaints about leases and time-outs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use conductor_client::{TaskDef, TaskStatus};
use embedded_conductor::{Fault, On};
use harness::{Handler, Reply, eventually};
use serde_json::{Value, json};
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::setup::{Running, SOON, Setup};

/// A handler that takes so long, and a task type whose lease is shorter.
async fn longer_than_the_lease(takes: u64, lease: u64) -> Result<Setup> {
    let reply = Reply::output(json!({})).after(Duration::from_secs(takes));
    let setup = Setup::new(move |_| reply.clone()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(lease),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    Ok(setup)
}

/// Two workers on one queue: an `IN_PROGRESS` update would give the task to the other.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_1378_a_long_call_keeps_its_task_from_other_workers() -> Result<()> {
    let setup = longer_than_the_lease(6, 3).await?;
    let (one, other) = (setup.run()?, setup.run()?);
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks.len() == 1 && workflow.tasks[0].poll_count() == 1);
    ensure!(setup.handler.ledger().len() == 1, "executed once");
    one.end().await?;
    other.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_pr_398_leases_are_extended_without_being_asked_to() -> Result<()> {
    let setup = longer_than_the_lease(6, 3).await?;
    let running = setup.run()?;
    setup.once(1).await?;
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    ensure!(embedded.counts().leases >= 2, "{:?}", embedded.counts());
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_1105_a_small_response_timeout_does_not_end_a_call() -> Result<()> {
    let setup = longer_than_the_lease(5, 2).await?;
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks.len() == 1 && workflow.tasks[0].status() == TaskStatus::Completed);
    running.end().await
}

/// The SDKs begin at 80 % of the lease: one failed attempt, and it is over.
#[tokio::test(flavor = "multi_thread")]
async fn sdks_extend_at_80_percent_here_two_failed_extensions_cost_no_lease() -> Result<()> {
    let setup = longer_than_the_lease(9, 6).await?;
    let running = setup.run()?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    embedded
        .faults()
        .set_times(Fault::Status(503), On::Updates, 2);
    let workflow = setup.server.completed(&id, 2 * SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    running.end().await
}

/// A Conductor that takes a result only after the lease has been extended once more.
#[derive(Default)]
struct Strict {
    polled: AtomicBool,
    refused: AtomicUsize,
    extended: AtomicBool,
    taken: AtomicBool,
}

async fn strict(State(strict): State<Arc<Strict>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == "GET" {
        if strict.polled.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Json(json!([])).into_response();
        }
        let task = json!([{"taskId": "i", "workflowInstanceId": "w", "taskType": "t",
            "status": "IN_PROGRESS", "inputData": {}, "responseTimeoutSeconds": 3}]);
        return Json(task).into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let update: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    if update["extendLease"] == true {
        let after = strict.refused.load(Ordering::SeqCst) > 0;
        strict.extended.fetch_or(after, Ordering::SeqCst);
    } else if strict.extended.load(Ordering::SeqCst) {
        strict.taken.store(true, Ordering::SeqCst);
    } else {
        strict.refused.fetch_add(1, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    // As Conductor answers: the task's id.
    "i".into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_drops_the_lease_before_the_update_here_it_is_kept_until_the_result_is_taken()
-> Result<()> {
    let state = Arc::new(Strict::default());
    let router = Router::new().fallback(strict).with_state(state.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let tasks = vec![TaskConfig::new("t")];
    let mut config = Config::new(base.parse()?, tasks, "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    eventually("the result was taken", SOON, async || {
        if state.taken.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(format!(
                "refused {} times, extended: {:?}",
                state.refused.load(Ordering::SeqCst),
                state.extended
            ))
        }
    })
    .await?;
    running.end().await?;
    server.abort();
    Ok(())
}

/// A task's own time-out is the worker's matter: it says why, and Conductor tries again.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_798_883_a_call_that_takes_too_long_fails_with_a_reason_and_is_retried()
-> Result<()> {
    let setup = Setup::new(|call| {
        let first = call.headers.get("conductor-retry-count");
        if first.is_some_and(|n| n == "0") {
            Reply::hang()
        } else {
            Reply::output(json!({}))
        }
    })
    .await?;
    let mut config = setup.config()?;
    config.tasks[0].timeout = Some(Duration::from_millis(300));
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    let workflow = setup.server.completed(&id, SOON).await?;
    let first = &workflow.tasks[0];
    let reason = first.reason().unwrap_or_default();
    ensure!(
        first.status() == TaskStatus::Failed && reason.contains("deadline"),
        "{reason}"
    );
    ensure!(workflow.tasks.len() == 2);
    running.end().await
}

/// The response time-out is an hour, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_3750_3832_a_time_out_is_found_by_the_worker_not_minutes_later() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(3600),
        retry_count: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let mut config = setup.config()?;
    config.tasks[0].timeout = Some(Duration::from_millis(300));
    let running = Running::start(config)?;
    let workflow = setup.once(1).await?;
    ensure!(
        workflow.tasks[0].status() == TaskStatus::Failed,
        "{:?}",
        workflow.tasks[0].status()
    );
    running.end().await
}
