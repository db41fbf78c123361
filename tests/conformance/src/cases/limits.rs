//! `concurrentExecLimit` and `rateLimitPerFrequency`. Servers on `SQLite` count by whole seconds
//! and put tasks away for a minute that they should give out, so nothing is expected there but
//! that there are never too many.

use std::time::Duration;

use harness::eventually;
use serde_json::json;

use crate::{
    Ctx, Kind,
    suite::{EVERYWHERE, cases_on},
    work::SOON,
};

cases_on! {
    &[Kind::Embedded, Kind::EmbeddedSql, Kind::Redis, Kind::Postgres];
    no_more_than_the_limit, a_failure_frees_it_too, a_hand_back_frees_it_too;
    EVERYWHERE; never_more, rates;
}

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

async fn never_more(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "concurrentExecLimit": 2 })).await?;
    work.start_many(4).await?;
    let mut running = 0;
    for _ in 0..3 {
        running += work.batch("workerid=me&count=10&timeout=100").await?.len();
    }
    anyhow::ensure!(running <= 2, "{running} run");
    same!("the rest waits", work.size().await?, 4 - running as u64);
    Ok(())
}

/// Those on SQL ignore it. On Redis what is over it is put away for a minute, whatever the
/// window.
async fn rates(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "rateLimitPerFrequency": 2, "rateLimitFrequencyInSeconds": 2 });
    let work = ctx.work(def).await?;
    work.start_many(5).await?;
    let tasks = work.batch("workerid=me&count=10&timeout=500").await?;
    same!(
        "as the task says",
        (
            &tasks[0]["rateLimitPerFrequency"],
            &tasks[0]["rateLimitFrequencyInSeconds"]
        ),
        (&json!(2), &json!(2))
    );
    if ctx.kind.is_sql() {
        same!("all of them", tasks.len(), 5);
        return Ok(());
    }
    same!("so many", tasks.len(), 2);
    // A new one is let through once the window has passed; the others stay away.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    same!("put away", work.size().await?, 3);
    let id = work.start(json!("late")).await?;
    let tasks = work.batch("workerid=me&count=10&timeout=500").await?;
    same!("new ones", tasks.len(), 1);
    same!("workflow", tasks[0]["workflowInstanceId"], json!(id));
    Ok(())
}
