//! The end of a pod; see also `in_the_air`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use axum::{Router, http::StatusCode, routing::post};
use conductor_client::{TaskDef, TaskStatus};
use embedded_conductor::{Fault, Move, Moved, On};
use harness::{Reply, eventually};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, time::Instant};
use worker_sidecar::{control, shutdown::Limits, stats::now_ms};

use crate::{
    scripted::{Says, Scripted, task},
    setup::{LONG_GRACE, Running, SHORT_GRACE, SOON, Setup},
};

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_end_and_are_reported() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(setup.start(n).await?);
    }
    let waiting = setup.start(99).await?;
    setup.at_work(4).await?;
    running.sidecar.begin_shutdown();
    ensure!(running.sidecar.stats().draining && !running.sidecar.is_ready());
    setup.handler.release();
    tokio::time::timeout(SOON, running.run).await??;
    for id in ids {
        setup.server.completed(&id, SOON).await?;
    }
    let task = setup
        .server
        .client()
        .get_workflow(&waiting, true)
        .await?
        .tasks
        .swap_remove(0);
    ensure!(
        task.status() == TaskStatus::Scheduled && task.poll_count() == 0,
        "no new work is taken"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_finish_is_handed_back_without_a_retry() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = SHORT_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.end().await?;
    let task = setup
        .server
        .client()
        .get_workflow(&id, true)
        .await?
        .tasks
        .swap_remove(0);
    ensure!(
        (task.status(), task.retry_count()) == (TaskStatus::Scheduled, 0),
        "{:?}",
        task.status()
    );
    ensure!(setup.handler.ledger()[0].abandoned, "the call was closed");
    // Another sidecar takes it up at once.
    setup.handler.set(|_| Reply::output(json!({})));
    let next = setup.run()?;
    ensure!(setup.server.completed(&id, SOON).await?.tasks.len() == 1);
    next.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_the_work_and_not_without_an_announcement() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = LONG_GRACE;
    let running = Running::start(config)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = control::router(running.sidecar.clone(), prometheus::Registry::new());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let get = |path: &'static str| async move {
        let answer = reqwest::get(format!("http://{address}{path}")).await?;
        anyhow::Ok((answer.status().as_u16(), answer.text().await?))
    };
    ensure!(
        get("/drain").await?.1.contains("the pod stays"),
        "a container that restarts alone is not held up"
    );
    setup.start(1).await?;
    setup.at_work(1).await?;
    ensure!(get("/healthz").await?.0 == 200 && get("/readyz").await?.0 == 200);
    ensure!(get("/stats").await?.1.contains(r#""inFlight":1"#));

    let socket = control::Socket::bind(address.port())?;
    let sidecar = running.sidecar.clone();
    let announcements = tokio::spawn(async move { socket.listen(&sidecar).await });
    tokio::task::spawn_blocking(move || control::tell_terminating(address.port())).await??;
    let drain = tokio::spawn(get("/drain"));
    eventually("it is shutting down", SOON, async || {
        match get("/readyz").await {
            Ok((503, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(!drain.is_finished(), "a call is under way");
    setup.handler.release();
    ensure!(
        tokio::time::timeout(SOON, drain)
            .await??
            .is_ok_and(|(_, text)| text == "drained\n")
    );
    running.run.await?;
    announcements.abort();
    server.abort();
    Ok(())
}

/// Tasks longer than the grace period: another pod, with a poll that waits, has them at once, with
/// what they had stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_finish_is_taken_up_by_another_pod_within_two_seconds() -> Result<()> {
    const TASKS: usize = 4;
    // Each stores something and comes again; then it takes too long, once.
    let setup = Setup::with_journal(|call| match call.before {
        0 => Reply::answer(202, json!({"checkpoint": call.input}).to_string())
            .header("retry-after", "0"),
        1 => Reply::hang(),
        _ => Reply::output(json!({"from": call.body["outputData"]})),
    })
    .await?;
    let mut config = setup.config()?;
    config.grace = SHORT_GRACE;
    let ends = Running::start(config)?;
    let mut ids = Vec::new();
    for n in 0..TASKS {
        ids.push(setup.start(n).await?);
    }
    eventually("all take too long", SOON, async || {
        let calls = setup.handler.executions();
        let hang = calls.len() == TASKS && calls.values().all(|n| *n == 2);
        if hang {
            Ok(())
        } else {
            Err(format!("{calls:?}"))
        }
    })
    .await?;
    let mut config = setup.config()?;
    config.worker_id = "sidecar-2".to_owned();
    let other = Running::start(config)?;
    eventually("the other one polls", SOON, async || {
        let stats = other.sidecar.stats();
        if stats.polls_in_flight == 1 {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    })
    .await?;
    let embedded = setup.server.as_embedded().context("embedded")?;
    embedded.take_journal();
    ends.sidecar.begin_shutdown();
    tokio::time::timeout(SOON, ends.run).await??;
    for (n, id) in ids.iter().enumerate() {
        let workflow = setup.server.completed(id, SOON).await?;
        let from = json!({"checkpoint": {"value": n}});
        ensure!(workflow.output["from"] == from, "{:?}", workflow.output);
        let [task] = &workflow.tasks[..] else {
            anyhow::bail!("more than one attempt: {workflow:?}");
        };
        ensure!(
            (task.retry_count(), task.worker_id()) == (0, Some("sidecar-2")),
            "{task:?}"
        );
    }
    let mut queued = BTreeMap::new();
    for Moved { task, what, at } in embedded.take_journal() {
        match what {
            Move::Queued => ensure!(queued.insert(task, at).is_none(), "handed back twice"),
            Move::Given => {
                let since = queued.get(&task).context("given, and not handed back")?;
                ensure!(at - since < 2_000_000, "given after {} us", at - since);
            }
            Move::Ended => {}
        }
    }
    ensure!(queued.len() == TASKS, "{queued:?}");
    other.end().await
}

/// A handler that is told to stop may say so with a 503 instead of breaking its calls. That is no
/// word about the task, however old it is, and no reason to keep it from others for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_says_503_because_it_is_stopped_costs_no_retry_and_no_time() -> Result<()> {
    let now = now_ms();
    let (young, old) = (now - 60_000, now - 20 * 60_000);
    let tasks = [("young", young), ("old", old)].map(|(id, started)| {
        let mut task = task(id, 600);
        task["startTime"] = json!(started);
        task["updateTime"] = json!(now);
        task["outputData"] = json!({"checkpoint": id});
        task
    });
    let server = Scripted::start(tasks.to_vec(), |_| Says::Taken).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (stop, stopped) = watch::channel(false);
    let (calls, mut called) = watch::channel(0);
    let answer = async move || {
        calls.send_modify(|n| *n += 1);
        let _ = stopped.clone().wait_for(|stopped| *stopped).await;
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "30")])
    };
    let router = Router::new().route("/", post(answer));
    let handler = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = server.config(port)?;
    config.slots = 2;
    let running = Running::start(config)?;
    tokio::time::timeout(SOON, called.wait_for(|n| *n == 2)).await??;
    running.sidecar.begin_shutdown();
    stop.send_replace(true);
    let handed_back = || running.counted_of("worker_hand_backs_total", "shutdown");
    eventually("both are reported", SOON, async || {
        match server.sent("tasks") {
            sent if sent.len() == 2 => Ok(()),
            sent => Err(format!("{sent:?}")),
        }
    })
    .await?;
    for report in server.sent("tasks") {
        let (update, id) = (&report.body, &report.body["taskId"]);
        ensure!(
            update["status"] == "IN_PROGRESS" && update.get("callbackAfterSeconds").is_none(),
            "{update}"
        );
        ensure!(
            update["outputData"] == json!({"checkpoint": id}),
            "{update}"
        );
    }
    let counts = (handed_back(), running.counted("worker_poison_tasks_total"));
    ensure!(counts == (2.0, 0.0), "{counts:?}");
    tokio::time::timeout(SOON, running.run).await??;
    handler.abort();
    Ok(())
}

/// What Conductor would time out, and mostly its workflow with it, costs a retry instead.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_back_in_time_fails_and_is_counted() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = TaskDef {
        poll_timeout_seconds: Some(2),
        retry_count: Some(1),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let mut config = setup.config()?;
    config.grace = Duration::from_secs(5);
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.sidecar.begin_shutdown();
    let faults = || running.counted_of("task_execute_error_total", "poll_timeout");
    eventually("it failed for that", SOON, async || match faults() {
        n if n > 0.0 => Ok(()),
        n => Err(n),
    })
    .await?;
    tokio::time::timeout(SOON, running.run).await??;
    setup.handler.set(|_| Reply::output(json!({})));
    let next = setup.run()?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(
        workflow.tasks.len() == 2 && workflow.tasks[0].status() == TaskStatus::Failed,
        "{workflow:?}"
    );
    next.end().await
}

/// A short grace period has short parts, and none of them is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_grace_period_is_enough_to_hand_back() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let mut config = setup.config()?;
    config.grace = Duration::from_secs(5);
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.end().await?;
    let workflow = setup.server.client().get_workflow(&id, true).await?;
    let task = &workflow.tasks[0];
    ensure!(
        (task.status(), task.retry_count()) == (TaskStatus::Scheduled, 0),
        "{task:?}"
    );
    Ok(())
}

/// A liveness probe that fails restarts the handler's container: its hook is called, and no
/// `terminating`. What breaks then is the task's own failure, and work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_handler_alone_fails_its_calls_and_stops_nothing_else() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let running = setup.run()?;
    let router = control::router(running.sidecar.clone(), prometheus::Registry::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let hook = async {
        let answer = reqwest::get(format!("http://{address}/drain")).await?;
        anyhow::Ok(answer.text().await?)
    };
    // Later than the hook is called, before it is answered.
    setup
        .handler
        .set(|call| match call.headers.get("conductor-retry-count") {
            Some(n) if n != "0" => Reply::output(json!({})),
            _ => Reply::broken().after(Duration::from_secs(1)),
        });
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let (said, workflow) = tokio::join!(hook, setup.server.completed(&id, SOON));
    let (said, workflow) = (said?, workflow?);
    ensure!(said.contains("the pod stays"), "{said}");
    let first = &workflow.tasks[0];
    ensure!(
        workflow.tasks.len() == 2 && first.status() == TaskStatus::Failed,
        "{workflow:?}"
    );
    ensure!(first.reason().is_some_and(|why| why.contains("cut off")));
    ensure!(!running.sidecar.is_draining() && running.sidecar.is_ready());
    server.abort();
    running.end().await
}

/// A call that takes longer than its lease and ends after the drain limit, when `/drain` has been
/// answered; its result, while Conductor is busy, is taken only when calls would have been cut.
#[tokio::test(flavor = "multi_thread")]
async fn leases_are_kept_and_results_sent_again_to_the_very_end() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(4),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let mut config = setup.config()?;
    config.grace = SHORT_GRACE;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    running.sidecar.begin_shutdown();
    let limits = Limits::new(Instant::now(), SHORT_GRACE);
    let embedded = setup.server.as_embedded().context("embedded")?;
    tokio::time::timeout(SOON, running.sidecar.drained()).await?;
    ensure!(running.sidecar.in_flight() == 1, "it drained at its limit");
    let leases = embedded.counts().leases;
    eventually("the lease is extended", SOON, async || {
        match embedded.counts().leases {
            n if n > leases => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(setup.handler.running() == 1, "before the call was cut");
    embedded.faults().set(Fault::Status(503), On::Updates);
    setup.handler.release();
    // Until nothing is left but results on their way.
    tokio::time::sleep_until(limits.cut).await;
    let refused = running.counted("task_update_error");
    ensure!(refused >= 1.0, "the call was cut before it ended");
    eventually("the result is sent again", SOON, async || {
        match running.counted("task_update_error") {
            n if n > refused => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    embedded.faults().clear();
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1, "{workflow:?}");
    ensure!(!setup.handler.ledger()[0].abandoned, "the call was cut");
    tokio::time::timeout(SOON, running.run).await??;
    Ok(())
}
