//! Complaints about polls, load and duplicates.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conductor_client::QueueName;
use embedded_conductor::{BatchFill, Options};
use harness::{Handler, Reply, Server, eventually, unique};
use serde_json::json;
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::setup::{LONG_GRACE, Running, SOON, Setup};

/// What is watched for a while: many polls of an SDK, few of ours.
const WHILE: Duration = Duration::from_secs(4);

/// A server of the SQL kind answers a batch that is not full when its wait is over.
#[tokio::test(flavor = "multi_thread")]
async fn conductor_142_a_task_is_not_held_back_until_a_batch_is_full() -> Result<()> {
    let sql = Options {
        batch_fill: BatchFill::Sql,
        ..Options::default()
    };
    let mut setup = Setup::new(|_| Reply::output(json!({}))).await?;
    setup.server = Server::embedded_with(sql).await?;
    setup.server.register(&setup.task).await?;
    let mut config = setup.config()?;
    config.slots = 16;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    for n in 0..5 {
        let workflow = setup.once(n).await?;
        let task = &workflow.tasks[0];
        let waited = task.start_time() - task.scheduled_time();
        // A batch of 16 with a long poll would have held it back for 5 s.
        ensure!(waited < 4000, "{waited} ms in the queue");
    }
    running.end().await
}

/// Polls of an empty queue within a while.
async fn idle_polls(interval: Duration) -> Result<u64> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let mut config = setup.config()?;
    config.tasks[0].poll_interval = interval;
    let running = Running::start(config)?;
    setup.once(1).await?;
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    let before = embedded.counts().polls;
    tokio::time::sleep(WHILE).await;
    let polls = embedded.counts().polls - before;
    running.end().await?;
    Ok(polls)
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_33_3559_conductor_community_236_an_idle_worker_polls_seldom() -> Result<()> {
    // At the SDKs' defaults it would be 30 to 60.
    let polls = idle_polls(Duration::from_millis(100)).await?;
    ensure!(polls <= 12, "{polls} polls in {WHILE:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_384_a_poll_interval_above_a_second_is_kept() -> Result<()> {
    let polls = idle_polls(Duration::from_secs(60)).await?;
    ensure!(polls <= 12, "{polls} polls in {WHILE:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_pr_173_the_poll_interval_is_not_the_polls_time_out() -> Result<()> {
    let polls = idle_polls(Duration::from_millis(1)).await?;
    ensure!(
        polls <= 100,
        "{polls} polls in {WHILE:?}: the server did not wait"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_1922_1600_a_backlog_is_polled_in_batches() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    for n in 0..100 {
        setup.start(n).await?;
    }
    let mut config = setup.config()?;
    config.slots = 100;
    let running = Running::start(config)?;
    setup.at_work(100).await?;
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    let polls = embedded.counts().polls;
    ensure!(polls <= 2, "{polls} polls for 100 tasks");
    setup.handler.release();
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_694_no_task_waits_in_the_worker_while_its_lease_runs() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(setup.start(n).await?);
    }
    let running = setup.run()?;
    setup.at_work(4).await?;
    let queue = QueueName::new(&*setup.task, None);
    let waiting = setup.server.client().queue_size(&queue).await?;
    ensure!(waiting == 16, "{waiting} of 20 in the queue, 4 at work");
    let embedded = setup.server.as_embedded().context("it is in memory")?;
    ensure!(embedded.counts().delivered == 4);
    eventually("the rest is done", SOON, async || {
        setup.handler.release();
        match embedded.counts().completed {
            20 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(setup.handler.most_running() == 4);
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_3252_of_a_hundred_task_types_in_one_worker_none_starves() -> Result<()> {
    const TYPES: usize = 120;
    let server = Server::embedded().await?;
    let mut tasks = Vec::new();
    for n in 0..TYPES {
        let name = server.register(&unique(&format!("type{n}"))).await?;
        tasks.push(TaskConfig::new(name));
    }
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let mut config = Config::new(server.base().parse()?, tasks.clone(), "w".to_owned());
    config.slots = 8;
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    let mut ids = Vec::new();
    for task in &tasks {
        for n in 0..3 {
            ids.push(server.start(&task.name, json!(n)).await?);
        }
    }
    for id in &ids {
        server.completed(id, 3 * SOON).await?;
    }
    ensure!(handler.most_running() <= 8);
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn netflix_1011_2277_3893_many_workers_on_one_queue_execute_each_task_once() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let workers = [setup.run()?, setup.run()?, setup.run()?];
    let mut ids = Vec::new();
    for n in 0..300 {
        ids.push(setup.start(n).await?);
    }
    for id in &ids {
        ensure!(setup.server.completed(id, SOON).await?.tasks.len() == 1);
    }
    let executions = setup.handler.executions();
    ensure!(executions.len() == 300 && executions.values().all(|n| *n == 1));
    for worker in workers {
        worker.end().await?;
    }
    Ok(())
}

/// A handler knows best what it can take: it says 503, keeps its retries, and is asked again
/// when it likes.
#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_134_an_overloaded_handler_gets_no_more_work() -> Result<()> {
    let setup =
        Setup::new(|_| Reply::answer(503, "no memory left").header("retry-after", "2")).await?;
    let running = setup.run()?;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(setup.start(n).await?);
    }
    eventually("tasks are handed back", SOON, async || {
        match running.sidecar.stats().tasks[0].handed_back {
            0 => Err(0),
            _ => Ok(()),
        }
    })
    .await?;
    let calls = setup.handler.ledger().len();
    ensure!(
        calls <= 8,
        "{calls} calls of a handler that has no memory left"
    );
    setup.handler.set(|_| Reply::output(json!({})));
    for id in &ids {
        let workflow = setup.server.completed(id, 2 * SOON).await?;
        ensure!(workflow.tasks.len() == 1 && workflow.tasks[0].retry_count() == 0);
    }
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sdk_forgets_the_second_domain_of_a_type_here_both_are_polled() -> Result<()> {
    use conductor_client::StartWorkflow;
    let server = Server::embedded().await?;
    let task = server.register(&unique("task")).await?;
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let domain = |domain: &str| TaskConfig {
        domain: Some(domain.to_owned()),
        ..TaskConfig::new(&task)
    };
    let tasks = vec![domain("red"), domain("blue"), TaskConfig::new(&task)];
    let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
    config.slots = 4;
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(config)?;
    for domain in [Some("red"), Some("blue"), None] {
        let to_domain = domain.map(|d| (task.clone(), d.to_owned()));
        let start = StartWorkflow {
            name: task.clone(),
            task_to_domain: to_domain.into_iter().collect(),
            ..StartWorkflow::default()
        };
        let id = server.client().start_workflow(&start).await?;
        let workflow = server.completed(&id, SOON).await?;
        ensure!(workflow.tasks[0].domain() == domain);
    }
    running.end().await
}
