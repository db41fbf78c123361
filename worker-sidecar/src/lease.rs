//! Keeps a task's lease while it is in work.

use std::{
    convert::Infallible,
    future::{Future, pending},
    time::Duration,
};

use conductor_client::{Client, Kind, Task};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, watch},
    time::Instant,
};

use crate::{backoff::Backoff, metrics::TaskMetrics};

/// When a lease is extended. Pure; randomness is a parameter, 0 to 1.
///
/// The first attempt comes after a third of the lease. No attempt takes longer than an eighth
/// of it, nor does the pause after one that failed: so a third attempt begins after 5/6 at the
/// latest, and has an eighth too.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    lease: Duration,
}

impl Schedule {
    /// The schedule of a lease; `None` for a task that has none.
    pub fn new(lease: Duration) -> Option<Self> {
        (!lease.is_zero()).then_some(Self { lease })
    }

    /// From the poll, or the last extension, to the next.
    pub fn next(self, random: f64) -> Duration {
        // Up to a tenth sooner: tasks that came in a batch need not be extended in one.
        (self.lease / 3).mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0)
    }

    /// After so many failures in a row, to the next attempt.
    pub fn retry(self, failures: u32, random: f64) -> Duration {
        Backoff::POLL
            .pause(failures, random)
            .min(self.lease / 8)
            .max(Duration::from_millis(50))
    }

    /// How long an attempt may take.
    pub fn patience(self) -> Duration {
        (self.lease / 8).max(Duration::from_millis(50))
    }
}

/// How long an extension stays in the air once a report wants to follow it.
const GIVES_WAY: Duration = Duration::from_secs(1);

/// Of a task's reports and extensions one is in the air at a time: the server reads the task
/// and writes it back, and an extension that crosses a report could undo it.
#[derive(Debug, Default)]
pub struct Air {
    one: Mutex<()>,
    wanted: Notify,
}

impl Air {
    /// For a report, until dropped. An extension that is in the air gives way soon.
    pub async fn for_report(&self) -> MutexGuard<'_, ()> {
        self.wanted.notify_waiters();
        self.one.lock().await
    }

    /// An extension's attempt, when there is no report in the air; none if that took too long.
    async fn extend<T>(&self, patience: Duration, attempt: impl Future<Output = T>) -> Option<T> {
        let _one = self.one.lock().await;
        let wanted = async {
            self.wanted.notified().await;
            tokio::time::sleep(GIVES_WAY).await;
        };
        tokio::select! {
            biased;
            done = tokio::time::timeout(patience, attempt) => done.ok(),
            () = wanted => None,
        }
    }
}

/// Extends the task's lease until dropped. When the server does not know the task any more
/// there is nothing left to keep: `gone` becomes true, and nothing more is sent.
pub async fn keep(
    client: &Client,
    task: &Task,
    worker_id: &str,
    metrics: &TaskMetrics,
    gone: &watch::Sender<bool>,
    air: &Air,
) -> Infallible {
    let lease = Duration::from_secs(task.response_timeout_seconds());
    let Some(schedule) = Schedule::new(lease) else {
        return pending().await;
    };
    let mut failures = 0;
    let mut pause = schedule.next(fastrand::f64());
    loop {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let extend = client.extend_lease(task.workflow_id(), task.task_id(), worker_id);
        let failure = match air.extend(schedule.patience(), extend).await {
            Some(Ok(())) => None,
            Some(Err(error)) => {
                tracing::warn!(task = task.task_id(), failures, %error, "the lease was not extended");
                Some((error.kind(), error.status()))
            }
            None => {
                tracing::warn!(
                    task = task.task_id(),
                    failures,
                    "the lease was not extended in time"
                );
                Some((Kind::Retryable { after: None }, None))
            }
        };
        metrics.lease_extended(began.elapsed(), failure);
        pause = match failure {
            None => {
                failures = 0;
                schedule.next(fastrand::f64())
            }
            Some((Kind::Gone, _)) => {
                gone.send_replace(true);
                return pending().await;
            }
            Some(_) => {
                failures += 1;
                schedule.retry(failures, fastrand::f64())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lease_needs_no_extension() {
        assert!(Schedule::new(Duration::ZERO).is_none());
    }

    #[test]
    fn two_failed_attempts_leave_time_for_a_third() {
        for seconds in [1, 2, 5, 20, 60, 600, 3600] {
            let lease = Duration::from_secs(seconds);
            let schedule = Schedule::new(lease).unwrap();
            for random in [0.0, 0.5, 1.0] {
                // The worst case: each failed attempt takes all the time it may.
                let first = schedule.next(random);
                let second = first + schedule.patience() + schedule.retry(1, random);
                let third = second + schedule.patience() + schedule.retry(2, random);
                assert!(first <= lease / 3);
                assert!(
                    third + schedule.patience() <= lease,
                    "{seconds} s, {random}: third at {third:?}"
                );
                // Failures that are told at once leave at least a third.
                let quick = first + schedule.retry(1, random) + schedule.retry(2, random);
                assert!(
                    lease.checked_sub(quick).unwrap() >= lease / 4,
                    "{seconds} s: {quick:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_gives_way_to_a_report_and_waits_for_one() {
        let patience = Duration::from_secs(100);
        let air = Air::default();
        let began = Instant::now();
        let report = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let _one = air.for_report().await;
            assert_eq!(began.elapsed(), Duration::from_secs(5) + GIVES_WAY);
        };
        let hangs = air.extend(patience, pending::<()>());
        assert_eq!(tokio::join!(hangs, report).0, None);

        let one = air.for_report().await;
        let began = Instant::now();
        let report = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            drop(one);
        };
        let extended = air.extend(patience, async { began.elapsed() });
        let (after, ()) = tokio::join!(extended, report);
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn long_leases_are_retried_soon() {
        let schedule = Schedule::new(Duration::from_secs(3600)).unwrap();
        assert_eq!(schedule.next(0.0), Duration::from_secs(1200));
        assert_eq!(schedule.retry(1, 1.0), Duration::from_secs(1));
        assert_eq!(schedule.retry(50, 1.0), Duration::from_secs(30));
    }
}
