//! Sends a result until Conductor takes it or refuses it for good.

use std::time::Duration;

use conductor_client::{Client, Error, Kind, TaskResult};
use tokio::time::Instant;

use crate::{backoff::Backoff, lease::Air, metrics::TaskMetrics, result::Report};

/// A 500 that is marked as not retryable is mostly our own mistake, but `SQLite` servers that
/// are busy answer so too: repeated for so long, not for ever.
const DOUBT: Duration = Duration::from_secs(600);

/// Whether Conductor took a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It did.
    Accepted,
    /// It never will.
    GivenUp,
}

/// What to do after a failed attempt. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Again(Duration),
    GiveUp,
}

fn next(kind: Kind, doubtful: bool, failures: u32, since_first: Duration, random: f64) -> Next {
    match kind {
        Kind::Retryable { .. } if doubtful && since_first >= DOUBT => Next::GiveUp,
        Kind::Retryable { after } => {
            Next::Again(Backoff::REPORT.pause_or_later(failures, after, random))
        }
        // The result is worth keeping until somebody has mended the credentials.
        Kind::Unauthorized => Next::Again(Backoff::UNAUTHORIZED.pause(failures, random)),
        Kind::Rejected | Kind::Gone => Next::GiveUp,
    }
}

/// Sends it. Repeats may be sent: the server takes the first and ignores the others. The lease
/// may be extended between them.
pub async fn send(client: &Client, report: &Report, metrics: &TaskMetrics, air: &Air) -> Sent {
    let update = &report.update;
    let began = Instant::now();
    let mut failures = 0;
    let _to_the_end = loop {
        let turn = air.for_report().await;
        let attempt = Instant::now();
        let sent = client.update_task(update).await;
        metrics.updated(attempt.elapsed(), failure(&sent));
        let Err(error) = sent else { break turn };
        failures += 1;
        let next = next(
            error.kind(),
            error.is_doubtful(),
            failures,
            began.elapsed(),
            fastrand::f64(),
        );
        match next {
            Next::Again(pause) => {
                drop(turn);
                warn(update, failures, &error);
                tokio::time::sleep(pause).await;
            }
            Next::GiveUp => {
                metrics.lost();
                tracing::error!(
                    task = update.task_id, workflow = update.workflow_instance_id, status = ?update.status,
                    %error, "Conductor does not take the result; given up"
                );
                return Sent::GivenUp;
            }
        }
    };
    for line in &report.more_logs {
        let attempt = Instant::now();
        let sent = client.log_task(&update.task_id, line).await;
        metrics.logged(attempt.elapsed(), failure(&sent));
        // Logs are not worth a slot: the first failure ends them.
        if let Err(error) = sent {
            tracing::warn!(task = update.task_id, %error, "the task's further log lines were not taken");
            break;
        }
    }
    Sent::Accepted
}

fn failure(sent: &Result<(), Error>) -> crate::metrics::Failure {
    sent.as_ref()
        .err()
        .map(|error| (error.kind(), error.status()))
}

fn warn(update: &TaskResult, failures: u32, error: &Error) {
    tracing::warn!(task = update.task_id, failures, %error, "the result was not taken; it is sent again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failure() {
        let ms = |millis| Next::Again(Duration::from_millis(millis));
        let retryable = Kind::Retryable { after: None };
        let asked = Kind::Retryable {
            after: Some(Duration::from_secs(7)),
        };
        let endless = Kind::Retryable {
            after: Some(Duration::from_secs(u64::MAX)),
        };
        let rows = [
            (retryable, false, 1, 0, ms(200)),
            (retryable, false, 2, 0, ms(400)),
            (retryable, false, 99, 86_400, ms(30_000)),
            (asked, false, 1, 0, ms(7700)),
            (endless, false, 1, 0, ms(66_000)),
            (retryable, true, 9, 599, ms(30_000)),
            (retryable, true, 9, 600, Next::GiveUp),
            (Kind::Unauthorized, false, 1, 0, ms(5000)),
            (Kind::Unauthorized, false, 99, 86_400, ms(60_000)),
            (Kind::Rejected, false, 1, 0, Next::GiveUp),
            (Kind::Gone, false, 1, 0, Next::GiveUp),
        ];
        for (kind, doubtful, failures, since, expected) in rows {
            let since = Duration::from_secs(since);
            assert_eq!(
                next(kind, doubtful, failures, since, 1.0),
                expected,
                "{kind:?} {doubtful} {failures} {since:?}"
            );
        }
    }
}
