//! The floor: the least loop that makes the exchanges a sidecar must make, with the same HTTP
//! library. A batch poll, a call of the handler and an update for each task; no lease, no
//! retry, no metric, no shutdown.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bench::worker;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

/// The ids that an update must name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids<'a> {
    task_id: &'a str,
    workflow_instance_id: &'a str,
}

struct Floor {
    http: reqwest::Client,
    handler: reqwest::Url,
    update: reqwest::Url,
}

impl Floor {
    async fn work(&self, task: Box<RawValue>) -> Result<()> {
        let ids: Ids<'_> = serde_json::from_str(task.get())?;
        let ids = (ids.task_id.to_owned(), ids.workflow_instance_id.to_owned());
        let call = self.http.post(self.handler.clone());
        let call = call.header("content-type", "application/json");
        let body = String::from(Box::<str>::from(task));
        let output = call
            .body(body)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        let output = std::str::from_utf8(&output)?;
        let (id, workflow) = ids;
        let result = format!(
            r#"{{"taskId":"{id}","workflowInstanceId":"{workflow}","workerId":"floor","status":"COMPLETED","outputData":{output}}}"#
        );
        let update = self.http.post(self.update.clone());
        let update = update.header("content-type", "application/json");
        update
            .body(result)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    runtime::install_tls_provider();
    let settings = worker::Settings::from_env()?;
    let (server, task) = settings.conductor()?;
    let handler: u16 = worker::number("HANDLER_PORT")?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .build()?;
    let floor = Arc::new(Floor {
        http: http.clone(),
        handler: format!("http://127.0.0.1:{handler}/").parse()?,
        update: format!("{server}/tasks").parse()?,
    });
    let slots = Arc::new(Semaphore::new(settings.concurrency));
    // Half of the slots at least, so that few polls are made and the slots stay busy.
    let batch = u32::try_from(settings.concurrency.div_ceil(2))?;
    loop {
        let mut taken = slots.clone().acquire_many_owned(batch).await?;
        while let Ok(one) = slots.clone().try_acquire_owned() {
            taken.merge(one);
        }
        let count = taken.num_permits();
        let url =
            format!("{server}/tasks/poll/batch/{task}?workerid=floor&count={count}&timeout=5000");
        let answer = http
            .get(url)
            .timeout(Duration::from_secs(35))
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        let tasks: Vec<Box<RawValue>> = serde_json::from_slice(&answer)?;
        for task in tasks {
            let slot = taken.split(1).context("more tasks than were asked for")?;
            let floor = floor.clone();
            tokio::spawn(async move {
                let worked = floor.work(task).await;
                drop(slot);
                worked.inspect_err(|error| eprintln!("{error:#}"))
            });
        }
    }
}
