//! A worker's handler that takes as long as its task's input says, and tells a ledger when it
//! began and when it was done, or that nobody waits for it any more.
//!
//! | environment | meaning |
//! | --- | --- |
//! | `PORT` | where it listens; the operator sets it |
//! | `LEDGER_URL` | where to tell |
//! | `POD_NAME` | what the ledger is told of who it is |
//! | `START_SECONDS` | how long it takes before it listens; 0 unless set |
//! | `FAIL` | where it is set, every task fails, and none is told to the ledger |
//!
//! `POST /swell` makes it take memory until it is killed for it.

use std::{env, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use live_handler::{Line, Moment};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The part of a Conductor task that it needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_id: String,
    input_data: Input,
}

#[derive(Deserialize)]
struct Input {
    seconds: f64,
}

struct Handler {
    http: reqwest::Client,
    ledger: String,
    pod: String,
    fail: bool,
    /// Open for as long as something is to be told.
    _telling: mpsc::Sender<()>,
}

/// Tells that a call is over before the execution is, unless it is defused.
struct Call {
    handler: Arc<Handler>,
    task: String,
    over: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (handler, task) = (self.handler.clone(), std::mem::take(&mut self.task));
        tokio::spawn(async move {
            if let Err((_, error)) = handler.tell(&task, Moment::Cut).await {
                eprintln!("the ledger does not know that {task} was cut off: {error}");
            }
        });
    }
}

/// 200 when it is done, and 503 when the ledger cannot be told, so that nothing is executed
/// that is not written down.
async fn execute(
    State(handler): State<Arc<Handler>>,
    Json(task): Json<Task>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let takes = Duration::try_from_secs_f64(task.input_data.seconds)
        .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    if handler.fail {
        let why = "this version fails every task".to_owned();
        return Err((StatusCode::INTERNAL_SERVER_ERROR, why));
    }
    handler.tell(&task.task_id, Moment::Began).await?;
    let mut call = Call {
        handler: handler.clone(),
        task: task.task_id,
        over: false,
    };
    tokio::time::sleep(takes).await;
    call.over = true;
    handler.tell(&call.task, Moment::Ended).await?;
    Ok(Json(json!({})))
}

/// Until the container's memory is at its limit, which kills it.
async fn swell() {
    let mut held = Vec::new();
    loop {
        // Written to, since only then it counts.
        held.push(vec![1_u8; 1 << 20]);
        tokio::task::yield_now().await;
    }
}

impl Handler {
    async fn tell(&self, task: &str, moment: Moment) -> Result<(), (StatusCode, String)> {
        let line = Line {
            task: task.to_owned(),
            pod: self.pod.clone(),
            moment,
        };
        let told = self.http.post(&self.ledger).json(&line).send().await;
        match told.and_then(reqwest::Response::error_for_status) {
            Ok(_) => Ok(()),
            Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        }
    }
}

fn variable(name: &str) -> anyhow::Result<String> {
    env::var(name).with_context(|| format!("set {name} in the environment"))
}

/// It ends when it is told to, after the calls under way.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => drop(term.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    runtime::install_tls_provider();
    let port: u16 = variable("PORT")?.parse().context("PORT is no port")?;
    let (telling, mut told) = mpsc::channel(1);
    let handler = Handler {
        http: reqwest::Client::builder().no_proxy().build()?,
        ledger: variable("LEDGER_URL")?,
        pod: variable("POD_NAME")?,
        fail: env::var_os("FAIL").is_some(),
        _telling: telling,
    };
    if let Ok(seconds) = env::var("START_SECONDS") {
        let seconds = seconds.parse().context("START_SECONDS is no number")?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    let router = Router::new()
        .route("/", post(execute))
        .route("/swell", post(swell))
        .with_state(Arc::new(handler));
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(told_to_end())
        .await?;
    // Calls that were cut off at the very end are still being told.
    let _: Option<()> = told.recv().await;
    Ok(())
}
