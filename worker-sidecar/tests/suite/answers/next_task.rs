//! The task that the answer to a report brings, when the worker is about to end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use harness::{Handler, Reply};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::setup::{LONG_GRACE, Running, SOON};

/// A Conductor with two tasks: a poll brings the one, the answer to its report the other.
struct TwoTasks {
    polled: AtomicBool,
    asked: Notify,
    answer: Notify,
    reports: mpsc::UnboundedSender<Value>,
}

fn task(id: &str) -> Value {
    json!({"taskId": id, "workflowInstanceId": "w", "taskType": "t", "status": "IN_PROGRESS",
        "inputData": {}, "responseTimeoutSeconds": 3600})
}

async fn conductor(State(state): State<Arc<TwoTasks>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == "GET" {
        if state.polled.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            return Json(json!([])).into_response();
        }
        return Json(json!([task("first")])).into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let report: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let id = report["taskId"].as_str().unwrap_or_default().to_owned();
    let _ = state.reports.send(report);
    if parts.uri.path().ends_with("/update-v2") && id == "first" {
        state.asked.notify_one();
        state.answer.notified().await;
        return Json(task("second")).into_response();
    }
    id.into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_java_sdks_drop_the_next_task_of_an_update_at_the_end_here_it_is_done()
-> Result<()> {
    let (reports, mut received) = mpsc::unbounded_channel();
    let state = Arc::new(TwoTasks {
        polled: AtomicBool::new(false),
        asked: Notify::new(),
        answer: Notify::new(),
        reports,
    });
    let router = Router::new().fallback(conductor).with_state(state.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let handler = Handler::start(|_| Reply::output(json!({"done": true}))).await?;
    let mut config = Config::new(base.parse()?, vec![TaskConfig::new("t")], "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    tokio::time::timeout(SOON, state.asked.notified())
        .await
        .context("no report asked for the next task")?;
    running.sidecar.begin_shutdown();
    state.answer.notify_one();
    for id in ["first", "second"] {
        let report = loop {
            let report = tokio::time::timeout(SOON, received.recv()).await?;
            let report = report.context("the server has ended")?;
            if report["extendLease"] != true {
                break report;
            }
        };
        ensure!(
            report["taskId"] == id && report["status"] == "COMPLETED",
            "{report}"
        );
    }
    tokio::time::timeout(SOON, running.run).await??;
    server.abort();
    Ok(())
}
