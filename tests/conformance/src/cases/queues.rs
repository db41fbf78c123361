//! What there is to know about queues.

use std::time::Duration;

use harness::{eventually, unique};
use serde_json::json;

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    a_size_through_a_life, sizes, mistakes, all, all_verbose, poll_data, poll_data_of_a_running_poll,
    all_poll_data, requeue,
}

async fn a_size_through_a_life(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(5).await?;
    same!("started", work.size().await?, 5);
    let (first, second) = (work.poll().await?, work.poll().await?);
    same!("in progress is not counted", work.size().await?, 3);
    work.complete(&first).await?;
    same!("completed", work.size().await?, 3);
    work.hand_back(&second, 30).await?;
    same!("delayed is counted", work.size().await?, 4);
    same!(
        "polled",
        work.batch("workerid=me&count=3&timeout=1000").await?.len(),
        3
    );
    same!("only the delayed one", work.size().await?, 1);
    work.nothing().await
}

async fn sizes(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let nobody = unique("nobody");
    work.start(json!(1)).await?;
    work.start_in("dom").await?;
    let name = &work.name;
    let path = format!("/tasks/queue/sizes?taskType={name}&taskType=dom:{name}&taskType={nobody}");
    let sizes = ctx.get(&path).await?.ok()?.json();
    let in_domain = format!("dom:{name}");
    same!("sizes", sizes, json!({ name: 1, in_domain: 1, &nobody: 0 }));
    for (parameters, expected) in [
        ("taskType=".to_owned(), "0"),
        (format!("taskType={name}"), "1"),
        (format!("taskType={name}&domain="), "1"),
        (format!("taskType={name}&domain=dom"), "1"),
        (format!("taskType={name}&domain=other"), "0"),
        (format!("taskType={nobody}"), "0"),
    ] {
        let answer = ctx
            .get(&format!("/tasks/queue/size?{parameters}"))
            .await?
            .ok()?;
        same!(parameters, answer.text, expected);
    }
    Ok(())
}

async fn mistakes(ctx: Ctx) -> anyhow::Result<()> {
    for path in [
        "/tasks/queue/size",
        "/tasks/queue/sizes",
        "/tasks/queue/polldata",
    ] {
        ctx.get(path).await?.is_error(500, "")?;
    }
    Ok(())
}

async fn all(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(2).await?;
    work.start_in("dom").await?;
    let all = ctx.get("/tasks/queue/all").await?.ok()?.json();
    same!("default", all[&work.name], json!(2));
    same!("in a domain", all[format!("dom:{}", work.name)], json!(1));
    let (one, other) = (work.poll().await?, work.poll().await?);
    work.hand_back(&one, 60).await?;
    let all = ctx.get("/tasks/queue/all").await?.ok()?.json();
    same!("delayed is counted", all[&work.name], json!(1));
    work.complete(&one).await?;
    work.complete(&other).await?;
    let all = ctx.get("/tasks/queue/all").await?.ok()?.json();
    same!("empty ones stay", all[&work.name], json!(0));
    Ok(())
}

async fn all_verbose(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start(json!(1)).await?;
    let answer = ctx.get("/tasks/queue/all/verbose").await?;
    if !ctx.kind.is_sql() {
        return answer.is_error(500, "Null key for a Map not allowed in JSON");
    }
    let all = answer.ok()?.json();
    same!(
        "queue",
        all[&work.name],
        json!({ "a": { "size": 1, "uacked": 0 } })
    );
    Ok(())
}

async fn poll_data(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("/tasks/queue/polldata?taskType={}", work.name);
    same!("nobody", ctx.get(&path).await?.ok()?.text, "[]");
    for parameters in [
        "workerid=w1",
        "workerid=w2",
        "workerid=w3&domain=dX",
        "domain=dY",
    ] {
        work.batch(&format!("{parameters}&count=1&timeout=0"))
            .await?;
    }
    let mut rows = ctx
        .get(&path)
        .await?
        .ok()?
        .json()
        .as_array()
        .cloned()
        .unwrap_or_default();
    rows.sort_by_key(|r| r["domain"].as_str().unwrap_or_default().to_owned());
    for row in &mut rows {
        anyhow::ensure!(row["lastPollTime"].as_i64() > Some(0), "{row}");
        row["lastPollTime"] = json!(1);
    }
    let name = &work.name;
    let expected = json!([
        { "queueName": name, "workerId": "w2", "lastPollTime": 1 },
        { "queueName": name, "domain": "dX", "workerId": "w3", "lastPollTime": 1 },
        { "queueName": name, "domain": "dY", "lastPollTime": 1 },
    ]);
    same!("the last of each domain", json!(rows), expected);
    Ok(())
}

/// A poll is written down when it ends.
async fn poll_data_of_a_running_poll(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let poll = work.batch("workerid=w&count=1&timeout=3000");
    let look = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        ctx.client().poll_data(&work.name).await
    };
    let (polled, during) = futures::future::join(poll, look).await;
    same!("tasks", polled?.len(), 0);
    same!("rows during the poll", during?.len(), 0);
    same!(
        "rows after it",
        ctx.client().poll_data(&work.name).await?.len(),
        1
    );
    Ok(())
}

async fn all_poll_data(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.batch("workerid=w&count=1&timeout=0").await?;
    let rows = ctx.get("/tasks/queue/polldata/all").await?.ok()?.json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let mut ours = rows.iter().filter(|r| r["queueName"] == json!(work.name));
    same!(
        "worker",
        ours.next().map(|r| r["workerId"].clone()),
        Some(json!("w"))
    );
    same!("another row", ours.next(), None);
    Ok(())
}

/// What is in progress comes a second time: a duplicate.
async fn requeue(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let path = format!("/tasks/queue/requeue/{}", work.name);
    let answer = ctx.post(&path, &json!({})).await?.ok()?;
    says!(answer.kind, "text/plain");
    same!("count", answer.text, "1");
    let again = eventually("the task again", crate::work::SOON, async || {
        work.poll().await
    })
    .await?;
    same!("task", again["taskId"], task["taskId"]);
    same!("polls", again["pollCount"], json!(2));
    let nobody = format!("/tasks/queue/requeue/{}", unique("nobody"));
    let answer = ctx.post(&nobody, &json!({})).await?.ok()?;
    same!("of nobody", answer.text, "0");
    Ok(())
}
