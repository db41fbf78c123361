//! The status table of the worker contract, end to end.

use anyhow::{Result, ensure};
use conductor_client::{TaskStatus, WorkflowStatus};
use harness::{Reply, eventually};
use serde_json::json;
use worker_sidecar::config::Payload;

use crate::setup::{Running, SOON, Setup};

/// What a row's answer makes of the task's first attempt.
struct Row {
    name: &'static str,
    reply: Reply,
    status: TaskStatus,
    output: &'static str,
    reason: &'static str,
}

fn rows() -> Vec<Row> {
    use TaskStatus::{Completed, Failed, FailedWithTerminalError as Terminal};
    let row = |name, reply, status, output, reason| Row {
        name,
        reply,
        status,
        output,
        reason,
    };
    let json = |status, body: &str| Reply::answer(status, body);
    let result = "application/vnd.conductor.task-result+json";
    vec![
        row("an object", json(200, r#"{"a":1}"#), Completed, r#"{"a":1}"#, ""),
        row("201", json(201, r#"{"a":1}"#), Completed, r#"{"a":1}"#, ""),
        row("other json", json(200, "[1,2]"), Completed, r#"{"result":[1,2]}"#, ""),
        row("no json", json(200, "hello").header("content-type", "text/plain"), Terminal, "{}", "JSON"),
        row("204", json(204, ""), Completed, "{}", ""),
        row("no body", json(200, ""), Completed, "{}", ""),
        row(
            "a task result",
            json(200, r#"{"status":"FAILED_WITH_TERMINAL_ERROR","outputData":{"b":2},"reasonForIncompletion":"mine"}"#)
                .header("content-type", result),
            Terminal,
            r#"{"b":2}"#,
            "mine",
        ),
        row("408", json(408, ""), Failed, "{}", "408"),
        row("500 with an error", json(500, r#"{"error":"the disk is full"}"#), Failed, "{}", "the disk is full"),
        row(
            "500 with a problem",
            json(500, r#"{"title":"t","detail":"the details"}"#).header("content-type", "application/problem+json"),
            Failed,
            "{}",
            "the details",
        ),
        row("404", json(404, r#"{"message":"no such picture"}"#), Terminal, "{}", "no such picture"),
        row("a redirect", json(302, "").header("location", "/elsewhere"), Terminal, "{}", "302"),
        row("cut off", Reply::broken(), Failed, "{}", "cut off"),
        row("too large", json(200, &format!("\"{}\"", "x".repeat(2000))), Terminal, "{}", "limit"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_becomes_what_the_table_says() -> Result<()> {
    let count = rows().len();
    let setup = Setup::new(move |call| {
        // Each task names its row; a second attempt succeeds.
        let n = call.input["value"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0);
        match call
            .headers
            .get("conductor-retry-count")
            .map(axum::http::HeaderValue::as_bytes)
        {
            Some(b"0") => rows().swap_remove(n).reply,
            _ => Reply::output(json!({})),
        }
    })
    .await?;
    let mut config = setup.config()?;
    config.handler.payload_limit = 1000;
    let running = Running::start(config)?;
    for n in 0..count {
        let row = rows().swap_remove(n);
        let workflow = setup.once(n).await?;
        let first = &workflow.tasks[0];
        ensure!(
            first.status() == row.status,
            "{}: {:?} {:?}",
            row.name,
            first.status(),
            first.reason()
        );
        let output = first
            .output_data()
            .map_or("{}".to_owned(), |o| o.get().to_owned());
        ensure!(output == row.output, "{}: output {output}", row.name);
        let reason = first.reason().unwrap_or_default();
        ensure!(
            reason.contains(row.reason),
            "{}: reason {reason:?}",
            row.name
        );
        let retried = workflow.tasks.len() == 2;
        ensure!(
            retried == (row.status == TaskStatus::Failed),
            "{}: {} tasks",
            row.name,
            workflow.tasks.len()
        );
    }
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_and_later_come_again_without_a_retry() -> Result<()> {
    for (status, header) in [(429, "0"), (503, "1"), (202, "1")] {
        let setup = Setup::new(move |call| match call.before {
            0 => Reply::answer(status, r#"{"page":7}"#).header("retry-after", header),
            _ => Reply::output(json!({"done": true})),
        })
        .await?;
        let running = setup.run()?;
        let workflow = setup.once(1).await?;
        let task = &workflow.tasks[0];
        ensure!(workflow.status == WorkflowStatus::Completed && workflow.tasks.len() == 1);
        ensure!(
            (task.retry_count(), task.poll_count()) == (0, 2),
            "{status}: {} polls",
            task.poll_count()
        );
        running.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_fails_the_task_and_closes_the_call() -> Result<()> {
    let setup = Setup::new(|call| match call.before {
        _ if call
            .headers
            .get("conductor-retry-count")
            .is_some_and(|v| v != "0") =>
        {
            Reply::output(json!({}))
        }
        _ => Reply::hang(),
    })
    .await?;
    let mut config = setup.config()?;
    config.tasks[0].timeout = Some(std::time::Duration::from_millis(300));
    let running = Running::start(config)?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks[0].status() == TaskStatus::Failed);
    ensure!(
        workflow.tasks[0]
            .reason()
            .is_some_and(|r| r.contains("deadline"))
    );
    eventually("the call was closed", SOON, async || {
        if setup.handler.ledger()[0].abandoned {
            Ok(())
        } else {
            Err("still open")
        }
    })
    .await?;
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_gets_what_the_contract_says() -> Result<()> {
    let setup = Setup::new(|call| {
        let has = |name| call.headers.contains_key(name);
        let complete = has("conductor-task-id")
            && has("conductor-task-type")
            && has("conductor-workflow-id")
            && has("conductor-poll-count")
            && has("conductor-task-ref");
        Reply::output(json!({"path": call.path, "complete": complete, "body": call.body}))
    })
    .await?;
    for payload in [Payload::Task, Payload::Input] {
        let mut config = setup.config()?;
        config.handler.payload = payload;
        config.tasks[0].path = "/greet".to_owned();
        let running = Running::start(config)?;
        let output = setup.once(json!({"deep": [1.50, null]})).await?.output;
        ensure!(
            output["path"] == "/greet" && output["complete"] == true,
            "{output:?}"
        );
        let input = match payload {
            Payload::Task => &output["body"]["inputData"],
            Payload::Input => &output["body"],
        };
        ensure!(input["value"] == json!({"deep": [1.5, null]}), "{output:?}");
        running.end().await?;
    }
    Ok(())
}
