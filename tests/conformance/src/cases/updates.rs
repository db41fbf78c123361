//! What reports do.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    Answer, Ctx, Work,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    completed, terminal_error, canceled, handed_back, without_output_it_is_wiped, hidden_for_a_while,
    lenient, first_wins, many_at_once, after_termination, by_another_worker, of_another_workflow,
    never_polled, answer_is_plain_text, unknown_ids, missing_ids, bad_statuses, unreadable, compressed,
    version_two, version_two_after_failures, version_two_in_a_domain, version_two_mistakes,
}

async fn completed(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let output = json!({ "a": [1, { "b": null, "c": 1.5 }], "d": "ü" });
    work.update(
        &task,
        json!({ "status": "COMPLETED", "outputData": output }),
    )
    .await?;
    let workflow = ctx.workflow(&id).await?;
    same!("workflow", workflow["status"], json!("COMPLETED"));
    let task = &workflow["tasks"][0];
    same!("task", task["status"], json!("COMPLETED"));
    same!(
        "list and text",
        (&task["outputData"]["a"][0], &task["outputData"]["d"]),
        (&json!(1), &json!("ü"))
    );
    same!("number", task["outputData"]["a"][1]["c"], json!(1.5));
    anyhow::ensure!(task["endTime"].as_i64() > Some(0), "{task}");
    work.nothing().await
}

async fn terminal_error(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let fields =
        json!({ "status": "FAILED_WITH_TERMINAL_ERROR", "reasonForIncompletion": "never" });
    work.update(&task, fields).await?;
    work.reaches(&id, "FAILED", &["FAILED_WITH_TERMINAL_ERROR"])
        .await?;
    let workflow = ctx.workflow(&id).await?;
    let reason = workflow["reasonForIncompletion"]
        .as_str()
        .unwrap_or_default();
    let task_id = task["taskId"].as_str().unwrap_or_default();
    same!(
        "reason",
        reason,
        format!("Task {task_id} failed with status: FAILED and reason: 'never'")
    );
    same!(
        "failed",
        workflow["failedReferenceTaskNames"],
        json!(["ref"])
    );
    same!("failed", workflow["failedTaskNames"], json!([work.name]));
    Ok(())
}

async fn canceled(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    work.update(&task, json!({ "status": "CANCELED" })).await?;
    work.reaches(&id, "TERMINATED", &["CANCELED"]).await
}

async fn handed_back(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    same!("size while in progress", work.size().await?, 0);
    work.hand_back(&task, 0).await?;
    same!("size after", work.size().await?, 1);
    work.reaches(&id, "RUNNING", &["SCHEDULED"]).await?;
    let again = work.poll_soon().await?;
    same!("task", again["taskId"], task["taskId"]);
    work.complete(&again).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn without_output_it_is_wiped(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let fields = json!({ "status": "IN_PROGRESS", "outputData": { "ckpt": 1 } });
    work.update(&task, fields).await?;
    let task = work.poll_soon().await?;
    same!("kept", task["outputData"], json!({ "ckpt": 1 }));
    work.hand_back(&task, 0).await?;
    same!("wiped", work.poll_soon().await?["outputData"], json!({}));
    Ok(())
}

async fn hidden_for_a_while(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let began = Instant::now();
    work.hand_back(&task, 2).await?;
    same!("it counts meanwhile", work.size().await?, 1);
    work.nothing().await?;
    same!(
        "callback",
        work.now(&task).await?["callbackAfterSeconds"],
        json!(2)
    );
    let again = work.poll_soon().await?;
    let took = began.elapsed();
    same!("task", again["taskId"], task["taskId"]);
    same!("callback after", again["callbackAfterSeconds"], json!(0));
    anyhow::ensure!(
        took >= Duration::from_millis(1900),
        "already after {took:?}"
    );
    Ok(())
}

async fn lenient(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let fields = json!({ "status": "IN_PROGRESS", "callbackAfterSeconds": "0", "logs": null, "more": { "x": 1 },
        "extendLease": null, "reasonForIncompletion": null });
    work.update(&task, fields).await?;
    same!("task", work.poll_soon().await?["taskId"], task["taskId"]);
    Ok(())
}

async fn first_wins(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    for (n, status) in ["COMPLETED", "COMPLETED", "FAILED", "IN_PROGRESS"]
        .iter()
        .enumerate()
    {
        let fields = json!({ "status": status, "outputData": { "n": n } });
        work.update(&task, fields).await?;
    }
    let workflow = ctx.workflow(&id).await?;
    same!("workflow", workflow["status"], json!("COMPLETED"));
    same!("output", workflow["output"], json!({ "n": 0 }));
    same!("tasks", workflow["tasks"].as_array().map(Vec::len), Some(1));
    same!("size", work.size().await?, 0);
    Ok(())
}

async fn many_at_once(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let updates = (0..8).map(|n| {
        work.try_update(
            &task,
            json!({ "status": "COMPLETED", "outputData": { "n": n } }),
        )
    });
    for answer in join_all(updates).await {
        answer?.ok()?;
    }
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn after_termination(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    ctx.client().terminate_workflow(&id, "enough").await?;
    work.complete(&task).await?;
    work.hand_back(&task, 0).await?;
    work.reaches(&id, "TERMINATED", &["CANCELED"]).await?;
    work.nothing().await
}

async fn by_another_worker(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    work.update(&task, json!({ "status": "COMPLETED", "workerId": "other" }))
        .await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await?;
    same!("worker", work.now(&task).await?["workerId"], json!("other"));
    Ok(())
}

/// Ids must never be mixed: the task ends, and its workflow does not notice.
async fn of_another_workflow(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let other = work.start(json!(2)).await?;
    let fields = json!({ "status": "COMPLETED", "workflowInstanceId": other });
    work.update(&task, fields).await?;
    same!("task", work.now(&task).await?["status"], json!("COMPLETED"));
    same!("its workflow", work.statuses(&id).await?.0, "RUNNING");
    same!(
        "the other",
        work.statuses(&other).await?,
        ("RUNNING".to_owned(), vec!["SCHEDULED".to_owned()])
    );
    ctx.decide(&id).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn never_polled(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start(json!(1)).await?;
    let task = ctx.workflow(&id).await?["tasks"][0].clone();
    same!("scheduled", task["status"], json!("SCHEDULED"));
    same!("polls", task["pollCount"], json!(0));
    work.complete(&task).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await?;
    same!("size", work.size().await?, 0);
    work.nothing().await
}

async fn answer_is_plain_text(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let answer = work
        .try_update(&task, json!({ "status": "COMPLETED" }))
        .await?
        .ok()?;
    same!("type", answer.kind, "text/plain;charset=UTF-8");
    same!("id", json!(answer.text), task["taskId"]);
    Ok(())
}

async fn unknown_ids(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let update = |fields: Value| {
        let (work, task) = (work.clone(), task.clone());
        async move { work.try_update(&task, fields).await }
    };
    let answer = update(json!({ "status": "COMPLETED", "taskId": "nope" })).await?;
    answer.is_error(404, "No such task found by id: nope")?;
    let answer = update(json!({ "status": "COMPLETED", "workflowInstanceId": "nope" })).await?;
    answer.is_error(404, "No such workflow found by id: nope")?;
    let answer = update(json!({ "extendLease": true, "taskId": "nope" })).await?;
    answer.is_error(404, "No such task found by id: nope")?;
    ctx.get("/tasks/nope")
        .await?
        .is_error(404, "Task not found for taskId: nope")
}

async fn missing_ids(ctx: Ctx) -> anyhow::Result<()> {
    let task_id = ("updateTask.arg0.taskId", "Task ID cannot be null or empty");
    let workflow_id = (
        "updateTask.arg0.workflowInstanceId",
        "Workflow Id cannot be null or empty",
    );
    for (body, (path, message)) in [
        (
            json!({ "workflowInstanceId": "x", "status": "COMPLETED" }),
            task_id,
        ),
        (
            json!({ "workflowInstanceId": "x", "taskId": "", "status": "COMPLETED" }),
            task_id,
        ),
        (json!({ "taskId": "x", "status": "COMPLETED" }), workflow_id),
        (
            json!({ "workflowInstanceId": "x", "extendLease": true }),
            task_id,
        ),
    ] {
        ctx.post("/tasks", &body).await?.is_invalid(path, message)?;
    }
    ctx.post("/tasks", &json!({}))
        .await?
        .is_error(400, "Validation failed")
}

async fn bad_statuses(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    for fields in [
        json!({}),
        json!({ "status": null }),
        json!({ "status": "DONE" }),
        json!({ "status": "completed" }),
        json!({ "status": "SCHEDULED" }),
        json!({ "status": "TIMED_OUT" }),
    ] {
        let answer = work.try_update(&task, fields.clone()).await?;
        same!(format!("{fields}: {}", answer.text), answer.status, 500);
        same!("retryable", answer.json()["retryable"], json!(false));
    }
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await
}

async fn unreadable(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    for body in ["{", "", "null", "[]", "\u{1f}\u{8b}\u{8}"] {
        for path in ["/tasks", "/tasks/update-v2"] {
            let answer = ctx
                .send_raw(reqwest::Method::POST, path, "application/json", body)
                .await?;
            answer.is_error(500, "")?;
        }
    }
    let answer = work
        .try_update(&task, json!({ "status": "COMPLETED", "outputData": [1] }))
        .await?;
    answer.is_error(500, "JSON parse error")?;
    let text = ctx
        .send_raw(reqwest::Method::POST, "/tasks", "text/plain", "{}")
        .await?;
    text.is_error(500, "is not supported")?;
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await
}

/// Bodies cannot be compressed, nor are answers.
async fn compressed(ctx: Ctx) -> anyhow::Result<()> {
    // `{}` by gzip.
    const BODY: [u8; 22] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0,
    ];
    let http = reqwest::Client::new();
    let request = http
        .post(ctx.url("/tasks"))
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(BODY.to_vec());
    ctx.request(request)
        .await?
        .is_error(500, "JSON parse error")?;
    let request = http
        .get(ctx.url("/metadata/taskdefs"))
        .header("accept-encoding", "gzip, deflate, br");
    let response = request.send().await?;
    same!("status", response.status().as_u16(), 200);
    let encoding = response.headers().get("content-encoding");
    same!("encoding", encoding, None);
    Ok(())
}

/// Reports by `update-v2`, as the worker `v2`.
async fn update_v2(ctx: &Ctx, task: &Value, fields: Value) -> anyhow::Result<Answer> {
    let mut body = json!({ "workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"], "workerId": "v2" });
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    ctx.post("/tasks/update-v2", &body).await
}

async fn version_two(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    work.start_many(3).await?;
    let task = work.poll().await?;
    let next = update_v2(&ctx, &task, json!({ "status": "COMPLETED" }))
        .await?
        .ok()?
        .json();
    same!("next one's worker", next["workerId"], json!("v2"));
    anyhow::ensure!(next["taskId"] != task["taskId"]);
    let lease = update_v2(&ctx, &next, json!({ "extendLease": true })).await?;
    same!("a lease brings nothing", lease.status, 204);
    let back = update_v2(
        &ctx,
        &next,
        json!({ "status": "IN_PROGRESS", "callbackAfterSeconds": 60 }),
    )
    .await?;
    same!("handing back brings nothing", back.status, 204);
    let again = update_v2(&ctx, &task, json!({ "status": "COMPLETED" }))
        .await?
        .ok()?
        .json();
    anyhow::ensure!(
        again["taskId"] != next["taskId"],
        "after an ended task it still polls"
    );
    let began = Instant::now();
    let none = update_v2(&ctx, &again, json!({ "status": "COMPLETED" })).await?;
    same!("empty", (none.status, &*none.text), (204, ""));
    let took = began.elapsed();
    anyhow::ensure!(
        took >= Duration::from_millis(80),
        "an empty queue is waited at; {took:?}"
    );
    Ok(())
}

async fn version_two_after_failures(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 0 })).await?;
    work.start_many(3).await?;
    let first = work.poll().await?;
    let fields = json!({ "status": "FAILED", "workerId": null });
    let second = update_v2(&ctx, &first, fields).await?.ok()?.json();
    anyhow::ensure!(second["taskId"] != first["taskId"], "{second}");
    same!("nobody is its worker", second["workerId"], Value::Null);
    let fields = json!({ "status": "FAILED_WITH_TERMINAL_ERROR" });
    let third = update_v2(&ctx, &second, fields).await?.ok()?.json();
    same!("worker", third["workerId"], json!("v2"));
    same!("polls", third["pollCount"], json!(1));
    Ok(())
}

/// It polls where the task came from.
async fn version_two_in_a_domain(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for domain in ["d1", "d1", "d2"] {
        work.start_in(domain).await?;
    }
    work.start(json!(1)).await?;
    let first = work.batch("domain=d1&count=1&timeout=1000").await?;
    same!("first", first.len(), 1);
    let completed = json!({ "status": "COMPLETED" });
    let second = update_v2(&ctx, &first[0], completed.clone()).await?;
    let second = second.ok()?.json();
    same!("domain", second["domain"], json!("d1"));
    let none = update_v2(&ctx, &second, completed).await?;
    same!("nothing else is there", none.status, 204);
    Ok(())
}

async fn version_two_mistakes(ctx: Ctx) -> anyhow::Result<()> {
    let work: Work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let missing = json!({ "workflowInstanceId": "x", "status": "COMPLETED" });
    ctx.post("/tasks/update-v2", &missing)
        .await?
        .is_error(500, "")?;
    let mut unknown = json!({ "workflowInstanceId": task["workflowInstanceId"], "taskId": "nope", "status": "COMPLETED" });
    ctx.post("/tasks/update-v2", &unknown)
        .await?
        .is_error(404, "No such task found by id: nope")?;
    unknown["taskId"] = task["taskId"].clone();
    unknown["status"] = json!("DONE");
    ctx.post("/tasks/update-v2", &unknown)
        .await?
        .is_error(500, "JSON parse error")?;
    Ok(())
}
