//! Leases and time-outs.

use std::time::{Duration, Instant};

use harness::eventually;
use serde_json::json;

use crate::{
    Ctx, Kind, Work,
    suite::{EVERYWHERE, cases_on},
    work::SOON,
};

cases_on! { EVERYWHERE;
    silence_is_a_retry, found_without_being_asked, silence_without_retries, alert_only_changes_nothing,
    extending_keeps_it, extending_ignores_the_rest, extending_what_has_ended, task_timeout_beats_a_lease,
    poll_timeout_in_the_queue, poll_timeout_by_handing_back, poll_timeout_retries,
    poll_timeout_alert_only, poll_timeout_way_round, task_timeout_is_a_retry, total_timeout,
    extending_in_vain;
    &[Kind::Embedded, Kind::EmbeddedSql, Kind::Redis]; found_late_in_a_workflow;
}

/// Evaluates the workflow until it looks so.
async fn decided(work: &Work, id: &str, status: &str, tasks: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("{status} with {tasks:?}"), SOON, async || {
        work.ctx.decide(id).await?;
        let seen = work.statuses(id).await?;
        anyhow::ensure!(seen.0 == status && seen.1 == tasks, "{seen:?}");
        Ok(())
    })
    .await
}

async fn extend(work: &Work, task: &serde_json::Value) -> anyhow::Result<()> {
    work.update(task, json!({ "extendLease": true })).await
}

async fn silence_is_a_retry(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 1 })).await?;
    let (id, task) = work.start_and_poll().await?;
    decided(&work, &id, "RUNNING", &["TIMED_OUT", "SCHEDULED"]).await?;
    let task_id = task["taskId"].as_str().unwrap_or_default();
    let reason = format!(
        "responseTimeout: 1 exceeded for the taskId: {task_id} with Task Definition: {}",
        work.name
    );
    same!(
        "reason",
        work.now(&task).await?["reasonForIncompletion"],
        json!(reason)
    );
    // A report that comes too late is thrown away.
    work.complete(&task).await?;
    same!("late", work.now(&task).await?["status"], json!("TIMED_OUT"));
    let again = work.poll_soon().await?;
    same!("attempt", again["retryCount"], json!(1));
    same!("polls", again["pollCount"], json!(1));
    anyhow::ensure!(again["taskId"] != task["taskId"]);
    work.complete(&again).await?;
    work.reaches(&id, "COMPLETED", &["TIMED_OUT", "COMPLETED"])
        .await
}

/// Soon after a start every server finds it; later those on SQL take a minute or two.
async fn found_without_being_asked(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 2 })).await?;
    let began = Instant::now();
    let (_, task) = work.start_and_poll().await?;
    let patience = if ctx.kind.is_prompt() { 15 } else { 60 };
    let again = eventually(
        "a second attempt",
        Duration::from_secs(patience),
        async || work.poll().await,
    )
    .await?;
    let took = began.elapsed();
    same!("attempt", again["retryCount"], json!(1));
    same!("of", again["retriedTaskId"], task["taskId"]);
    anyhow::ensure!(
        took >= Duration::from_millis(1900),
        "already after {took:?}"
    );
    Ok(())
}

/// And however old the workflow is. Those on SQL look again only after a minute or two.
async fn found_late_in_a_workflow(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 2 })).await?;
    let id = work.start(json!(1)).await?;
    // By then the server's sweeper has looked at it once.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let task = work.poll().await?;
    same!("workflow", task["workflowInstanceId"], json!(id));
    let again = work.poll_soon().await?;
    same!("of", again["retriedTaskId"], task["taskId"]);
    Ok(())
}

async fn silence_without_retries(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx
        .work(json!({ "responseTimeoutSeconds": 1, "retryCount": 0 }))
        .await?;
    let (id, _) = work.start_and_poll().await?;
    decided(&work, &id, "TIMED_OUT", &["TIMED_OUT"]).await
}

async fn alert_only_changes_nothing(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "responseTimeoutSeconds": 1, "timeoutPolicy": "ALERT_ONLY" });
    let work = ctx.work(def).await?;
    let (id, _) = work.start_and_poll().await?;
    decided(&work, &id, "RUNNING", &["TIMED_OUT", "SCHEDULED"]).await
}

async fn extending_keeps_it(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 2 })).await?;
    let (id, task) = work.start_and_poll().await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        extend(&work, &task).await?;
        ctx.decide(&id).await?;
        same!(
            "status",
            work.now(&task).await?["status"],
            json!("IN_PROGRESS")
        );
        work.nothing().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    work.complete(&task).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn extending_ignores_the_rest(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let fields = json!({ "extendLease": true, "status": "COMPLETED", "outputData": { "x": 1 } });
    work.update(&task, fields).await?;
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await?;
    same!("output", work.now(&task).await?["outputData"], json!({}));
    same!("size", work.size().await?, 0);
    Ok(())
}

async fn extending_what_has_ended(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    work.complete(&task).await?;
    extend(&work, &task).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn task_timeout_beats_a_lease(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "responseTimeoutSeconds": 1, "timeoutSeconds": 2 });
    let work = ctx.work(def).await?;
    let (id, task) = work.start_and_poll().await?;
    eventually(
        "the task times out in spite of its lease",
        SOON,
        async || {
            extend(&work, &task).await?;
            ctx.decide(&id).await?;
            let seen = work.statuses(&id).await?;
            anyhow::ensure!(seen.0 == "TIMED_OUT" && seen.1 == ["TIMED_OUT"], "{seen:?}");
            Ok(())
        },
    )
    .await?;
    let reason = ctx.workflow(&id).await?["reasonForIncompletion"].clone();
    says!(
        reason.as_str().unwrap_or_default(),
        "Task timed out after 2 seconds"
    );
    Ok(())
}

async fn task_timeout_is_a_retry(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "responseTimeoutSeconds": 2, "timeoutSeconds": 2, "timeoutPolicy": "RETRY" });
    let work = ctx.work(def).await?;
    let (id, task) = work.start_and_poll().await?;
    eventually("the task times out", SOON, async || {
        extend(&work, &task).await?;
        ctx.decide(&id).await?;
        let seen = work.statuses(&id).await?;
        anyhow::ensure!(
            seen.0 == "RUNNING" && seen.1 == ["TIMED_OUT", "SCHEDULED"],
            "{seen:?}"
        );
        Ok(())
    })
    .await?;
    let again = work.poll_soon().await?;
    same!("attempt", again["retryCount"], json!(1));
    says!(
        again["reasonForIncompletion"].as_str().unwrap_or_default(),
        "Task timed out after 2 seconds"
    );
    Ok(())
}

/// It spans all attempts, and ends them whatever the policy.
async fn total_timeout(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx
        .work(json!({ "totalTimeoutSeconds": 2, "timeoutPolicy": "RETRY" }))
        .await?;
    let id = work.start(json!(1)).await?;
    decided(&work, &id, "TIMED_OUT", &["TIMED_OUT"]).await?;
    let reason = ctx.workflow(&id).await?["reasonForIncompletion"].clone();
    says!(
        reason.as_str().unwrap_or_default(),
        "exceeded total timeout of 2 seconds"
    );
    Ok(())
}

/// The server takes an extension of what it has given up, and says nothing.
async fn extending_in_vain(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 1 })).await?;
    let (id, task) = work.start_and_poll().await?;
    decided(&work, &id, "RUNNING", &["TIMED_OUT", "SCHEDULED"]).await?;
    extend(&work, &task).await?;
    same!("task", work.now(&task).await?["status"], json!("TIMED_OUT"));
    ctx.client().terminate_workflow(&id, "enough").await?;
    extend(&work, &task).await?;
    work.reaches(&id, "TERMINATED", &["TIMED_OUT", "CANCELED"])
        .await
}

async fn poll_timeout_in_the_queue(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "pollTimeoutSeconds": 1 })).await?;
    let id = work.start(json!(1)).await?;
    decided(&work, &id, "TIMED_OUT", &["TIMED_OUT"]).await?;
    let reason = ctx.workflow(&id).await?["reasonForIncompletion"].clone();
    says!(
        reason.as_str().unwrap_or_default(),
        "Task poll timed out after"
    );
    same!("size", work.size().await?, 0);
    work.nothing().await
}

/// A task that can be handed back only after its poll time-out, and that time has come.
async fn held_beyond_poll_timeout(
    ctx: &Ctx,
    policy: &str,
) -> anyhow::Result<(Work, String, serde_json::Value)> {
    let def = json!({ "pollTimeoutSeconds": 2, "timeoutPolicy": policy });
    let work = ctx.work(def).await?;
    let (id, task) = work.start_and_poll().await?;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    Ok((work, id, task))
}

/// The trap: the time in the queue counts from the first scheduling.
async fn poll_timeout_by_handing_back(ctx: Ctx) -> anyhow::Result<()> {
    let (work, id, task) = held_beyond_poll_timeout(&ctx, "TIME_OUT_WF").await?;
    work.hand_back(&task, 0).await?;
    work.reaches(&id, "TIMED_OUT", &["TIMED_OUT"]).await
}

async fn poll_timeout_retries(ctx: Ctx) -> anyhow::Result<()> {
    let (work, id, task) = held_beyond_poll_timeout(&ctx, "RETRY").await?;
    work.hand_back(&task, 0).await?;
    work.reaches(&id, "RUNNING", &["TIMED_OUT", "SCHEDULED"])
        .await?;
    let again = work.poll_soon().await?;
    same!("attempt", again["retryCount"], json!(1));
    Ok(())
}

async fn poll_timeout_alert_only(ctx: Ctx) -> anyhow::Result<()> {
    let (work, id, task) = held_beyond_poll_timeout(&ctx, "ALERT_ONLY").await?;
    work.hand_back(&task, 0).await?;
    let again = work.poll_soon().await?;
    same!("task", again["taskId"], task["taskId"]);
    work.complete(&again).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

/// A callback that reaches beyond the time-out does not help: that comes before the callback,
/// by as much as the task was late already. Only a server that does not look until then, on
/// SQL, lets it pass.
async fn poll_timeout_way_round(ctx: Ctx) -> anyhow::Result<()> {
    let (work, id, task) = held_beyond_poll_timeout(&ctx, "TIME_OUT_WF").await?;
    work.hand_back(&task, 3).await?;
    work.reaches(&id, "RUNNING", &["SCHEDULED"]).await?;
    if ctx.kind.is_prompt() {
        return work.reaches(&id, "TIMED_OUT", &["TIMED_OUT"]).await;
    }
    let again = work.poll_soon().await?;
    same!("task", again["taskId"], task["taskId"]);
    same!("attempt", again["retryCount"], json!(0));
    work.complete(&again).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}
