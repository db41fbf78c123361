//! The Conductor of the benchmark: the in-memory one in a process of its own, and beside it
//! a second address that tells what happened.
//!
//! Prints both addresses, a line each. `GET /counts` is what happened so far; `GET /journal`
//! each step of each task since the last time it was asked.

use std::{io::Write as _, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use bench::server::{Counts, Step};
use clap::Parser;
use embedded_conductor::{BatchFill, Embedded, Options};

/// The in-memory Conductor for the benchmark.
#[derive(Debug, Parser)]
struct Args {
    /// When a batch poll that found fewer tasks than it asked for is answered.
    #[arg(long, default_value = "redis")]
    batch_fill: BatchFill,
    /// How many workflows that have ended are kept.
    #[arg(long, default_value_t = Options::default().keep_ended)]
    keep_ended: usize,
    /// Note each step of each task.
    #[arg(long)]
    journal: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        batch_fill: args.batch_fill,
        keep_ended: args.keep_ended,
        journal: args.journal,
        ..Options::default()
    };
    let embedded = Arc::new(Embedded::start(options).await?);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let beside = listener.local_addr()?;
    let app = Router::new()
        .route("/counts", get(counts))
        .route("/journal", get(journal))
        .with_state(embedded.clone());
    writeln!(std::io::stdout(), "{}\nhttp://{beside}", embedded.base())?;
    // Ends with the driver, which kills it.
    axum::serve(listener, app).await?;
    Ok(())
}

async fn counts(State(embedded): State<Arc<Embedded>>) -> Json<Counts> {
    let counts = embedded.counts();
    Json(Counts {
        completed: counts.completed,
        failed: counts.failed,
        delivered: counts.delivered,
        handed_back: counts.handed_back,
        polls: counts.polls,
        updates: counts.updates,
    })
}

async fn journal(State(embedded): State<Arc<Embedded>>) -> Json<Vec<Step>> {
    let step = |moved: embedded_conductor::Moved| Step {
        task: moved.task.to_string(),
        what: moved.what.into(),
        at: moved.at,
    };
    Json(embedded.take_journal().into_iter().map(step).collect())
}
