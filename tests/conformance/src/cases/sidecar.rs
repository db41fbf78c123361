//! The sidecar's own main stories, in process, against each server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use harness::{Call, Handler, Reply, eventually};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use worker_sidecar::{
    config::{Config, HandlerConfig, TaskConfig},
    pipeline::Sidecar,
};

use crate::{
    Ctx, Kind, Work,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    works_a_queue_with_retries, keeps_a_lease, hands_back_at_its_end, defers, fails_for_good,
    picks_up_at_once,
}

/// Longer than any of it takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A sidecar at work.
struct Running {
    sidecar: Arc<Sidecar>,
    run: JoinHandle<()>,
}

impl Running {
    /// One between a task type and a handler.
    fn start(work: &Work, handler: &Handler) -> anyhow::Result<Self> {
        let tasks = vec![TaskConfig::new(&work.name)];
        let mut config = Config::new(work.ctx.url("").parse()?, tasks, "sidecar".to_owned());
        config.handler = HandlerConfig::new(handler.port());
        // On SQLite reports would meet, and be refused.
        config.slots = if work.ctx.kind == Kind::Sqlite { 1 } else { 4 };
        config.grace = Duration::from_secs(15);
        let sidecar = Sidecar::new(config, &Registry::new())?;
        let told = sidecar.clone();
        let run = tokio::spawn(
            sidecar
                .clone()
                .run(async move { told.shutdown_begun().await }),
        );
        Ok(Self { sidecar, run })
    }

    /// Ends it, with all that it does then.
    async fn end(mut self) -> anyhow::Result<()> {
        self.sidecar.begin_shutdown();
        tokio::time::timeout(SOON, &mut self.run).await??;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A case that fails leaves nothing that polls.
        self.sidecar.begin_shutdown();
    }
}

/// The workflow once it has ended so.
async fn ended(ctx: &Ctx, id: &str, status: &str) -> anyhow::Result<Value> {
    eventually(status, SOON, async || {
        let workflow = ctx.workflow(id).await?;
        ensure!(
            workflow["status"] == json!(status),
            "{}: {}",
            workflow["status"],
            workflow["tasks"]
        );
        Ok(workflow)
    })
    .await
}

fn retry_count(call: &Call) -> &str {
    let header = call.headers.get("conductor-retry-count");
    header.and_then(|h| h.to_str().ok()).unwrap_or_default()
}

async fn at_work(handler: &Handler) -> anyhow::Result<()> {
    eventually("a call is under way", SOON, async || {
        match handler.running() {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await
}

async fn works_a_queue_with_retries(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let count = if ctx.kind == Kind::Sqlite { 12 } else { 40 };
    let ids = work.start_many(count).await?;
    // Every third fails at first.
    let handler = Handler::start(|call| {
        let number = call.input["value"].as_u64().unwrap_or_default();
        if number.is_multiple_of(3) && retry_count(call) == "0" {
            Reply::answer(500, r#"{"error":"not yet"}"#)
        } else {
            Reply::output(json!({ "number": number }))
        }
    })
    .await?;
    let running = Running::start(&work, &handler)?;
    for (number, id) in ids.iter().enumerate() {
        let workflow = ended(&ctx, id, "COMPLETED").await?;
        same!("output", workflow["output"], json!({ "number": number }));
        let attempts = if number % 3 == 0 { 2 } else { 1 };
        let tasks = workflow["tasks"].as_array().map(Vec::len);
        same!(format!("attempts of {number}"), tasks, Some(attempts));
        if attempts == 2 {
            same!(
                "reason",
                workflow["tasks"][0]["reasonForIncompletion"],
                json!("not yet")
            );
        }
    }
    ensure!(handler.executions().values().all(|n| *n == 1));
    same!("waiting", work.size().await?, 0);
    running.end().await
}

async fn keeps_a_lease(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 8 })).await?;
    let handler =
        Handler::start(|_| Reply::output(json!({})).after(Duration::from_secs(18))).await?;
    let id = work.start(json!(1)).await?;
    let running = Running::start(&work, &handler)?;
    at_work(&handler).await?;
    let workflow = eventually("it is done", SOON, async || {
        // Where time-outs are found late they are asked for.
        ctx.decide(&id).await?;
        let workflow = ctx.workflow(&id).await?;
        ensure!(workflow["status"] == json!("COMPLETED"), "{workflow}");
        Ok(workflow)
    })
    .await?;
    same!(
        "attempts",
        workflow["tasks"].as_array().map(Vec::len),
        Some(1)
    );
    same!("executions", handler.ledger().len(), 1);
    running.end().await
}

async fn hands_back_at_its_end(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let handler = Handler::start(|_| Reply::hang()).await?;
    let id = work.start(json!(1)).await?;
    let first = Running::start(&work, &handler)?;
    at_work(&handler).await?;
    first.end().await?;
    work.reaches(&id, "RUNNING", &["SCHEDULED"]).await?;
    handler.set(|_| Reply::output(json!({})));
    let second = Running::start(&work, &handler)?;
    let workflow = ended(&ctx, &id, "COMPLETED").await?;
    same!(
        "attempts",
        workflow["tasks"].as_array().map(Vec::len),
        Some(1)
    );
    let task = &workflow["tasks"][0];
    same!("retries", task["retryCount"], json!(0));
    same!("polls", task["pollCount"], json!(2));
    second.end().await
}

async fn defers(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let handler = Handler::start(|call| {
        if call.before == 0 {
            Reply::answer(202, r#"{"asked":1}"#).header("retry-after", "2")
        } else {
            Reply::output(json!({ "then": call.body["outputData"] }))
        }
    })
    .await?;
    let id = work.start(json!(1)).await?;
    let running = Running::start(&work, &handler)?;
    let workflow = ended(&ctx, &id, "COMPLETED").await?;
    same!(
        "output",
        workflow["output"],
        json!({ "then": { "asked": 1 } })
    );
    same!(
        "attempts",
        workflow["tasks"].as_array().map(Vec::len),
        Some(1)
    );
    same!("polls", workflow["tasks"][0]["pollCount"], json!(2));
    let calls = handler.ledger();
    let pause = calls[1].started - calls[0].started;
    ensure!(pause >= Duration::from_millis(1900), "after {pause:?}");
    running.end().await
}

async fn fails_for_good(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let handler = Handler::start(|_| Reply::answer(422, r#"{"error":"no such customer"}"#)).await?;
    let id = work.start(json!(1)).await?;
    let running = Running::start(&work, &handler)?;
    let workflow = ended(&ctx, &id, "FAILED").await?;
    same!(
        "attempts",
        workflow["tasks"].as_array().map(Vec::len),
        Some(1)
    );
    let task = &workflow["tasks"][0];
    same!(
        "status",
        task["status"],
        json!("FAILED_WITH_TERMINAL_ERROR")
    );
    same!(
        "reason",
        task["reasonForIncompletion"],
        json!("no such customer")
    );
    running.end().await
}

/// A batch that waits to be full would hold a task for seconds. Compared with what the server
/// itself does with a poll for one task, in the same minute.
async fn picks_up_at_once(ctx: Ctx) -> anyhow::Result<()> {
    const ROUNDS: usize = 7;
    let (work, bare) = (ctx.work(json!({})).await?, ctx.work(json!({})).await?);
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let running = Running::start(&work, &handler)?;
    let (mut by_sidecar, mut by_server) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // Its poll for more than one is under way, or will be.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let id = work.start(json!(round)).await?;
        let started = Instant::now();
        let call = eventually("the handler is called", SOON, async || {
            match handler.ledger().get(round - 1) {
                Some(call) => Ok(call.started),
                None => Err("not yet"),
            }
        })
        .await?;
        by_sidecar.push(call.saturating_duration_since(started));
        ended(&ctx, &id, "COMPLETED").await?;

        let poll = async {
            let task = bare.poll_within(5000).await?;
            anyhow::Ok((task, Instant::now()))
        };
        let start = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            bare.start(json!(round)).await?;
            anyhow::Ok(Instant::now())
        };
        let (polled, started) = futures::future::join(poll, start).await;
        let ((task, polled), started) = (polled?, started?);
        by_server.push(polled.saturating_duration_since(started));
        bare.complete(&task).await?;
    }
    by_sidecar.sort_unstable();
    by_server.sort_unstable();
    ensure!(
        by_sidecar[ROUNDS / 2] <= by_server[ROUNDS / 2] + Duration::from_secs(1),
        "by the sidecar {by_sidecar:?}, by the server {by_server:?}"
    );
    running.end().await
}
