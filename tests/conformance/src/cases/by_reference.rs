//! Reports by a task's name in its workflow.

use serde_json::json;

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE; merging, without_a_worker, nothing_to_update, bad_status, synchronous }

async fn merging(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let path = |status: &str| format!("/tasks/{id}/ref/{status}?workerid=somebody");
    let answer = ctx
        .post(&path("IN_PROGRESS"), &json!({ "p": 1 }))
        .await?
        .ok()?;
    same!("answer", json!(answer.text), task["taskId"]);
    let answer = ctx
        .post(&path("COMPLETED"), &json!({ "q": 1 }))
        .await?
        .ok()?;
    same!("answer", json!(answer.text), task["taskId"]);
    let workflow = ctx.workflow(&id).await?;
    same!("status", workflow["status"], json!("COMPLETED"));
    same!("output", workflow["output"], json!({ "p": 1, "q": 1 }));
    same!(
        "worker",
        workflow["tasks"][0]["workerId"],
        json!("somebody")
    );
    Ok(())
}

/// The one that polled it stays.
async fn without_a_worker(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let path = format!("/tasks/{id}/ref/FAILED");
    let answer = ctx.post(&path, &json!({ "q": 1 })).await?.ok()?;
    same!("answer", json!(answer.text), task["taskId"]);
    let failed = work.now(&task).await?;
    same!("status", failed["status"], json!("FAILED"));
    same!("worker", failed["workerId"], json!("me"));
    same!("output", failed["outputData"], json!({ "q": 1 }));
    Ok(())
}

async fn nothing_to_update(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let other = ctx
        .post(&format!("/tasks/{id}/nope/COMPLETED"), &json!({}))
        .await?
        .ok()?;
    same!("unknown reference", other.text, "");
    work.complete(&task).await?;
    let ended = ctx
        .post(&format!("/tasks/{id}/ref/COMPLETED"), &json!({}))
        .await?
        .ok()?;
    same!("ended", ended.text, "");
    let unknown = ctx
        .post("/tasks/nope/ref/COMPLETED", &json!({}))
        .await?
        .ok()?;
    same!("unknown workflow", unknown.text, "");
    Ok(())
}

async fn bad_status(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, _) = work.start_and_poll().await?;
    let answer = ctx
        .post(&format!("/tasks/{id}/ref/DONE"), &json!({}))
        .await?;
    answer.is_error(500, "DONE")?;
    // Whose path is a poll's.
    ctx.post("/tasks/poll/batch/x", &json!({}))
        .await?
        .is_error(500, "[x]")
}

async fn synchronous(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, _) = work.start_and_poll().await?;
    let path = format!("/tasks/{id}/ref/COMPLETED/sync");
    let workflow = ctx.post(&path, &json!({ "x": 1 })).await?.ok()?.json();
    same!("workflow", workflow["workflowId"], json!(id));
    same!("status", workflow["status"], json!("COMPLETED"));
    let none = ctx.post(&path, &json!({})).await?;
    none.is_error(
        404,
        &format!("Found no running task ref of workflow {id} to update"),
    )
}
