//! Domains.

use std::time::Duration;

use harness::eventually;
use serde_json::{Value, json};

use crate::{
    Ctx, Work,
    suite::{EVERYWHERE, TIMED, cases_on},
};

cases_on! { EVERYWHERE;
    only_its_own_polls_see_it, the_first_active_one, none_as_the_last_resort, everything, case_matters,
    retries_stay, a_first_long_poll_is_not_seen;
    TIMED; inactive_after_ten_seconds,
}

/// Lets a domain count as active.
async fn visit(work: &Work, domain: &str) -> anyhow::Result<()> {
    let tasks = work
        .batch(&format!("workerid=me&domain={domain}&count=1&timeout=0"))
        .await?;
    same!(format!("a visit to {domain}"), tasks.len(), 0);
    Ok(())
}

/// The domain of the one task of a workflow.
async fn domain(work: &Work, id: &str) -> anyhow::Result<Value> {
    Ok(work.ctx.workflow(id).await?["tasks"][0]["domain"].clone())
}

async fn only_its_own_polls_see_it(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start_in("d1").await?;
    same!(
        "domain, though nobody polls it",
        domain(&work, &id).await?,
        json!("d1")
    );
    work.nothing().await?;
    visit(&work, "d2").await?;
    let tasks = work
        .batch("workerid=me&domain=d1&count=1&timeout=1000")
        .await?;
    same!("in d1", tasks.len(), 1);
    same!("it says so", tasks[0]["domain"], json!("d1"));
    work.complete(&tasks[0]).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn the_first_active_one(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start_in("d1,d2").await?;
    same!(
        "none active: the last",
        domain(&work, &id).await?,
        json!("d2")
    );
    work.batch("domain=d2&count=1&timeout=1000").await?;
    visit(&work, "d1").await?;
    let id = work.start_in("d1,d2").await?;
    same!(
        "both active: the first",
        domain(&work, &id).await?,
        json!("d1")
    );
    let id = work.start_in("d3,d2").await?;
    same!(
        "only the second active",
        domain(&work, &id).await?,
        json!("d2")
    );
    Ok(())
}

async fn none_as_the_last_resort(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start_in("dz,NO_DOMAIN").await?;
    same!("domain", domain(&work, &id).await?, Value::Null);
    work.poll().await?;
    visit(&work, "dz").await?;
    let id = work.start_in("dz,NO_DOMAIN").await?;
    same!("active", domain(&work, &id).await?, json!("dz"));
    Ok(())
}

async fn everything(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let start = |domains: Value| {
        let request = json!({ "name": work.name, "taskToDomain": domains });
        let ctx = ctx.clone();
        async move { ctx.start(&request).await }
    };
    let id = start(json!({ "*": "d2" })).await?;
    same!("*", domain(&work, &id).await?, json!("d2"));
    let id = start(json!({ "*": "d2", &work.name: "d1" })).await?;
    same!("its own goes first", domain(&work, &id).await?, json!("d1"));
    Ok(())
}

async fn case_matters(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_in("Dom").await?;
    visit(&work, "dom").await?;
    let tasks = work.batch("domain=Dom&count=1&timeout=1000").await?;
    same!("tasks", tasks.len(), 1);
    Ok(())
}

async fn retries_stay(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_in("d1").await?;
    let tasks = work.batch("domain=d1&count=1&timeout=1000").await?;
    work.fail(&tasks[0]).await?;
    let again = work.batch("domain=d1&count=1&timeout=5000").await?;
    same!("tasks", again.len(), 1);
    same!("attempt", again[0]["retryCount"], json!(1));
    same!("domain", again[0]["domain"], json!("d1"));
    work.hand_back(&again[0], 0).await?;
    let again = work.batch("domain=d1&count=1&timeout=5000").await?;
    same!("handed back", again.len(), 1);
    Ok(())
}

/// A poll is written down when it ends: until then its domain counts as asleep.
async fn a_first_long_poll_is_not_seen(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let poll = work.batch("workerid=w&domain=d1&count=1&timeout=4000");
    let start = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let id = work.start_in("d1,NO_DOMAIN").await?;
        domain(&work, &id).await
    };
    let (polled, during) = futures::future::join(poll, start).await;
    same!("polled", polled?.len(), 0);
    same!("domain during the poll", during?, Value::Null);
    let id = work.start_in("d1,NO_DOMAIN").await?;
    same!("after it", domain(&work, &id).await?, json!("d1"));
    Ok(())
}

async fn inactive_after_ten_seconds(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    visit(&work, "d1").await?;
    let polled = ctx.client().poll_data(&work.name).await?[0].last_poll_time;
    // By the server's own times: how late a start is on a busy machine nobody knows. In
    // milliseconds after the poll.
    let mut awake = None;
    let asleep = eventually("it is asleep", Duration::from_secs(30), async || {
        let id = work.start_in("d1,NO_DOMAIN").await?;
        let workflow = ctx.workflow(&id).await?;
        let task = &workflow["tasks"][0];
        let after = |time: &Value| time.as_i64().unwrap_or_default() - polled;
        if task["domain"] == json!("d1") {
            let at = after(&workflow["createTime"]);
            awake = Some(at);
            anyhow::bail!("awake after {at} ms");
        }
        Ok(after(&task["scheduledTime"]))
    })
    .await?;
    anyhow::ensure!(
        awake.is_some_and(|at| at <= 10_000) && asleep > 9_000,
        "awake after {awake:?} ms, asleep after {asleep} ms"
    );
    Ok(())
}
