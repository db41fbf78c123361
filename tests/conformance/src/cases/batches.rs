//! Filling batches, which servers on SQL and on Redis do differently.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Ctx, Kind, Work, suite::cases_on};

cases_on! { &Kind::ALL; a_full_batch, a_partial_batch, one_arrives_while_one_is_wanted, one_arrives_while_many_are_wanted, a_hand_back_wakes_a_poll, held_tasks_are_nobody_elses }

/// A poll that need not wait is far quicker than one that does, however busy the machine.
const AT_ONCE: Duration = Duration::from_millis(2500);
const WAITED: Duration = Duration::from_millis(3500);

fn check(ctx: &Ctx, waits: bool, took: Duration) -> anyhow::Result<()> {
    let ok = if waits {
        took >= WAITED
    } else {
        took < AT_ONCE
    };
    anyhow::ensure!(ok, "{}: took {took:?}, waits: {waits}", ctx.kind.as_str());
    Ok(())
}

/// Polls for 4 s and starts a workflow once that has begun; how many came, how long after the
/// start.
async fn arriving(work: &Work, count: u32) -> anyhow::Result<(usize, Duration)> {
    let parameters = format!("workerid=me&count={count}&timeout=4000");
    let poll = work.batch(&parameters);
    let start = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        work.start(json!(1)).await?;
        anyhow::Ok(Instant::now())
    };
    let timed = async {
        let tasks = poll.await?;
        anyhow::Ok((tasks.len(), Instant::now()))
    };
    let (polled, started) = futures::future::join(timed, start).await;
    let ((tasks, ended), started) = (polled?, started?);
    Ok((tasks, ended.saturating_duration_since(started)))
}

async fn a_full_batch(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(4).await?;
    let began = Instant::now();
    let tasks = work.batch("workerid=me&count=4&timeout=4000").await?;
    same!("tasks", tasks.len(), 4);
    check(&ctx, false, began.elapsed())
}

async fn a_partial_batch(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(3).await?;
    let began = Instant::now();
    let tasks = work.batch("workerid=me&count=10&timeout=4000").await?;
    same!("tasks", tasks.len(), 3);
    check(&ctx, ctx.kind.fills_batches(), began.elapsed())
}

async fn one_arrives_while_one_is_wanted(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (tasks, took) = arriving(&work, 1).await?;
    same!("tasks", tasks, 1);
    check(&ctx, false, took)
}

async fn one_arrives_while_many_are_wanted(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (tasks, took) = arriving(&work, 10).await?;
    same!("tasks", tasks, 1);
    // From the start of the task, which was after the poll's.
    let took = if ctx.kind.fills_batches() {
        took + Duration::from_secs(1)
    } else {
        took
    };
    check(&ctx, ctx.kind.fills_batches(), took)
}

async fn a_hand_back_wakes_a_poll(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let poll = async {
        let again = work.poll_within(5000).await?;
        anyhow::Ok((again, Instant::now()))
    };
    let hand_back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        work.hand_back(&task, 0).await?;
        anyhow::Ok(Instant::now())
    };
    let (polled, handed_back) = futures::future::join(poll, hand_back).await;
    let ((again, ended), handed_back) = (polled?, handed_back?);
    same!("task", again["taskId"], task["taskId"]);
    check(&ctx, false, ended.saturating_duration_since(handed_back))
}

/// What a poll that waits for more has in hand is waiting still, but nobody else gets it.
async fn held_tasks_are_nobody_elses(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start(json!(1)).await?;
    let holder = work.batch("workerid=holder&count=5&timeout=2500");
    let other = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let tasks = work.batch("workerid=other&count=1&timeout=0").await?;
        let size = work.size().await?;
        anyhow::Ok((tasks.len(), size))
    };
    let (held, other) = futures::future::join(holder, other).await;
    same!("held", held?.len(), 1);
    let size = u64::from(ctx.kind.fills_batches());
    same!("others' tasks, and the size", other?, (0, size));
    same!(
        "worker",
        ctx.workflow(&id).await?["tasks"][0]["workerId"],
        json!("holder")
    );
    Ok(())
}
