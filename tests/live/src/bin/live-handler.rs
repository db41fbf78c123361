//! A worker's handler that takes as long as its task's input says, and tells a ledger when it
//! began and when it was done.
//!
//! | environment | meaning |
//! | --- | --- |
//! | `PORT` | where it listens; the operator sets it |
//! | `LEDGER_URL` | where to tell |
//! | `POD_NAME` | what the ledger is told of who it is |

use std::{env, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use live::ledger::{Line, Moment};
use serde::Deserialize;
use serde_json::{Value, json};

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
}

/// 200 when it is done, and 503 when the ledger cannot be told, so that nothing is executed
/// that is not written down.
async fn execute(
    State(handler): State<Arc<Handler>>,
    Json(task): Json<Task>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let takes = Duration::try_from_secs_f64(task.input_data.seconds)
        .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    handler.tell(&task.task_id, Moment::Began).await?;
    tokio::time::sleep(takes).await;
    handler.tell(&task.task_id, Moment::Ended).await?;
    Ok(Json(json!({})))
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
    let handler = Handler {
        http: reqwest::Client::builder().no_proxy().build()?,
        ledger: variable("LEDGER_URL")?,
        pod: variable("POD_NAME")?,
    };
    let router = Router::new()
        .route("/", post(execute))
        .with_state(Arc::new(handler));
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(told_to_end())
        .await?;
    Ok(())
}
