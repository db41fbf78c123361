//! A load against the real Conductor: a workflow of one task for each job, started when the
//! job arrives; and what the server has written down of them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use conductor_client::{Client, StartWorkflow, TaskDef, WorkflowDef, WorkflowStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{clock::seconds, load::Load};

/// Requests in the air at once. The server starts most workflows a second with about as many.
const AT_ONCE: usize = 8;

/// What became of a job. Times are seconds since 1970 as they are read, and since its beginning
/// in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When its task was first in the queue.
    pub visible: f64,
    /// When its last attempt was taken by a worker.
    pub started: Option<f64>,
    /// When its workflow had ended.
    pub ended: Option<f64>,
    /// How often a worker was to do it.
    pub attempts: u32,
    /// Whether it was completed.
    pub completed: bool,
}

/// Registers the load's task type, and a workflow of one such task, under one name.
pub async fn define(conductor: &Client, load: &Load, name: &str) -> Result<()> {
    let task = TaskDef {
        retry_count: Some(10),
        retry_delay_seconds: Some(load.retry_delay),
        response_timeout_seconds: Some(load.response_timeout),
        timeout_seconds: Some(0),
        ..TaskDef::named(name)
    };
    register(conductor, task).await
}

/// Registers a task type, and a workflow of one such task, under its name. The workflow's input says
/// how many `seconds` the task takes.
pub async fn register(conductor: &Client, task: TaskDef) -> Result<()> {
    let name = &*task.name;
    let mut workflow = WorkflowDef::sequence(name, [(name, "only")]);
    for task in &mut workflow.tasks {
        let input = Value::from("${workflow.input.seconds}");
        task.input_parameters.insert("seconds".into(), input);
    }
    conductor.register_task_defs(&[task]).await?;
    conductor.register_workflow_defs(&[workflow]).await?;
    Ok(())
}

/// Starts every job of the load at its time after `zero`, late ones at once. The workflows'
/// ids, in the jobs' order.
pub async fn replay(
    conductor: &Client,
    load: &Load,
    name: &str,
    zero: Instant,
) -> Result<Vec<String>> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut starting = JoinSet::new();
    for (n, job) in load.jobs.iter().enumerate() {
        tokio::time::sleep_until(zero + Duration::from_secs_f64(job.at)).await;
        let permit = permits.clone().acquire_owned().await?;
        let (conductor, name, takes) = (conductor.clone(), name.to_owned(), job.seconds);
        starting.spawn(async move {
            let start = StartWorkflow {
                name,
                input: Map::from_iter([("seconds".to_owned(), Value::from(takes))]),
                ..StartWorkflow::default()
            };
            let id = conductor.start_workflow(&start).await;
            drop(permit);
            id.map(|id| (n, id))
        });
    }
    let mut ids = vec![String::new(); load.jobs.len()];
    while let Some(started) = starting.join_next().await {
        let (n, id) = started?.context("starting a workflow")?;
        ids[n] = id;
    }
    Ok(ids)
}

/// Reads what became of each.
pub async fn outcomes(conductor: &Client, ids: &[String]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for id in ids {
        let workflow = conductor.get_workflow(id, true).await?;
        let scheduled = |t: &conductor_client::Task| seconds(t.scheduled_time());
        let last = workflow.tasks.iter().max_by_key(|t| t.retry_count());
        let visible = workflow
            .tasks
            .iter()
            .filter_map(scheduled)
            .min_by(f64::total_cmp)
            .with_context(|| format!("workflow {id} has no task"))?;
        outcomes.push(Outcome {
            visible,
            started: last.and_then(|t| seconds(t.start_time())),
            ended: seconds(workflow.end_time),
            attempts: u32::try_from(workflow.tasks.len())?,
            completed: workflow.status == WorkflowStatus::Completed,
        });
    }
    Ok(outcomes)
}
