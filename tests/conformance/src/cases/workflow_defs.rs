//! Workflow definitions.

use harness::unique;
use reqwest::Method;
use serde_json::json;

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE; posting_twice_is_a_conflict, putting_replaces, unknown, rules }

const DEFS: &str = "/metadata/workflow";

fn simple(name: &str) -> serde_json::Value {
    json!({
        "name": name, "version": 1, "schemaVersion": 2, "timeoutSeconds": 0, "ownerEmail": "a@b.c",
        "tasks": [{ "name": name, "taskReferenceName": "a", "type": "SIMPLE" }],
    })
}

async fn posting_twice_is_a_conflict(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("wf");
    ctx.post(DEFS, &simple(&name)).await?.ok()?;
    let again = ctx.post(DEFS, &simple(&name)).await?;
    again.is_error(409, &format!("Workflow with {name}.1 already exists!"))?;
    let path = format!("{DEFS}?overwrite=true");
    ctx.post(&path, &simple(&name)).await?.ok()?;
    Ok(())
}

async fn putting_replaces(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("wf");
    let mut def = simple(&name);
    for reference in ["first", "second"] {
        def["tasks"][0]["taskReferenceName"] = json!(reference);
        let answer = ctx.send(Method::PUT, DEFS, &json!([def])).await?.ok()?;
        let expected = json!({ "bulkErrorResults": {}, "bulkSuccessfulResults": [name] });
        same!("answer", answer.json(), expected);
    }
    let read = ctx.get(&format!("{DEFS}/{name}")).await?.ok()?.json();
    same!(
        "reference",
        read["tasks"][0]["taskReferenceName"],
        json!("second")
    );
    same!("version", read["version"], json!(1));
    def["version"] = json!(2);
    ctx.send(Method::PUT, DEFS, &json!([def])).await?.ok()?;
    let read = ctx.get(&format!("{DEFS}/{name}")).await?.ok()?.json();
    same!("latest version", read["version"], json!(2));
    let read = ctx
        .get(&format!("{DEFS}/{name}?version=1"))
        .await?
        .ok()?
        .json();
    same!("version asked for", read["version"], json!(1));
    ctx.call(Method::DELETE, &format!("{DEFS}/{name}/2"))
        .await?
        .ok()?;
    let read = ctx.get(&format!("{DEFS}/{name}")).await?.ok()?.json();
    same!("latest after a deletion", read["version"], json!(1));
    Ok(())
}

async fn unknown(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("nope");
    let message = format!("No such workflow found by name: {name}");
    ctx.get(&format!("{DEFS}/{name}"))
        .await?
        .is_error(404, &message)?;
    let gone = ctx
        .call(Method::DELETE, &format!("{DEFS}/{name}/1"))
        .await?;
    let status = if ctx.kind.is_sql() { 500 } else { 404 };
    gone.is_error(
        status,
        &format!("o such workflow definition: {name} version: 1"),
    )
}

async fn rules(ctx: Ctx) -> anyhow::Result<()> {
    let mut twice = simple(&unique("wf"));
    twice["tasks"] = json!([twice["tasks"][0], twice["tasks"][0]]);
    let answer = ctx.post(DEFS, &twice).await?;
    answer.is_error(400, "Validation failed")?;
    says!(answer.text, "should be unique across tasks");
    let mut empty = simple(&unique("wf"));
    empty["tasks"] = json!([]);
    let answer = ctx.post(DEFS, &empty).await?;
    answer.is_error(400, "Validation failed")?;
    says!(answer.text, "WorkflowTask list cannot be empty");
    // What the embedded one does not run it refuses by name.
    let mut http = simple(&unique("wf"));
    http["tasks"][0]["type"] = json!("INLINE");
    http["tasks"][0]["inputParameters"] =
        json!({ "evaluatorType": "javascript", "expression": "1" });
    let answer = ctx.post(DEFS, &http).await?;
    if ctx.kind.is_embedded() {
        answer.is_error(400, "tasks of type INLINE")
    } else {
        answer.ok().map(drop)
    }
}
