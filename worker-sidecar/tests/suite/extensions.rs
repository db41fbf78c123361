//! Extensions of a lease beside what else is sent about the task: a Conductor that is slow to
//! answer that.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use conductor_client::TaskDef;
use embedded_conductor::{Fault, On};
use harness::{Handler, Reply, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::setup::{Running, SOON, Setup};

const LEASE: u64 = 3;

/// The first report stays in the air for so long, and then fails: an extension falls due
/// meanwhile, and the report is not given up yet.
const SLOW: Duration = Duration::from_millis(500 * LEASE);

#[derive(Default)]
struct Slow {
    polled: AtomicBool,
    seen: Mutex<Vec<&'static str>>,
}

impl Slow {
    /// Notes what happens; how often that has happened now.
    fn note(&self, what: &'static str) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(what);
        seen.iter().filter(|w| **w == what).count()
    }

    fn seen(&self) -> Vec<&'static str> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

async fn poll(State(slow): State<Arc<Slow>>) -> Json<Value> {
    if slow.polled.swap(true, Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        return Json(json!([]));
    }
    Json(
        json!([{"taskId": "i", "workflowInstanceId": "w", "taskType": "t", "status": "IN_PROGRESS",
        "inputData": {}, "responseTimeoutSeconds": LEASE}]),
    )
}

async fn update(
    State(slow): State<Arc<Slow>>,
    Json(result): Json<Value>,
) -> (StatusCode, &'static str) {
    if result["extendLease"] == true {
        slow.note("extension");
    } else if slow.note("report") == 1 {
        tokio::time::sleep(SLOW).await;
        slow.note("refusal");
        return (StatusCode::SERVICE_UNAVAILABLE, "");
    }
    (StatusCode::OK, "i")
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_sent_while_a_report_is_in_the_air() -> Result<()> {
    let slow = Arc::new(Slow::default());
    let router = Router::new()
        .route("/api/tasks/poll/batch/{type}", get(poll))
        .route("/api/tasks", post(update))
        .with_state(slow.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let mut config = Config::new(base.parse()?, vec![TaskConfig::new("t")], "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    eventually("the report is taken", SOON, async || {
        let stats = running.sidecar.stats();
        match (stats.tasks[0].completed, stats.in_flight) {
            (1, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // One was due all the while: it comes between the reports, and none after them.
    tokio::time::sleep(Duration::from_secs(LEASE)).await;
    let seen = slow.seen();
    ensure!(
        seen == ["report", "refusal", "extension", "report"],
        "{seen:?}"
    );
    running.end().await?;
    server.abort();
    Ok(())
}

/// Whether a task is still wanted is asked while it is in work, and the answer may never come.
#[tokio::test(flavor = "multi_thread")]
async fn they_go_on_while_a_look_at_the_task_hangs() -> Result<()> {
    // The first look comes after five seconds, and the lease would be over three later.
    let reply = Reply::output(json!({})).after(Duration::from_secs(10));
    let setup = Setup::new(move |_| reply.clone()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(LEASE),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    embedded.faults().set(Fault::Hang, On::Looks);
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks.len() == 1, "{} tasks", workflow.tasks.len());
    ensure!(setup.handler.ledger().len() == 1, "executed once");
    running.end().await
}
