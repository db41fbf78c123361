//! Task logs. A server without an index, as on Redis, takes them and loses them.

use harness::{eventually, unique};
use serde_json::{Value, json};

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
    work::SOON,
};

cases_on! { EVERYWHERE; added, of_nobody, of_a_form, of_an_update }

async fn lines(ctx: &Ctx, task: &Value) -> anyhow::Result<Vec<Value>> {
    let path = format!("/tasks/{}/log", task["taskId"].as_str().unwrap_or_default());
    let answer = ctx.get(&path).await?;
    if answer.status == 204 {
        return Ok(Vec::new());
    }
    Ok(answer.ok()?.json().as_array().cloned().unwrap_or_default())
}

/// The log once it has this many lines; those that keep none must show none.
async fn kept(ctx: &Ctx, task: &Value, count: usize) -> anyhow::Result<Vec<Value>> {
    let count = if ctx.kind.keeps_logs() { count } else { 0 };
    eventually("the log is complete", SOON, async || {
        let lines = lines(ctx, task).await?;
        anyhow::ensure!(lines.len() == count, "{lines:?}");
        Ok(lines)
    })
    .await
}

async fn added(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let id = task["taskId"].as_str().unwrap_or_default();
    let path = format!("/tasks/{id}/log");
    let post = reqwest::Method::POST;
    let empty = ctx.send_raw(post.clone(), &path, "text/plain", "").await?;
    same!("an empty line", empty.status, 500);
    let answer = ctx
        .send_raw(post.clone(), &path, "text/plain", "a plain line")
        .await?
        .ok()?;
    same!("answer", answer.text, "");
    work.complete(&task).await?;
    ctx.send_raw(post, &path, "application/json", "\"quoted\"")
        .await?
        .ok()?;
    let lines = kept(&ctx, &task, 2).await?;
    let mut texts: Vec<_> = lines
        .iter()
        .map(|l| l["log"].as_str().unwrap_or_default())
        .collect();
    texts.sort_unstable();
    if ctx.kind.keeps_logs() {
        same!("as they were sent", texts, ["\"quoted\"", "a plain line"]);
        same!("task", lines[0]["taskId"], json!(id));
        anyhow::ensure!(lines[0]["createdTime"].as_i64() > Some(0));
        let read = ctx.client().task_logs(id).await?;
        same!("by the client", read.len(), 2);
    }
    Ok(())
}

/// Nothing checks that there is such a task, nor how long a line is.
async fn of_nobody(ctx: Ctx) -> anyhow::Result<()> {
    let task = json!({ "taskId": unique("nobody") });
    let path = format!("/tasks/{}/log", task["taskId"].as_str().unwrap_or_default());
    let post = reqwest::Method::POST;
    let long = "x".repeat(600_000);
    ctx.send_raw(post, &path, "text/plain", long.clone())
        .await?
        .ok()?;
    let lines = kept(&ctx, &task, 1).await?;
    if ctx.kind.keeps_logs() {
        same!("all of it", lines[0]["log"] == json!(long), true);
    }
    Ok(())
}

/// What many clients send by default is read as a form, and not kept as it was.
async fn of_a_form(ctx: Ctx) -> anyhow::Result<()> {
    let task = json!({ "taskId": unique("form") });
    let path = format!("/tasks/{}/log", task["taskId"].as_str().unwrap_or_default());
    let form = "application/x-www-form-urlencoded";
    ctx.send_raw(reqwest::Method::POST, &path, form, "some text")
        .await?
        .ok()?;
    let lines = kept(&ctx, &task, 1).await?;
    if ctx.kind.keeps_logs() {
        same!("line", lines[0]["log"], json!("some+text="));
    }
    Ok(())
}

async fn of_an_update(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let sent: Vec<_> = (0..26)
        .map(|n| json!({ "log": format!("line {n}"), "taskId": "other", "createdTime": 1000 + n }))
        .collect();
    work.update(&task, json!({ "status": "COMPLETED", "logs": sent }))
        .await?;
    let lines = kept(&ctx, &task, 10).await?;
    for line in &lines {
        same!("task", line["taskId"], task["taskId"]);
        let time = line["createdTime"].as_i64().unwrap_or_default();
        same!("text", line["log"], json!(format!("line {}", time - 1000)));
        anyhow::ensure!(
            (1000..1010).contains(&time),
            "the first ten are kept: {line}"
        );
    }
    Ok(())
}
