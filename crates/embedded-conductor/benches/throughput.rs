//! How many tasks a second go through the server, started, polled and completed one by one
//! over HTTP. Client and server share the processors, so this is the least it can do.
//! `cargo bench -p embedded-conductor`; TASKS says how many, 20,000 by default.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use conductor_client::{
    ApiBase, BatchPoll, Client, StartWorkflow, TaskResult, UpdateStatus, WorkflowDef,
};
use embedded_conductor::{Embedded, Options};

const AT_ONCE: usize = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let total: usize = std::env::var("TASKS").map_or(Ok(20_000), |n| n.parse())?;
    runtime::install_tls_provider();
    let embedded = Embedded::start(Options::default()).await?;
    let client = Client::new(ApiBase::parse(&embedded.base())?)?;
    let workflow = WorkflowDef::sequence("bench", [("bench", "ref")]);
    client.register_workflow_defs(&[workflow]).await?;

    let began = Instant::now();
    each(total / AT_ONCE, &client, async |client, _| {
        let start = StartWorkflow {
            name: "bench".to_owned(),
            ..StartWorkflow::default()
        };
        client.start_workflow(&start).await?;
        Ok(())
    })
    .await?;
    report("started", total, began)?;

    let began = Instant::now();
    // Tens: what a sidecar with some free slots asks for.
    each(total / AT_ONCE / 10, &client, async |client, worker| {
        let poll = BatchPoll {
            task_type: "bench",
            worker_id: worker,
            domain: None,
            count: 10,
            wait: Duration::from_millis(100),
        };
        for task in client.batch_poll(poll).await? {
            let result = TaskResult {
                workflow_instance_id: task.workflow_id().to_owned(),
                task_id: task.task_id().to_owned(),
                status: UpdateStatus::Completed,
                worker_id: worker.to_owned(),
                output_data: None,
                reason_for_incompletion: None,
                callback_after_seconds: 0,
                logs: Vec::new(),
            };
            client.update_task(&result).await?;
        }
        Ok(())
    })
    .await?;
    let completed = usize::try_from(embedded.counts().completed)?;
    report("polled and completed", completed, began)
}

/// Does something `times` times in each of [`AT_ONCE`] tasks.
async fn each<F>(times: usize, client: &Client, what: F) -> anyhow::Result<()>
where
    F: AsyncFn(&Client, &str) -> anyhow::Result<()>,
{
    let all = (0..AT_ONCE).map(|n| {
        let (client, what, worker) = (client.clone(), &what, format!("worker-{n}"));
        async move {
            for _ in 0..times {
                what(&client, &worker).await?;
            }
            anyhow::Ok(())
        }
    });
    for done in futures::future::join_all(all).await {
        done?;
    }
    Ok(())
}

fn report(what: &str, count: usize, began: Instant) -> anyhow::Result<()> {
    let took = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / took.as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{count} {what} in {took:.2?}: {rate:.0}/s"
    )
    .context("stdout")
}
