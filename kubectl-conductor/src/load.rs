//! The load: workflows started, and what became of each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use conductor_client::{Client, StartWorkflow, Workflow, WorkflowDef, WorkflowStatus};
use tokio_util::sync::CancellationToken;

use crate::report::Summary;

/// Which load is to be made.
#[derive(Debug)]
pub(crate) struct LoadOptions {
    pub(crate) count: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) input: String,
}

/// Starts the workflows, waits for all of them, and says what became of them. When `stop`
/// comes first, what was started until then counts, and is waited for until `over`.
pub(crate) async fn run(
    client: Client,
    definitions: Vec<WorkflowDef>,
    options: LoadOptions,
    stop: CancellationToken,
    over: CancellationToken,
) -> Result<Summary> {
    let started = Instant::now();
    let mut ids = Vec::with_capacity(options.count);
    let mut pace = options
        .rate
        .map(|rate| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
    for n in 0..options.count {
        if let Some(pace) = &mut pace {
            tokio::select! { _ = pace.tick() => (), () = stop.cancelled() => break }
        }
        if stop.is_cancelled() {
            break;
        }
        let definition = &definitions[n % definitions.len()];
        let start = StartWorkflow {
            name: definition.name.clone(),
            version: Some(definition.version),
            input: serde_json::from_str(&options.input.replace("{n}", &n.to_string()))
                .context("--input is no JSON object")?,
            ..StartWorkflow::default()
        };
        let id = client
            .start_workflow(&start)
            .await
            .context("a workflow cannot be started")?;
        ids.push(id);
    }

    let mut ended = Vec::with_capacity(ids.len());
    for id in &ids {
        ended.push(wait_for(&client, id, &over).await?);
    }
    Ok(summary(&ended, started.elapsed()))
}

/// Reads a workflow until it has ended, or for the last time once it is `over`.
async fn wait_for(client: &Client, id: &str, over: &CancellationToken) -> Result<Workflow> {
    loop {
        let workflow = client.get_workflow(id, false).await?;
        if workflow.status.is_terminal() || over.is_cancelled() {
            return Ok(client.get_workflow(id, true).await?);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => (),
            () = over.cancelled() => (),
        }
    }
}

/// What became of the workflows; all of it but the most replicas.
fn summary(workflows: &[Workflow], took: Duration) -> Summary {
    let mut summary = Summary {
        started: workflows.len(),
        seconds: took.as_secs_f64(),
        ..Summary::default()
    };
    for w in workflows {
        if w.status == WorkflowStatus::Completed {
            summary.completed += 1;
        } else if !w.status.is_terminal() {
            summary.open += 1;
        } else {
            let why = w.reason_for_incompletion.as_deref().unwrap_or("no reason");
            summary
                .failed
                .push(format!("{} is {:?}: {why}", w.workflow_id, w.status));
        }
        for t in &w.tasks {
            summary.retries += u32::from(t.retry_count() > 0);
            if t.start_time() > 0 {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of one run")]
                let wait = (t.start_time() - t.scheduled_time()).max(0) as f64 / 1000.0;
                summary.waits.push(wait);
            }
        }
    }
    summary
}
