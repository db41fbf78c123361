//! Complaints about the end of a worker.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use conductor_client::TaskStatus;
use harness::{Handler, Reply, Server, eventually, unique};
use serde_json::json;
use tokio::process::{Child, Command};
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::{
    program::sidecar,
    setup::{LONG_GRACE, Running, SHORT_GRACE, SOON, Setup},
};

/// The program, working for this setup.
fn program(setup: &Setup) -> Result<Child> {
    let child = sidecar()
        .env("CONDUCTOR_SERVER_URL", setup.server.base())
        .env("CONDUCTOR_TASKS", json!([{"name": setup.task}]).to_string())
        .env("CONDUCTOR_WORKER_ID", "program")
        .env("HANDLER_PORT", setup.handler.port().to_string())
        .env("LISTEN", "127.0.0.1:0")
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok(child)
}

async fn signal(child: &Child, signal: &str) -> Result<()> {
    let id = child.id().context("it has ended")?.to_string();
    let kill = Command::new("kill").args([signal, &id]).status().await?;
    ensure!(kill.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_224_sigterm_is_heeded_and_the_work_is_finished() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut child = program(&setup)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    signal(&child, "-TERM").await?;
    setup.handler.release();
    let status = tokio::time::timeout(SOON, child.wait()).await??;
    ensure!(status.success(), "{status}");
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_243_the_end_waits_for_running_executions() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(setup.start(n).await?);
    }
    setup.at_work(4).await?;
    running.sidecar.begin_shutdown();
    ensure!(!running.run.is_finished(), "four calls are under way");
    setup.handler.release();
    tokio::time::timeout(SOON, running.run).await??;
    for id in ids {
        setup.server.completed(&id, SOON).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_pr_230_the_handler_is_stopped_after_its_results_are_reported() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.sidecar.begin_shutdown();
    setup.handler.release();
    // What `/drain` waits for, and with it kubelet, before the handler gets TERM.
    tokio::time::timeout(SOON, running.sidecar.drained()).await?;
    let workflow = setup.server.client().get_workflow(&id, true).await?;
    ensure!(
        workflow.tasks[0].status() == TaskStatus::Completed,
        "{:?}",
        workflow.tasks[0].status()
    );
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_97_the_end_comes_though_a_handler_hangs() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = SHORT_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.end().await?;
    let workflow = setup.server.client().get_workflow(&id, true).await?;
    let task = &workflow.tasks[0];
    ensure!(
        (task.status(), task.retry_count()) == (TaskStatus::Scheduled, 0),
        "handed back: {:?}",
        task.status()
    );
    Ok(())
}

/// Tasks that arrive as workers end: each is done, or still in the queue, but never held by
/// nobody.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_1389_a_task_polled_at_the_end_is_not_lost() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let mut ids = Vec::new();
    for n in 0..4 {
        let running = Running::start(config.clone())?;
        setup.once(n).await?;
        running.sidecar.begin_shutdown();
        for n in 0..4 {
            ids.push(setup.start(n).await?);
        }
        tokio::time::timeout(SOON, running.run).await??;
        for id in &ids {
            let workflow = setup.server.client().get_workflow(id, true).await?;
            let status = workflow.tasks[0].status();
            ensure!(
                matches!(status, TaskStatus::Completed | TaskStatus::Scheduled),
                "{status:?} with nobody at work"
            );
        }
    }
    let last = Running::start(config)?;
    for id in &ids {
        ensure!(setup.server.completed(id, SOON).await?.tasks.len() == 1);
    }
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    last.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn java_sdk_stops_one_runner_after_another_here_all_polls_stop_at_once() -> Result<()> {
    let server = Server::embedded().await?;
    let mut tasks = Vec::new();
    for name in ["one", "two", "three"] {
        tasks.push(TaskConfig::new(server.register(&unique(name)).await?));
    }
    let handler = Handler::start(|_| Reply::hang()).await?;
    let mut config = Config::new(server.base().parse()?, tasks.clone(), "w".to_owned());
    config.slots = 9;
    config.grace = LONG_GRACE;
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    let held = server.start(&tasks[0].name, json!(0)).await?;
    eventually("a call is under way", SOON, async || {
        match handler.running() {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    running.sidecar.begin_shutdown();
    let polls = || -> Vec<u64> {
        let stats = running.sidecar.stats();
        stats.tasks.iter().map(|t| t.polls).collect()
    };
    let before = polls();
    // Time for dozens of polls of each type; only one that was in the air may still end.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let after = polls();
    ensure!(
        after
            .iter()
            .zip(&before)
            .all(|(after, before)| *after <= before + 1),
        "{before:?} {after:?}"
    );
    handler.release();
    server.completed(&held, SOON).await?;
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_645_a_hook_tells_the_worker_that_its_end_is_near() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let socket = worker_sidecar::control::Socket::bind(port)?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let sidecar = running.sidecar.clone();
    let hook = tokio::spawn(async move { socket.listen(&sidecar).await });
    tokio::task::spawn_blocking(move || worker_sidecar::control::tell_terminating(port)).await??;
    eventually("no more work is taken", SOON, async || {
        if running.sidecar.is_draining() {
            Ok(())
        } else {
            Err("polls go on")
        }
    })
    .await?;
    setup.handler.release();
    setup.server.completed(&id, SOON).await?;
    tokio::time::timeout(SOON, running.run).await??;
    hook.abort();
    Ok(())
}

/// A worker that dies with a task: another one runs it once the lease is over.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_776_another_worker_takes_over_from_one_that_was_killed() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = conductor_client::TaskDef {
        response_timeout_seconds: Some(2),
        retry_delay_seconds: Some(0),
        ..conductor_client::TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let mut child = program(&setup)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    child.kill().await?;
    setup
        .handler
        .set(|_| Reply::output(json!({"by": "another"})));
    let running = setup.run()?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.output["by"] == "another", "{:?}", workflow.output);
    ensure!(
        workflow.tasks.len() == 2 && workflow.tasks[0].status() == TaskStatus::TimedOut,
        "{:?}",
        workflow.tasks
    );
    running.end().await
}

/// The SDKs go on to the end, and the result is thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn netflix_163_work_on_a_task_that_was_cancelled_is_stopped() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = conductor_client::TaskDef {
        response_timeout_seconds: Some(6),
        ..conductor_client::TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let running = setup.run()?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let client = setup.server.client();
    client
        .terminate_workflow(&id, "not wanted any more")
        .await?;
    setup.at_work(0).await?;
    ensure!(setup.handler.ledger()[0].abandoned, "the call was closed");
    running.end().await
}
