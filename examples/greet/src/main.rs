//! A worker's handler: an HTTP server and nothing else. It takes a task, greets whom the
//! task's input names, and answers with the task's output. It knows nothing of Conductor.
//!
//! | environment | meaning | default |
//! | --- | --- | --- |
//! | `PORT` | where it listens; the operator sets it | 8080 |
//! | `GREET_MILLIS` | how long a greeting takes, so that scaling shows | 200 |
//! | `GREET_FAIL` | 1: each greeting fails (500), as that of a version that does not work | 0 |
//! | `GREET_LEDGER_URL` | another greeter's `/ledger`, which is told of each greeting | none |
//!
//! `POST /` takes a task. `GET /ledger` lists the greetings, as often as each was given: a line has
//! the task's id, who gave it, and when it was begun and ended, in milliseconds since 1970. `POST
//! /ledger` adds one. Together they show that no task runs twice, and who was at work when.

use std::{
    env,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of a Conductor task that this handler needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_id: String,
    #[serde(default)]
    input_data: Input,
}

#[derive(Deserialize, Default)]
struct Input {
    name: Option<String>,
}

#[derive(Clone)]
struct Greeter {
    takes: Duration,
    fails: bool,
    host: String,
    ledger: Arc<Mutex<String>>,
    elsewhere: Option<String>,
}

/// 200 with the output; 422 for a task that can never succeed; 500 for one that may, later.
async fn greet(
    State(greeter): State<Greeter>,
    Json(task): Json<Task>,
) -> (StatusCode, Json<Value>) {
    if greeter.fails {
        let error = json!({"error": "GREET_FAIL is set: every greeting fails"});
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(error));
    }
    let Some(name) = task.input_data.name else {
        let error = json!({"error": "the task's input has no `name`"});
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(error));
    };
    let began = now();
    tokio::time::sleep(greeter.takes).await;
    if let Err(why) = greeter.write_down(&task.task_id, began).await {
        let error = json!({"error": format!("the ledger cannot be written: {why}")});
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(error));
    }
    (
        StatusCode::OK,
        Json(json!({"greeting": format!("Hello, {name}!")})),
    )
}

impl Greeter {
    async fn write_down(&self, id: &str, began: u128) -> Result<(), String> {
        let line = format!("{id} {} {began} {}", self.host, now());
        let Some(url) = self.elsewhere.clone() else {
            self.add(&line);
            return Ok(());
        };
        // A blocking client, so on a thread of its own.
        match tokio::task::spawn_blocking(move || ureq::post(&url).send(line)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn add(&self, line: &str) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.push_str(line.trim());
        ledger.push('\n');
    }
}

async fn read_ledger(State(greeter): State<Greeter>) -> String {
    greeter
        .ledger
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

async fn add_to_ledger(State(greeter): State<Greeter>, line: String) {
    greeter.add(&line);
}

/// In milliseconds since 1970.
fn now() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

fn number(name: &str, default: u16) -> Result<u16, String> {
    match env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} is {text:?}; set it to a number")),
    }
}

/// The process ends when it is told to, after the requests under way.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
        }
        _ => std::future::pending().await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = number("PORT", 8080)?;
    let greeter = Greeter {
        takes: Duration::from_millis(number("GREET_MILLIS", 200)?.into()),
        fails: number("GREET_FAIL", 0)? != 0,
        host: env::var("HOSTNAME").unwrap_or_else(|_| "greeter".to_owned()),
        ledger: Arc::default(),
        elsewhere: env::var("GREET_LEDGER_URL").ok(),
    };
    let app = Router::new()
        .route("/", post(greet))
        .route("/ledger", get(read_ledger).post(add_to_ledger))
        .with_state(greeter);
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(told_to_end())
        .await?;
    Ok(())
}
