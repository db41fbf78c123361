//! Every call of conductor-client, as the sidecar and the operator make them.

use std::time::Duration;

use conductor_client::{
    BatchPoll, Kind, QueueName, StartWorkflow, TaskDef, TaskLog, TaskResult, TaskStatus,
    UpdateStatus, WorkflowDef, WorkflowStatus,
};
use harness::unique;
use serde_json::{json, value::to_raw_value};

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE;
    definitions, a_task_from_start_to_end, a_batch, handing_back, extending_a_lease, ending_early,
    queue_sizes_of_many, what_is_gone,
}

fn def(name: &str) -> TaskDef {
    TaskDef {
        retry_delay_seconds: Some(0),
        response_timeout_seconds: Some(100),
        timeout_seconds: Some(200),
        poll_timeout_seconds: Some(50),
        ..TaskDef::named(name)
    }
}

/// A task type with a workflow of that name.
async fn registered(ctx: &Ctx) -> anyhow::Result<String> {
    let name = unique("client");
    ctx.client().register_task_defs(&[def(&name)]).await?;
    let mut workflow = WorkflowDef::sequence(&name, [(&*name, "only")]);
    workflow.tasks[0]
        .input_parameters
        .insert("n".to_owned(), json!("${workflow.input.n}"));
    ctx.client().register_workflow_defs(&[workflow]).await?;
    Ok(name)
}

async fn started(ctx: &Ctx, name: &str) -> anyhow::Result<String> {
    let start = StartWorkflow {
        name: name.to_owned(),
        input: [("n".to_owned(), json!(7))].into_iter().collect(),
        correlation_id: Some("mine".to_owned()),
        priority: Some(3),
        ..StartWorkflow::default()
    };
    Ok(ctx.client().start_workflow(&start).await?)
}

fn result(task: &conductor_client::Task, status: UpdateStatus) -> TaskResult {
    TaskResult {
        workflow_instance_id: task.workflow_id().to_owned(),
        task_id: task.task_id().to_owned(),
        status,
        worker_id: "me".to_owned(),
        output_data: None,
        reason_for_incompletion: None,
        callback_after_seconds: 0,
        logs: Vec::new(),
    }
}

async fn polled(ctx: &Ctx, name: &str) -> anyhow::Result<conductor_client::Task> {
    let poll = BatchPoll {
        task_type: name,
        worker_id: "me",
        domain: None,
        count: 1,
        wait: Duration::from_secs(5),
    };
    let mut tasks = ctx.client().batch_poll(poll).await?;
    tasks.pop().ok_or_else(|| anyhow::anyhow!("no task"))
}

async fn definitions(ctx: Ctx) -> anyhow::Result<()> {
    let name = unique("defs");
    let mut written = def(&name);
    written.concurrent_exec_limit = Some(9);
    ctx.client().register_task_defs(&[written.clone()]).await?;
    let mut read = ctx.client().task_def(&name).await?;
    same!("name", read.name, name);
    same!("retries by default", read.retry_count, Some(3));
    same!("limit", read.concurrent_exec_limit, Some(9));
    same!("poll time-out", read.poll_timeout_seconds, Some(50));
    read.concurrent_exec_limit = Some(4);
    read.rest.insert("description".to_owned(), json!("changed"));
    ctx.client().update_task_def(&read).await?;
    let again = ctx.client().task_def(&name).await?;
    same!("limit after", again.concurrent_exec_limit, Some(4));
    same!("rest after", again.rest["description"], json!("changed"));
    Ok(())
}

async fn a_task_from_start_to_end(ctx: Ctx) -> anyhow::Result<()> {
    let name = registered(&ctx).await?;
    same!(
        "before",
        ctx.client().poll(&name, "me", None).await?.is_none(),
        true
    );
    let id = started(&ctx, &name).await?;
    let task = ctx.client().poll(&name, "me", None).await?;
    let task = task.ok_or_else(|| anyhow::anyhow!("no task"))?;
    same!(
        "type",
        (task.task_type(), task.task_def_name()),
        (&*name, &*name)
    );
    same!("reference", task.reference_name(), "only");
    same!("workflow", task.workflow_id(), id);
    same!("workflow type", task.workflow_type(), name);
    same!(
        "input",
        serde_json::from_str::<serde_json::Value>(task.input_data())?,
        json!({ "n": 7 })
    );
    same!("status", task.status(), TaskStatus::InProgress);
    same!("counts", (task.retry_count(), task.poll_count()), (0, 1));
    same!("worker", task.worker_id(), Some("me"));
    same!("domain", task.domain(), None);
    same!("lease", task.response_timeout_seconds(), 100);
    same!("time-out", task.timeout_seconds(), 200);
    same!("poll time-out", task.poll_timeout_seconds(), Some(50));
    anyhow::ensure!(task.scheduled_time() > 0 && task.start_time() >= task.scheduled_time());
    ctx.client().log_task(task.task_id(), "a line").await?;
    ctx.client()
        .update_task(&TaskResult {
            output_data: Some(to_raw_value(&json!({ "ok": true }))?),
            logs: vec![TaskLog {
                log: "at the end".to_owned(),
                created_time: 1,
            }],
            ..result(&task, UpdateStatus::Completed)
        })
        .await?;
    let workflow = ctx.client().get_workflow(&id, true).await?;
    same!(
        "workflow's status",
        workflow.status,
        WorkflowStatus::Completed
    );
    same!("output", json!(workflow.output), json!({ "ok": true }));
    same!("tasks", workflow.tasks.len(), 1);
    anyhow::ensure!(workflow.create_time > 0 && workflow.end_time >= workflow.create_time);
    let task = ctx.client().get_task(task.task_id()).await?;
    same!("task's status", task.status(), TaskStatus::Completed);
    anyhow::ensure!(task.end_time() > 0 && task.update_time() > 0);
    same!(
        "without tasks",
        ctx.client().get_workflow(&id, false).await?.tasks.len(),
        0
    );
    Ok(())
}

async fn a_batch(ctx: Ctx) -> anyhow::Result<()> {
    let name = registered(&ctx).await?;
    for _ in 0..3 {
        started(&ctx, &name).await?;
    }
    let poll = BatchPoll {
        task_type: &name,
        worker_id: "me",
        domain: None,
        count: 2,
        wait: Duration::from_millis(100),
    };
    let mut seen = Vec::new();
    for expected in [2, 1, 0] {
        let tasks = ctx.client().batch_poll(poll).await?;
        same!("batch", tasks.len(), expected);
        seen.extend(tasks.iter().map(|t| t.task_id().to_owned()));
    }
    seen.sort();
    seen.dedup();
    same!("different tasks", seen.len(), 3);
    let polled = ctx.client().poll_data(&name).await?;
    same!("rows of poll data", polled.len(), 1);
    same!(
        "poller",
        (&*polled[0].queue_name, polled[0].worker_id.as_deref()),
        (&*name, Some("me"))
    );
    anyhow::ensure!(polled[0].last_poll_time > 0);
    Ok(())
}

async fn handing_back(ctx: Ctx) -> anyhow::Result<()> {
    let name = registered(&ctx).await?;
    started(&ctx, &name).await?;
    let task = polled(&ctx, &name).await?;
    // A hand-back is repeated only while it says so of the delivery that it ends.
    let looked = async || -> anyhow::Result<_> {
        let now = ctx.client().get_task(task.task_id()).await?;
        let holder = now.worker_id().map(str::to_owned);
        Ok((now.status(), holder, now.poll_count()))
    };
    let held_at = |poll| (TaskStatus::InProgress, Some("me".to_owned()), poll);
    same!("looked at in work", looked().await?, held_at(1));
    let output = to_raw_value(&json!({ "at": 1 }))?;
    ctx.client()
        .update_task(&TaskResult {
            output_data: Some(output),
            ..result(&task, UpdateStatus::InProgress)
        })
        .await?;
    same!("status once back", looked().await?.0, TaskStatus::Scheduled);
    let again = polled(&ctx, &name).await?;
    same!("looked at in work again", looked().await?, held_at(2));
    same!("id", again.task_id(), task.task_id());
    same!("counts", (again.retry_count(), again.poll_count()), (0, 2));
    same!("first start", again.start_time(), task.start_time());
    let output = again
        .output_data()
        .ok_or_else(|| anyhow::anyhow!("no output"))?;
    same!(
        "checkpoint",
        serde_json::from_str::<serde_json::Value>(output.get())?,
        json!({ "at": 1 })
    );
    Ok(())
}

async fn extending_a_lease(ctx: Ctx) -> anyhow::Result<()> {
    let name = registered(&ctx).await?;
    started(&ctx, &name).await?;
    let task = polled(&ctx, &name).await?;
    harness::eventually("time passes", Duration::from_secs(5), async || {
        ctx.client()
            .extend_lease(task.workflow_id(), task.task_id(), "me")
            .await?;
        let now = ctx.client().get_task(task.task_id()).await?;
        same!("status", now.status(), TaskStatus::InProgress);
        anyhow::ensure!(
            now.update_time() > task.update_time(),
            "updateTime stands still"
        );
        Ok(())
    })
    .await
}

async fn ending_early(ctx: Ctx) -> anyhow::Result<()> {
    let name = registered(&ctx).await?;
    let id = started(&ctx, &name).await?;
    ctx.client().decide_workflow(&id).await?;
    ctx.client().terminate_workflow(&id, "enough").await?;
    let workflow = ctx.client().get_workflow(&id, true).await?;
    same!("status", workflow.status, WorkflowStatus::Terminated);
    same!(
        "reason",
        workflow.reason_for_incompletion.as_deref(),
        Some("enough")
    );
    same!("task", workflow.tasks[0].status(), TaskStatus::Canceled);
    Ok(())
}

async fn queue_sizes_of_many(ctx: Ctx) -> anyhow::Result<()> {
    let (one, other) = (registered(&ctx).await?, registered(&ctx).await?);
    for _ in 0..2 {
        started(&ctx, &one).await?;
    }
    let mut in_domain = StartWorkflow {
        name: other.clone(),
        ..StartWorkflow::default()
    };
    in_domain
        .task_to_domain
        .insert(other.clone(), "d1".to_owned());
    ctx.client().start_workflow(&in_domain).await?;
    let mut queues = vec![
        QueueName::new(&one, None),
        QueueName::new(&other, None),
        QueueName::new(&other, Some("d1")),
        QueueName::new(unique("nobody"), None),
    ];
    let expected = [2, 0, 1, 0];
    queues.extend((0..300).map(|n| QueueName::new(format!("{one}_of_many_{n}"), None)));
    let sizes = ctx.client().queue_sizes(&queues).await?;
    for (queue, expected) in queues.iter().zip(expected) {
        same!(queue, sizes[queue], expected);
        same!(queue, ctx.client().queue_size(queue).await?, expected);
    }
    same!("all are answered", sizes.len(), queues.len());
    Ok(())
}

async fn what_is_gone(ctx: Ctx) -> anyhow::Result<()> {
    let client = ctx.client();
    let name = registered(&ctx).await?;
    started(&ctx, &name).await?;
    let task = polled(&ctx, &name).await?;
    let nobody = unique("nobody");
    let mut foreign = result(&task, UpdateStatus::Completed);
    foreign.task_id = nobody.clone();
    let start = StartWorkflow {
        name: nobody.clone(),
        ..StartWorkflow::default()
    };
    for (what, error) in [
        ("task", client.get_task(&nobody).await.err()),
        ("workflow", client.get_workflow(&nobody, true).await.err()),
        ("definition", client.task_def(&nobody).await.err()),
        ("update", client.update_task(&foreign).await.err()),
        (
            "lease",
            client
                .extend_lease(task.workflow_id(), &nobody, "me")
                .await
                .err(),
        ),
        ("start", client.start_workflow(&start).await.err()),
        ("decide", client.decide_workflow(&nobody).await.err()),
        (
            "terminate",
            client.terminate_workflow(&nobody, "x").await.err(),
        ),
        (
            "definition to update",
            client.update_task_def(&def(&nobody)).await.err(),
        ),
    ] {
        same!(what, error.map(|e| e.kind()), Some(Kind::Gone));
    }
    same!("logs of nobody", client.task_logs(&nobody).await?.len(), 0);
    same!(
        "poll data of nobody",
        client.poll_data(&nobody).await?.len(),
        0
    );
    Ok(())
}
