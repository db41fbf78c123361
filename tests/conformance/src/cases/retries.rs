//! Failures and what follows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    a_new_attempt, the_last_attempt, no_retries, reasons_are_cut, delayed, linear, exponential,
    a_cap_on_delays, output_is_not_carried_over,
}

async fn a_new_attempt(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 2 })).await?;
    let (id, task) = work.start_and_poll().await?;
    work.fail(&task).await?;
    same!("size", work.size().await?, 1);
    work.reaches(&id, "RUNNING", &["FAILED", "SCHEDULED"])
        .await?;
    let second = ctx.workflow(&id).await?["tasks"][1].clone();
    for (field, expected) in [
        ("retryCount", json!(1)),
        ("pollCount", json!(0)),
        ("retriedTaskId", task["taskId"].clone()),
        ("reasonForIncompletion", json!("no")),
        ("inputData", task["inputData"].clone()),
        ("startTime", json!(0)),
        ("workerId", Value::Null),
        ("retried", json!(false)),
    ] {
        same!(field, second[field], expected);
    }
    let failed = work.now(&task).await?;
    same!("retried", failed["retried"], json!(true));
    let polled = work.poll_soon().await?;
    same!("task", polled["taskId"], second["taskId"]);
    same!("pollCount", polled["pollCount"], json!(1));
    work.complete(&polled).await?;
    work.reaches(&id, "COMPLETED", &["FAILED", "COMPLETED"])
        .await?;
    let workflow = ctx.workflow(&id).await?;
    let names = &workflow["failedReferenceTaskNames"];
    same!("what failed on the way", *names, json!(["ref"]));
    Ok(())
}

async fn the_last_attempt(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 1 })).await?;
    let (id, task) = work.start_and_poll().await?;
    work.fail(&task).await?;
    let last = work.poll_soon().await?;
    let fields =
        json!({ "status": "FAILED", "reasonForIncompletion": "last", "outputData": { "o": 1 } });
    work.update(&last, fields).await?;
    work.reaches(&id, "FAILED", &["FAILED", "FAILED"]).await?;
    let workflow = ctx.workflow(&id).await?;
    let task_id = last["taskId"].as_str().unwrap_or_default();
    let reason = format!("Task {task_id} failed with status: FAILED and reason: 'last'");
    same!("reason", workflow["reasonForIncompletion"], json!(reason));
    same!("output", workflow["output"], json!({ "o": 1 }));
    same!("size", work.size().await?, 0);
    Ok(())
}

async fn no_retries(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 0 })).await?;
    let (id, task) = work.start_and_poll().await?;
    work.update(&task, json!({ "status": "FAILED" })).await?;
    work.reaches(&id, "FAILED", &["FAILED"]).await?;
    let reason = ctx.workflow(&id).await?["reasonForIncompletion"].clone();
    says!(
        reason.as_str().unwrap_or_default(),
        "failed with status: FAILED and reason: 'null'"
    );
    Ok(())
}

async fn reasons_are_cut(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let fields = json!({ "status": "FAILED", "reasonForIncompletion": "é".repeat(600) });
    work.update(&task, fields).await?;
    let reason = work.now(&task).await?["reasonForIncompletion"].clone();
    same!(
        "characters",
        reason.as_str().map(|r| r.chars().count()),
        Some(500)
    );
    let carried = work.poll_soon().await?["reasonForIncompletion"].clone();
    same!("carried over", carried, reason);
    Ok(())
}

async fn delayed(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryDelaySeconds": 2 })).await?;
    let (_, task) = work.start_and_poll().await?;
    let began = Instant::now();
    work.fail(&task).await?;
    same!("it counts at once", work.size().await?, 1);
    work.nothing().await?;
    let again = work.poll_soon().await?;
    let took = began.elapsed();
    same!("attempt", again["retryCount"], json!(1));
    same!("delay", again["startDelayInSeconds"], json!(2));
    anyhow::ensure!(
        took >= Duration::from_millis(1900),
        "already after {took:?}"
    );
    Ok(())
}

/// The delays of three attempts, without waiting for them: a task that is not polled yet can
/// be reported all the same.
async fn delays(ctx: &Ctx, def: Value) -> anyhow::Result<Vec<i64>> {
    let work = ctx.work(def).await?;
    let id = work.start(json!(1)).await?;
    let mut delays = Vec::new();
    for attempt in 0..3 {
        let task = ctx.workflow(&id).await?["tasks"][attempt].clone();
        work.fail(&task).await?;
        let next = ctx.workflow(&id).await?["tasks"][attempt + 1].clone();
        delays.push(next["startDelayInSeconds"].as_i64().unwrap_or(-1));
        same!(
            "callback",
            next["callbackAfterSeconds"],
            next["startDelayInSeconds"]
        );
    }
    Ok(delays)
}

async fn linear(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 100, "backoffScaleFactor": 2 });
    same!("delays", delays(&ctx, def).await?, [200, 400, 600]);
    Ok(())
}

async fn exponential(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": 100 });
    same!("delays", delays(&ctx, def).await?, [100, 200, 400]);
    Ok(())
}

async fn a_cap_on_delays(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": 100, "maxRetryDelaySeconds": 150 });
    same!("delays", delays(&ctx, def).await?, [100, 150, 150]);
    Ok(())
}

async fn output_is_not_carried_over(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    work.update(
        &task,
        json!({ "status": "FAILED", "outputData": { "half": 1 } }),
    )
    .await?;
    same!(
        "kept by the first",
        work.now(&task).await?["outputData"],
        json!({ "half": 1 })
    );
    same!(
        "not by the second",
        work.poll_soon().await?["outputData"],
        json!({})
    );
    Ok(())
}
