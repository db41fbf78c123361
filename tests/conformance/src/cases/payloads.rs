//! Large inputs and outputs.

use serde_json::{Value, json};

use crate::{
    Ctx, Work,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    outputs, outputs_stored_outside, outputs_above_the_limit, a_checkpoint_stored_outside,
    inputs, inputs_stored_outside, an_input_above_the_limit, where_they_are, a_text_too_long,
    a_text_far_too_long,
}

/// Of a task, from this many bytes on, with all its JSON.
const OUTSIDE: usize = 3072 * 1024;
const LIMIT: usize = 10_240 * 1024;

/// `{"value":"…"}` of so many bytes.
fn object(size: usize) -> Value {
    json!({ "value": "x".repeat(size - r#"{"value":""}"#.len()) })
}

async fn completed_with(work: &Work, output: &Value) -> anyhow::Result<(String, Value)> {
    let (id, task) = work.start_and_poll().await?;
    work.update(
        &task,
        json!({ "status": "COMPLETED", "outputData": output }),
    )
    .await?;
    Ok((id, work.now(&task).await?))
}

/// The path of what is not shown.
fn path(task: &Value, shown: &str, path: &str) -> anyhow::Result<String> {
    same!(shown, task[shown], json!({}));
    let path = task[path].as_str().unwrap_or_default().to_owned();
    says!(path, ".json");
    Ok(path)
}

async fn outputs(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let output = object(OUTSIDE);
    let (_, task) = completed_with(&work, &output).await?;
    same!("status", task["status"], json!("COMPLETED"));
    same!("shown", task["outputData"] == output, true);
    same!(
        "path",
        task["externalOutputPayloadStoragePath"],
        json!(null)
    );
    Ok(())
}

async fn outputs_stored_outside(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for (size, also_the_workflows) in [(OUTSIDE + 1, false), (9 << 20, true)] {
        let output = object(size);
        let (id, task) = completed_with(&work, &output).await?;
        same!("status", task["status"], json!("COMPLETED"));
        path(&task, "outputData", "externalOutputPayloadStoragePath")?;
        let workflow = ctx.workflow(&id).await?;
        same!("workflow", workflow["status"], json!("COMPLETED"));
        if also_the_workflows {
            path(&workflow, "output", "externalOutputPayloadStoragePath")?;
        } else {
            same!("its output is shown", workflow["output"] == output, true);
        }
    }
    Ok(())
}

async fn outputs_above_the_limit(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for (status, size) in [("COMPLETED", LIMIT + 1), ("IN_PROGRESS", 30 << 20)] {
        let (id, task) = work.start_and_poll().await?;
        // Not one text: that would be another mistake.
        let half = size / 2 - 2;
        let output = json!({ "a": "x".repeat(half), "b": "x".repeat(half) });
        let size = output.to_string().len();
        work.update(&task, json!({ "status": status, "outputData": output }))
            .await?;
        work.reaches(&id, "FAILED", &["FAILED_WITH_TERMINAL_ERROR"])
            .await?;
        let task = work.now(&task).await?;
        let reason = task["reasonForIncompletion"].as_str().unwrap_or_default();
        says!(reason, &format!("The payload size: {size} of task"));
        says!(
            reason,
            "is greater than the permissible limit: 10485760 bytes"
        );
        same!("output", task["outputData"], json!({}));
        same!("size", work.size().await?, 0);
    }
    Ok(())
}

/// Handed back with much output: the next one gets a path.
async fn a_checkpoint_stored_outside(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (_, task) = work.start_and_poll().await?;
    let fields = json!({ "status": "IN_PROGRESS", "outputData": object(4 << 20) });
    work.update(&task, fields).await?;
    let again = work.poll_soon().await?;
    same!("task", again["taskId"], task["taskId"]);
    path(&again, "outputData", "externalOutputPayloadStoragePath").map(drop)
}

async fn inputs(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let input = object(OUTSIDE);
    work.start(input["value"].clone()).await?;
    let task = work.poll().await?;
    same!("shown", task["inputData"] == input, true);
    same!("path", task["externalInputPayloadStoragePath"], json!(null));
    Ok(())
}

async fn inputs_stored_outside(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    for (size, also_the_workflows) in [(OUTSIDE + 1, false), (6 << 20, true)] {
        let input = object(size);
        let id = work.start(input["value"].clone()).await?;
        let task = work.poll().await?;
        let stored = path(&task, "inputData", "externalInputPayloadStoragePath")?;
        let workflow = ctx.workflow(&id).await?;
        if also_the_workflows {
            path(&workflow, "input", "externalInputPayloadStoragePath")?;
        } else {
            same!("its input is shown", workflow["input"] == input, true);
        }
        work.fail(&task).await?;
        let again = work.poll_soon().await?;
        let of_the_next = path(&again, "inputData", "externalInputPayloadStoragePath")?;
        same!("a further attempt has the same", of_the_next, stored);
        work.complete(&again).await?;
        work.reaches(&id, "COMPLETED", &["FAILED", "COMPLETED"])
            .await?;
    }
    // What one task put outside another gets from there.
    let task = |reference: &str, input: Value| json!({ "name": work.name, "taskReferenceName": reference, "inputParameters": input });
    let tasks = [
        task("one", json!({})),
        task("two", json!({ "size": "${one.output.size}" })),
        task("three", json!({ "all": "${one.output}" })),
    ];
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    let mut output = object(4 << 20);
    output["size"] = json!(4);
    completed_with(&work, &output).await?;
    let two = work.poll_soon().await?;
    same!("a part of it", two["inputData"], json!({ "size": 4 }));
    work.complete(&two).await?;
    let three = work.poll_soon().await?;
    path(&three, "inputData", "externalInputPayloadStoragePath").map(drop)
}

async fn an_input_above_the_limit(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let input = object(LIMIT + 1);
    let request = json!({ "name": work.name, "input": input });
    let answer = ctx.post("/workflow", &request).await?;
    answer.is_error(500, "The payload size: 10485761 of workflow: ")?;
    same!("size", work.size().await?, 0);
    Ok(())
}

/// Without a storage of its own a server names a path, and no address to fetch it from.
async fn where_they_are(ctx: Ctx) -> anyhow::Result<()> {
    for name in ["externalstoragelocation", "external-storage-location"] {
        for (operation, payload) in [("READ", "TASK_INPUT"), ("write", "task_output")] {
            let query = format!("path=p.json&operation={operation}&payloadType={payload}");
            let answer = ctx.get(&format!("/tasks/{name}?{query}")).await?.ok()?;
            let location = answer.json();
            same!("address", location["uri"], json!(null));
            let path = location["path"].as_str().unwrap_or_default();
            anyhow::ensure!(path.starts_with("p.json") && path != "p.json", "{path}");
        }
    }
    for query in [
        "path=p&operation=NOPE&payloadType=TASK_INPUT",
        "path=p&operation=READ&payloadType=NOPE",
    ] {
        let answer = ctx
            .get(&format!("/tasks/externalstoragelocation?{query}"))
            .await?;
        answer.is_error(400, "Invalid input - Operation: ")?;
    }
    for query in ["operation=READ&payloadType=TASK_INPUT", "path=p", ""] {
        let answer = ctx
            .get(&format!("/tasks/externalstoragelocation?{query}"))
            .await?;
        answer.is_error(500, "Required request parameter")?;
    }
    Ok(())
}

/// Conductor's reader of JSON takes no single text above 20,000,000 characters.
async fn a_text_too_long(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let output = json!({ "a": "x".repeat(20_000_001) });
    let fields = json!({ "status": "COMPLETED", "outputData": output });
    let answer = work.try_update(&task, fields).await?;
    answer.is_error(500, "String value length (20000001) exceeds the maximum")?;
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await?;
    work.complete(&task).await
}

/// Far above, the connection closes while the body is sent: there may be no answer. A client
/// that took that for an accident would send it for ever.
async fn a_text_far_too_long(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let output = json!({ "a": "x".repeat(30 << 20) });
    let fields = json!({ "status": "COMPLETED", "outputData": output });
    match work.try_update(&task, fields).await {
        Ok(answer) => answer.is_error(500, "exceeds the maximum allowed (20000000")?,
        Err(error) => {
            let error = error.downcast::<reqwest::Error>()?;
            anyhow::ensure!(error.is_request(), "{error:?}");
        }
    }
    work.reaches(&id, "RUNNING", &["IN_PROGRESS"]).await
}
