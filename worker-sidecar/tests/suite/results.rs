//! Results that Conductor does not take at once: none is dropped, none is done twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use conductor_client::{TaskDef, WorkflowStatus};
use embedded_conductor::{Fault, On, Options};
use harness::{Handler, Reply, Server, eventually, unique};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use worker_sidecar::{
    config::{Config, HandlerConfig, SpoolConfig, TaskConfig},
    pipeline::Sidecar,
};

use crate::setup::{Running, SOON, Setup};

pub(crate) fn spooled(mut config: Config, dir: &TempDir) -> Config {
    config.spool = Some(SpoolConfig {
        dir: dir.path().join("spool"),
        limit: 1 << 20,
    });
    config
}

pub(crate) async fn spools(running: &Running, results: usize) -> Result<()> {
    eventually("results in the spool", SOON, async || {
        match running.sidecar.stats().spooled {
            n if n == results => Ok(()),
            n => Err(n),
        }
    })
    .await
}

/// The SDKs give a result up after a minute at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_kept_until_conductor_is_back_and_holds_no_slot() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|_| Reply::output(json!({"done": 1}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Updates);
    let running = Running::start(spooled(setup.config()?, &dir))?;
    // More tasks than the four slots: polls work, only results are not taken.
    let mut ids = Vec::new();
    for i in 0..12 {
        ids.push(setup.start(i).await?);
    }
    spools(&running, ids.len()).await?;
    eventually("no slot is held", SOON, async || {
        match running.sidecar.in_flight() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    faults.clear();
    for id in &ids {
        setup.server.completed(id, SOON).await?;
    }
    let executions = setup.handler.executions();
    ensure!(executions.values().all(|n| *n == 1), "{executions:?}");
    spools(&running, 0).await?;
    ensure!(std::fs::read_dir(dir.path().join("spool"))?.count() == 0);
    running.end().await
}

/// What a process that was killed leaves is delivered by the next one, and its task is not
/// done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_task_is_not_done_again_after_a_restart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|_| Reply::output(json!({"done": 1}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Close, On::Updates);
    let killed = Running::start(spooled(setup.config()?, &dir))?;
    let id = setup.start(1).await?;
    let files = || -> Result<Vec<_>> {
        let entries = std::fs::read_dir(dir.path().join("spool"))?;
        let paths = entries.map(|entry| entry.map(|e| e.path()));
        let mut paths = paths.collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|e| e == "result"));
        Ok(paths)
    };
    eventually("the result is on disk", SOON, async || match files() {
        Ok(files) if files.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    // Its tasks end with it, as those of a killed process do.
    killed.sidecar.begin_shutdown();
    killed.run.abort();
    let copy = tempfile::tempdir()?;
    std::fs::create_dir(copy.path().join("spool"))?;
    for file in files()? {
        let name = file.file_name().context("a name")?;
        std::fs::copy(&file, copy.path().join("spool").join(name))?;
    }
    let next = Running::start(spooled(setup.config()?, &copy))?;
    ensure!(next.sidecar.stats().spooled == 1);
    faults.clear();
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1, "{workflow:?}");
    ensure!(setup.handler.executions().values().sum::<usize>() == 1);
    spools(&next, 0).await?;
    next.end().await
}

/// While the server hangs the result goes to disk, before anybody knows whether it arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_answer_hangs_is_on_disk_meanwhile() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Hang, On::Updates);
    let running = Running::start(spooled(setup.config()?, &dir))?;
    let id = setup.start(1).await?;
    spools(&running, 1).await?;
    faults.clear();
    setup.server.completed(&id, SOON).await?;
    spools(&running, 0).await?;
    running.end().await
}

/// A full spool stops the polls; nothing that was taken is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_stops_the_polls_until_there_is_room() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let big = "x".repeat(10_000);
    let setup = Setup::new(move |_| Reply::output(json!({ "big": big }))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Updates);
    let mut config = spooled(setup.config()?, &dir);
    if let Some(spool) = &mut config.spool {
        spool.limit = 25_000;
    }
    let running = Running::start(config)?;
    let mut ids = Vec::new();
    for i in 0..30 {
        ids.push(setup.start(i).await?);
    }
    // Two fit, and the slots hold four more at most.
    eventually("polls stop", SOON, async || {
        let stats = running.sidecar.stats();
        match (stats.spooled, stats.in_flight - stats.spooled) {
            (2, 1..=4) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let taken = setup.handler.executions().len();
    ensure!(taken <= 6, "{taken} tasks were taken");
    faults.clear();
    for id in &ids {
        setup.server.completed(id, SOON).await?;
    }
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    running.end().await
}

/// It waits in memory; once it is delivered there is nothing that could make room.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_larger_than_the_spool_does_not_stop_the_polls() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let big = "x".repeat(10_000);
    let setup = Setup::new(move |_| Reply::output(json!({ "big": big }))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set_times(Fault::Status(503), On::Updates, 1);
    let mut config = spooled(setup.config()?, &dir);
    if let Some(spool) = &mut config.spool {
        spool.limit = 9_000;
    }
    let running = Running::start(config)?;
    // A poll that was in the air already may bring the second.
    for i in 0..4 {
        let workflow = setup.once(i).await?;
        ensure!(workflow.status == WorkflowStatus::Completed, "{workflow:?}");
    }
    let not_kept = running.counted("worker_spool_errors_total");
    ensure!(not_kept > 0.0, "its first report was to fail");
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    running.end().await
}

/// The slots that are free stay so until results can be kept again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_breaks_stops_the_polls_until_it_is_mended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|_| Reply::output(json!({"done": 1}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Updates);
    let running = Running::start(spooled(setup.config()?, &dir))?;
    let more = async |counter: &str, than: f64| {
        eventually(counter, SOON, async || match running.counted(counter) {
            n if n > than => Ok(()),
            n => Err(n),
        })
        .await
    };
    more("task_poll_total", 0.0).await?;
    let paused = running.counted("task_paused_total");

    let (spool, away) = (dir.path().join("spool"), dir.path().join("away"));
    std::fs::rename(&spool, &away)?;
    let mut ids = vec![setup.start(0).await?];
    // It waits for the spool, and not for one of the slots: three are free.
    more("task_paused_total", paused).await?;
    let trouble = || running.shows("worker_spool_trouble", "broken");
    ensure!(trouble() > 0.0, "the metric does not say so");
    let polls = running.counted("task_poll_total");
    let errors = running.counted("worker_spool_errors_total");
    for i in 1..8 {
        ids.push(setup.start(i).await?);
    }
    // The one result is tried again meanwhile.
    more("worker_spool_errors_total", errors + 1.0).await?;
    let later = running.counted("task_poll_total");
    ensure!(later <= polls, "{polls} polls became {later}");
    ensure!(setup.handler.executions().len() == 1);

    std::fs::rename(&away, &spool)?;
    spools(&running, ids.len()).await?;
    ensure!(trouble() < 1.0, "the metric still says so");
    faults.clear();
    for id in &ids {
        setup.server.completed(id, SOON).await?;
    }
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    running.end().await
}

/// It is not silently gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_left_result_that_cannot_be_read_any_more_is_counted_as_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|_| Reply::output(json!({"done": 1}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Updates);
    let killed = Running::start(spooled(setup.config()?, &dir))?;
    setup.start(1).await?;
    spools(&killed, 1).await?;
    killed.sidecar.begin_shutdown();
    killed.run.abort();

    let registry = Registry::new();
    let sidecar = Sidecar::new(spooled(setup.config()?, &dir), &registry)?;
    for file in std::fs::read_dir(dir.path().join("spool"))? {
        std::fs::remove_file(file?.path())?;
    }
    let next = Running::of(sidecar, registry);
    eventually("it is lost", SOON, async || {
        match next.counted_of("worker_results_total", "lost") {
            1.0.. => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    next.end().await
}

/// The page of a gateway is a 200 too.
#[tokio::test(flavor = "multi_thread")]
async fn a_200_that_is_not_conductors_is_no_acceptance() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set_times(Fault::Status(200), On::Updates, 3);
    let running = setup.run()?;
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Completed, "{workflow:?}");
    ensure!(setup.handler.executions().values().all(|n| *n == 1));
    running.end().await
}

/// The same for a report that asks for the next task, which Conductor answers without a body too:
/// with a 204.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_is_no_acceptance_of_a_report_that_asks_for_more() -> Result<()> {
    for status in [200, 201, 202] {
        let server = Server::embedded().await?;
        let task = server.register(&unique("task")).await?;
        let mut ids = Vec::new();
        for i in 0..50 {
            ids.push(server.start(&task, json!(i)).await?);
        }
        let reply = Reply::output(json!({})).after(Duration::from_millis(20));
        let handler = Handler::start(move |_| reply.clone()).await?;
        let tasks = vec![TaskConfig::new(&task)];
        let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
        config.handler = HandlerConfig::new(handler.port());
        config.grace = Duration::from_secs(9);
        let running = Running::start(config)?;
        // With one slot each task needs a poll of its own, or a report that asked for it.
        eventually("reports ask for more", SOON, async || {
            let completed = running.sidecar.stats().tasks[0].completed;
            match (completed, running.counted("task_poll_total")) {
                (8.., polls) if polls < 5.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let faults = server.as_embedded().context("embedded")?.faults();
        faults.set_times(Fault::Status(status), On::Updates, 3);
        for id in &ids {
            let workflow = server.completed(id, SOON).await?;
            ensure!(workflow.tasks.len() == 1, "{status}: {workflow:?}");
        }
        ensure!(handler.executions().values().all(|n| *n == 1));
        running.end().await?;
    }
    Ok(())
}

/// A gateway that loses its routes for a moment, and says so in JSON, in Kong's words. Its
/// Conductor has one task.
#[derive(Default)]
struct Reloading {
    polled: AtomicBool,
    extensions: AtomicUsize,
    reports: AtomicUsize,
}

async fn reloading(State(state): State<Arc<Reloading>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == "GET" {
        if state.polled.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Json(json!([])).into_response();
        }
        let task = json!([{"taskId": "i", "workflowInstanceId": "w", "taskType": "t",
            "status": "IN_PROGRESS", "inputData": {}, "responseTimeoutSeconds": 3}]);
        return Json(task).into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let update: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let (asked, lost) = if update["extendLease"] == true {
        (&state.extensions, 1)
    } else {
        (&state.reports, 2)
    };
    if asked.fetch_add(1, Ordering::SeqCst) < lost {
        let page = json!({"message": "no Route matched with those values"});
        return (StatusCode::NOT_FOUND, Json(page)).into_response();
    }
    "i".into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_404_gives_no_call_and_no_result_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let gateway = Arc::new(Reloading::default());
    let router = Router::new()
        .fallback(reloading)
        .with_state(gateway.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    // An extension falls due meanwhile.
    let reply = Reply::output(json!({})).after(Duration::from_secs(2));
    let handler = Handler::start(move |_| reply.clone()).await?;
    let mut config = Config::new(base.parse()?, vec![TaskConfig::new("t")], "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    let running = Running::start(spooled(config, &dir))?;
    eventually("the third report is taken", SOON, async || {
        let stats = running.sidecar.stats();
        let reports = gateway.reports.load(Ordering::SeqCst);
        match (reports, stats.tasks[0].completed, stats.spooled) {
            (3, 1, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(gateway.extensions.load(Ordering::SeqCst) > 1);
    running.end().await?;
    server.abort();
    Ok(())
}

/// Work that nobody wants any more is stopped: the connection is closed.
#[tokio::test(flavor = "multi_thread")]
async fn the_call_of_a_cancelled_task_is_closed() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(15),
        ..TaskDef::named(&setup.task)
    };
    setup.server.client().update_task_def(&def).await?;
    let running = setup.run()?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    setup
        .server
        .client()
        .terminate_workflow(&id, "enough")
        .await?;
    setup.at_work(0).await?;
    eventually("its slot is free", SOON, async || {
        match running.sidecar.in_flight() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    running.end().await
}

/// Servers before December 2024 have no update-v2.
#[tokio::test(flavor = "multi_thread")]
async fn reports_ask_for_the_next_task_and_do_without_on_older_servers() -> Result<()> {
    for has_v2 in [true, false] {
        let server = Server::embedded_with(Options {
            has_update_v2: has_v2,
            ..Options::default()
        })
        .await?;
        let task = unique("task");
        server.register(&task).await?;
        let mut ids = Vec::new();
        for i in 0..50 {
            ids.push(server.start(&task, json!(i)).await?);
        }
        let handler = Handler::start(|_| Reply::output(json!({}))).await?;
        let tasks = vec![TaskConfig::new(&task)];
        let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
        config.handler = HandlerConfig::new(handler.port());
        config.grace = Duration::from_secs(9);
        let running = Running::start(config)?;
        for id in &ids {
            server.completed(id, SOON).await?;
        }
        ensure!(handler.executions().values().all(|n| *n == 1));
        let polls = running.counted("task_poll_total");
        // With one slot each task needs a poll of its own, or none.
        ensure!(
            (polls < 25.0) == has_v2,
            "{polls} polls, update-v2: {has_v2}"
        );
        running.end().await?;
    }
    Ok(())
}

/// The task definition's retries are not used up by a handler that does nothing but fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_everything_gets_no_more_tasks_until_it_does_one() -> Result<()> {
    let server = Server::embedded().await?;
    let task = server
        .register_def(TaskDef {
            retry_count: Some(0),
            ..TaskDef::named(unique("task"))
        })
        .await?;
    let handler = Handler::start(|_| Reply::answer(500, "broken")).await?;
    let tasks = vec![TaskConfig::new(&task)];
    let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    config.slots = 4;
    config.grace = Duration::from_secs(9);
    config.breaker = Some(worker_sidecar::breaker::Settings {
        window: 8,
        pause: Duration::from_secs(2),
        ..Default::default()
    });
    for i in 0..40 {
        server.start(&task, json!(i)).await?;
    }
    let running = Running::start(config)?;
    eventually("it opens", SOON, async || {
        let failed = running.sidecar.stats().tasks[0].failed;
        let executions = handler.executions().len();
        let broken = running.sidecar.stats().tasks[0].broken;
        match (failed, executions, broken) {
            (8.., n, true) if n <= 12 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let taken = handler.executions().len();
    ensure!(taken < 16, "{taken} of 40 tasks were failed");
    handler.set(|_| Reply::output(json!({})));
    eventually("the rest is done", SOON, async || {
        match running.sidecar.stats().tasks[0].completed {
            24.. => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(!running.sidecar.stats().tasks[0].broken, "it has closed");
    running.end().await
}

/// A poll on a connection that leads nowhere does not stop the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_never_answered_does_not_stop_the_polls() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    let running = setup.run()?;
    faults.set_times(Fault::Hang, On::Polls, 1);
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Completed, "{workflow:?}");
    running.end().await
}

/// The SDKs wait 10, 20 and 30 seconds between their attempts.
#[tokio::test(flavor = "multi_thread")]
async fn finished_work_is_sent_within_seconds_of_an_outages_end() -> Result<()> {
    let mut setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let running = setup.run()?;
    let id = setup.start(1).await?;
    setup.server.completed(&id, SOON).await?;
    let embedded = setup.server.as_embedded_mut().context("embedded")?;
    embedded.go_away().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    embedded.come_back().await?;
    let workflow = setup.once(2).await?;
    ensure!(workflow.status == WorkflowStatus::Completed, "{workflow:?}");
    running.end().await
}

/// A task that breaks the handler each time it comes is named, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_breaks_the_handler_at_every_attempt_is_reported_as_poison() -> Result<()> {
    let server = Server::embedded().await?;
    let task = server
        .register_def(TaskDef {
            retry_count: Some(2),
            retry_delay_seconds: Some(0),
            ..TaskDef::named(unique("task"))
        })
        .await?;
    let handler = Handler::start(|_| Reply::broken()).await?;
    let tasks = vec![TaskConfig::new(&task)];
    let mut config = Config::new(server.base().parse()?, tasks, "w".to_owned());
    config.handler = HandlerConfig::new(handler.port());
    config.grace = Duration::from_secs(9);
    let running = Running::start(config)?;
    let id = server.start(&task, json!(1)).await?;
    let workflow = server.ended(&id, SOON).await?;
    ensure!(workflow.status == WorkflowStatus::Failed, "{workflow:?}");
    ensure!(workflow.tasks.len() == 3, "{workflow:?}");
    // Twice may be chance; the third time is not.
    let poison = running.counted("worker_poison_tasks_total");
    ensure!((poison - 1.0).abs() < f64::EPSILON, "{poison} were counted");
    running.end().await
}
