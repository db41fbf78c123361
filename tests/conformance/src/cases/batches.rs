//! Filling batches, which servers on SQL and on Redis do differently.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Ctx, Kind, Work, suite::cases_on};

cases_on! { &Kind::ALL; a_full_batch, a_partial_batch, one_arrives_while_one_is_wanted, one_arrives_while_many_are_wanted, a_hand_back_wakes_a_poll, held_tasks_are_nobody_elses }

const AT_ONCE: Duration = Duration::from_millis(2000);
const WAITED: Duration = Duration::from_millis(3500);

/// A poll that must wait does so; one that need not is quick at least once in a few times,
/// however busy the machine.
async fn check(
    waits: bool,
    mut poll: impl AsyncFnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let took = poll().await?;
        seen.push(took);
        if waits {
            anyhow::ensure!(took >= WAITED, "took only {took:?}");
            return Ok(());
        }
        if took < AT_ONCE {
            return Ok(());
        }
    }
    anyhow::bail!("never at once: {seen:?}")
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
    check(false, async || {
        work.start_many(4).await?;
        let began = Instant::now();
        let tasks = work.batch("workerid=me&count=4&timeout=4000").await?;
        same!("tasks", tasks.len(), 4);
        Ok(began.elapsed())
    })
    .await
}

async fn a_partial_batch(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    check(ctx.kind.is_sql(), async || {
        work.start_many(3).await?;
        let began = Instant::now();
        let tasks = work.batch("workerid=me&count=10&timeout=4000").await?;
        same!("tasks", tasks.len(), 3);
        Ok(began.elapsed())
    })
    .await
}

async fn one_arrives_while_one_is_wanted(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    check(false, async || {
        let (tasks, took) = arriving(&work, 1).await?;
        same!("tasks", tasks, 1);
        Ok(took)
    })
    .await
}

async fn one_arrives_while_many_are_wanted(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let waits = ctx.kind.is_sql();
    check(waits, async || {
        let began = Instant::now();
        let (tasks, took) = arriving(&work, 10).await?;
        same!("tasks", tasks, 1);
        // A poll that waits is seen from its own beginning.
        Ok(if waits { began.elapsed() } else { took })
    })
    .await
}

async fn a_hand_back_wakes_a_poll(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    check(false, async || {
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
        Ok(ended.saturating_duration_since(handed_back))
    })
    .await
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
    let size = u64::from(ctx.kind.is_sql());
    same!("others' tasks, and the size", other?, (0, size));
    same!(
        "worker",
        ctx.workflow(&id).await?["tasks"][0]["workerId"],
        json!("holder")
    );
    Ok(())
}
