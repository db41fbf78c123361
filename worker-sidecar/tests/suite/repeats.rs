//! Reports that are sent more than once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use conductor_client::{Task, TaskDef, TaskResult, TaskStatus, UpdateStatus, WorkflowStatus};
use embedded_conductor::{Fault, On};
use harness::{Handler, Reply, eventually};
use serde_json::json;
use tokio::time::Instant;
use worker_sidecar::{
    record,
    result::{Report, report},
};

use crate::{
    results::{spooled, spools},
    scripted::{Says, Scripted, Sent, task},
    setup::{LONG_GRACE, Running, SOON, Setup},
};

/// With its store away Conductor answers an update with a 500 like any mistake of a client.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_refused_is_no_storm_while_there_are_no_polls() -> Result<()> {
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let server = Scripted::start(vec![task("i", 3600)], |_| Says::Refused(500)).await?;
    let mut config = server.config(handler.port())?;
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    let sent_times = async |times: usize| {
        eventually("sent again and again", SOON, async || {
            match server.sent("tasks") {
                sent if sent.len() >= times => Ok(sent),
                sent => Err(sent.len()),
            }
        })
        .await
    };
    sent_times(1).await?;
    running.sidecar.cordon().put(Instant::now(), LONG_GRACE);
    let updates = sent_times(7).await?;
    // Half of 200, 400, 800, 1600 and 3200 ms at least.
    let took = updates[6].at - updates[1].at;
    ensure!(took >= Duration::from_secs(3), "seven within {took:?}");
    ensure!(
        updates
            .iter()
            .all(|sent| sent.body["status"] == "COMPLETED")
    );
    running.end().await
}

/// The server takes the hand-back, its answer is lost, and another worker has the task before the
/// hand-back is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_back_whose_answer_is_lost_takes_the_task_from_nobody() -> Result<()> {
    let setup = Setup::new(|call| match call.before {
        0 => Reply::answer(503, "busy"),
        _ => Reply::output(json!({"by": call.before})).after(Duration::from_secs(2)),
    })
    .await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set_times(Fault::LoseAnswer, On::Updates, 1);
    let mut another = setup.config()?;
    another.worker_id = "sidecar-2".to_owned();
    let (one, other) = (setup.run()?, Running::start(another)?);
    let workflow = setup.once(1).await?;
    ensure!(workflow.status == WorkflowStatus::Completed, "{workflow:?}");
    let task = &workflow.tasks[0];
    ensure!(task.poll_count() == 2, "{task:?}");
    let executions = setup.handler.executions();
    ensure!(executions.values().eq([&2]), "{executions:?}");
    one.end().await?;
    other.end().await
}

/// A record as a killed process leaves it: its hand-back of this task.
fn left_hand_back(task: &Task, task_type: &str) -> Report {
    let outcome = worker_sidecar::outcome::Outcome {
        end: worker_sidecar::outcome::End::Deferred { after: 0 },
        output: None,
        reason: None,
        logs: Vec::new(),
    };
    report(task, task_type, "sidecar-1", outcome, 0)
}

/// Killed between Conductor's acceptance and the removal of the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_back_left_in_the_spool_takes_the_task_from_nobody() -> Result<()> {
    // The next poll of the task is another's, or this worker's own, or there was none.
    for holder in [Some("sidecar-2"), Some("sidecar-1"), None] {
        let dir = tempfile::tempdir()?;
        let setup = Setup::new(|_| Reply::output(json!({}))).await?;
        let client = setup.server.client();
        let poll = async |worker| -> Result<Task> {
            let task = client.poll(&setup.task, worker, None).await?;
            task.context("a task is waiting")
        };
        let id = setup.start(1).await?;
        let report = left_hand_back(&poll("sidecar-1").await?, &setup.task);
        if let Some(worker) = holder {
            client.update_task(&report.update).await?;
            poll(worker).await?;
        }
        let spool = dir.path().join("spool");
        std::fs::create_dir(&spool)?;
        let file = spool.join("00000000000000000001.result");
        std::fs::write(file, record::write(&report))?;
        let running = Running::start(spooled(setup.config()?, &dir))?;
        if let Some(worker) = holder {
            spools(&running, 0).await?;
            let task = client.get_task(&report.update.task_id).await?;
            let seen = (task.status(), task.worker_id(), task.poll_count());
            ensure!(
                seen == (TaskStatus::InProgress, Some(worker), 2),
                "{seen:?}"
            );
            let done = TaskResult {
                status: UpdateStatus::Completed,
                ..report.update
            };
            client.update_task(&done).await?;
        }
        let workflow = setup.server.completed(&id, SOON).await?;
        ensure!(workflow.tasks[0].poll_count() == 2, "{workflow:?}");
        spools(&running, 0).await?;
        running.end().await?;
    }
    Ok(())
}

/// Taken after `pollTimeoutSeconds` a hand-back would end the workflow; a failure costs a retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_back_that_waits_beyond_poll_timeout_is_a_failure() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(|call| {
        let retry = call.headers.get("conductor-retry-count");
        if retry.is_some_and(|n| n == "0") {
            Reply::answer(503, "busy")
        } else {
            Reply::output(json!({}))
        }
    })
    .await?;
    let def = TaskDef {
        poll_timeout_seconds: Some(3),
        retry_count: Some(1),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Updates);
    let running = Running::start(spooled(setup.config()?, &dir))?;
    let id = setup.start(1).await?;
    let began = Instant::now();
    spools(&running, 1).await?;
    let judged = began.elapsed();
    tokio::time::sleep_until(began + Duration::from_millis(3500)).await;
    faults.clear();
    let workflow = setup.server.ended(&id, SOON).await?;
    ensure!(
        workflow.status == WorkflowStatus::Completed,
        "judged after {judged:?}: {workflow:?}"
    );
    let failed = &workflow.tasks[0];
    let reason = failed.reason().unwrap_or_default();
    ensure!(
        workflow.tasks.len() == 2
            && failed.status() == TaskStatus::Failed
            && reason.contains("pollTimeoutSeconds of 3"),
        "{workflow:?}"
    );
    running.end().await
}

/// A large result on a slow link: the first attempt's time, an eighth of the lease, is too short.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_takes_longer_than_an_attempt_may_is_delivered() -> Result<()> {
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let slow = |_: &Sent| Says::Late(Duration::from_secs(5), Box::new(Says::Taken));
    let server = Scripted::start(vec![task("i", 10)], slow).await?;
    let running = Running::start(server.config(handler.port())?)?;
    eventually("taken", 2 * SOON, async || {
        let (sent, held) = (server.sent("tasks").len(), running.sidecar.in_flight());
        if sent > 0 && held == 0 {
            return Ok(());
        }
        Err(format!("{held} in flight, sent {sent} times"))
    })
    .await?;
    running.end().await
}

/// What nobody waits for any more may still lie in a socket of a server that is starting. It reads
/// the task with the result not yet in it, and writes it back whole: the result is undone, and its
/// lease ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_a_lost_extension_has_undone_is_sent_again() -> Result<()> {
    struct Case {
        is_lost: bool,
        is_undone: bool,
        reports: usize,
        looks: usize,
    }
    let case = |is_lost, is_undone, reports, looks| Case {
        is_lost,
        is_undone,
        reports,
        looks,
    };
    for case in [
        case(true, true, 2, 2),
        case(true, false, 1, 1),
        case(false, false, 1, 0),
    ] {
        let handler = Handler::start(|_| {
            let reply = Reply::output(json!({"is": "done"}));
            reply.after(Duration::from_millis(2500))
        })
        .await?;
        let undone = AtomicBool::new(case.is_undone);
        let server = Scripted::start(vec![task("i", 3)], move |sent| match sent.path.as_str() {
            "tasks/i" => {
                let mut task = task("i", 3);
                if !undone.swap(false, Ordering::SeqCst) {
                    task["status"] = json!("COMPLETED");
                }
                Says::Json(task)
            }
            _ => Says::Taken,
        })
        .await?;
        if case.is_lost {
            server.lose_extensions();
        }
        let running = Running::start(server.config(handler.port())?)?;
        eventually("taken", 2 * SOON, async || {
            let (sent, looks) = (server.sent("tasks").len(), server.sent("tasks/i").len());
            let held = running.sidecar.stats().in_flight;
            if sent == case.reports && looks == case.looks && held == 0 {
                return Ok(());
            }
            Err(format!("sent {sent} times, looked {looks}, {held} in work"))
        })
        .await?;
        // It waits for what is to follow.
        running.end().await?;
        ensure!(server.sent("tasks/i").len() == case.looks);
        let sent = server.sent("tasks");
        ensure!(sent.len() == case.reports, "{sent:?}");
        for report in &sent {
            ensure!(report.body["status"] == "COMPLETED", "{report:?}");
            ensure!(
                report.body["outputData"] == json!({"is": "done"}),
                "{report:?}"
            );
        }
    }
    Ok(())
}

/// A handler whose first task has more log lines than a report takes, and what it was called for.
async fn talkative() -> Result<Handler> {
    Handler::start(|call| {
        let lines: Vec<_> = (0..12).map(|n| format!("line {n}")).collect();
        match call.task_id.as_str() {
            "first" => Reply::output(json!({"status": "COMPLETED", "logs": lines}))
                .header("content-type", "application/vnd.conductor.task-result+json"),
            _ => Reply::output(json!({})),
        }
    })
    .await
}

async fn executed(handler: &Handler, id: &str) -> Result<()> {
    eventually("it is executed", SOON, async || {
        match handler.executions() {
            executed if executed.contains_key(id) => Ok(()),
            executed => Err(format!("{executed:?}")),
        }
    })
    .await
}

fn is_of(sent: &Sent, id: &str) -> bool {
    sent.body["taskId"] == id
}

/// Log lines are sent one by one, and may take long.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_task_does_not_wait_for_log_lines() -> Result<()> {
    let handler = talkative().await?;
    let server = Scripted::start(vec![task("first", 3600)], |sent| match &*sent.path {
        "tasks/update-v2" if is_of(sent, "first") => Says::Json(task("second", 3600)),
        "tasks/first/log" => Says::Late(SOON * 2, Box::new(Says::Taken)),
        _ => Says::Taken,
    })
    .await?;
    let mut config = server.config(handler.port())?;
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    executed(&handler, "second").await?;
    eventually("no slot is held", SOON, async || {
        match running.sidecar.in_flight() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(server.sent("tasks/first/log").len() == 1, "it still hangs");
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_log_lines_are_sent_before_a_shutdown_ends() -> Result<()> {
    let handler = talkative().await?;
    let server = Scripted::start(vec![task("first", 3600)], |sent| match &*sent.path {
        "tasks/first/log" => Says::Late(Duration::from_millis(300), Box::new(Says::Taken)),
        _ => Says::Taken,
    })
    .await?;
    let running = Running::start(server.config(handler.port())?)?;
    eventually("the first of them", SOON, async || {
        match server.sent("tasks/first/log").len() {
            0 => Err(0),
            _ => Ok(()),
        }
    })
    .await?;
    running.end().await?;
    let lines: Vec<_> = server.sent("tasks/first/log");
    let lines: Vec<_> = lines.iter().map(|line| line.body.as_str()).collect();
    ensure!(lines == [Some("line 10"), Some("line 11")], "{lines:?}");
    Ok(())
}

/// The answer that brings the next task is late, and says that the report was taken: an outage
/// of the other way does not matter then.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answers_next_task_does_not_wait_for_the_repetition() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let handler = Handler::start(|call| match call.task_id.as_str() {
        "first" => Reply::output(json!({})),
        _ => Reply::output(json!({})).after(Duration::from_secs(1)),
    })
    .await?;
    // As many as there are slots: so reports ask for more.
    let tasks = ["first", "b", "c"].map(|id| task(id, 3600));
    let server = Scripted::start(tasks.to_vec(), |sent| match &*sent.path {
        "tasks/update-v2" if is_of(sent, "first") => {
            let next = Says::Json(task("second", 3600));
            Says::Late(Duration::from_millis(3500), Box::new(next))
        }
        "tasks" if is_of(sent, "first") => Says::Refused(503),
        // Its lease may have been extended while the report had no answer.
        "tasks/first" => {
            let mut first = task("first", 3600);
            first["status"] = json!("COMPLETED");
            Says::Json(first)
        }
        _ => Says::Taken,
    })
    .await?;
    let mut config = spooled(server.config(handler.port())?, &dir);
    config.slots = 3;
    let running = Running::start(config)?;
    executed(&handler, "second").await?;
    ensure!(!server.sent("tasks").is_empty(), "it was sent again");
    spools(&running, 0).await?;
    ensure!(std::fs::read_dir(dir.path().join("spool"))?.count() == 0);
    running.end().await
}

/// Say, its body is more than a gateway likes, or its type is not allowed to this worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_forbidden_keeps_no_other_waiting() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let ids: Vec<_> = (0..20).map(|n| format!("task {n}")).collect();
    let tasks = ids.iter().map(|id| task(id, 3600)).collect();
    let server = Scripted::start(tasks, |sent| {
        if is_of(sent, "task 3") {
            Says::Refused(403)
        } else {
            Says::Taken
        }
    })
    .await?;
    let mut config = spooled(server.config(handler.port())?, &dir);
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    let reports = eventually("all are sent, and the one again", SOON, async || {
        let mut reports = server.sent("tasks");
        reports.extend(server.sent("tasks/update-v2"));
        let of = |id: &str| reports.iter().filter(|sent| is_of(sent, id)).count();
        if ids.iter().all(|id| of(id) > 0) && of("task 3") > 3 {
            return Ok(reports);
        }
        Err(reports.len())
    })
    .await?;
    // A gate that is shut would let one through every five seconds.
    let times = reports.iter().map(|sent| sent.at);
    let (first, last) = (times.clone().min(), times.max());
    let took = last.context("some")? - first.context("some")?;
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    spools(&running, 1).await?;
    running.end().await
}

/// What is sent instead of a hand-back would end the task for whoever has it by now.
#[tokio::test(flavor = "multi_thread")]
async fn no_failure_is_sent_instead_of_a_hand_back_without_a_look_at_the_task() -> Result<()> {
    let handler = Handler::start(|_| Reply::answer(503, "busy")).await?;
    let server = Scripted::start(vec![task("i", 3600)], |sent| match &*sent.path {
        "tasks/i" => Says::Refused(400),
        _ => Says::Refused(503),
    })
    .await?;
    let mut config = server.config(handler.port())?;
    // One for polls: the server answers them, and so the refusal is the task's own.
    config.slots = 2;
    let running = Running::start(config)?;
    eventually("given up", SOON, async || {
        let (looks, held) = (server.sent("tasks/i").len(), running.sidecar.in_flight());
        if looks >= 6 && held == 0 {
            return Ok(());
        }
        Err(format!("{held} in flight, {looks} looks"))
    })
    .await?;
    let updates = server.sent("tasks");
    ensure!(
        updates.len() == 1 && updates[0].body["status"] == "IN_PROGRESS",
        "{updates:?}"
    );
    running.end().await
}
