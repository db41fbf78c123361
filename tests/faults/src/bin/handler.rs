//! A handler in a process of its own, so that it can be killed and frozen. What it executes
//! stands in a file, a line at the start and one at the end of each call: the kernel keeps
//! what was written when the process is killed.

use std::{io::Write as _, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use clap::Parser;
use faults::ledger::{Line, Moment};
use serde_json::Value;

/// A handler that takes as long as its input's `value` says, in milliseconds.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// The file to add to.
    #[arg(long)]
    ledger: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { port, ledger } = Args::parse();
    faults::programs::end_with_parent()?;
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&ledger)
        .with_context(|| format!("cannot write {}", ledger.display()))?;
    let router = Router::new()
        .route("/", get(async || "ready\n"))
        .route("/", post(execute))
        .with_state(Arc::new(file));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn execute(
    State(ledger): State<Arc<std::fs::File>>,
    body: Bytes,
) -> Result<&'static str, (StatusCode, String)> {
    let refuse = |why: String| (StatusCode::BAD_REQUEST, why);
    let task: Value = serde_json::from_slice(&body).map_err(|e| refuse(e.to_string()))?;
    let text = |key: &str| {
        let value = task[key].as_str();
        value.ok_or_else(|| refuse(format!("{key} is not in the task")))
    };
    let (task_id, workflow_id) = (text("taskId")?, text("workflowInstanceId")?);
    let millis = task["inputData"]["value"].as_u64();
    let millis = millis.ok_or_else(|| refuse("inputData.value is no number".to_owned()))?;
    let note = |moment| {
        let line = Line::now(moment, task_id, workflow_id).to_string();
        // One write, so that lines of different processes do not mix.
        (&*ledger)
            .write_all(line.as_bytes())
            .map_err(|e| refuse(e.to_string()))
    };
    note(Moment::Start)?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    note(Moment::End)?;
    Ok("{}")
}
