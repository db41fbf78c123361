//! The breaker's test tasks: whatever becomes of one, another follows until the handler has shown
//! what it can do.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use harness::{Handler, Reply, eventually};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use worker_sidecar::{
    breaker::Settings,
    config::{Config, HandlerConfig, TaskConfig},
};

use crate::setup::{LONG_GRACE, Running, SOON};

/// The server's side of a Conductor whose polls are answered by the test.
struct Script {
    asked: mpsc::UnboundedSender<()>,
    answers: Mutex<mpsc::UnboundedReceiver<Value>>,
    updates: mpsc::UnboundedSender<Value>,
}

/// The test's side of it.
struct Conductor {
    base: String,
    asked: mpsc::UnboundedReceiver<()>,
    answers: mpsc::UnboundedSender<Value>,
    updates: mpsc::UnboundedReceiver<Value>,
    server: JoinHandle<std::io::Result<()>>,
}

async fn poll(State(script): State<Arc<Script>>) -> Json<Value> {
    let _ = script.asked.send(());
    let answer = script.answers.lock().await.recv().await;
    Json(answer.unwrap_or_else(|| json!([])))
}

async fn update(State(script): State<Arc<Script>>, Json(result): Json<Value>) -> String {
    let id = result["taskId"].as_str().unwrap_or_default().to_owned();
    let _ = script.updates.send(result);
    id
}

impl Conductor {
    async fn start() -> Result<Self> {
        let (asked, polls) = mpsc::unbounded_channel();
        let (answers, given) = mpsc::unbounded_channel();
        let (updates, sent) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/api/tasks/poll/batch/{type}", get(poll))
            .route("/api/tasks", post(update))
            .with_state(Arc::new(Script {
                asked,
                answers: Mutex::new(given),
                updates,
            }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self {
            base: format!("http://{}", listener.local_addr()?),
            asked: polls,
            answers,
            updates: sent,
            server: tokio::spawn(async move { axum::serve(listener, router).await }),
        })
    }

    /// A sidecar whose breaker opens with the first failure, for a moment.
    fn sidecar(&self, handler: u16) -> Result<Running> {
        let tasks = vec![TaskConfig::new("t")];
        let mut config = Config::new(self.base.parse()?, tasks, "w".to_owned());
        config.handler = HandlerConfig::new(handler);
        // The first poll is not full then, and the others wait for seconds.
        config.slots = 2;
        config.grace = LONG_GRACE;
        config.breaker = Some(Settings {
            window: 1,
            pause: Duration::from_millis(50),
            ..Settings::default()
        });
        Running::start(config)
    }

    /// Waits for a poll.
    async fn asked(&mut self) -> Result<()> {
        let asked = tokio::time::timeout(SOON, self.asked.recv()).await;
        asked.context("no poll")?.context("the server is gone")
    }

    /// Answers a poll.
    fn answer(&self, tasks: Value) -> Result<()> {
        self.answers.send(tasks).context("the server is gone")
    }

    /// The status that the next update gives to this task.
    async fn status_of(&mut self, task: &str) -> Result<Value> {
        let update = tokio::time::timeout(SOON, self.updates.recv()).await;
        let update = update.context("no update")?.context("the server is gone")?;
        ensure!(update["taskId"] == task, "{update}");
        Ok(update["status"].clone())
    }

    /// The handler fails a task, so that the breaker opens.
    async fn break_it(&mut self) -> Result<()> {
        self.asked().await?;
        self.answer(json!([task("breaks")]))?;
        ensure!(self.status_of("breaks").await? == "FAILED");
        Ok(())
    }

    /// The next poll's task is done, and the one of the poll after it.
    async fn works(&mut self) -> Result<()> {
        for id in ["test", "after"] {
            self.asked().await?;
            self.answer(json!([task(id)]))?;
            let status = self.status_of(id).await?;
            ensure!(status == "COMPLETED", "{id}: {status}");
        }
        Ok(())
    }

    async fn end(self, running: Running) -> Result<()> {
        drop(self.answers);
        running.end().await?;
        self.server.abort();
        Ok(())
    }
}

fn task(id: &str) -> Value {
    json!({"taskId": id, "workflowInstanceId": "w", "taskType": "t", "status": "IN_PROGRESS",
        "inputData": {}, "responseTimeoutSeconds": 3600})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_gone_when_its_test_task_comes_is_tested_again() -> Result<()> {
    let handler = Handler::start(|_| Reply::answer(500, "broken")).await?;
    let port = handler.port();
    let mut conductor = Conductor::start().await?;
    let running = conductor.sidecar(port)?;
    conductor.break_it().await?;
    conductor.asked().await?;
    drop(handler);
    eventually("it is seen that nobody listens", SOON, async || {
        if running.sidecar.handler_ready() {
            return Err("ready");
        }
        Ok(())
    })
    .await?;
    conductor.answer(json!([task("not called")]))?;
    ensure!(conductor.status_of("not called").await? == "IN_PROGRESS");

    let listener = eventually("the port is free", SOON, async || {
        TcpListener::bind(("127.0.0.1", port)).await
    })
    .await?;
    let router = Router::new().fallback(async || Json(json!({})));
    let healthy = tokio::spawn(async move { axum::serve(listener, router).await });
    conductor.works().await?;
    conductor.end(running).await?;
    healthy.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn test_tasks_that_cannot_be_called_are_followed_by_others() -> Result<()> {
    let handler = Handler::start(|_| Reply::answer(500, "broken")).await?;
    let mut conductor = Conductor::start().await?;
    let running = conductor.sidecar(handler.port())?;
    conductor.break_it().await?;
    handler.set(|_| Reply::output(json!({})));

    conductor.asked().await?;
    conductor.answer(json!([{"taskId": "of no workflow"}]))?;
    conductor.asked().await?;
    let mut elsewhere = task("elsewhere");
    elsewhere["externalInputPayloadStoragePath"] = json!("some/where.json");
    conductor.answer(json!([elsewhere]))?;
    ensure!(conductor.status_of("elsewhere").await? == "FAILED_WITH_TERMINAL_ERROR");

    conductor.works().await?;
    let calls = handler.ledger().len();
    ensure!(calls == 3, "{calls} calls");
    conductor.end(running).await
}
