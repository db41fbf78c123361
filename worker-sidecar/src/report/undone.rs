//! Results that were taken and may be undone.
//!
//! Conductor reads a task, changes it and writes it back whole. An extension that lay in a socket of
//! a server that was starting, and that nobody waits for any more, may so write back over a result
//! what was before it: COMPLETED becomes `IN_PROGRESS` again, its lease ends, and the task is executed
//! again. Seen with Conductor 3.32.1 on Redis after it was killed under load.

use std::sync::Arc;

use conductor_client::Client;
use tokio_util::task::TaskTracker;

use super::{attempt, ids, look};
use crate::{
    gate::Gate, lease::CROSSES, letter::Letter, metrics::TaskMetrics, result::Report,
    shutdown::Shutdown, spool::Kept,
};

/// How often a task is looked at whose server answers nothing that tells: then the result has very
/// likely been kept, and it is not worth more.
const LOOKS: usize = 10;

/// Looks after them.
#[derive(Debug, Clone)]
pub(super) struct Undone {
    client: Client,
    gate: Arc<Gate>,
    /// A shutdown waits for it.
    work: TaskTracker,
    shutdown: Shutdown,
}

impl Undone {
    /// For one sidecar.
    pub(super) fn new(
        client: Client,
        gate: Arc<Gate>,
        work: TaskTracker,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            client,
            gate,
            work,
            shutdown,
        }
    }

    /// Sends a result again if its task turns out to wait for it again. Until then it stays where it
    /// is kept; one that is not is kept in memory, of which there are no more than slots.
    pub(super) fn watch(&self, report: &Report, kept: Option<Kept>, metrics: &TaskMetrics) {
        let letter = match kept {
            Some(kept) => Letter::left(kept),
            None => Letter::new(report.clone(), None),
        };
        let (this, metrics) = (self.clone(), metrics.clone());
        self.work.spawn(async move {
            tokio::select! {
                () = this.until_sure(letter, &metrics) => {}
                () = this.shutdown.end() => {}
            }
        });
    }

    async fn until_sure(&self, mut letter: Letter, metrics: &TaskMetrics) {
        let mut looks = 0;
        while looks < LOOKS {
            tokio::time::sleep(CROSSES).await;
            // It takes no turn of those that wait for the server: a look that hangs would hold them up.
            if self.gate.is_away() {
                continue;
            }
            looks += 1;
            let Ok(Some(report)) = letter.report().await else {
                break; // it was taken once
            };
            match look(&self.client, &report, metrics).await {
                Ok(task) if report.is_open(&task) => self.send(&report, metrics).await,
                Ok(_) => break,
                Err(error) => {
                    let (task, workflow) = ids(&report);
                    tracing::debug!(task, workflow, %error, "whether its result still counts is not known");
                }
            }
        }
        letter.remove().await;
    }

    async fn send(&self, report: &Report, metrics: &TaskMetrics) {
        let (task, workflow) = ids(report);
        let sent = attempt(&self.client, report, &mut 0, metrics).await;
        let error = sent.err();
        tracing::warn!(
            task,
            workflow,
            error = error.map(tracing::field::display),
            "a request that was given up has undone the result; it is sent again"
        );
    }
}
