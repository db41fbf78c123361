//! Polls, slots, leases and reports.

use std::time::Duration;

use anyhow::{Result, ensure};
use conductor_client::{TaskDef, TimeoutPolicy, WorkflowStatus};
use embedded_conductor::{Fault, On};
use harness::{Handler, Reply, Server, eventually, unique};
use serde_json::json;
use worker_sidecar::config::{Config, HandlerConfig, Probe, TaskConfig};

use crate::setup::{Running, SOON, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_none_lost_and_none_twice() -> Result<()> {
    let setup = Setup::new(|call| Reply::output(call.input.clone())).await?;
    let running = setup.run()?;
    let mut ids = Vec::new();
    for n in 0..1000 {
        ids.push(setup.start(n).await?);
    }
    for (n, id) in ids.iter().enumerate() {
        let w = setup.server.completed(id, SOON).await?;
        ensure!(
            w.tasks.len() == 1 && w.output["value"] == n,
            "{:?}",
            w.output
        );
    }
    let executions = setup.handler.executions();
    ensure!(executions.len() == 1000 && executions.values().all(|n| *n == 1));
    ensure!(
        setup.handler.most_running() <= 4,
        "{} at once in 4 slots",
        setup.handler.most_running()
    );
    let stats = running.sidecar.stats();
    ensure!(
        stats.tasks[0].completed == 1000 && stats.in_flight == 0,
        "{stats:?}"
    );
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_slot_is_idle_while_its_poll_waits_and_not_while_it_works() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.slots = 1;
    let running = Running::start(config)?;
    let idle_becomes = async |wanted: bool| {
        eventually("idle is told", SOON, async || {
            match running.sidecar.stats().tasks[0].idle {
                idle if idle == wanted => Ok(()),
                idle => Err(idle),
            }
        })
        .await
    };
    idle_becomes(true).await?;
    // Its one slot is a poll's most of the time: idle all the same.
    for _ in 0..20 {
        ensure!(running.sidecar.stats().tasks[0].idle);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    ensure!(
        !running.sidecar.stats().tasks[0].idle,
        "a call is under way"
    );
    setup.handler.release();
    setup.server.completed(&id, SOON).await?;
    idle_becomes(true).await?;
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_polled_while_the_handler_is_away() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let port = setup.handler.port();
    let Setup {
        server,
        handler,
        task,
    } = setup;
    drop(handler);
    let mut config = Config::new(
        server.base().parse()?,
        vec![TaskConfig::new(&task)],
        "w".to_owned(),
    );
    config.handler = HandlerConfig::new(port);
    let running = Running::start(config)?;
    let id = server.start(&task, json!(1)).await?;
    // Time enough for many polls, if there were any: the probe alone runs dozens of times.
    let polls = || server.as_embedded().map_or(0, |e| e.counts().polls);
    let listener = eventually("the port is free", SOON, async || {
        tokio::net::TcpListener::bind(("127.0.0.1", port)).await
    })
    .await?;
    ensure!(polls() == 0 && running.sidecar.stats().tasks[0].polls == 0);
    drop(listener);

    let router = axum::Router::new().fallback(async || axum::Json(json!({"late": true})));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let late = tokio::spawn(async move { axum::serve(listener, router).await });
    ensure!(server.completed(&id, SOON).await?.output["late"] == true);
    running.end().await?;
    late.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_are_handed_back_and_use_no_retry() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let (mut config, server) = (setup.config()?, setup.server);
    let port = setup.handler.port();
    drop(setup.handler);
    // The probe succeeds where nobody takes calls: only the calls tell.
    let probed = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    config.handler.probe = Probe::Tcp(probed.local_addr()?.port());
    let running = Running::start(config)?;
    let id = server.start(&setup.task, json!(1)).await?;
    eventually("it was handed back", SOON, async || {
        match running.sidecar.stats().tasks[0].handed_back {
            n @ 0..3 => Err(n),
            _ => Ok(()),
        }
    })
    .await?;
    let router = axum::Router::new().fallback(async || axum::Json(json!({"late": true})));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let late = tokio::spawn(async move { axum::serve(listener, router).await });
    let workflow = server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && workflow.tasks[0].retry_count() == 0);
    ensure!(workflow.tasks[0].poll_count() > 3);
    running.end().await?;
    late.abort();
    Ok(())
}

/// Each call of a busy handler uses up a retry of such a task.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_handler_is_left_alone_where_tasks_cannot_be_handed_back() -> Result<()> {
    let setup = Setup::new(|_| Reply::answer(503, "busy").header("retry-after", "2")).await?;
    let def = TaskDef {
        poll_timeout_seconds: Some(1),
        // Conductor itself lets it wait.
        timeout_policy: Some(TimeoutPolicy::AlertOnly),
        retry_count: Some(2),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.client().update_task_def(&def).await?;
    let mut config = setup.config()?;
    config.slots = 1;
    let running = Running::start(config)?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.tasks.len() == 3, "{workflow:?}");
    let calls = setup.handler.ledger();
    for (one, next) in calls.iter().zip(&calls[1..]) {
        let pause = one.ended.map(|ended| next.started - ended);
        ensure!(pause >= Some(Duration::from_secs(2)), "{calls:?}");
    }
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_long_call_is_kept() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({})).after(Duration::from_secs(12))).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(5),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(
        workflow.status == WorkflowStatus::Completed && workflow.tasks.len() == 1,
        "{:?}",
        workflow.status
    );
    ensure!(setup.handler.ledger().len() == 1, "executed once");
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_outlives_an_outage_of_the_server() -> Result<()> {
    let mut setup = Setup::new(|_| Reply::hang()).await?;
    let running = setup.run()?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    if let Some(embedded) = setup.server.as_embedded_mut() {
        embedded.go_away().await;
    }
    setup.handler.release();
    eventually("the call has ended", SOON, async || {
        match setup.handler.running() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    if let Some(embedded) = setup.server.as_embedded_mut() {
        embedded.come_back().await?;
    }
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_updates_and_polls_are_waited_out() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let Some(embedded) = setup.server.as_embedded() else {
        anyhow::bail!("the in-memory server is needed");
    };
    embedded
        .faults()
        .set_times(Fault::Status(503), On::Updates, 3);
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Completed && workflow.tasks.len() == 1);
    embedded
        .faults()
        .set_times(Fault::Status(500), On::Polls, 1);
    ensure!(setup.once(2).await?.status == WorkflowStatus::Completed);
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn types_share_the_slots_within_their_caps() -> Result<()> {
    let server = Server::embedded().await?;
    let (slow, quick) = (unique("slow"), unique("quick"));
    server.register(&slow).await?;
    server.register(&quick).await?;
    let handler = Handler::start(|call| match call.path.as_str() {
        "/slow" => Reply::hang(),
        _ => Reply::output(json!({})),
    })
    .await?;
    let slow_task = TaskConfig {
        path: "/slow".into(),
        concurrency: Some(2),
        ..TaskConfig::new(&slow)
    };
    let tasks = vec![slow_task, TaskConfig::new(&quick)];
    let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
    config.slots = 3;
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    for n in 0..5 {
        server.start(&slow, json!(n)).await?;
    }
    eventually(
        "the slow type holds its two slots",
        SOON,
        async || match handler.running() {
            2 => Ok(()),
            n => Err(n),
        },
    )
    .await?;
    for n in 0..50 {
        let id = server.start(&quick, json!(n)).await?;
        server.completed(&id, SOON).await?;
    }
    ensure!(handler.most_running() <= 3);
    ensure!(
        running.sidecar.stats().tasks[0].in_flight == 2,
        "never more than its cap"
    );
    let releasing = eventually("the rest of the slow ones", SOON, async || {
        handler.release();
        match running.sidecar.stats().tasks[0].completed {
            5 => Ok(()),
            n => Err(n),
        }
    });
    releasing.await?;
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_with_a_backlog_does_not_starve_another() -> Result<()> {
    const BACKLOG: u64 = 300;
    let server = Server::embedded().await?;
    let (busy, rare) = (unique("busy"), unique("rare"));
    server.register(&busy).await?;
    server.register(&rare).await?;
    let handler = Handler::start(|call| match call.path.as_str() {
        "/busy" => Reply::hang(),
        _ => Reply::output(json!({})),
    })
    .await?;
    let busy_task = TaskConfig {
        path: "/busy".into(),
        ..TaskConfig::new(&busy)
    };
    let tasks = vec![busy_task, TaskConfig::new(&rare)];
    let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
    config.slots = 3;
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    for n in 0..BACKLOG {
        server.start(&busy, json!(n)).await?;
    }
    eventually("it has all the slots", SOON, async || {
        match running.sidecar.stats().tasks[0].in_flight {
            3 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    server.start(&rare, json!(1)).await?;
    // Slots come free a few at a time, and the other type gets one of them in its turn.
    eventually("the other type's turn", SOON, async || {
        handler.release();
        match running.sidecar.stats().tasks[1].completed {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let done = running.sidecar.stats().tasks[0].completed;
    ensure!(done < BACKLOG - 3, "only after {done} of {BACKLOG}");
    handler.set(|_| Reply::output(json!({})));
    eventually("the backlog is gone", SOON, async || {
        handler.release();
        match running.sidecar.stats().tasks[0].completed {
            BACKLOG => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    running.end().await
}
