//! Task definitions.

use harness::unique;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Ctx, Work,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    defaults, unknown, posting_replaces, putting_keeps_create_time, rules, all_or_nothing,
    what_is_let_pass, a_slash_in_a_name, unreadable, deleting, running_workflows_keep_theirs,
}

const DEFS: &str = "/metadata/taskdefs";

async fn read(ctx: &Ctx, name: &str) -> anyhow::Result<Value> {
    Ok(ctx.get(&format!("{DEFS}/{name}")).await?.ok()?.json())
}

async fn defaults(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("min");
    let answer = ctx.post(DEFS, &json!([{ "name": name }])).await?.ok()?;
    same!("body", answer.text, "");
    let def = read(&ctx, &name).await?;
    for (field, expected) in [
        ("retryCount", json!(3)),
        ("timeoutSeconds", json!(0)),
        ("timeoutPolicy", json!("TIME_OUT_WF")),
        ("retryLogic", json!("FIXED")),
        ("retryDelaySeconds", json!(60)),
        ("responseTimeoutSeconds", json!(3600)),
        ("backoffScaleFactor", json!(1)),
        ("rateLimitPerFrequency", json!(0)),
        ("rateLimitFrequencyInSeconds", json!(1)),
        ("inputKeys", json!([])),
        ("inputTemplate", json!({})),
        ("pollTimeoutSeconds", Value::Null),
        ("concurrentExecLimit", Value::Null),
    ] {
        same!(field, def[field], expected);
    }
    let all = ctx.get(DEFS).await?.ok()?.json();
    let listed = all
        .as_array()
        .is_some_and(|a| a.iter().any(|d| d["name"] == json!(name)));
    anyhow::ensure!(listed, "{name} is not in the list");
    Ok(())
}

async fn unknown(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("nope");
    let get = ctx.get(&format!("{DEFS}/{name}")).await?;
    get.is_error(404, &format!("No such taskType found by name: {name}"))?;
    let put = ctx
        .send(Method::PUT, DEFS, &json!({ "name": name }))
        .await?;
    put.is_error(404, &format!("No such task by name {name}"))
}

async fn posting_replaces(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("twice");
    let def = json!([{ "name": name, "description": "first", "retryCount": 7 }]);
    ctx.post(DEFS, &def).await?.ok()?;
    let first = read(&ctx, &name).await?;
    ctx.send(Method::PUT, DEFS, &def[0]).await?.ok()?;
    ctx.post(DEFS, &json!([{ "name": name }])).await?.ok()?;
    let def = read(&ctx, &name).await?;
    same!("description", def["description"], Value::Null);
    same!("retryCount", def["retryCount"], json!(3));
    same!("updateTime", def["updateTime"], json!(0));
    same!("updatedBy", def["updatedBy"], Value::Null);
    anyhow::ensure!(
        def["createTime"].as_i64() > first["createTime"].as_i64(),
        "created anew: {} after {}",
        def["createTime"],
        first["createTime"]
    );
    Ok(())
}

async fn putting_keeps_create_time(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("put");
    ctx.post(DEFS, &json!([{ "name": name }])).await?.ok()?;
    let before = read(&ctx, &name).await?;
    let changed = json!({ "name": name, "retryCount": 1 });
    ctx.send(Method::PUT, DEFS, &changed).await?.ok()?;
    let after = read(&ctx, &name).await?;
    same!("createTime", after["createTime"], before["createTime"]);
    same!("retryCount", after["retryCount"], json!(1));
    anyhow::ensure!(
        after["updateTime"].as_i64() > Some(0),
        "updateTime: {after}"
    );
    Ok(())
}

async fn rules(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("bad");
    let bad = json!([{ "name": name, "responseTimeoutSeconds": 500, "timeoutSeconds": 100 }]);
    let late = format!(
        "TaskDef: {name} responseTimeoutSeconds: 500 must be less than timeoutSeconds: 100"
    );
    ctx.post(DEFS, &bad)
        .await?
        .is_invalid("registerTaskDef.arg0[0]", &late)?;
    ctx.send(Method::PUT, DEFS, &bad[0])
        .await?
        .is_invalid("updateTaskDef.arg0", &late)?;
    for (field, value, message) in [
        ("retryCount", -1, "TaskDef retryCount: 0 must be >= 0"),
        (
            "pollTimeoutSeconds",
            -1,
            "TaskDef pollTimeoutSeconds: 0 must be >= 0",
        ),
        (
            "totalTimeoutSeconds",
            -1,
            "TaskDef totalTimeoutSeconds: 0 must be >= 0",
        ),
        (
            "maxRetryDelaySeconds",
            -1,
            "TaskDef maxRetryDelaySeconds: 0 must be >= 0",
        ),
        (
            "backoffJitterMs",
            -1,
            "TaskDef backoffJitterMs: 0 must be >= 0",
        ),
        (
            "responseTimeoutSeconds",
            0,
            "TaskDef responseTimeoutSeconds: 0 should be minimum 1 second",
        ),
        (
            "backoffScaleFactor",
            0,
            "Backoff scale factor. Applicable for LINEAR_BACKOFF",
        ),
    ] {
        let answer = ctx
            .post(DEFS, &json!([{ "name": name, field: value }]))
            .await?;
        answer.is_invalid(&format!("registerTaskDef.arg0[0].{field}"), message)?;
        let invalid = answer.json()["validationErrors"][0]["invalidValue"].clone();
        same!("invalidValue", invalid, json!(value.to_string()));
    }
    for unnamed in [json!([{ "name": "" }]), json!([{}])] {
        let message = "TaskDef name cannot be null or empty";
        ctx.post(DEFS, &unnamed)
            .await?
            .is_invalid("registerTaskDef.arg0[0].name", message)?;
    }
    let none = ctx.post(DEFS, &json!([])).await?;
    none.is_error(400, "Validation failed")?;
    let over = json!([{ "name": name, "timeoutSeconds": 4000, "totalTimeoutSeconds": 3700 }]);
    let message = format!(
        "TaskDef: {name} timeoutSeconds: 4000 must be less than or equal to totalTimeoutSeconds: 3700"
    );
    ctx.post(DEFS, &over)
        .await?
        .is_invalid("registerTaskDef.arg0[0]", &message)?;
    ctx.get(&format!("{DEFS}/{name}"))
        .await?
        .is_error(404, "No such taskType")
}

async fn all_or_nothing(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("good");
    let defs = json!([{ "name": name }, { "name": "bad", "retryCount": -1 }]);
    let answer = ctx.post(DEFS, &defs).await?;
    answer.is_invalid(
        "registerTaskDef.arg0[1].retryCount",
        "TaskDef retryCount: 0 must be >= 0",
    )?;
    ctx.get(&format!("{DEFS}/{name}"))
        .await?
        .is_error(404, "No such taskType")
}

async fn what_is_let_pass(ctx: Ctx) -> anyhow::Result<()> {
    for fields in [
        json!({ "retryCount": 0 }),
        json!({ "retryCount": 50 }),
        json!({ "ownerEmail": "" }),
        json!({ "ownerEmail": "not-an-email" }),
        json!({ "concurrentExecLimit": -1 }),
        json!({ "whatever": { "x": 1 } }),
        json!({ "timeoutSeconds": "7200" }),
        json!({ "timeoutSeconds": null }),
    ] {
        let mut def = fields.clone();
        def["name"] = json!(unique("ok"));
        let answer = ctx.post(DEFS, &json!([def])).await?;
        same!(format!("{fields}: {}", answer.text), answer.status, 200);
    }
    let name = unique("bad:name with spaces");
    ctx.post(DEFS, &json!([{ "name": name }])).await?.ok()?;
    Ok(())
}

/// It can be registered and scheduled, and nobody can ever poll it.
async fn a_slash_in_a_name(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("a/b");
    ctx.post(DEFS, &json!([{ "name": name }])).await?.ok()?;
    let tasks = json!([{ "name": name, "taskReferenceName": "ref" }]);
    let workflow = unique("slash");
    ctx.define(&json!({ "name": workflow, "tasks": tasks }))
        .await?;
    ctx.start(&json!({ "name": workflow })).await?;
    let work = Work::new(ctx.clone(), name.replace('/', "%2F"));
    same!("size", work.size_of(&name).await?, 1);
    for path in ["/tasks/poll/", "/tasks/poll/batch/", "/metadata/taskdefs/"] {
        let answer = ctx.get(&format!("{path}{}", work.name)).await?;
        same!(path, answer.status, 400);
        says!(answer.kind, "text/html");
        says!(answer.text, "Bad Request");
    }
    for (path, status) in [
        ("/tasks/poll/", 405),
        ("/tasks/poll/batch/", 404),
        ("/metadata/taskdefs/", 404),
    ] {
        let answer = ctx.get(&format!("{path}{name}")).await?;
        answer.is_error(status, "")?;
    }
    Ok(())
}

async fn unreadable(ctx: Ctx) -> anyhow::Result<()> {
    let def = json!({ "name": unique("x") });
    let unknown_word = json!([{ "name": unique("x"), "retryLogic": "NEVER" }]);
    let json = "application/json";
    for (kind, body, message) in [
        (json, def.to_string(), "JSON parse error"),
        (json, "[{".to_owned(), "JSON parse error"),
        (json, unknown_word.to_string(), "JSON parse error"),
        (
            json,
            json!([{ "name": "x", "retryCount": "many" }]).to_string(),
            "JSON parse error",
        ),
        (
            "text/plain",
            json!([def]).to_string(),
            "Content-Type 'text/plain",
        ),
        (json, String::new(), "Required request body is missing"),
    ] {
        let answer = ctx.send_raw(Method::POST, DEFS, kind, body).await?;
        answer.is_error(500, message)?;
    }
    Ok(())
}

async fn deleting(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({})).await?;
    let path = format!("{DEFS}/{}", work.name);
    work.start_many(2).await?;
    ctx.call(Method::DELETE, &path).await?.ok()?;
    same!("what is queued stays", work.size().await?, 2);
    work.poll().await?;
    work.poll().await?;
    let again = ctx.call(Method::DELETE, &path).await?;
    let status = if ctx.kind.is_sql() { 500 } else { 404 };
    again.is_error(status, "o such task definition")
}

async fn running_workflows_keep_theirs(ctx: Ctx) -> anyhow::Result<()> {
    let work = ctx.work(json!({ "responseTimeoutSeconds": 100 })).await?;
    work.start(json!(1)).await?;
    let changed = json!([{ "name": work.name, "responseTimeoutSeconds": 50 }]);
    ctx.post(DEFS, &changed).await?.ok()?;
    let task = work.poll().await?;
    same!("lease", task["responseTimeoutSeconds"], json!(100));
    let embedded = &task["workflowTask"]["taskDefinition"];
    same!("embedded", embedded["responseTimeoutSeconds"], json!(100));
    work.start(json!(1)).await?;
    same!(
        "next",
        work.poll().await?["responseTimeoutSeconds"],
        json!(50)
    );
    Ok(())
}
