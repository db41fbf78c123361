//! `concurrentExecLimit`. Servers on `SQLite` count by whole seconds and put tasks away for a
//! minute that they should give out, so nothing is expected there.

use std::time::Duration;

use harness::eventually;
use serde_json::json;

use crate::{Ctx, Kind, suite::cases_on, work::SOON};

cases_on! { &[Kind::Embedded, Kind::Redis]; no_more_than_the_limit, a_failure_frees_it_too, a_hand_back_frees_it_too }

async fn no_more_than_the_limit(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "concurrentExecLimit": 2 })).await?;
    work.start_many(5).await?;
    let running = work.batch("workerid=me&count=10&timeout=1000").await?;
    same!("running", running.len(), 2);
    same!(
        "more",
        work.batch("workerid=me&count=10&timeout=500").await?.len(),
        0
    );
    same!("size counts what must wait", work.size().await?, 3);
    work.complete(&running[0]).await?;
    let next = eventually("one is let through", SOON, async || work.poll().await).await?;
    anyhow::ensure!(next["taskId"] != running[0]["taskId"]);
    same!(
        "and no more",
        work.batch("count=10&timeout=500").await?.len(),
        0
    );
    same!("size", work.size().await?, 2);
    Ok(())
}

async fn a_failure_frees_it_too(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx
        .work(json!({ "concurrentExecLimit": 1, "retryCount": 0 }))
        .await?;
    work.start_many(2).await?;
    let first = work.poll().await?;
    work.nothing().await?;
    work.fail(&first).await?;
    let second = work.poll_soon().await?;
    same!("attempt", second["retryCount"], json!(0));
    Ok(())
}

async fn a_hand_back_frees_it_too(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "concurrentExecLimit": 1 })).await?;
    work.start(json!(1)).await?;
    let first = work.poll().await?;
    work.hand_back(&first, 0).await?;
    let again = eventually("the same task", Duration::from_secs(10), async || {
        work.poll().await
    })
    .await?;
    same!("task", again["taskId"], first["taskId"]);
    Ok(())
}
