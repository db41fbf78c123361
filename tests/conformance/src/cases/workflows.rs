//! Starting, watching and ending workflows.

use harness::unique;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Ctx, Work,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    a_sequence, output_parameters, expressions, input_templates, by_name, inline_definition,
    unknown, bad_requests, unregistered_task_type, terminating, terminating_what_has_ended, pausing,
    resuming_what_runs, status_only, what_a_task_looks_like, start_delay, optional_task,
    own_retries_of_a_step, workflow_timeout,
}

async fn a_sequence(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let task = |reference: &str, input: Value| json!({ "name": work.name, "taskReferenceName": reference, "inputParameters": input });
    let tasks = [
        task("one", json!({ "n": "${workflow.input.value}" })),
        task(
            "two",
            json!({ "of": "${one.output.list[1].x}", "all": "${one.output}" }),
        ),
    ];
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    let id = work.start(json!(5)).await?;
    let one = work.poll().await?;
    same!("first input", one["inputData"], json!({ "n": 5 }));
    same!("seq", one["seq"], json!(1));
    work.nothing().await?;
    let output = json!({ "list": [0, { "x": "y" }] });
    work.update(&one, json!({ "status": "COMPLETED", "outputData": output }))
        .await?;
    let two = work.poll_soon().await?;
    same!(
        "second input",
        two["inputData"],
        json!({ "of": "y", "all": output })
    );
    same!("seq", two["seq"], json!(2));
    let last = json!({ "status": "COMPLETED", "outputData": { "last": true } });
    work.update(&two, last).await?;
    let workflow = ctx.workflow(&id).await?;
    let executed = ["0", "1"].map(|n| workflow.pointer(&format!("/tasks/{n}/executed")).cloned());
    same!(
        "executed, but for the last",
        executed,
        [Some(json!(true)), Some(json!(false))]
    );
    same!("status", workflow["status"], json!("COMPLETED"));
    same!(
        "output is the last task's",
        workflow["output"],
        json!({ "last": true })
    );
    same!("input", workflow["input"], json!({ "value": 5 }));
    Ok(())
}

async fn output_parameters(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    ctx.define(&json!({
        "name": work.name,
        "tasks": [{ "name": work.name, "taskReferenceName": "ref" }],
        "outputParameters": { "x": "${ref.output.x}", "in": "${workflow.input.value}", "s": "${ref.status}" },
    }))
    .await?;
    let (id, task) = work.start_and_poll().await?;
    same!("no parameters, no input", task["inputData"], json!({}));
    let fields = json!({ "status": "COMPLETED", "outputData": { "x": [1], "y": 2 } });
    work.update(&task, fields).await?;
    let output = ctx.workflow(&id).await?["output"].clone();
    same!(
        "output",
        output,
        json!({ "x": [1], "in": 1, "s": "COMPLETED" })
    );
    Ok(())
}

async fn expressions(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    ctx.define(&json!({
        "name": work.name,
        "tasks": [{ "name": work.name, "taskReferenceName": "ref", "inputParameters": {
            "number": "${workflow.input.value.n}",
            "text": "n=${workflow.input.value.n}, s=${workflow.input.value.s}",
            "deep": { "list": ["${workflow.input.value.s}", 1, { "k": "${workflow.input.value.n}" }] },
            "missing_in_text": "<${workflow.input.nothing}>",
            "escaped": "$${workflow.input.value.s}",
            "name": "${workflow.workflowType}",
            "id": "${workflow.workflowId}",
            "plain": true,
        } }],
    }))
    .await?;
    let id = work.start(json!({ "n": 1.5, "s": "text" })).await?;
    let input = work.poll().await?["inputData"].clone();
    let expected = json!({
        "number": 1.5, "text": "n=1.5, s=text", "deep": { "list": ["text", 1, { "k": 1.5 }] },
        "missing_in_text": "<null>", "escaped": "${workflow.input.value.s}",
        "name": work.name, "id": id, "plain": true,
    });
    same!("input", input, expected);
    let work = ctx.work(json!({})).await?;
    let request = json!({ "name": work.name, "input": {} });
    ctx.start(&request).await?;
    same!(
        "nothing is null",
        work.poll().await?["inputData"]["value"],
        Value::Null
    );
    Ok(())
}

async fn input_templates(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx
        .work(json!({ "inputTemplate": { "value": "from template", "more": 2 } }))
        .await?;
    ctx.start(&json!({ "name": work.name })).await?;
    let expected = json!({ "value": "from template", "more": 2 });
    same!("task's template", work.poll().await?["inputData"], expected);
    work.start(json!("given")).await?;
    same!(
        "given",
        work.poll().await?["inputData"]["value"],
        json!("given")
    );
    ctx.define(&json!({
        "name": work.name,
        "tasks": [{ "name": work.name, "taskReferenceName": "ref",
            "inputParameters": { "value": "${workflow.input.value}" } }],
        "inputTemplate": { "value": "workflow's" },
    }))
    .await?;
    ctx.start(&json!({ "name": work.name, "input": { "other": 1 } }))
        .await?;
    same!(
        "workflow's",
        work.poll().await?["inputData"]["value"],
        json!("workflow's")
    );
    // Without any input it is lost.
    ctx.start(&json!({ "name": work.name })).await?;
    let value = work.poll().await?["inputData"]["value"].clone();
    same!("without input", value, json!("from template"));
    Ok(())
}

async fn by_name(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!(
        "/workflow/{}?version=1&correlationId=c&priority=7",
        work.name
    );
    let answer = ctx.post(&path, &json!({ "value": "v" })).await?.ok()?;
    says!(answer.kind, "text/plain");
    let task = work.poll().await?;
    same!("workflow", task["workflowInstanceId"], json!(answer.text));
    same!("input", task["inputData"], json!({ "value": "v" }));
    same!("correlation", task["correlationId"], json!("c"));
    same!("priority", task["workflowPriority"], json!(7));
    Ok(())
}

async fn inline_definition(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let name = unique("inline");
    let id = ctx
        .start(&json!({
            "name": name,
            "workflowDef": { "name": name, "version": 1, "schemaVersion": 2, "ownerEmail": "a@b.c",
                "timeoutSeconds": 0,
                "tasks": [{ "name": work.name, "taskReferenceName": "r", "type": "SIMPLE" }] },
        }))
        .await?;
    let task = work.poll().await?;
    same!("workflow", task["workflowInstanceId"], json!(id));
    same!("workflow type", task["workflowType"], json!(name));
    work.complete(&task).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED"]).await
}

async fn unknown(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("unknown");
    let start = ctx
        .post("/workflow", &json!({ "name": name, "version": 1 }))
        .await?;
    start.is_error(
        404,
        &format!("No such workflow defined. name={name}, version=1"),
    )?;
    let start = ctx.post("/workflow", &json!({ "name": name })).await?;
    start.is_error(404, &format!("No such workflow defined. name={name}"))?;
    let start = ctx.post(&format!("/workflow/{name}"), &json!({})).await?;
    start.is_error(404, &format!("No such workflow found by name: {name}"))?;
    for (method, path) in [
        (Method::GET, format!("/workflow/{name}")),
        (Method::GET, format!("/workflow/{name}/status")),
        (Method::DELETE, format!("/workflow/{name}")),
        (Method::PUT, format!("/workflow/decide/{name}")),
        (Method::PUT, format!("/workflow/{name}/pause")),
        (Method::PUT, format!("/workflow/{name}/resume")),
    ] {
        let answer = ctx.call(method, &path).await?;
        answer.is_error(404, &format!("No such workflow found by id: {name}"))?;
    }
    Ok(())
}

async fn bad_requests(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    ctx.post("/workflow", &json!({}))
        .await?
        .is_error(400, "Validation failed")?;
    let much = json!({ "name": work.name, "priority": 100 });
    ctx.post("/workflow", &much)
        .await?
        .is_error(400, "Validation failed")?;
    ctx.post("/workflow", &json!([]))
        .await?
        .is_error(500, "JSON parse error")?;
    let text = ctx
        .send_raw(Method::POST, "/workflow", "text/plain", "{}")
        .await?;
    text.is_error(500, "Content-Type 'text/plain")
}

async fn unregistered_task_type(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("unregistered");
    let tasks = json!([{ "name": name, "taskReferenceName": "a" }]);
    ctx.define(&json!({ "name": name, "tasks": tasks })).await?;
    ctx.start(&json!({ "name": name })).await?;
    let task = Work::new(ctx, name.clone()).poll().await?;
    same!("lease", task["responseTimeoutSeconds"], json!(3600));
    let def = &task["workflowTask"]["taskDefinition"];
    same!("retries", def["retryCount"], json!(3));
    same!("name", def["name"], json!(name));
    Ok(())
}

async fn terminating(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start(json!(1)).await?;
    let path = format!("/workflow/{id}?reason=because%20of%20me");
    ctx.call(Method::DELETE, &path).await?.ok()?;
    same!("queue", work.size().await?, 0);
    work.nothing().await?;
    let workflow = ctx.workflow(&id).await?;
    same!("status", workflow["status"], json!("TERMINATED"));
    same!(
        "reason",
        workflow["reasonForIncompletion"],
        json!("because of me")
    );
    same!("task", workflow["tasks"][0]["status"], json!("CANCELED"));
    // Again: nothing happens.
    ctx.call(Method::DELETE, &format!("/workflow/{id}"))
        .await?
        .ok()?;
    same!(
        "reason",
        ctx.workflow(&id).await?["reasonForIncompletion"],
        json!("because of me")
    );
    Ok(())
}

async fn terminating_what_has_ended(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    work.complete(&task).await?;
    let path = format!("/workflow/{id}");
    let answer = ctx.call(Method::DELETE, &path).await?;
    answer.is_error(409, "Cannot terminate a COMPLETED workflow.")?;
    let pause = ctx.call(Method::PUT, &format!("{path}/pause")).await?;
    pause.is_error(409, "has ended, status cannot be updated.")
}

async fn pausing(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let tasks: Vec<_> = ["a", "b"]
        .map(|r| json!({ "name": work.name, "taskReferenceName": r }))
        .into();
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    let id = work.start(json!(1)).await?;
    ctx.call(Method::PUT, &format!("/workflow/{id}/pause"))
        .await?
        .ok()?;
    ctx.call(Method::PUT, &format!("/workflow/{id}/pause"))
        .await?
        .ok()?;
    // What is scheduled is delivered and may be completed; what follows waits.
    let task = work.poll().await?;
    work.complete(&task).await?;
    work.reaches(&id, "PAUSED", &["COMPLETED"]).await?;
    work.nothing().await?;
    ctx.call(Method::PUT, &format!("/workflow/{id}/resume"))
        .await?
        .ok()?;
    let task = work.poll_soon().await?;
    work.complete(&task).await?;
    work.reaches(&id, "COMPLETED", &["COMPLETED", "COMPLETED"])
        .await
}

async fn resuming_what_runs(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let id = work.start(json!(1)).await?;
    let answer = ctx
        .call(Method::PUT, &format!("/workflow/{id}/resume"))
        .await?;
    let message =
        format!("The workflow {id} is not PAUSED so cannot resume. Current status is RUNNING");
    answer.is_error(500, &message)
}

async fn status_only(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, task) = work.start_and_poll().await?;
    let fields = json!({ "status": "COMPLETED", "outputData": { "x": 1 } });
    work.update(&task, fields).await?;
    let path = format!("/workflow/{id}/status");
    let status = ctx.get(&path).await?.ok()?.json();
    same!("status", status["status"], json!("COMPLETED"));
    same!("id", status["workflowId"], json!(id));
    let status = ctx
        .get(&format!("{path}?includeOutput=true"))
        .await?
        .ok()?
        .json();
    same!("output", status["output"], json!({ "x": 1 }));
    let bare = ctx
        .get(&format!("/workflow/{id}?includeTasks=false"))
        .await?
        .ok()?
        .json();
    same!("tasks left out", bare["tasks"], json!([]));
    Ok(())
}

async fn what_a_task_looks_like(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let (id, polled) = work.start_and_poll().await?;
    let workflow = ctx.workflow(&id).await?;
    for (field, expected) in [
        ("workflowId", json!(id)),
        ("workflowName", json!(work.name)),
        ("workflowVersion", json!(1)),
        ("status", json!("RUNNING")),
        ("output", json!({})),
        ("endTime", json!(0)),
        ("priority", json!(0)),
        ("variables", json!({})),
        ("taskToDomain", json!({})),
        ("failedReferenceTaskNames", json!([])),
        ("failedTaskNames", json!([])),
    ] {
        same!(field, workflow[field], expected);
    }
    let task = work.now(&polled).await?;
    for (field, expected) in [
        ("taskType", json!(work.name)),
        ("taskDefName", json!(work.name)),
        ("referenceTaskName", json!("ref")),
        ("status", json!("IN_PROGRESS")),
        ("retryCount", json!(0)),
        ("seq", json!(1)),
        ("pollCount", json!(1)),
        ("endTime", json!(0)),
        ("startDelayInSeconds", json!(0)),
        ("retried", json!(false)),
        ("executed", json!(false)),
        ("callbackFromWorker", json!(true)),
        ("workflowInstanceId", json!(id)),
        ("workflowType", json!(work.name)),
        ("callbackAfterSeconds", json!(0)),
        ("outputData", json!({})),
        ("workflowPriority", json!(0)),
        ("iteration", json!(0)),
        ("rateLimitPerFrequency", json!(0)),
        ("loopOverTask", json!(false)),
        ("firstStartTime", json!(0)),
        ("domain", Value::Null),
        ("reasonForIncompletion", Value::Null),
        ("retriedTaskId", Value::Null),
        ("externalInputPayloadStoragePath", Value::Null),
    ] {
        same!(field, task[field], expected);
        same!(format!("{field} as polled"), polled[field], expected);
    }
    same!(
        "definition",
        polled["workflowTask"]["taskDefinition"]["name"],
        json!(work.name)
    );
    same!(
        "definition again",
        polled["taskDefinition"]["name"],
        json!(work.name)
    );
    same!(
        "type in the workflow",
        polled["workflowTask"]["type"],
        json!("SIMPLE")
    );
    same!(
        "in the workflow",
        workflow["tasks"][0]["taskId"],
        polled["taskId"]
    );
    Ok(())
}

async fn start_delay(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let tasks = json!([{ "name": work.name, "taskReferenceName": "a", "startDelay": 2 }]);
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    work.start(json!(1)).await?;
    work.nothing().await?;
    same!("a delayed task counts", work.size().await?, 1);
    let task = work.poll_soon().await?;
    same!("delay", task["startDelayInSeconds"], json!(2));
    Ok(())
}

async fn optional_task(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 0 })).await?;
    let task = |reference: &str| json!({ "name": work.name, "taskReferenceName": reference, "optional": true });
    let tasks = [task("a"), task("b")];
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    let (id, task) = work.start_and_poll().await?;
    work.fail(&task).await?;
    let last = work.poll_soon().await?;
    work.fail(&last).await?;
    // What becomes of the last task is not written down.
    work.reaches(&id, "COMPLETED", &["COMPLETED_WITH_ERRORS", "FAILED"])
        .await
}

async fn own_retries_of_a_step(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "retryCount": 5 })).await?;
    let tasks = json!([{ "name": work.name, "taskReferenceName": "a", "retryCount": 0 }]);
    ctx.define(&json!({ "name": work.name, "tasks": tasks }))
        .await?;
    let (id, task) = work.start_and_poll().await?;
    work.fail(&task).await?;
    work.reaches(&id, "FAILED", &["FAILED"]).await
}

async fn workflow_timeout(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    ctx.define(&json!({
        "name": work.name, "timeoutSeconds": 1, "timeoutPolicy": "TIME_OUT_WF",
        "tasks": [{ "name": work.name, "taskReferenceName": "a" }],
    }))
    .await?;
    let id = work.start(json!(1)).await?;
    harness::eventually("the workflow times out", crate::work::SOON, async || {
        ctx.decide(&id).await?;
        let (status, tasks) = work.statuses(&id).await?;
        anyhow::ensure!(
            status == "TIMED_OUT" && tasks == ["CANCELED"],
            "{status} {tasks:?}"
        );
        Ok(())
    })
    .await?;
    let reason = ctx.workflow(&id).await?["reasonForIncompletion"].clone();
    says!(
        reason.as_str().unwrap_or_default(),
        "Timeout configured as 1 seconds"
    );
    same!("queue", work.size().await?, 0);
    Ok(())
}
