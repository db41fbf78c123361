//! What SDK frameworks make of failures, and of user code.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Result, ensure};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use conductor_client::{TaskDef, TaskStatus, WorkflowStatus};
use embedded_conductor::{Fault, On};
use harness::{Handler, Reply, eventually};
use prometheus::Registry;
use serde_json::{Value, json};
use worker_sidecar::{
    config::{Config, HandlerConfig, TaskConfig},
    control,
    pipeline::Sidecar,
};

use crate::setup::{Running, SOON, Setup};

/// The response time-out is an hour: a worker that says nothing would be waited for so long.
#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_says_nothing_of_a_panic_here_a_crash_fails_the_task_at_once() -> Result<()> {
    let setup = Setup::new(|_| Reply::broken()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(3600),
        retry_count: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks[0].status() == TaskStatus::Failed);
    running.end().await
}

/// A call that cannot succeed is not repeated; one that may, is.
#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_misses_wrapped_errors_here_a_status_says_whether_a_retry_helps() -> Result<()> {
    let setup = Setup::new(|_| Reply::answer(422, "no such account")).await?;
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Failed && workflow.tasks.len() == 1);
    ensure!(workflow.tasks[0].status() == TaskStatus::FailedWithTerminalError);
    setup.handler.set(|call| {
        let first = call.headers.get("conductor-retry-count");
        if first.is_some_and(|n| n == "0") {
            Reply::answer(500, "the database is away")
        } else {
            Reply::output(json!({}))
        }
    });
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Completed && workflow.tasks.len() == 2);
    running.end().await
}

/// Java gives a result up after 6 s, Go and Python after 60 s, and 3 or 4 attempts.
#[tokio::test(flavor = "multi_thread")]
async fn sdks_drop_a_result_after_3_or_4_attempts_here_it_is_sent_until_it_is_taken() -> Result<()>
{
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    if let Some(embedded) = setup.server.as_embedded() {
        embedded
            .faults()
            .set_times(Fault::Status(503), On::Updates, 5);
    }
    let running = setup.run()?;
    let id = setup.start(1).await?;
    let workflow = setup.server.completed(&id, 2 * SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    running.end().await
}

/// A Conductor that is away for a moment and then does not know the task any more.
async fn forgetful(State(asked): State<Arc<[AtomicUsize; 2]>>, request: Request) -> Response {
    if request.method() == "GET" {
        if asked[0].fetch_add(1, Ordering::SeqCst) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            return Json(json!([])).into_response();
        }
        return Json(
            json!([{"taskId": "i", "workflowInstanceId": "w", "taskType": "t",
            "status": "IN_PROGRESS", "inputData": {}, "responseTimeoutSeconds": 3600}]),
        )
        .into_response();
    }
    match asked[1].fetch_add(1, Ordering::SeqCst) {
        0 | 1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => {
            let gone = json!({"status": 404, "message": "No such workflow found by id: w", "retryable": false});
            (StatusCode::NOT_FOUND, Json(gone)).into_response()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_repeat_every_error_alike_here_what_is_gone_is_not_sent_again() -> Result<()> {
    let asked = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let router = Router::new().fallback(forgetful).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let mut config = Config::new(base.parse()?, vec![TaskConfig::new("t")], "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    eventually("the slot is free again", SOON, async || {
        let updates = asked[1].load(Ordering::SeqCst);
        match (updates, running.sidecar.in_flight()) {
            (3, 0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await?;
    running.end().await?;
    ensure!(asked[1].load(Ordering::SeqCst) == 3, "and not sent again");
    server.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_have_no_health_here_liveness_and_readiness_are_told() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let mut config = setup.config()?;
    // Nobody listens there yet.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    config.handler = HandlerConfig::new(port);
    let running = Running::start(config)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = control::router(running.sidecar.clone(), Registry::new());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let status = |path: &'static str| async move {
        let answer = reqwest::get(format!("http://{address}{path}")).await;
        answer.map_or(0, |answer| answer.status().as_u16())
    };
    ensure!(status("/healthz").await == 200, "alive without a handler");
    ensure!(status("/readyz").await == 503, "and not ready");
    let late = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    eventually("ready with a handler", SOON, async || {
        match status("/readyz").await {
            200 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    drop(late);
    running.end().await?;
    server.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_makes_labels_of_error_texts_here_labels_are_bounded() -> Result<()> {
    // Each first attempt fails, with a text of its own.
    let setup = Setup::new(|call| {
        let first = call.headers.get("conductor-retry-count");
        if first.is_some_and(|n| n == "0") {
            Reply::answer(500, format!("secret {}", call.task_id))
        } else {
            Reply::output(json!({}))
        }
    })
    .await?;
    let registry = Registry::new();
    let sidecar = Sidecar::new(setup.config()?, &registry)?;
    let told = sidecar.clone();
    let run = tokio::spawn(
        sidecar
            .clone()
            .run(async move { told.shutdown_begun().await }),
    );
    let series = || -> usize {
        let families = registry.gather();
        families.iter().map(|f| f.get_metric().len()).sum()
    };
    setup.once(1).await?;
    let once = series();
    for n in 0..10 {
        setup.once(n).await?;
    }
    ensure!(series() == once, "{once} series became {}", series());
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
    ensure!(!text.contains("secret"), "{text}");
    sidecar.begin_shutdown();
    tokio::time::timeout(SOON, run).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_has_no_task_logs_here_a_handler_adds_lines_and_reads_its_task() -> Result<()> {
    let setup = Setup::new(|call| {
        let result = json!({
            "status": "COMPLETED",
            "outputData": {"workflow": call.headers.get("conductor-workflow-id").map(|id| id.as_bytes().len())},
            "logs": [{"log": "half of it"}, {"log": "all of it"}],
        });
        Reply::output(result)
            .header("content-type", "application/vnd.conductor.task-result+json")
    })
    .await?;
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.output["workflow"] != Value::Null);
    let logs = setup
        .server
        .client()
        .task_logs(workflow.tasks[0].task_id())
        .await?;
    let lines: Vec<_> = logs.iter().map(|line| line.log.as_str()).collect();
    ensure!(lines == ["half of it", "all of it"], "{lines:?}");
    running.end().await
}

/// Fifteen lines of the standard library, no framework and nothing of Conductor's.
fn bare_handler(listener: &std::net::TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = Vec::new();
        let mut part = [0; 4096];
        // The body is the last thing that comes, and JSON: it ends with a brace.
        while !request.ends_with(b"}") {
            match stream.read(&mut part)? {
                0 => break,
                n => request.extend_from_slice(&part[..n]),
            }
        }
        if !request.is_empty() {
            let body = r#"{"greeting":"hello"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + body).as_bytes())?;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_357_341_csharp_sdk_45_work_is_pushed_to_code_without_a_conductor_library()
-> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // Ends with the tests' process: nobody waits for what nobody connects to.
    std::thread::spawn(move || bare_handler(&listener));
    let mut config = setup.config()?;
    config.handler = HandlerConfig::new(port);
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(
        workflow.output["greeting"] == "hello",
        "{:?}",
        workflow.output
    );
    running.end().await
}
