//! Polls that are not about filling batches.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use harness::eventually;
use serde_json::json;

use crate::{
    Ctx, Kind,
    suite::{EVERYWHERE, cases_on},
    work::SOON,
};

cases_on! { EVERYWHERE;
    single, an_empty_batch_waits, times, counts, negative_counts, large_counts, empty_domain, no_duplicates,
    priorities, starting_again_does_not_move_start_time, an_abandoned_poll_strands_its_task,
    an_abandoned_batch_strands_its_task,
}

async fn single(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("/tasks/poll/{}?workerid=w", work.name);
    let began = Instant::now();
    let empty = ctx.get(&path).await?;
    same!("empty", (empty.status, &*empty.text), (204, ""));
    let took = began.elapsed();
    anyhow::ensure!(took >= Duration::from_millis(80), "{took:?}");
    let id = work.start(json!(1)).await?;
    let task = ctx.get(&path).await?.ok()?.json();
    same!("workflow", task["workflowInstanceId"], json!(id));
    same!("worker", task["workerId"], json!("w"));
    // Without a worker's name there is none.
    work.start(json!(1)).await?;
    let task = ctx
        .get(&format!("/tasks/poll/{}", work.name))
        .await?
        .ok()?
        .json();
    same!("no worker", task["workerId"], json!(null));
    Ok(())
}

async fn an_empty_batch_waits(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for (millis, at_least) in [(0, 0), (1000, 900)] {
        let began = Instant::now();
        let tasks = work.batch(&format!("count=1&timeout={millis}")).await?;
        same!("tasks", tasks.len(), 0);
        let took = began.elapsed();
        anyhow::ensure!(
            took >= Duration::from_millis(at_least),
            "{millis} ms took {took:?}"
        );
    }
    Ok(())
}

async fn times(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("/tasks/poll/batch/{}", work.name);
    let long = ctx.get(&format!("{path}?timeout=5001")).await?;
    long.is_error(400, "Long Poll Timeout value cannot be more than 5 seconds")?;
    ctx.get(&format!("{path}?timeout=abc"))
        .await?
        .is_error(500, "abc")?;
    let negative = ctx.get(&format!("{path}?timeout=-1")).await?.ok()?;
    same!("negative", negative.text, "[]");
    let defaults = ctx.get(&path).await?.ok()?;
    same!("by default", defaults.text, "[]");
    Ok(())
}

async fn counts(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("/tasks/poll/batch/{}", work.name);
    ctx.get(&format!("{path}?count=abc"))
        .await?
        .is_error(500, "abc")?;
    work.start_many(2).await?;
    same!(
        "none wanted",
        work.batch("count=0&timeout=0").await?.len(),
        0
    );
    same!("one by default", work.batch("timeout=0").await?.len(), 1);
    Ok(())
}

/// `SQLite` takes a negative limit for none.
async fn negative_counts(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(3).await?;
    let all = matches!(ctx.kind, Kind::Sqlite | Kind::EmbeddedSql);
    let expected = if all { 3 } else { 0 };
    let tasks = work.batch("count=-1&timeout=0").await?;
    same!("tasks", tasks.len(), expected);
    Ok(())
}

async fn large_counts(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    same!("none", work.batch("count=5000&timeout=0").await?.len(), 0);
    work.start_many(3).await?;
    let tasks = work.batch("count=1000&timeout=0").await?;
    same!("all there are", tasks.len(), 3);
    Ok(())
}

async fn empty_domain(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start(json!(1)).await?;
    let tasks = work.batch("domain=&count=1&timeout=100").await?;
    same!("an empty domain is a domain", tasks.len(), 0);
    let single = ctx
        .get(&format!("/tasks/poll/{}?domain=", work.name))
        .await?;
    same!("in a single poll too", single.status, 204);
    let rows = ctx.client().poll_data(&work.name).await?;
    same!("its row", rows[0].domain.as_deref(), Some(""));
    Ok(())
}

async fn no_duplicates(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let total = if ctx.kind == Kind::Sqlite { 40 } else { 120 };
    work.start_many(total).await?;
    let pollers = (0..8).map(|_| async {
        let mut ids = Vec::new();
        loop {
            let tasks = work.batch("workerid=me&count=7&timeout=100").await?;
            if tasks.is_empty() {
                return anyhow::Ok(ids);
            }
            ids.extend(tasks.iter().map(|t| t["taskId"].to_string()));
        }
    });
    let mut seen = Vec::new();
    for ids in join_all(pollers).await {
        seen.extend(ids?);
    }
    same!("tasks", seen.len(), total);
    let distinct: HashSet<_> = seen.into_iter().collect();
    same!("different ones", distinct.len(), total);
    Ok(())
}

async fn priorities(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for priority in [0, 90, 50] {
        ctx.start(&json!({ "name": work.name, "priority": priority }))
            .await?;
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(work.poll().await?["workflowPriority"].clone());
    }
    let expected = match ctx.kind {
        // The higher the earlier.
        Kind::Sqlite | Kind::EmbeddedSql => json!([90, 50, 0]),
        // The priority is taken for the time when it is due: the lower the earlier, none last.
        Kind::Redis | Kind::Embedded => json!([50, 90, 0]),
        // By time, to the microsecond; the priority would decide between equals.
        Kind::Postgres => json!([0, 90, 50]),
    };
    same!("order", json!(order), expected);
    Ok(())
}

async fn starting_again_does_not_move_start_time(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, first) = work.start_and_poll().await?;
    work.hand_back(&first, 0).await?;
    let second = work.poll_soon().await?;
    for field in ["taskId", "startTime", "scheduledTime", "retryCount"] {
        same!(field, second[field], first[field]);
    }
    same!("pollCount", second["pollCount"], json!(2));
    Ok(())
}

/// Never cancel a poll: the server does not notice, and gives the task to nobody.
async fn an_abandoned_poll_strands_its_task(ctx: Ctx) -> anyhow::Result<()> {
    abandoned(ctx, 1).await
}

async fn an_abandoned_batch_strands_its_task(ctx: Ctx) -> anyhow::Result<()> {
    abandoned(ctx, 10).await
}

async fn abandoned(ctx: Ctx, count: usize) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("/tasks/poll/batch/{}?workerid=dead", work.name);
    let socket = ctx
        .open_get(&format!("{path}&count={count}&timeout=4000"))
        .await?;
    // The poll must have begun before it is given up; nothing tells when.
    tokio::time::sleep(Duration::from_millis(700)).await;
    drop(socket);
    let id = work.start(json!(1)).await?;
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await?;
    let task = ctx.workflow(&id).await?["tasks"][0].clone();
    same!("worker", task["workerId"], json!("dead"));
    eventually("it has left the queue", SOON, async || {
        match work.size().await? {
            0 => Ok(()),
            n => Err(anyhow::anyhow!("size {n}")),
        }
    })
    .await?;
    work.nothing().await
}
