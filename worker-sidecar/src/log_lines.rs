//! A task's log lines that do not fit into its report: they are sent after it, one by one.

use std::sync::Arc;

use conductor_client::Client;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{metrics::TaskMetrics, result::Report, shutdown::Shutdown};

/// So many reports' lines are on their way at once without a slot. More hold theirs: lines
/// must not pile up in memory.
const WIDTH: usize = 64;

/// Sends them.
#[derive(Debug)]
pub(crate) struct LogLines {
    client: Client,
    /// A shutdown waits for them.
    work: TaskTracker,
    shutdown: Shutdown,
    width: Arc<Semaphore>,
}

struct Lines {
    task: String,
    workflow: String,
    texts: Vec<String>,
}

impl LogLines {
    /// For one sidecar.
    pub(crate) fn new(client: Client, work: TaskTracker, shutdown: Shutdown) -> Self {
        Self {
            client,
            work,
            shutdown,
            width: Arc::new(Semaphore::new(WIDTH)),
        }
    }

    /// Sends those of a report that was taken, as a rule beside what comes next.
    pub(crate) async fn send(&self, report: &Report, metrics: &TaskMetrics) {
        if report.more_logs.is_empty() {
            return;
        }
        let lines = Lines {
            task: report.update.task_id.clone(),
            workflow: report.update.workflow_instance_id.clone(),
            texts: report.more_logs.clone(),
        };
        let Ok(permit) = self.width.clone().try_acquire_owned() else {
            return lines.send(&self.client, metrics).await;
        };
        let (client, metrics) = (self.client.clone(), metrics.clone());
        let shutdown = self.shutdown.clone();
        self.work.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = lines.send(&client, &metrics) => {}
                () = shutdown.end() => {}
            }
        });
    }
}

impl Lines {
    async fn send(self, client: &Client, metrics: &TaskMetrics) {
        let Self { task, workflow, .. } = &self;
        for text in &self.texts {
            let began = Instant::now();
            let sent = client.log_task(task, text).await;
            let failure = sent.as_ref().err().map(|e| (e.kind(), e.status()));
            metrics.logged(began.elapsed(), failure);
            // They are not worth more: the first failure ends them.
            if let Err(error) = sent {
                tracing::warn!(task, workflow, %error, "the task's further log lines were not taken");
                break;
            }
        }
    }
}
