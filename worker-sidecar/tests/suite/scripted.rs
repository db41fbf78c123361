//! A Conductor that gives out what it is told to, and answers reports by a script.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

/// A request that is no poll and no lease extension.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Below `/api/`.
    pub(crate) path: String,
    /// JSON, or a string.
    pub(crate) body: Value,
    /// When it came.
    pub(crate) at: Instant,
}

/// What it answers.
pub(crate) enum Says {
    /// As Conductor does when it took a report.
    Taken,
    /// A status with Conductor's error body.
    Refused(u16),
    /// This, as 200.
    Json(Value),
    /// Something else after a while, or nothing if the other side goes.
    Late(Duration, Box<Says>),
}

type Script = dyn Fn(&Sent) -> Says + Send + Sync;

struct Inner {
    tasks: Mutex<VecDeque<Value>>,
    sent: Mutex<Vec<Sent>>,
    loses_extensions: AtomicBool,
    script: Box<Script>,
}

/// The server; it ends when this is dropped.
pub(crate) struct Scripted {
    inner: Arc<Inner>,
    base: String,
    server: JoinHandle<std::io::Result<()>>,
}

/// A task as a poll brings it.
pub(crate) fn task(id: &str, lease: u64) -> Value {
    json!({"taskId": id, "workflowInstanceId": "w", "taskType": "t", "status": "IN_PROGRESS",
        "inputData": {}, "workerId": "w", "pollCount": 1, "responseTimeoutSeconds": lease})
}

impl Scripted {
    /// One that gives these tasks out, to each poll as many as it asks for.
    pub(crate) async fn start(
        tasks: Vec<Value>,
        script: impl Fn(&Sent) -> Says + Send + Sync + 'static,
    ) -> Result<Self> {
        let inner = Arc::new(Inner {
            tasks: Mutex::new(tasks.into()),
            sent: Mutex::default(),
            loses_extensions: AtomicBool::new(false),
            script: Box::new(script),
        });
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/api", listener.local_addr()?);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            inner,
            base,
            server,
        })
    }

    /// Settings of a sidecar that works for it.
    pub(crate) fn config(&self, handler: u16) -> Result<Config> {
        let tasks = vec![TaskConfig::new("t")];
        let mut config = Config::new(self.base.parse()?, tasks, "w".to_owned());
        config.handler = HandlerConfig::new(handler);
        config.grace = Duration::from_secs(9);
        Ok(config)
    }

    /// No extension is answered any more.
    pub(crate) fn lose_extensions(&self) {
        self.inner.loses_extensions.store(true, Ordering::SeqCst);
    }

    /// What has been sent to this path.
    pub(crate) fn sent(&self, path: &str) -> Vec<Sent> {
        let sent = lock(&self.inner.sent);
        sent.iter().filter(|s| s.path == path).cloned().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches("/api/").to_owned();
    if path.starts_with("tasks/poll/") {
        let query = parts.uri.query().unwrap_or_default().split('&');
        let mut count = query.filter_map(|pair| pair.strip_prefix("count=")?.parse().ok());
        let count: usize = count.next().unwrap_or(1);
        let tasks: Vec<_> = {
            let mut tasks = lock(&inner.tasks);
            let count = count.min(tasks.len());
            tasks.drain(..count).collect()
        };
        if tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        return Json(json!(tasks)).into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let bytes = body.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
    let id = body["taskId"].as_str().unwrap_or_default().to_owned();
    if body["extendLease"] == true {
        if inner.loses_extensions.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        return id.into_response();
    }
    let sent = Sent {
        path,
        body,
        at: Instant::now(),
    };
    lock(&inner.sent).push(sent.clone());
    let mut says = (inner.script)(&sent);
    while let Says::Late(after, then) = says {
        tokio::time::sleep(after).await;
        says = *then;
    }
    match says {
        Says::Json(json) => Json(json).into_response(),
        Says::Refused(status) => {
            let body = json!({"status": status, "message": "no", "retryable": false});
            let status = StatusCode::from_u16(status).unwrap_or_default();
            (status, Json(body)).into_response()
        }
        // A report that asked for the next task is answered with nothing.
        _ if sent.path.ends_with("update-v2") => StatusCode::OK.into_response(),
        _ => id.into_response(),
    }
}
