//! A shutdown that meets a poll in the air: a Conductor that answers when it is told to.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{Json, Router, extract::State, routing::get};
use harness::{Handler, Reply, eventually};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::setup::{LONG_GRACE, Running, SHORT_GRACE, SOON};

struct Scripted {
    asked: Notify,
    answer: Notify,
    updates: mpsc::UnboundedSender<Value>,
}

struct Setup {
    scripted: Arc<Scripted>,
    updates: Mutex<mpsc::UnboundedReceiver<Value>>,
    running: Running,
    handler: Handler,
    server: JoinHandle<std::io::Result<()>>,
}

/// A sidecar whose first poll is in the air.
async fn polling(grace: Duration) -> Result<Setup> {
    let (updates, received) = mpsc::unbounded_channel();
    let scripted = Arc::new(Scripted {
        asked: Notify::new(),
        answer: Notify::new(),
        updates,
    });
    let router = Router::new()
        .route("/api/tasks/poll/batch/{type}", get(poll))
        .route("/api/tasks", axum::routing::post(update))
        .with_state(scripted.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let handler = Handler::start(|_| Reply::output(json!({"done": true}))).await?;
    let tasks = vec![TaskConfig::new("t")];
    let mut config = Config::new(base.parse()?, tasks, "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    config.grace = grace;
    let running = Running::start(config)?;
    tokio::time::timeout(SOON, scripted.asked.notified()).await?;
    Ok(Setup {
        scripted,
        updates: Mutex::new(received),
        running,
        handler,
        server,
    })
}

async fn poll(State(scripted): State<Arc<Scripted>>) -> Json<Value> {
    scripted.asked.notify_one();
    scripted.answer.notified().await;
    Json(
        json!([{"taskId": "i", "workflowInstanceId": "w", "taskType": "t", "status": "IN_PROGRESS",
        "inputData": {}, "outputData": {"kept": 1}, "responseTimeoutSeconds": 60}]),
    )
}

async fn update(State(scripted): State<Arc<Scripted>>, Json(result): Json<Value>) -> &'static str {
    let _ = scripted.updates.send(result);
    "i"
}

impl Setup {
    async fn update(&self) -> Result<Value> {
        let mut updates = self.updates.lock().await;
        let update = tokio::time::timeout(SOON, updates.recv()).await?;
        update.context("the server is gone")
    }

    /// Ends everything; there must have been one poll and no further update.
    async fn end(self) -> Result<()> {
        tokio::time::timeout(SOON, self.running.run).await??;
        ensure!(self.running.sidecar.stats().tasks[0].polls == 1);
        self.server.abort();
        ensure!(self.updates.lock().await.try_recv().is_err());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_brings_is_executed() -> Result<()> {
    let setup = polling(LONG_GRACE).await?;
    setup.running.sidecar.begin_shutdown();
    ensure!(!setup.running.run.is_finished());
    setup.scripted.answer.notify_one();
    let update = setup.update().await?;
    ensure!(
        update["status"] == "COMPLETED" && update["outputData"] == json!({"done": true}),
        "{update}"
    );
    setup.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_brings_after_the_drain_is_handed_back() -> Result<()> {
    let setup = polling(SHORT_GRACE).await?;
    setup.running.sidecar.begin_shutdown();
    // Ends at the drain limit: the handler may be told to end from now on.
    tokio::time::timeout(SOON, setup.running.sidecar.drained()).await?;
    setup.scripted.answer.notify_one();
    let update = setup.update().await?;
    ensure!(
        update["status"] == "IN_PROGRESS" && update["outputData"] == json!({"kept": 1}),
        "{update}"
    );
    ensure!(update.get("callbackAfterSeconds").is_none(), "{update}");
    ensure!(setup.handler.ledger().is_empty(), "nothing begins any more");
    setup.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_brings_to_a_cordoned_sidecar_is_executed() -> Result<()> {
    let setup = polling(LONG_GRACE).await?;
    let sidecar = setup.running.sidecar.clone();
    sidecar.cordon().put(Instant::now(), LONG_GRACE);
    ensure!(sidecar.is_ready(), "a task may be on its way");
    let stats = sidecar.stats();
    ensure!(
        stats.cordoned && (stats.in_flight, stats.polls_in_flight) == (0, 1),
        "{stats:?}"
    );
    setup.scripted.answer.notify_one();
    ensure!(setup.update().await?["status"] == "COMPLETED");
    eventually("idle, and so not ready", SOON, async || {
        if sidecar.is_ready() {
            return Err(format!("{:?}", sidecar.stats()));
        }
        Ok(())
    })
    .await?;
    sidecar.begin_shutdown();
    setup.end().await
}
