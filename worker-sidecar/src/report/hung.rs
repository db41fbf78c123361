//! Attempts whose answer does not come.

use std::time::Duration;

use conductor_client::Kind;
use tokio::time::Instant;

use super::{Reporter, ids};
use crate::{
    metrics::{Request, TaskMetrics},
    presence::{self, Probe},
    result::Report,
};

/// A call is cut short: it is on a connection that leads nowhere, and the next one goes out on
/// another.
pub(super) struct Cut {
    /// The server answers others, and nothing shows yet that it was away.
    pub(super) probe: Option<Probe>,
}

impl Reporter {
    /// The answer to a call about a report that began then, and is left alone for so long from
    /// now on. A probe that takes longer has found nothing.
    pub(super) async fn unless_lost<T>(
        &self,
        report: &Report,
        began: Instant,
        alone: Duration,
        probe: Option<Probe>,
        call: impl Future<Output = T>,
        metrics: &TaskMetrics,
    ) -> Result<T, Cut> {
        let look = || presence::answers(&self.client, &report.task_type, metrics);
        let lost = async {
            tokio::time::sleep(alone).await;
            drop(probe);
            self.gate.presence().heard(began, look).await
        };
        tokio::select! {
            biased;
            answer = call => Ok(answer),
            probe = lost => {
                let failure = Some((Kind::Retryable { after: None }, None));
                metrics.updated(Request::Update, began.elapsed(), failure);
                let (task, workflow) = ids(report);
                tracing::warn!(task, workflow, "Conductor answers others, and not this result; it is sent again");
                Err(Cut { probe })
            }
        }
    }
}
